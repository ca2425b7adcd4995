// What stays float32 without trying, recognised by statistics and places, and which nodes go
// together.
#include "passes/common/integer/protection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "mcompress/mcompress.h"
#include "passes/common/integer/precision_units.h"
#include "passes/common/integer/static_plan.h"
#include "support/arrays.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kSeventeen = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

// --------------------------------------------------------------------------------- recognition

ValueStats stats_of(double minimum, double maximum, double mean_square) {
  ValueStats stats;
  stats.minimum = minimum;
  stats.maximum = maximum;
  stats.mean_square = mean_square;
  stats.count = 1000;
  return stats;
}

// Bins of width 1 around zero, and `masked` elements at `mask`.
ValueStats masked_stats(double mask, std::uint64_t masked, std::uint64_t between = 0) {
  ValueStats stats = stats_of(mask, 8, 1);
  stats.exponent = 8;  // 256 wide
  const double width = 256;
  stats.first_bin = static_cast<std::int64_t>(std::floor(mask / width));
  stats.bins.assign(static_cast<std::size_t>(-stats.first_bin) + 1, 0);
  stats.bins.front() = masked;
  stats.bins[stats.bins.size() / 2] = between;
  stats.bins[stats.bins.size() - 2] = 400;
  stats.bins.back() = 500;
  return stats;
}

TEST(HoldsMask, AConstantFarBelowTheRest) {
  EXPECT_TRUE(holds_mask(masked_stats(-65504, 100)));
  EXPECT_TRUE(holds_mask(masked_stats(-1e6, 1)));
  EXPECT_FALSE(holds_mask(masked_stats(-65504, 100, 1))) << "values in between: a wide range";
  EXPECT_FALSE(holds_mask(stats_of(-50, 8, 1)));
  ValueStats infinite = stats_of(-3, 3, 1);
  EXPECT_FALSE(holds_mask(infinite));
  infinite.infinity_count = 5;
  EXPECT_TRUE(holds_mask(infinite));
  infinite.count = 0;
  EXPECT_FALSE(holds_mask(infinite)) << "nothing else was seen";
}

struct Planned {
  std::unique_ptr<Model> model;
  StaticPlan plan;
  CalibrationTable table;

  std::string why(std::string_view op_type) const {
    const auto found = protected_nodes(model->graph(), plan, table);
    const Graph& graph = model->graph();
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const auto entry = found.find(node->id());
      if (node->is(op_type) && entry != found.end()) return entry->second;
    }
    return {};
  }
};

Planned planned(const std::string& text) {
  Planned result;
  result.model = model_from_text(std::string(kSeventeen) + text);
  (void)run_passes(*result.model, {"infer-shapes"});
  PlanOptions options;
  Explain explain;
  Target everything = *find_target("onnxruntime-cpu");
  everything.cost_model = false;
  result.plan = plan_static(result.model->graph(), everything, Selection({}, {}), options, explain);
  for (const Value* value : result.plan.tensors) {
    result.table.set(value->name(), stats_of(-4, 4, 2));
  }
  return result;
}

const std::string kTwoHeads =
    "(float[N,16] x) => (float[N,12] y) <" + weights("w1", {16, 4}) + "," + weights("w2", {16, 8}) +
    "> { boxes = MatMul(x, w1) scores = MatMul(x, w2) y = Concat<axis = 1>(boxes, scores) }";

TEST(Protection, BoxesAndScoresInOneConcat) {
  Planned head = planned(kTwoHeads);
  ASSERT_EQ(head.plan.nodes.size(), 3U);
  EXPECT_EQ(head.why("Concat"), "") << "parts of one scale";
  head.table.set("boxes", stats_of(0, 640, 1e5));
  head.table.set("scores", stats_of(0, 1, 0.01));
  // step 640/255; 10 log10(0.01 * 12 / step^2) = -17.2 dB.
  EXPECT_EQ(head.why("Concat"),
            "joins parts of different scale: 'scores' spans 1.000 of 640.000, and the common scale "
            "leaves it -17.2 dB");
  // Twice as wide is no difference of scale.
  head.table.set("scores", stats_of(0, 320, 3e4));
  EXPECT_EQ(head.why("Concat"), "");
}

TEST(Protection, NotWhereALayerReadsTheConcatInIntegersAnyway) {
  Planned inner = planned("(float[N,16] x) => (float[N,5] y) <" + weights("w1", {16, 4}) + "," +
                          weights("w2", {16, 8}) + "," + weights("w3", {12, 5}) +
                          "> { a = MatMul(x, w1) b = MatMul(x, w2) c = Concat<axis = 1>(a, b) "
                          "y = MatMul(c, w3) }");
  inner.table.set("a", stats_of(0, 640, 1e5));
  inner.table.set("b", stats_of(0, 1, 0.01));
  EXPECT_EQ(inner.why("Concat"), "");
}

TEST(Protection, SumsInFrontOfAChoiceBehindTheLastLayer) {
  const std::string body = "> { a = MatMul(x, w1) b = MatMul(x, w2) c = Add(a, b) ";
  const std::string head =
      "(float[N,16] x) => (float[N,8] y) <" + weights("w1", {16, 8}) + "," + weights("w2", {16, 8});
  const std::string top = "(float[N,16] x) => (float[N,2] y, int64[N,2] i) <" +
                          weights("w1", {16, 8}) + "," + weights("w2", {16, 8}) +
                          ", int64[1] k = {2}";
  EXPECT_EQ(planned(top + body + "y, i = TopK(c, k) }").why("Add"),
            "stands behind the last layer with weights, in front of TopK, whose choice rounding "
            "would change");
  EXPECT_EQ(planned(head + body + "y = Relu(c) }").why("Add"), "") << "nothing chooses";
  // A layer with weights comes behind the choice: the sum is inside the network.
  EXPECT_EQ(planned("(float[N,16] x) => (float[N,3] z) <" + weights("w1", {16, 8}) + "," +
                    weights("w2", {16, 8}) + "," + weights("w3", {2, 3}) + ", int64[1] k = {2}" +
                    body + "y, i = TopK(c, k) z = MatMul(y, w3) }")
                .why("Add"),
            "");
}

TEST(Protection, ScoresMaskedByAConstant) {
  Planned scores = planned("(float[N,16] x) => (float[N,8] y) <" + weights("w1", {16, 8}) + "," +
                           weights("w2", {16, 8}) +
                           "> { a = MatMul(x, w1) m = MatMul(x, w2) c = Add(a, m) y = Softmax(c) "
                           "}");
  EXPECT_EQ(scores.why("Add"), "");
  scores.table.set("c", masked_stats(-65504, 200));
  EXPECT_EQ(scores.why("Add"),
            "holds entries masked with -65504, which would leave the others one level");
  ValueStats infinite = stats_of(-4, 4, 2);
  infinite.infinity_count = 7;
  scores.table.set("c", infinite);
  EXPECT_EQ(scores.why("Add"),
            "holds entries masked with -infinity, which would leave the others one level");
}

TEST(Protection, AnswersAreThoseThatOnlyMovesAndASoftmaxFollow) {
  const Planned answer =
      planned("(float[N,4,6,6] x) => (float[N,3] y) <" + weights("w1", {8, 4, 3, 3}) + "," +
              weights("w2", {3, 8, 1, 1}) +
              "> { a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) g = GlobalAveragePool(b) "
              "f = Flatten(g) y = Softmax(f) }");
  std::set<std::string> names;
  for (const Value* value : answer_values(answer.model->graph(), answer.plan)) {
    names.emplace(value->name());
  }
  EXPECT_EQ(names, (std::set<std::string>{"b", "g", "f"}));
}

// --------------------------------------------------------------------------------------- units

TEST(PrecisionUnits, NodesOfOneScaleGoTogether) {
  const Planned graph =
      planned("(float[N,8,6,6] x) => (float[N,3,1,1] y) <" + weights("w1", {8, 8, 3, 3}) + "," +
              weights("w2", {3, 8, 1, 1}) +
              "> { a = Conv(x, w1) r = Relu(a) p = MaxPool<kernel_shape = [4, 4]>(r) "
              "y = Conv(p, w2) }");
  const auto units = precision_units(graph.plan);
  ASSERT_EQ(units.size(), 2U);
  EXPECT_EQ(units[0].output->name(), "r");
  ASSERT_EQ(units[0].followers.size(), 1U);
  EXPECT_TRUE(units[0].followers[0]->is("MaxPool"));
  const StaticPlan part = plan_of_unit(graph.plan, units[0].node->id());
  EXPECT_EQ(part.nodes.size(), 2U);
  std::set<std::string> tensors;
  for (const Value* value : part.tensors) tensors.emplace(value->name());
  EXPECT_EQ(tensors, (std::set<std::string>{"x", "r", "p"}));
}

TEST(PrecisionUnits, PatternsMatchOneNode) {
  const auto plain =
      model_from_text(std::string(kSeventeen) + "(float[N,4] x) => (float[N,4] y) <" +
                      weights("v", {4, 4}) + "> { MatMul = MatMul(x, v) y = MatMul(MatMul, v) }");
  const Node* first = plain->graph().first();
  const Node* second = plain->graph().next(*first);
  // Its output is called like its operator, and its weight has two readers.
  OnlyPatterns only;
  EXPECT_EQ(only.of(*first, first->input(1)), "");
  EXPECT_EQ(only.of(*second, second->input(1)), "y");
}

TEST(PrecisionUnits, PatternsOfManyNodesAtOnce) {
  const auto model = model_from_text(
      std::string(kSeventeen) + "(float[N,4] x) => (float[N,4] y) <" + weights("v", {4, 4}) + "," +
      weights("w", {4, 4}) +
      "> { [same] Add = MatMul(x, v) [same] Relu = Add(Add, Add) [y] t = Tanh(Relu) "
      "[t] MatMul = MatMul(t, w) a = Relu(MatMul) [last] y = Add(a, v) }");
  OnlyPatterns only;
  std::vector<std::string> found;
  for (const Node* node = model->graph().first(); node != nullptr;
       node = model->graph().next(*node)) {
    found.push_back(only.of(*node, node->input(1)));
  }
  EXPECT_EQ(found, (std::vector<std::string>{"", "", "", "w", "a", "last"}));
}

// Boxes about 2,000 times as large as the scores, from data to the written model.
TEST(Protection, OfADetectorHeadInTheWrittenModel) {
  const auto before = model_from_text(
      std::string(kSeventeen) + "(float[N,32] x) => (float[N,12] y) <" +
      weights("w1", {32, 4}, -400, 400) + "," + weights("w2", {32, 8}, -0.2F, 0.2F) +
      "> { boxes = MatMul(x, w1) scores = MatMul(x, w2) y = Concat<axis = 1>(boxes, scores) }");
  const TempFolder folder;
  std::vector<float> samples(32 * 32);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = static_cast<float>(i * 7 % 41) / 20.0F - 1.0F;
  }
  write_npz(folder / "data.npz", {{"x", npy_floats({32, 32}, samples)}});
  const auto runtime = find_runtime("onnxruntime").value();
  const auto session = runtime->open(*before, {}).value();
  Diagnostics diagnostics;
  const auto data = open_data(folder / "data.npz", session->inputs(), {}, diagnostics).value();
  Target target = *find_target("onnxruntime-cpu");
  target.cost_model = false;  // so small a model would not be worth integers
  // SQNR of the scores alone.
  const auto quantized = [&](bool protect, Explain& explain) {
    const auto after = before->clone();
    Recipe recipe;
    Datum options = Datum::map();
    options.set("protect", Datum::boolean(protect));
    options.set("guard-sqnr", Datum::integer(0));
    recipe.steps = {{"infer-shapes", Datum::map()}, {"quantize-static", std::move(options)}};
    Services services;
    services.runtime = runtime;
    services.calibration_data = data.get();
    services.diagnostics = &diagnostics;
    services.target = &target;
    Report report;
    const Status status =
        run_pipeline(*after, recipe, builtin_passes(), services, {}, explain, report);
    EXPECT_TRUE(status.ok()) << to_string(status.error().diagnostic);
    const auto written = runtime->open(*after, {}).value();
    double signal = 0, noise = 0;
    for (std::int64_t i = 0; i < 32; ++i) {
      const auto feeds = data->sample(i).value();
      const std::vector<std::string> fetch = {"y"};
      const auto expected = read_floats(session->run(feeds, fetch)->front()).value();
      const auto actual = read_floats(written->run(feeds, fetch)->front()).value();
      for (std::size_t k = 4; k < 12; ++k) {
        signal += std::pow(static_cast<double>(expected[k]), 2);
        noise += std::pow(static_cast<double>(expected[k] - actual[k]), 2);
      }
    }
    return 10 * std::log10(signal / noise);
  };
  const auto skips = [](const Explain& explain) {
    return std::count_if(explain.all().begin(), explain.all().end(), [](const Decision& decision) {
      return decision.op_type == "Concat" && !decision.applied &&
             decision.why.starts_with("joins parts of different scale: 'scores' spans ");
    });
  };
  Explain with, without;
  EXPECT_GT(quantized(true, with), 25);
  EXPECT_LT(quantized(false, without), 5) << "the common scale leaves the scores one level";
  EXPECT_EQ(skips(with), 1);
  EXPECT_EQ(skips(without), 0);
}

}  // namespace
}  // namespace mcompress::testing
