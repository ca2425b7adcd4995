#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <random>

#include "calibration/observers.h"
#include "mcompress/calibration.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::model_from_text;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Runtime& runtime() {
  static const std::shared_ptr<Runtime> found = find_runtime("onnxruntime").value();
  return *found;
}

// Samples from memory: each is one tensor for the input "x". Equal shapes can be batched.
class Samples final : public DataSource {
 public:
  Samples(std::vector<std::vector<float>> rows, std::vector<std::int64_t> row_dims)
      : rows_(std::move(rows)), dims_(std::move(row_dims)) {}
  std::int64_t count() const override { return static_cast<std::int64_t>(rows_.size()); }
  std::uint64_t digest() const override { return digest_value; }
  std::string description() const override { return "memory"; }
  bool can_batch() const override { return batchable; }
  std::int64_t fixed_batch() const override { return fixed; }
  const Labels& labels() const override { return labels_; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    largest_batch = std::max(largest_batch, count);
    if (first <= broken_row && broken_row < first + count) {
      return Error(Code::kInput, "broken", "the row is broken");
    }
    std::vector<float> values;
    for (std::int64_t i = first; i < first + count; ++i) {
      const auto& row = rows_[static_cast<std::size_t>(i)];
      values.insert(values.end(), row.begin(), row.end());
    }
    std::vector<std::int64_t> dims = dims_;
    if (varying) dims.back() = static_cast<std::int64_t>(values.size());
    dims.insert(dims.begin(), count);
    return std::vector<NamedTensor>{{"x", make_float_tensor(values, std::move(dims))}};
  }

  bool batchable = true, varying = false;
  std::int64_t fixed = 0, broken_row = -1, largest_batch = 0;
  std::uint64_t digest_value = 42;

 private:
  std::vector<std::vector<float>> rows_;
  std::vector<std::int64_t> dims_;
  Labels labels_;
};

std::vector<std::vector<float>> random_rows(std::size_t rows, std::size_t width) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> result(rows, std::vector<float>(width));
  for (auto& row : result) {
    for (float& x : row) x = normal(random);
  }
  return result;
}

class Watcher final : public Progress {
 public:
  void update(std::string_view stage, std::uint64_t done, std::uint64_t total,
              std::string_view unit) override {
    EXPECT_EQ(stage, "calibrate");
    EXPECT_EQ(unit, "samples");
    EXPECT_GE(done, last_done);
    last_done = done;
    last_total = total;
    if (done >= cancel_at) stop = true;
  }
  bool cancelled() const override { return stop; }
  std::uint64_t last_done = 0, last_total = 0, cancel_at = ~std::uint64_t{0};
  bool stop = false;
};

struct Outcome {
  Result<CalibrationTable> table = Error();
  Diagnostics diagnostics;  // without the plan
  std::string plan;
};

Outcome run(const Model& model, DataSource& data, const CalibrationRequest& request,
            const CalibratorOptions& options = {}, Progress& progress = silent_progress()) {
  Outcome outcome;
  Diagnostics all;
  outcome.table = calibrate(runtime(), model, data, request, options, all, progress);
  for (const Diagnostic& diagnostic : all.all()) {
    if (diagnostic.id == "calibration-plan") {
      outcome.plan = diagnostic.message;
    } else {
      outcome.diagnostics.add(diagnostic);
    }
  }
  return outcome;
}

CalibrationRequest of(std::vector<std::string> values) {
  CalibrationRequest request;
  request.values = std::move(values);
  return request;
}

std::string text_of(const Outcome& outcome) {
  if (!outcome.table.ok()) return to_string(outcome.table.error().diagnostic);
  auto text = outcome.table->to_json();
  return text.ok() ? *text : "no text";
}

constexpr std::string_view kRelu = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3, 4] x) => (float[n, 3, 4] y) { h = Relu(x) k = Abs(x) y = Add(h, k) }
)";

TEST(Calibrator, EqualsADirectComputation) {
  const auto model = model_from_text(kRelu);
  const auto rows = random_rows(50, 12);
  Samples data(rows, {3, 4});
  CalibrationRequest request = of({"x", "h", "y", "h"});
  request.channel_values = {"h"};
  request.last_axis_values = {"x"};
  Watcher progress;
  const Outcome outcome = run(*model, data, request, {}, progress);
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  const CalibrationTable& table = *outcome.table;
  EXPECT_EQ(table.all().size(), 3u);
  EXPECT_EQ(table.samples, 50);
  EXPECT_EQ(table.model_digest, fingerprint(*model));
  EXPECT_EQ(table.data_digests, std::vector<std::uint64_t>{42});
  EXPECT_TRUE(table.runtime.starts_with("onnxruntime"));
  EXPECT_EQ(progress.last_done, 50u);
  EXPECT_EQ(progress.last_total, 50u);
  EXPECT_TRUE(outcome.diagnostics.all().empty());
  Histogram x, h, y;
  std::vector<double> channels(3), last(4);
  for (const auto& row : rows) {
    std::vector<float> relu, sum;
    for (std::size_t i = 0; i < row.size(); ++i) {
      relu.push_back(std::max(row[i], 0.0f));
      sum.push_back(relu.back() + std::abs(row[i]));
      channels[i / 4] += static_cast<double>(relu.back()) / (50 * 4);
      last[i % 4] += static_cast<double>(row[i]) / (50 * 3);
    }
    x.add(row);
    h.add(relu);
    y.add(sum);
  }
  for (const auto& [name, histogram] :
       {std::pair("x", &x), std::pair("h", &h), std::pair("y", &y)}) {
    const ValueStats expected = to_value_stats(*histogram);
    const ValueStats& seen = *table.find(name);
    EXPECT_EQ(seen.minimum, expected.minimum) << name;
    EXPECT_EQ(seen.maximum, expected.maximum) << name;
    EXPECT_EQ(seen.mean, expected.mean) << name;
    EXPECT_EQ(seen.mean_square, expected.mean_square) << name;
    EXPECT_EQ(seen.count, expected.count) << name;
    EXPECT_EQ(seen.zero_count, expected.zero_count) << name;
    EXPECT_EQ(seen.bins, expected.bins) << name;
  }
  ASSERT_EQ(table.find("h")->channel_means.size(), 3u);
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(table.find("h")->channel_means[c], channels[c], 1e-9);
  }
  ASSERT_EQ(table.find("x")->channel_means.size(), 4u);
  for (std::size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(table.find("x")->channel_means[c], last[c], 1e-9);
  }
  EXPECT_TRUE(table.find("y")->channel_means.empty());
}

TEST(Calibrator, NeitherBudgetNorThreadsChangeAByte) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 16] x) => (float[n, 16] y)
<float[16, 16] w = {)" + [] {
    std::string numbers;
    for (int i = 0; i < 256; ++i) numbers += (i > 0 ? ", 0." : "0.") + std::to_string(i * 37 % 91);
    return numbers;
  }() + R"(}> { h = MatMul(x, w) s = Softmax(h) t = MatMul(s, w) y = Tanh(t) }
)");
  CalibrationRequest request = of({"x", "h", "s", "t", "y"});
  request.channel_values = {"h", "t"};
  std::string first;
  bool several_passes = false;
  std::vector<std::uint64_t> budgets = {0, 1, ~std::uint64_t{0}};
  for (std::uint64_t kib = 200; kib < 700; kib += 16) budgets.push_back(kib << 10);
  for (const int threads : {1, 2, 5}) {
    for (const std::uint64_t budget : budgets) {
      Samples data(random_rows(301, 16), {16});
      CalibratorOptions options;
      options.threads = threads;
      options.memory_budget = budget;
      Watcher progress;
      const Outcome outcome = run(*model, data, request, options, progress);
      ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
      if (first.empty()) first = text_of(outcome);
      EXPECT_EQ(text_of(outcome), first) << threads << " threads, budget " << budget;
      EXPECT_EQ(outcome.table->samples, 301);
      EXPECT_GT(data.largest_batch, 1);
      const bool passes = outcome.plan.find(" passes over the data") != std::string::npos;
      several_passes = several_passes || passes;
      EXPECT_EQ(progress.last_done, progress.last_total);
      EXPECT_EQ(progress.last_total > 301, passes) << outcome.plan;
      const bool over = !outcome.diagnostics.all().empty();
      if (budget < 2 || budget == ~std::uint64_t{0}) {
        EXPECT_EQ(over, budget == 1) << "a budget that no run fits is said";
      }
      if (over) {
        EXPECT_EQ(outcome.diagnostics.all()[0].id, "calibration-over-budget");
        EXPECT_EQ(outcome.diagnostics.all().size(), 1u);
      }
    }
  }
  EXPECT_TRUE(several_passes);
}

TEST(Calibrator, NanAndInfinityAreCountedAndNamed) {
  const auto model = model_from_text(kRelu);
  auto rows = random_rows(3, 12);
  rows[1][2] = kNan;
  rows[2][0] = kInf;
  rows[2][1] = -kInf;
  Samples data(rows, {3, 4});
  CalibrationRequest request = of({"x", "k"});
  request.channel_values = {"x"};
  const Outcome outcome = run(*model, data, request);
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_EQ(outcome.table->find("x")->nan_count, 1);
  EXPECT_EQ(outcome.table->find("x")->infinity_count, 2);
  EXPECT_EQ(outcome.table->find("x")->count, 33);
  for (const double mean : outcome.table->find("x")->channel_means)
    EXPECT_TRUE(std::isfinite(mean));
  ASSERT_EQ(outcome.diagnostics.all().size(), 1u);
  EXPECT_EQ(to_string(outcome.diagnostics.all()[0]),
            "x: 1 NaN and 2 infinite elements were seen here and left out of the range; such "
            "elements are also in 'k'");
}

TEST(Calibrator, ValuesWithoutElementsAreNamed) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, m] x) => (float[n, m] y) { y = Relu(x) }
)");
  Samples data({{}, {}}, {0});
  const Outcome outcome = run(*model, data, of({"y"}));
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_EQ(outcome.table->find("y")->count, 0);
  ASSERT_EQ(outcome.diagnostics.all().size(), 1u);
  EXPECT_EQ(outcome.diagnostics.all()[0].message,
            "no finite element was seen in 'y': there is no range");
  EXPECT_TRUE(outcome.table->to_json().ok());
}

TEST(Calibrator, ShapesMayVary) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, m] x) => (float[n, m] y) { y = Neg(x) }
)");
  Samples data({{1, 2, 3}, {}, {4}, {5, 6}}, {0});
  data.batchable = false;
  data.varying = true;
  CalibrationRequest request = of({"y"});
  request.channel_values = {"y"};
  for (const int threads : {1, 3}) {
    CalibratorOptions options;
    options.threads = threads;
    const Outcome outcome = run(*model, data, request, options);
    ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
    EXPECT_EQ(outcome.table->find("y")->count, 6);
    EXPECT_EQ(outcome.table->find("y")->minimum, -6);
    EXPECT_TRUE(outcome.table->find("y")->channel_means.empty());
    EXPECT_EQ(data.largest_batch, 1);
  }
}

TEST(Calibrator, FixedBatchIsFilledFromTheBeginning) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[4, 1] x) => (float[4, 1] y) { y = Relu(x) }
)");
  Samples data({{1}, {2}, {3}, {4}, {5}, {6}}, {1});
  data.fixed = 4;
  const Outcome outcome = run(*model, data, of({"y"}));
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_EQ(outcome.table->find("y")->count, 8);
  EXPECT_NEAR(outcome.table->find("y")->mean, (21.0 + 3.0) / 8, 0.01);
  EXPECT_EQ(outcome.table->samples, 6);
  ASSERT_EQ(outcome.diagnostics.all().size(), 1u);
  EXPECT_EQ(outcome.diagnostics.all()[0].id, "calibration-wrapped");
  Samples few({{1}, {2}, {3}}, {1});
  few.fixed = 4;
  const Outcome again = run(*model, few, of({"y"}));
  ASSERT_TRUE(again.table.ok()) << text_of(again);
  EXPECT_NEAR(again.table->find("y")->mean, (6.0 + 1.0) / 4, 0.01);
}

TEST(Calibrator, AModelMadeForOneSampleIsRunOneByOne) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (float[1, 4] y) <int64[2] shape = {1, 4}>
{ h = Relu(x) r = Reshape(h, shape) y = Neg(r) }
)");
  Samples data(random_rows(20, 4), {4});
  const Outcome outcome = run(*model, data, of({"h", "y"}));
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_GT(data.largest_batch, 1);
  EXPECT_EQ(outcome.table->find("h")->count, 80);
  EXPECT_EQ(outcome.table->find("y")->count, 80);
  ASSERT_EQ(outcome.diagnostics.all().size(), 1u);
  EXPECT_EQ(outcome.diagnostics.all()[0].id, "calibration-unbatched");
}

TEST(Calibrator, OtherFloatTypesAreObserved) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (float16[n, 4] h, double[n, 4] d)
{ h = Cast <to: int = 10> (x) d = Cast <to: int = 11> (x) }
)");
  Samples data({{1, -2.5f, 0, 3}, {4, 5, 6, 7}}, {4});
  CalibrationRequest request = of({"h", "d"});
  request.channel_values = {"d"};
  const Outcome outcome = run(*model, data, request);
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  for (const char* name : {"h", "d"}) {
    EXPECT_EQ(outcome.table->find(name)->minimum, -2.5);
    EXPECT_EQ(outcome.table->find(name)->maximum, 7.0);
    EXPECT_EQ(outcome.table->find(name)->count, 8);
  }
  EXPECT_EQ(outcome.table->find("d")->channel_means, (std::vector<double>{2.5, 1.25, 3, 5}));
}

TEST(Calibrator, ValuesCapturedByBranchesAndOutputsOfThem) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2] x) => (float[n, 2] y) <bool c = {1}>
{
  h = Relu(x)
  b = If (c) <
    then_branch = then_graph () => (float[n, 2] t) { t = Neg(h) },
    else_branch = else_graph () => (float[n, 2] e) { e = Identity(h) }
  >
  y = Abs(b)
}
)");
  Samples data({{1, -1}, {2, 3}}, {2});
  const Outcome outcome = run(*model, data, of({"h", "b", "y"}));
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_EQ(outcome.table->find("h")->maximum, 3);
  EXPECT_EQ(outcome.table->find("b")->minimum, -3);
  EXPECT_EQ(outcome.table->find("y")->maximum, 3);
  const Outcome inner = run(*model, data, of({"t"}));
  ASSERT_FALSE(inner.table.ok());
  EXPECT_EQ(text_of(inner), "t: the model's top graph has no value of this name");
}

TEST(Calibrator, RefusesWhatIsNoFloat) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (int64[2] y) { y = Shape(x) }
)");
  Samples data({{1, 2, 3, 4}}, {4});
  const Outcome outcome = run(*model, data, of({"y"}));
  ASSERT_FALSE(outcome.table.ok());
  EXPECT_EQ(outcome.table.error().code, Code::kInput);
  EXPECT_EQ(text_of(outcome), "y: only float values can be observed, this is int64");
}

TEST(Calibrator, TheFirstSamplesOnly) {
  const auto model = model_from_text(kRelu);
  Samples data(random_rows(30, 12), {3, 4});
  CalibrationRequest request = of({"x"});
  request.samples = 7;
  Outcome outcome = run(*model, data, request);
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_EQ(outcome.table->samples, 7);
  EXPECT_EQ(outcome.table->find("x")->count, 7 * 12);
  request.samples = 700;
  outcome = run(*model, data, request);
  EXPECT_EQ(outcome.table->samples, 30);
}

TEST(Calibrator, EnoughActivationsComeFromSamplesAllOverTheData) {
  const auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 1024] x) => (float[n, 1024] y) { y = Neg(x) }
)");
  std::vector<std::vector<float>> rows;
  rows.reserve(3000);
  for (int i = 0; i < 3000; ++i) rows.emplace_back(1024, static_cast<float>(i));
  CalibrationRequest request = of({"y"});
  request.enough_bytes = 1 << 20;  // 256 samples
  std::string first;
  for (const int threads : {1, 3}) {
    Samples data(rows, {1024});
    CalibratorOptions options;
    options.threads = threads;
    const Outcome outcome = run(*model, data, request, options);
    ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
    EXPECT_GE(outcome.table->samples, 256);
    EXPECT_LT(outcome.table->samples, 400);
    // The plan and what it came to agree, whatever the threads.
    EXPECT_NE(outcome.plan.find(std::to_string(outcome.table->observed.size()) + " runs of up to"),
              std::string::npos)
        << outcome.plan;
    EXPECT_NE(outcome.plan.find("256.00 MiB"), std::string::npos) << outcome.plan;
    std::int64_t observed = 0, end = 0;
    for (const auto& [from, count] : outcome.table->observed) {
      EXPECT_GE(from, end) << "ascending, none twice";
      end = from + count;
      observed += count;
    }
    EXPECT_EQ(observed, outcome.table->samples);
    EXPECT_LE(end, 3000);
    EXPECT_EQ(outcome.table->find("y")->count, outcome.table->samples * 1024);
    EXPECT_LT(outcome.table->find("y")->minimum, -2000);
    EXPECT_NEAR(outcome.table->find("y")->mean, -1500, 400);
    ASSERT_EQ(outcome.diagnostics.all().size(), 1u);
    EXPECT_EQ(outcome.diagnostics.all()[0].id, "calibration-enough");
    if (first.empty()) first = text_of(outcome);
    EXPECT_EQ(text_of(outcome), first);
  }
  Samples few(std::vector<std::vector<float>>(rows.begin(), rows.begin() + 20), {1024});
  request.enough_bytes = 1;
  const Outcome all = run(*model, few, request);
  ASSERT_TRUE(all.table.ok()) << text_of(all);
  EXPECT_EQ(all.table->samples, 20);
  EXPECT_TRUE(all.diagnostics.all().empty());
}

TEST(Calibrator, AskedForABatchGetsIt) {
  const auto model = model_from_text(kRelu);
  Samples data(random_rows(30, 12), {3, 4});
  CalibratorOptions options;
  options.batch = 5;
  const Outcome outcome = run(*model, data, of({"x"}), options);
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_EQ(data.largest_batch, 5);
  EXPECT_EQ(outcome.table->find("x")->count, 30 * 12);
}

TEST(Calibrator, FailuresComeThrough) {
  const auto model = model_from_text(kRelu);
  for (const int threads : {1, 4}) {
    CalibratorOptions options;
    options.threads = threads;
    options.batch = 1;
    Samples data(random_rows(30, 12), {3, 4});
    data.broken_row = 20;
    Outcome outcome = run(*model, data, of({"x"}), options);
    ASSERT_FALSE(outcome.table.ok());
    EXPECT_EQ(text_of(outcome), "the row is broken");
    Samples wrong(random_rows(3, 12), {4, 3});
    outcome = run(*model, wrong, of({"x"}), options);
    ASSERT_FALSE(outcome.table.ok());
    EXPECT_EQ(outcome.table.error().code, Code::kInput);
    Samples unreadable(random_rows(3, 12), {3, 4});
    unreadable.digest_value = 0;
    EXPECT_EQ(run(*model, unreadable, of({"x"})).table.error().diagnostic.id, "data-unreadable");
    Samples many(random_rows(100, 12), {3, 4});
    Watcher progress;
    progress.cancel_at = 5;
    outcome = run(*model, many, of({"x"}), options, progress);
    ASSERT_FALSE(outcome.table.ok());
    EXPECT_EQ(outcome.table.error().code, Code::kCancelled);
    EXPECT_LT(progress.last_done, 20u);
  }
  Samples none({}, {3, 4});
  EXPECT_EQ(run(*model, none, of({"x"})).table.error().diagnostic.id, "data-empty");
}

TEST(Calibrator, NothingWantedIsATableOfNothing) {
  const auto model = model_from_text(kRelu);
  Samples data(random_rows(3, 12), {3, 4});
  const Outcome outcome = run(*model, data, of({}));
  ASSERT_TRUE(outcome.table.ok()) << text_of(outcome);
  EXPECT_TRUE(outcome.table->all().empty());
  EXPECT_EQ(data.largest_batch, 0);
}

// What the runtime delivers: everything in the order of the graph, and never twice.
TEST(Observe, DeliversInTheOrderOfTheGraph) {
  std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n] x) => (float[n] v29, float[n] v7) {";
  std::vector<std::string> names;
  for (int i = 0; i < 30; ++i) {
    const std::string name = "v" + std::to_string(i);
    text += name + " = Sin(" + (i == 0 ? std::string("x") : "v" + std::to_string(i - 1)) + ")\n";
    names.push_back(name);
  }
  const auto model = model_from_text(text + "}");
  SessionOptions options;
  options.observed = names;
  auto session = runtime().open(*model, options);
  ASSERT_TRUE(session.ok()) << to_string(session.error().diagnostic);
  const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(std::vector<float>{1, 2}, {2})}};
  std::vector<std::size_t> order;
  float last = 0;
  Status status = (*session)->observe(feeds, [&](std::size_t i, const TensorView& view) {
    order.push_back(i);
    EXPECT_EQ(view.dtype, DataType::kFloat);
    EXPECT_EQ(std::vector<std::int64_t>(view.dims.begin(), view.dims.end()),
              std::vector<std::int64_t>{2});
    last = *reinterpret_cast<const float*>(view.bytes.data());
    return ok_status();
  });
  ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  ASSERT_EQ(order.size(), 30u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  float expected = 1;
  for (int i = 0; i < 30; ++i) expected = std::sin(expected);
  EXPECT_NEAR(last, expected, 1e-6f);
  order.clear();
  status = (*session)->observe(feeds, [&](std::size_t i, const TensorView&) -> Status {
    order.push_back(i);
    if (i == 4) return Error(Code::kInput, "stop", "enough");
    return ok_status();
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().diagnostic.id, "stop");
  EXPECT_EQ(order.back(), 4u);
}

}  // namespace
}  // namespace mcompress
