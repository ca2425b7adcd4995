// What passes see of the inputs of weights: the same at any number of threads, and not looked at
// twice where a caller keeps it.
#include "mcompress/seen_inputs.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mcompress/forwarding_data.h"
#include "mcompress/mcompress.h"

namespace mcompress {
namespace {

const std::filesystem::path kDigitModel =
    std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "models/digits";

// Counts the samples that are asked for.
class CountedData final : public ForwardingData {
 public:
  using ForwardingData::ForwardingData;
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    asked += count;
    return ForwardingData::batch(first, count);
  }

  std::int64_t asked = 0;
};

class SeenInputsOfPasses : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = find_runtime("onnxruntime");
    ASSERT_TRUE(runtime.ok());
    services_.runtime = *runtime;
    Diagnostics diagnostics;
    auto loaded = load_model(kDigitModel / "model.onnx", {}, diagnostics);
    ASSERT_TRUE(loaded.ok());
    original_ = std::move(loaded).value();
    auto session = services_.runtime->open(*original_, {});
    ASSERT_TRUE(session.ok());
    auto data = open_data(kDigitModel / "calib.npz", (*session)->inputs(), {}, diagnostics);
    ASSERT_TRUE(data.ok());
    file_ = std::move(data).value();
    data_ = std::make_unique<CountedData>(*file_);
    services_.calibration_data = data_.get();
  }

  std::unique_ptr<Model> after(const Model& model, const std::string& pass, const Datum& options,
                               int threads = 1) {
    auto copy = model.clone();
    Recipe recipe;
    for (const char* before : {"lift-constants", "infer-shapes", "raise-opset", "infer-shapes"}) {
      recipe.steps.push_back({before, Datum::map()});
    }
    recipe.steps.push_back({pass, options});
    Services services = services_;
    services.threads = threads;
    Explain explain;
    const Status status = run_unheard(*copy, recipe, services, explain);
    EXPECT_TRUE(status.ok());
    return copy;
  }
  // Rounded by what 40 samples show of the inputs.
  std::unique_ptr<Model> rounded(const Model& model, std::int64_t block, int threads = 1) {
    Datum options = Datum::map();
    options.set("samples", Datum::integer(40));
    options.set("block-size", Datum::integer(block));
    return after(model, "quantize-blocks", options, threads);
  }

  Services services_;
  std::unique_ptr<Model> original_;
  std::unique_ptr<DataSource> file_;
  std::unique_ptr<CountedData> data_;
};

TEST_F(SeenInputsOfPasses, ThreadsChangeNothing) {
  Datum options = Datum::map();
  options.set("samples", Datum::integer(40));
  options.set("bits", Datum::integer(4));
  const auto one = after(*original_, "cluster-weights", options, 1);
  const auto three = after(*original_, "cluster-weights", options, 3);
  EXPECT_EQ(fingerprint(*one), fingerprint(*three));
  EXPECT_EQ(fingerprint(*rounded(*original_, 32, 1)), fingerprint(*rounded(*original_, 32, 3)));
  // The data count: without them the codes are others.
  services_.calibration_data = nullptr;
  EXPECT_NE(fingerprint(*one), fingerprint(*after(*original_, "cluster-weights", options)));
}

TEST_F(SeenInputsOfPasses, TheSameInputsAreLookedAtOnce) {
  const auto fresh = rounded(*original_, 32);
  EXPECT_EQ(data_->asked, 40);
  SeenInputs seen;
  RememberingData remembering(*data_, seen);
  services_.calibration_data = &remembering;
  const auto other_blocks = rounded(*original_, 64);
  EXPECT_EQ(data_->asked, 80);
  EXPECT_EQ(seen.known.size(), 1U);
  const auto again = rounded(*original_, 32, 2);
  EXPECT_EQ(data_->asked, 80);
  EXPECT_EQ(fingerprint(*fresh), fingerprint(*again));
  EXPECT_NE(fingerprint(*fresh), fingerprint(*other_blocks));
}

TEST_F(SeenInputsOfPasses, OtherWeightsInFrontAreLookedAtAnew) {
  Datum half = Datum::map();
  half.set("sparsity", Datum::real(0.5));
  half.set("method", Datum::string("magnitude"));
  half.set("storage", Datum::string("dense"));
  const auto pruned = after(*original_, "prune-weights", half);
  EXPECT_NE(fingerprint(*pruned), fingerprint(*original_));
  SeenInputs seen;
  RememberingData remembering(*data_, seen);
  services_.calibration_data = &remembering;
  data_->asked = 0;
  const auto first = rounded(*original_, 32), second = rounded(*pruned, 32);
  EXPECT_EQ(data_->asked, 80);
  EXPECT_EQ(seen.known.size(), 2U);
}

}  // namespace
}  // namespace mcompress
