#include "workload.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "compress.h"
#include "holdings.h"
#include "mcompress/host.h"
#include "mcompress/io.h"
#include "mcompress/pipeline.h"
#include "try.h"

namespace mcompress::tools {
namespace {

Datum number(std::uint64_t value) {
  return Datum::integer(static_cast<std::int64_t>(std::min(value, kCountLimit)));
}

// "407.1 M".
std::string count_text(std::uint64_t count) {
  if (count == kCountLimit) return "over 9.2 E";
  static constexpr std::string_view kUnits[] = {"", " k", " M", " G", " T", " P", " E"};
  double value = static_cast<double>(count);
  std::size_t unit = 0;
  for (; value >= 1000 && unit < 6; ++unit) value /= 1000;
  const int digits = unit == 0 ? 0 : value < 10 ? 3 : value < 100 ? 2 : 1;
  return decimal_text(value, digits) + std::string(kUnits[unit]);
}

// The end of a long name says most: nested graphs and scopes stand in front.
std::string shortened(const std::string& name) {
  constexpr std::size_t kMost = 64;
  if (name.size() <= kMost) return name;
  std::size_t from = name.size() - kMost + 3;
  while (from < name.size() && (static_cast<unsigned char>(name[from]) & 0xC0U) == 0x80U) ++from;
  return "..." + name.substr(from);
}

std::string place_text(const Node& node, const std::string& graph) {
  return shortened(graph.empty() ? node.label() : graph + "/" + node.label());
}

struct OperatorSum {
  std::string name;
  std::uint64_t nodes = 0, macs = 0, flops = 0, parameters = 0, bytes = 0;
};

std::uint64_t capped(std::uint64_t a, std::uint64_t b) {
  return a > kCountLimit - std::min(b, kCountLimit) ? kCountLimit : a + b;
}

// Most work first, then most nodes, then by name.
std::vector<OperatorSum> by_operator(const ModelCost& cost) {
  std::map<std::string, OperatorSum> sums;
  for (const NodeCost& entry : cost.nodes) {
    OperatorSum& sum = sums[op_name(*entry.node)];
    ++sum.nodes;
    sum.macs = capped(sum.macs, entry.macs);
    sum.flops = capped(sum.flops, entry.flops);
    sum.parameters = capped(sum.parameters, entry.parameters);
    sum.bytes = capped(sum.bytes, entry.weight_bytes);
  }
  std::vector<OperatorSum> list;
  for (auto& [name, sum] : sums) {
    sum.name = name;
    list.push_back(std::move(sum));
  }
  std::stable_sort(list.begin(), list.end(), [](const OperatorSum& a, const OperatorSum& b) {
    return std::tuple(a.macs, a.flops, a.nodes) > std::tuple(b.macs, b.flops, b.nodes);
  });
  return list;
}

std::string operators_text(const ModelCost& cost) {
  Table table;
  table.row({"operators", "nodes", "MACs", "FLOPs", "parameters", "bytes"});
  for (const OperatorSum& sum : by_operator(cost)) {
    table.row({sum.name, grouped(sum.nodes), count_text(sum.macs), count_text(sum.flops),
               grouped(sum.parameters), grouped(sum.bytes)});
  }
  return table.text();
}

std::string heaviest_text(const ModelCost& cost, std::int64_t top) {
  std::vector<const NodeCost*> nodes;
  for (const NodeCost& entry : cost.nodes) {
    if (entry.flops > 0) nodes.push_back(&entry);
  }
  std::stable_sort(nodes.begin(), nodes.end(), [](const NodeCost* a, const NodeCost* b) {
    return std::pair(a->macs, a->flops) > std::pair(b->macs, b->flops);
  });
  if (static_cast<std::int64_t>(nodes.size()) > top) nodes.resize(static_cast<std::size_t>(top));
  if (nodes.empty()) return {};
  Table table;
  table.row({"heaviest nodes", "operator", "MACs", "FLOPs", "share"});
  for (const NodeCost* entry : nodes) {
    const double share =
        cost.flops > 0 ? static_cast<double>(entry->flops) / static_cast<double>(cost.flops) : 0;
    table.row({place_text(*entry->node, entry->graph), op_name(*entry->node),
               count_text(entry->macs), count_text(entry->flops),
               decimal_text(100 * share, 1) + " %"});
  }
  return "\n" + table.text();
}

std::string notes_text(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += wrap_text(note, 98, 2) + "\n";
  return text;
}

std::string memory_text(const Workload& workload, std::int64_t top) {
  const MemoryPlan& plan = workload.memory;
  std::string text = "\nactivations: peak " + grouped(plan.peak_bytes) + " bytes";
  if (plan.saturated) text += " or more";
  if (plan.node != nullptr) {
    text += " at " + std::string(plan.node->op_type()) + " " + place_text(*plan.node, plan.graph);
  }
  text += ", " + grouped(plan.total_bytes) + " in all " + counted(plan.values, "value") + "\n";
  text += notes_text(plan.notes);
  if (const auto& measured = workload.measured) {
    text += "  " + measured->runtime + " held " + grouped(measured->optimised.peak_bytes) +
            " bytes at most, inputs aside (" + grouped(measured->as_is.peak_bytes) +
            " without its optimisations), on inputs that were " + measured->inputs + "\n";
  }
  Table table;
  table.row({"alive at the peak", "bytes", "type"});
  std::int64_t shown = 0;
  for (const LiveValue& entry : plan.alive) {
    if (shown++ >= top) break;
    const TypeInfo* type = entry.value->type();
    const std::string name(entry.value->name());
    table.row({shortened(entry.graph.empty() ? name : entry.graph + "/" + name),
               grouped(entry.bytes), type != nullptr ? dtype_name(type->element) : "-"});
  }
  return shown == 0 ? text : text + table.text();
}

Datum texts(const std::vector<std::string>& list) {
  Datum datum = Datum::list();
  for (const std::string& text : list) datum.push(Datum::string(text));
  return datum;
}

std::string_view certainty_name(NodeCost::Certainty certainty) {
  switch (certainty) {
    case NodeCost::Certainty::kAssumed:
      return "assumed";
    case NodeCost::Certainty::kUnknown:
      return "unknown";
    case NodeCost::Certainty::kExact:
      break;
  }
  return "exact";
}

Datum to_datum(const MemoryUse& use) {
  Datum map = Datum::map();
  map.set("peak_bytes", number(use.peak_bytes));
  map.set("allocations", number(use.allocations));
  map.set("session_bytes", number(use.session_bytes));
  return map;
}

Datum compute_datum(const ModelCost& cost) {
  Datum map = Datum::map();
  map.set("macs", number(cost.macs));
  map.set("flops", number(cost.flops));
  map.set("saturated", Datum::boolean(cost.saturated));
  map.set("notes", texts(cost.notes));
  Datum operators = Datum::list();
  for (const OperatorSum& sum : by_operator(cost)) {
    Datum entry = Datum::map();
    entry.set("operator", Datum::string(sum.name));
    entry.set("nodes", number(sum.nodes));
    entry.set("macs", number(sum.macs));
    entry.set("flops", number(sum.flops));
    entry.set("parameters", number(sum.parameters));
    entry.set("bytes", number(sum.bytes));
    operators.push(std::move(entry));
  }
  map.set("operators", std::move(operators));
  Datum nodes = Datum::list();
  for (const NodeCost& cost_of_node : cost.nodes) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(cost_of_node.node->label()));
    entry.set("operator", Datum::string(op_name(*cost_of_node.node)));
    if (!cost_of_node.graph.empty()) entry.set("graph", Datum::string(cost_of_node.graph));
    entry.set("repeats", number(cost_of_node.repeats));
    entry.set("macs", number(cost_of_node.macs));
    entry.set("flops", number(cost_of_node.flops));
    entry.set("parameters", number(cost_of_node.parameters));
    entry.set("bytes", number(cost_of_node.weight_bytes));
    entry.set("certainty", Datum::string(certainty_name(cost_of_node.certainty)));
    nodes.push(std::move(entry));
  }
  map.set("nodes", std::move(nodes));
  return map;
}

Datum memory_datum(const Workload& workload) {
  const MemoryPlan& plan = workload.memory;
  Datum map = Datum::map();
  map.set("peak_bytes", number(plan.peak_bytes));
  map.set("total_bytes", number(plan.total_bytes));
  map.set("values", number(plan.values));
  map.set("saturated", Datum::boolean(plan.saturated));
  map.set("notes", texts(plan.notes));
  if (plan.node != nullptr) {
    map.set("peak_node", Datum::string(plan.node->label()));
    map.set("peak_operator", Datum::string(op_name(*plan.node)));
    if (!plan.graph.empty()) map.set("peak_graph", Datum::string(plan.graph));
  }
  Datum alive = Datum::list();
  for (const LiveValue& value : plan.alive) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(value.value->name()));
    if (!value.graph.empty()) entry.set("graph", Datum::string(value.graph));
    entry.set("bytes", number(value.bytes));
    alive.push(std::move(entry));
  }
  map.set("alive", std::move(alive));
  if (const auto& measured = workload.measured) {
    Datum entry = Datum::map();
    entry.set("runtime", Datum::string(measured->runtime));
    entry.set("inputs", Datum::string(measured->inputs));
    entry.set("optimised", to_datum(measured->optimised));
    entry.set("as_is", to_datum(measured->as_is));
    map.set("measured", std::move(entry));
  }
  return map;
}

// Types by name. Names are unique in what sees them, so a name that two graphs have is left out.
using Types = std::map<std::string_view, std::optional<TypeInfo>>;

Types types_of(const Model& model) {
  Types types;
  const auto add = [&types](const Value* value) {
    if (value == nullptr) return;
    std::optional<TypeInfo> type;
    if (const Tensor* tensor = value->initializer()) {
      type.emplace();
      type->element = tensor->dtype();
      type->shape.emplace();
      for (const std::int64_t size : tensor->dims()) type->shape->push_back({size, {}});
    } else if (value->type() != nullptr) {
      type = *value->type();
    }
    const auto [place, fresh] = types.emplace(value->name(), type);
    if (!fresh && place->second != type) place->second.reset();
  };
  each_graph(model, [&](const Graph& graph) {
    for (const Value* value : graph.initializers()) add(value);
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      for (const Value* value : node->outputs()) add(value);
    }
  });
  return types;
}

std::uint64_t open_dimensions(const TypeInfo* type, const PinnedShapes& shapes) {
  if (type == nullptr || !type->shape) return 1;
  return static_cast<std::uint64_t>(std::ranges::count_if(*type->shape, [&](const Dim& dim) {
    return !dim.size && !shapes.symbols.contains(dim.symbol);
  }));
}

std::uint64_t open_values(const Model& model, const PinnedShapes& shapes) {
  std::uint64_t count = 0;
  each_graph(model, [&](const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (node->is("Constant")) continue;
      for (const Value* value : node->outputs()) {
        if (value != nullptr && open_dimensions(value->type(), shapes) > 0) ++count;
      }
    }
  });
  return count;
}

// Shapes that hang on computed numbers (Shape, Gather, Concat, then Reshape) are found by computing
// what is constant once the inputs' shapes are: on a copy, whose types are brought back.
Status fold_shapes(Workload& workload, Console& console) {
  std::uint64_t open = open_values(*workload.model, workload.shapes);
  if (open == 0) return ok_status();
  MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
  const auto copy = workload.model->clone();
  Recipe recipe;
  for (const char* pass : {"lift-constants", "fold-constants", "infer-shapes"}) {
    recipe.steps.push_back({pass, Datum::map()});
  }
  Diagnostics ignored;
  Services services;
  services.runtime = runtime;
  services.diagnostics = &ignored;
  services.progress = &console;
  constexpr int kRounds = 8;  // each gets past one more operator that needs a computed shape
  for (int round = 0; round < kRounds; ++round) {
    Explain explain;
    Report report;
    if (!run_pipeline(*copy, recipe, builtin_passes(), services, {}, explain, report).ok()) break;
    const std::uint64_t now = open_values(*copy, workload.shapes);
    if (now >= open && round > 0) break;
    open = now;
  }
  if (console.cancelled()) return Error(Code::kCancelled, "cancelled", "interrupted");
  const Types types = types_of(*copy);
  Editor editor(*workload.model, &onnx_catalog());
  std::vector<Value*> values;
  each_graph(*workload.model, [&](const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      for (Value* value : node->outputs()) {
        if (value != nullptr) values.push_back(value);
      }
    }
  });
  for (Value* value : values) {
    const auto found = types.find(value->name());
    if (found == types.end() || !found->second) continue;
    if (open_dimensions(&*found->second, workload.shapes) <
        open_dimensions(value->type(), workload.shapes)) {
      editor.set_type(*value, *found->second, false);
    }
  }
  return ok_status();
}

std::int64_t count_nodes(const Model& model) {
  std::int64_t count = 0;
  each_graph(model,
             [&](const Graph& graph) { count += static_cast<std::int64_t>(graph.node_count()); });
  return count;
}

}  // namespace

Result<ShapePins> parse_shapes(const std::vector<std::string>& texts) {
  ShapePins pins;
  std::vector<std::int64_t>* open = nullptr;
  const auto refuse = [](const std::string& text, std::string why) {
    return Error(Code::kUsage, "input-shape", "'" + text + "': " + std::move(why),
                 {{}, "--input-shape", {}}, "write it as NAME:1,3,224,224");
  };
  for (const std::string& text : texts) {
    const std::size_t colon = text.rfind(':');
    std::string_view size = text;
    if (colon != std::string::npos) {
      const auto [place, fresh] = pins.emplace(text.substr(0, colon), std::vector<std::int64_t>());
      if (!fresh) return refuse(text, "the input has a shape already");
      open = &place->second;
      size.remove_prefix(colon + 1);
      if (size.empty()) continue;  // a scalar
    }
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(size.data(), size.data() + size.size(), value);
    if (open == nullptr) return refuse(text, "there is no input's name in front");
    if (code != std::errc() || end != size.data() + size.size()) {
      return refuse(text, "is no whole number");
    }
    open->push_back(value);
  }
  return pins;
}

Result<Workload> workload_of(const Model& model, const ShapePins& pins, Console& console) {
  Workload workload;
  workload.model = model.clone();
  Editor editor(*workload.model, &onnx_catalog());
  MCOMPRESS_ASSIGN(workload.shapes, pin_input_shapes(editor, pins));
  Diagnostics diagnostics;
  if (Status inferred = infer_shapes(*workload.model, editor, diagnostics); !inferred.ok()) {
    diagnostics.warn("shapes-unknown",
                     "no shapes could be inferred: " + to_string(inferred.error().diagnostic));
  }
  console.show(diagnostics);
  MCOMPRESS_TRY(fold_shapes(workload, console));
  workload.cost = cost_of(*workload.model, workload.shapes);
  workload.memory = plan_memory(*workload.model, workload.shapes);
  return workload;
}

Result<Measured> measure(const Model& model, std::span<const NamedTensor> feeds,
                         std::string inputs) {
  MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
  Measured measured;
  measured.runtime = runtime->name();
  measured.inputs = std::move(inputs);
  for (const bool optimised : {true, false}) {
    SessionOptions options;
    options.count_memory = true;
    options.optimisation = optimised ? Optimisation::kAll : Optimisation::kNone;
    MCOMPRESS_ASSIGN(const auto session, runtime->open(model, options));
    const auto ignore = [](std::size_t, const TensorView&) { return ok_status(); };
    MCOMPRESS_TRY(session->run(feeds, {}, ignore));
    MCOMPRESS_ASSIGN(const MemoryUse use, session->memory_use());
    (optimised ? measured.optimised : measured.as_is) = use;
  }
  return measured;
}

std::string workload_text(const Workload& workload, std::int64_t top) {
  const ModelCost& cost = workload.cost;
  std::string text = count_text(cost.macs) + " MACs, " + count_text(cost.flops) + " FLOPs";
  if (cost.saturated) text += " (counts end at 9.2 E)";
  text += "\n" + notes_text(cost.notes) + "\n" + operators_text(cost) + heaviest_text(cost, top);
  return text + memory_text(workload, top);
}

void add_workload(const Workload& workload, Datum& map) {
  Datum shapes = Datum::map();
  Datum symbols = Datum::map();
  for (const auto& [symbol, size] : workload.shapes.symbols) {
    symbols.set(symbol, Datum::integer(size));
  }
  shapes.set("symbols", std::move(symbols));
  shapes.set("assumed", texts(workload.shapes.assumed));
  map.set("shapes", std::move(shapes));
  map.set("compute", compute_datum(workload.cost));
  map.set("memory", memory_datum(workload));
}

// ---------------------------------------------------------------------------------------- passes

Result<std::vector<PassChances>> pass_chances(const Model& model, Console& console) {
  MCOMPRESS_ASSIGN(const Recipe recipe, builtin_recipe("optimize"));
  MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
  const auto copy = model.clone();
  std::vector<PassChances> chances(recipe.steps.size());
  std::vector<std::map<std::string, std::uint64_t>> reasons(recipe.steps.size());
  Diagnostics diagnostics;
  Services services;
  services.runtime = runtime;
  services.diagnostics = &diagnostics;
  services.progress = &console;
  constexpr int kRounds = 3;  // as `optimize`
  for (int round = 0; round < kRounds; ++round) {
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
      Recipe step = recipe;
      step.steps = {recipe.steps[i]};
      Explain explain;
      Report report;
      PassChances& entry = chances[i];
      entry.pass = recipe.steps[i].pass;
      if (round == 0) entry.nodes_before = count_nodes(*copy);
      Status status = run_pipeline(*copy, step, builtin_passes(), services, {}, explain, report);
      if (!status.ok()) return std::move(status).error();
      if (round == 0) entry.nodes_after = count_nodes(*copy);
      for (const Decision& decision : explain.all()) {
        if (decision.applied) {
          ++entry.sites;
          ++found;
        } else if (round == 0) {
          ++reasons[i][decision.why];
        }
      }
    }
    if (found == 0) break;
  }
  console.show(diagnostics);
  for (std::size_t i = 0; i < chances.size(); ++i) {
    chances[i].skipped.assign(reasons[i].begin(), reasons[i].end());
    std::stable_sort(chances[i].skipped.begin(), chances[i].skipped.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
  }
  return chances;
}

std::string chances_text(const std::vector<PassChances>& chances) {
  Table table;
  table.row({"what `optimize` could do", "sites", "nodes before", "after", "left alone"});
  for (const PassChances& entry : chances) {
    std::uint64_t skipped = 0;
    for (const auto& [why, count] : entry.skipped) skipped += count;
    table.row({entry.pass, grouped(entry.sites),
               grouped(static_cast<std::uint64_t>(entry.nodes_before)),
               grouped(static_cast<std::uint64_t>(entry.nodes_after)), grouped(skipped)});
  }
  return table.text();
}

Datum to_datum(const std::vector<PassChances>& chances) {
  Datum list = Datum::list();
  for (const PassChances& entry : chances) {
    Datum map = Datum::map();
    map.set("pass", Datum::string(entry.pass));
    map.set("sites", number(entry.sites));
    map.set("nodes_before", Datum::integer(entry.nodes_before));
    map.set("nodes_after", Datum::integer(entry.nodes_after));
    Datum skipped = Datum::list();
    for (const auto& [why, count] : entry.skipped) {
      Datum reason = Datum::map();
      reason.set("why", Datum::string(why));
      reason.set("count", number(count));
      skipped.push(std::move(reason));
    }
    map.set("skipped", std::move(skipped));
    list.push(std::move(map));
  }
  return list;
}

}  // namespace mcompress::tools
