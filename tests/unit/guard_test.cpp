// The numeric guard: what passes must not change, found by running both states.
#include "pass/guard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "mcompress/io.h"
#include "mcompress/pipeline.h"
#include "pass/changes.h"
#include "support/json.h"
#include "support/models.h"
#include "support/pass_fixture.h"
#include "support/sessions.h"

namespace mcompress {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor floats(const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return make_bytes_tensor(DataType::kFloat, {static_cast<std::int64_t>(values.size())},
                           std::move(bytes));
}

std::string difference(const std::vector<float>& expected, const std::vector<float>& actual,
                       double tolerance = 1e-4) {
  const std::int64_t dims[] = {static_cast<std::int64_t>(actual.size())};
  return difference_between(floats(expected),
                            {DataType::kFloat, dims, std::as_bytes(std::span(actual))}, tolerance)
      .value();
}

TEST(Difference, IsAShareOfTheLargestMagnitude) {
  EXPECT_EQ(difference({100, 0}, {100.009f, 0.009f}), "");
  EXPECT_EQ(difference({100, 0}, {100, 0.02f}),
            "0.02 instead of 0 at element 1, where the largest is 100");
  EXPECT_EQ(difference({1, 0}, {1, 0.009f}, 1e-2), "");
  EXPECT_NE(difference({0, 0}, {0, 1e-6f}), "");
}

TEST(Difference, NonFiniteValuesMustBeTheSame) {
  EXPECT_EQ(difference({kNan, kInfinity, -kInfinity}, {kNan, kInfinity, -kInfinity}), "");
  EXPECT_NE(difference({kNan}, {0}), "");
  EXPECT_NE(difference({0}, {kNan}), "");
  EXPECT_NE(difference({kInfinity}, {-kInfinity}), "");
  EXPECT_NE(difference({1e30f}, {kInfinity}), "");
}

TEST(Difference, ShapesAndTypesCount) {
  EXPECT_EQ(difference({1, 2}, {1}), "the shape [1] instead of [2]");
  const std::int64_t dims[] = {1};
  const double value = 1;
  EXPECT_EQ(difference_between(
                floats({1}),
                {DataType::kDouble, dims, std::as_bytes(std::span<const double>(&value, 1))}, 1)
                .value(),
            "float64 instead of float32");
}

// ----------------------------------------------------------------------------- in the pipeline

using Work = std::function<void(Model&, PassContext&)>;

class Scripted final : public Pass {
 public:
  explicit Scripted(Work work) : work_(std::move(work)) {}
  Status run(Model& model, PassContext& context) override {
    work_(model, context);
    return ok_status();
  }

 private:
  Work work_;
};

class GuardTest : public ::testing::Test {
 protected:
  void add(std::string_view name, Work work, bool keeps_results = true) {
    PassInfo info;
    info.name = name;
    info.summary = "a pass of this test";
    info.keeps_results = keeps_results;
    info.create = [work = std::move(work)](const Datum&,
                                           Diagnostics&) -> Result<std::unique_ptr<Pass>> {
      return std::unique_ptr<Pass>(std::make_unique<Scripted>(work));
    };
    info.print = [](const Datum& options) { return options; };
    ASSERT_TRUE(registry.add(std::move(info)).ok());
  }
  static void note(PassContext& context, std::string_view subject) {
    Decision decision;
    decision.subject = subject;
    decision.what = "edited";
    context.explain().chose(std::move(decision));
  }
  // Replaces `value`'s first element by `to`, once.
  void add_weight_change(std::string_view name, std::string_view weight, float to,
                         bool keeps_results = true) {
    add(
        name,
        [weight, to](Model& model, PassContext& context) {
          Value& value = *model.graph().find(weight);
          std::vector<float> numbers = read_floats(*value.initializer()).value();
          if (numbers[0] == to) return;
          numbers[0] = to;
          context.edit().set_constant(value, floats(numbers));
          note(context, weight);
        },
        keeps_results);
  }
  // Neg of Neg is nothing.
  void add_right_one(std::string_view name) {
    add(name, [](Model& model, PassContext& context) {
      Value* result = model.graph().find("twice");
      if (result == nullptr || result->uses().empty()) return;
      ASSERT_TRUE(context.edit().replace_all(*result, *model.graph().find("sum")).ok());
      note(context, "twice");
    });
  }

  void execute(std::vector<std::string> passes, GuardMode mode, bool converge = true) {
    Recipe recipe;
    recipe.converge = converge;
    for (std::string& pass : passes) recipe.steps.push_back({std::move(pass), Datum::map()});
    Services services;
    services.diagnostics = &diagnostics;
    services.runtime = runtime;
    PipelineOptions options;
    options.guard = mode;
    const Status status =
        run_pipeline(*model, recipe, registry, services, options, explain, report);
    ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  }
  float weight(std::string_view name) const {
    return read_floats(*model->graph().find(name)->initializer()).value()[0];
  }
  std::string guard_facts() const {
    const Datum facts = report.root().facts();
    const Datum* guard = facts.find("guard");
    return guard != nullptr ? print_json_line(*guard) : "none";
  }
  std::int64_t warnings() const {
    return std::ranges::count_if(diagnostics.all(),
                                 [](const Diagnostic& entry) { return entry.id == "pass-undone"; });
  }

  std::unique_ptr<Model> model = testing::model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 17]>
      g (float[n,2] x, int64[1] k) => (float[n,2] y, int64[1] z)
      <float[2] w = {1, 2}, float[2] v = {3, 4}> {
        sum = Add(x, w)
        once = Neg(sum)
        twice = Neg(once)
        scaled = Mul(twice, v)
        y = Tanh(scaled)
        z = Add(k, k)
      })");
  std::shared_ptr<testing::CountingRuntime> runtime = std::make_shared<testing::CountingRuntime>();
  PassRegistry registry;
  Diagnostics diagnostics;
  Explain explain;
  Report report;
};

class GuardModes : public GuardTest, public ::testing::WithParamInterface<GuardMode> {};

TEST_P(GuardModes, APassThatChangesResultsIsUndoneAndNamedAndTheOthersGoOn) {
  add_right_one("a-right");
  add_weight_change("b-wrong", "v", 3.5f);
  add_weight_change("c-tiny", "w", 1.00001f);
  execute({"a-right", "b-wrong", "c-tiny"}, GetParam());
  EXPECT_EQ(weight("v"), 3);
  EXPECT_EQ(weight("w"), 1.00001f);
  EXPECT_TRUE(model->graph().find("twice")->uses().empty());
  EXPECT_EQ(warnings(), 1);
  ASSERT_EQ(explain.all().size(), 3u);
  for (const Decision& decision : explain.all()) {
    EXPECT_EQ(decision.applied, decision.pass != "b-wrong") << decision.subject;
    if (decision.applied) continue;
    EXPECT_TRUE(decision.why.starts_with("undone: it changed what the model computes: '"))
        << decision.why;
  }
  EXPECT_NE(guard_facts().find(R"("undone": ["b-wrong"])"), std::string::npos) << guard_facts();
  EXPECT_TRUE(verify(*model).ok());
}

TEST_P(GuardModes, WhatHoldsIsKept) {
  add_right_one("right");
  execute({"right"}, GetParam());
  EXPECT_TRUE(model->graph().find("twice")->uses().empty());
  EXPECT_NE(guard_facts().find(R"("sites": 1, "checked": 1, "undone": [])"), std::string::npos)
      << guard_facts();
  EXPECT_TRUE(diagnostics.all().empty());
}

TEST_P(GuardModes, StepsThatRunOnceAreGuardedToo) {
  add_weight_change("wrong", "v", 3.5f);
  add_weight_change("tiny", "w", 1.00001f);
  execute({"wrong", "tiny"}, GetParam(), false);
  EXPECT_EQ(weight("v"), 3);
  EXPECT_EQ(weight("w"), 1.00001f);
}

// The runtime rounds the bias to multiples of 0.1 for its integer kernel, as the pass does: several
// codes away from what the graph gives as it is written, and no error. A wrong code is one.
TEST_P(GuardModes, CodesAreComparedAsTheRuntimeComputesThem) {
  model = testing::model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 13]>
      g (float[1,2,3,3] x) => (float[1,2,3,3] y)
      <float s = {0.02}, uint8 o = {128}, float sw = {5}, int8 wz = {0}, int8[2,2,1,1] w =
       {1,-2,3,4}, float[2] b = {0.04,-0.03}, float t = {0.01}> {
        xq = QuantizeLinear(x, s, o)
        xd = DequantizeLinear(xq, s, o)
        wd = DequantizeLinear(w, sw, wz)
        r = Conv(xd, wd, b)
        q = QuantizeLinear(r, t, o)
        y = DequantizeLinear(q, t, o)
      })");
  ASSERT_TRUE(registry.add(*builtin_passes().find("fuse-quantized")).ok());
  add("wrong", [](Model& changed, PassContext& context) {
    Value* bias = changed.graph().find("b_codes");
    ASSERT_NE(bias, nullptr);
    context.edit().set_constant(
        *bias, make_bytes_tensor(DataType::kInt32, {2}, std::vector<std::byte>(8, std::byte{1})));
    note(context, "b_codes");
  });
  Recipe recipe;
  Datum allowed = Datum::map();
  allowed.set("allow-contrib", Datum::boolean(true));
  recipe.steps = {{"fuse-quantized", allowed}, {"wrong", Datum::map()}};
  Services services;
  services.diagnostics = &diagnostics;
  services.runtime = find_runtime("onnxruntime").value();
  PipelineOptions options;
  options.guard = GetParam();
  const Status status = run_pipeline(*model, recipe, registry, services, options, explain, report);
  ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  EXPECT_EQ(testing::count_nodes(*model, "QLinearConv"), 1);
  EXPECT_EQ(read_ints(*model->graph().find("b_codes")->initializer()).value(),
            (std::vector<std::int64_t>{0, 0}));
  EXPECT_NE(guard_facts().find(R"("undone": ["wrong"])"), std::string::npos) << guard_facts();
  EXPECT_EQ(warnings(), 1);
}

TEST_P(GuardModes, PassesMeantToChangeResultsAreLeftAlone) {
  add_weight_change("lossy", "v", 3.5f, false);
  add_right_one("right");
  execute({"lossy", "right"}, GetParam());
  EXPECT_EQ(weight("v"), 3.5f);
  EXPECT_TRUE(model->graph().find("twice")->uses().empty());
  EXPECT_EQ(warnings(), 0);
}

TEST_P(GuardModes, AGraphThatDoesNotRunAnyMoreIsUndone) {
  // The shapes do not fit any more, which only shows when it is run.
  add("wrong", [](Model& edited, PassContext& context) {
    if (edited.graph().find("v")->constant()->elements() == 3) return;
    context.edit().set_constant(*edited.graph().find("v"), floats({1, 2, 3}));
    note(context, "v");
  });
  execute({"wrong"}, GetParam());
  EXPECT_EQ(weight("v"), 3);
  EXPECT_EQ(warnings(), 1);
}

INSTANTIATE_TEST_SUITE_P(Modes, GuardModes,
                         ::testing::Values(GuardMode::kSite, GuardMode::kModel, GuardMode::kAuto),
                         [](const auto& info) {
                           return std::string(info.param == GuardMode::kSite    ? "Site"
                                              : info.param == GuardMode::kModel ? "Model"
                                                                                : "Auto");
                         });

TEST_F(GuardTest, WhatTheRuntimeRefusesIsUndoneWhereNothingCanBeRun) {
  // No made-up shape has the number of elements of x.
  model = testing::model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 17]>
      g (float[7,11] x, int64[2] s) => (float[a,b] y) {
        t = Transpose<perm=[1,0]>(x)
        y = Reshape(t, s)
      })");
  add("wrong", [](Model& edited, PassContext& context) {
    Node& node = *edited.graph().first();
    if (node.ints_attribute("perm") == std::vector<std::int64_t>{0, 0}) return;
    context.edit().set_attribute(node, attribute("perm", std::vector<std::int64_t>{0, 0}));
    note(context, "t");
  });
  execute({"wrong"}, GuardMode::kModel);
  EXPECT_EQ(model->graph().first()->ints_attribute("perm"), (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(warnings(), 1);
}

TEST_F(GuardTest, OffMeansOff) {
  add_weight_change("wrong", "v", 3.5f);
  execute({"wrong"}, GuardMode::kOff);
  EXPECT_EQ(weight("v"), 3.5f);
  EXPECT_EQ(guard_facts(), "none");
}

TEST_F(GuardTest, ModelsAreOpenedWhereSomethingHasChanged) {
  add("idle", [](Model&, PassContext&) {});
  add_right_one("right");
  execute({"idle"}, GuardMode::kModel);
  EXPECT_EQ(runtime->opened, 0);
  execute({"idle", "right"}, GuardMode::kModel);
  EXPECT_EQ(runtime->opened, 2);  // before and after
}

// With the fusions of the runtime only what differs as it is written.
TEST_F(GuardTest, QuantizedModelsThatAgreeAreNotOpenedAgain) {
  model = testing::model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 13]>
      g (float[2] x) => (float[2] y)
      <float s = {0.02}, uint8 o = {128}, float[2] w = {1, 2}> {
        q = QuantizeLinear(x, s, o)
        sum = DequantizeLinear(q, s, o)
        once = Neg(sum)
        twice = Neg(once)
        y = Mul(twice, w)
      })");
  add_right_one("right");
  execute({"right"}, GuardMode::kModel);
  EXPECT_NE(guard_facts().find(R"("checked": 1, "undone": [])"), std::string::npos);
  EXPECT_EQ(runtime->opened, 2);
}

TEST_F(GuardTest, RandomNumbersCanNotBeCompared) {
  model = testing::model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 17]>
      g (float[2] x) => (float[2] y) <float[2] v = {3, 4}> {
        noise = RandomNormalLike(x)
        y = Mul(noise, v)
      })");
  add_weight_change("wrong", "v", 3.5f);
  execute({"wrong"}, GuardMode::kModel);
  EXPECT_EQ(weight("v"), 3.5f);
  ASSERT_EQ(diagnostics.all().size(), 1u);
  EXPECT_EQ(diagnostics.all()[0].message,
            "1 of 1 changes were not checked by running them: the model draws random numbers");
}

// --------------------------------------------------------------------------------- what changed

struct Edited {
  std::unique_ptr<Model> before, after;
};

Edited edited(std::string_view text, const std::function<void(Model&, Editor&)>& edit) {
  Edited result;
  result.after = testing::model_from_text(text);
  result.before = result.after->clone();
  Editor editor(*result.after, &onnx_catalog());
  edit(*result.after, editor);
  return result;
}

std::string names(const std::vector<const Node*>& nodes) {
  std::string text;
  for (const Node* node : nodes) text += (text.empty() ? "" : " ") + std::string(node->op_type());
  return text;
}

constexpr std::string_view kTwoSites = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
      a = Relu(x)
      b = Identity(a)
      c = Exp(b)
      d = Sin(c)
      e = Identity(d)
      f = Cos(e)
      y = Mul(f, w)
    })";

TEST(Changes, EachSiteHasItsNeighboursAndItsBorder) {
  const Edited pair = edited(kTwoSites, [](Model& model, Editor& editor) {
    for (const auto& [gone, kept] : {std::pair("b", "a"), std::pair("e", "d")}) {
      Value& value = *model.graph().find(gone);
      ASSERT_TRUE(editor.replace_all(value, *model.graph().find(kept)).ok());
      ASSERT_TRUE(editor.erase(*value.producer()).ok());
    }
  });
  const Changes changes = changes_between(*pair.before, *pair.after);
  ASSERT_EQ(changes.each.size(), 2u);
  EXPECT_EQ(names(changes.each[0].before), "Identity Exp");
  EXPECT_EQ(names(changes.each[0].after), "Exp");
  EXPECT_EQ(names(changes.each[1].before), "Identity Cos");
  for (const Change& change : changes.each) {
    EXPECT_EQ(change.why_not, "");
    EXPECT_EQ(change.inputs.size(), 1u);
    EXPECT_EQ(change.outputs.size(), 1u);
  }
  EXPECT_EQ(names(changes.all.before), "Identity Exp Identity Cos");
  EXPECT_EQ(changes.all.inputs.size(), 2u);
}

TEST(Changes, AnEqualModelHasNone) {
  const Edited pair = edited(kTwoSites, [](Model&, Editor&) {});
  EXPECT_TRUE(changes_between(*pair.before, *pair.after).each.empty());
}

TEST(Changes, NewDataOfAConstantIsAChange) {
  const Edited pair = edited(kTwoSites, [](Model& model, Editor& editor) {
    editor.set_constant(*model.graph().find("w"), floats({1, 3}));
  });
  const Changes changes = changes_between(*pair.before, *pair.after);
  ASSERT_EQ(changes.each.size(), 1u);
  EXPECT_EQ(names(changes.each[0].before), "Mul");
  EXPECT_EQ(changes.each[0].outputs.size(), 1u);
}

TEST(Changes, WhatAMergedNodeComputedIsTakenInOnBothSides) {
  const Edited pair = edited(R"(
      <ir_version: 8, opset_import: ["" : 17]>
      g (float[2] x) => (float[2] y) {
        a = Exp(x)
        b = Exp(x)
        c = Neg(a)
        y = Add(b, c)
      })",
                             [](Model& model, Editor& editor) {
                               Value& b = *model.graph().find("b");
                               ASSERT_TRUE(editor.replace_all(b, *model.graph().find("a")).ok());
                               ASSERT_TRUE(editor.erase(*b.producer()).ok());
                             });
  const Changes changes = changes_between(*pair.before, *pair.after);
  ASSERT_EQ(changes.each.size(), 1u);
  EXPECT_EQ(changes.each[0].why_not, "");
  EXPECT_EQ(names(changes.each[0].before), "Exp Exp Add");
  EXPECT_EQ(names(changes.each[0].after), "Exp Add");
}

TEST(Changes, AGraphOutputKeepsItsPlaceWhateverValueTakesIt) {
  const Edited pair = edited(R"(
      <ir_version: 8, opset_import: ["" : 17]>
      g (float[2] x) => (float[2] y) { a = Exp(x) y = Identity(a) })",
                             [](Model& model, Editor& editor) {
                               Value& y = *model.graph().find("y");
                               ASSERT_TRUE(editor.replace_all(y, *model.graph().find("a")).ok());
                               ASSERT_TRUE(editor.erase(*y.producer()).ok());
                             });
  const Changes changes = changes_between(*pair.before, *pair.after);
  ASSERT_EQ(changes.each.size(), 1u);
  EXPECT_EQ(names(changes.each[0].before), "Exp Identity");
  EXPECT_EQ(names(changes.each[0].after), "Exp");
  ASSERT_FALSE(changes.each[0].outputs.empty());
}

}  // namespace
}  // namespace mcompress
