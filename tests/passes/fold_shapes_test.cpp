#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view inputs, std::string_view output, std::string_view body,
                  int opset = 17) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g (" +
         std::string(inputs) + ") => (" + std::string(output) +
         ") <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, "
         "int64[1] minus = {-1}, int64[1] four = {4}, int64[1] eight = {8}, int64[1] twelve = "
         "{12}, "
         "int64 first = {0}, int64[3] ones = {1,1,1}, int64[1] max = {9223372036854775807}> { " +
         std::string(body) + " }";
}

Checked fold(const std::string& text, std::int64_t open = 2) {
  return check_passes(text, {"infer-shapes", "fold-shapes", "eliminate-dead"}, 0.0, open);
}

std::int64_t sites(const Checked& checked) {
  return checked.run->count("fold-shapes", "constants") +
         checked.run->count("fold-shapes", "reshapes") +
         checked.run->count("fold-shapes", "expands");
}

std::vector<std::int64_t> shape_read_by(Model& model, std::string_view name) {
  const Node* node = maker_of(model, name);
  const Tensor* tensor = node->input(1) != nullptr ? node->input(1)->constant() : nullptr;
  return tensor != nullptr ? *read_ints(*tensor) : std::vector<std::int64_t>{};
}

using Shape = std::vector<std::int64_t>;

TEST(FoldShapes, AReshapeThatOnlyCopiesWhatItReads) {
  for (const auto& [body, shape] : std::vector<std::pair<std::string_view, Shape>>{
           {"s = Shape(x) n = Slice(s, zero, one) t = Concat<axis=0>(n, minus)", {0, -1}},
           {"s = Shape(x) n = Gather<axis=0>(s, first) u = Unsqueeze(n, zero) "
            "t = Concat<axis=0>(u, twelve)",
            {0, 12}},
           {"s = Shape(x) i = Cast<to=6>(s) n = Slice(i, zero, one) j = Cast<to=7>(n) "
            "k = Mul(j, one) t = Concat<axis=0>(k, twelve)",
            {0, 12}},
           {"s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, three, four)", {0, 3, 4}},
           {"r = Relu(x) s = Shape(r) n = Slice(s, zero, one) t = Concat<axis=0>(n, three, two, "
            "two)",
            {0, 3, 2, 2}},
       }) {
    const std::string out = "float[" +
                            std::string(shape.size() == 2   ? "n,12"
                                        : shape.size() == 3 ? "n,3,4"
                                                            : "n,3,2,2") +
                            "] y";
    const std::string text = graph("float[n,3,4] x", out, std::string(body) + " y = Reshape(x, t)");
    const auto checked = fold(text);
    EXPECT_EQ(checked.run->count("fold-shapes", "reshapes"), 1) << body;
    EXPECT_EQ(shape_read_by(*checked.after, "y"), shape) << body;
    EXPECT_EQ(count_nodes(*checked.after, "Shape"), 0) << body;
  }
}

TEST(FoldShapes, TwoUnknownEntriesStay) {
  const auto checked = fold(graph("float[n,m,8] x", "float[a,b,8] y",
                                  "s = Shape(x) n = Slice(s, zero, one) m = Slice(s, one, two) "
                                  "t = Concat<axis=0>(m, n, eight) y = Reshape(x, t)"));
  EXPECT_EQ(sites(checked), 0);
  EXPECT_EQ(checked.run->why("Reshape node that makes 'y'"),
            "2 of the 3 entries of 't' are only known when it runs");
}

TEST(FoldShapes, AnEmptyBatchForbidsMinusOne) {
  // [n, m] from [m, n]: with n = 0 the entry -1 would have no answer.
  const auto checked = fold(graph("float[m,2,n] x", "float[n,a] y",
                                  "s = Shape(x) n = Slice(s, two, three) m = Slice(s, zero, one) "
                                  "k = Mul(m, two) t = Concat<axis=0>(n, k) y = Reshape(x, t)"));
  EXPECT_EQ(sites(checked), 0);
}

TEST(FoldShapes, OneEntryOfNumbersIsFound) {
  const auto checked = fold(graph("float[n,3,4] x", "float[12,n] y",
                                  "s = Shape(x) n = Slice(s, zero, one) "
                                  "t = Concat<axis=0>(twelve, n) y = Reshape(x, t)"));
  EXPECT_EQ(shape_read_by(*checked.after, "y"), (Shape{12, -1}));
}

TEST(FoldShapes, NumbersBehindAnOpenBatch) {
  const auto checked = fold(graph("float[n,3,4] x", "float[n,3,4] y, int64[2] z",
                                  "s = Shape(x) z = Slice(s, one, max) y = Relu(x)"));
  EXPECT_EQ(checked.run->count("fold-shapes", "constants"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
}

TEST(FoldShapes, AnExpandToTheShapeThatIsThere) {
  // As exporters write it: -1 stands for what is there.
  const auto checked =
      fold(graph("float[n,3,4] x", "float[n,3,4] y",
                 "s = Shape(x) n = Slice(s, zero, one) c = Concat<axis=0>(n, minus, minus) "
                 "e = Equal(c, minus) t = Where(e, ones, c) a = Expand(x, t) y = Neg(a)"));
  EXPECT_EQ(checked.run->count("fold-shapes", "expands"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
}

TEST(FoldShapes, AnExpandThatItsReadersDoThemselves) {
  const auto text = [](std::string_view reader) {
    return graph("float[n,3,4] x, float[1,4] k", "float[n,3,4] y",
                 "s = Shape(x) a = Expand(k, s) " + std::string(reader));
  };
  auto checked = fold(text("y = Add(x, a)"));
  EXPECT_EQ(checked.run->count("fold-shapes", "expands"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  // The square has no other operand, Neg does not broadcast, an output is an output.
  for (std::string_view reader : {"b = Mul(a, a) y = Add(b, x)", "b = Neg(a) y = Add(b, x)"}) {
    checked = fold(text(reader));
    EXPECT_EQ(sites(checked), 0) << reader;
    EXPECT_FALSE(checked.run->why("Expand node that makes 'a'").empty()) << reader;
  }
  checked = fold(text("y = Identity(a)"));
  EXPECT_EQ(sites(checked), 0);
}

TEST(FoldShapes, ALargerShapeFromElsewhereStays) {
  const auto checked = fold(graph("float[n,3,4] x, float[m,3,4] z", "float[a,3,4] y",
                                  "s = Shape(z) a = Expand(x, s) y = Neg(a)"),
                            1);
  EXPECT_EQ(sites(checked), 0);
}

TEST(FoldShapes, InsideABranch) {
  const auto checked = fold(graph(
      "bool c, float[n,3,4] x", "float[n,12] y",
      "y = If (c) < then_branch = t () => (float[p,12] o) { s = Shape(x) n = Slice(s, zero, one) "
      "q = Concat<axis=0>(n, twelve) o = Reshape(x, q) },"
      " else_branch = e () => (float[p,12] o) { o = Flatten(x) }>"));
  EXPECT_EQ(checked.run->count("fold-shapes", "reshapes"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Shape"), 0);
}

TEST(FoldShapes, DimensionsFollowOperators) {
  // Through Conv, Transpose, MatMul, Add, Softmax and Reshape the first dimension is the batch.
  const auto checked = fold(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[b,2,6,6] x) => (float[b,36,4] y) <" +
      weights("w", {4, 2, 3, 3}) + ", " + weights("v", {4, 4}) +
      ", int64[3] flat = {0, 4, -1}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] all = {36}, "
      "int64[1] four = {4}> {"
      " c = Conv<pads=[1,1,1,1]>(x, w) f = Reshape(c, flat) t = Transpose<perm=[0,2,1]>(f)"
      " m = MatMul(t, v) a = Add(m, t) p = Softmax(a) s = Shape(x) n = Slice(s, zero, one)"
      " q = Concat<axis=0>(n, all, four) y = Reshape(p, q) }");
  EXPECT_EQ(checked.run->count("fold-shapes", "reshapes"), 1);
  EXPECT_EQ(shape_read_by(*checked.after, "y"), (Shape{0, 36, 4}));
}

TEST(FoldShapes, AllowZeroTakesAZeroLiterally) {
  const auto checked = fold(graph("float[n,3,4] x", "float[n,12] y",
                                  "s = Shape(x) n = Slice(s, zero, one) t = Concat<axis=0>(n, "
                                  "twelve) y = Reshape<allowzero=1>(x, t)"));
  EXPECT_EQ(shape_read_by(*checked.after, "y"), (Shape{-1, 12}));
}

}  // namespace
}  // namespace mcompress::testing
