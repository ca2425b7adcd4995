// Conditions, data and gates of recipes.
#include <algorithm>
#include <set>

#include "mcompress/recipe.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

Status check_size(const std::string& text, std::string_view name) {
  if (text.empty()) return ok_status();
  auto size = parse_size(text, {{}, {}, std::string(name)});
  if (!size.ok()) return std::move(size).error();
  return ok_status();
}

bool is_named(const Node& node, const std::vector<std::string>& names) {
  const std::string full = node.domain().empty()
                               ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
  return std::find(names.begin(), names.end(), full) != names.end();
}

// Bytes of an initializer or of the value that a Constant node makes.
std::uint64_t constant_bytes(const Value& value) {
  const Tensor* tensor = value.initializer();
  if (tensor == nullptr && value.producer() != nullptr && value.producer()->is("Constant")) {
    const AttributeValue* held = value.producer()->attribute("value");
    tensor = held != nullptr ? std::get_if<Tensor>(held) : nullptr;
  }
  return tensor != nullptr ? tensor->byte_size() : 0;
}

struct Census {
  std::uint64_t bytes = 0;  // of constants that nodes read, each once
  std::uint64_t of_ops = 0;
  bool has_op = false, has_lacking = false;
};

class Counter {
 public:
  explicit Counter(const StepCondition& condition) : condition_(condition) {}

  void look(const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      census_.has_op = census_.has_op || is_named(*node, condition_.has_op);
      census_.has_lacking = census_.has_lacking || is_named(*node, condition_.lacks_op);
      const bool counts = is_named(*node, condition_.ops);
      for (const Value* input : node->inputs()) {
        if (input == nullptr) continue;
        const std::uint64_t bytes = constant_bytes(*input);
        if (bytes == 0) continue;
        if (all_.insert(input->id()).second) census_.bytes += bytes;
        if (counts && of_ops_.insert(input->id()).second) census_.of_ops += bytes;
      }
      for (const Graph* body : node->bodies()) look(*body);
    }
  }

  const Census& census() const { return census_; }

 private:
  const StepCondition& condition_;
  Census census_;
  std::set<std::uint32_t> all_, of_ops_;
};

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text, Location where) {
  const auto bytes = parse_bytes(text);
  if (bytes && *bytes >= 0) return static_cast<std::uint64_t>(*bytes);
  return Error(Code::kUsage, "size-unreadable", "'" + std::string(text) + "' is no size",
               std::move(where), "give bytes, or for example 300kB, 4MB, 1.5GiB");
}

const Schema<StepCondition>& StepCondition::schema() {
  static const Schema<StepCondition> kSchema =
      Schema<StepCondition>()
          .field("bytes-above", &StepCondition::bytes_above, "constants take more")
          .unit("SIZE")
          .field("bytes-below", &StepCondition::bytes_below, "constants take less")
          .unit("SIZE")
          .field("has-op", &StepCondition::has_op, "one of these operators is there")
          .unit("OP,...")
          .field("lacks-op", &StepCondition::lacks_op, "none of these operators is there")
          .unit("OP,...")
          .field("ops", &StepCondition::ops, "operators whose share of the constants counts")
          .unit("OP,...")
          .field("ops-above", &StepCondition::ops_above, "they read more than this share")
          .range(-1, 2)
          .field("ops-below", &StepCondition::ops_below, "they read less than this share")
          .range(-1, 2)
          .field("data", &StepCondition::data, "calibration data or a table")
          .choices({"any", "given", "missing"})
          .rule([](const StepCondition& condition) -> Status {
            MCOMPRESS_TRY(check_size(condition.bytes_above, "bytes-above"));
            MCOMPRESS_TRY(check_size(condition.bytes_below, "bytes-below"));
            const bool limits = condition.ops_above >= 0 || condition.ops_below <= 1;
            if (limits == !condition.ops.empty()) return ok_status();
            return Error(
                Code::kUsage, "share-without-ops",
                limits ? "a limit of a share lacks the operators" : "a share lacks a limit", {},
                "'ops' goes with 'ops-above' or 'ops-below'");
          });
  return kSchema;
}

const Schema<RecipeData>& RecipeData::schema() {
  static const Schema<RecipeData> kSchema =
      Schema<RecipeData>()
          .field("calib", &RecipeData::calib, "calibration data")
          .unit("DATA")
          .field("samples", &RecipeData::samples, "use the first N calibration samples, or auto")
          .unit("N|auto")
          .field("table", &RecipeData::table, "statistics written by `mcompress calibrate`")
          .unit("FILE")
          .field("eval", &RecipeData::eval, "labelled data")
          .unit("DATA")
          .field("metric", &RecipeData::metric, "of the labelled data")
          .field("characters", &RecipeData::characters, "class list of a text recogniser")
          .unit("FILE")
          .field("feeding", &RecipeData::feeding, "what axis 0 of the arrays is")
          .field("preprocess", &RecipeData::preprocess, "how images become inputs")
          .field("raw", &RecipeData::raw, "what a sample of a raw file is")
          .field("input", &RecipeData::input, "samples of one input from a path of its own")
          .field("balance", &RecipeData::balance, "labels: as many samples of each label")
          .field("sequence-length", &RecipeData::sequence_length, "tokens of each sequence")
          .range(0, 1e9)
          .field("pad-id", &RecipeData::pad_id, "the token id that is padding")
          .range(-1, 9e15);
  return kSchema;
}

const Schema<RecipeGates>& RecipeGates::schema() {
  static const Schema<RecipeGates> kSchema =
      Schema<RecipeGates>()
          .field("min-sqnr", &RecipeGates::min_sqnr, "of the worst float output; 0: not asked for")
          .range(0, 1000)
          .unit("dB")
          .field("max-drop", &RecipeGates::max_drop,
                 "of the metric, of a perplexity percent; 100: not asked for")
          .range(0, 100)
          .unit("points")
          .field("max-size-ratio", &RecipeGates::max_size_ratio,
                 "bytes of the result over those of the input; 0: not asked for")
          .range(0, 100)
          .field("max-bytes", &RecipeGates::max_bytes, "of the result")
          .unit("SIZE")
          .rule([](const RecipeGates& gates) { return check_size(gates.max_bytes, "max-bytes"); });
  return kSchema;
}

bool holds(const StepCondition& condition, const Model& model, bool has_data) {
  if (condition.data != "any" && (condition.data == "given") != has_data) return false;
  Counter counter(condition);
  counter.look(model.graph());
  for (const Function& function : model.functions()) counter.look(*function.body);
  const Census& census = counter.census();
  const auto size = [](const std::string& text) {
    return static_cast<std::uint64_t>(parse_bytes(text).value_or(0));
  };
  if (!condition.bytes_above.empty() && census.bytes <= size(condition.bytes_above)) return false;
  if (!condition.bytes_below.empty() && census.bytes >= size(condition.bytes_below)) return false;
  if (!condition.has_op.empty() && !census.has_op) return false;
  if (census.has_lacking) return false;
  if (condition.ops.empty()) return true;
  const double share =
      census.bytes > 0 ? static_cast<double>(census.of_ops) / static_cast<double>(census.bytes) : 0;
  return share > condition.ops_above && share < condition.ops_below;
}

Result<Recipe> resolve_recipe(Recipe recipe, const Model& model, bool has_data) {
  std::vector<RecipeStep> kept;
  for (RecipeStep& step : recipe.steps) {
    if (!step.when.is_null()) {
      Diagnostics diagnostics;
      MCOMPRESS_ASSIGN(const StepCondition condition,
                       StepCondition::schema().parse(step.when, diagnostics));
      if (!holds(condition, model, has_data)) continue;
      step.when = Datum();
    }
    kept.push_back(std::move(step));
  }
  if (kept.empty()) {
    return Error(Code::kUnsupported, "no-step-holds",
                 "no step of recipe '" + recipe.name + "' is meant for this model",
                 {model.source().string(), {}, {}},
                 "the conditions under 'when' say which models are");
  }
  recipe.steps = std::move(kept);
  return recipe;
}

}  // namespace mcompress
