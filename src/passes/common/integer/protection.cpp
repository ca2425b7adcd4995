#include "passes/common/integer/protection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "support/text.h"

namespace mcompress {
namespace {

using Kind = OperatorRule::Kind;

constexpr double kLevels = 255;
// A part of a Concat is spoilt when the common scale leaves it less than this, and its own scale
// would give so much more.
constexpr double kPoorDb = 25, kLostDb = 12;
// Half floats and the constants that exporters write for "minus infinity" start here.
constexpr double kMaskValue = -1e4;

constexpr std::array<std::string_view, 12> kChoosing = {"ArgMax",
                                                        "ArgMin",
                                                        "Compress",
                                                        "GatherElements",
                                                        "GatherND",
                                                        "MaxRoiAlign",
                                                        "NonMaxSuppression",
                                                        "NonZero",
                                                        "RoiAlign",
                                                        "ScatterElements",
                                                        "TopK",
                                                        "Unique"};
// Operators whose constant operand is a weight, whatever a target can do with them.
constexpr std::array<std::string_view, 8> kWeighted = {
    "Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN", "ConvInteger"};
// What turns values into an answer without changing which is largest.
constexpr std::array<std::string_view, 12> kAnswering = {
    "ArgMax",  "Cast",    "Flatten", "GlobalAveragePool", "Identity",  "LogSoftmax",
    "Reshape", "Sigmoid", "Softmax", "Squeeze",           "Transpose", "Unsqueeze"};

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& names) {
  return node.domain().empty() &&
         std::find(names.begin(), names.end(), node.op_type()) != names.end();
}

bool has_weight(const Node& node) {
  if (!is_one_of(node, kWeighted)) return false;
  const auto inputs = node.inputs();
  return std::any_of(inputs.begin(), inputs.end(), [](const Value* value) {
    return value != nullptr && value->initializer() != nullptr &&
           value->initializer()->dims().size() >= 2;
  });
}

double decibel_of(double mean_square, double step) {
  return 10 * std::log10(mean_square / (step * step / 12));
}

double width_of(double low, double high) { return std::max(high, 0.0) - std::min(low, 0.0); }

class Protector {
 public:
  Protector(const Graph& graph, const StaticPlan& plan, const CalibrationTable& table)
      : plan_(plan), table_(table) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      nodes_.push_back(node);
    }
    for (const IntegerNode& node : plan.nodes) planned_.emplace(node.node, &node);
    look_behind();
  }

  std::map<std::uint32_t, std::string> run() {
    for (const IntegerNode& node : plan_.nodes) {
      std::string why = why_masked(node);
      if (why.empty()) why = why_tail(node);
      if (why.empty()) why = why_mixed(node);
      if (!why.empty()) found_.emplace(node.node->id(), std::move(why));
    }
    return std::move(found_);
  }

 private:
  // From the last node to the first: is there a layer with weights behind, and what chooses.
  void look_behind() {
    for (auto at = nodes_.rbegin(); at != nodes_.rend(); ++at) {
      const Node& node = **at;
      for (const Value* output : node.outputs()) {
        if (output == nullptr) continue;
        for (const Use& use : output->uses()) {
          if (use.node == nullptr) continue;
          // A reader inside a body counts as the node that holds the body.
          const Node* reader = use.node;
          while (reader != nullptr && &reader->graph() != &node.graph()) {
            reader = reader->graph().owner();
          }
          if (reader == nullptr) continue;
          if (has_weight(*reader) || weighted_behind_.count(reader) != 0) {
            weighted_behind_.insert(&node);
          }
          if (is_one_of(*reader, kChoosing)) {
            choice_behind_.try_emplace(&node, reader);
          } else if (const auto next = choice_behind_.find(reader); next != choice_behind_.end()) {
            choice_behind_.try_emplace(&node, next->second);
          }
        }
      }
    }
  }

  std::string why_tail(const IntegerNode& node) const {
    if (node.kind == Kind::kWeighted || weighted_behind_.count(node.node) != 0) return {};
    const auto choice = choice_behind_.find(node.node);
    if (choice == choice_behind_.end()) return {};
    return "stands behind the last layer with weights, in front of " +
           std::string(choice->second->op_type()) + ", whose choice rounding would change";
  }

  std::string why_masked(const IntegerNode& node) const {
    const auto masked = [&](const Value* value) {
      const ValueStats* stats = value != nullptr ? table_.find(value->name()) : nullptr;
      return stats != nullptr && holds_mask(*stats) ? stats : nullptr;
    };
    const ValueStats* stats = masked(node.output);
    for (const std::size_t slot : node.inputs) {
      if (stats == nullptr) stats = masked(node.node->input(slot));
    }
    if (stats == nullptr) return {};
    const bool infinite = stats->minimum > kMaskValue;
    return "holds entries masked with " +
           (infinite ? std::string("-infinity") : shortest(stats->minimum)) +
           ", which would leave the others one level";
  }

  // Whether a weighted layer reads the value in integers, directly or moved.
  bool read_by_weighted(const Value& value) const {
    const auto uses = value.uses();
    return std::any_of(uses.begin(), uses.end(), [&](const Use& use) {
      const auto reader = use.node != nullptr ? planned_.find(use.node) : planned_.end();
      if (reader == planned_.end()) return false;
      if (reader->second->kind == Kind::kWeighted) return true;
      return reader->second->kind == Kind::kSameScale && read_by_weighted(*reader->second->output);
    });
  }

  std::string why_mixed(const IntegerNode& node) const {
    if (!node.node->is("Concat") || read_by_weighted(*node.output)) return {};
    double low = 0, high = 0;
    for (const std::size_t slot : node.inputs) {
      const ValueStats* stats = table_.find(node.node->input(slot)->name());
      if (stats == nullptr || stats->count == 0) continue;
      low = std::min(low, stats->minimum);
      high = std::max(high, stats->maximum);
    }
    const double step = (high - low) / kLevels;
    for (const std::size_t slot : node.inputs) {
      const Value& part = *node.node->input(slot);
      const ValueStats* stats = table_.find(part.name());
      if (stats == nullptr || stats->mean_square <= 0) continue;
      const double own = width_of(stats->minimum, stats->maximum) / kLevels;
      if (own <= 0) continue;
      const double common_db = decibel_of(stats->mean_square, step);
      if (common_db >= kPoorDb || decibel_of(stats->mean_square, own) - common_db < kLostDb) {
        continue;
      }
      return "joins parts of different scale: '" + std::string(part.name()) + "' spans " +
             fixed(own * kLevels, 3) + " of " + fixed(high - low, 3) +
             ", and the common scale leaves it " + fixed(common_db, 1) + " dB";
    }
    return {};
  }

  const StaticPlan& plan_;
  const CalibrationTable& table_;
  std::vector<const Node*> nodes_;
  std::unordered_map<const Node*, const IntegerNode*> planned_;
  std::unordered_set<const Node*> weighted_behind_;
  std::unordered_map<const Node*, const Node*> choice_behind_;
  std::map<std::uint32_t, std::string> found_;
};

}  // namespace

bool holds_mask(const ValueStats& stats) {
  if (stats.count == 0) return false;
  // Ranges leave infinities out, and a code for the smallest value would stand for them.
  if (stats.infinity_count > 0 && stats.minimum > kMaskValue) return true;
  if (stats.minimum > kMaskValue) return false;
  // The mask and nothing between it and the rest, which is fifty times nearer to zero.
  constexpr double kNear = 50;
  const double width = std::ldexp(1.0, stats.exponent);
  std::uint64_t masked = 0, between = 0, rest = 0;
  for (std::size_t i = 0; i < stats.bins.size(); ++i) {
    const double middle =
        (static_cast<double>(stats.first_bin) + static_cast<double>(i) + 0.5) * width;
    if (middle < stats.minimum / 2) {
      masked += stats.bins[i];
    } else if (middle < stats.minimum / kNear - width) {
      between += stats.bins[i];
    } else {
      rest += stats.bins[i];
    }
  }
  return masked > 0 && rest > 0 && between == 0;
}

std::map<std::uint32_t, std::string> protected_nodes(const Graph& graph, const StaticPlan& plan,
                                                     const CalibrationTable& table) {
  return Protector(graph, plan, table).run();
}

std::vector<const Value*> answer_values(const Graph& graph, const StaticPlan& plan) {
  std::vector<const Node*> nodes;
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    nodes.push_back(node);
  }
  // From the last node to the first: a value answers when all its readers pass it on.
  std::unordered_set<const Value*> answers;
  for (auto at = nodes.rbegin(); at != nodes.rend(); ++at) {
    for (const Value* value : (*at)->outputs()) {
      if (value == nullptr || value->uses().empty()) continue;
      const auto uses = value->uses();
      const bool passed_on = std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
        if (use.node == nullptr) return true;  // an output of the graph
        if (!is_one_of(*use.node, kAnswering)) return false;
        const Value* next = use.node->output(0);
        return next != nullptr && answers.count(next) != 0;
      });
      if (passed_on) answers.insert(value);
    }
  }
  std::vector<const Value*> found;
  for (const Value* value : plan.tensors) {
    if (answers.count(value) != 0) found.push_back(value);
  }
  return found;
}

}  // namespace mcompress
