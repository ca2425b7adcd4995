// simplify-unit-axes: every case is computed by the runtime before and after.
#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// On x [n, 3, 1, 1], k [2, 1, 4] and w [2, 4, 1].
Checked unit(std::string_view body, std::string_view outputs, int opset = 17) {
  return check_passes(
      "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
          "]> g (float[n,3,1,1] x, float[2,1,4] k, float[2,4,1] w) => (" + std::string(outputs) +
          ") <int64 zero = {0}, int64 last = {-1}, int64[1] zeros = {0}, int64[1] one = {1}, "
          "int64[2] places = {-2, -1}, float half = {0.5}> { " +
          std::string(body) + " }",
      {"infer-shapes", "simplify-unit-axes", "eliminate-dead"}, 0.0, 2);
}

std::int64_t count(const Checked& checked, std::string_view key) {
  return checked.run->count("simplify-unit-axes", key);
}

std::int64_t changes(const Checked& checked) {
  return count(checked, "removed") + count(checked, "squeezed") + count(checked, "constants");
}

TEST(SimplifyUnitAxes, ReductionsThatKeepTheAxesGo) {
  for (std::string_view op : {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"}) {
    const auto checked =
        unit("a = " + std::string(op) + "<axes=[2,-1]>(x) y = Neg(a)", "float[n,3,1,1] y");
    EXPECT_EQ(count(checked, "removed"), 1) << op;
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << op;
  }
  EXPECT_EQ(count(unit("a = ReduceSum(x, places) y = Neg(a)", "float[n,3,1,1] y"), "removed"), 1);
  EXPECT_EQ(count(unit("a = ReduceSum<noop_with_empty_axes=1>(x) y = Neg(a)", "float[n,3,1,1] y"),
                  "removed"),
            1);
  EXPECT_EQ(count(unit("a = GlobalAveragePool(x) y = Neg(a)", "float[n,3,1,1] y"), "removed"), 1);
  EXPECT_EQ(count(unit("a = GlobalMaxPool(x) y = Neg(a)", "float[n,3,1,1] y"), "removed"), 1);
}

TEST(SimplifyUnitAxes, ReductionsThatDropTheAxesAreSqueezes) {
  auto checked = unit("y = ReduceMean<axes=[3,2], keepdims=0>(x)", "float[n,3] y");
  EXPECT_EQ(count(checked, "squeezed"), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Squeeze");
  EXPECT_EQ(*constant_ints(maker_of(*checked.after, "y")->input(1)),
            (std::vector<std::int64_t>{2, 3}));
  checked = unit("y = ReduceSum<keepdims=0>(x, places)", "float[n,3] y");
  EXPECT_EQ(count(checked, "squeezed"), 1);
  checked = unit("y = ReduceMax<axes=[-1], keepdims=0>(x)", "float[n,3,1] y", 11);
  EXPECT_EQ(*maker_of(*checked.after, "y")->ints_attribute("axes"), (std::vector<std::int64_t>{3}));
}

TEST(SimplifyUnitAxes, OneIndexOfOneIsASqueeze) {
  for (std::string_view index : {"zero", "last"}) {
    const auto checked =
        unit("y = Gather<axis=2>(x, " + std::string(index) + ")", "float[n,3,1] y");
    EXPECT_EQ(count(checked, "squeezed"), 1) << index;
    EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Squeeze");
  }
}

TEST(SimplifyUnitAxes, ASoftmaxOfOneNumberIsOne) {
  auto checked = unit("p = MatMul(k, w) q = Mul(p, half) a = Softmax<axis=-1>(q) y = MatMul(a, k)",
                      "float[2,1,4] y");
  EXPECT_EQ(count(checked, "constants"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  // Under old rules all axes from the first on count together.
  checked = unit("p = MatMul(k, w) a = Softmax<axis=1>(p) y = MatMul(a, k)", "float[2,1,4] y", 11);
  EXPECT_EQ(count(checked, "constants"), 1);
}

TEST(SimplifyUnitAxes, ASoftmaxOfWhatMayBeInfiniteStays) {
  const auto checked = unit(
      "p = MatMul(k, w) m = ReduceMax<axes=[1]>(w) q = Add(p, m) a = Softmax<axis=-1>(q) y = "
      "MatMul(a, k)",
      "float[2,1,4] y");
  EXPECT_EQ(changes(checked), 0);
  EXPECT_EQ(checked.run->why("Softmax node that makes 'a'"),
            "what it reads may be infinite, of which it makes no number and not 1");
}

TEST(SimplifyUnitAxes, WhatSeesMoreThanOneElementStays) {
  for (const auto& [body, outputs] : std::vector<std::pair<std::string_view, std::string_view>>{
           {"y = ReduceMean<axes=[0,2]>(x)", "float[1,3,1,1] y"},
           {"y = ReduceMean<axes=[1]>(x)", "float[n,1,1,1] y"},
           {"y = ReduceMean(x)", "float[1,1,1,1] y"},
           {"y = ReduceL2<axes=[2]>(x)", "float[n,3,1,1] y"},
           {"y = Gather<axis=1>(x, zero)", "float[n,1,1] y"},
           {"y = Gather<axis=2>(x, zeros)", "float[n,3,1,1] y"},
           {"p = MatMul(w, k) y = Softmax(p)", "float[2,4,4] y"},
           {"p = MatMul(k, w) y = Softmax<axis=0>(p)", "float[2,1,1] y"},
       }) {
    EXPECT_EQ(changes(unit(body, outputs)), 0) << body;
  }
  const auto open = unit("c = MatMul(x, x) y = Softmax(c)", "float[n,3,1,1] y");
  EXPECT_EQ(open.run->why("Softmax node that makes 'y'"),
            "it is 1, but how often is not known or too large");
  EXPECT_EQ(changes(open), 0);
}

}  // namespace
}  // namespace mcompress::testing
