#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "mcompress/evaluate.h"
#include "runtime/part_groups.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::model_from_text;
using testing::TempFolder;
using testing::write_file;

// Rows of three floats for the input "x".
class Rows final : public DataSource {
 public:
  explicit Rows(std::vector<float> values) : values_(std::move(values)) {}
  std::int64_t count() const override { return static_cast<std::int64_t>(values_.size()) / 3; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "rows"; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    const auto part = std::span<const float>(values_).subspan(static_cast<std::size_t>(first * 3),
                                                              static_cast<std::size_t>(count * 3));
    return std::vector<NamedTensor>{{"x", make_float_tensor(part, {count, 3})}};
  }
  bool can_batch() const override { return true; }
  const Labels& labels() const override { return labels_; }

 private:
  std::vector<float> values_;
  Labels labels_;
};

const std::vector<float> kRows = {0.1F, 0.2F, 0.3F, -0.4F, 0.5F, 0.6F};

constexpr std::string_view kReference = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3] x) => (float[1, 3] z) <float two = {2.0}, float one = {1.0}> {
  a = Mul(x, two)
  b = Add(a, one)
  z = Neg(b)
})";

// `b` is a tenth too large; what follows is right.
constexpr std::string_view kWrong = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3] x) => (float[1, 3] z) <float two = {2.0}, float one = {1.1}> {
  a = Mul(x, two)
  b = Add(a, one)
  z = Neg(b)
})";

Result<LayerComparison> compared(std::string_view reference, std::string_view candidate,
                                 const LayerOptions& options = {}) {
  const auto left = model_from_text(reference), right = model_from_text(candidate);
  const auto runtime = find_runtime("onnxruntime").value();
  Rows rows(kRows);
  return compare_layers(*runtime, *left, *right, shared_values(*left, *right), rows, options,
                        silent_progress());
}

TEST(Layers, TellsTheLayerThatErrsFromThoseBehindIt) {
  const auto result = compared(kReference, kWrong);
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->layers.size(), 3U);
  EXPECT_EQ(result->samples, 2);
  const auto& [a, b, z] = std::tie(result->layers[0], result->layers[1], result->layers[2]);
  EXPECT_EQ(a.value, "a");
  EXPECT_EQ(a.op_type, "Mul");
  EXPECT_TRUE(std::isinf(a.accumulated_db));
  ASSERT_TRUE(a.own_db && b.own_db && z.own_db);
  EXPECT_TRUE(std::isinf(*a.own_db));
  // b = 2x + 1: 1.2 1.4 1.6 0.2 2 2.2; sum of squares 14.84; each is 0.1 off.
  double signal = 0;
  for (const float x : kRows) signal += (2 * double{x} + 1) * (2 * double{x} + 1);
  const double expected = 10 * std::log10(signal / (6 * 0.01));
  EXPECT_NEAR(b.accumulated_db, expected, 1e-3);
  EXPECT_NEAR(*b.own_db, expected, 1e-3);
  EXPECT_NEAR(b.max_abs_error, 0.1, 1e-6);
  EXPECT_NEAR(z.accumulated_db, expected, 1e-3);
  EXPECT_TRUE(std::isinf(*z.own_db)) << "Neg by itself makes no error";
  EXPECT_EQ(result->first_differing, 1U);
  EXPECT_EQ(result->worst_own, 1U);
}

// Codes of scale 0.5 for what `a` says, behind it.
constexpr std::string_view kRounded = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3] x) => (float[1, 3] z)
<float two = {2.0}, float one = {1.0}, float s = {0.5}, uint8 zp = {128}> {
  a = Mul(x, two)
  q = QuantizeLinear(a, s, zp)
  d = DequantizeLinear(q, s, zp)
  b = Add(d, one)
  z = Neg(b)
})";

TEST(Layers, ComparesWhatReadersOfARoundedValueGet) {
  const auto result = compared(kReference, kRounded);
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->layers.size(), 3U);
  double signal = 0, noise = 0;
  for (const float x : kRows) {
    const double a = 2 * double{x};
    const double rounded = std::nearbyint(a / 0.5) * 0.5;
    signal += a * a;
    noise += (rounded - a) * (rounded - a);
  }
  const double expected = 10 * std::log10(signal / noise);
  EXPECT_NEAR(result->layers[0].accumulated_db, expected, 1e-3);
  EXPECT_NEAR(*result->layers[0].own_db, expected, 1e-3);
  EXPECT_EQ(result->layers[0].nodes, 3);
  // The quantizers in front belong to the layer that reads through them: it errs by itself too.
  EXPECT_EQ(result->layers[1].nodes, 3);
  EXPECT_FALSE(std::isinf(*result->layers[1].own_db));
  EXPECT_TRUE(std::isinf(*result->layers[2].own_db));
}

TEST(Layers, ASmallBudgetChangesNoResult) {
  LayerOptions tiny;
  tiny.memory_budget = 1;
  const auto whole = compared(kReference, kRounded), parts = compared(kReference, kRounded, tiny);
  ASSERT_TRUE(whole.ok() && parts.ok());
  ASSERT_EQ(whole->layers.size(), parts->layers.size());
  for (std::size_t i = 0; i < whole->layers.size(); ++i) {
    EXPECT_EQ(whole->layers[i].accumulated_db, parts->layers[i].accumulated_db);
    EXPECT_EQ(whole->layers[i].own_db, parts->layers[i].own_db);
  }
}

TEST(Layers, CountsOwnSamplesAndSaysWhenNoneWereAskedFor) {
  LayerOptions none;
  none.own_limit = 0;
  const auto result = compared(kReference, kWrong, none);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->own_samples, 0);
  EXPECT_FALSE(result->layers[1].own_db);
  EXPECT_EQ(result->layers[1].why_no_own, "not asked for");
  EXPECT_FALSE(result->worst_own);
}

TEST(Layers, ThoseThatASampleDoesNotFitLeaveTheOthersAlone) {
  const auto text = [](std::string_view two) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1, 3] x) => (float[1, 3] a, "
           "float[2, n] "
           "d) <float two = {" +
           std::string(two) +
           "}> { a = Mul(x, two) i = NonZero(x) f = Cast<to=1>(i) d = Mul(f, two) }";
  };
  const auto left = model_from_text(text("2.0")), right = model_from_text(text("2.2"));
  const auto runtime = find_runtime("onnxruntime").value();
  // The second row has two elements that are not zero, the first and the third have three.
  Rows rows({1, 2, 3, 5, 0, 7, 1, 1, 1});
  const auto result = compare_layers(*runtime, *left, *right, shared_values(*left, *right), rows,
                                     {}, silent_progress());
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->layers.size(), 3U);
  const LayerError &a = result->layers[0], &d = result->layers[2];
  EXPECT_EQ(d.value, "d");
  ASSERT_TRUE(a.own_db && d.own_db);
  // Each is a tenth off.
  EXPECT_NEAR(*a.own_db, 20, 1e-3);
  EXPECT_NEAR(*d.own_db, 20, 1e-3);
  EXPECT_EQ(a.values, 9);
  EXPECT_EQ(d.values, 16);
}

TEST(Layers, SideBySideStandsWhatDoesNotReadEachOther) {
  // A chain with a branch across: every value is fed to the next node, each node a part.
  constexpr std::size_t kNodes = 1500;
  std::string body = "v0 = Neg(x) ";
  for (std::size_t i = 1; i < kNodes; ++i) {
    const std::size_t far = i < 40 ? 0 : i - 40;
    body += "v" + std::to_string(i) + " = Add(v" + std::to_string(i - 1) + ", v" +
            std::to_string(far) + ") ";
  }
  const auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[3] x) => "
      "(float[3] v1499) { " +
      body + "}");
  std::vector<const Node*> nodes;
  for (const Node* node : model->graph().nodes()) nodes.push_back(node);
  std::vector<std::vector<const Value*>> feeds;
  feeds.reserve(nodes.size());
  for (const Node* node : nodes) feeds.emplace_back(node->inputs().begin(), node->inputs().end());
  std::vector<PartNeeds> parts;
  for (std::size_t i = 0; i < kNodes; ++i) parts.push_back({std::span(&nodes[i], 1), feeds[i]});
  const auto groups = groups_of_parts(parts);
  std::vector<int> seen(kNodes);
  for (const std::vector<std::size_t>& group : groups) {
    std::set<const Value*> made, fed;
    for (const std::size_t i : group) {
      ++seen[i];
      made.insert(nodes[i]->output(0));
      fed.insert(feeds[i].begin(), feeds[i].end());
    }
    for (const Value* value : made) EXPECT_FALSE(fed.contains(value));
  }
  for (const int times : seen) EXPECT_EQ(times, 1);
  EXPECT_LE(groups.size(), 24U);
  EXPECT_EQ(groups, groups_of_parts(parts));
}

// Sequences have no numbers to compare; the layers around them do.
TEST(Layers, LooksPastSequences) {
  constexpr std::string_view kSequences = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3] x) => (float[1, 6] z) <float two = {2.0}> {
  a = Mul(x, two)
  s = SequenceConstruct(a, x)
  t = Identity(s)
  c = ConcatFromSequence<axis = 1>(t)
  z = Neg(c)
})";
  const auto result = compared(kSequences, kSequences);
  ASSERT_TRUE(result.ok()) << result.error().diagnostic.message;
  ASSERT_EQ(result->layers.size(), 3U);
  EXPECT_EQ(result->layers[0].value, "a");
  EXPECT_EQ(result->layers[1].value, "c");
  EXPECT_EQ(result->layers[2].value, "z");
  for (const LayerError& layer : result->layers) EXPECT_TRUE(std::isinf(layer.accumulated_db));
  EXPECT_EQ(result->layers[1].why_no_own, "'t' could not be observed");
  EXPECT_TRUE(result->layers[2].own_db);
}

TEST(Layers, SaysWhenNothingIsShared) {
  const auto result = compared(kReference, R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3] x) => (float[1, 3] other) { other = Neg(x) })");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::kInput);
  EXPECT_EQ(result.error().diagnostic.id, "no-common-layer");
}

// ---------------------------------------------------------------------------------------- energy

void counter(const TempFolder& folder, const std::string& name, const std::string& microjoules,
             const std::string& range) {
  std::filesystem::create_directories(folder / name);
  write_file(folder.path() / name / "energy_uj", microjoules);
  write_file(folder.path() / name / "max_energy_range_uj", range);
}

TEST(Energy, AddsPackagesAndKnowsWhenACounterStartsAgain) {
  const TempFolder folder;
  counter(folder, "intel-rapl:0", "1000000\n", "5000000\n");
  counter(folder, "intel-rapl:1", "4900000\n", "5000000\n");
  counter(folder, "intel-rapl:0:0", "77\n", "5000000\n");  // a part of package 0
  counter(folder, "intel-rapl-mmio:0", "5\n", "5000000\n");
  EnergyMeter meter(folder.path());
  ASSERT_TRUE(meter.works());
  meter.start();
  counter(folder, "intel-rapl:0", "1250000\n", "5000000\n");
  counter(folder, "intel-rapl:1", "400000\n", "5000000\n");
  ASSERT_TRUE(meter.joules());
  EXPECT_DOUBLE_EQ(*meter.joules(), 0.25 + 0.5);
}

TEST(Energy, IsSilentWithoutCounters) {
  const TempFolder folder;
  EnergyMeter meter(folder / "nothing");
  EXPECT_FALSE(meter.works());
  meter.start();
  EXPECT_FALSE(meter.joules());
}

}  // namespace
}  // namespace mcompress
