// fuse-mish and fuse-swish.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view body, int opset) {
  return "<ir_version: 10, opset_import: [\"\" : " + std::to_string(opset) +
         "]> g (float[N,4,6] x) => (float[N,4,6] y) <float one = {1}, float two = {2}, float steep "
         "= {1.702}> { " +
         std::string(body) + " }";
}

TEST(FuseMish, WithASoftplusOrWhatItIs) {
  for (const char* body :
       {"s = Softplus(x) t = Tanh(s) y = Mul(x, t)", "s = Softplus(x) t = Tanh(s) y = Mul(t, x)",
        "e = Exp(x) p = Add(e, one) s = Log(p) t = Tanh(s) y = Mul(x, t)",
        "e = Exp(x) p = Add(one, e) s = Log(p) t = Tanh(s) y = Mul(t, x)"}) {
    const auto checked = check_passes(graph(body, 18), {"infer-shapes", "fuse-mish"});
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    EXPECT_EQ(count_nodes(*checked.after, "Mish"), 1) << body;
  }
}

TEST(FuseMish, AFactorBehindItStays) {
  const auto checked =
      check_passes(graph("s = Softplus(x) t = Tanh(s) m = Mul(x, t) y = Mul(m, two)", 18),
                   {"infer-shapes", "fuse-mish"});
  EXPECT_EQ(count_nodes(*checked.after, "Mish"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
}

TEST(FuseMish, LeavesWhatIsNone) {
  for (const char* body : {"s = Softplus(x) t = Tanh(s) y = Add(x, t)",
                           "e = Exp(x) p = Add(e, two) s = Log(p) t = Tanh(s) y = Mul(x, t)",
                           "n = Neg(x) s = Softplus(n) t = Tanh(s) y = Mul(x, t)"}) {
    const auto checked = check_passes(graph(body, 18), {"infer-shapes", "fuse-mish"}, 0.0);
    EXPECT_FALSE(checked.run->changed) << body;
    EXPECT_EQ(checked.run->count("fuse-mish", "eligible"), 0) << body;
  }
}

TEST(FuseMish, StaysBeforeOpset18) {
  const auto checked = check_passes(graph("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", 17),
                                    {"infer-shapes", "fuse-mish"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Mul node that makes 'y'"), "Mish needs opset 18, the model has 17");
}

TEST(FuseMish, SaysWhatElseReadsAPart) {
  const auto checked = check_passes(
      "<ir_version: 10, opset_import: [\"\" : 18]> g (float[N,4] x) => (float[N,4] y, float[N,4] "
      "t) "
      "{ s = Softplus(x) t = Tanh(s) y = Mul(x, t) }",
      {"infer-shapes", "fuse-mish"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Mul node that makes 'y'"), "'t' is a graph output");
}

const std::string kSwish = "s = Sigmoid(x) y = Mul(x, s)";

TEST(FuseSwish, WhereTheTargetHasIt) {
  auto model = model_from_text(graph(kSwish, 24));
  auto run = run_passes_for("generic-qdq", *model, {"infer-shapes", "fuse-swish"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(count_nodes(*model, "Swish"), 1);
  EXPECT_EQ(model->graph().node_count(), 1u);

  model = model_from_text(graph("k = Mul(x, steep) s = Sigmoid(k) y = Mul(s, x)", 24));
  run = run_passes_for("generic-qdq", *model, {"infer-shapes", "fuse-swish"});
  ASSERT_EQ(count_nodes(*model, "Swish"), 1);
  EXPECT_FLOAT_EQ(maker_of(*model, "y")->float_attribute("alpha", 0), 1.702f);
}

TEST(FuseSwish, StaysWhereItIsSlowerOrTooNew) {
  auto checked = check_passes(graph(kSwish, 24), {"infer-shapes", "fuse-swish"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Mul node that makes 'y'"),
            "onnxruntime-cpu gains nothing from Swish");
  auto model = model_from_text(graph(kSwish, 23));
  const auto run = run_passes_for("generic-qdq", *model, {"infer-shapes", "fuse-swish"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Mul node that makes 'y'"), "Swish needs opset 24, the model has 23");
}

}  // namespace
}  // namespace mcompress::testing
