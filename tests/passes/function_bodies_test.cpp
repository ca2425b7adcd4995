// Passes inside the bodies of functions that stay as calls.
#include <gtest/gtest.h>

#include "ir/facts.h"
#include "ir/walk.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string head(std::string_view graph) {
  return "<ir_version: 10, opset_import: [\"\" : 17, \"l\" : 1]>\n" + std::string(graph) +
         "\n<domain: \"l\", opset_import: [\"\" : 17]>\n";
}

const Graph& body(const Model& model, std::size_t function = 0) {
  return *model.functions()[function].body;
}

std::int64_t count_in(const Graph& graph, std::string_view op_type) {
  std::int64_t count = 0;
  for_each_node(const_cast<Graph&>(graph),
                [&](const Node& node) { count += node.op_type() == op_type ? 1 : 0; });
  return count;
}

constexpr std::string_view kTwoCalls =
    "g (float[2,64] x) => (float[2,64] y) { t = l.f(x) y = l.f(t) }";

TEST(FunctionBodies, WeightsOfConstantNodesAreStoredInEightBits) {
  const auto checked =
      check_passes(head(kTwoCalls) + "f (a) => (b) { w = Constant<value = " +
                       weights("", {64, 64}, -0.1f, 0.1f) + ">() b = MatMul(a, w) }",
                   {"quantize-weights"}, 0.02);
  EXPECT_EQ(checked.after->functions().size(), 1u);
  EXPECT_TRUE(body(*checked.after).initializers().empty());
  EXPECT_EQ(checked.run->applied("quantize-weights"), 1);
  EXPECT_EQ(checked.run->explain.all().front().subject, "f/w");
  EXPECT_EQ(checked.run->explain.all().front().bytes_before, 64u * 64u * 4u);
  EXPECT_EQ(count_in(body(*checked.after), "Cast"), 1);
  std::uint64_t bytes = 0;
  for_each_node(const_cast<Graph&>(body(*checked.after)), [&](const Node& node) {
    if (const auto data = constant_of(node.output(0))) bytes += data->byte_size();
  });
  EXPECT_LT(bytes, 64u * 64u * 2u);
}

TEST(FunctionBodies, SaysWhichWeightsStay) {
  auto model = model_from_text(head(kTwoCalls) + "f (a) => (b) { w = Constant<value = " +
                               weights("", {64, 64}) + ">() b = Add(a, w) }");
  const auto run = run_passes(*model, {"quantize-weights"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("f/w"), "is not a weight of Add 'Add node that makes 'b''");
}

TEST(FunctionBodies, AreOptimised) {
  const std::string text =
      head("g (float[1,2,5,5] x) => (float[1,2,5,5] y) { t = l.f(x) y = l.f(t) }") +
      "f (a) => (b) { w = Constant<value = " + weights("", {2, 2, 1, 1}) +
      ">() s = Constant<value = float[2] {2, 3}>() o = Constant<value = float[2] {0.5, -1}>() m = "
      "Constant<value = float[2] {0.25, 1}>() v = Constant<value = float[2] {4, 9}>() c = Conv(a, "
      "w) n = BatchNormalization(c, s, o, m, v) r = Relu(n) i = Identity(r) b = Relu(i) d = Exp(a) "
      "}";
  const auto checked = check_passes(text, {"infer-shapes", "eliminate-identity", "fuse-batchnorm",
                                           "fuse-activation", "eliminate-dead"});
  const Graph& inside = body(*checked.after);
  EXPECT_EQ(count_in(inside, "BatchNormalization"), 0);
  EXPECT_EQ(count_in(inside, "Relu"), 1);
  EXPECT_EQ(count_in(inside, "Exp"), 0);
  EXPECT_EQ(count_in(inside, "Constant"), 2);
  EXPECT_TRUE(inside.initializers().empty());
  EXPECT_GE(checked.run->applied("fuse-batchnorm"), 1);
}

TEST(FunctionBodies, KnowWhatAllCallsHaveInCommon) {
  const auto gelu = [](std::string_view graph) {
    return head(graph) +
           "f (a) => (b) { root = Constant<value = float {1.41421354}>() one = Constant<value = "
           "float {1}>() half = Constant<value = float {0.5}>() d = Div(a, root) e = Erf(d) s = "
           "Add(e, one) m = Mul(a, s) b = Mul(m, half) }";
  };
  const std::vector<std::string> passes = {"infer-shapes", "fuse-gelu"};
  // Opset 17 has no Gelu, and a function keeps its operator sets.
  auto checked = check_passes(
      gelu("g (float[2,4] x, float[3,5] z) => (float y, float w) { y = l.f(x) w = l.f(z) }"),
      passes);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("f/Mul node that makes 'b'"), "Gelu needs opset 20, the model has 17");
  // The types of a call inside another function are not known.
  checked = check_passes(gelu("g (float[2,4] x) => (float y) { y = l.f(x) }") +
                             "\n<domain: \"l\", opset_import: [\"\" : 17, \"l\" : 1]> h (a) => (b) "
                             "{ b = l.f(a) }",
                         passes);
  EXPECT_EQ(checked.run->why("f/Mul node that makes 'b'"), "the type of 'a' is unknown");
}

// A shape that holds for one call is nothing to go by.
TEST(FunctionBodies, ShapesThatDifferAreUnknown) {
  const auto reshaped = [](std::string_view graph) {
    return head(graph) +
           "f (a) => (b) { s = Constant<value = int64[2] {2, 3}>() r = Reshape(a, s) b = Neg(r) }";
  };
  const std::vector<std::string> passes = {"infer-shapes", "merge-reshapes", "eliminate-identity"};
  const auto same =
      check_passes(reshaped("g (float[2,3] x) => (float z) { y = l.f(x) z = l.f(y) }"), passes);
  EXPECT_EQ(count_in(body(*same.after), "Reshape"), 0);
  const auto other = check_passes(
      reshaped("g (float[2,3] x, float[3,2] w) => (float y, float z) { y = l.f(x) z = l.f(w) }"),
      passes);
  EXPECT_EQ(count_in(body(*other.after), "Reshape"), 1);
  EXPECT_FALSE(other.run->changed);
}

TEST(FunctionBodies, NodesThatReferToAttributesOfTheCallAreLeftAlone) {
  // Taken for a Transpose that reverses the axes, or a LeakyRelu of slope 0.01, they would cancel
  // out or be computed.
  const auto checked = check_passes(
      head("g (float[2,3,4] x) => (float y, float z) { y = l.f<p = [1,0,2], k = 0.5>(x) z = l.f<p "
           "= [0,2,1], k = 0.25>(x) }") +
          "f <p, k> (a) => (b) { c = Constant<value = float[1] {-2}>() q = LeakyRelu<alpha: float "
          "= @k>(c) t = Transpose<perm: ints = @p>(a) u = Transpose<perm: ints = @p>(t) r = "
          "Relu(u) "
          "s = Relu(r) b = Mul(s, q) }",
      {"infer-shapes", "fold-constants", "push-transposes", "merge-reshapes", "eliminate-identity",
       "fuse-activation", "eliminate-duplicates", "eliminate-dead"});
  const Graph& inside = body(*checked.after);
  EXPECT_EQ(count_in(inside, "Transpose"), 2);
  EXPECT_EQ(count_in(inside, "LeakyRelu"), 1);
  EXPECT_EQ(count_in(inside, "Relu"), 1);
  for_each_node(const_cast<Graph&>(inside),
                [](const Node& node) { EXPECT_TRUE(node.domain().empty()) << node.label(); });
  EXPECT_EQ(checked.after->functions()[0].opsets.size(), 1u);
}

TEST(FunctionBodies, ThatNeedNothingAreKeptAsTheyAre) {
  auto model = model_from_text(head(kTwoCalls) + "f (a) => (b) { b = Relu(a) }");
  const std::uint64_t before = fingerprint(*model);
  std::size_t count = 0;
  for (const PassInfo* pass : builtin_passes().all()) {
    if (pass->reach != Reach::kNestedGraphs || pass->name == "inline-functions" ||
        pass->name == "convert-opset") {
      continue;
    }
    const auto run = run_passes(*model, {std::string(pass->name)});
    EXPECT_TRUE(run->status.ok()) << pass->name;
    EXPECT_FALSE(run->changed) << pass->name;
    ++count;
  }
  EXPECT_GT(count, 20u);
  EXPECT_EQ(fingerprint(*model), before);
  EXPECT_TRUE(body(*model).pristine());
  EXPECT_EQ(body(*model).outputs()[0]->type(), nullptr);
}

TEST(FunctionBodies, GraphsInThemToo) {
  const auto checked = check_passes(
      head("g (bool c, float[2,3] x) => (float y, float z) { y = l.f(c, x) z = l.f(c, y) }") +
          R"(f (c, a) => (b) {
  b = If (c) <
    then_branch = t () => (o) { r = Relu(a) o = Relu(r) },
    else_branch = e () => (p) { n = Neg(a) m = Identity(n) p = Abs(m) }
  >
})",
      {"infer-shapes", "fuse-activation", "eliminate-identity"});
  EXPECT_EQ(count_in(body(*checked.after), "Relu"), 1);
  EXPECT_EQ(count_in(body(*checked.after), "Identity"), 0);
}

}  // namespace
}  // namespace mcompress::testing
