// Ranges of activations, forms of weights and effort levels of quantize-static, on graphs that are
// made so that one choice is right.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ir/walk.h"
#include "mcompress/mcompress.h"
#include "support/arrays.h"
#include "support/models.h"
#include "support/pass_fixture.h"
#include "support/sessions.h"

namespace mcompress::testing {
namespace {

struct Quantized {
  std::unique_ptr<Model> before, model;
  Report report;
  Explain explain;
  Diagnostics diagnostics;
  std::vector<std::vector<NamedTensor>> samples;

  const Datum* item(std::string_view list, std::string_view name) {
    facts_ = report.root().facts();
    const Datum* passes = facts_.find("passes");
    for (const Datum& pass : *passes->as_list()) {
      const Datum* items = pass.find(list);
      if (items == nullptr) continue;
      for (const Datum& entry : *items->as_list()) {
        if (option_text(*entry.find("name")) == name) return &entry;
      }
    }
    return nullptr;
  }
  double number(std::string_view list, std::string_view name, std::string_view key) {
    const Datum* entry = item(list, name);
    EXPECT_NE(entry, nullptr) << list << " has no " << name;
    if (entry == nullptr || entry->find(key) == nullptr) return std::nan("");
    return std::get<double>(entry->find(key)->value());
  }
  // Of a float output against the original, in dB over all samples.
  double sqnr_db(const std::string& output) {
    const auto runtime = find_runtime("onnxruntime").value();
    const auto reference = runtime->open(*before, {}).value();
    const auto candidate = runtime->open(*model, {}).value();
    double signal = 0, noise = 0;
    for (const auto& feeds : samples) {
      const auto expected = read_floats(reference->run(feeds, std::span(&output, 1))->front());
      const auto actual = read_floats(candidate->run(feeds, std::span(&output, 1))->front());
      for (std::size_t i = 0; i < expected->size(); ++i) {
        signal += std::pow(double{(*expected)[i]}, 2);
        noise += std::pow(double{(*expected)[i]} - double{(*actual)[i]}, 2);
      }
    }
    return 10 * std::log10(signal / noise);
  }

 private:
  Datum facts_;
};

struct Wish {
  std::string target = "generic-qdq";
  Datum options = Datum::map();
  int threads = 1;
  std::shared_ptr<Runtime> runtime = find_runtime("onnxruntime").value();
};

Datum texts(const std::vector<std::string>& items) {
  Datum list = Datum::list();
  for (const std::string& item : items) list.push(Datum::string(item));
  return list;
}

// `values` are the samples of input x, whose other dimensions are `dims`.
std::unique_ptr<Quantized> quantized(const std::string& text, std::vector<std::int64_t> dims,
                                     const std::vector<float>& values, Wish wish = {}) {
  auto result = std::make_unique<Quantized>();
  result->before = model_from_text(text);
  result->model = result->before->clone();
  std::int64_t size = 1;
  for (const std::int64_t dim : dims) size *= dim;
  const auto count = static_cast<std::int64_t>(values.size()) / size;
  dims.insert(dims.begin(), count);
  const TempFolder folder;
  write_npz(folder / "data.npz", {{"x", npy_floats(dims, values)}});
  const auto session = wish.runtime->open(*result->before, {}).value();
  auto data = open_data(folder / "data.npz", session->inputs(), {}, result->diagnostics);
  EXPECT_TRUE(data.ok());
  if (!data.ok()) return result;
  for (std::int64_t i = 0; i < count; ++i) result->samples.push_back((*data)->sample(i).value());
  Recipe recipe;
  recipe.target = wish.target;
  recipe.steps.push_back({"infer-shapes", Datum::map()});
  recipe.steps.push_back({"quantize-static", wish.options});
  recipe.steps.push_back({"eliminate-dead", Datum::map()});
  Services services;
  services.runtime = wish.runtime;
  services.calibration_data = data->get();
  services.diagnostics = &result->diagnostics;
  services.threads = wish.threads;
  const Status status = run_pipeline(*result->model, recipe, builtin_passes(), services, {},
                                     result->explain, result->report);
  EXPECT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  return result;
}

std::vector<float> uniform(std::size_t count, unsigned seed, float low = -1, float high = 1) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    value = low + (high - low) * static_cast<float>(random() % 10001U) / 10000.0F;
  }
  return values;
}

std::string numbers(const std::vector<float>& values) {
  std::string text = "{";
  for (const float value : values) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(value);
  }
  return text + "}";
}

// x [N, 32] times w [32, 16]; row 0 of w is `first`.
std::string product(float first) {
  std::vector<float> weight = uniform(32 * 16, 3);
  for (std::size_t n = 0; n < 16; ++n) weight[n] = first * (n % 2 == 0 ? 1.0F : -1.0F);
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,32] x) => (float[N,16] y) "
         "<float[32,16] w = " +
         numbers(weight) + "> { y = MatMul(x, w) }";
}

// Column 0 is 50 in about one sample of three and small in the others.
std::vector<float> with_outliers() {
  std::vector<float> values = uniform(64 * 32, 5);
  std::mt19937 random(6);
  for (std::size_t i = 0; i < 64; ++i) {
    if (random() % 3U == 0) values[i * 32] = 50.0F;
  }
  return values;
}

// ------------------------------------------------------------------------------------- ranges

TEST(StaticRanges, OutliersThatNoWeightReadsAreClipped) {
  Wish wish;
  wish.options.set("percentiles", texts({"95", "99.9"}));
  const auto result = quantized(product(0.0F), {32}, with_outliers(), wish);
  EXPECT_LT(result->number("ranges", "x", "maximum"), 5);
  EXPECT_GT(result->sqnr_db("y"), 30);

  Wish minmax;
  minmax.options.set("method", Datum::string("minmax"));
  minmax.options.set("guard-sqnr", Datum::integer(0));
  EXPECT_GT(result->sqnr_db("y"),
            quantized(product(0.0F), {32}, with_outliers(), minmax)->sqnr_db("y") + 10);
}

TEST(StaticRanges, OutliersThatMatterAreKept) {
  Wish wish;
  wish.options.set("percentiles", texts({"95", "99.9"}));
  const auto result = quantized(product(2.0F), {32}, with_outliers(), wish);
  EXPECT_GE(result->number("ranges", "x", "maximum"), 49.5);
  EXPECT_GT(result->sqnr_db("y"), 20);
}

TEST(StaticRanges, NearTiesGoToTheWiderRange) {
  // Clipping one part in two hundred of such values changes next to nothing.
  Wish wish;
  wish.options.set("percentiles", texts({"98"}));
  const auto result = quantized(product(1.0F), {32}, uniform(64 * 32, 9), wish);
  const Datum* x = result->item("ranges", "x");
  if (x == nullptr) return;  // one candidate was left: the widest
  EXPECT_EQ(option_text(*x->find("method")), "minmax");
}

// Eight class scores, one of them far below and of no account for a softmax.
std::string scores(std::string_view tail) {
  std::vector<float> bias(8, 0.0F);
  bias[5] = -400.0F;
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,16,2,2] x) => (float[N,8,1,1] y) "
         "<float[8,16,2,2] w = " +
         numbers(uniform(8 * 16 * 4, 21, -0.4F, 0.4F)) + ", float[8] b = " + numbers(bias) +
         "> { s = Conv(x, w, b) " + std::string(tail) + " }";
}

TEST(StaticRanges, ScoresBeforeASoftmaxAreJudgedByTheirProbabilities) {
  const std::vector<float> data = uniform(64 * 64, 23);
  Wish wish;
  wish.options.set("percentiles", texts({"74", "99.9"}));
  wish.options.set("guard-sqnr", Datum::integer(0));
  const auto before_softmax = quantized(scores("y = Softmax<axis = 1>(s)"), {16, 2, 2}, data, wish);
  const auto as_numbers = quantized(scores("y = Identity(s)"), {16, 2, 2}, data, wish);
  EXPECT_LT(as_numbers->number("ranges", "s", "minimum"), -399);
  EXPECT_GT(before_softmax->number("ranges", "s", "minimum"), -200);
}

constexpr std::string_view kChain =
    "c = Conv<pads = [1,1,1,1]>(x, w1)  r = Relu(c)  p = MaxPool<kernel_shape = [2,2], strides = "
    "[2,2]>(r)  d = Conv<pads = [1,1,1,1]>(p, w2, b2)  y = Relu(d)";

// Large enough for integers to pay on every target; weights are off zero.
std::string chain() {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,16,16,16] x) => (float[N,32,8,8] "
         "y) <" +
         weights("w1", {32, 16, 3, 3}, -0.5F, 1.0F) + ", " +
         weights("w2", {32, 32, 3, 3}, -0.6F, 1.0F) + ", " + weights("b2", {32}) + "> { " +
         std::string(kChain) + " }";
}
const std::vector<std::int64_t> kChainDims = {16, 16, 16};
std::vector<float> chain_data() { return uniform(40 * 4096, 31, -1, 2); }

TEST(StaticRanges, EveryRangeHoldsZeroAndReluStartsAtTheSmallestCode) {
  for (const char* target : {"generic-qdq", "onnxruntime-cpu"}) {
    for (const char* method :
         {"auto", "minmax", "moving-average", "percentile", "entropy", "mse"}) {
      Wish wish;
      wish.target = target;
      wish.options.set("method", Datum::string(method));
      wish.options.set("guard-sqnr", Datum::integer(0));
      const auto result = quantized(chain(), kChainDims, chain_data(), wish);
      const bool is_signed = std::string(target) == "generic-qdq";
      std::int64_t seen = 0;
      for_each_node(result->model->graph(), [&](Node& node) {
        if (!node.is("QuantizeLinear")) return;
        ++seen;
        const auto zero = node.input(2)->constant()->storage()->pin(0, 1);
        const int code = is_signed ? static_cast<std::int8_t>(zero->bytes()[0])
                                   : static_cast<int>(zero->bytes()[0]);
        EXPECT_GE(code, is_signed ? -128 : 0);
        EXPECT_LE(code, is_signed ? 127 : 255);
        const std::string name(node.output(0)->name());
        if (name.starts_with("x")) {
          EXPECT_GT(code, is_signed ? -128 : 0) << "x has negative values";
        } else {
          EXPECT_EQ(code, is_signed ? -128 : 0) << method << ": " << name << " is behind Relu";
        }
      });
      EXPECT_GE(seen, 3) << target << " " << method;
      EXPECT_EQ(count_nodes(*result->model, "Relu"), 0) << "absorbed by the range";
      EXPECT_GT(result->sqnr_db("y"), 25) << target << " " << method;
    }
  }
}

TEST(StaticRanges, AReluThatWasAlwaysZeroStillCutsOff) {
  // All weights are negative and the calibration data positive.
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,8,4,4] x) => (float[N,8,4,4] y) <" +
      weights("w", {8, 8, 3, 3}, -1.0F, -0.5F) +
      "> { c = Conv<pads = [1,1,1,1]>(x, w)  y = Relu(c) }";
  Wish wish;
  wish.options.set("guard-sqnr", Datum::integer(0));
  const auto result = quantized(text, {8, 4, 4}, uniform(24 * 128, 3, 0.5F, 1.0F), wish);
  EXPECT_EQ(count_nodes(*result->model, "Relu"), 0);
  const auto session = find_runtime("onnxruntime").value()->open(*result->model, {}).value();
  const std::string y = "y";
  const auto out = read_floats(session->run(result->samples.front(), std::span(&y, 1))->front());
  EXPECT_TRUE(std::ranges::all_of(*out, [](float value) { return value == 0; }));
}

TEST(StaticRanges, AutoIsAsGoodAsTheBestMethod) {
  const std::vector<float> data = chain_data();
  const auto judged = quantized(chain(), kChainDims, data);
  for (const char* method : {"minmax", "moving-average", "percentile", "entropy", "mse"}) {
    Wish wish;
    wish.options.set("method", Datum::string(method));
    EXPECT_GT(judged->sqnr_db("y"), quantized(chain(), kChainDims, data, wish)->sqnr_db("y") - 0.5)
        << method;
  }
}

TEST(StaticRanges, ThreadsChangeNoByte) {
  const std::vector<float> data = chain_data();
  for (const char* effort : {"default", "best"}) {
    Wish one, four;
    one.options.set("effort", Datum::string(effort));
    four.options.set("effort", Datum::string(effort));
    four.threads = 4;
    EXPECT_EQ(save_model_bytes(*quantized(chain(), kChainDims, data, one)->model).value(),
              save_model_bytes(*quantized(chain(), kChainDims, data, four)->model).value());
  }
}

TEST(StaticRanges, PercentilesAreNumbersFromFiftyOn) {
  for (const char* bad : {"49", "101", "many"}) {
    Datum options = Datum::map();
    options.set("percentiles", texts({"99.9", bad}));
    Diagnostics diagnostics;
    const auto made = builtin_passes().find("quantize-static")->create(options, diagnostics);
    ASSERT_FALSE(made.ok()) << bad;
    EXPECT_NE(made.error().diagnostic.message.find(bad), std::string::npos);
  }
}

// ------------------------------------------------------------------------------------- effort

TEST(StaticEffort, EachLevelReportsItsSteps) {
  const std::vector<float> data = chain_data();
  for (const std::string effort : {"fast", "default", "best"}) {
    Wish wish;
    wish.options.set("effort", Datum::string(effort));
    const auto result = quantized(chain(), kChainDims, data, wish);
    EXPECT_EQ(result->item("steps", "ranges") != nullptr, effort != "fast");
    EXPECT_EQ(result->item("steps", "bias-correction") != nullptr, effort == "best");
    if (effort == "fast") continue;
    const Datum* runs = result->item("steps", "ranges")->find("runs");
    EXPECT_GE(std::get<std::int64_t>(runs->value()), 8);
    if (effort == "best") {
      EXPECT_GE(result->number("steps", "bias-correction", "sqnr_db_after"),
                result->number("steps", "bias-correction", "sqnr_db_before"));
    }
  }
}

// What the choice of ranges has opened is what the check of the whole plan measures.
TEST(StaticEffort, ThePlanIsOpenedOnce) {
  const std::vector<float> data = chain_data();
  std::vector<int> opened;
  for (const int guard : {0, 20}) {
    const auto runtime = std::make_shared<CountingRuntime>();
    Wish wish;
    wish.runtime = runtime;
    wish.options.set("guard-sqnr", Datum::integer(guard));
    quantized(chain(), kChainDims, data, wish);
    opened.push_back(runtime->opened);
  }
  EXPECT_EQ(opened[1], opened[0] + 1);  // the original, to compare with
}

// ------------------------------------------------------------------------------------ weights

TEST(StaticWeights, FormsOfTheWeightAreWhatWasAskedFor) {
  struct Case {
    const char *granularity, *symmetry;
    std::int64_t bits;
    bool one_scale, zero_points;
    double least_db;
  };
  const std::vector<float> data = chain_data();
  for (const Case& one : {Case{"auto", "symmetric", 8, false, false, 30},
                          Case{"per-tensor", "symmetric", 8, true, false, 30},
                          Case{"per-channel", "asymmetric", 8, false, true, 30},
                          Case{"per-tensor", "asymmetric", 8, true, true, 30},
                          Case{"per-channel", "symmetric", 7, false, false, 25},
                          Case{"per-tensor", "asymmetric", 7, true, true, 25}}) {
    for (const char* target : {"generic-qdq", "onnxruntime-cpu"}) {
      Wish wish;
      wish.target = target;
      wish.options.set("granularity", Datum::string(one.granularity));
      wish.options.set("symmetry", Datum::string(one.symmetry));
      wish.options.set("weight-bits", Datum::integer(one.bits));
      wish.options.set("guard-sqnr", Datum::integer(0));
      const auto result = quantized(chain(), kChainDims, data, wish);
      std::int64_t seen = 0;
      for_each_node(result->model->graph(), [&](Node& node) {
        if (!node.is("DequantizeLinear") || node.input(0)->constant() == nullptr) return;
        if (node.input(0)->constant()->dtype() != DataType::kInt8) return;
        ++seen;
        const Tensor& codes = *node.input(0)->constant();
        const auto channels = codes.dims()[0];
        EXPECT_EQ(node.input(1)->constant()->elements(), one.one_scale ? 1 : channels);
        EXPECT_EQ(node.input(1)->constant()->dims().empty(), one.one_scale);
        const auto zeros =
            node.input(2)->constant()->storage()->pin(0, node.input(2)->constant()->byte_size());
        const bool all_zero = std::ranges::all_of(
            zeros->bytes(), [](std::byte byte) { return byte == std::byte{0}; });
        EXPECT_EQ(all_zero, !one.zero_points) << one.granularity << " " << one.symmetry;
        if (one.bits == 8) return;
        const auto pinned = codes.storage()->pin(0, codes.byte_size());
        for (const std::byte byte : pinned->bytes()) {
          EXPECT_GE(static_cast<std::int8_t>(byte), -64);
          EXPECT_LE(static_cast<std::int8_t>(byte), 63);
        }
      });
      EXPECT_EQ(seen, 2);
      EXPECT_GT(result->sqnr_db("y"), one.least_db)
          << target << " " << one.granularity << " " << one.symmetry << " " << one.bits;
    }
  }
}

TEST(StaticWeights, DepthwiseKernelsOfOnnxRuntimeGetNoZeroPoints) {
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,64,24,24] x) => (float[N,64,24,24] y) "
      "<" +
      weights("w1", {64, 64, 1, 1}, -0.5F, 1.0F) + ", " +
      weights("w2", {64, 1, 3, 3}, -0.6F, 1.0F) + ", " +
      weights("w3", {64, 64, 1, 1}, -0.5F, 1.0F) +
      "> { a = Conv(x, w1)  b = Conv<group = 64, pads = [1,1,1,1]>(a, w2)  y = Conv(b, w3) }";
  for (const char* target : {"generic-qdq", "onnxruntime-cpu"}) {
    Wish wish;
    wish.target = target;
    wish.options.set("symmetry", Datum::string("asymmetric"));
    wish.options.set("guard-sqnr", Datum::integer(0));
    const auto result = quantized(text, {64, 24, 24}, uniform(std::size_t{16} * 64 * 576, 3), wish);
    std::int64_t depthwise = 0, dense = 0;
    for (const Decision& decision : result->explain.all()) {
      if (!decision.applied || decision.what.find("int8 weights") == std::string::npos) continue;
      const bool asymmetric = decision.what.find("asymmetric") != std::string::npos;
      const bool spatial = decision.subject == "w2";
      (spatial ? depthwise : dense) += asymmetric ? 1 : 0;
    }
    EXPECT_EQ(dense, 2) << target;
    EXPECT_EQ(depthwise, std::string(target) == "generic-qdq" ? 1 : 0) << target;
  }
}

TEST(StaticWeights, LargeBiasesEnlargeTheScaleOfTheirWeights) {
  // |b| / (scale of x * absmax / 127) would be 1e3 * 255 * 127 / 2e-6 = 1.6e13.
  std::vector<float> weight = uniform(4 * 8 * 9, 41, -1e-6F, 1e-6F);
  weight[0] = 1e-6F;
  std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,8,4,4] x) => (float[N,4,4,4] y) "
      "<float[4,8,3,3] w = {";
  char buffer[32];
  for (std::size_t i = 0; i < weight.size(); ++i) {
    std::snprintf(buffer, sizeof buffer, "%s%.9g", i > 0 ? ", " : "", double{weight[i]});
    text += buffer;
  }
  text += "}, float[4] b = {1000.0, -1000.0, 0.0, 2.5}> { y = Conv<pads = [1,1,1,1]>(x, w, b) }";
  Wish wish;
  wish.options.set("guard-sqnr", Datum::integer(0));
  const auto result = quantized(text, {8, 4, 4}, uniform(24 * 128, 43), wish);
  bool seen = false;
  const std::vector<double> expected = {1000, -1000, 0, 2.5};
  for_each_node(result->model->graph(), [&](Node& node) {
    if (!node.is("DequantizeLinear") || node.input(0)->constant() == nullptr) return;
    if (node.input(0)->constant()->dtype() != DataType::kInt32) return;
    seen = true;
    const auto codes = node.input(0)->constant()->storage()->pin(0, 16);
    const auto scales = read_floats(*node.input(1)->constant());
    for (std::size_t c = 0; c < 4; ++c) {
      std::int32_t code = 0;
      std::memcpy(&code, codes->bytes().data() + c * 4, 4);
      EXPECT_LT(std::abs(static_cast<double>(code)), 0x1p30 * 1.01);
      EXPECT_NEAR(code * double{(*scales)[c]}, expected[c], 1e-3 + 1e-5 * std::abs(expected[c]));
    }
  });
  EXPECT_TRUE(seen);
  EXPECT_GT(result->sqnr_db("y"), 40);
}

TEST(StaticWeights, ConvTransposeSaysWhyItStaysFloat) {
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4,4,4] x) => (float[N,8,8,8] y) <" +
      weights("w", {8, 8, 2, 2}) + ", " + weights("v", {8, 4, 1, 1}) +
      "> { c = Conv(x, v)  y = ConvTranspose<strides = [2,2]>(c, w) }";
  const auto result = quantized(text, {4, 4, 4}, uniform(24 * 64, 47));
  const auto found = std::ranges::find_if(result->explain.all(), [](const Decision& decision) {
    return decision.op_type == "ConvTranspose" && !decision.applied;
  });
  ASSERT_NE(found, result->explain.all().end());
  EXPECT_EQ(found->why,
            "target 'generic-qdq' has no integer kernel for ConvTranspose with calibrated ranges");
}

}  // namespace
}  // namespace mcompress::testing
