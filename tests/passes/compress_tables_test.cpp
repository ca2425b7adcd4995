// compress-tables: each form gives the rows that it says, for indices of either sign and any rank.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string table_text(std::size_t rows, std::size_t columns, double (*at)(double, double)) {
  std::string text = "float[" + std::to_string(rows) + "," + std::to_string(columns) + "] t = {";
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      text += (r + c > 0 ? "," : "") +
              std::to_string(at(static_cast<double>(r), static_cast<double>(c)));
    }
  }
  return text + "}";
}

double wave(double r, double c) { return std::sin(1.7 * r + 0.3) * std::cos(0.9 * c) + 0.01 * r; }
double noise(double r, double c) { return std::sin(12.9898 * r + 78.233 * c * (r + 1)); }
double seven(double r, double c) { return noise(std::fmod(r, 7), c); }

std::string model(const std::string& table,
                  std::string_view signature =
                      "(int64[N,3] i) => "
                      "(float[N,3,D] y)",
                  std::string_view opset = "17", std::string_view body = "y = Gather(t, i)") {
  return "<ir_version: 8, opset_import: [\"\" : " + std::string(opset) + "]> g " +
         std::string(signature) + " <" + table + "> { " + std::string(body) + " }";
}

std::vector<std::string> tables(const std::string& options) {
  return {"lift-constants", "infer-shapes",
          "compress-tables:{\"min-elements\": 16" + (options.empty() ? "" : ", " + options) + "}"};
}

struct Looked {
  std::unique_ptr<Model> model;
  std::unique_ptr<PassRun> run;
  std::vector<float> rows;
};

// The table, compressed, as seen through indices 0 ... rows - 1, and then -rows ... -1.
Looked look(const std::string& text, const std::string& options, std::int64_t rows) {
  Looked looked;
  looked.model = model_from_text(text);
  looked.run = run_passes(*looked.model, tables(options));
  EXPECT_TRUE(looked.run->status.ok());
  auto runtime = find_runtime("onnxruntime");
  auto session = (*runtime)->open(*looked.model, {});
  EXPECT_TRUE(session.ok());
  if (!session.ok()) return looked;
  std::vector<std::int64_t> index(static_cast<std::size_t>(2 * rows));
  std::iota(index.begin(), index.begin() + rows, std::int64_t{0});
  std::iota(index.begin() + rows, index.end(), -rows);
  const std::vector<NamedTensor> feeds = {{"i", make_int64_tensor(index, {2 * rows / 4, 4})}};
  const std::vector<std::string> fetch = {"y"};
  auto results = (*session)->run(feeds, fetch);
  EXPECT_TRUE(results.ok());
  if (results.ok()) looked.rows = *read_floats(results->front());
  return looked;
}

constexpr std::string_view kWide = "(int64[N,4] i) => (float[N,4,D] y)";

TEST(CompressTables, EqualRowsAreStoredOnceAndExactly) {
  const auto looked = look(model(table_text(40, 16, seven), kWide), "\"tables\": \"rows\"", 40);
  EXPECT_EQ(looked.run->applied("compress-tables"), 1);
  EXPECT_EQ(looked.model->graph().find("t_rows")->initializer()->dims()[0], 7);
  EXPECT_EQ(looked.model->graph().find("t_map")->initializer()->dtype(), DataType::kUint8);
  ASSERT_EQ(looked.rows.size(), 2U * 40 * 16);
  for (std::size_t n = 0; n < looked.rows.size(); ++n) {
    const double expected = seven(static_cast<double>(n / 16 % 40), static_cast<double>(n % 16));
    ASSERT_EQ(looked.rows[n], static_cast<float>(std::stod(std::to_string(expected)))) << n;
  }
}

TEST(CompressTables, BucketsAreTheMeansOfTheirRows) {
  const auto looked =
      look(model(table_text(40, 16, noise), kWide), R"("tables": "hash", "table-keep": 0.5)", 40);
  EXPECT_EQ(looked.run->applied("compress-tables"), 1);
  ASSERT_EQ(looked.rows.size(), 2U * 40 * 16);
  for (std::size_t n = 0; n < looked.rows.size(); ++n) {
    const double r = static_cast<double>(n / 16 % 20), c = static_cast<double>(n % 16);
    ASSERT_NEAR(looked.rows[n], (noise(r, c) + noise(r + 20, c)) / 2, 1e-5) << n;
  }
}

// The least error of two values per row with these signs: the means of either side.
TEST(CompressTables, BitsAreTheSignsAboutTheMiddle) {
  for (const std::size_t columns : {16U, 21U}) {
    const auto looked =
        look(model(table_text(40, columns, noise), kWide), "\"tables\": \"binary\"", 40);
    EXPECT_EQ(looked.run->applied("compress-tables"), 1);
    ASSERT_EQ(looked.rows.size(), 2U * 40 * columns);
    for (std::size_t r = 0; r < 80; ++r) {
      std::vector<double> row;
      for (std::size_t c = 0; c < columns; ++c) {
        row.push_back(noise(static_cast<double>(r % 40), static_cast<double>(c)));
      }
      const double middle = std::accumulate(row.begin(), row.end(), 0.0) / double(columns);
      double sums[2] = {0, 0}, counts[2] = {0, 0};
      for (const double x : row) sums[x >= middle] += x, counts[x >= middle] += 1;
      for (std::size_t c = 0; c < columns; ++c) {
        const bool above = row[c] >= middle;
        ASSERT_NEAR(looked.rows[r * columns + c], sums[above] / counts[above], 1e-4)
            << r << ' ' << c;
      }
    }
  }
}

TEST(CompressTables, AThinTableAndAMatrixRestoreRowsOfLowRank) {
  const auto looked = look(model(table_text(60, 16, wave), kWide), "\"tables\": \"auto\"", 60);
  EXPECT_EQ(looked.run->applied("compress-tables"), 1);
  EXPECT_EQ(looked.model->graph().find("t_left")->initializer()->dims()[1], 8);
  ASSERT_EQ(looked.rows.size(), 2U * 60 * 16);
  for (std::size_t n = 0; n < looked.rows.size(); ++n) {
    ASSERT_NEAR(looked.rows[n], wave(static_cast<double>(n / 16 % 60), static_cast<double>(n % 16)),
                1e-4);
  }
}

TEST(CompressTables, SaysWhyATableStays) {
  struct Case {
    std::string text, options, why;
  };
  const std::string plain = table_text(40, 16, noise);
  for (const auto& [text, options, why] :
       {Case{model(plain), "", "nothing worth a map"},
        Case{model(plain, "(int64[N,3] i, float[N,3,16] x) => (float[N,3,D] y)", "17",
                   "g = Gather(t, i) s = ReduceSum(t) y = Add(g, s)"),
             "\"tables\": \"binary\"", "is read by ReduceSum"},
        Case{model(plain, "(int64[N,3] i) => (float[N,3,D] y)", "9"), "\"tables\": \"binary\"",
             "from opset 10 on"},
        Case{model(plain), R"("tables": "low-rank", "table-sqnr": 100)", "holds 100.0 dB"}}) {
    const auto parsed = model_from_text(text);
    const auto run = run_passes(*parsed, tables(options));
    EXPECT_EQ(run->applied("compress-tables"), 0) << why;
    EXPECT_NE(run->why("t").find(why), std::string::npos) << run->why("t");
  }
}

TEST(CompressTables, UnusedRowsNeedData) {
  const auto parsed = model_from_text(model(table_text(40, 16, noise)));
  const auto run = run_passes(*parsed, tables("\"unused\": \"merge\""));
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().code, Code::kUsage);
}

}  // namespace
}  // namespace mcompress::testing
