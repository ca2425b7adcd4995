// Decisions of real runs as lines of a plan, and lines held against what a run did.
#include "mcompress/plan_check.h"

#include <gtest/gtest.h>

#include "support/json.h"
#include "support/models.h"
#include "support/pass_fixture.h"
#include "support/yaml.h"

namespace mcompress::testing {
namespace {

struct Ran {
  Recipe recipe;
  Explain explain;
  PlanSubjects subjects;
  Plan plan;
};

// A weight of 32 x 64, one of 64 x 10 whose name holds a glob, a bias.
std::unique_ptr<Model> network() {
  return model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> net (float[N,32] x) => (float[N,10] y) <" +
      weights("first", {32, 64}) + ", " + weights("bias", {64}) + ", " + weights("last", {64, 10}) +
      "> { m = MatMul(x, first) s = Add(m, bias) r = Relu(s) y = MatMul(r, last) }");
}

Recipe recipe_from(std::string_view passes) {
  Diagnostics diagnostics;
  return parse_recipe(parse_yaml("{passes: " + std::string(passes) + "}", "r").value(),
                      builtin_passes(), diagnostics)
      .value();
}

Ran run(const Recipe& recipe) {
  Ran ran;
  ran.recipe = recipe;
  const auto model = network();
  Diagnostics diagnostics;
  Services services;
  services.diagnostics = &diagnostics;
  auto subjects = PlanSubjects::find(*model, recipe, services);
  EXPECT_TRUE(subjects.ok());
  ran.subjects = std::move(*subjects);
  Report report;
  const auto copy = model->clone();
  const Status status =
      run_pipeline(*copy, recipe, builtin_passes(), services, {}, ran.explain, report);
  EXPECT_TRUE(status.ok());
  ran.plan.recipe = recipe;
  ran.plan.decisions = planned_decisions(ran.explain, recipe, builtin_passes(), ran.subjects);
  return ran;
}

const PlannedDecision* line(const Plan& plan, std::string_view tensor) {
  for (const PlannedDecision& one : plan.decisions) {
    if (one.tensor == tensor) return &one;
  }
  return nullptr;
}

PlannedDecision* line(Plan& plan, std::string_view tensor) {
  return const_cast<PlannedDecision*>(line(std::as_const(plan), tensor));
}

// Runs what the plan asks for and holds the plan against it.
std::string verdict(const Plan& plan) {
  const Ran before = run(plan.recipe);
  const Status known = check_subjects(plan, before.subjects);
  if (!known.ok()) return to_string(known.error().diagnostic);
  const auto recipe = recipe_of(plan, builtin_passes(), [&](const PlannedDecision& one) {
    return before.subjects.pattern_of(one);
  });
  if (!recipe.ok()) return to_string(recipe.error().diagnostic);
  const Ran after = run(*recipe);
  const Status held =
      check_decisions(plan, after.explain, *recipe, builtin_passes(), after.subjects);
  if (held.ok()) return "holds";
  EXPECT_EQ(held.error().code, Code::kUnsupported);
  return to_string(held.error().diagnostic);
}

constexpr std::string_view kClusters =
    "[lift-constants, {pass: cluster-weights, min-elements: 100, bits: 3}, eliminate-dead]";

TEST(PlanCheck, ARunBecomesLinesInGraphOrder) {
  const Ran ran = run(recipe_from(kClusters));
  ASSERT_EQ(ran.plan.decisions.size(), 3U);
  const PlannedDecision& first = ran.plan.decisions[0];
  EXPECT_EQ(first.tensor, "first");
  EXPECT_EQ(first.node, "MatMul node that makes 'm'");
  EXPECT_EQ(first.op_type, "MatMul");
  EXPECT_EQ(first.shape, (std::vector<std::int64_t>{32, 64}));
  EXPECT_EQ(first.pass, "cluster-weights");
  EXPECT_EQ(print_json_line(first.options), "{\"bits\": 3}");
  EXPECT_EQ(first.bytes_before, 32U * 64 * 4);
  EXPECT_GT(first.bytes_after, 0U);
  EXPECT_TRUE(first.sqnr_db);
  EXPECT_TRUE(ran.plan.decisions[1].keep());
  EXPECT_EQ(ran.plan.decisions[1].tensor, "bias");
  EXPECT_NE(ran.plan.decisions[1].why, "");
  EXPECT_EQ(ran.plan.decisions[2].tensor, "last");
  EXPECT_EQ(verdict(ran.plan), "holds");
}

TEST(PlanCheck, ChangesHoldForTheirTensorAlone) {
  Plan plan = run(recipe_from(kClusters)).plan;
  line(plan, "first")->options.set("bits", Datum::integer(2));
  line(plan, "first")->planned = false;
  line(plan, "last")->pass.clear();
  line(plan, "last")->planned = false;
  EXPECT_EQ(verdict(plan), "holds");
  line(plan, "last")->pass = "quantize-weights";
  line(plan, "last")->options = Datum::map();
  EXPECT_EQ(verdict(plan), "holds");
  line(plan, "last")->options.set("scheme", Datum::string("affine"));
  EXPECT_EQ(verdict(plan), "holds");
}

TEST(PlanCheck, WhatCanNotHoldIsNamedWithTheReasonOfThePass) {
  Plan plan = run(recipe_from(kClusters)).plan;
  PlannedDecision* bias = line(plan, "bias");
  bias->pass = "cluster-weights";
  bias->planned = false;
  bias->where = {"p.yaml:9:5", {}, "bias"};
  const std::string text = verdict(plan);
  EXPECT_EQ(text.find("p.yaml:9:5: bias: cluster-weights leaves it: "), 0U) << text;
  bias->pass.clear();
  bias->planned = true;
  // Nothing of the plan is about a tensor that the recipe compresses.
  std::erase_if(plan.decisions, [](const PlannedDecision& one) { return one.tensor == "last"; });
  EXPECT_NE(verdict(plan).find("last: no line is about it, and cluster-weights would make it"),
            std::string::npos);
}

TEST(PlanCheck, DecisionsOfTheRunAreComparedWithThoseAskedFor) {
  const Ran ran = run(recipe_from(kClusters));
  const auto held = [&](const Plan& plan) {
    const Status status =
        check_decisions(plan, ran.explain, ran.recipe, builtin_passes(), ran.subjects);
    return status.ok() ? std::string("holds") : to_string(status.error().diagnostic);
  };
  EXPECT_EQ(held(ran.plan), "holds");
  Plan plan = ran.plan;
  line(plan, "first")->pass.clear();
  EXPECT_NE(held(plan).find("can not be kept: cluster-weights made it 8 clusters"),
            std::string::npos);
  plan = ran.plan;
  line(plan, "first")->options = Datum::map();
  line(plan, "first")->options.set("clusters", Datum::integer(5));
  EXPECT_NE(held(plan).find("5 clusters are asked for, 8 clusters"), std::string::npos);
  // A tensor of fewer numbers needs no more clusters.
  line(plan, "first")->options.set("clusters", Datum::integer(12));
  EXPECT_EQ(held(plan), "holds");
}

TEST(PlanCheck, UnknownTensorsAreRefusedWithTheNearestName) {
  Plan plan = run(recipe_from(kClusters)).plan;
  PlannedDecision* first = line(plan, "first");
  first->tensor = "frist";
  first->planned = false;
  first->where.file = "p.yaml:7:5";
  EXPECT_EQ(verdict(plan), "p.yaml:7:5: the model has no tensor 'frist' (did you mean 'first'?)");
}

TEST(PlanCheck, OptionsAreReadOffWhatPassesSay) {
  const auto options = [](std::string_view passes) {
    const Ran ran = run(recipe_from(passes));
    const PlannedDecision* first = line(ran.plan, "first");
    return first == nullptr ? std::string("none") : first->pass + print_json_line(first->options);
  };
  EXPECT_EQ(options("[{pass: cluster-weights, clusters: 11, min-elements: 100}]"),
            "cluster-weights{\"clusters\": 11}");
  EXPECT_EQ(options("[{pass: quantize-weights, scheme: affine}]"),
            "quantize-weights{\"scheme\": \"affine\"}");
  EXPECT_EQ(options("[{pass: quantize-blocks, weights: int4, block-size: 16, block-form: fold}]"),
            "quantize-blocks{\"weights\": \"int4\", \"block-size\": 16, \"weight-method\": "
            "\"rtn\"}");
  EXPECT_EQ(options("[{pass: cast-float16, form: storage}]"),
            "cast-float16{\"weights\": \"float16\", \"form\": \"storage\"}");
  EXPECT_EQ(options("[{pass: prune-weights, sparsity: 0.25, method: magnitude, scope: layer, "
                    "ends: true, storage: dense}]"),
            "prune-weights{\"sparsity\": 0.25, \"method\": \"magnitude\", \"storage\": "
            "\"dense\"}");
  EXPECT_EQ(options("[{pass: prune-weights, pattern: '2:4', method: magnitude, ends: true, "
                    "storage: dense}]"),
            "prune-weights{\"pattern\": \"2:4\", \"method\": \"magnitude\", \"storage\": "
            "\"dense\"}");
}

}  // namespace
}  // namespace mcompress::testing
