// How operators of the default domain move from one opset to another: decided node by node first,
// then applied all at once, so that a model which can not move stays as it was.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

inline constexpr std::int64_t kOldestMigratedOpset = 7;
inline constexpr std::int64_t kNewestMigratedOpset = 21;

class OpsetMigration {
 public:
  OpsetMigration(PassContext& context, std::int64_t from, std::int64_t to)
      : context_(context), from_(from), to_(to) {}

  // Empty: the node keeps its meaning, perhaps after edits that `apply` will make. Else the
  // reason why it can not move.
  std::string plan(Node& node);
  // Makes the edits; returns the number of nodes concerned.
  std::size_t apply();
  // By how many nodes the edits make the model longer.
  std::int64_t added_nodes() const { return added_nodes_; }

 private:
  using Handler = std::string (OpsetMigration::*)(Node&);
  struct Rule {
    std::string_view op_type;
    Handler handler;
  };
  static const std::vector<Rule>& rules();

  bool crosses(std::int64_t version) const { return from_ < version && version <= to_; }
  // Plans an edit of a node.
  void later(Node& node, std::function<void()> edit);
  // Makes a constant the input `slot` of the node, named after the attribute it replaces.
  void add_input(Node& node, std::size_t slot, std::string_view name, Tensor tensor);
  // Turns a list attribute (when there) into an int64 input.
  void ints_to_input(Node& node, std::string_view attribute, std::size_t slot);

  std::string average_pool(Node& node);
  std::string batch_normalization(Node& node);
  std::string clip(Node& node);
  std::string dft(Node& node);
  std::string dropout(Node& node);
  std::string grid_sample(Node& node);
  std::string group_normalization(Node& node);
  std::string pad(Node& node);
  std::string reduce(Node& node);
  std::string reduce_sum(Node& node);
  std::string resize(Node& node);
  std::string roi_align(Node& node);
  std::string scan(Node& node);
  std::string scatter(Node& node);
  std::string slice(Node& node);
  std::string softmax(Node& node);
  std::string split(Node& node);
  std::string squeeze(Node& node);
  std::string top_k(Node& node);
  std::string upsample(Node& node);

  PassContext& context_;
  std::int64_t from_, to_;
  std::vector<std::pair<Node*, std::function<void()>>> edits_;
  std::int64_t added_nodes_ = 0;
};

// The default domain of the whole model: all of its nodes and functions.
class ModelMigration {
 public:
  ModelMigration(Model& model, PassContext& context, std::int64_t to);
  struct Obstacle {
    const Node* node = nullptr;  // null: the model, or a function of it
    std::string subject;         // as a user knows it; empty: the model
    std::string why;
  };
  const std::vector<Obstacle>& obstacles() const { return obstacles_; }
  std::int64_t added_nodes() const { return migration_.added_nodes(); }
  // Only without obstacles. Returns the number of nodes that were rewritten.
  std::size_t apply();

 private:
  Model& model_;
  PassContext& context_;
  std::int64_t from_, to_;
  OpsetMigration migration_;
  std::vector<Obstacle> obstacles_;
};

}  // namespace mcompress
