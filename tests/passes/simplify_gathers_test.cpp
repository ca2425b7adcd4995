// simplify-gathers: every case is computed by the runtime before and after, for two batches.
#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

using Ints = std::vector<std::int64_t>;

// On x [n, 4, 3] and z [2, 3, n].
Checked gathers(std::string_view constants, std::string_view body, std::string_view outputs,
                int opset = 17) {
  return check_passes("<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
                          "]> g (float[n,4,3] x, float[2,3,n] z) => (" + std::string(outputs) +
                          ") <" + std::string(constants) + "> { " + std::string(body) + " }",
                      {"infer-shapes", "simplify-gathers"}, 0.0, 2);
}

std::int64_t count(const Checked& checked, std::string_view key) {
  return checked.run->count("simplify-gathers", key);
}

TEST(SimplifyGathers, AllIndicesInOrderAreAReshape) {
  auto checked =
      gathers("int64[2,2] i = {0, 1, -2, 3}", "y = Gather<axis=1>(x, i)", "float[n,2,2,3] y");
  EXPECT_EQ(count(checked, "reshapes"), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Reshape");
  EXPECT_EQ(*constant_ints(maker_of(*checked.after, "y")->input(1)), (Ints{0, 2, 2, 3}));
  checked =
      gathers("int64[1,1,3] i = {0, 1, 2}", "y = Gather<axis=-1>(x, i)", "float[n,4,1,1,3] y");
  EXPECT_EQ(count(checked, "reshapes"), 1);
}

TEST(SimplifyGathers, AllPlacesInOrderAreAReshape) {
  auto checked = gathers("int64[3,2,2] i = {0,0, 0,1, 0,2, 1,0, 1,1, -1,-1}", "y = GatherND(z, i)",
                         "float[3,2,n] y");
  EXPECT_EQ(count(checked, "reshapes"), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Reshape");
  checked = gathers("int64[1,2,1] i = {0, 1}", "y = GatherND(z, i)", "float[1,2,3,n] y");
  EXPECT_EQ(count(checked, "reshapes"), 1);
}

TEST(SimplifyGathers, OtherOrdersStay) {
  for (const auto& [constants, body, outputs] :
       std::vector<std::tuple<std::string_view, std::string_view, std::string_view>>{
           {"int64[2,2] i = {0, 2, 1, 3}", "y = Gather<axis=1>(x, i)", "float[n,2,2,3] y"},
           {"int64[1,3] i = {0, 1, 2}", "y = Gather<axis=1>(x, i)", "float[n,1,3,3] y"},
           {"int64[1,2] i = {0, 1}", "y = Gather<axis=0>(x, i)", "float[1,2,4,3] y"},
           {"int64[6,2] i = {0,0, 0,1, 0,2, 1,0, 1,2, 1,1}", "y = GatherND(z, i)", "float[6,n] y"},
           {"int64[3,2] i = {0,0, 0,1, 0,2}", "y = GatherND(z, i)", "float[3,n] y"},
           {"int64[2,1] i = {0, 0}", "y = GatherND(z, i)", "float[2,3,n] y"},
           {"int64[2,1] i = {0, 1}", "y = GatherND<batch_dims=1>(z, i)", "float[2,n] y"},
       }) {
    const auto checked = gathers(constants, body, outputs);
    EXPECT_FALSE(checked.run->changed) << body << constants;
    EXPECT_EQ(count(checked, "reshapes"), 0);
  }
}

constexpr std::string_view kThree =
    "int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {-1}, int64[1] back = {2}, int64[1] first = {1}";

TEST(SimplifyGathers, StepsThatGetTheirAxisBackAreASplit) {
  const auto checked =
      gathers(kThree,
              "a2 = Gather<axis=2>(x, i2) b2 = Unsqueeze(a2, back) a0 = Gather<axis=2>(x, i0) "
              "b0 = Unsqueeze(a0, back) a1 = Gather<axis=2>(x, i1) b1 = Unsqueeze(a1, back) "
              "d = Sub(b2, b1) y = Mul(d, b0)",
              "float[n,4,1] y");
  EXPECT_EQ(count(checked, "splits"), 1);
  EXPECT_EQ(count(checked, "removed"), 5);
  EXPECT_EQ(checked.after->graph().node_count(), 3u);
  EXPECT_EQ(count_nodes(*checked.after, "Split"), 1);
}

TEST(SimplifyGathers, StepsThatGetAnotherAxisAreASplitOfTransposed) {
  for (const int opset : {12, 17}) {
    const std::string unsqueeze = opset < 13 ? "Unsqueeze<axes=[1]>(" : "Unsqueeze(";
    const std::string end = opset < 13 ? ") " : ", first) ";
    const auto checked =
        gathers(kThree,
                "a0 = Gather<axis=2>(x, i0) b0 = " + unsqueeze + "a0" + end +
                    "a1 = Gather<axis=2>(x, i1) b1 = " + unsqueeze + "a1" + end +
                    "a2 = Gather<axis=2>(x, i2) y2 = " + unsqueeze + "a2" + end + "y = Sub(b0, b1)",
                "float[n,1,4] y, float[n,1,4] y2", opset);
    EXPECT_EQ(count(checked, "splits"), 1);
    EXPECT_EQ(checked.after->graph().node_count(), 3u);
    EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 1);
  }
}

TEST(SimplifyGathers, StepsThatLeaveSomeOutStay) {
  auto checked = gathers(kThree,
                         "a0 = Gather<axis=2>(x, i0) b0 = Unsqueeze(a0, back) "
                         "a2 = Gather<axis=2>(x, i2) b2 = Unsqueeze(a2, back) y = Sub(b0, b2)",
                         "float[n,4,1] y");
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Gather node that makes 'a0'"),
            "others do not take all that it leaves of 'x'");
  // Read without the axis too.
  checked = gathers(kThree,
                    "a0 = Gather<axis=2>(x, i0) b0 = Unsqueeze(a0, back) "
                    "a1 = Gather<axis=2>(x, i1) b1 = Unsqueeze(a1, back) "
                    "a2 = Gather<axis=2>(x, i2) b2 = Unsqueeze(a2, back) c = Sub(b0, b2) "
                    "y = Add(c, b1) w = Neg(a1)",
                    "float[n,4,1] y, float[n,4] w");
  EXPECT_FALSE(checked.run->changed);
}

}  // namespace
}  // namespace mcompress::testing
