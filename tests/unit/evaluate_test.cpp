#include "mcompress/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "runtime/decisions.h"
#include "support/sessions.h"

namespace mcompress {
namespace {

using testing::FakeData;
using testing::FakeSession;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
Error failure(Result<T> result) {
  EXPECT_FALSE(result.ok());
  return result.ok() ? Error() : std::move(result).error();
}

// The input comes out as "y", shaped [count, dims...].
FakeSession echo(std::vector<std::int64_t> dims, float gain = 1, float bias = 0) {
  return FakeSession({"y"}, [=](std::span<const NamedTensor> feeds) {
    std::vector<float> values = read_floats(feeds[0].tensor).value();
    for (float& value : values) value = value * gain + bias;
    std::vector<std::int64_t> shape = {feeds[0].tensor.dims()[0]};
    shape.insert(shape.end(), dims.begin(), dims.end());
    return std::vector<NamedTensor>{{"y", make_float_tensor(values, shape)}};
  });
}

Result<Evaluation> judge(Session& session, DataSource& data, const EvaluateOptions& options = {}) {
  return evaluate(session, data, options, silent_progress());
}

TEST(Decisions, HighestValue) {
  EXPECT_EQ(argmax(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(argmax(std::vector<float>{kNan, -3, kNan}), 1);
  EXPECT_EQ(argmax(std::vector<float>{kNan}), -1);
  const std::vector<float> values = {5, 9, 9, 1};
  EXPECT_TRUE(among_highest(values, 1, 1));
  EXPECT_FALSE(among_highest(values, 2, 1));
  EXPECT_TRUE(among_highest(values, 2, 2));
  EXPECT_FALSE(among_highest(values, 0, 2));
  EXPECT_FALSE(among_highest(values, 4, 5));
}

TEST(Decisions, GreedyCtc) {
  const std::vector<std::string> characters = {"", "a", "\xC3\xA9"};
  // a a blank a é é
  const std::vector<float> steps = {0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1};
  EXPECT_EQ(ctc_text(steps, characters), "aa\xC3\xA9");
}

TEST(Decisions, EditsCountCharacters) {
  const auto distance = [](std::string_view a, std::string_view b) {
    return levenshtein(code_points(a), code_points(b));
  };
  EXPECT_EQ(distance("kitten", "sitting"), 3U);
  EXPECT_EQ(distance("", "abc"), 3U);
  EXPECT_EQ(distance("ab", "ba"), 2U);
  EXPECT_EQ(distance("\xC3\xA9t\xC3\xA9", "ete"), 2U);
  EXPECT_EQ(code_points("\xE2\x82").size(), 1U);  // cut short
}

TEST(Decisions, ClassListsGrowABlankAndASpace) {
  const std::vector<std::string> two = parse_characters("a\r\nb\n");
  EXPECT_EQ(two, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(fit_characters(two, 2).value(), two);
  EXPECT_EQ(fit_characters(two, 3).value(), (std::vector<std::string>{"", "a", "b"}));
  EXPECT_EQ(fit_characters(two, 4).value(), (std::vector<std::string>{"", "a", "b", " "}));
  EXPECT_EQ(failure(fit_characters(two, 9)).code, Code::kInput);
  EXPECT_EQ(parse_characters("x\n "), (std::vector<std::string>{"x", " "}));
}

TEST(Evaluate, Top1WithConfusion) {
  FakeSession session = echo({3});
  FakeData data({9, 0, 0, 0, 9, 0, 0, 0, 9, 9, 0, 0}, 3);
  data.number({0, 1, 1, -1}, {4});
  const Evaluation result = judge(session, data).value();
  EXPECT_EQ(result.metric, Metric::kTop1);
  EXPECT_EQ(result.output, "y");
  EXPECT_EQ(result.samples, 4);
  EXPECT_EQ(result.decisions, 3);
  EXPECT_EQ(result.correct, 2);
  EXPECT_DOUBLE_EQ(result.value, 2.0 / 3);
  ASSERT_EQ(result.classes.size(), 2U);
  EXPECT_EQ(result.classes[1].label, 1);
  EXPECT_EQ(result.classes[1].count, 2);
  EXPECT_EQ(result.classes[1].correct, 1);
  EXPECT_EQ(result.confusion.at({1, 2}), 1);
  EXPECT_FALSE(result.agreement.has_value());
}

TEST(Evaluate, LabelsPerStep) {
  FakeSession session = echo({2, 3});
  FakeData data({9, 0, 0, 0, 9, 0, 0, 0, 9, 9, 0, 0}, 6);
  data.number({0, 1, -1, 2}, {2, 2});
  const Evaluation result = judge(session, data).value();
  EXPECT_EQ(result.decisions, 3);
  EXPECT_EQ(result.correct, 2);
}

TEST(Evaluate, TopK) {
  FakeSession session = echo({3});
  FakeData data({3, 2, 1, 3, 2, 1}, 3);
  data.number({1, 2}, {2});
  EvaluateOptions options;
  options.metric = Metric::kTopK;
  options.k = 2;
  EXPECT_DOUBLE_EQ(judge(session, data, options).value().value, 0.5);
}

TEST(Evaluate, Top5BesideTop1WhereThereAreMoreClasses) {
  FakeSession six = echo({6}), five = echo({5});
  // Right; the lowest of six; the fifth of six.
  FakeData data({9, 1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5}, 6);
  data.number({0, 1, 2}, {3});
  const Evaluation result = judge(six, data).value();
  EXPECT_DOUBLE_EQ(result.value, 1.0 / 3);
  ASSERT_TRUE(result.top5.has_value());
  EXPECT_DOUBLE_EQ(*result.top5, 2.0 / 3);
  FakeData fewer({9, 1, 2, 3, 4}, 5);
  fewer.number({0}, {1});
  EXPECT_FALSE(judge(five, fewer).value().top5.has_value());
}

TEST(Evaluate, DisparityIsTheLossThatTheAverageHides) {
  Evaluation before, after;
  before.classes = {{0, 10, 10}, {1, 10, 8}, {2, 20, 20}, {7, 5, 5}};
  after.classes = {{0, 10, 10}, {1, 10, 5}, {2, 20, 20}, {9, 1, 0}};
  const auto result = disparity_of(before, after);
  ASSERT_TRUE(result.has_value());
  ASSERT_EQ(result->classes.size(), 3U) << "classes that only one saw do not count";
  EXPECT_EQ(result->classes[0].label, 1);
  EXPECT_DOUBLE_EQ(result->classes[0].before, 0.8);
  EXPECT_DOUBLE_EQ(result->classes[0].after, 0.5);
  EXPECT_EQ(result->classes[1].label, 0) << "ties stand by label";
  EXPECT_NEAR(result->mean_change, -0.1, 1e-12);
  EXPECT_NEAR(result->disparity, 0.2, 1e-12);
  EXPECT_DOUBLE_EQ(result->worst_before, 0.8);
  EXPECT_DOUBLE_EQ(result->worst_after, 0.5);
  EXPECT_FALSE(disparity_of(Evaluation(), after).has_value());
}

TEST(Evaluate, YesNoOutputs) {
  FakeSession session = echo({1}), other = echo({1}, 1, 0.125F);
  FakeData data({0.4F, 0.6F, 0.9F, 0.1F}, 1);
  data.number({1, 1, 1, -1}, {4});
  EvaluateOptions options;
  options.reference = &other;
  const Evaluation result = judge(session, data, options).value();
  EXPECT_EQ(result.metric, Metric::kTop1);
  EXPECT_DOUBLE_EQ(result.value, 2.0 / 3);
  // Yes here: 0.6, 0.9. Yes there: 0.4, 0.6, 0.9.
  EXPECT_DOUBLE_EQ(*result.agreement, 2.0 / 3);
  EXPECT_GT(*result.sqnr_db, 5);
  options.threshold = 0.7;
  EXPECT_DOUBLE_EQ(judge(session, data, options).value().value, 1.0 / 3);
}

TEST(Evaluate, YesNoOutputsBeyondOneNeedAThreshold) {
  FakeSession session = echo({1});
  FakeData data({-3, 4}, 1);
  data.number({0, 1}, {2});
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "metric-no-threshold");
  EvaluateOptions options;
  options.threshold = 0;
  EXPECT_EQ(judge(session, data, options).value().value, 1);
}

TEST(Evaluate, Masks) {
  FakeSession session = echo({1, 2, 2});
  FakeData data({1, 1, 0, 0, 0, 0, 0, 0}, 4);
  data.number({1, 0, 0, 1, 0, 0, 0, 0}, {2, 2, 2});
  const Evaluation result = judge(session, data).value();
  EXPECT_EQ(result.metric, Metric::kMask);
  EXPECT_DOUBLE_EQ(result.value, (1.0 / 3 + 1) / 2);
}

TEST(Evaluate, Text) {
  FakeSession session = echo({3, 3});
  FakeData data({0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0}, 9);
  data.held.texts = {"a b", "ab"};
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "metric-no-characters");
  EvaluateOptions options;
  options.characters = {"a", "b"};
  options.reference = &session;
  const Evaluation result = judge(session, data, options).value();
  EXPECT_EQ(result.metric, Metric::kText);
  EXPECT_DOUBLE_EQ(result.value, 0.5);  // "ab" as wanted, "aa" instead of "ab"
  EXPECT_DOUBLE_EQ(*result.character_error_rate, 0.25);
  EXPECT_EQ(*result.agreement, 1);
  options.ignore_spaces = false;
  EXPECT_EQ(judge(session, data, options).value().value, 0);
}

TEST(Evaluate, AgreementNeedsNoLabels) {
  FakeSession session = echo({3}), other = echo({3}, -1);
  FakeData data({3, 2, 1, 3, 3, 3}, 3);
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "metric-no-labels");
  EvaluateOptions options;
  options.metric = Metric::kAgreement;
  EXPECT_EQ(failure(judge(session, data, options)).diagnostic.id, "metric-no-reference");
  options.metric = Metric::kAuto;
  options.reference = &other;
  const Evaluation result = judge(session, data, options).value();
  EXPECT_EQ(result.metric, Metric::kAgreement);
  EXPECT_DOUBLE_EQ(result.value, 0.5);  // all equal: the first wins on both sides
  EXPECT_EQ(result.decisions, 2);
  EXPECT_NEAR(*result.sqnr_db, 10 * std::log10(0.25), 1e-9);
}

TEST(Evaluate, BadLabelsAreInputErrors) {
  FakeSession session = echo({3});
  FakeData data({3, 2, 1, 3, 3, 3}, 3);
  data.number({0, 3}, {2});
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "label-out-of-range");
  data.number({0, -2}, {2});
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "label-out-of-range");
  data.number({0}, {1});
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "labels-count");
  data.number({0, 0, 0, 0}, {2, 2});
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "labels-shape");
  data.number({}, {});
  EXPECT_FALSE(judge(session, data).ok());
  EvaluateOptions options;
  options.output = "z";
  EXPECT_EQ(failure(judge(session, data, options)).diagnostic.where.subject, "z");
}

TEST(Evaluate, FirstSamplesOnly) {
  FakeSession session = echo({3});
  FakeData data({9, 0, 0, 0, 9, 0, 0, 0, 9}, 3);
  data.number({0, 1, 0}, {3});
  EvaluateOptions options;
  options.limit = 2;
  EXPECT_EQ(judge(session, data, options).value().value, 1);
}

TEST(Evaluate, BatchesOnlyWhereResultsCanBeTold) {
  FakeData data({9, 0, 0, 0, 9, 0, 0, 0, 9}, 3);
  data.number({0, 1, 2}, {3});
  FakeSession per_sample = echo({3});
  ASSERT_TRUE(judge(per_sample, data).ok());
  EXPECT_EQ(per_sample.runs, 1);
  data.batching = false;
  FakeSession alone = echo({3});
  ASSERT_TRUE(judge(alone, data).ok());
  EXPECT_EQ(alone.runs, 3);
  // Results whose first axis does not count samples.
  data.batching = true;
  FakeSession flat({"y"}, [](std::span<const NamedTensor> feeds) {
    return std::vector<NamedTensor>{{"y", make_float_tensor(read_floats(feeds[0].tensor).value(),
                                                            {feeds[0].tensor.elements()})}};
  });
  EXPECT_EQ(judge(flat, data).value().value, 1);
  EXPECT_EQ(flat.runs, 4);
}

TEST(Evaluate, FixedBatchesReachBackAtTheEnd) {
  FakeSession session = echo({3});
  FakeData data({9, 0, 0, 0, 9, 0, 0, 0, 9}, 3);
  data.number({0, 1, 0}, {3});
  data.fixed = 2;
  const Evaluation result = judge(session, data).value();
  EXPECT_EQ(result.decisions, 3);
  EXPECT_EQ(result.correct, 2);
  EXPECT_EQ(data.batches, (std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 2}, {1, 2}}));
  data.fixed = 4;
  EXPECT_EQ(failure(judge(session, data)).diagnostic.id, "batch-too-large");
}

TEST(Evaluate, RunsSideBySideChangeNothing) {
  constexpr std::int64_t kSamples = 37;
  std::vector<float> values;
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    for (std::int64_t k = 0; k < 3; ++k) values.push_back(static_cast<float>((i * 7 + k * 5) % 11));
    labels.push_back(i % 3);
  }
  for (const std::int64_t fixed : {0, 4}) {
    FakeData data(values, 3);
    data.number(labels, {kSamples});
    data.batching = fixed > 0;
    data.fixed = fixed;
    FakeSession reference = echo({3}, 1, 0.5F), first = echo({3}), second = echo({3});
    EvaluateOptions options;
    options.reference = &reference;
    const Evaluation one = judge(first, data, options).value();
    options.at_once = 5;
    const Evaluation other = judge(second, data, options).value();
    EXPECT_EQ(first.runs, second.runs);
    EXPECT_EQ(one.correct, other.correct);
    EXPECT_EQ(one.confusion, other.confusion);
    EXPECT_EQ(one.sqnr_db, other.sqnr_db);
    EXPECT_EQ(one.agreement, other.agreement);
  }
  // Results that can not be told apart are asked for one by one.
  FakeData data({9, 0, 0, 0, 9, 0, 0, 0, 9}, 3);
  data.number({0, 1, 2}, {3});
  FakeSession flat({"y"}, [](std::span<const NamedTensor> feeds) {
    return std::vector<NamedTensor>{{"y", make_float_tensor(read_floats(feeds[0].tensor).value(),
                                                            {feeds[0].tensor.elements()})}};
  });
  EvaluateOptions options;
  options.at_once = 2;
  EXPECT_EQ(judge(flat, data, options).value().value, 1);
}

TEST(Evaluate, MetricNames) {
  EXPECT_EQ(metric_name(Metric::kTopK), "topk");
  EXPECT_EQ(parse_metric("mask"), Metric::kMask);
  EXPECT_FALSE(parse_metric("recall").has_value());
}

TEST(Compare, ErrorsPerOutput) {
  FakeSession reference = echo({2}), candidate = echo({2}, -1), same = echo({2});
  FakeData data({1, 2, 3, 4}, 2);
  Comparison result = compare_outputs(reference, same, data, {}, silent_progress()).value();
  ASSERT_EQ(result.outputs.size(), 1U);
  EXPECT_EQ(result.samples, 2);
  EXPECT_EQ(result.outputs[0].sqnr_db, std::numeric_limits<double>::infinity());
  EXPECT_EQ(result.outputs[0].values, 4);
  EXPECT_EQ(*result.outputs[0].argmax_agreement, 1);
  result = compare_outputs(reference, candidate, data, {}, silent_progress()).value();
  EXPECT_NEAR(result.outputs[0].sqnr_db, 10 * std::log10(0.25), 1e-9);
  EXPECT_NEAR(result.outputs[0].cosine, -1, 1e-12);
  EXPECT_EQ(result.outputs[0].max_abs_error, 8);
  EXPECT_EQ(*result.outputs[0].argmax_agreement, 0);
}

TEST(Compare, FindsTheWorstSample) {
  FakeSession reference = echo({1}), candidate = echo({1}, 1, 1);
  FakeData data({100, 1, 50}, 1);
  const Comparison result =
      compare_outputs(reference, candidate, data, {}, silent_progress()).value();
  EXPECT_EQ(result.outputs[0].worst_sample, 1);
  EXPECT_NEAR(result.outputs[0].worst_sqnr_db, 0, 1e-9);
  EXPECT_FALSE(result.outputs[0].argmax_agreement.has_value());
}

TEST(Compare, ThreadsChangeNoFigure) {
  FakeSession reference = echo({2}), candidate = echo({2}, 1.01F, 0.003F);
  std::vector<float> values(64);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i)) / 3;
  FakeData data(values, 2);
  CompareOptions options;
  const Comparison one =
      compare_outputs(reference, candidate, data, options, silent_progress()).value();
  options.threads = 4;
  const Comparison four =
      compare_outputs(reference, candidate, data, options, silent_progress()).value();
  ASSERT_EQ(one.outputs.size(), 1U);
  EXPECT_EQ(one.samples, 32);
  EXPECT_EQ(four.samples, 32);
  EXPECT_EQ(four.outputs[0].values, 64);
  EXPECT_EQ(four.outputs[0].sqnr_db, one.outputs[0].sqnr_db);
  EXPECT_EQ(four.outputs[0].cosine, one.outputs[0].cosine);
  EXPECT_EQ(four.outputs[0].max_abs_error, one.outputs[0].max_abs_error);
  EXPECT_EQ(four.outputs[0].worst_sample, one.outputs[0].worst_sample);
  EXPECT_EQ(four.outputs[0].worst_sqnr_db, one.outputs[0].worst_sqnr_db);
  EXPECT_EQ(four.outputs[0].rows, 32);
  EXPECT_EQ(four.outputs[0].argmax_agreement, one.outputs[0].argmax_agreement);
}

TEST(Compare, CountsWhatCanNotBeCompared) {
  FakeSession reference = echo({2});
  FakeSession candidate({"y"}, [](std::span<const NamedTensor> feeds) {
    std::vector<float> values = read_floats(feeds[0].tensor).value();
    if (values[0] > 2) return std::vector<NamedTensor>{{"y", make_float_scalar(1)}};
    values[1] = kNan;
    return std::vector<NamedTensor>{{"y", make_float_tensor(values, {1, 2})}};
  });
  FakeData data({1, 2, 3, 4}, 2);
  const Comparison result =
      compare_outputs(reference, candidate, data, {}, silent_progress()).value();
  EXPECT_EQ(result.outputs[0].differing_shapes, 1);
  EXPECT_EQ(result.outputs[0].differing_non_finite, 1);
  EXPECT_EQ(result.outputs[0].values, 1);
  CompareOptions options;
  options.outputs = {"z"};
  EXPECT_FALSE(compare_outputs(reference, candidate, data, options, silent_progress()).ok());
  FakeSession stranger({"z"},
                       [](std::span<const NamedTensor>) { return std::vector<NamedTensor>(); });
  EXPECT_EQ(failure(compare_outputs(reference, stranger, data, {}, silent_progress())).code,
            Code::kInput);
}

TEST(Bench, RunsTargetsInTurn) {
  std::string order;
  const auto target = [&](char name) {
    return BenchTarget{
        std::string(1, name), [&order, name]() -> Result<std::unique_ptr<Session>> {
          order += static_cast<char>(name + ('a' - 'A'));
          return std::unique_ptr<Session>(std::make_unique<FakeSession>(
              std::vector<std::string>{"y"}, [&order, name](std::span<const NamedTensor>) {
                order += name;
                return std::vector<NamedTensor>();
              }));
        }};
  };
  const std::vector<BenchTarget> targets = {target('A'), target('B')};
  const std::vector<std::vector<NamedTensor>> samples(2);
  BenchOptions options;
  options.loads = 2;
  options.warm_up = 1;
  options.min_rounds = 2;
  options.max_rounds = 3;
  options.seconds = 1000;
  const auto result = bench_sessions(targets, samples, options, silent_progress());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(order, "ababABABABAB");
  ASSERT_EQ(result.value().size(), 2U);
  const BenchTimes& times = result.value()[1];
  EXPECT_EQ(times.name, "B");
  EXPECT_EQ(times.runs, 3);
  EXPECT_LE(times.min_ms, times.p50_ms);
  EXPECT_LE(times.p50_ms, times.p90_ms);
  EXPECT_LE(times.p90_ms, times.p99_ms);
  EXPECT_GT(times.runs_per_second, 0);
  EXPECT_EQ(failure(bench_sessions(targets, {}, options, silent_progress())).code, Code::kUsage);
}

TEST(Bench, WarmsUpUntilTimesAreStableAndNoLonger) {
  int runs = 0;
  const BenchTarget target{"A", [&]() -> Result<std::unique_ptr<Session>> {
                             return std::unique_ptr<Session>(std::make_unique<FakeSession>(
                                 std::vector<std::string>{"y"}, [&](std::span<const NamedTensor>) {
                                   ++runs;
                                   return std::vector<NamedTensor>();
                                 }));
                           }};
  const std::vector<std::vector<NamedTensor>> samples(1);
  BenchOptions options;
  options.warm_up = BenchOptions::kUntilStable;
  options.min_rounds = options.max_rounds = 4;
  options.seconds = 0.05;
  const auto result = bench_sessions({&target, 1}, samples, options, silent_progress());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->front().runs, 4);
  EXPECT_GE(result->front().warm_up, 3);
  EXPECT_LE(result->front().warm_up, 200);
  EXPECT_EQ(runs, 4 + result->front().warm_up);
}

TEST(Bench, MadeUpFeedsFitTheModel) {
  const std::vector<PortInfo> inputs = {
      {"x", {DataType::kFloat, std::vector<Dim>{{std::nullopt, "batch"}, {3, ""}}}},
      {"h", {DataType::kFloat16, std::vector<Dim>{{2, ""}}}},
      {"ids", {DataType::kInt64, std::vector<Dim>{{std::nullopt, ""}}}}};
  FeedOptions options;
  options.free_size = 4;
  options.shapes["ids"] = {7};
  const auto feeds = make_feeds(inputs, options);
  ASSERT_TRUE(feeds.ok());
  EXPECT_EQ(feeds.value()[0].tensor.elements(), 12);
  EXPECT_EQ(feeds.value()[1].tensor.dtype(), DataType::kFloat16);
  EXPECT_EQ(feeds.value()[2].tensor.elements(), 7);
  float largest = 0;
  const std::vector<float> made = read_floats(feeds.value()[0].tensor).value();
  for (const float value : made) {
    largest = std::max(largest, std::fabs(value));
  }
  EXPECT_GT(largest, 0);
  EXPECT_LE(largest, 1);
  const std::vector<PortInfo> unknown = {{"x", {DataType::kFloat, std::nullopt}}};
  EXPECT_EQ(failure(make_feeds(unknown, {})).diagnostic.where.subject, "x");
  const std::vector<PortInfo> text = {{"x", {DataType::kString, std::vector<Dim>{}}}};
  EXPECT_EQ(failure(make_feeds(text, {})).code, Code::kUnsupported);
}

}  // namespace
}  // namespace mcompress
