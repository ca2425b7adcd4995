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

TEST(FusePad, StaysBesideAnotherOperatorOrNumber) {
  const auto why = [](const std::string& text) {
    auto model = model_from_text(text);
    const auto run = run_passes(*model, {"fuse-pad"});
    EXPECT_TRUE(run->status.ok());
    EXPECT_FALSE(run->changed);
    return run->why("Pad node that makes 'q'");
  };
  EXPECT_EQ(why(padded("q = Pad(x, p) y = ConvTranspose(q, w)")),
            "it is read by ConvTranspose 'ConvTranspose node that makes 'y''");
  // No number is below NaN, yet it is not the lowest.
  EXPECT_EQ(
      why(padded("q = Pad(x, p, none) y = MaxPool<kernel_shape=[3,3]>(q)", ", float none = {nan}")),
      "it pads with another number than MaxPool 'MaxPool node that makes 'y''");
  EXPECT_EQ(why(padded("q = Pad(x, p) y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(q)")),
            "AveragePool 'AveragePool node that makes 'y'' does not count its own padding");
}

TEST(FusePad, AxesAreAsManyAsPads) {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 18]> g (float[N,2,6,6] x) => (float[N,2,A,B] y) "
      "<int64[4] p = {1,1,2,2}, int64[2] axes = {-1, 2}, int64[4] more = {0,1,2,3}, " +
      weights("w", {2, 2, 3, 3}) + "> { q = Pad(x, p, , axes) y = Conv(q, w) }");
  auto odd = model->clone();
  EXPECT_EQ(run_passes(*model, {"fuse-pad"})->count("fuse-pad", "fused"), 1);
  EXPECT_EQ(maker_of(*model, "y")->ints_attribute("pads"), (std::vector<std::int64_t>{1, 1, 2, 2}));
  Editor editor(*odd);
  editor.set_input(*maker_of(*odd, "q"), 3, odd->graph().find("more"));
  const auto run = run_passes(*odd, {"fuse-pad"});
  EXPECT_EQ(run->why("Pad node that makes 'q'"), "it has other axes than pads");
}

// The old forms: a list and a number as attributes, and pools that count no padding.
TEST(FusePad, OldVersions) {
  const auto at = [](int opset, std::string_view reader) {
    Diagnostics diagnostics;
    auto model = parse_model_text(
        "<ir_version: 3, opset_import: [\"\" : " + std::to_string(opset) +
            "]> g (float[N,2,6,6] x) => (float[N,2,A,B] y) <" + weights("w", {2, 2, 3, 3}) +
            "> { q = Pad<pads=[0,0,1,1,0,0,1,1]>(x) y = " + std::string(reader) + " }",
        diagnostics);
    EXPECT_TRUE(model.ok());
    if (!model.ok()) return std::string("no model");
    const auto run = run_passes(**model, {"fuse-pad"});
    return run->changed ? "fused" : run->why("Pad node that makes 'q'");
  };
  EXPECT_EQ(at(2, "Conv(q, w)"), "fused");
  EXPECT_EQ(at(10, "AveragePool<kernel_shape=[3,3]>(q)"), "fused");
  EXPECT_EQ(at(6, "AveragePool<kernel_shape=[3,3]>(q)"),
            "AveragePool 'AveragePool node that makes 'y'' counts no padding before opset 7");
}

}  // namespace
}  // namespace mcompress::testing
