// What passes see of the inputs of weights: the same at any number of threads, and not looked at
// twice where a caller keeps it.
#include "mcompress/seen_inputs.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mcompress/mcompress.h"

namespace mcompress {
namespace {

const std::filesystem::path kDigitModel =
    std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "models/digits";

// Counts the samples that are asked for.
class CountedData final : public DataSource {
 public:
  explicit CountedData(DataSource& data) : data_(data) {}
  std::int64_t count() const override { return data_.count(); }
  std::uint64_t digest() const override { return data_.digest(); }
  std::string description() const override { return data_.description(); }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    asked += count;
    return data_.batch(first, count);
  }
  bool can_batch() const override { return data_.can_batch(); }
  const Labels& labels() const override { return data_.labels(); }

  std::int64_t asked = 0;

 private:
  DataSource& data_;
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

  // The model after one pass, which looks at 40 samples.
  std::unique_ptr<Model> after(const Model& model, const std::string& pass, int threads,
                               const std::string& key, std::int64_t value) {
    auto copy = model.clone();
    Recipe recipe;
    recipe.steps = {{"lift-constants", Datum::map()}, {pass, Datum::map()}};
    recipe.steps[1].options.set("samples", Datum::integer(40));
    recipe.steps[1].options.set(key, Datum::integer(value));
    Services services = services_;
    services.threads = threads;
    Explain explain;
    const Status status = run_unheard(*copy, recipe, services, explain);
    EXPECT_TRUE(status.ok());
    return copy;
  }

  Services services_;
  std::unique_ptr<Model> original_;
  std::unique_ptr<DataSource> file_;
  std::unique_ptr<CountedData> data_;
};

TEST_F(SeenInputsOfPasses, ThreadsChangeNothing) {
  const auto one = after(*original_, "cluster-weights", 1, "bits", 4);
  const auto three = after(*original_, "cluster-weights", 3, "bits", 4);
  EXPECT_EQ(fingerprint(*one), fingerprint(*three));
  EXPECT_NE(fingerprint(*one), fingerprint(*original_));
  // The data count: without them the codes are others.
  services_.calibration_data = nullptr;
  EXPECT_NE(fingerprint(*one), fingerprint(*after(*original_, "cluster-weights", 1, "bits", 4)));
}

TEST_F(SeenInputsOfPasses, TheSameInputsAreLookedAtOnce) {
  const auto fresh = after(*original_, "cluster-weights", 1, "bits", 3);
  EXPECT_EQ(data_->asked, 40);
  SeenInputs seen;
  RememberingData remembering(*data_, seen);
  services_.calibration_data = &remembering;
  const auto other_bits = after(*original_, "cluster-weights", 1, "bits", 5);
  EXPECT_EQ(data_->asked, 80);
  EXPECT_EQ(seen.known.size(), 1U);
  const auto again = after(*original_, "cluster-weights", 2, "bits", 3);
  EXPECT_EQ(data_->asked, 80);
  EXPECT_EQ(fingerprint(*fresh), fingerprint(*again));
}

TEST_F(SeenInputsOfPasses, OtherWeightsInFrontAreLookedAtAnew) {
  SeenInputs seen;
  RememberingData remembering(*data_, seen);
  services_.calibration_data = &remembering;
  const auto first = after(*original_, "cluster-weights", 1, "bits", 3);
  const std::int64_t before = data_->asked;
  // Inputs are what the rounded weights make of the samples, now.
  const auto second = after(*first, "cluster-weights", 1, "bits", 2);
  EXPECT_EQ(data_->asked, before + 40);
  EXPECT_EQ(seen.known.size(), 2U);
}

}  // namespace
}  // namespace mcompress
