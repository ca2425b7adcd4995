// pack-weights: entropy-coded weights that a stock runtime decodes while it loads the model.
//
//   indices ── unpack ── Gather(codebook)   becomes   bits ── levels ── Split ── Gather(codebook)
//   codes (int8, uint8, int4, uint4)        becomes   bits ── levels ── Split ── Gather(codes)
//
// A level is a handful of array operators, see passes/common/symbols/symbol_tree.h; they are all
// constants, so what runs afterwards is what ran before. Weights whose symbols are distributed
// alike share the levels. Clustered weights with more than 60 % of zeros become the distances
// between the others, and these. Nothing is lost: the same bits come back.
#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "ir/facts.h"
#include "ir/walk.h"
#include "numeric/entropy_code.h"
#include "passes/common/constant_indices.h"
#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/symbols/gap_symbols.h"
#include "passes/common/symbols/packable.h"
#include "passes/common/symbols/symbol_pools.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }

bool has_two(std::span<const std::uint8_t> symbols) {
  return std::ranges::any_of(symbols, [&](std::uint8_t s) { return s != symbols.front(); });
}

class PackWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t min_elements = 4096;
    std::int64_t max_load_bytes = std::int64_t{512} << 20;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("min-elements", &Options::min_elements, "smaller tensors stay as they are")
            .range(2, 1e12)
            .unit("elements")
            .field("max-load-bytes", &Options::max_load_bytes,
                   "what decoding may hold in memory while the model is loaded, by estimate; "
                   "weights that save least for it stay as they are; 0: any amount")
            .range(0, 9e15)
            .unit("bytes");
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
    MCOMPRESS_TRY(find_clustered(model, context));
    MCOMPRESS_TRY(find_codes(model, context));
    if (found_.empty()) return ok_status();
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
    SymbolPools pools;
    for (Packable& packable : found_) add_streams(packable, pools);
    choose(pools, context);
    MCOMPRESS_TRY(write(model, pools, context));
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
  Status find_clustered(Model& model, PassContext& context) {
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
          codebook->dims().size() > 2) {
        continue;
      }
      const auto indices = constant_indices(node->input(1));
      if (!indices || whole(indices->numbers.size()) < options_.min_elements) continue;
      const std::int64_t entries = entries_of_group(codebook->dims(), *indices);
      if (entries < 1 || entries > 256) continue;
      add_constants(node->input(1), of_lookups_);
      if (std::string why = selection_.why_not(*node, node->input(0)); !why.empty()) {
        explain_kept(context, *node->input(0), *codebook, node, std::move(why));
        continue;
      }
      const bool valid = std::ranges::all_of(
          indices->numbers, [&](std::int32_t index) { return index >= 0 && index < entries; });
      if (!valid) continue;
      Packable packable;
      packable.value = node->output(0);
      packable.user = node;
      packable.name = node->input(0)->name();
      packable.dims = indices->dims;
      packable.stream.type = DataType::kFloat;
      MCOMPRESS_ASSIGN(const std::vector<float> book, read_floats(*codebook));
      for (const std::int32_t index : indices->numbers) {
        packable.stream.symbols.push_back(static_cast<std::uint8_t>(index));
      }
      if (!indices->offsets.empty()) {
        SymbolStream& stream = packable.stream;
        packable.groups =
            rank_entries(*indices, book, static_cast<std::size_t>(entries), stream.symbols);
        stream.type = DataType::kUint8;
        for (std::int64_t r = 0; r < entries; ++r) {
          stream.table.push_back(static_cast<std::byte>(r));
        }
        if (packable.groups.zeros_first) packable.zero = 0;
      } else {
        const auto bytes = std::as_bytes(std::span(book));
        packable.stream.table.assign(bytes.begin(), bytes.end());
        if (codebook->dims().size() == 2) {
          packable.stream.entry = {codebook->dims()[1]};
          packable.dims.push_back(codebook->dims()[1]);
        } else if (const auto zero = std::ranges::find(book, 0.0F); zero != book.end()) {
          packable.zero = static_cast<std::uint8_t>(zero - book.begin());
        }
      }
      packable.bytes_before = constant_bytes(node->input(1));
      if (packable.groups.any()) packable.bytes_before += codebook->byte_size();
      found(std::move(packable), *node, context);
    }
    return ok_status();
  }

  // Integer constants of one byte or half a byte.
  Status find_codes(Model& model, PassContext& context) {
    for (Value* value : constants_of(model.graph())) {
      if (!value->is_initializer() || value->uses().empty()) continue;
      const Tensor tensor = *value->initializer();
      const DataType type = tensor.dtype();
      const bool half = type == DataType::kInt4 || type == DataType::kUint4;
      if (!half && type != DataType::kInt8 && type != DataType::kUint8) continue;
      if (tensor.elements() < options_.min_elements || of_lookups_.contains(value)) continue;
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
      for (std::int32_t code = low; code <= high; ++code) {
        packable.stream.table.push_back(static_cast<std::byte>(code & 255));
      }
      for (const std::int32_t code : codes) {
        packable.stream.symbols.push_back(static_cast<std::uint8_t>(code - low));
      }
      packable.stream.type = is_signed ? DataType::kInt8 : DataType::kUint8;
      if (half) packable.cast = type;
      found(std::move(packable), *user, context);
    }
    return ok_status();
  }

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

  void found(Packable packable, const Node& user, PassContext& context) {
    Decision& decision = packable.decision;
    decision.subject = packable.name;
    decision.op_type = user.op_type();
    decision.bytes_before = packable.bytes_before;
    // What another pass of this run made of a weight stands for that weight.
    if (const Decision* const maker = maker_of(packable.name, context.explain())) {
      decision.subject = maker->subject;
      decision.bytes_before = std::max(decision.bytes_before, maker->bytes_before);
    }
    if (!has_two(packable.stream.symbols)) {
      keep(packable, "holds one number only", context);
      return;
    }
    packable.stream.graph = &packable.value->graph();
    packable.symbols = packable.stream.symbols.size();
    found_.push_back(std::move(packable));
  }

  static void keep(Packable& packable, std::string why, PassContext& context) {
    packable.decision.why = std::move(why);
    packable.decision.bytes_after = packable.bytes_before;
    context.explain().skipped(std::move(packable.decision));
  }

  // Bits that a code of their own needs; a stream of one symbol has none.
  static double coded_bits_of(std::span<const std::uint8_t> symbols) {
    std::array<std::uint64_t, 256> counts{};
    for (const std::uint8_t s : symbols) ++counts[s];
    return static_cast<double>(best_symbol_code(counts, kSymbolTreeDepth).coded_bits);
  }

  static void add_streams(Packable& packable, SymbolPools& pools) {
    SymbolStream& stream = packable.stream;
    std::array<std::uint64_t, 256> counts{};
    for (const std::uint8_t s : stream.symbols) ++counts[s];
    packable.entropy_bits = entropy_bits(counts);
    const auto zeros =
        packable.zero ? std::ranges::count(stream.symbols, *packable.zero) : std::ptrdiff_t{0};
    if (zeros * 10 > whole(packable.symbols) * 6) {
      if (take_joint(packable)) {
        packable.streams.push_back(pools.add(std::move(stream)));
        return;
      }
      Gaps gaps = gaps_of(stream.symbols, *packable.zero);
      if (has_two(gaps.skipped) && has_two(gaps.symbols) &&
          coded_bits_of(gaps.skipped) + coded_bits_of(gaps.symbols) <
              coded_bits_of(stream.symbols)) {
        // Steps from one element to the next: a distance and 1.
        SymbolStream steps;
        steps.symbols = std::move(gaps.skipped);
        steps.graph = stream.graph;
        for (std::size_t gap = 0; gap <= kLongestGap; ++gap) {
          steps.table.push_back(static_cast<std::byte>(gap + 1));
        }
        packable.streams.push_back(pools.add(std::move(steps)));
        stream.symbols = std::move(gaps.symbols);
      }
    }
    packable.streams.push_back(pools.add(std::move(stream)));
  }

  // Where one stream of both needs fewer bits than two, and than all symbols.
  static bool take_joint(Packable& packable) {
    SymbolStream& stream = packable.stream;
    auto joint = joint_gaps_of(stream.symbols, *packable.zero);
    if (!joint || !has_two(joint->symbols)) return false;
    const Gaps gaps = gaps_of(stream.symbols, *packable.zero);
    const double bits = coded_bits_of(joint->symbols);
    constexpr double kSecondStream = 8 * 100;  // its nodes and table, less those of taking apart
    if (bits >= coded_bits_of(gaps.skipped) + coded_bits_of(gaps.symbols) + kSecondStream ||
        bits >= coded_bits_of(stream.symbols)) {
      return false;
    }
    std::array<std::uint64_t, 256> values{};
    for (const std::uint8_t s : gaps.symbols) ++values[s];
    packable.joint_index_bits = std::max(0.0, bits - entropy_bits(values));
    packable.joint_values = std::move(joint->values);
    packable.longest = joint->longest;
    packable.value_table = std::exchange(stream.table, {});
    packable.value_type = std::exchange(stream.type, DataType::kUint8);
    for (std::size_t s = 0; s < 256; ++s) stream.table.push_back(static_cast<std::byte>(s));
    stream.symbols = std::move(joint->symbols);
    return true;
  }

  struct Cost {
    std::uint64_t coded = 0, own = 0, tree = 0, memory = 0;
    std::uint64_t bytes() const { return coded + own + tree; }
  };
  static Cost cost_of(const Packable& packable, const SymbolPools& pools) {
    constexpr std::uint64_t kOfGaps = 350;  // bytes of nodes
    Cost cost;
    for (const std::size_t s : packable.streams) {
      const SymbolShare share = pools.share(s);
      cost.coded += share.coded_bytes();
      cost.own += share.own_bytes;
      cost.tree += share.tree_bytes;
      cost.memory += share.memory;
    }
    if (packable.sparse()) cost.own += kOfGaps, cost.memory += 8 * packable.symbols;
    if (packable.joint()) cost.own += 150 + packable.joint_values.size() * 4;
    if (packable.groups.any()) {
      constexpr std::uint64_t kOfGroups = 300;  // bytes of nodes
      cost.own += kOfGroups + 4 * packable.groups.offsets.size();
      cost.own += 4 * packable.groups.entries.size();
      cost.memory += 12 * packable.symbols;
    }
    return cost;
  }

  void drop(std::size_t index, SymbolPools& pools, std::string why, PassContext& context) {
    for (const std::size_t s : found_[index].streams) pools.drop(s);
    keep(found_[index], std::move(why), context);
    found_.erase(found_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  // Bytes of functions and of tables that all trees of a graph share.
  static constexpr std::uint64_t kShared = 950;

  // Weights that would not shrink stay: those whose bits and own nodes are as large as what they
  // stand for, then whole trees that cost more than they save. What is left is arranged anew.
  void choose(SymbolPools& pools, PassContext& context) {
    // Where much would be held while the model is loaded, codes with shorter trees are worth some
    // bits: up to 4 % of a bit for one of the tree.
    constexpr double kFirst = 0x1p-15, kMost = 0x1p-12;
    const auto limit = static_cast<std::uint64_t>(options_.max_load_bytes);
    double weight = 0;
    while (true) {
      pools.arrange(weight);
      std::vector<Cost> costs;
      std::vector<double> saved;  // with its part of trees
      std::vector<double> by_pool(pools.pools());
      std::uint64_t memory = 0;
      std::set<std::size_t> larger;
      for (std::size_t i = 0; i < found_.size(); ++i) {
        costs.push_back(cost_of(found_[i], pools));
        const Cost& cost = costs.back();
        memory += cost.memory;
        saved.push_back(static_cast<double>(found_[i].bytes_before) -
                        static_cast<double>(cost.bytes()));
        if (saved[i] + static_cast<double>(cost.tree) <= 0) larger.insert(i);
        for (const std::size_t pool : pools_of(found_[i], pools)) by_pool[pool] += saved[i];
      }
      if (larger.empty() && std::accumulate(saved.begin(), saved.end(), 0.0) <= kShared) {
        for (std::size_t i = 0; i < found_.size(); ++i) larger.insert(i);
      }
      const auto worst = std::ranges::min_element(by_pool);
      if (larger.empty() && worst != by_pool.end() && *worst <= 0) {
        const auto pool = static_cast<std::size_t>(worst - by_pool.begin());
        for (std::size_t i = 0; i < found_.size(); ++i) {
          if (pools_of(found_[i], pools).contains(pool)) larger.insert(i);
        }
      }
      for (auto i = larger.rbegin(); i != larger.rend(); ++i) {
        drop(*i, pools,
             "would not shrink: " + human_bytes(costs[*i].coded) + " of bits and " +
                 human_bytes(costs[*i].own + costs[*i].tree) + " to decode them",
             context);
      }
      if (!larger.empty()) continue;
      const bool above = limit > 0 && memory > limit;
      if (memory > free_memory() && weight < kMost) {
        weight = std::max(kFirst, 2 * weight);
        continue;
      }
      if (!above) return;
      // The weights that save most for what they hold, as long as there is room.
      std::vector<std::size_t> order(found_.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t i) {
        return saved[i] / static_cast<double>(costs[i].memory);
      });
      std::uint64_t held = 0;
      for (const std::size_t i : order) {
        if (held + costs[i].memory <= limit) {
          held += costs[i].memory;
        } else {
          larger.insert(i);
        }
      }
      for (auto i = larger.rbegin(); i != larger.rend(); ++i) {
        drop(*i, pools,
             "decoding would hold " + human_bytes(costs[*i].memory) + " of " + human_bytes(memory) +
                 " while the model is loaded, max-load-bytes allows " + human_bytes(limit),
             context);
      }
    }
  }

  // Of what decoding may hold: as much as the weights take when they are decoded to float32.
  std::uint64_t free_memory() const {
    constexpr std::uint64_t kLeast = std::uint64_t{64} << 20;
    std::uint64_t bytes = 0;
    for (const Packable& packable : found_) bytes += 4 * packable.symbols;
    return std::max(kLeast, bytes);
  }

  static std::set<std::size_t> pools_of(const Packable& packable, const SymbolPools& pools) {
    std::set<std::size_t> all;
    for (const std::size_t s : packable.streams) {
      const std::vector<std::size_t> some = pools.pools_of(s);
      all.insert(some.begin(), some.end());
    }
    return all;
  }

  // Nodes of all graphs first: they stand in front of what is there, which may then go.
  Status write(Model& model, const SymbolPools& pools, PassContext& context) {
    if (found_.empty()) return ok_status();
    modernise_initializers(model, context);
    std::map<Graph*, std::vector<Value*>> decoded;
    std::vector<std::pair<Value*, Value*>> replaced;
    std::uint64_t coded = 0, overhead = 0;
    double entropy = 0;
    std::map<Graph*, ConstantMaker> makers;
    for (Packable& packable : found_) {
      Graph* const graph = packable.stream.graph;
      ConstantMaker& maker = makers.try_emplace(graph, *graph, context).first->second;
      if (!decoded.contains(graph)) decoded[graph] = pools.write(maker);
      replaced.emplace_back(packable.value, &rebuilt(packable, decoded[graph], maker));
      const Cost cost = cost_of(packable, pools);
      coded += cost.coded, overhead += cost.own + cost.tree, entropy += packable.entropy_bits;
      report(packable, pools, cost, context);
    }
    for (const auto& [old, made] : replaced) {
      MCOMPRESS_TRY(context.edit().replace_all(*old, *made));
      if (old->producer() != nullptr) {
        MCOMPRESS_TRY(erase_unused(context, *old));
      } else {
        MCOMPRESS_TRY(context.edit().erase_initializer(*old));
      }
    }
    packed_ = whole(found_.size());
    context.report().count("trees", whole(pools.pools()));
    context.report().count("coded_bytes", static_cast<std::int64_t>(coded));
    context.report().count("entropy_bytes", static_cast<std::int64_t>(entropy / 8));
    context.report().count("overhead_bytes",
                           static_cast<std::int64_t>(overhead + kShared * makers.size()));
    return ok_status();
  }

  // Distances of places; `made` becomes what stands there.
  static Value& steps_of(const Packable& packable, const std::vector<Value*>& decoded,
                         ConstantMaker& maker, Value*& made) {
    Value& numbers = maker.cast(*decoded[packable.streams.front()], DataType::kInt32);
    if (!packable.joint()) return numbers;
    Value& longest = maker.number(static_cast<std::int32_t>(packable.longest));
    const std::size_t width = packed_bytes(packable.value_type, 1).value_or(0);
    std::vector<std::byte> table;
    for (const std::uint8_t s : packable.joint_values) {
      const auto entry = packable.value_table.begin() + static_cast<std::ptrdiff_t>(s * width);
      table.insert(table.end(), entry, entry + static_cast<std::ptrdiff_t>(width));
    }
    Value& values = maker.constant(make_bytes_tensor(
        packable.value_type, {whole(packable.joint_values.size())}, std::move(table)));
    made = &maker.node("Gather", {&values, &maker.node("Div", {&numbers, &longest})});
    return maker.node("Add", {&maker.node("Mod", {&numbers, &longest}), &maker.number(1)});
  }

  // The weight of what its streams decode to.
  static Value& rebuilt(const Packable& packable, const std::vector<Value*>& decoded,
                        ConstantMaker& maker) {
    Value* made = decoded[packable.streams.back()];
    std::size_t rank = 1 + packable.stream.entry.size();
    if (packable.sparse()) {
      // places = cumulated steps - 1
      Value& steps = steps_of(packable, decoded, maker, made);
      Value& ends = maker.node("CumSum", {&steps, &maker.number(0)});
      Value& places = maker.node("Add", {&ends, &maker.number(-1)});
      const std::int64_t n = whole(packable.symbols);
      std::vector<NewAttribute> zero;
      if (packable.groups.any()) {
        zero.push_back({"value", make_bytes_tensor(DataType::kUint8, {1}, {std::byte{0}})});
      }
      Value& zeros = maker.node("ConstantOfShape", {&maker.ints({&n, 1})}, std::move(zero));
      made = &maker.node("ScatterElements", {&zeros, &places, made});
    }
    if (packable.dims.size() != rank) {
      made = &maker.node("Reshape", {made, &maker.ints(packable.dims)});
    }
    if (const GroupBooks& groups = packable.groups; groups.any()) {
      Value& offsets =
          maker.constant(make_int32_tensor(groups.offsets, {whole(groups.offsets.size()), 1}));
      Value& places = maker.node("Add", {&maker.cast(*made, DataType::kInt32), &offsets});
      Value& book =
          maker.constant(make_float_tensor(groups.entries, {whole(groups.entries.size())}));
      made = &maker.node("Gather", {&book, &places});
    }
    return packable.cast ? maker.cast(*made, *packable.cast) : *made;
  }

  static void report(Packable& packable, const SymbolPools& pools, const Cost& cost,
                     PassContext& context) {
    Decision& decision = packable.decision;
    const auto weights = static_cast<double>(packable.symbols);
    ReportScope& line = context.report().item("packed", decision.subject);
    line.count("weights", whole(packable.symbols));
    line.text("form", packable.joint() ? "joint gaps" : packable.sparse() ? "gaps" : "dense");
    line.number("entropy_bits", packable.entropy_bits / weights);
    line.number("bits", static_cast<double>(cost.coded) * 8 / weights);
    double bits = 0;
    for (const std::size_t s : packable.streams) bits += pools.share(s).entropy_bits;
    line.number("stream_entropy_bits", bits / weights);
    if (packable.sparse()) {
      const double distances =
          packable.joint() ? packable.joint_index_bits
                           : static_cast<double>(pools.share(packable.streams.front()).coded_bits);
      line.number("index_bits", distances / weights);
    }
    line.count("bytes", static_cast<std::int64_t>(cost.coded));
    line.count("overhead", static_cast<std::int64_t>(cost.own + cost.tree));
    line.count("load_bytes", static_cast<std::int64_t>(cost.memory));
    decision.what = "Huffman code, " + fixed(static_cast<double>(cost.coded) * 8 / weights, 3) +
                    " bits each (entropy " + fixed(packable.entropy_bits / weights, 3) + ")" +
                    (packable.sparse() ? ", distances of the weights that are not 0" : "");
    decision.why = "decoded when the model is loaded";
    decision.bytes_after = cost.bytes();
    context.explain().chose(std::move(decision));
  }

  Options options_;
  Selection selection_;
  std::vector<Packable> found_;
  std::set<const Value*> of_lookups_;
  std::int64_t packed_ = 0;
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
