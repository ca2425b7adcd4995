// Calls of model-local functions written out in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// The functions of a model and who calls whom. Valid until functions are erased.
class FunctionCalls {
 public:
  FunctionCalls(Model& model, PassContext& context);

  std::size_t count() const { return model_.functions().size(); }
  // Position of the function a node calls; count(): none.
  std::size_t called_by(const Node& node) const;
  // Calls that there are when the calls of every function are written out, from the model's graph
  // or from functions that stay; saturates.
  std::uint64_t calls(std::size_t function) const { return calls_[function]; }
  // Bytes, about, by which the file grows when all calls of a function are written out: names,
  // operators and small attributes. Negative when it shrinks.
  std::int64_t growth(std::size_t function) const;

  // Writes out the calls of the chosen functions wherever they are, and erases functions that
  // nothing calls any more. What is in the way of a call is reported, and the function stays.
  // Returns the number of calls written out. Fails (kUnsupported) when there would be too many.
  Result<std::int64_t> write_out(const std::vector<bool>& chosen);

 private:
  using Key = std::tuple<std::string_view, std::string_view, std::string_view>;
  void count_calls();
  std::string why_not(const Function& function, std::size_t host);
  Status write_out(Graph& graph, std::size_t host, const std::vector<bool>& chosen,
                   std::int64_t& done);
  Status write_out_one(Node& call, std::size_t host, std::vector<Node*>& added, std::int64_t& done);
  std::int64_t host_opset(std::size_t host, std::string_view domain) const;
  void erase_uncalled();

  Model& model_;
  PassContext& context_;
  std::map<Key, std::size_t> places_;
  std::vector<std::vector<std::size_t>> callees_;  // by function, one entry a call
  std::vector<std::size_t> top_callees_;
  std::vector<std::uint64_t> calls_, nodes_, bytes_;
  std::vector<std::int64_t> written_;
  std::vector<std::string> refused_;
};

}  // namespace mcompress
