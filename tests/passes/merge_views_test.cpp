// merge-reshapes, merge-slices, merge-casts.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view inputs, std::string_view outputs, std::string_view constants,
                  std::string_view body, int opset = 17) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g (" +
         std::string(inputs) + ") => (" + std::string(outputs) + ") <" + std::string(constants) +
         "> { " + std::string(body) + " }";
}

using Ints = std::vector<std::int64_t>;

// ---------------------------------------------------------------------------------- merge-reshapes

constexpr std::string_view kShapes =
    "int64[3] flat = {0, 0, -1}, int64[4] back = {0, 0, 4, 5}, int64[2] two = {-1, 20}, "
    "int64[1] a0 = {0}, int64[1] a1 = {1}, int64[1] a2 = {2}, int64[2] a12 = {1, 2}";

Checked views(std::string_view body, std::string_view outputs, int opset = 17) {
  return check_passes(graph("float[n,3,4,5] x", outputs, kShapes, body, opset),
                      {"infer-shapes", "merge-reshapes"}, 0.0, 2);
}

TEST(MergeReshapes, AViewThatRestoresTheInputGoes) {
  const auto checked =
      views("a = Reshape(x, flat) b = Reshape(a, back) y = Neg(b)", "float[n,3,4,5] y");
  EXPECT_EQ(checked.run->count("merge-reshapes", "removed"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
}

TEST(MergeReshapes, TwoViewsBecomeOne) {
  auto checked = views("a = Flatten(x) y = Unsqueeze(a, a1)", "float[n,1,60] y");
  EXPECT_EQ(checked.run->count("merge-reshapes", "merged"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(*read_ints(*maker_of(*checked.after, "y")->input(1)->constant()), (Ints{0, 1, 60}));
  // Dimensions of 1 only: no shape is needed.
  checked = views("a = Unsqueeze(x, a1) y = Unsqueeze(a, a0)", "float[1,n,1,3,4,5] y");
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Unsqueeze");
  EXPECT_EQ(*read_ints(*maker_of(*checked.after, "y")->input(1)->constant()), (Ints{0, 2}));
  checked =
      views("a = Unsqueeze<axes=[1]>(x) y = Unsqueeze<axes=[0]>(a)", "float[1,n,1,3,4,5] y", 11);
  EXPECT_EQ(*maker_of(*checked.after, "y")->ints_attribute("axes"), (Ints{0, 2}));
  EXPECT_EQ(maker_of(*checked.after, "y")->inputs().size(), 1u);
}

TEST(MergeReshapes, TheFirstViewStaysWhereItIsReadElsewhere) {
  auto checked =
      views("a = Flatten(x) y = Unsqueeze(a, a1) z = Neg(a)", "float[n,1,60] y, float[n,60] z");
  EXPECT_EQ(checked.run->count("merge-reshapes", "merged"), 0);
  EXPECT_EQ(checked.run->why("Unsqueeze node that makes 'y'"), "'a' is read 2 times");
  checked = views("a = Flatten(x) y = Unsqueeze(a, a1)", "float[n,1,60] y, float[n,60] a");
  EXPECT_EQ(checked.run->count("merge-reshapes", "merged"), 0);
}

TEST(MergeReshapes, WhatNoConstantShapeMakesStays) {
  // Two dimensions that are only known when it runs are moved by the second view.
  auto model =
      model_from_text(graph("float[n,2,m] x, int64[2] s", "float[1,a,b] y", "int64[1] a0 = {0}",
                            "v = Reshape(x, s) y = Unsqueeze(v, a0)"));
  const auto run = run_passes(*model, {"infer-shapes", "merge-reshapes"});
  EXPECT_EQ(run->count("merge-reshapes", "merged"), 0);
  EXPECT_EQ(run->why("Unsqueeze node that makes 'y'"),
            "no constant shape makes it of 'x' in one step");
}

TEST(MergeReshapes, AReductionKeepsOrDropsWhatItReduces) {
  auto checked = views("a = ReduceMean<axes=[2,3]>(x) f = Flatten(a) y = Neg(f)", "float[n,3] y");
  EXPECT_EQ(checked.run->count("merge-reshapes", "reductions"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(count_nodes(*checked.after, "Flatten"), 0);
  checked =
      views("a = ReduceMax<axes=[1], keepdims=0>(x) y = Unsqueeze(a, a1)", "float[n,1,4,5] y");
  EXPECT_EQ(checked.run->count("merge-reshapes", "reductions"), 1);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  // Another place than the one that was reduced.
  checked =
      views("a = ReduceMax<axes=[1], keepdims=0>(x) y = Unsqueeze(a, a2)", "float[n,4,1,5] y");
  EXPECT_EQ(checked.run->count("merge-reshapes", "reductions"), 0);
  checked = views("a = ReduceMean<axes=[2,3]>(x) y = Flatten(a) z = Mul(a, x)",
                  "float[n,3] y, float[n,3,4,5] z");
  EXPECT_EQ(checked.run->count("merge-reshapes", "reductions"), 0);
  EXPECT_EQ(checked.run->why("Flatten node that makes 'y'"), "'a' is read 2 times");
}

TEST(MergeReshapes, InsideABranch) {
  const auto checked = check_passes(
      graph("bool c, float[n,3] x", "float[n,3,1] y", "int64[1] a1 = {1}, int64[1] a2 = {2}",
            "y = If (c) < then_branch = t () => (float[p,3,1] o) { a = Unsqueeze(x, a1) "
            "b = Squeeze(a, a1) d = Neg(b) o = Unsqueeze(d, a2) },"
            " else_branch = e () => (float[p,3,1] o) { o = Unsqueeze(x, a2) }>"),
      {"infer-shapes", "merge-reshapes"}, 0.0, 2);
  EXPECT_EQ(checked.run->count("merge-reshapes", "removed"), 1);
}

// ------------------------------------------------------------------------------------ merge-slices

constexpr std::string_view kBounds =
    "int64[1] c0 = {0}, int64[1] c1 = {1}, int64[1] c2 = {2}, int64[1] c3 = {3}, int64[1] c4 = "
    "{4}, int64[1] c6 = {6}, int64[1] last = {-2}, int64[1] max = {9223372036854775807}, int64[2] "
    "halves = {3, 3}";

Checked slices(std::string_view body, std::string_view outputs, int opset = 17) {
  return check_passes(graph("float[n,6,4] x, float[n,2,4] z", outputs, kBounds, body, opset),
                      {"infer-shapes", "merge-slices", "eliminate-identity"}, 0.0, 2);
}

TEST(MergeSlices, ASliceOfASlice) {
  auto checked = slices("a = Slice(x, c1, c6, c1) y = Slice(a, c1, c3, c1)", "float[n,2,4] y");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(*read_ints(*maker_of(*checked.after, "y")->input(1)->constant()), Ints{2});
  EXPECT_EQ(*read_ints(*maker_of(*checked.after, "y")->input(2)->constant()), Ints{4});
  checked = slices("a = Slice(x, last, max, c1) y = Slice(a, c1, c3, c2)", "float[n,2,2] y");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  checked = slices(
      "a = Slice<starts=[1],ends=[6],axes=[1]>(x) y = Slice<starts=[1],ends=[3]"
      ",axes=[1]>(a)",
      "float[n,2,4] y", 9);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  // The batch is open: where a slice of it ends is not known.
  checked = slices("a = Slice(x, c1, c6, c1) y = Slice(a, c0, c1, c0)", "float[k,5,4] y");
  EXPECT_EQ(checked.run->count("merge-slices", "merged"), 0);
  EXPECT_EQ(checked.run->why("Slice node that makes 'y'"),
            "the bounds or sizes of one of the two are not known");
  checked = slices("a = Slice(x, c1, c6, c1) y = Slice(a, c1, c3, c1) w = Neg(a)",
                   "float[n,2,4] y, float[n,5,4] w");
  EXPECT_EQ(checked.run->count("merge-slices", "merged"), 0);
}

TEST(MergeSlices, ASliceOfOneInputOfAConcat) {
  auto checked =
      slices("a = Concat<axis=1>(x, z) b = Slice(a, c6, max, c1) y = Neg(b)", "float[n,2,4] y");
  EXPECT_EQ(checked.run->count("merge-slices", "merged"), 1);
  checked = slices("a = Concat<axis=1>(x, z) y = Slice(a, c4, max, c1)", "float[n,4,4] y");
  EXPECT_EQ(checked.run->count("merge-slices", "merged"), 0);
  EXPECT_NE(checked.run->why("Slice node that makes 'y'").find("several inputs"),
            std::string::npos);
}

TEST(MergeSlices, SlicesThatTakeAllAreASplit) {
  for (const int opset : {11, 17}) {
    const auto checked = slices(
        "b = Slice(x, c2, c3, c1) a = Slice(x, c0, c2, c1) y = Slice(x, c3, max, c1) "
        "p = Neg(a) q = Neg(b)",
        "float[n,3,4] y, float[n,2,4] p, float[n,1,4] q", opset);
    EXPECT_EQ(checked.run->count("merge-slices", "splits"), 1);
    EXPECT_EQ(count_nodes(*checked.after, "Slice"), 0);
    EXPECT_EQ(checked.after->graph().node_count(), 3u);
    EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  }
  for (std::string_view body : {"a = Slice(x, c0, c2, c1) y = Slice(x, c3, max, c1)",
                                "a = Slice(x, c0, c4, c1) y = Slice(x, c3, max, c1)",
                                "a = Slice(x, c0, c3, c1) y = Slice(x, c3, c4, c1)"}) {
    const auto checked =
        slices(std::string(body) + " p = Neg(a)", "float[n,k,4] y, float[n,m,4] p");
    EXPECT_EQ(checked.run->count("merge-slices", "splits"), 0) << body;
    EXPECT_FALSE(checked.run->why("Slice node that makes 'a'").empty()) << body;
  }
}

TEST(MergeSlices, WhatASplitCutAndAConcatJoins) {
  auto checked = slices("a, b = Split<axis=1>(x, halves) d = Concat<axis=-2>(a, b) y = Neg(d)",
                        "float[n,6,4] y");
  EXPECT_EQ(checked.run->count("merge-slices", "removed"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  for (std::string_view concat :
       {"Concat<axis=1>(b, a)", "Concat<axis=2>(a, b)", "Concat<axis=1>(a, b, a)"}) {
    checked =
        slices("a, b = Split<axis=1>(x, halves) y = " + std::string(concat), "float[n,k,m] y");
    EXPECT_EQ(checked.run->count("merge-slices", "removed"), 0) << concat;
  }
}

TEST(MergeSlices, AConcatOfAConcat) {
  auto checked = slices("a = Concat<axis=1>(x, z) y = Concat<axis=1>(z, a, x)", "float[n,16,4] y");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.after->graph().first()->inputs().size(), 4u);
  checked = slices("a = Concat<axis=1>(x, z) y = Concat<axis=2>(a, a)", "float[n,8,8] y");
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
}

// ------------------------------------------------------------------------------------- merge-casts

Checked casts(std::string_view type, int over, int to, std::string_view result) {
  return check_passes(
      graph(std::string(type) + "[4] x", std::string(result) + "[4] y", "int64 unused = {0}",
            "a = Cast<to=" + std::to_string(over) + ">(x) b = Cast<to=" + std::to_string(to) +
                ">(a) y = Identity(b)"),
      {"infer-shapes", "merge-casts"}, 0.0);
}

TEST(MergeCasts, WhatLosesNothingIsReadPast) {
  constexpr int kFloat = 1, kInt32 = 6, kInt64 = 7, kBool = 9, kHalf = 10, kDouble = 11;
  EXPECT_EQ(casts("float", kDouble, kFloat, "float").after->graph().node_count(), 1u);
  EXPECT_EQ(casts("int32", kInt64, kInt32, "int32").after->graph().node_count(), 1u);
  EXPECT_EQ(casts("bool", kFloat, kBool, "bool").after->graph().node_count(), 1u);
  EXPECT_EQ(casts("bool", kInt64, kFloat, "float").after->graph().node_count(), 2u);
  EXPECT_EQ(casts("bool", kInt32, kFloat, "float").after->graph().node_count(), 2u);
  EXPECT_EQ(casts("int32", kDouble, kInt64, "int64").after->graph().node_count(), 2u);
  EXPECT_EQ(casts("float", kDouble, kHalf, "float16").after->graph().node_count(), 2u);
}

TEST(MergeCasts, WhatRoundsOrOverflowsStays) {
  constexpr int kFloat = 1, kInt32 = 6, kInt64 = 7, kBool = 9, kHalf = 10;
  for (const auto& checked :
       {casts("float", kHalf, kFloat, "float"), casts("float", kInt32, kFloat, "float"),
        casts("int64", kFloat, kInt64, "int64"), casts("int32", kFloat, kInt32, "int32"),
        casts("float", kBool, kFloat, "float")}) {
    EXPECT_EQ(checked.run->count("merge-casts", "merged"), 0);
    EXPECT_NE(checked.run->why("Cast node that makes 'b'").find("may change numbers"),
              std::string::npos);
  }
  auto model = model_from_text(graph("int8[4] x", "uint8[4] y", "int64 unused = {0}",
                                     "a = Cast<to=1>(x) b = Cast<to=2>(a) y = Identity(b)"));
  const auto run = run_passes(*model, {"infer-shapes", "merge-casts"});
  EXPECT_EQ(run->count("merge-casts", "merged"), 0);
  EXPECT_EQ(run->why("Cast node that makes 'b'"),
            "what uint8 can not hold comes as float32 from Cast node that makes 'a'");
}

}  // namespace
}  // namespace mcompress::testing
