// The form of plan files.
#include "mcompress/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "support/hash.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"
#include "support/yaml.h"

namespace mcompress {
namespace {

Error plan_error(std::string_view id, std::string message, const Datum& datum,
                 std::string hint = {}) {
  return Error(Code::kUsage, id, std::move(message), datum.where(), std::move(hint));
}

// ------------------------------------------------------------------------------------- printing

// The steps with the options that were given: what print_recipe spells out is more than people
// want to read.
Datum given_recipe(const Recipe& recipe, const PassRegistry& registry) {
  Datum datum = Datum::map();
  if (!recipe.name.empty()) datum.set("name", Datum::string(recipe.name));
  datum.set("target", Datum::string(recipe.target));
  datum.set("seed", Datum::integer(static_cast<std::int64_t>(recipe.seed)));
  datum.set("converge", Datum::boolean(recipe.converge));
  if (!recipe.gates.is_null()) datum.set("gates", recipe.gates);
  Datum list = Datum::list();
  for (const RecipeStep& step : recipe.steps) {
    const Datum::Map* given = step.options.as_map();
    if (given == nullptr || given->empty()) {
      list.push(Datum::string(step.pass));
      continue;
    }
    Datum entry = Datum::map();
    entry.set("pass", Datum::string(step.pass));
    // Typed options read as the schema has them, whatever they came from.
    const PassInfo* info = registry.find(step.pass);
    const Datum printed = info != nullptr ? info->print(step.options) : step.options;
    for (const auto& [key, value] : *given) {
      const Datum* checked = printed.find(key);
      entry.set(key, checked != nullptr ? *checked : value);
    }
    list.push(std::move(entry));
  }
  datum.set("passes", std::move(list));
  return datum;
}

// One mark for all decisions about a tensor.
std::string mark_of(const std::vector<const PlannedDecision*>& about) {
  Hasher hasher;
  for (const PlannedDecision* decision : about) {
    hasher.text(decision->tensor).text(decision->node).text(decision->pass);
    hasher.text(print_json_line(decision->options));
  }
  return hex_digest(hasher.digest()).substr(0, 8);
}

using BySubject = std::map<std::string, std::vector<const PlannedDecision*>>;

BySubject by_subject(const std::vector<PlannedDecision>& decisions) {
  BySubject found;
  for (const PlannedDecision& decision : decisions) found[decision.subject()].push_back(&decision);
  return found;
}

Datum count(std::uint64_t number) { return Datum::integer(static_cast<std::int64_t>(number)); }

Datum bytes_datum(const PlannedDecision& decision) {
  if (decision.keep()) return count(decision.bytes_before);
  Datum bytes = Datum::list();
  bytes.push(count(decision.bytes_before));
  bytes.push(count(decision.bytes_after));
  return bytes;
}

Datum decision_datum(const PlannedDecision& decision, const std::string& mark) {
  Datum entry = Datum::map();
  const auto text = [&entry](std::string_view key, const std::string& value) {
    if (!value.empty()) entry.set(key, Datum::string(value));
  };
  text("tensor", decision.tensor);
  text("made-of", decision.made_of);
  text("node", decision.node);
  text("op", decision.op_type);
  if (decision.shape) {
    Datum dims = Datum::list();
    for (const std::int64_t dim : *decision.shape) dims.push(Datum::integer(dim));
    entry.set("shape", std::move(dims));
  }
  entry.set("do", Datum::string(decision.keep() ? "keep" : decision.pass));
  if (const Datum::Map* options = decision.options.as_map();
      options != nullptr && !options->empty())
    entry.set("options", decision.options);
  text("form", decision.form);
  text("why", decision.why);
  if (decision.bytes_before > 0) entry.set("bytes", bytes_datum(decision));
  if (decision.sqnr_db) entry.set("sqnr-db", Datum::real(*decision.sqnr_db));
  text("mark", mark);
  return entry;
}

Datum totals_of(const Plan& plan, const BySubject& by) {
  std::int64_t tensors = 0, compressed = 0;
  for (const auto& [name, about] : by) {
    if (about.front()->tensor.empty() || !about.front()->made_of.empty()) continue;
    ++tensors;
    compressed += std::any_of(about.begin(), about.end(),
                              [](const PlannedDecision* one) { return !one->keep(); })
                      ? 1
                      : 0;
  }
  Datum totals = Datum::map();
  totals.set("tensors", Datum::integer(tensors));
  totals.set("compressed", Datum::integer(compressed));
  totals.set("bytes-before", count(plan.bytes_before));
  totals.set("bytes-after", count(plan.bytes_after));
  if (plan.output_sqnr_db) totals.set("output-sqnr-db", Datum::real(*plan.output_sqnr_db));
  return totals;
}

// -------------------------------------------------------------------------------------- reading

Status check_keys(const Datum& map, const std::vector<std::string>& known, const Datum& at) {
  if (map.as_map() == nullptr) return plan_error("plan-not-a-map", "must be a map", at);
  for (const auto& [key, value] : *map.as_map()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string close = nearest(key, known);
    return plan_error(
        "plan-unknown-key", "unknown key '" + key + "'", value,
        close.empty() ? "known keys: " + join(known, ", ") : "did you mean '" + close + "'?");
  }
  return ok_status();
}

Result<std::string> text_at(const Datum& map, std::string_view key) {
  const Datum* value = map.find(key);
  if (value == nullptr) return std::string();
  if (const std::string* text = value->as_string()) return *text;
  // A name that looks like a number, written without quotes.
  if (std::holds_alternative<std::int64_t>(value->value())) return option_text(*value);
  return plan_error("plan-not-text", "must be a text", *value,
                    "put it in quotes if it looks like something else");
}

Result<std::uint64_t> count_of(const Datum& value) {
  const auto* number = std::get_if<std::int64_t>(&value.value());
  if (number != nullptr && *number >= 0) return static_cast<std::uint64_t>(*number);
  return plan_error("plan-not-a-count", "must be a whole number from 0 up", value);
}

Result<std::uint64_t> count_at(const Datum& map, std::string_view key) {
  const Datum* value = map.find(key);
  return value != nullptr ? count_of(*value) : std::uint64_t{0};
}

Result<std::optional<double>> real_at(const Datum& map, std::string_view key) {
  const Datum* value = map.find(key);
  if (value == nullptr) return std::optional<double>();
  if (const auto* real = std::get_if<double>(&value->value())) return std::optional(*real);
  if (const auto* whole = std::get_if<std::int64_t>(&value->value())) {
    return std::optional(static_cast<double>(*whole));
  }
  return plan_error("plan-not-a-number", "must be a number", *value);
}

Result<std::uint64_t> digest_of(const Datum& value) {
  std::uint64_t digest = 0;
  const std::string text = option_text(value);
  bool sound = text.size() == 16;
  for (const char c : text) {
    const std::string_view kDigits = "0123456789abcdef";
    const std::size_t digit = kDigits.find(c);
    sound = sound && digit != std::string_view::npos;
    digest = digest << 4 | (digit & 15);
  }
  if (sound) return digest;
  return plan_error("plan-digest", "must be a digest of 16 hexadecimal digits in quotes", value);
}

// Options that are no property of one tensor.
bool is_joint(std::string_view option) {
  constexpr std::string_view kJoint[] = {
      "include", "exclude", "avg-bits",   "max-bytes",     "min-sqnr", "max-drop",
      "flops",   "latency", "guard-sqnr", "guard-samples", "curve",    "save-mask",
      "mask",    "scope",   "steps",      "percentiles",   "effort"};
  return std::find(std::begin(kJoint), std::end(kJoint), option) != std::end(kJoint);
}

Status read_options(const Datum& options, const PassInfo& info, Diagnostics& diagnostics) {
  if (options.as_map() == nullptr) {
    return plan_error("plan-options", "must be a map of options of " + std::string(info.name),
                      options);
  }
  for (const auto& [key, value] : *options.as_map()) {
    if (!is_joint(key)) continue;
    return plan_error("plan-joint-option",
                      "'" + key + "' is about all tensors together, not about one", value,
                      "set it in the passes of the plan's recipe, or make another plan with it");
  }
  auto made = info.create(options, diagnostics);
  if (made.ok()) return ok_status();
  Error error = std::move(made).error();
  if (error.diagnostic.where.file.empty()) error.diagnostic.where.file = options.where().file;
  return error;
}

Status read_bytes(const Datum& entry, PlannedDecision& decision) {
  const Datum* bytes = entry.find("bytes");
  if (bytes == nullptr) return ok_status();
  if (const Datum::List* list = bytes->as_list()) {
    if (list->size() != 2) return plan_error("plan-bytes", "must be [before, after]", *bytes);
    MCOMPRESS_ASSIGN(decision.bytes_before, count_of((*list)[0]));
    MCOMPRESS_ASSIGN(decision.bytes_after, count_of((*list)[1]));
    return ok_status();
  }
  MCOMPRESS_ASSIGN(decision.bytes_before, count_of(*bytes));
  decision.bytes_after = decision.bytes_before;
  return ok_status();
}

struct ReadDecision {
  PlannedDecision decision;
  std::string mark;
};

Result<ReadDecision> read_decision(const Datum& entry, const PassRegistry& registry,
                                   Diagnostics& diagnostics) {
  static const std::vector<std::string> kKeys = {"tensor",  "made-of", "node", "op",
                                                 "shape",   "do",      "form", "why",
                                                 "options", "bytes",   "mark", "sqnr-db"};
  MCOMPRESS_TRY(check_keys(entry, kKeys, entry));
  ReadDecision read;
  PlannedDecision& decision = read.decision;
  MCOMPRESS_ASSIGN(decision.tensor, text_at(entry, "tensor"));
  MCOMPRESS_ASSIGN(decision.made_of, text_at(entry, "made-of"));
  MCOMPRESS_ASSIGN(decision.node, text_at(entry, "node"));
  MCOMPRESS_ASSIGN(decision.op_type, text_at(entry, "op"));
  MCOMPRESS_ASSIGN(decision.form, text_at(entry, "form"));
  MCOMPRESS_ASSIGN(decision.why, text_at(entry, "why"));
  MCOMPRESS_ASSIGN(read.mark, text_at(entry, "mark"));
  MCOMPRESS_ASSIGN(decision.sqnr_db, real_at(entry, "sqnr-db"));
  MCOMPRESS_TRY(read_bytes(entry, decision));
  decision.where.file = entry.where().file;
  decision.where.subject = decision.subject();
  if (decision.subject().empty()) {
    return plan_error("plan-no-subject", "names neither a tensor nor a node", entry);
  }
  if (const Datum* shape = entry.find("shape")) {
    if (shape->as_list() == nullptr) return plan_error("plan-shape", "must be a list", *shape);
    decision.shape.emplace();
    for (const Datum& dim : *shape->as_list()) {
      MCOMPRESS_ASSIGN(const std::uint64_t size, count_of(dim));
      decision.shape->push_back(static_cast<std::int64_t>(size));
    }
  }
  const Datum* what = entry.find("do");
  if (what == nullptr) {
    return plan_error("plan-no-decision", "'do' is missing for '" + decision.subject() + "'", entry,
                      "give keep, or the name of a pass");
  }
  MCOMPRESS_ASSIGN(const std::string pass, text_at(entry, "do"));
  const Datum* options = entry.find("options");
  if (pass == "keep") {
    if (options == nullptr || options->as_map() == nullptr || options->as_map()->empty()) {
      return read;
    }
    // Left from what stood there before.
    diagnostics.note("plan-keep-options", "options of what is kept are not looked at",
                     decision.where);
    return read;
  }
  const PassInfo* info = registry.find(pass);
  if (info == nullptr) {
    std::vector<std::string> names = {"keep"};
    for (const PassInfo* known : registry.all()) {
      if (decides_on_tensors(known->name)) names.emplace_back(known->name);
    }
    const std::string close = nearest(pass, names);
    return plan_error(
        "plan-unknown-pass", "unknown pass '" + pass + "'", *what,
        close.empty() ? "known: " + join(names, ", ") : "did you mean '" + close + "'?");
  }
  if (!decides_on_tensors(pass)) {
    return plan_error("plan-pass", pass + " decides nothing about a tensor", *what,
                      "passes that clean and fuse are chosen in the recipe");
  }
  decision.pass = pass;
  if (options != nullptr) {
    MCOMPRESS_TRY(read_options(*options, *info, diagnostics));
    // As the schema has them: 1 and 1.0 are the same number.
    const Datum printed = info->print(*options);
    for (const auto& [key, value] : *options->as_map()) {
      const Datum* checked = printed.find(key);
      Datum copy = checked != nullptr ? *checked : value;
      copy.set_where(value.where());
      decision.options.set(key, std::move(copy));
    }
  }
  return read;
}

// A tensor is kept, or a pass works on it once.
Status check_twice(const BySubject& by) {
  for (const auto& [subject, about] : by) {
    std::set<std::string> passes;
    for (const PlannedDecision* decision : about) {
      const bool again = !passes.insert(decision->pass).second && !decision->keep();
      if (!again && (passes.size() == 1 || passes.count("") == 0)) continue;
      return Error(Code::kUsage, "plan-decided-twice",
                   again ? "is decided twice by " + decision->pass : "is kept and compressed",
                   decision->where, "one line for each pass that works on it, or one with keep");
    }
  }
  return ok_status();
}

}  // namespace

bool is_plan(const Datum& datum) {
  return datum.as_map() != nullptr && datum.find("mcompress-plan") != nullptr;
}

bool decides_on_tensors(std::string_view pass) {
  constexpr std::string_view kFamilies[] = {"quantize-", "cast-", "factorize-", "prune-",
                                            "cluster-",  "pack-", "compress-"};
  return std::any_of(std::begin(kFamilies), std::end(kFamilies),
                     [&](std::string_view family) { return pass.starts_with(family); });
}

Datum print_plan(const Plan& plan, const PassRegistry& registry) {
  Datum datum = Datum::map();
  datum.set("mcompress-plan", Datum::integer(kPlanVersion));
  Datum model = Datum::map();
  if (!plan.model.empty()) model.set("file", Datum::string(plan.model));
  model.set("digest", Datum::string(hex_digest(plan.model_digest)));
  datum.set("model", std::move(model));
  if (!plan.data_digests.empty()) {
    Datum digests = Datum::list();
    for (const std::uint64_t digest : plan.data_digests) {
      digests.push(Datum::string(hex_digest(digest)));
    }
    datum.set("calibration", std::move(digests));
  }
  const BySubject by = by_subject(plan.decisions);
  datum.set("totals", totals_of(plan, by));
  datum.set("recipe", given_recipe(plan.recipe, registry));
  Datum list = Datum::list();
  for (const PlannedDecision& decision : plan.decisions) {
    const std::vector<const PlannedDecision*>& about = by.at(decision.subject());
    const bool planned = std::all_of(about.begin(), about.end(),
                                     [](const PlannedDecision* one) { return one->planned; });
    list.push(decision_datum(decision, planned ? mark_of(about) : std::string()));
  }
  datum.set("decisions", std::move(list));
  return datum;
}

std::string plan_text(const Plan& plan, const PassRegistry& registry, PlanText form) {
  const Datum datum = print_plan(plan, registry);
  if (form == PlanText::kJson) return print_json(datum);
  return "# What a recipe does to each tensor. Change `do` (to keep, or to another pass) and\n"
         "# `options`, then `mcompress apply THIS_FILE MODEL -o OUT`. What form, why, bytes and\n"
         "# sqnr-db say are predictions; a mark tells whether its tensor was changed: leave it.\n" +
         print_yaml(datum);
}

Result<Plan> parse_plan(const Datum& datum, const PassRegistry& registry,
                        Diagnostics& diagnostics) {
  if (!is_plan(datum)) {
    return plan_error("no-plan", "is no plan: the key 'mcompress-plan' is missing", datum,
                      "`mcompress plan RECIPE MODEL -o FILE` makes one");
  }
  MCOMPRESS_TRY(check_keys(
      datum, {"mcompress-plan", "model", "calibration", "totals", "recipe", "decisions"}, datum));
  const Datum& version = *datum.find("mcompress-plan");
  MCOMPRESS_ASSIGN(const std::uint64_t number, count_of(version));
  if (number != static_cast<std::uint64_t>(kPlanVersion)) {
    return plan_error("plan-version",
                      "plans of version " + std::to_string(number) +
                          " are not read by this program, which reads version " +
                          std::to_string(kPlanVersion),
                      version);
  }
  Plan plan;
  const Datum* model = datum.find("model");
  if (model == nullptr) return plan_error("plan-no-model", "the key 'model' is missing", datum);
  MCOMPRESS_TRY(check_keys(*model, {"file", "digest"}, *model));
  MCOMPRESS_ASSIGN(plan.model, text_at(*model, "file"));
  const Datum* digest = model->find("digest");
  if (digest == nullptr) {
    return plan_error("plan-no-model", "the digest of the model is missing", *model);
  }
  MCOMPRESS_ASSIGN(plan.model_digest, digest_of(*digest));
  if (const Datum* data = datum.find("calibration")) {
    if (data->as_list() == nullptr) return plan_error("plan-data", "must be a list", *data);
    for (const Datum& one : *data->as_list()) {
      MCOMPRESS_ASSIGN(const std::uint64_t made_with, digest_of(one));
      plan.data_digests.push_back(made_with);
    }
  }
  if (const Datum* totals = datum.find("totals")) {
    MCOMPRESS_TRY(check_keys(
        *totals, {"tensors", "compressed", "bytes-before", "bytes-after", "output-sqnr-db"},
        *totals));
    MCOMPRESS_ASSIGN(plan.bytes_before, count_at(*totals, "bytes-before"));
    MCOMPRESS_ASSIGN(plan.bytes_after, count_at(*totals, "bytes-after"));
    MCOMPRESS_ASSIGN(plan.output_sqnr_db, real_at(*totals, "output-sqnr-db"));
  }
  const Datum* recipe = datum.find("recipe");
  if (recipe == nullptr) return plan_error("plan-no-recipe", "the key 'recipe' is missing", datum);
  MCOMPRESS_ASSIGN(plan.recipe, parse_recipe(*recipe, registry, diagnostics));
  const Datum* decisions = datum.find("decisions");
  if (decisions == nullptr || decisions->as_list() == nullptr) {
    return plan_error("plan-no-decisions", "'decisions' must be a list",
                      decisions != nullptr ? *decisions : datum);
  }
  std::vector<std::string> marks;
  for (const Datum& entry : *decisions->as_list()) {
    MCOMPRESS_ASSIGN(ReadDecision read, read_decision(entry, registry, diagnostics));
    plan.decisions.push_back(std::move(read.decision));
    marks.push_back(std::move(read.mark));
  }
  const BySubject by = by_subject(plan.decisions);
  MCOMPRESS_TRY(check_twice(by));
  std::set<std::string> changed;
  for (std::size_t i = 0; i < marks.size(); ++i) {
    const std::string& subject = plan.decisions[i].subject();
    if (marks[i] != mark_of(by.at(subject))) changed.insert(subject);
  }
  for (PlannedDecision& decision : plan.decisions) {
    decision.planned = changed.count(decision.subject()) == 0;
  }
  return plan;
}

}  // namespace mcompress
