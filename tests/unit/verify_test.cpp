#include <gtest/gtest.h>

#include <functional>

#include "ir/builder.h"
#include "mcompress/edit.h"
#include "mcompress/ir.h"
#include "support/models.h"

namespace mcompress {
namespace {

// A model that a builder can break: x -> Relu -> a -> Neg -> y.
struct Small {
  std::unique_ptr<Model> model = std::make_unique<Model>();
  Builder builder{*model};
  Graph& graph = model->graph();
  Value* x;
  Value* a;
  Value* y;
  Node* relu;
  Node* neg;

  Small() {
    builder.set_ir_version(8);
    builder.import_opset("", 17);
    x = &builder.add_value(graph, "x");
    builder.add_input(graph, *x);
    a = &builder.add_value(graph, "a");
    y = &builder.add_value(graph, "y");
    relu = &builder.add_node(graph, "relu", "", "Relu", "", nullptr);
    builder.add_node_input(*relu, x);
    builder.add_node_output(*relu, a);
    neg = &builder.add_node(graph, "neg", "", "Neg", "", nullptr);
    builder.add_node_input(*neg, a);
    builder.add_node_output(*neg, y);
  }
  void finish() {
    builder.append(graph, *relu);
    builder.append(graph, *neg);
    builder.add_output(graph, *y);
  }
  std::string verdict() const {
    const Status status = verify(*model);
    if (status.ok()) return {};
    EXPECT_EQ(status.error().code, Code::kInternal);
    return status.error().diagnostic.id;
  }
};

TEST(Verify, AcceptsSoundModels) {
  Small small;
  small.finish();
  EXPECT_EQ(small.verdict(), "");
  for (const auto& entry : testing::fixtures()) {
    const auto model = testing::model_from_bytes(entry.bytes);
    EXPECT_TRUE(verify(*model).ok()) << entry.name;
    EXPECT_TRUE(verify(*model->clone()).ok()) << entry.name;
  }
}

TEST(Verify, FindsNodesOutOfOrder) {
  Small small;
  small.builder.append(small.graph, *small.neg);
  small.builder.append(small.graph, *small.relu);
  small.builder.add_output(small.graph, *small.y);
  EXPECT_EQ(small.verdict(), "verify-order");
}

TEST(Verify, FindsUsesThatDoNotMatch) {
  Small listed;
  listed.finish();
  // A node outside the graph that reads a value: its use is listed but the node is in no list.
  Node& stray = listed.builder.add_node(listed.graph, "stray", "", "Abs", "", nullptr);
  listed.builder.add_node_input(stray, listed.a);
  EXPECT_EQ(listed.verdict(), "verify-use");
}

TEST(Verify, FindsNamesSeenTwice) {
  Small small;
  small.finish();
  Value& twin = small.builder.add_value(small.graph, "a");
  small.builder.set_initializer(small.graph, twin, make_float_scalar(1), nullptr);
  EXPECT_EQ(small.verdict(), "verify-name");
}

// A name is free again behind the body that it was used in.
TEST(Verify, AcceptsNamesThatAreOutOfSight) {
  const auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (bool c, float[4] x) => (float[4] y) {
      r = If (c) <then_branch = one () => (float[4] s) { p = Abs (x) s = Neg (p) },
                  else_branch = two () => (float[4] t) { p = Exp (x) t = Neg (p) }>
      p = Relu (r)
      y = Neg (p)
    })");
  EXPECT_TRUE(verify(*model).ok());
}

TEST(Verify, FindsOutputsThatNobodyDefines) {
  Small small;
  small.finish();
  small.builder.add_output(small.graph, small.builder.add_value(small.graph, "ghost"));
  EXPECT_EQ(small.verdict(), "verify-output");
}

TEST(Verify, FindsDomainsWithoutOperatorSet) {
  Small small;
  small.finish();
  Node& custom = small.builder.add_node(small.graph, "custom", "com.example", "Op", "", nullptr);
  small.builder.append(small.graph, custom);
  EXPECT_EQ(small.verdict(), "verify-opset");
}

TEST(Verify, FindsTensorsOfTheWrongSize) {
  Small small;
  small.finish();
  Value& weight = small.builder.add_value(small.graph, "w");
  small.builder.set_initializer(
      small.graph, weight, Tensor(DataType::kFloat, {3}, make_storage(std::vector<std::byte>(11))),
      nullptr);
  EXPECT_EQ(small.verdict(), "verify-tensor");
}

TEST(Verify, LocatesTheTrouble) {
  auto model = testing::model_from_bytes(testing::fixture("captured"));
  Builder builder(*model);
  Node& branch = *testing::maker_of(*model, "y");
  Graph& body = *branch.bodies()[0];
  Node& node = builder.add_node(body, "lost", "nowhere", "Op", "", nullptr);
  builder.append(body, node);
  const Status status = verify(*model);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().diagnostic.where.subject, "lost");
  EXPECT_NE(status.error().diagnostic.where.path.find("then_branch"), std::string::npos);
}

TEST(Verify, IsLinear) {
  const auto model = testing::model_from_bytes(testing::chain_bytes(20000));
  EXPECT_TRUE(verify(*model).ok());
}

}  // namespace
}  // namespace mcompress
