// How operators of the default domain move from one opset to another, newer or older: decided node
// by node first, then applied all at once, so that a model which can not move stays as it was.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

inline constexpr std::int64_t kNewestMigratedOpset = 28;
// Broadcasting and much else has been as it is from here on. No model moves to an older one.
inline constexpr std::int64_t kOldestModernOpset = 7;

// The IR version that came with an opset.
std::int64_t ir_version_of_opset(std::int64_t opset);

class OpsetMigration {
 public:
  // From before kOldestModernOpset the way leads to that one first.
  OpsetMigration(PassContext& context, std::int64_t from, std::int64_t to);

  // Empty: the node keeps its meaning, perhaps after edits that `apply` will make. Else the
  // reason why it can not move.
  std::string plan(Node& node);
  // Makes the edits; returns the number of nodes concerned. Fails (kUnsupported) when something
  // turns out not to fit only then, which is rare: operators that the older opset lacks and that
  // are written out in others, types that an older form does not take.
  Result<std::size_t> apply();
  // By how many nodes the edits make the model longer.
  std::int64_t added_nodes() const { return added_nodes_; }
  // "version 13 to version 11": of the operator of a node.
  std::string form_of(const Node& node) const;

 private:
  using Handler = std::string (OpsetMigration::*)(Node&);
  struct Rule {
    std::string_view op_type;
    Handler handler;
  };
  static const std::vector<Rule>& raising();
  static const std::vector<Rule>& lowering();
  static const std::vector<Rule>& legacy();

  // Of the versions of an operator, the one that came with opset `version` is on the way.
  bool crosses(std::int64_t version) const { return from_ < version && version <= to_; }
  bool drops(std::int64_t version) const { return to_ < version && version <= from_; }

  std::string plan_rules(Node& node, const std::vector<Rule>& rules);
  std::string plan_legacy(Node& node);
  // A node that needs no more than losing attributes which say what they would by default.
  std::string take_compatible(Node& node);
  // Plans to write the node out as its schema defines it.
  std::string expand(Node& node);
  Status write_out(Node& node, const Model& expansion);
  Error cannot_move(const Node& node, const std::string& why) const;

  // Plans an edit of a node.
  void later(Node& node, std::function<void()> edit);
  // A constant that stands before the node, named after what it is for.
  Value& constant(Node& node, std::string_view name, Tensor tensor);
  void add_input(Node& node, std::size_t slot, std::string_view name, Tensor tensor);
  // What nothing else reads goes when all is done.
  void drop_input(Node& node, std::size_t slot);
  void trim_inputs(Node& node);
  // Turns a list attribute (when there) into an int64 input.
  void ints_to_input(Node& node, std::string_view attribute, std::size_t slot);
  std::string half_range(const Node& node) const;
  std::string attention(Node& node);
  void set_scales(Node& node, Value& scales);

  // Newer forms (opset_raising.cpp).
  std::string raise_average_pool(Node& node);
  std::string raise_batch_normalization(Node& node);
  std::string raise_clip(Node& node);
  std::string raise_dft(Node& node);
  std::string raise_dropout(Node& node);
  std::string raise_grid_sample(Node& node);
  std::string raise_group_normalization(Node& node);
  std::string raise_pad(Node& node);
  std::string raise_range(Node& node);
  std::string raise_reduce(Node& node);
  std::string raise_reduce_sum(Node& node);
  std::string raise_resize(Node& node);
  std::string raise_roi_align(Node& node);
  std::string raise_scan(Node& node);
  std::string raise_scatter(Node& node);
  std::string raise_slice(Node& node);
  std::string raise_softmax(Node& node);
  std::string raise_split(Node& node);
  std::string raise_squeeze(Node& node);
  std::string raise_top_k(Node& node);
  std::string raise_upsample(Node& node);

  // From before kOldestModernOpset (opset_legacy.cpp).
  std::string modern_batch_normalization(Node& node);
  std::string modern_broadcast(Node& node);
  std::string modern_cast(Node& node);
  std::string modern_concat(Node& node);
  std::string modern_dropout(Node& node);
  std::string modern_gemm(Node& node);
  std::string modern_gru(Node& node);
  std::string modern_lp_pool(Node& node);
  std::string modern_pad(Node& node);
  std::string modern_prelu(Node& node);
  std::string modern_reshape(Node& node);
  std::string modern_selu(Node& node);
  std::string modern_split(Node& node);
  std::string modern_tile(Node& node);
  std::string modern_upsample(Node& node);

  // Older forms (opset_lowering.cpp).
  struct Axes;
  Axes axes_of(const Node& node, std::size_t slot, bool of_output) const;
  std::string count_from_front(const Node& node, std::vector<std::int64_t>& axes,
                               std::optional<std::size_t> rank) const;
  std::string lower_axis(Node& node);
  std::string lower_average_pool(Node& node);
  std::string lower_batch_normalization(Node& node);
  std::string lower_broadcast(Node& node);
  std::string lower_cast_like(Node& node);
  std::string lower_clip(Node& node);
  std::string lower_constant(Node& node);
  std::string lower_dequantize(Node& node);
  std::string lower_dft(Node& node);
  std::string lower_dropout(Node& node);
  std::string lower_gemm(Node& node);
  std::string lower_grid_sample(Node& node);
  std::string lower_mod(Node& node);
  std::string lower_pad(Node& node);
  std::string lower_quantize(Node& node);
  std::string lower_range(Node& node);
  std::string lower_reduce(Node& node);
  std::string lower_resize(Node& node);
  std::string lower_roi_align(Node& node);
  std::string lower_scan(Node& node);
  std::string lower_scatter_elements(Node& node);
  std::string lower_shape(Node& node);
  std::string lower_slice(Node& node);
  std::string lower_softmax(Node& node);
  std::string lower_split(Node& node);
  std::string lower_squeeze(Node& node);
  std::string lower_top_k(Node& node);
  std::string lower_upsample(Node& node);

  PassContext& context_;
  std::int64_t from_, to_;
  std::vector<std::pair<Node*, std::function<void()>>> edits_;
  std::vector<std::pair<Node*, std::unique_ptr<Model>>> expansions_;
  std::vector<Node*> checked_;  // to be compared with the schema when edited
  std::vector<Value*> unread_;
  std::int64_t added_nodes_ = 0;
};

// The default domain of the whole model, to a newer opset: all of its nodes and functions.
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
  // Only without obstacles. Returns the number of nodes that were rewritten. Fails as
  // OpsetMigration::apply() does.
  Result<std::size_t> apply();

 private:
  Model& model_;
  PassContext& context_;
  std::int64_t from_, to_;
  OpsetMigration migration_;
  std::vector<Obstacle> obstacles_;
};

}  // namespace mcompress
