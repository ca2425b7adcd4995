// AWQ and GPTQ on networks whose channels have unlike ranges: what they gain, what stays, and that
// an interrupted run goes on.
#include "support/scaling_data.h"

namespace mcompress::testing {
namespace {

// Large channels meet weights that few bits round coarsely: AWQ makes room for them.
TEST_F(ScalingData, AwqServesTheChannelsThatCarryMost) {
  std::string gamma = "float[64] g = {";
  for (int i = 0; i < 64; ++i)
    gamma += (i > 0 ? "," : "") + std::to_string(i % 32 == 5 ? 40.0 : 0.5);
  const std::string text = scaling_model(
      "(float[N,4,64] x) => (float[N,4,48] y)",
      gamma + "}, " + weights("b", {64}) + ", " + weights("p", {64, 48}) + ", " +
          weights("q", {64, 48}),
      "n = LayerNormalization(x, g, b) u = MatMul(n, p) v = MatMul(n, q) y = Sub(u, v)");
  const auto original = model_from_text(text);
  open(*original, "x", {32, 4, 64}, {1});
  const auto floats = model_from_text(text);
  const auto scaled = run(*floats, {"infer-shapes", "awq:weight-method=awq"});
  EXPECT_EQ(scaled->applied("awq"), 1);
  expect_same_results(*original, *floats, 1e-4);

  const std::string blocks = "quantize-blocks:block-form=fold,weights=int4";
  const auto plain = model_from_text(text);
  (void)run(*plain, {"infer-shapes", blocks});
  const auto better = model_from_text(text);
  (void)run(*better, {"infer-shapes", "awq:weight-method=awq,weights=int4", blocks});
  EXPECT_GT(sqnr_db(*original, *better), sqnr_db(*original, *plain) + 1);

  // Other methods leave the model alone, and without anything to gain AWQ does, too.
  const auto same = model_from_text(text);
  EXPECT_EQ(run(*same, {"infer-shapes", "awq:weight-method=rtn"})->applied("awq"), 0);
  const auto by_layers = model_from_text(text);
  (void)run(*by_layers, {"infer-shapes", blocks + ",weight-method=gptq"});
  EXPECT_GT(sqnr_db(*original, *by_layers), sqnr_db(*original, *plain) + 0.5);
}

TEST_F(ScalingData, AwqLeavesAMulWhereNothingTakesTheFactor) {
  const std::string given = weights("w", {64, 48}) + ", " + weights("k", {64, 48});
  const std::string text =
      scaling_model("(float[N,4,64] x) => (float[N,4,48] y)", given,
                    "s = Sigmoid(x) t = Mul(x, s) u = MatMul(t, w) v = MatMul(t, k) y = Add(u, v)");
  const auto original = model_from_text(text);
  std::vector<float> factors(64, 0.5F);
  factors[5] = factors[37] = 60;
  open(*original, "x", {32, 4, 64}, factors);
  const auto floats = model_from_text(text);
  const auto scaled = run(*floats, {"infer-shapes", "awq:weight-method=awq"});
  EXPECT_EQ(scaled->count("awq", "inserted"), 1);
  EXPECT_EQ(count_nodes(*floats, "Mul"), 2);
  expect_same_results(*original, *floats, 1e-4);

  const std::string blocks = "quantize-blocks:block-form=fold,weights=int4";
  const auto plain = model_from_text(text);
  (void)run(*plain, {"infer-shapes", blocks});
  const auto better = model_from_text(text);
  (void)run(*better, {"infer-shapes", "awq:weight-method=awq,weights=int4", blocks});
  EXPECT_GT(sqnr_db(*original, *better), sqnr_db(*original, *plain) + 1);

  const auto without = model_from_text(text);
  const auto kept = run(*without, {"infer-shapes", "awq:weight-method=awq,awq-insert=false"});
  EXPECT_EQ(kept->applied("awq"), 0);
  EXPECT_EQ(count_nodes(*without, "Mul"), 1);
}

// Each group of a convolution sees channels of its own, which depend on each other.
TEST_F(ScalingData, GptqRoundsTheGroupsOfAConvolution) {
  const std::string text = scaling_model(
      "(float[N,4,6,6] x) => (float[N,32,6,6] y)",
      weights("a", {16, 4, 1, 1}) + ", " + weights("w", {32, 8, 3, 3}) + ", " + weights("b", {32}),
      "h = Conv(x, a) y = Conv<group=2,pads=[1,1,1,1]>(h, w, b)");
  const auto original = model_from_text(text);
  open(*original, "x", {48, 4, 6, 6}, {1, 0.2F, 3});
  const std::string blocks = "quantize-blocks:block-form=fold,weights=int4,block-size=0";
  const auto nearest = model_from_text(text);
  (void)run(*nearest, {"infer-shapes", blocks});
  const auto by_outputs = model_from_text(text);
  const auto result = run(*by_outputs, {"infer-shapes", blocks + ",weight-method=gptq"});
  EXPECT_EQ(result->applied("quantize-blocks"), 1);
  EXPECT_GT(sqnr_db(*original, *by_outputs), sqnr_db(*original, *nearest) + 3);

  // The same numbers in two convolutions, of which each sees what one group saw.
  const std::string halves = scaling_model(
      "(float[N,4,6,6] x) => (float[N,32,6,6] y)",
      weights("a", {16, 4, 1, 1}) + ", " + weights("w", {32, 8, 3, 3}) + ", " + weights("b", {32}) +
          ", int64[1] s0 = {0}, int64[1] s1 = {16}, int64[1] s2 = {32}, int64[1] c1 = {8}, "
          "int64[1] c2 = {16}, int64[1] rows = {0}, int64[1] axis = {1}",
      "h = Conv(x, a) h1 = Slice(h, s0, c1, axis) h2 = Slice(h, c1, c2, axis) "
      "w1 = Slice(w, s0, s1, rows) w2 = Slice(w, s1, s2, rows) b1 = Slice(b, s0, s1, rows) "
      "b2 = Slice(b, s1, s2, rows) y1 = Conv<pads=[1,1,1,1]>(h1, w1, b1) "
      "y2 = Conv<pads=[1,1,1,1]>(h2, w2, b2) y = Concat<axis=1>(y1, y2)");
  const auto split = model_from_text(halves);
  const auto apart = run(*split, {"infer-shapes", "fold-constants:max-growth=100000",
                                  "infer-shapes", blocks + ",weight-method=gptq"});
  EXPECT_EQ(apart->applied("quantize-blocks"), 2);
  EXPECT_NEAR(sqnr_db(*original, *by_outputs), sqnr_db(*original, *split), 0.5);
}

// Counts how often samples are asked for.
class CountedData final : public ForwardingData {
 public:
  using ForwardingData::ForwardingData;
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    ++asked;
    return ForwardingData::batch(first, count);
  }

  int asked = 0;
};

// Interrupts the search for scales in front of a group.
class InterruptedAt final : public Progress {
 public:
  explicit InterruptedAt(std::uint64_t group) : group_(group) {}
  void update(std::string_view stage, std::uint64_t done, std::uint64_t,
              std::string_view) override {
    if (stage == "scale channels" && done == group_) cancelled_ = true;
  }
  bool cancelled() const override { return cancelled_; }

 private:
  std::uint64_t group_;
  bool cancelled_ = false;
};

// Wherever it was interrupted: the same model, no sample read twice, no group searched twice.
TEST_F(ScalingData, AwqGoesOnFromAnInterruption) {
  std::string gamma = "float[64] g = {";
  for (int i = 0; i < 64; ++i)
    gamma += (i > 0 ? "," : "") + std::to_string(i % 32 == 5 ? 40.0 : 0.5);
  const std::string text = scaling_model(
      "(float[N,4,64] x) => (float[N,4,64] y)",
      gamma + "}, " + weights("b", {64}) + ", " + weights("p", {64, 64}) + ", " +
          weights("q", {64, 64}) + ", " + weights("r", {64, 64}),
      "n = LayerNormalization(x, g, b) u = MatMul(n, p) s = Sigmoid(u) t = Mul(u, s) "
      "v = MatMul(t, q) m = LayerNormalization(v, g, b) w = MatMul(m, r) y = Add(w, v)");
  const auto original = model_from_text(text);
  open(*original, "x", {32, 4, 64}, {1});
  const std::vector<std::string> passes = {"infer-shapes", "awq:weight-method=awq"};
  const auto whole = model_from_text(text);
  const auto straight = run(*whole, passes);
  const std::int64_t groups = straight->count("awq", "groups");
  ASSERT_EQ(groups, 3);
  ASSERT_GE(straight->count("awq", "scaled"), 2);
  EXPECT_EQ(straight->count("awq", "resumed"), -1);

  PrecisionServices services;
  services.journal = (folder_ / "journal").string();
  for (std::int64_t cut = 0; cut < groups; ++cut) {
    std::filesystem::remove(services.journal);
    CountedData counted(*data_);
    JudgedData data(counted, services);
    InterruptedAt interrupted(static_cast<std::uint64_t>(cut));
    const auto stopped = run_on(&data, *model_from_text(text), passes, &interrupted);
    ASSERT_FALSE(stopped->status.ok());
    EXPECT_EQ(stopped->status.error().code, Code::kCancelled);
    EXPECT_GT(counted.asked, 0);

    counted.asked = 0;
    const auto resumed = model_from_text(text);
    const auto rest = run_on(&data, *resumed, passes);
    ASSERT_TRUE(rest->status.ok()) << to_string(rest->status.error().diagnostic);
    EXPECT_EQ(counted.asked, 0);
    EXPECT_EQ(rest->count("awq", "resumed"), cut > 0 ? cut : -1);
    EXPECT_EQ(rest->count("awq", "scaled"), straight->count("awq", "scaled"));
    EXPECT_EQ(fingerprint(*resumed), fingerprint(*whole));

    const auto again = model_from_text(text);
    EXPECT_EQ(run_on(&data, *again, passes)->count("awq", "resumed"), groups);
    EXPECT_EQ(fingerprint(*again), fingerprint(*whole));
  }

  // Another format, and other samples.
  JudgedData data(*data_, services);
  const auto other =
      run_on(&data, *model_from_text(text), {"infer-shapes", "awq:weight-method=awq,weights=int4"});
  ASSERT_FALSE(other->status.ok());
  EXPECT_EQ(other->status.error().code, Code::kInput);
  const auto fewer =
      run_on(&data, *model_from_text(text), {"infer-shapes", "awq:weight-method=awq,samples=8"});
  EXPECT_FALSE(fewer->status.ok());
}

}  // namespace
}  // namespace mcompress::testing
