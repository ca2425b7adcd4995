// The quantizing passes on the digit classifier that comes with the project, and on small graphs
// where they must not fire.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ir/walk.h"
#include "mcompress/mcompress.h"
#include "support/models.h"

namespace mcompress {
namespace {

const std::filesystem::path kDigits = std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "models/digits";

const std::vector<std::string> kClean = {
    "lift-constants", "infer-shapes",   "raise-opset",        "infer-shapes",
    "fold-constants", "fuse-batchnorm", "dedup-initializers", "eliminate-identity",
    "eliminate-dead", "infer-shapes"};

struct Outcome {
  Status status = ok_status();
  Explain explain;
  Report report;
  Diagnostics diagnostics;
};

Datum recipe_of(std::vector<std::string> passes, const Datum& last_options) {
  Datum list = Datum::list();
  for (std::size_t i = 0; i + 1 < passes.size(); ++i) list.push(Datum::string(passes[i]));
  Datum last = last_options;
  last.set("pass", Datum::string(passes.back()));
  list.push(std::move(last));
  Datum recipe = Datum::map();
  recipe.set("passes", std::move(list));
  return recipe;
}

void run(Model& model, std::vector<std::string> passes, const Datum& last_options, DataSource* data,
         Outcome& outcome) {
  auto runtime = find_runtime("onnxruntime");
  ASSERT_TRUE(runtime.ok());
  auto recipe = parse_recipe(recipe_of(std::move(passes), last_options), builtin_passes(),
                             outcome.diagnostics);
  ASSERT_TRUE(recipe.ok()) << to_string(recipe.error().diagnostic);
  Services services;
  services.runtime = *runtime;
  services.calibration_data = data;
  services.diagnostics = &outcome.diagnostics;
  outcome.status =
      run_pipeline(model, *recipe, builtin_passes(), services, {}, outcome.explain, outcome.report);
}

class Digits : public ::testing::Test {
 protected:
  void SetUp() override {
    Diagnostics diagnostics;
    auto loaded = load_model(kDigits / "model.onnx", {}, diagnostics);
    ASSERT_TRUE(loaded.ok());
    model_ = std::move(loaded).value();
    auto runtime = find_runtime("onnxruntime");
    ASSERT_TRUE(runtime.ok());
    runtime_ = *runtime;
    auto session = runtime_->open(*model_, {});
    ASSERT_TRUE(session.ok());
    reference_ = std::move(session).value();
    DataOptions options;
    options.limit = 64;
    auto data = open_data(kDigits / "calib.npz", reference_->inputs(), options, diagnostics);
    ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
    data_ = std::move(data).value();
  }

  double sqnr_db(const Model& candidate, std::int64_t samples = 16) {
    auto session = runtime_->open(candidate, {});
    EXPECT_TRUE(session.ok());
    double signal = 0;
    double noise = 0;
    const std::vector<std::string> fetch = {"logits"};
    for (std::int64_t i = 0; i < samples; ++i) {
      auto feeds = data_->sample(i);
      auto expected = read_floats(reference_->run(*feeds, fetch)->front());
      auto actual = read_floats((*session)->run(*feeds, fetch)->front());
      for (std::size_t k = 0; k < expected->size(); ++k) {
        signal += std::pow((*expected)[k], 2);
        noise += std::pow(double{(*expected)[k]} - (*actual)[k], 2);
      }
    }
    return 10 * std::log10(signal / noise);
  }

  std::map<std::string, std::int64_t> executed(const Model& model) {
    auto counts = runtime_->executed_operators(model, {});
    EXPECT_TRUE(counts.ok());
    std::map<std::string, std::int64_t> by_type;
    for (const auto& [name, count] : *counts) by_type[name.substr(name.find(':') + 1)] += count;
    return by_type;
  }

  std::unique_ptr<Model> model_;
  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Session> reference_;
  std::unique_ptr<DataSource> data_;
};

std::vector<std::string> with(std::vector<std::string> passes, const std::string& last) {
  passes.push_back(last);
  return passes;
}

TEST_F(Digits, StaticFormsIntegerKernelsAndKeepsTheOutputs) {
  Outcome outcome;
  run(*model_, with(kClean, "quantize-static"), Datum::map(), data_.get(), outcome);
  ASSERT_TRUE(outcome.status.ok()) << to_string(outcome.status.error().diagnostic);
  EXPECT_GT(sqnr_db(*model_), 35);
  const auto operators = executed(*model_);
  // Thirteen convolutions: the first reads one channel and stays float32.
  EXPECT_GE(operators.count("QLinearConv") ? operators.at("QLinearConv") : 0, 10);
  EXPECT_GE(operators.count("QLinearAdd") ? operators.at("QLinearAdd") : 0, 4);
  const auto skipped = std::find_if(
      outcome.explain.all().begin(), outcome.explain.all().end(),
      [](const Decision& d) { return !d.applied && d.why.find("input channels") < d.why.size(); });
  EXPECT_NE(skipped, outcome.explain.all().end());
}

TEST_F(Digits, StaticScalesAreScalarsAndZeroPointsFitTheActivation) {
  Outcome outcome;
  run(*model_, with(kClean, "quantize-static"), Datum::map(), data_.get(), outcome);
  ASSERT_TRUE(outcome.status.ok());
  std::size_t activations = 0;
  for_each_node(model_->graph(), [&](Node& node) {
    if (!node.is("QuantizeLinear")) return;
    ++activations;
    EXPECT_TRUE(node.input(1)->constant()->dims().empty()) << node.label();
    EXPECT_EQ(node.input(2)->constant()->dtype(), DataType::kUint8);
  });
  EXPECT_GT(activations, 15U);
  for_each_node(model_->graph(), [&](Node& node) {
    // An activation that starts at zero was absorbed, or its producer stayed float32.
    if (!node.is("Relu")) return;
    const Node* producer = node.input(0)->producer();
    ASSERT_NE(producer, nullptr);
    EXPECT_FALSE(producer->input(0)->producer() != nullptr &&
                 producer->input(0)->producer()->is("DequantizeLinear") && producer->is("Conv"))
        << node.label();
  });
}

TEST_F(Digits, StaticIsTheSameTwice) {
  const auto second = model_->clone();
  for (Model* model : {model_.get(), second.get()}) {
    Outcome outcome;
    run(*model, with(kClean, "quantize-static"), Datum::map(), data_.get(), outcome);
    ASSERT_TRUE(outcome.status.ok());
  }
  EXPECT_EQ(save_model_bytes(*model_).value(), save_model_bytes(*second).value());
}

TEST_F(Digits, ExcludedNodesStayFloatAndSaySo) {
  Outcome outcome;
  Datum options = Datum::map();
  Datum patterns = Datum::list();
  patterns.push(Datum::string("Conv"));
  patterns.push(Datum::string("Gemm"));
  options.set("exclude", std::move(patterns));
  run(*model_, with(kClean, "quantize-static"), options, data_.get(), outcome);
  ASSERT_TRUE(outcome.status.ok());
  for_each_node(model_->graph(), [](Node& node) { EXPECT_FALSE(node.is("QuantizeLinear")); });
  std::size_t excluded = 0;
  for (const Decision& decision : outcome.explain.all()) {
    excluded += decision.why == "excluded by 'Conv'" ? 1 : 0;
  }
  EXPECT_EQ(excluded, 13U);
}

TEST_F(Digits, StaticWithoutDataIsAUsageError) {
  Outcome outcome;
  run(*model_, with(kClean, "quantize-static"), Datum::map(), nullptr, outcome);
  ASSERT_FALSE(outcome.status.ok());
  EXPECT_EQ(outcome.status.error().code, Code::kUsage);
  EXPECT_EQ(outcome.status.error().diagnostic.id, "no-calibration-data");
}

TEST_F(Digits, WeightsOnlyFoldBackToTheFloatKernels) {
  const auto before = executed(*model_);
  Outcome outcome;
  run(*model_, with(kClean, "quantize-weights"), Datum::map(), nullptr, outcome);
  ASSERT_TRUE(outcome.status.ok()) << to_string(outcome.status.error().diagnostic);
  EXPECT_GT(sqnr_db(*model_), 40);
  EXPECT_EQ(executed(*model_), before);
  EXPECT_LT(save_model_bytes(*model_)->size() * 3, model_size_on_disk(*model_)->total());
}

TEST_F(Digits, BiasCorrectionHelps) {
  const auto plain = model_->clone();
  Datum off = Datum::map();
  off.set("bias-correction", Datum::boolean(false));
  Outcome with_it;
  Outcome without;
  run(*model_, with(kClean, "quantize-static"), Datum::map(), data_.get(), with_it);
  run(*plain, with(kClean, "quantize-static"), off, data_.get(), without);
  ASSERT_TRUE(with_it.status.ok() && without.status.ok());
  // What is corrected are means: few samples can not tell.
  EXPECT_GT(sqnr_db(*model_, data_->count()), sqnr_db(*plain, data_->count()) + 0.2);
}

// x [M,K] times a seeded weight [K,N].
std::unique_ptr<Model> product(std::int64_t rows, std::int64_t columns, const char* input_dims) {
  auto model = testing::model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]>\n"
      "g (float[" +
      std::string(input_dims) + "] x) => (float[M, N] y) { y = Neg(x) }");
  Editor edit(*model);
  std::mt19937 engine(7);
  std::vector<float> weights(static_cast<std::size_t>(rows * columns));
  for (float& weight : weights) weight = static_cast<float>(engine() % 2001U) / 1000.0F - 1.0F;
  Value& weight =
      edit.add_initializer(model->graph(), "w", make_float_tensor(weights, {rows, columns}));
  Node& neg = *model->graph().first();
  edit.set_op_type(neg, "", "MatMul");
  edit.set_input(neg, 1, &weight);
  return model;
}

TEST(QuantizeDynamic, BecomesTheFusedKernelAndStaysClose) {
  auto model = product(256, 128, "M, 256");
  const auto original = model->clone();
  Outcome outcome;
  Datum options = Datum::map();
  options.set("min-elements", Datum::integer(8192));  // whatever the number of rows
  run(*model, {"lift-constants", "quantize-dynamic"}, options, nullptr, outcome);
  ASSERT_TRUE(outcome.status.ok()) << to_string(outcome.status.error().diagnostic);
  auto runtime = find_runtime("onnxruntime");
  std::map<std::string, std::int64_t> operators;
  const auto executed = (*runtime)->executed_operators(*model, {});
  ASSERT_TRUE(executed.ok());
  for (const auto& [name, count] : *executed) {
    operators[name.substr(name.find(':') + 1)] += count;
  }
  EXPECT_EQ(operators["DynamicQuantizeMatMul"], 1);

  std::vector<float> input(4 * 256);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::sin(static_cast<float>(i));
  const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(input, {4, 256})}};
  const std::vector<std::string> fetch = {"y"};
  auto before = (*runtime)->open(*original, {});
  auto after = (*runtime)->open(*model, {});
  ASSERT_TRUE(before.ok() && after.ok());
  const auto expected = read_floats((*before)->run(feeds, fetch)->front());
  const auto actual = read_floats((*after)->run(feeds, fetch)->front());
  double signal = 0;
  double noise = 0;
  for (std::size_t i = 0; i < expected->size(); ++i) {
    signal += std::pow((*expected)[i], 2);
    noise += std::pow(double{(*expected)[i]} - (*actual)[i], 2);
  }
  EXPECT_GT(10 * std::log10(signal / noise), 30);
}

TEST(QuantizeDynamic, SmallProductsStayFloatWithTheReason) {
  auto model = product(16, 8, "M, 16");
  Outcome outcome;
  run(*model, {"lift-constants", "quantize-dynamic"}, Datum::map(), nullptr, outcome);
  ASSERT_TRUE(outcome.status.ok());
  ASSERT_EQ(outcome.explain.all().size(), 1U);
  EXPECT_FALSE(outcome.explain.all()[0].applied);
  EXPECT_EQ(outcome.explain.all()[0].why,
            "has 128 weights, below 512 (rule min-weight-elements of onnxruntime-cpu)");
}

TEST(QuantizeWeights, ReachesNestedGraphsAndExplainsWhatItLeaves) {
  auto model = testing::model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[1,32] x) => (float[1,N] y) {
  y = If(p) <
    then_branch = t () => (float[1,N] u) { u = Neg(x) },
    else_branch = e () => (float[1,N] v) { v = Abs(x) }
  >
})");
  Editor edit(*model);
  Node& branch = *model->graph().find("y")->producer();
  Graph& body = *branch.bodies()[0];
  Value& weight = edit.add_initializer(
      body, "w", make_float_tensor(std::vector<float>(32 * 64, 0.5F), {32, 64}));
  Value& table = edit.add_initializer(
      body, "t", make_float_tensor(std::vector<float>(1 * 64, 0.25F), {1, 64}));
  Node& neg = *body.find("u")->producer();
  Node& product = edit.insert_before(
      neg, {.op_type = "MatMul", .inputs = {neg.input(0), &weight}, .base_name = "m"});
  Node& sum = edit.insert_before(
      neg, {.op_type = "Add", .inputs = {product.output(0), &table}, .base_name = "s"});
  edit.set_input(neg, 0, sum.output(0));
  Outcome outcome;
  Datum options = Datum::map();
  options.set("min-elements", Datum::integer(64));
  run(*model, {"lift-constants", "quantize-weights"}, options, nullptr, outcome);
  ASSERT_TRUE(outcome.status.ok()) << to_string(outcome.status.error().diagnostic);
  ASSERT_EQ(outcome.explain.all().size(), 2U);
  const Decision& taken = outcome.explain.all()[0];
  const Decision& left = outcome.explain.all()[1];
  EXPECT_TRUE(taken.applied);
  EXPECT_EQ(taken.subject, "w");
  EXPECT_FALSE(left.applied);
  EXPECT_NE(left.why.find("is not a weight of Add"), std::string::npos) << left.why;
  EXPECT_TRUE(verify(*model).ok());
}

}  // namespace
}  // namespace mcompress
