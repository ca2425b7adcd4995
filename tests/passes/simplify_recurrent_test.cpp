#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::vector<std::string> kPasses = {"lift-constants", "infer-shapes", "simplify-recurrent"};

// x: [T, N, 3]; hidden size 2. `inputs` follow X, W and R.
std::string graph(std::string_view op, int gates, std::string_view before, std::string_view inputs,
                  std::string_view more = {}) {
  const std::string rows = std::to_string(gates * 2);
  return "<ir_version: 8, opset_import: [\"\" : 14]> g (float[T,N,3] x, float[1,N,2] h) => "
         "(float[A,B,C,D] y) <" +
         weights("w", {1, gates * 2, 3}) + ", " + weights("r", {1, gates * 2, 2}) + ", " +
         weights("b", {1, gates * 4}) +
         ", float[1,1,1] zero = {0}, float[1,1,1] one = {1}, int64[1] first = {1}, int64[1] last = "
         "{2}, int64[1] two = {2}" +
         std::string(more) +
         "> { s = Shape(x) n = Slice(s, first, last) k = Concat<axis=0>(first, n, two) " +
         std::string(before) + " y = " + std::string(op) + "<hidden_size=2>(x, w, r, " +
         std::string(inputs) + ") }";
}

const Node& recurrent(Model& model) { return *maker_of(model, "y"); }

TEST(SimplifyRecurrent, DropsStatesOfZeros) {
  for (const char* zeros :
       {"z = Expand(zero, k)", "z = ConstantOfShape(k)", "e = Expand(zero, k) z = Identity(e)",
        "o = ConstantOfShape<value = float[1] {0}>(k) z = Transpose<perm=[0,1,2]>(o)"}) {
    const auto checked = check_passes(graph("LSTM", 4, zeros, "b, , z, z"), kPasses);
    const Node& node = recurrent(*checked.after);
    EXPECT_EQ(node.inputs().size(), 4u) << zeros;
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << zeros;
    EXPECT_EQ(checked.run->count("simplify-recurrent", "dropped"), 2) << zeros;
  }
}

TEST(SimplifyRecurrent, OfGruAndRnnToo) {
  auto checked = check_passes(graph("GRU", 3, "z = Expand(zero, k)", "b, , z"), kPasses);
  EXPECT_EQ(recurrent(*checked.after).inputs().size(), 4u);
  checked = check_passes(graph("RNN", 1, "z = Expand(zero, k)", "b, , z"), kPasses);
  EXPECT_EQ(recurrent(*checked.after).inputs().size(), 4u);
}

TEST(SimplifyRecurrent, DropsABiasOfZeros) {
  const auto checked =
      check_passes(graph("LSTM", 4, "", "nothing, , h",
                         ", float[1,16] nothing = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,-0}"),
                   kPasses);
  const Node& node = recurrent(*checked.after);
  ASSERT_EQ(node.inputs().size(), 6u);
  EXPECT_EQ(node.input(3), nullptr);
  EXPECT_EQ(node.input(5)->name(), "h");
  EXPECT_EQ(checked.run->why("LSTM node that makes 'y'"),
            "its first hidden state is not known to be zero");
}

TEST(SimplifyRecurrent, KeepsWhatIsNotZero) {
  for (const char* other :
       {"z = Expand(one, k)", "o = ConstantOfShape<value = float[1] {0.5}>(k) z = Identity(o)",
        "e = Expand(zero, k) z = Exp(e)", "z = Mul(h, zero)"}) {
    const auto checked = check_passes(graph("GRU", 3, other, "b, , z"), kPasses);
    EXPECT_EQ(recurrent(*checked.after).inputs().size(), 6u) << other;
    EXPECT_EQ(checked.run->count("simplify-recurrent", "dropped"), 0) << other;
  }
}

}  // namespace
}  // namespace mcompress::testing
