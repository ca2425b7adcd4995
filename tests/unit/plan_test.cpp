// Plans as data: what is printed, what is refused and where, and the recipes they become.
#include "mcompress/plan.h"

#include <gtest/gtest.h>

#include "support/json.h"
#include "support/text.h"
#include "support/yaml.h"

namespace mcompress {
namespace {

PlannedDecision decision(std::string tensor, std::string pass, Datum options = Datum::map()) {
  PlannedDecision made;
  made.tensor = std::move(tensor);
  made.node = "node of " + made.tensor;
  made.op_type = "Gemm";
  made.shape = {30, 784};
  made.pass = std::move(pass);
  made.options = std::move(options);
  made.bytes_before = 94080;
  made.bytes_after = made.keep() ? 94080 : 11760;
  if (made.keep()) made.why = "has 1000 elements, below 4096";
  if (!made.keep()) made.form = "16 clusters, k-means";
  if (!made.keep()) made.sqnr_db = 18.8;
  made.planned = true;
  return made;
}

Datum option(std::string_view name, Datum value) {
  Datum options = Datum::map();
  options.set(name, std::move(value));
  return options;
}

Recipe recipe_from(std::string_view passes) {
  Diagnostics diagnostics;
  const std::string text = "{name: small, converge: true, passes: " + std::string(passes) + "}";
  return parse_recipe(parse_yaml(text, "r").value(), builtin_passes(), diagnostics).value();
}

Plan three() {
  Plan plan;
  plan.model = "net.onnx";
  plan.model_digest = 0x0123456789abcdef;
  plan.data_digests = {0x1111111111111111};
  plan.recipe = recipe_from("[fold-constants, {pass: cluster-weights, bits: 4}, eliminate-dead]");
  plan.bytes_before = 400000;
  plan.bytes_after = 50000;
  plan.output_sqnr_db = 31.5;
  plan.decisions = {decision("a", "cluster-weights", option("bits", Datum::integer(4))),
                    decision("b[0]", "cluster-weights", option("bits", Datum::integer(4))),
                    decision("123", "")};
  return plan;
}

std::string text_of(const Plan& plan) { return print_yaml(print_plan(plan, builtin_passes())); }

Result<Plan> read(std::string_view text) {
  Diagnostics diagnostics;
  return parse_plan(parse_yaml(text, "p.yaml").value(), builtin_passes(), diagnostics);
}

Plan edited(const Plan& plan, const std::vector<std::pair<std::string, std::string>>& edits) {
  std::string text = text_of(plan);
  for (const auto& [from, to] : edits) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
  auto parsed = read(text);
  EXPECT_TRUE(parsed.ok()) << to_string(parsed.error().diagnostic) << '\n' << text;
  return std::move(*parsed);
}

std::string complaint(const Plan& plan,
                      const std::vector<std::pair<std::string, std::string>>& edits) {
  std::string text = text_of(plan);
  for (const auto& [from, to] : edits) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
  auto parsed = read(text);
  if (parsed.ok()) return "no error";
  EXPECT_EQ(parsed.error().code, Code::kUsage);
  return to_string(parsed.error().diagnostic);
}

// Compressing steps on one line each: pass, then options as JSON.
std::string steps_of(const Result<Recipe>& recipe) {
  if (!recipe.ok()) return to_string(recipe.error().diagnostic);
  std::string text;
  for (const RecipeStep& step : recipe->steps) {
    text += step.pass + " " + print_json_line(step.options) + "\n";
  }
  return text;
}

TEST(Plan, PrintsReadsAndPrintsTheSame) {
  const std::string text = text_of(three());
  EXPECT_EQ(text, R"(mcompress-plan: 1
model: {file: net.onnx, digest: 0123456789abcdef}
calibration: ["1111111111111111"]
totals:
  tensors: 3
  compressed: 2
  bytes-before: 400000
  bytes-after: 50000
  output-sqnr-db: 31.5
recipe:
  name: small
  target: onnxruntime-cpu
  seed: 0
  converge: true
  passes:
    - fold-constants
    - {pass: cluster-weights, bits: 4}
    - eliminate-dead
decisions:
  - tensor: a
    node: node of a
    op: Gemm
    shape: [30, 784]
    do: cluster-weights
    options: {bits: 4}
    form: "16 clusters, k-means"
    bytes: [94080, 11760]
    sqnr-db: 18.8
    mark: )" + text.substr(text.find("mark: ") + 6, 8) +
                      text.substr(text.find("mark: ") + 14));
  const auto again = read(text);
  ASSERT_TRUE(again.ok()) << to_string(again.error().diagnostic);
  EXPECT_EQ(text_of(*again), text);
  EXPECT_TRUE(again->decisions[2].planned);
  EXPECT_EQ(again->decisions[2].tensor, "123");
  EXPECT_EQ(again->decisions[0].where.file.substr(0, 7), "p.yaml:");
  const auto with_notes = read(plan_text(three(), builtin_passes(), PlanText::kYaml));
  ASSERT_TRUE(with_notes.ok());
  EXPECT_EQ(text_of(*with_notes), text);
  // JSON holds the same.
  const Datum json = print_plan(three(), builtin_passes());
  Diagnostics diagnostics;
  const auto from_json =
      parse_plan(parse_json(print_json(json), "p.json").value(), builtin_passes(), diagnostics);
  ASSERT_TRUE(from_json.ok());
  EXPECT_EQ(text_of(*from_json), text);
}

TEST(Plan, MarksTellWhatWasChanged) {
  const Plan same = edited(three(), {{"bytes: [94080, 11760]", "bytes: [94080, 999]"}});
  for (const PlannedDecision& one : same.decisions) EXPECT_TRUE(one.planned);  // a prediction
  const Plan bits = edited(three(), {{"options: {bits: 4}", "options: {bits: 3}"}});
  EXPECT_FALSE(bits.decisions[0].planned);
  EXPECT_TRUE(bits.decisions[1].planned);
  EXPECT_FALSE(edited(three(), {{"do: cluster-weights", "do: keep"}}).decisions[0].planned);
  // One of two decisions about a tensor is taken away.
  Plan two = three();
  two.decisions.insert(two.decisions.begin(), decision("a", "prune-weights"));
  const std::string text = text_of(two);
  const std::size_t start = text.find("  - tensor: a\n"),
                    end = text.find("  - tensor: a\n", start + 1);
  const auto fewer = read(text.substr(0, start) + text.substr(end));
  ASSERT_TRUE(fewer.ok());
  EXPECT_FALSE(fewer->decisions[0].planned);
  EXPECT_TRUE(fewer->decisions[1].planned);
}

TEST(Plan, NamesTheLineOfEveryMistake) {
  const Plan plan = three();
  EXPECT_EQ(complaint(plan, {{"node: node of a", "nod: x"}}),
            "p.yaml:21:10: decisions[0].nod: unknown key 'nod' (did you mean 'node'?)");
  EXPECT_EQ(complaint(plan, {{"do: cluster-weights", "do: cluster-weight"}}),
            "p.yaml:24:9: decisions[0].do: unknown pass 'cluster-weight' (did you mean "
            "'cluster-weights'?)");
  EXPECT_EQ(complaint(plan, {{"do: cluster-weights", "do: fold-constants"}}),
            "p.yaml:24:9: decisions[0].do: fold-constants decides nothing about a tensor (passes "
            "that clean and fuse are chosen in the recipe)");
  const std::string range = complaint(plan, {{"options: {bits: 4}", "options: {bits: 9}"}});
  EXPECT_NE(range.find("p.yaml:25:21"), std::string::npos) << range;
  EXPECT_NE(range.find("bits"), std::string::npos) << range;
  const std::string unknown = complaint(plan, {{"options: {bits: 4}", "options: {bit: 3}"}});
  EXPECT_NE(unknown.find("did you mean 'bits'?"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("p.yaml:25:"), std::string::npos) << unknown;
  const std::string joint = complaint(plan, {{"options: {bits: 4}", "options: {max-bytes: 5}"}});
  EXPECT_NE(joint.find("p.yaml:25:26"), std::string::npos) << joint;
  EXPECT_NE(joint.find("about all tensors together"), std::string::npos) << joint;
  EXPECT_NE(complaint(plan, {{"    do: cluster-weights\n", ""}}).find("p.yaml:20:5"),
            std::string::npos);
  EXPECT_NE(complaint(plan, {{"tensor: \"b[0]\"", "tensor: a"}}).find("decided twice by cluster"),
            std::string::npos);
  EXPECT_NE(complaint(plan, {{"tensor: \"123\"", "tensor: a"}}).find("is kept and compressed"),
            std::string::npos);
  EXPECT_NE(complaint(plan, {{"mcompress-plan: 1", "mcompress-plan: 2"}}).find("p.yaml:1:17"),
            std::string::npos);
  EXPECT_NE(complaint(plan, {{"0123456789abcdef", "0123"}}).find("p.yaml:2:"), std::string::npos);
  EXPECT_NE(complaint(plan, {{"- fold-constants", "- fold-constant"}}).find("p.yaml:16:7"),
            std::string::npos);
  EXPECT_NE(complaint(plan, {{"shape: [30, 784]", "shape: [30, -1]"}}).find("p.yaml:23:17"),
            std::string::npos);
  EXPECT_NE(complaint(plan, {{"mcompress-plan: 1\n", ""}}).find("is no plan"), std::string::npos);
}

TEST(Plan, UnchangedIsTheRecipe) {
  const Plan plan = edited(three(), {});
  const auto recipe = recipe_of(plan, builtin_passes());
  ASSERT_TRUE(recipe.ok());
  EXPECT_EQ(recipe_digest(*recipe, builtin_passes()),
            recipe_digest(three().recipe, builtin_passes()));
}

TEST(Plan, KeptTensorsAreExcludedByTheirLiteralName) {
  Plan plan = three();
  plan.decisions[1].pass.clear();
  plan.decisions[1].planned = false;
  EXPECT_EQ(steps_of(recipe_of(plan, builtin_passes())),
            "fold-constants {}\n"
            "cluster-weights {\"bits\": 4, \"exclude\": [\"b[[]0]\"]}\n"
            "eliminate-dead {}\n");
}

TEST(Plan, OtherOptionsAndPassesGetStepsOfTheirOwn) {
  Plan plan = three();
  plan.decisions[0].options = option("bits", Datum::integer(2));
  plan.decisions[0].planned = false;
  plan.decisions[2].pass = "quantize-weights";
  plan.decisions[2].planned = false;
  EXPECT_EQ(steps_of(recipe_of(plan, builtin_passes())),
            "fold-constants {}\n"
            "cluster-weights {\"bits\": 4, \"exclude\": [\"a\", \"123\"]}\n"
            "cluster-weights {\"bits\": 2, \"include\": [\"a\"]}\n"
            "quantize-weights {\"include\": [\"123\"]}\n"
            "eliminate-dead {}\n");
  // A pass that belongs in front of those that are there.
  plan.decisions[2].pass = "prune-weights";
  plan.decisions[2].options = option("sparsity", Datum::real(0.5));
  EXPECT_EQ(steps_of(recipe_of(plan, builtin_passes())).substr(0, 114),
            "fold-constants {}\n"
            "prune-weights {\"scope\": \"layer\", \"sparsity\": 0.5, \"include\": [\"123\"]}\n"
            "cluster-weights {\"bits\": 4");
}

TEST(Plan, BudgetsGiveWayToWhatWasDecidedWithinThem) {
  Plan plan = three();
  plan.recipe = recipe_from("[{pass: cluster-weights, avg-bits: 3}, quantize-weights]");
  plan.decisions[0].options = option("clusters", Datum::integer(12));
  plan.decisions[1].options = option("bits", Datum::integer(2));
  plan.decisions[2] = decision("c", "quantize-weights", option("scheme", Datum::string("affine")));
  plan.decisions[1].planned = false;
  EXPECT_EQ(steps_of(recipe_of(plan, builtin_passes())),
            "cluster-weights {\"avg-bits\": 0.0, \"clusters\": 12, \"include\": [\"a\"]}\n"
            "cluster-weights {\"avg-bits\": 0.0, \"bits\": 2, \"include\": [\"b[[]0]\"]}\n"
            "quantize-weights {\"exclude\": [\"a\", \"b[[]0]\"]}\n");
}

TEST(Plan, WhatWorksOnTheWholeGraphHasNoOptionsOfOneTensor) {
  Plan plan = three();
  plan.recipe = recipe_from("[lift-constants, quantize-static, quantize-weights]");
  for (PlannedDecision& one : plan.decisions) {
    one.pass = "quantize-static";
    one.options = Datum::map();
  }
  plan.decisions[0].pass.clear();
  plan.decisions[0].planned = false;
  EXPECT_EQ(steps_of(recipe_of(plan, builtin_passes())),
            "lift-constants {}\n"
            "quantize-static {\"guard-sqnr\": 0.0, \"exclude\": [\"a\"]}\n"
            "quantize-weights {\"exclude\": [\"a\", \"b[[]0]\", \"123\"]}\n");
  plan.decisions[1].options = option("weight-bits", Datum::integer(7));
  plan.decisions[1].planned = false;
  plan.decisions[1].where.file = "p.yaml:9:3";
  plan.decisions[1].where.subject = "b[0]";
  const auto refused = recipe_of(plan, builtin_passes());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_NE(to_string(refused.error().diagnostic).find("p.yaml:9:3: b[0]: quantize-static works"),
            std::string::npos);
}

TEST(Plan, WhatAPassMadeOfAChangedTensorIsDroppedWithIt) {
  Plan plan = three();
  plan.recipe = recipe_from("[cluster-weights, pack-weights]");
  plan.decisions[2] = decision("a_codebook", "pack-weights");
  plan.decisions[2].made_of = "a";
  plan.decisions[0].pass.clear();
  plan.decisions[0].planned = false;
  EXPECT_EQ(steps_of(recipe_of(plan, builtin_passes())),
            "cluster-weights {\"exclude\": [\"a\"]}\n"
            "pack-weights {\"exclude\": [\"a\"]}\n");
}

}  // namespace
}  // namespace mcompress
