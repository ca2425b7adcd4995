// lower-group-norm: the same numbers from other operators, where the target asks for it.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string group_norm(std::string_view signature, std::string_view given, int opset = 21,
                       std::string_view attributes = "num_groups=2,epsilon=0.01") {
  return "<ir_version: 10, opset_import: [\"\" : " + std::to_string(opset) + "]> g " +
         std::string(signature) + (given.empty() ? "" : " <" + std::string(given) + ">") +
         " { y = GroupNormalization<" + std::string(attributes) + ">(x, s, b) }";
}

const std::string kPerChannel = weights("s", {6}, 0.5F, 2) + ", " + weights("b", {6});

struct Lowered {
  std::int64_t shapes, products, sums;
};

Lowered lowered(const std::string& text) {
  const auto checked = check_passes(text, {"infer-shapes", "lower-group-norm"}, 1e-5, 3);
  EXPECT_EQ(checked.run->count("lower-group-norm", "lowered"), 1) << text;
  EXPECT_EQ(count_nodes(*checked.after, "GroupNormalization"), 0);
  EXPECT_EQ(count_nodes(*checked.after, "InstanceNormalization"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Reshape"), 2);
  return {count_nodes(*checked.after, "Shape"), count_nodes(*checked.after, "Mul"),
          count_nodes(*checked.after, "Add")};
}

TEST(LowerGroupNorm, ScalesOfChannelsStandBehindIt) {
  const Lowered of_images =
      lowered(group_norm("(float[N,6,5,4] x) => (float[N,6,5,4] y)", kPerChannel));
  EXPECT_EQ(of_images.shapes, 0);
  EXPECT_EQ(of_images.products, 1);
  EXPECT_EQ(of_images.sums, 1);
  // Sizes that only the run knows.
  EXPECT_EQ(lowered(group_norm("(float[N,6,H,W] x) => (float[N,6,H,W] y)", kPerChannel)).shapes, 1);
  EXPECT_EQ(lowered(group_norm("(float[2,6,9] x) => (float[2,6,9] y)", kPerChannel)).shapes, 0);
  EXPECT_EQ(lowered(group_norm("(float[2,6,2,3,2] x) => (float[2,6,2,3,2] y)", kPerChannel)).shapes,
            0);
}

TEST(LowerGroupNorm, ScalesThatChangeNothingGo) {
  const Lowered plain =
      lowered(group_norm("(float[N,6,5,4] x) => (float[N,6,5,4] y)",
                         "float[6] s = {1,1,1,1,1,1}, float[6] b = {0,0,0,0,0,0}"));
  EXPECT_EQ(plain.products, 0);
  EXPECT_EQ(plain.sums, 0);
}

TEST(LowerGroupNorm, ScalesOfGroupsAreThoseOfTheInstances) {
  const std::string given = weights("s", {2}, 0.5F, 2) + ", " + weights("b", {2});
  const Lowered old = lowered(group_norm("(float[N,6,5,4] x) => (float[N,6,5,4] y)", given, 18));
  EXPECT_EQ(old.products, 0);
  EXPECT_EQ(old.sums, 0);
  // Computed ones, too.
  lowered(group_norm("(float[N,6,5,4] x, float[2] s, float[2] b) => (float[N,6,5,4] y)", "", 18));
}

TEST(LowerGroupNorm, SaysWhyOneStays) {
  const auto why = [](const std::string& text) {
    const auto checked = check_passes(text, {"infer-shapes", "lower-group-norm"}, 0, 3);
    EXPECT_FALSE(checked.run->changed) << text;
    EXPECT_EQ(checked.run->count("lower-group-norm", "eligible"), 1);
    return checked.run->why("GroupNormalization node that makes 'y'");
  };
  EXPECT_EQ(why(group_norm("(float[N,6,5,4] x, float[6] s, float[6] b) => (float[N,6,5,4] y)", "")),
            "its scale and bias are computed");
  EXPECT_EQ(why(group_norm("(float16[N,6,5,4] x, float16[6] s, float16[6] b) => "
                           "(float16[N,6,5,4] y)",
                           "")),
            "is for float32, this is float16");
}

TEST(LowerGroupNorm, OnlyForTargetsThatTakeItApart) {
  const std::string text = group_norm("(float[N,6,5,4] x) => (float[N,6,5,4] y)", kPerChannel);
  const auto model = model_from_text(text);
  const auto run = run_passes_for("tensorrt", *model, {"infer-shapes", "lower-group-norm"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_EQ(run->why("GroupNormalization node that makes 'y'"),
            "tensorrt is not known to take it apart");
  EXPECT_EQ(count_nodes(*model, "GroupNormalization"), 1);
}

}  // namespace
}  // namespace mcompress::testing
