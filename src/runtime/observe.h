// Looking at values while a graph runs: a node without effect beside each value that is watched.
//
// A value that is made a graph output stays in memory until the run ends, so watching many values
// costs the sum of their sizes. A watching node sees its value the moment it exists, and the
// memory is used again: a run takes what it always takes, however many values are watched.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/runtime.h"

struct OrtApi;
struct OrtCustomOpDomain;

namespace mcompress {

struct ObservedModel {
  std::unique_ptr<Model> model;
  std::vector<std::string> outputs;  // to expose, so that the nodes are not dropped
};
// A copy of the model with a watching node for each of the values, in the order of the list.
// Fails with kInput when the top graph has no such value.
Result<ObservedModel> add_observers(const Model& model, std::span<const std::string> values);

// The operator of those nodes. One for the process.
Result<OrtCustomOpDomain*> observer_domain(const OrtApi& api);

// As long as this lives, watching nodes that run on this thread deliver to `receive`.
class Observation {
 public:
  explicit Observation(const Session::ReceiveFn& receive);
  ~Observation();
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;

  void deliver(std::size_t index, const TensorView& view);
  // The first failure of `receive`; it ends the run.
  std::optional<Error>& failure() { return failure_; }
  static Observation* current();

 private:
  const Session::ReceiveFn& receive_;
  Observation* outer_;
  std::optional<Error> failure_;
};

}  // namespace mcompress
