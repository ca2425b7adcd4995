// GPTQ inside static quantization, on the digit classifier that comes with the project.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ir/walk.h"
#include "mcompress/mcompress.h"

namespace mcompress {
namespace {

const std::filesystem::path kDigitModel =
    std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "models/digits";

struct GptqOutcome {
  std::unique_ptr<Model> model;
  Explain explain;
  Report report;
  Diagnostics diagnostics;
};

class GptqStatic : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = find_runtime("onnxruntime");
    ASSERT_TRUE(runtime.ok());
    runtime_ = *runtime;
    original_ = load();
    auto session = runtime_->open(*original_, {});
    ASSERT_TRUE(session.ok());
    reference_ = std::move(session).value();
    Diagnostics diagnostics;
    DataOptions options;
    options.limit = 96;
    auto data = open_data(kDigitModel / "calib.npz", reference_->inputs(), options, diagnostics);
    ASSERT_TRUE(data.ok());
    data_ = std::move(data).value();
  }

  static std::unique_ptr<Model> load() {
    Diagnostics diagnostics;
    auto loaded = load_model(kDigitModel / "model.onnx", {}, diagnostics);
    EXPECT_TRUE(loaded.ok());
    return std::move(loaded).value();
  }

  void quantize(const Datum& options, int threads, GptqOutcome& outcome) {
    outcome.model = load();
    Datum last = options;
    last.set("pass", Datum::string("quantize-static"));
    Datum passes = Datum::list();
    for (const char* pass :
         {"lift-constants", "infer-shapes", "raise-opset", "infer-shapes", "fold-constants",
          "fuse-batchnorm", "eliminate-dead", "infer-shapes"}) {
      passes.push(Datum::string(pass));
    }
    passes.push(std::move(last));
    Datum recipe = Datum::map();
    recipe.set("passes", std::move(passes));
    auto parsed = parse_recipe(recipe, builtin_passes(), outcome.diagnostics);
    ASSERT_TRUE(parsed.ok()) << to_string(parsed.error().diagnostic);
    Services services;
    services.runtime = runtime_;
    services.calibration_data = data_.get();
    services.diagnostics = &outcome.diagnostics;
    services.threads = threads;
    const Status status = run_pipeline(*outcome.model, *parsed, builtin_passes(), services, {},
                                       outcome.explain, outcome.report);
    ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  }

  double sqnr_db(const Model& candidate) {
    auto session = runtime_->open(candidate, {});
    EXPECT_TRUE(session.ok());
    double signal = 0;
    double noise = 0;
    const std::vector<std::string> fetch = {"logits"};
    for (std::int64_t i = 0; i < data_->count(); ++i) {
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

  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Model> original_;
  std::unique_ptr<Session> reference_;
  std::unique_ptr<DataSource> data_;
};

Datum gptq_options(std::string_view gptq) {
  Datum options = Datum::map();
  options.set("gptq", Datum::string(gptq));
  return options;
}

// The int8 weights of convolutions, by the name of their scales.
std::map<std::string, std::pair<Tensor, std::vector<float>>> integer_weights(Model& model) {
  std::map<std::string, std::pair<Tensor, std::vector<float>>> found;
  for_each_node(model.graph(), [&](Node& node) {
    if (!node.is("Conv") || node.input(1)->producer() == nullptr) return;
    const Node& dq = *node.input(1)->producer();
    auto scales = read_floats(*dq.input(1)->constant());
    ASSERT_TRUE(scales.ok());
    found.emplace(dq.input(1)->name(), std::pair(*dq.input(0)->constant(), *scales));
  });
  return found;
}

TEST_F(GptqStatic, ComesNearerToTheOriginalWithTheSameScales) {
  GptqOutcome plain;
  quantize(gptq_options("off"), 1, plain);
  GptqOutcome rounded;
  quantize(gptq_options("on"), 1, rounded);
  EXPECT_GT(sqnr_db(*rounded.model), sqnr_db(*plain.model));

  const Datum facts = rounded.report.root().facts();
  const Datum& last = facts.find("passes")->as_list()->back();
  const Datum* gptq = last.find("gptq");
  ASSERT_NE(gptq, nullptr);
  EXPECT_GE(std::get<std::int64_t>(gptq->find("layers")->value()), 11);
  EXPECT_GT(std::get<double>(gptq->find("layer_gain_db")->value()), 3);
  EXPECT_GE(std::get<double>(gptq->find("sqnr_after_db")->value()),
            std::get<double>(gptq->find("sqnr_before_db")->value()));
  const auto& decisions = rounded.explain.all();
  EXPECT_GE(std::count_if(decisions.begin(), decisions.end(),
                          [](const Decision& d) { return d.why.starts_with("rounded by GPTQ"); }),
            11);
  EXPECT_EQ(plain.report.root().facts().find("passes")->as_list()->back().find("gptq"), nullptr);

  const auto before = integer_weights(*plain.model);
  const auto after = integer_weights(*rounded.model);
  ASSERT_EQ(before.size(), after.size());
  std::size_t moved = 0;
  for (const auto& [name, weight] : after) {
    ASSERT_EQ(weight.second, before.at(name).second) << name;
    const Tensor& codes = weight.first;
    auto mine = codes.storage()->pin(0, codes.byte_size());
    auto theirs = before.at(name).first.storage()->pin(0, codes.byte_size());
    const auto* now = reinterpret_cast<const std::int8_t*>(mine->bytes().data());
    const auto* was = reinterpret_cast<const std::int8_t*>(theirs->bytes().data());
    const auto dims = codes.dims();
    const std::int64_t depth = dims[1];
    const std::int64_t taps = dims[2] * dims[3];
    for (std::int64_t i = 0; i < codes.elements(); ++i) {
      EXPECT_NE(now[i], -128);
      moved += now[i] != was[i] ? 1U : 0U;
    }
    // Neighbouring products, taps before channels, stay inside 16 bits.
    for (std::int64_t o = 0; o < dims[0]; ++o) {
      for (std::int64_t k = 0; k + 1 < depth * taps; k += 2) {
        const auto at = [&](std::int64_t i) {
          return int{now[(o * depth + i % depth) * taps + i / depth]};
        };
        if ((at(k) > 0) == (at(k + 1) > 0)) {
          EXPECT_LE(std::abs(at(k) + at(k + 1)), 128) << name << ' ' << o << ' ' << k;
        }
      }
    }
  }
  EXPECT_GT(moved, 10000U);
}

TEST_F(GptqStatic, ThreadsChangeNoByte) {
  GptqOutcome one;
  quantize(gptq_options("on"), 1, one);
  GptqOutcome three;
  quantize(gptq_options("on"), 3, three);
  EXPECT_EQ(save_model_bytes(*one.model).value(), save_model_bytes(*three.model).value());
}

TEST_F(GptqStatic, TheBestEffortRoundsButNotExcludedLayers) {
  Datum options = gptq_options("auto");
  options.set("effort", Datum::string("best"));
  Datum patterns = Datum::list();
  patterns.push(Datum::string("Conv"));
  options.set("exclude", std::move(patterns));
  GptqOutcome outcome;
  quantize(options, 1, outcome);
  const Datum facts = outcome.report.root().facts();
  const Datum& last = facts.find("passes")->as_list()->back();
  ASSERT_NE(last.find("steps"), nullptr);
  EXPECT_EQ(*last.find("steps")->as_list()->front().find("name")->as_string(), "gptq");
  for (const Decision& decision : outcome.explain.all()) {
    EXPECT_FALSE(decision.op_type == "Conv" && decision.why.starts_with("rounded by GPTQ"));
  }
}

}  // namespace
}  // namespace mcompress
