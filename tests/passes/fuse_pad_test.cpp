#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string padded(std::string_view body, std::string_view more = "") {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,2,6,6] x) => (float[N,2,A,B] y) "
         "<int64[8] p = {0,0,0,1,0,0,1,2}, float zero = {0.0}, float one = {1.0}, float low = "
         "{-3.4028234663852886e38}, " +
         weights("w", {2, 2, 3, 3}) + std::string(more) + "> { " + std::string(body) + " }";
}

std::vector<std::int64_t> pads_of(const Checked& checked) {
  return maker_of(*checked.after, "y")
      ->ints_attribute("pads")
      .value_or(std::vector<std::int64_t>());
}

TEST(FusePad, AddsUpWithTheConvolutionsOwn) {
  const auto checked = check_passes(
      padded("q = Pad(x, p, zero) y = Conv<pads=[1,0,1,0],strides=[2,2]>(q, w)"), {"fuse-pad"});
  EXPECT_EQ(count_nodes(*checked.after, "Pad"), 0);
  EXPECT_EQ(pads_of(checked), (std::vector<std::int64_t>{1, 1, 2, 2}));
}

TEST(FusePad, IntoValidPadding) {
  const auto checked =
      check_passes(padded("q = Pad(x, p) y = Conv<auto_pad=\"VALID\">(q, w)"), {"fuse-pad"});
  EXPECT_EQ(pads_of(checked), (std::vector<std::int64_t>{0, 1, 1, 2}));
}

TEST(FusePad, IntoPoolsThatPadWithTheSameNumber) {
  auto checked =
      check_passes(padded("q = Pad(x, p) y = AveragePool<kernel_shape=[3,3]>(q)"), {"fuse-pad"});
  EXPECT_EQ(count_nodes(*checked.after, "Pad"), 0);
  EXPECT_EQ(maker_of(*checked.after, "y")->int_attribute("count_include_pad", 0), 1);
  checked =
      check_passes(padded("q = Pad(x, p, low) y = MaxPool<kernel_shape=[3,3]>(q)"), {"fuse-pad"});
  EXPECT_EQ(count_nodes(*checked.after, "Pad"), 0);
}

TEST(FusePad, OfTwoReadersBothTakeItOver) {
  const auto checked = check_passes(
      padded("q = Pad(x, p) a = Conv(q, w) b = Conv(q, w) y = Add(a, b)"), {"fuse-pad"});
  EXPECT_EQ(count_nodes(*checked.after, "Pad"), 0);
}

TEST(FusePad, InBranchesButNotAcrossThem) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[N,2,6,6] x) => "
      "(float[N,2,4,5] y) <int64[8] p = {0,0,0,0,0,0,0,1}, " +
          weights("w", {2, 2, 3, 3}) + R"(> {
  q = Pad(x, p)
  y = If (c) <
    then_branch = t () => (float[N,2,4,5] o) { r = Pad(x, p) o = Conv(r, w) },
    else_branch = e () => (float[N,2,4,5] u) { u = Conv(q, w) }
  >
})",
      {"fuse-pad"});
  EXPECT_EQ(checked.run->count("fuse-pad", "fused"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Pad"), 1);
  EXPECT_EQ(checked.run->why("Pad node that makes 'q'"), "'q' is read inside a nested graph");
}

TEST(FusePad, SaysWhyOneStays) {
  const auto why = [](const std::string& text) {
    const auto checked = check_passes(text, {"fuse-pad"}, 0.0);
    EXPECT_EQ(checked.run->count("fuse-pad", "fused"), 0);
    EXPECT_FALSE(checked.run->changed);
    return checked.run->why("Pad node that makes 'q'");
  };
  EXPECT_EQ(why(padded("q = Pad(x, p, one) y = Conv(q, w)")),
            "it pads with another number than Conv 'Conv node that makes 'y''");
  EXPECT_EQ(why(padded("q = Pad<mode=\"reflect\">(x, p) y = Conv(q, w)")), "its mode is reflect");
  EXPECT_EQ(why(padded("q = Pad(x, p) y = Relu(q)")),
            "it is read by Relu 'Relu node that makes 'y''");
  EXPECT_EQ(why(padded("q = Pad(x, p) y = Conv<auto_pad=\"SAME_UPPER\">(q, w)")),
            "Conv 'Conv node that makes 'y'' pads by auto_pad");
  EXPECT_EQ(why(padded("q = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(q)")),
            "it pads with another number than MaxPool 'MaxPool node that makes 'y''");
  EXPECT_EQ(why(padded("q = Pad(x, p) y = AveragePool<kernel_shape=[2,2]>(q)")),
            "the padding is as large as the window");
  EXPECT_EQ(why(padded("q = Pad(x, channels) y = Conv(q, w)",
                       ", int64[8] channels = {0,0,0,0,0,0,0,-1}")),
            "it cuts elements off");
  EXPECT_EQ(why("<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,1,6,6] x) => "
                "(float[N,2,A,B] y) <int64[8] p = {0,1,0,0,0,0,0,0}, " +
                weights("w", {2, 2, 3, 3}) + "> { q = Pad(x, p) y = Conv(q, w) }"),
            "it pads the batch or channel axis");
}

}  // namespace
}  // namespace mcompress::testing
