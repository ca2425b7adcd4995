// Networks whose channels have unlike ranges, their data, and passes run on them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ir/facts.h"
#include "mcompress/precision.h"
#include "support/arrays.h"
#include "support/executor.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {

inline std::string scaling_model(std::string_view signature, const std::string& given,
                                 std::string_view body) {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(signature) + " <" + given +
         "> { " + std::string(body) + " }";
}

// A network whose channels have ranges from 1 to 1/256, and its data.
class ScalingData : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = find_runtime("onnxruntime");
    ASSERT_TRUE(runtime.ok());
    runtime_ = *runtime;
  }

  // Samples of one input.
  void open(const Model& model, const std::string& name, std::vector<std::int64_t> dims,
            const std::vector<float>& factors) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::int64_t count = 1;
    for (const std::int64_t dim : dims) count *= dim;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = normal(random) * factors[i % factors.size()];
    }
    write_npz(folder_ / "data.npz", {{name, npy_floats(dims, values)}});
    auto session = runtime_->open(model, {});
    ASSERT_TRUE(session.ok()) << to_string(session.error().diagnostic);
    Diagnostics diagnostics;
    auto data = open_data(folder_ / "data.npz", (*session)->inputs(), {}, diagnostics);
    ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
    data_ = std::move(data).value();
  }

  std::unique_ptr<PassRun> run(Model& model, const std::vector<std::string>& passes) {
    auto result = run_on(data_.get(), model, passes);
    EXPECT_TRUE(result->status.ok()) << to_string(result->status.error().diagnostic);
    return result;
  }

  std::unique_ptr<PassRun> run_on(DataSource* data, Model& model,
                                  const std::vector<std::string>& passes,
                                  Progress* progress = nullptr) {
    auto result = std::make_unique<PassRun>();
    Datum list = Datum::list();
    for (const std::string& pass : passes) {
      const std::size_t colon = pass.find(':');
      Datum step = Datum::map();
      if (colon != std::string::npos) {
        for (const auto& [key, value] : options_of(pass.substr(colon + 1))) {
          step.set(key, Datum::text(value, {}));
        }
      }
      step.set("pass", Datum::string(pass.substr(0, colon)));
      list.push(std::move(step));
    }
    Datum recipe = Datum::map();
    recipe.set("passes", std::move(list));
    recipe.set("target", Datum::string("generic-qdq"));  // weighs no costs
    auto parsed = parse_recipe(recipe, builtin_passes(), result->diagnostics);
    EXPECT_TRUE(parsed.ok());
    Services services;
    services.runtime = runtime_;
    services.calibration_data = data;
    services.progress = progress;
    services.diagnostics = &result->diagnostics;
    result->status = run_pipeline(model, *parsed, builtin_passes(), services, {}, result->explain,
                                  result->report);
    return result;
  }

  double sqnr_db(const Model& original, const Model& candidate) {
    auto left = runtime_->open(original, {});
    auto right = runtime_->open(candidate, {});
    EXPECT_TRUE(left.ok() && right.ok());
    double signal = 0;
    double noise = 0;
    const std::vector<std::string> fetch = {"y"};
    for (std::int64_t i = 0; i < data_->count(); ++i) {
      auto feeds = data_->sample(i);
      auto expected = read_floats((*left)->run(*feeds, fetch)->front());
      auto actual = read_floats((*right)->run(*feeds, fetch)->front());
      for (std::size_t k = 0; k < expected->size(); ++k) {
        signal += std::pow((*expected)[k], 2);
        noise += std::pow(double{(*expected)[k]} - (*actual)[k], 2);
      }
    }
    return noise > 0 ? 10 * std::log10(signal / noise) : 200;
  }

  TempFolder folder_;
  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<DataSource> data_;

 private:
  // "name=value,name=value"
  static std::vector<std::pair<std::string, std::string>> options_of(const std::string& text) {
    std::vector<std::pair<std::string, std::string>> options;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find(',', at), text.size());
      const std::size_t equal = text.find('=', at);
      options.emplace_back(text.substr(at, equal - at), text.substr(equal + 1, end - equal - 1));
      at = end + 1;
    }
    return options;
  }
};

}  // namespace mcompress::testing
