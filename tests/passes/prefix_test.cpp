// prefix_of: the nodes that are needed, all of them and no others, and the same numbers.
#include "ir/prefix.h"

#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kText =
    "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2,4] x) => (float[2,4] y, float[2,4] z) "
    "<float[4,4] w = {1,2,3,4,5,6,7,8,9,8,7,6,5,4,3,2}, float[4] b = {1,2,3,4}> "
    "{ a = MatMul(x, w) c = Relu(a) y = Add(c, b) d = Neg(c) z = Sub(d, y) }";

std::size_t nodes_of(const Model& model) { return model.graph().nodes().size(); }

TEST(Prefix, HoldsWhatTheValuesNeed) {
  const auto model = model_from_text(kText);
  const std::vector<std::string> early = {"a"}, late = {"d"}, all = {"z"}, unknown = {"q"};
  const auto first = prefix_of(*model, early);
  EXPECT_EQ(nodes_of(*first), 1U);
  EXPECT_EQ(first->graph().find("b"), nullptr);
  ASSERT_EQ(first->graph().outputs().size(), 1U);
  EXPECT_EQ(first->graph().outputs()[0]->name(), "a");
  EXPECT_EQ(nodes_of(*prefix_of(*model, late)), 3U);
  EXPECT_EQ(nodes_of(*prefix_of(*model, all)), 5U);
  EXPECT_EQ(nodes_of(*prefix_of(*model, unknown)), 5U);
  EXPECT_EQ(nodes_of(*model), 5U);
}

TEST(Prefix, KeepsOutputsThatRemain) {
  const auto model = model_from_text(kText);
  const std::vector<std::string> names = {"y"};
  const auto prefix = prefix_of(*model, names);
  ASSERT_EQ(prefix->graph().outputs().size(), 1U);
  EXPECT_EQ(prefix->graph().outputs()[0]->name(), "y");
  EXPECT_EQ(nodes_of(*prefix), 3U);
}

TEST(Prefix, SeesWhatBodiesRead) {
  const auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x, bool k) => (float[2] y) "
      "{ a = Neg(x) u = Exp(x) b = If(k) <then_branch = t () => (float[2] p) { p = Relu(a) }, "
      "else_branch = e () => (float[2] q) { q = Identity(x) }> y = Add(b, u) }");
  const std::vector<std::string> names = {"b"};
  const auto prefix = prefix_of(*model, names);
  EXPECT_EQ(nodes_of(*prefix), 2U);
  EXPECT_NE(prefix->graph().find("a"), nullptr);
}

}  // namespace
}  // namespace mcompress::testing
