// merge-transposes: every case is computed by the runtime before and after, for two batches.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

using Ints = std::vector<std::int64_t>;

// On x [n, 6, 4] and v [n, 2, 3, 4].
Checked row(std::string_view constants, std::string_view body, std::string_view outputs,
            int opset = 17) {
  return check_passes("<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
                          "]> g (float[n,6,4] x, float[n,2,3,4] v) => (" + std::string(outputs) +
                          ") <" + std::string(constants) + "> { " + std::string(body) + " }",
                      {"infer-shapes", "merge-transposes"}, 0.0, 2);
}

std::int64_t removed(const Checked& checked) {
  return checked.run->count("merge-transposes", "removed");
}

TEST(MergeTransposes, ATransposedKeyIsOneTranspose) {
  // Heads of 2, taken apart, turned in three dimensions and put together again.
  const auto checked = row(
      "int64[4] heads = {0, 0, 2, 2}, int64[3] flat = {-1, 6, 2}, int64[4] back = {-1, 2, 2, 6}",
      "a = Reshape(x, heads) b = Transpose<perm=[0,2,1,3]>(a) c = Reshape(b, flat) "
      "d = Transpose<perm=[0,2,1]>(c) y = Reshape(d, back)",
      "float[n,2,2,6] y");
  EXPECT_EQ(removed(checked), 3);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  const Node& last = *maker_of(*checked.after, "y");
  EXPECT_EQ(last.op_type(), "Transpose");
  EXPECT_EQ(*last.ints_attribute("perm"), (Ints{0, 2, 3, 1}));
  EXPECT_EQ(last.input(0)->producer()->op_type(), "Reshape");
}

TEST(MergeTransposes, WhatKeepsTheOrderIsAReshape) {
  auto checked = row("int64[4] cut = {0, 0, 2, 3}",
                     "a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, cut) "
                     "y = Transpose<perm=[0,2,3,1]>(b)",
                     "float[n,2,3,4] y");
  EXPECT_EQ(removed(checked), 2);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Reshape");
  checked = row("int64[3] join = {0, 0, 6}",
                "a = Transpose<perm=[0,3,1,2]>(v) b = Reshape(a, join) "
                "y = Transpose<perm=[0,2,1]>(b)",
                "float[n,6,4] y");
  EXPECT_EQ(removed(checked), 2);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Reshape");
}

TEST(MergeTransposes, WhatRestoresAllGoes) {
  auto checked =
      row("int64[4] apart = {0, 0, 2, 2}, int64[3] join = {-1, 6, 2}, int64[3] all = {-1, 6, 4}",
          "a = Reshape(x, apart) b = Transpose<perm=[0,2,1,3]>(a) c = Reshape(b, join) "
          "d = Reshape(c, all) y = Neg(d)",
          "float[m,6,4] y");
  EXPECT_EQ(removed(checked), 1);  // it does not restore x: heads are batches now
  checked = row("int64[1] one = {1}, int64[1] three = {3}",
                "a = Unsqueeze(x, one) b = Transpose<perm=[0,3,2,1]>(a) c = Squeeze(b, three) "
                "d = Transpose<perm=[0,2,1]>(c) y = Neg(d)",
                "float[n,6,4] y");
  EXPECT_EQ(removed(checked), 4);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  // What is split on the way is joined again.
  checked = row("int64[4] cut = {0, 0, 2, 3}, int64[3] join = {0, 6, 4}",
                "a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, cut) "
                "c = Transpose<perm=[0,2,3,1]>(b) d = Reshape(c, join) y = Neg(d)",
                "float[n,6,4] y");
  EXPECT_EQ(removed(checked), 4);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
}

TEST(MergeTransposes, OneOfTwoTransposesStays) {
  auto checked = row("int64[4] cut = {0, 0, 2, 3}",
                     "a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, cut) "
                     "y = Transpose<perm=[0,3,2,1]>(b)",
                     "float[n,3,2,4] y");
  EXPECT_EQ(removed(checked), 1);
  EXPECT_EQ(*maker_of(*checked.after, "y")->ints_attribute("perm"), (Ints{0, 2, 1, 3}));
  EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 1);
  checked = row("int64[3] join = {0, 3, 8}",
                "a = Transpose<perm=[0,2,1,3]>(v) b = Reshape(a, join) "
                "y = Transpose<perm=[0,2,1]>(b)",
                "float[n,8,3] y");
  EXPECT_EQ(removed(checked), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Reshape");
  EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 1);
}

TEST(MergeTransposes, DimensionsOfOneMoveAlong) {
  auto checked = row("int64[1] one = {1}, int64[1] three = {3}",
                     "a = Unsqueeze(x, one) b = Transpose<perm=[0,3,2,1]>(a) "
                     "y = Squeeze(b, three)",
                     "float[n,4,6] y");
  EXPECT_EQ(removed(checked), 2);
  EXPECT_EQ(*maker_of(*checked.after, "y")->ints_attribute("perm"), (Ints{0, 2, 1}));
  EXPECT_EQ(maker_of(*checked.after, "y")->inputs().size(), 1u);
  checked = row("int64[1] unused = {1}",
                "a = Unsqueeze<axes=[1]>(x) b = Transpose<perm=[0,3,2,1]>(a) "
                "y = Squeeze<axes=[3]>(b)",
                "float[n,4,6] y", 11);
  EXPECT_EQ(removed(checked), 2);
  EXPECT_TRUE(maker_of(*checked.after, "y")->ints_attribute("axes") == std::nullopt);
}

TEST(MergeTransposes, WhatNeedsAllItsMovesStays) {
  // Windows: dimensions are split and joined, which takes a Reshape on both sides.
  auto checked = row("int64[5] cut = {0, 2, 3, 2, 2}, int64[4] join = {0, 4, 3, 2}",
                     "a = Reshape(x, cut) b = Transpose<perm=[0,1,3,2,4]>(a) y = Reshape(b, join)",
                     "float[n,4,3,2] y");
  EXPECT_FALSE(checked.run->changed);
  // A split behind one, and not at the place of the dimension that was moved.
  checked = row("int64[4] cut = {0, 0, 2, 2}",
                "a = Reshape(x, cut) y = Transpose<perm=[0,2,1,3]>(a)", "float[n,2,6,2] y");
  EXPECT_EQ(removed(checked), 0);
}

TEST(MergeTransposes, WhatIsReadOnTheWayStays) {
  auto checked = row("int64[4] cut = {0, 0, 2, 3}",
                     "a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, cut) "
                     "y = Transpose<perm=[0,2,3,1]>(b) z = Neg(a)",
                     "float[n,2,3,4] y, float[n,4,6] z");
  EXPECT_EQ(removed(checked), 0);
  checked = row("int64[4] cut = {0, 0, 2, 3}",
                "a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, cut) "
                "y = Transpose<perm=[0,2,3,1]>(b)",
                "float[n,2,3,4] y, float[n,4,2,3] b");
  EXPECT_EQ(removed(checked), 0);
}

TEST(MergeTransposes, UnknownDimensionsStay) {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n,6,4] x, int64[4] s) => "
      "(float[a,b,c,d] y) { a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, s) "
      "y = Transpose<perm=[0,2,3,1]>(b) }");
  const auto run = run_passes(*model, {"infer-shapes", "merge-transposes"});
  EXPECT_FALSE(run->changed);
}

TEST(MergeTransposes, WindowsTakenInTwoStepsAreTakenInOne) {
  // Patches of 2 x 2 out of [n, 4, 4, 6] channels, as mobile vision transformers write them.
  const auto windows = [](std::string_view body, std::string_view output) {
    return check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n,6,4,4] x) => (" +
            std::string(output) +
            ") <int64[4] rows = {-1, 2, 2, 2}, int64[4] places = {-1, 6, 4, 4}, int64[3] all = "
            "{-1, 4, 6}, int64[4] places2 = {-1, 4, 4, 6}, int64[4] places3 = {-1, 6, 4, 4}, "
            "int64[4] other = {-1, 3, 2, 8}, int64[4] uneven = {-1, 3, 8, 4}> { " +
            std::string(body) + " }",
        {"infer-shapes", "merge-transposes"}, 0.0, 2);
  };
  auto checked = windows(
      "a = Reshape(x, rows) b = Transpose<perm=[0,2,1,3]>(a) c = Reshape(b, places) "
      "d = Transpose<perm=[0,3,2,1]>(c) y = Reshape(d, all)",
      "float[m,4,6] y");
  EXPECT_EQ(removed(checked), 2);
  EXPECT_EQ(checked.after->graph().node_count(), 3u);
  const Node& last = *maker_of(*checked.after, "y");
  EXPECT_EQ(last.op_type(), "Reshape");
  ASSERT_EQ(last.input(0)->producer()->op_type(), "Transpose");
  EXPECT_EQ(last.input(0)->producer()->input(0)->producer()->op_type(), "Reshape");
  // And back.
  checked = windows(
      "z = Transpose<perm=[0,2,3,1]>(x) s = Softmax(z) e = Reshape(s, places2) "
      "f = Transpose<perm=[0,3,2,1]>(e) g1 = Reshape(f, rows) h = Transpose<perm=[0,2,1,3]>(g1) "
      "y = Reshape(h, places3)",
      "float[n,6,4,4] y");
  EXPECT_EQ(removed(checked), 2);
  // An axis of 8 is cut in 3 and 2, which are no factors of it.
  checked = windows(
      "a = Reshape(x, other) b = Transpose<perm=[0,2,1,3]>(a) c = Reshape(b, uneven) "
      "y = Transpose<perm=[0,2,1,3]>(c)",
      "float[n,8,3,4] y");
  EXPECT_FALSE(checked.run->changed);
}

}  // namespace
}  // namespace mcompress::testing
