// Whatever only depends on constants is computed once, by the runtime, and stored:
//
//   y = Add(x, Sqrt(Mul(c1, c2)))   =>   y = Add(x, c3)
//
// All such nodes of the model are computed by one session; only what other nodes read is kept.
// Shape and Size of static shapes count as constants. Nothing is folded that would make the file
// grow by more than a limit, that restores compressed weights, or that is random.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/evaluate.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

// No kernel runs on results that could be larger than this, whatever the limit on growth says.
constexpr std::uint64_t kMostElements = std::uint64_t{1} << 31;
// A widening Cast of more elements than this restores stored weights.
constexpr std::int64_t kFewElements = 64;
constexpr int kRounds = 8;

std::uint64_t saturating_product(std::uint64_t left, std::uint64_t right) {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(left, right, &product) ? UINT64_MAX : product;
}

// Operators that are not about tensors, or whose whole point is a small stored form.
bool is_excluded(const Node& node) {
  static constexpr std::array<std::string_view, 16> kExcluded = {
      "Constant",          "QuantizeLinear",     "DequantizeLinear",   "DynamicQuantizeLinear",
      "Optional",          "OptionalGetElement", "OptionalHasElement", "SequenceAt",
      "SequenceConstruct", "SequenceEmpty",      "SequenceErase",      "SequenceInsert",
      "SequenceLength",    "SplitToSequence",    "ConcatFromSequence", "ImageDecoder"};
  return std::ranges::find(kExcluded, node.op_type()) != kExcluded.end();
}

// What Shape and Size of a value with static shape give, and Gather of single known dimensions.
std::optional<Tensor> known_from_shape(const Node& node) {
  const auto vector_of = [](const Ints& list) {
    return make_int64_tensor(list, {static_cast<std::int64_t>(list.size())});
  };
  if (node.is("Size") && node.input(0) != nullptr) {
    const auto shape = static_shape(*node.input(0));
    const auto count = shape ? element_count(*shape) : std::nullopt;
    if (!count) return std::nullopt;
    return make_int64_tensor({&*count, 1}, {});
  }
  const auto dims_of = [](const Node& shape) -> std::optional<std::vector<Dim>> {
    const Value* input = shape.input(0);
    std::vector<Dim> dims;
    if (input == nullptr) return std::nullopt;
    if (const auto known = static_shape(*input)) {
      for (std::int64_t size : *known) dims.push_back({size, {}});
    } else if (input->type() != nullptr && input->type()->shape) {
      dims = *input->type()->shape;
    } else {
      return std::nullopt;
    }
    const auto rank = static_cast<std::int64_t>(dims.size());
    const auto clamp = [&](std::int64_t index) {
      return std::clamp<std::int64_t>(index < 0 ? index + rank : index, 0, rank);
    };
    const std::int64_t start = clamp(shape.int_attribute("start", 0));
    const std::int64_t end = std::max(start, clamp(shape.int_attribute("end", rank)));
    return std::vector<Dim>(dims.begin() + start, dims.begin() + end);
  };
  if (node.is("Shape")) {
    const auto dims = dims_of(node);
    Ints sizes;
    for (const Dim& dim : dims.value_or(std::vector<Dim>{Dim{}})) {
      if (!dim.size) return std::nullopt;
      sizes.push_back(*dim.size);
    }
    return vector_of(sizes);
  }
  const Node* shape = node.is("Gather") ? made_by(node.input(0), "Shape") : nullptr;
  if (shape == nullptr || node.int_attribute("axis", 0) != 0) return std::nullopt;
  const auto dims = dims_of(*shape);
  const auto indices = constant_of(node.input(1));
  const auto wanted = constant_ints(node.input(1), 64);
  if (!dims || !indices || !wanted) return std::nullopt;
  Ints sizes;
  for (std::int64_t index : *wanted) {
    if (index < 0) index += static_cast<std::int64_t>(dims->size());
    if (index < 0 || index >= static_cast<std::int64_t>(dims->size())) return std::nullopt;
    const Dim& dim = (*dims)[static_cast<std::size_t>(index)];
    if (!dim.size) return std::nullopt;
    sizes.push_back(*dim.size);
  }
  return make_int64_tensor(sizes, {indices->dims().begin(), indices->dims().end()});
}

class FoldConstants final : public Pass {
 public:
  struct Options {
    std::int64_t max_growth = -1;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("max-growth", &Options::max_growth,
                   "bytes by which a stored result may pass the constants that it replaces; -1: a "
                   "sixteenth of the model's constants and 1 KiB, 64 KiB at most")
            .range(-1, 1e15)
            .unit("bytes");
    return schema;
  }
  explicit FoldConstants(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    growth_ = allowed_growth(model);
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t revision = model.revision();
      MCOMPRESS_TRY(fold_shapes(model, context));
      collect(model);
      if (!candidates_.empty()) MCOMPRESS_TRY(fold(model, context));
      if (model.revision() == revision) break;
    }
    for (Node* node : refusals_) {
      if (!context.edit().erased(*node)) context.explain().skipped(*node, why_not_[node]);
    }
    context.report().count("folded", folded_);
    context.report().count("bytes-removed", static_cast<std::int64_t>(bytes_removed_));
    context.report().count("bytes-stored", static_cast<std::int64_t>(bytes_stored_));
    return ok_status();
  }

 private:
  // A small file should not become a large one for the sake of a few nodes.
  std::uint64_t allowed_growth(Model& model) const {
    if (options_.max_growth >= 0) return static_cast<std::uint64_t>(options_.max_growth);
    std::uint64_t constants = 0;
    for_each_graph(model.graph(), [&](const Graph& graph) {
      for (const Value* value : graph.initializers())
        constants += value->initializer()->byte_size();
    });
    constexpr std::uint64_t kShare = 16, kSmall = 1 << 10, kMost = 64 << 10;
    return std::min(kMost, kSmall + constants / kShare);
  }

  struct Candidate {
    Node* node = nullptr;
    bool folds = true;
    bool accepted = false;                                      // with its part: see accept_parts
    std::vector<std::optional<std::uint64_t>> bytes, elements;  // most that each output can have
  };

  Status fold_shapes(Model& model, PassContext& context) {
    std::vector<std::pair<Node*, Tensor>> known;
    for (Node* node : find_nodes(context, model, {"Gather", "Shape", "Size"})) {
      if (node->output(0) == nullptr || node->output(0)->uses().empty()) continue;
      if (auto tensor = known_from_shape(*node)) known.emplace_back(node, std::move(*tensor));
    }
    if (known.empty()) return ok_status();
    modernise_initializers(model, context);
    for (auto& [node, tensor] : known) {
      chose(context, *node, "known from the shape of its input");
      const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
      context.edit().replace_by_constant(*node, std::move(tensor));
      // A Shape that fed only this node may be further down the list, so it stays for now.
      for (Value* input : inputs) {
        if (is_constant(input)) MCOMPRESS_TRY(erase_unused(context, *input));
      }
      ++folded_;
    }
    return ok_status();
  }

  void refuse(Node& node, std::string why) {
    if (!why_not_.contains(&node)) refusals_.push_back(&node);
    why_not_[&node] = std::move(why);
  }

  // Nodes that depend on constants only, outer graphs first, in topological order.
  void collect(Model& model) {
    candidates_.clear();
    index_.clear();
    for_each_graph(model.graph(), [&](Graph& graph) {
      for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
        if (!is_fed(*node) || !is_deterministic(*node) || is_excluded(*node)) continue;
        if (failed_.contains(node)) continue;
        if (std::string why = why_not(model, *node); !why.empty()) {
          refuse(*node, std::move(why));
          continue;
        }
        Candidate candidate;
        candidate.node = node;
        bound_sizes(candidate);
        if (std::string why = too_large(candidate); !why.empty()) {
          refuse(*node, std::move(why));
          continue;
        }
        index_.emplace(node, candidates_.size());
        candidates_.push_back(std::move(candidate));
      }
    });
  }

  bool is_fed(const Node& node) const {
    bool any = false;
    for (const Value* value : node.inputs()) {
      if (value == nullptr) continue;
      any = true;
      if (!is_constant(value) && !index_.contains(value->producer())) return false;
    }
    return any;
  }

  static std::string why_not(const Model& model, const Node& node) {
    if (onnx_catalog().since_version("", node.op_type(), model.opset("")) == 0) {
      return "it is no operator of this opset";
    }
    for (const Value* value : node.inputs()) {
      const auto data = constant_of(value);
      if (!data) continue;
      if (data->is_opaque()) return "it reads values of type " + dtype_name(data->dtype());
      if (!node.is("Cast") || data->elements() <= kFewElements) continue;
      const DTypeInfo* from = find_dtype(data->dtype());
      const DTypeInfo* to = find_dtype(static_cast<DataType>(node.int_attribute("to", 0)));
      if (from == nullptr || to == nullptr || from->bits < to->bits) {
        return "it restores weights that are stored as " + dtype_name(data->dtype());
      }
    }
    for (const Value* value : node.outputs()) {
      if (value != nullptr && element_type(*value) == DataType::kString) return "it makes texts";
    }
    return why_not_evaluable(node);
  }

  std::optional<std::uint64_t> elements_of(const Value* value) const {
    if (const auto shape = static_shape(*value)) {
      const auto count = element_count(*shape);
      return count ? std::optional<std::uint64_t>(static_cast<std::uint64_t>(*count))
                   : std::nullopt;
    }
    const auto found = index_.find(value->producer());
    if (found == index_.end()) return std::nullopt;
    const Candidate& maker = candidates_[found->second];
    for (std::size_t i = 0; i < maker.elements.size(); ++i) {
      if (maker.node->output(i) == value) return maker.elements[i];
    }
    return std::nullopt;
  }

  // Upper bounds: from inferred shapes, from the numbers that decide a size, else the product of
  // all inputs, which no element-wise, gathering or reducing operator passes.
  void bound_sizes(Candidate& candidate) const {
    const Node& node = *candidate.node;
    for (const Value* output : node.outputs()) {
      std::optional<std::uint64_t> elements;
      if (output == nullptr) {
        elements = 0;
      } else if (const auto shape = static_shape(*output)) {
        if (const auto count = element_count(*shape)) elements = static_cast<std::uint64_t>(*count);
      } else {
        elements = bound_from_numbers(node);
      }
      std::optional<std::uint64_t> bytes;
      if (elements) {
        const DTypeInfo* info = output != nullptr ? find_dtype(element_type(*output)) : nullptr;
        const std::uint64_t width = info != nullptr && info->bits != 0 ? info->bits : 64;
        bytes = saturating_product(*elements, width) / 8;
      }
      candidate.elements.push_back(elements);
      candidate.bytes.push_back(bytes);
    }
  }

  std::optional<std::uint64_t> bound_from_numbers(const Node& node) const {
    const auto product = [](const Ints& list) -> std::optional<std::uint64_t> {
      const auto count = element_count(list);
      return count ? std::optional<std::uint64_t>(static_cast<std::uint64_t>(*count))
                   : std::nullopt;
    };
    if (node.is("ConstantOfShape")) {
      const auto shape = constant_ints(node.input(0));
      return shape ? product(*shape) : std::nullopt;
    }
    if (node.is("Range")) {
      const auto start = constant_scalar(node.input(0));
      const auto limit = constant_scalar(node.input(1));
      const auto delta = constant_scalar(node.input(2));
      if (!start || !limit || !delta || *delta == 0.0) return std::nullopt;
      const double count = std::max(0.0, std::ceil((*limit - *start) / *delta)) + 1.0;
      return count < 1e15 ? std::optional<std::uint64_t>(static_cast<std::uint64_t>(count))
                          : std::nullopt;
    }
    if (node.is("Expand") || node.is("Tile")) {
      const auto list = constant_ints(node.input(1));
      const auto times = list ? product(*list) : std::nullopt;
      const auto elements = elements_of(node.input(0));
      if (!times || !elements) return std::nullopt;
      return saturating_product(*times, *elements);
    }
    static constexpr std::array<std::string_view, 9> kGrowing = {
        "CenterCropPad", "Col2Im", "EyeLike",  "NonMaxSuppression", "OneHot",
        "Pad",           "Resize", "Upsample", "MaxUnpool"};
    if (std::ranges::find(kGrowing, node.op_type()) != kGrowing.end()) return std::nullopt;
    std::uint64_t elements = 1;
    for (const Value* value : node.inputs()) {
      if (value == nullptr) continue;
      const auto count = elements_of(value);
      if (!count) return std::nullopt;
      elements = saturating_product(elements, std::max<std::uint64_t>(1, *count));
    }
    // NonZero lists one index per dimension.
    return node.is("NonZero") ? saturating_product(elements, 16) : elements;
  }

  static std::string too_large(const Candidate& candidate) {
    for (const auto& elements : candidate.elements) {
      if (!elements) return "the size of its result is not known before it runs";
      if (*elements > kMostElements) return "its result may be too large to compute";
    }
    return {};
  }

  // A result may be as large as the constants it makes superfluous, plus the allowed growth. What
  // several candidates read is shared out between them, so a refusal can change the others: again
  // until nothing changes. In the last round only sole readers count.
  void limit_growth() {
    accept_parts();
    for (int round = 0; round < kRounds; ++round) {
      bool changed = false;
      for (Candidate& candidate : candidates_) {
        if (!candidate.folds || candidate.accepted) continue;
        std::string why = why_not_now(candidate, round + 1 == kRounds);
        if (why.empty()) continue;
        candidate.folds = false;
        changed = true;
        refuse(*candidate.node, std::move(why));
      }
      if (!changed) return;
    }
  }

  // A part whose results are no larger than the constants that only it reads folds as a whole,
  // whatever grows or is read twice on the way: a weight that is standardised is read by the mean,
  // the variance and the scaling. Where its end grows, what stands in front of it may fold: a table
  // of biases is computed from a few coordinates before it is spread over all pairs of places.
  void accept_parts() {
    constexpr std::size_t kMostCuts = 256;  // nodes, each of which is asked with all before it
    std::vector<Node*> nodes;
    for (const Candidate& candidate : candidates_) nodes.push_back(candidate.node);
    for (const std::vector<Node*>& part : connected(nodes)) {
      if (accept(part) || part.size() > kMostCuts) continue;
      for (Node* end : part) {
        if (!candidates_[index_.at(end)].accepted) accept(with_makers(*end));
      }
    }
  }

  // The node and those candidates that it reads, in turn.
  std::vector<Node*> with_makers(Node& end) const {
    std::vector<Node*> part{&end};
    std::unordered_set<const Node*> seen{&end};
    for (std::size_t i = 0; i < part.size(); ++i) {
      for (const Value* value : part[i]->inputs()) {
        Node* maker = value != nullptr ? value->producer() : nullptr;
        if (maker != nullptr && index_.contains(maker) && seen.insert(maker).second) {
          part.push_back(maker);
        }
      }
    }
    return part;
  }

  bool accept(const std::vector<Node*>& part) {
    const std::unordered_set<const Node*> inside(part.begin(), part.end());
    const auto only_inside = [&](const Value& value) {
      return std::ranges::all_of(value.uses(), [&](const Use& use) {
        return use.node != nullptr && inside.contains(use.node);
      });
    };
    std::unordered_set<const Value*> constants;
    std::uint64_t freed = 0, stored = 0, largest = 0;
    for (const Node* node : part) {
      for (const Value* value : node->inputs()) {
        if (value == nullptr || !is_constant(value) || !constants.insert(value).second) continue;
        if (only_inside(*value)) freed += bytes_of(*value);
      }
      for (const Value* value : node->outputs()) {
        if (value == nullptr) continue;
        const std::uint64_t bytes = bytes_of(*value);
        largest = std::max(largest, bytes);
        if (!only_inside(*value)) stored += bytes;
      }
    }
    // One result on the way may take this much: times what the part frees, and in any case.
    constexpr std::uint64_t kWorkspace = 4, kSmallWorkspace = 16 << 20;
    const std::uint64_t allowed = freed + growth_;
    const std::uint64_t workspace =
        std::max(kSmallWorkspace, saturating_product(allowed, kWorkspace));
    if (stored > allowed || largest > workspace) return false;
    for (const Node* node : part) candidates_[index_.at(node)].accepted = true;
    return true;
  }

  bool folds(const Node* node) const {
    const auto found = index_.find(node);
    return found != index_.end() && candidates_[found->second].folds;
  }

  std::string why_not_now(const Candidate& candidate, bool sole_readers_only) const {
    const Node& node = *candidate.node;
    std::uint64_t freed = 0;
    for (std::size_t i = 0; i < node.inputs().size(); ++i) {
      const Value* value = node.input(i);
      if (value == nullptr) continue;
      if (!is_constant(value) && !folds(value->producer())) {
        return "'" + std::string(value->name()) + "', which it reads, is not folded";
      }
      const bool seen =
          std::ranges::find(node.inputs().first(i), value) != node.inputs().first(i).end();
      if (seen) continue;
      std::unordered_set<const Node*> readers;
      const bool disappears = std::ranges::all_of(value->uses(), [&](const Use& use) {
        readers.insert(use.node);
        return use.node != nullptr && folds(use.node);
      });
      if (!disappears || (sole_readers_only && readers.size() != 1)) continue;
      freed += bytes_of(*value) / readers.size();
    }
    std::uint64_t stored = 0;
    for (const auto& bytes : candidate.bytes) stored += bytes.value_or(0);
    const std::uint64_t allowed = freed + growth_;
    if (stored <= allowed) return {};
    return "its result takes " + human_bytes(stored) + ", the constants behind it only " +
           human_bytes(freed);
  }

  std::uint64_t bytes_of(const Value& value) const {
    if (const auto data = constant_of(&value)) return data->byte_size();
    const Candidate& maker = candidates_[index_.at(value.producer())];
    for (std::size_t i = 0; i < maker.bytes.size(); ++i) {
      if (maker.node->output(i) == &value) return maker.bytes[i].value_or(0);
    }
    return 0;
  }

  Status fold(Model& model, PassContext& context) {
    limit_growth();
    std::vector<Node*> nodes;
    for (const Candidate& candidate : candidates_) {
      if (candidate.folds) nodes.push_back(candidate.node);
    }
    if (nodes.empty()) return ok_status();
    auto runtime = context.runtime();
    if (!runtime.ok()) {
      for (Node* node : nodes) refuse(*node, runtime.error().diagnostic.message);
      return ok_status();
    }
    auto done = compute(**runtime, model, nodes);
    if (!done.ok()) {
      // Some node is beyond the runtime: find it, part by part.
      const std::vector<std::vector<Node*>> parts = connected(nodes);
      for (const std::vector<Node*>& part : parts) {
        if (parts.size() != 1) done = compute(**runtime, model, part);
        if (done.ok()) continue;
        for (Node* node : part) {
          failed_.insert(node);
          refuse(*node, "the runtime can not compute it: " + done.error().diagnostic.message);
        }
      }
    }
    modernise_initializers(model, context);
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
      MCOMPRESS_TRY(store(**node, context));
    }
    results_.clear();
    return ok_status();
  }

  // Fills results_ with what readers outside of `nodes` need.
  Status compute(Runtime& runtime, const Model& model, std::span<Node* const> nodes) {
    const std::unordered_set<const Node*> inside(nodes.begin(), nodes.end());
    std::vector<Value*> wanted;
    for (Node* node : nodes) {
      for (Value* value : node->outputs()) {
        if (value == nullptr) continue;
        const bool needed = std::ranges::any_of(
            value->uses(), [&](const Use& use) { return !inside.contains(use.node); });
        if (needed) wanted.push_back(value);
      }
    }
    if (wanted.empty()) return ok_status();
    MCOMPRESS_ASSIGN(auto tensors, evaluate(runtime, model, nodes, wanted));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      results_.emplace(wanted[i], std::move(tensors[i]));
    }
    return ok_status();
  }

  // Parts of the list that do not read each other, in order.
  static std::vector<std::vector<Node*>> connected(std::span<Node* const> nodes) {
    std::unordered_map<const Node*, std::size_t> index;
    for (std::size_t i = 0; i < nodes.size(); ++i) index.emplace(nodes[i], i);
    std::vector<std::size_t> part(nodes.size());
    std::iota(part.begin(), part.end(), std::size_t{0});
    const auto root = [&](std::size_t i) {
      while (part[i] != i) i = part[i] = part[part[i]];
      return i;
    };
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      for (const Value* value : nodes[i]->inputs()) {
        if (value == nullptr) continue;
        const auto maker = index.find(value->producer());
        if (maker == index.end()) continue;
        const std::size_t a = root(i), b = root(maker->second);
        part[std::max(a, b)] = std::min(a, b);
      }
    }
    std::vector<std::vector<Node*>> parts(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) parts[root(i)].push_back(nodes[i]);
    std::erase_if(parts, [](const auto& list) { return list.empty(); });
    return parts;
  }

  // Replaces a node by its results; readers come before, so unread results need none.
  Status store(Node& node, PassContext& context) {
    std::uint64_t stored = 0;
    for (Value* value : node.outputs()) {
      if (value == nullptr || value->uses().empty()) continue;
      const auto found = results_.find(value);
      if (found == results_.end()) return ok_status();  // refused, or a reader of it was
      stored += found->second.byte_size();
    }
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "computed once";
    decision.bytes_after = stored;
    std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
    if (node.outputs().size() == 1 && node.output(0) != nullptr &&
        !node.output(0)->uses().empty()) {
      context.edit().replace_by_constant(node, std::move(results_.at(node.output(0))));
    } else {
      for (Value* value : node.outputs()) {
        if (value == nullptr || value->uses().empty()) continue;
        Value& fresh =
            add_constant(context, node.graph(), value->name(), std::move(results_.at(value)));
        if (std::string why = forward(context, *value, fresh); !why.empty()) {
          MCOMPRESS_TRY(context.edit().erase_initializer(fresh));
          refuse(node, std::move(why));
          return ok_status();
        }
      }
      MCOMPRESS_TRY(context.edit().erase(node));
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool seen = std::find(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(i),
                                  inputs[i]) != inputs.begin() + static_cast<std::ptrdiff_t>(i);
      const auto data = seen ? std::nullopt : constant_of(inputs[i]);
      if (!data || !inputs[i]->uses().empty()) continue;
      decision.bytes_before += data->byte_size();
      MCOMPRESS_TRY(erase_unused(context, *inputs[i]));
    }
    bytes_removed_ += decision.bytes_before;
    bytes_stored_ += stored;
    ++folded_;
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Options options_;
  std::uint64_t growth_ = 0;  // allowed to each result
  std::vector<Candidate> candidates_;
  std::unordered_map<const Node*, std::size_t> index_;  // of candidates_
  std::unordered_map<const Value*, Tensor> results_;
  std::vector<Node*> refusals_;
  std::unordered_map<const Node*, std::string> why_not_;
  std::unordered_set<const Node*> failed_;  // in the runtime: not tried again
  std::int64_t folded_ = 0;
  std::uint64_t bytes_removed_ = 0, bytes_stored_ = 0;
};

}  // namespace

PassInfo fold_constants_info() {
  return pass_info<FoldConstants>("fold-constants", "compute what only depends on constants",
                                  Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes"});
}

}  // namespace mcompress
