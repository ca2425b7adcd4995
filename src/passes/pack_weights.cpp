// pack-weights: entropy-coded weights that a stock runtime decodes while it loads the model.
//
//   indices ── unpack ── Gather(codebook)   becomes   bits ── levels ── Gather(codebook)
//   codes (int8, uint8, int4, uint4)        becomes   bits ── levels ── Gather(codes) ── Reshape
//
// A level is a handful of array operators, see numeric/entropy_code.h; they are all constants, so
// what runs afterwards is what ran before. Clustered weights with more than 60 % of zeros become
// the distances between the others, and these. Nothing is lost: the same bits come back.
#include <algorithm>
#include <array>
#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/symbol_tree.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }

// Elements of an integer tensor; those of half a byte are read as floats, exactly.
Result<std::vector<std::int32_t>> code_numbers(const Tensor& tensor) {
  std::vector<std::int32_t> numbers;
  numbers.reserve(static_cast<std::size_t>(tensor.elements()));
  if (tensor.dtype() == DataType::kInt4 || tensor.dtype() == DataType::kUint4) {
    MCOMPRESS_ASSIGN(const std::vector<float> floats, read_floats(tensor));
    for (const float x : floats) numbers.push_back(static_cast<std::int32_t>(x));
    return numbers;
  }
  MCOMPRESS_ASSIGN(const std::vector<std::int64_t> ints, read_ints(tensor));
  for (const std::int64_t x : ints) numbers.push_back(static_cast<std::int32_t>(x));
  return numbers;
}

// Constant integers behind the nodes that cluster-weights and others unpack them with.
class ConstantIndices {
 public:
  // Empty: computed otherwise, or not constant.
  static std::optional<std::vector<std::int32_t>> of(const Value* value, int depth = 0) {
    constexpr int kDeepest = 24;
    if (value == nullptr || depth > kDeepest) return std::nullopt;
    if (const auto tensor = constant_of(value)) return numbers(*tensor);
    const Node* const node = value->producer();
    if (node == nullptr) return std::nullopt;
    if (node->is("Cast") || node->is("Reshape")) return of(node->input(0), depth + 1);
    if (node->is("Add")) {
      auto left = of(node->input(0), depth + 1);
      const auto right = of(node->input(1), depth + 1);
      if (!left || !right || left->size() != right->size()) return std::nullopt;
      for (std::size_t i = 0; i < left->size(); ++i) (*left)[i] += (*right)[i];
      return left;
    }
    if (node->is("Slice")) return first_ones(*node, depth);
    if (node->is("Gather") && node->int_attribute("axis", 0) == 0) return rows(*node, depth);
    return std::nullopt;
  }

 private:
  static std::optional<std::vector<std::int32_t>> numbers(const Tensor& tensor) {
    if (tensor.is_opaque()) return std::nullopt;
    auto ints = code_numbers(tensor);
    if (!ints.ok()) return std::nullopt;
    return std::move(ints).value();
  }

  // Of one dimension, from 0.
  static std::optional<std::vector<std::int32_t>> first_ones(const Node& node, int depth) {
    const auto from = ints_parameter(node, "starts", 1), to = ints_parameter(node, "ends", 2);
    if (!from.values || !to.values || *from.values != std::vector<std::int64_t>{0} ||
        to.values->size() != 1 || node.input(4) != nullptr) {
      return std::nullopt;
    }
    auto all = of(node.input(0), depth + 1);
    if (!all || to.values->front() < 0) return std::nullopt;
    all->resize(std::min(all->size(), static_cast<std::size_t>(to.values->front())));
    return all;
  }

  static std::optional<std::vector<std::int32_t>> rows(const Node& node, int depth) {
    const auto tensor = constant_of(node.input(0));
    const auto places = of(node.input(1), depth + 1);
    if (!tensor || !places || tensor->dims().size() != 2) return std::nullopt;
    const auto table = numbers(*tensor);
    if (!table) return std::nullopt;
    const auto width = static_cast<std::size_t>(tensor->dims()[1]);
    std::vector<std::int32_t> out;
    out.reserve(places->size() * width);
    for (const std::int32_t place : *places) {
      if (place < 0 || place >= tensor->dims()[0]) return std::nullopt;
      const auto from = table->begin() + static_cast<std::ptrdiff_t>(place) * whole(width);
      out.insert(out.end(), from, from + whole(width));
    }
    return out;
  }
};

struct Packable {
  Value* value = nullptr;             // what is to be replaced
  std::vector<std::uint8_t> symbols;  // one for each element
  Tensor values;                      // one for each symbol, [entries]
  std::vector<std::int64_t> dims;
  std::optional<DataType> cast;  // behind the look-up
  std::uint64_t bytes_before = 0;
  std::string name;
  std::vector<float> codebook;  // of clustered weights
};

// The other elements than 0 of a sparse weight, and how many zeros stand before each: an element
// after 255 zeros is coded even where it is 0 itself.
struct Gaps {
  std::vector<std::uint8_t> skipped, symbols;
};
Gaps gaps_of(std::span<const std::uint8_t> symbols, std::uint8_t zero) {
  Gaps gaps;
  std::size_t next = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    if (symbols[i] == zero && i - next < 255) continue;
    gaps.skipped.push_back(static_cast<std::uint8_t>(i - next));
    gaps.symbols.push_back(symbols[i]);
    next = i + 1;
  }
  return gaps;
}
bool has_two(std::span<const std::uint8_t> symbols) {
  return std::ranges::any_of(symbols, [&](std::uint8_t s) { return s != symbols.front(); });
}

class PackWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t min_elements = 4096;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("min-elements", &Options::min_elements, "smaller tensors stay as they are")
            .range(2, 1e12)
            .unit("elements");
    return kSchema;
  }
  explicit PackWeights(Options options)
      : options_(std::move(options)), selection_(options_.include, options_.exclude) {}

  Status run(Model& model, PassContext& context) override {
    if (!context.target().folds_weight_only) {
      return Error(Code::kUnsupported, "no-folding",
                   "target " + context.target().name +
                       " does not compute constants when it loads a model: weights would be "
                       "decoded on every run",
                   {}, "choose another --target");
    }
    if (model.opset("") < kSymbolTreeOpset) {
      leave_all("decoding needs opset " + std::to_string(kSymbolTreeOpset) + ", the model has " +
                    std::to_string(model.opset("")) + ": convert-opset --to 13 comes first",
                context);
      return ok_status();
    }
    auto runtime = context.runtime();
    std::int64_t before = -1;
    if (runtime.ok()) {
      const auto executed = nodes_executed(**runtime, model);
      if (!executed.ok()) {
        leave_all(
            "the runtime does not open the model, so that nothing shows whether it decodes: " +
                executed.error().diagnostic.message,
            context);
        return ok_status();
      }
      before = *executed;
    }
    MCOMPRESS_TRY(pack_clustered(model, context));
    MCOMPRESS_TRY(pack_codes(model, context));
    if (packed_ == 0 || !runtime.ok()) return ok_status();
    MCOMPRESS_ASSIGN(const std::int64_t after, nodes_executed(**runtime, model));
    context.report().count("executed_nodes_before", before);
    context.report().count("executed_nodes", after);
    const std::string counts =
        std::to_string(after) + " nodes are executed, " + std::to_string(before) + " were before";
    if (after > before) {
      return Error(Code::kUnsupported, "not-folded",
                   "the runtime does not decode weights when it loads the model: " + counts);
    }
    context.diagnostics().note(
        "packed",
        std::to_string(packed_) + " weights are decoded when the model is loaded: " + counts);
    return ok_status();
  }

 private:
  static void leave_all(std::string why, PassContext& context) {
    Decision decision;
    decision.subject = "weights";
    decision.why = std::move(why);
    context.explain().skipped(std::move(decision));
  }

  static Result<std::int64_t> nodes_executed(Runtime& runtime, const Model& model) {
    MCOMPRESS_ASSIGN(const auto operators, runtime.executed_operators(model, {}));
    std::int64_t total = 0;
    for (const auto& [name, count] : operators) total += count;
    return total;
  }

  // Gathers of a small table by constant indices.
  Status pack_clustered(Model& model, PassContext& context) {
    std::vector<Node*> lookups;
    for_each_graph(model.graph(), [&](Graph& graph) {
      for (Node* node : graph.nodes()) {
        if (node->is("Gather") && node->int_attribute("axis", 0) == 0) lookups.push_back(node);
      }
    });
    for (Node* node : lookups) {
      const auto codebook = constant_of(node->input(0));
      // [entries], or [entries, dimension].
      if (!codebook || codebook->dtype() != DataType::kFloat || codebook->dims().empty() ||
          codebook->dims().size() > 2 || codebook->dims()[0] > 256) {
        continue;
      }
      const bool vectors = codebook->dims().size() == 2;
      const auto indices = ConstantIndices::of(node->input(1));
      if (!indices || whole(indices->size()) < options_.min_elements) continue;
      if (std::string why = selection_.why_not(*node, node->input(0)); !why.empty()) {
        explain_kept(context, *node->input(0), *codebook, node, std::move(why));
        continue;
      }
      Packable packable;
      packable.value = node->output(0);
      packable.name = node->input(0)->name();
      packable.values = *codebook;
      if (!vectors) {
        MCOMPRESS_ASSIGN(packable.codebook, read_floats(*codebook));
      }
      const auto dims = dims_of(node->input(1));
      if (!dims) continue;
      packable.dims = *dims;
      if (vectors) packable.dims.push_back(codebook->dims()[1]);
      for (const std::int32_t index : *indices) {
        if (index < 0 || index >= codebook->dims()[0]) break;
        packable.symbols.push_back(static_cast<std::uint8_t>(index));
      }
      if (packable.symbols.size() != indices->size()) continue;
      packable.bytes_before = stored_bytes(node->input(1));
      MCOMPRESS_TRY(pack(std::move(packable), *node, context));
    }
    return ok_status();
  }

  // Of indices that ConstantIndices knows; empty: unknown.
  static std::optional<std::vector<std::int64_t>> dims_of(const Value* value) {
    if (const auto tensor = constant_of(value)) {
      return std::vector<std::int64_t>(tensor->dims().begin(), tensor->dims().end());
    }
    const Node& node = *value->producer();
    if (node.is("Cast")) return dims_of(node.input(0));
    if (node.is("Reshape")) {
      auto shape = constant_ints(node.input(1));
      if (shape && std::ranges::all_of(*shape, [](std::int64_t d) { return d > 0; })) return shape;
    }
    if (node.is("Slice")) {
      const auto to = ints_parameter(node, "ends", 2);
      const auto from = dims_of(node.input(0));
      if (to.values && from && from->size() == 1) {
        return std::vector{std::min(from->front(), to.values->front())};
      }
    }
    if (node.is("Add")) {
      auto left = dims_of(node.input(0));
      if (left && left == dims_of(node.input(1))) return left;
    }
    return std::nullopt;
  }

  // Of the constants that only this value comes from.
  static std::uint64_t stored_bytes(const Value* value) {
    if (value == nullptr) return 0;
    if (const auto tensor = constant_of(value)) {
      return value->uses().size() == 1 ? tensor->byte_size() : 0;
    }
    std::uint64_t bytes = 0;
    if (value->producer() != nullptr) {
      for (const Value* input : value->producer()->inputs()) bytes += stored_bytes(input);
    }
    return bytes;
  }

  // Integer constants of one byte or half a byte.
  Status pack_codes(Model& model, PassContext& context) {
    for (Value* value : constants_of(model.graph())) {
      if (!value->is_initializer() || value->uses().empty()) continue;
      const Tensor tensor = *value->initializer();
      const DataType type = tensor.dtype();
      const bool half = type == DataType::kInt4 || type == DataType::kUint4;
      if (!half && type != DataType::kInt8 && type != DataType::kUint8) continue;
      if (tensor.elements() < options_.min_elements || made_here(*value)) continue;
      const Node* user = value->uses().front().node;
      std::string why;
      if (user == nullptr || value->is_graph_output()) {
        why = "is an output of the graph";
      } else if (value->constant() == nullptr) {
        why = "a caller of the model may override it";
      } else {
        why = selection_.why_not(*user, value);
      }
      if (!why.empty()) {
        explain_kept(context, *value, tensor, user, std::move(why));
        continue;
      }
      Packable packable;
      packable.value = value;
      packable.name = value->name();
      packable.dims.assign(tensor.dims().begin(), tensor.dims().end());
      packable.bytes_before = tensor.byte_size();
      MCOMPRESS_ASSIGN(const std::vector<std::int32_t> codes, code_numbers(tensor));
      // A 4-bit type is cast to from its 8-bit one.
      const bool is_signed = type == DataType::kInt8 || type == DataType::kInt4;
      const std::int32_t low = *std::ranges::min_element(codes);
      const std::int32_t high = *std::ranges::max_element(codes);
      std::vector<std::byte> table;
      for (std::int32_t code = low; code <= high; ++code) {
        table.push_back(static_cast<std::byte>(code & 255));
      }
      for (const std::int32_t code : codes) {
        packable.symbols.push_back(static_cast<std::uint8_t>(code - low));
      }
      const std::int64_t entries = whole(table.size());
      packable.values = make_bytes_tensor(is_signed ? DataType::kInt8 : DataType::kUint8, {entries},
                                          std::move(table));
      if (half) packable.cast = type;
      MCOMPRESS_TRY(pack(std::move(packable), *user, context));
    }
    return ok_status();
  }

  bool made_here(const Value& value) const { return value.id() >= first_made_; }

  static const Decision* maker_of(std::string_view name, const Explain& explain) {
    for (const std::string_view ending : {"_codebook", "_quantized"}) {
      if (!name.ends_with(ending)) continue;
      const std::string_view weight = name.substr(0, name.size() - ending.size());
      for (const Decision& decision : explain.all()) {
        if (decision.applied && decision.subject == weight && decision.bytes_before > 0) {
          return &decision;
        }
      }
    }
    return nullptr;
  }

  Status pack(Packable packable, const Node& user, PassContext& context) {
    Decision decision;
    decision.subject = packable.name;
    decision.op_type = user.op_type();
    decision.bytes_before = packable.bytes_before;
    // What another pass of this run made of a weight stands for that weight.
    if (const Decision* const maker = maker_of(packable.name, context.explain())) {
      decision.subject = maker->subject;
      decision.bytes_before = std::max(decision.bytes_before, maker->bytes_before);
    }
    const auto kept = [&](std::string why) {
      decision.why = std::move(why);
      decision.bytes_after = packable.bytes_before;
      context.explain().skipped(std::move(decision));
      return ok_status();
    };
    if (!has_two(packable.symbols)) return kept("holds one number only");
    const SymbolCost dense = symbol_cost(packable.symbols);
    std::optional<Gaps> gaps;
    SymbolCost gap_cost, sparse_cost;
    if (const auto zero = std::ranges::find(packable.codebook, 0.0F);
        zero != packable.codebook.end()) {
      const auto symbol = static_cast<std::uint8_t>(zero - packable.codebook.begin());
      const auto zeros = std::ranges::count(packable.symbols, symbol);
      if (zeros * 10 > whole(packable.symbols.size()) * 6) {
        gaps = gaps_of(packable.symbols, symbol);
        gap_cost = symbol_cost(gaps->skipped);
        sparse_cost = symbol_cost(gaps->symbols);
        if (!has_two(gaps->skipped) || !has_two(gaps->symbols) ||
            gap_cost.bytes() + sparse_cost.bytes() >= dense.bytes()) {
          gaps.reset();
        }
      }
    }
    const std::uint64_t coded =
        gaps ? gap_cost.coded_bytes + sparse_cost.coded_bytes : dense.coded_bytes;
    const std::uint64_t overhead =
        gaps ? gap_cost.overhead_bytes + sparse_cost.overhead_bytes : dense.overhead_bytes;
    if (coded + overhead >= packable.bytes_before) {
      return kept("would not shrink: " + human_bytes(coded) + " of bits and " +
                  human_bytes(overhead) + " to decode them");
    }
    if (packed_ == 0) first_made_ = context.edit().model().value_limit();
    std::uint64_t bytes = 0;
    MCOMPRESS_TRY(replace(packable, gaps, context, bytes));
    ++packed_;
    const double weights = static_cast<double>(packable.symbols.size());
    ReportScope& line = context.report().item("packed", decision.subject);
    line.count("weights", whole(packable.symbols.size()));
    line.text("form", gaps ? "gaps" : "dense");
    line.number("entropy_bits", dense.entropy_bits / weights);
    line.number("bits", static_cast<double>(coded) * 8 / weights);
    if (gaps) line.number("index_bits", static_cast<double>(gap_cost.coded_bytes) * 8 / weights);
    line.count("bytes", static_cast<std::int64_t>(coded));
    line.count("overhead", static_cast<std::int64_t>(overhead));
    decision.what = "Huffman code, " + fixed(static_cast<double>(coded) * 8 / weights, 3) +
                    " bits each (entropy " + fixed(dense.entropy_bits / weights, 3) + ")" +
                    (gaps ? ", distances of the weights that are not 0" : "");
    decision.why = "decoded when the model is loaded";
    decision.bytes_after = bytes;
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  static Status replace(const Packable& packable, const std::optional<Gaps>& gaps,
                        PassContext& context, std::uint64_t& bytes) {
    Editor& edit = context.edit();
    Value& old = *packable.value;
    Graph& graph = old.graph();
    modernise_initializers(graph.model(), context);
    Node& anchor = old.producer() != nullptr ? *old.producer() : *graph.first();
    const auto add = [&](std::string type, std::vector<Value*> inputs) -> Node& {
      return edit.insert_before(
          anchor, {.op_type = std::move(type), .inputs = std::move(inputs), .base_name = "h"});
    };
    const auto constant = [&](Tensor tensor) -> Value* {
      bytes += tensor.byte_size();
      return &edit.add_initializer(graph, "h", std::move(tensor));
    };
    Value* made = nullptr;
    if (gaps) {
      // positions = cumulated distances - 1
      std::vector<std::byte> table(256 * 4);
      for (unsigned i = 0; i < 256; ++i) {
        table[4 * i] = static_cast<std::byte>((i + 1) & 255);
        table[4 * i + 1] = static_cast<std::byte>((i + 1) >> 8);
      }
      const Tensor steps = make_bytes_tensor(DataType::kInt32, {256}, std::move(table));
      MCOMPRESS_ASSIGN(Value * distances,
                       emit_symbols(gaps->skipped, steps, anchor, context, bytes));
      MCOMPRESS_ASSIGN(Value * others,
                       emit_symbols(gaps->symbols, packable.values, anchor, context, bytes));
      const auto number = [](int value) {
        std::vector<std::byte> four(4, static_cast<std::byte>(value < 0 ? 255 : 0));
        return make_bytes_tensor(DataType::kInt32, {}, std::move(four));
      };
      Value* ends = add("CumSum", {distances, constant(number(0))}).output(0);
      Value* places = add("Add", {ends, constant(number(-1))}).output(0);
      const std::int64_t n = whole(packable.symbols.size());
      const float zero = 0;
      Value* zeros = add("Expand", {constant(make_float_tensor({&zero, 1}, {1})),
                                    constant(make_int64_tensor({&n, 1}, {1}))})
                         .output(0);
      made = add("ScatterElements", {zeros, places, others}).output(0);
    } else {
      MCOMPRESS_ASSIGN(made,
                       emit_symbols(packable.symbols, packable.values, anchor, context, bytes));
    }
    if (packable.dims.size() != packable.values.dims().size()) {
      made = add("Reshape",
                 {made, constant(make_int64_tensor(packable.dims, {whole(packable.dims.size())}))})
                 .output(0);
    }
    if (packable.cast) {
      Node& cast = add("Cast", {made});
      edit.set_attribute(cast, attribute("to", static_cast<std::int64_t>(*packable.cast)));
      made = cast.output(0);
    }
    MCOMPRESS_TRY(edit.replace_all(old, *made));
    if (old.producer() != nullptr) return erase_unused(context, old);
    return edit.erase_initializer(old);
  }

  Options options_;
  Selection selection_;
  std::int64_t packed_ = 0;
  std::uint64_t first_made_ = ~std::uint64_t{0};
};

}  // namespace

PassInfo pack_weights_info() {
  PassInfo info = pass_info<PackWeights>(
      "pack-weights", "entropy-code weights in operators that are computed when a model is loaded",
      Reach::kNestedGraphs, false,
      {"cluster-weights", "quantize-weights", "quantize-blocks", "rdoq-weights"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
