#include <gtest/gtest.h>

#include <utility>

#include "mcompress/evaluate.h"
#include "support/sessions.h"

namespace mcompress {
namespace {

using testing::FakeData;
using testing::FakeSession;

using Outputs = std::vector<NamedTensor>;

// The same outputs whatever is fed.
FakeSession fixed(Outputs outputs) {
  std::vector<std::string> names;
  names.reserve(outputs.size());
  for (const NamedTensor& output : outputs) names.push_back(output.name);
  return FakeSession(std::move(names), [outputs](std::span<const NamedTensor>) { return outputs; });
}

Result<DetectionAgreement> agree(FakeSession left, FakeSession right,
                                 const DetectionOptions& options = {}) {
  FakeData data({0}, 1);
  return detection_agreement(left, right, data, options, silent_progress());
}

NamedTensor floats(std::string name, std::vector<std::int64_t> dims, std::vector<float> values) {
  return {std::move(name), make_float_tensor(values, std::move(dims))};
}

const std::vector<float> kTwoBoxes = {0, 0, 10, 10, 20, 20, 40, 40};

TEST(Detections, BoxesScoresAndClassesApart) {
  const Outputs left = {floats("b", {2, 4}, kTwoBoxes), floats("c", {2}, {1, 2}),
                        floats("s", {2}, {0.9F, 0.8F})};
  // The first box moved by half its width: 50 / 150 shared; the second by 2 of 20.
  const Outputs right = {floats("b", {2, 4}, {5, 0, 15, 10, 22, 20, 42, 40}),
                         floats("c", {2}, {1, 2}), floats("s", {2}, {0.9F, 0.6F})};
  const auto result = agree(fixed(left), fixed(right));
  ASSERT_TRUE(result.ok()) << to_string(result.error().diagnostic);
  EXPECT_EQ(result->boxes, "b");
  EXPECT_EQ(result->scores, "s");
  EXPECT_EQ(result->classes, "c");
  EXPECT_EQ(result->in_reference, 2);
  EXPECT_EQ(result->in_candidate, 2);
  EXPECT_EQ(result->matched, 1);
  EXPECT_DOUBLE_EQ(result->precision, 0.5);
  EXPECT_DOUBLE_EQ(result->recall, 0.5);
  EXPECT_DOUBLE_EQ(result->f1, 0.5);
  EXPECT_NEAR(result->mean_overlap, 18.0 * 20 / (2 * 400 - 18 * 20), 1e-9);
  EXPECT_NEAR(result->mean_score_change, -0.2, 1e-6);
}

TEST(Detections, AnotherClassIsNoMatch) {
  const auto of = [](float label) {
    return fixed({floats("all", {1, 1, 6}, {0, 0, 10, 10, 0.9F, label})});
  };
  EXPECT_EQ(agree(of(3), of(3))->matched, 1);
  EXPECT_EQ(agree(of(3), of(4))->matched, 0);
}

TEST(Detections, ScoresPerClassWithABackground) {
  const Outputs outputs = {floats("boxes", {1, 2, 4}, kTwoBoxes),
                           floats("scores", {1, 2, 3}, {0.8F, 0.1F, 0.1F, 0.2F, 0.1F, 0.7F})};
  EXPECT_EQ(agree(fixed(outputs), fixed(outputs))->in_reference, 2);
  DetectionOptions options;
  options.background = 0;
  const auto result = agree(fixed(outputs), fixed(outputs), options);
  EXPECT_EQ(result->in_reference, 1) << "0.8 is the background's";
  EXPECT_EQ(result->matched, 1);
}

TEST(Detections, CentreFormWithDoublesSuppressed) {
  // Five rows of 4 + 2 classes, seven columns: two on one object, one on another, four below.
  std::vector<float> values(6 * 7, 0);
  const auto put = [&](std::size_t n, std::vector<float> column) {
    for (std::size_t r = 0; r < column.size(); ++r) values[r * 7 + n] = column[r];
  };
  put(0, {10, 10, 4, 4, 0.9F, 0});
  put(1, {10.5F, 10, 4, 4, 0.8F, 0});
  put(2, {30, 30, 4, 4, 0, 0.7F});
  const Outputs outputs = {floats("output0", {1, 6, 7}, values)};
  const auto result = agree(fixed(outputs), fixed(outputs));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->in_reference, 2);
  EXPECT_DOUBLE_EQ(result->f1, 1);
  EXPECT_DOUBLE_EQ(result->mean_overlap, 1);
}

TEST(Detections, ObjectnessMultipliesTheScore) {
  const Outputs outputs = {floats("o", {1, 2, 7},
                                  {10, 10, 4, 4, 0.5F, 0.9F, 0.1F,  //
                                   20, 20, 4, 4, 0.2F, 0.9F, 0.1F})};
  EXPECT_EQ(agree(fixed(outputs), fixed(outputs))->in_reference, 1) << "0.45 counts, 0.18 does not";
}

TEST(Detections, NothingSeenByEitherIsAgreement) {
  const Outputs none = {floats("all", {1, 0, 6}, {})};
  const auto result = agree(fixed(none), fixed(none));
  ASSERT_TRUE(result.ok());
  EXPECT_DOUBLE_EQ(result->f1, 1);
  EXPECT_EQ(result->in_reference, 0);
}

TEST(Detections, SaysWhatItDoesNotKnow) {
  const Outputs logits = {floats("logits", {1, 10}, std::vector<float>(10, 0))};
  const auto unknown = agree(fixed(logits), fixed(logits));
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, Code::kUsage);
  const Outputs odd = {floats("b", {2, 4}, kTwoBoxes), floats("s", {3}, {1, 1, 1})};
  DetectionOptions options;
  options.boxes = "b";
  options.scores = "s";
  const auto unfit = agree(fixed(odd), fixed(odd), options);
  ASSERT_FALSE(unfit.ok());
  EXPECT_EQ(unfit.error().code, Code::kInput);
}

}  // namespace
}  // namespace mcompress
