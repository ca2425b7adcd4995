#include "mcompress/ir.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "ir/node_index.h"
#include "ir/sweep.h"
#include "ir/walk.h"
#include "mcompress/edit.h"
#include "mcompress/pass.h"
#include "support/models.h"

namespace mcompress {
namespace {

constexpr const char* kChain = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) {
  a = Relu(x)
  b = Neg(a)
  c = Abs(a)
  y = Add(b, c)
})";

constexpr const char* kCapture = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2] x) => (float[2] y) {
  a = Relu(x)
  y = If(p) <
    then_branch = t () => (float[2] u) { u = Neg(a) },
    else_branch = e () => (float[2] v) { v = Abs(a) }
  >
})";

std::vector<std::string> order(const Graph& graph) {
  std::vector<std::string> types;
  for (const Node* node : graph.nodes()) types.emplace_back(node->op_type());
  return types;
}

TEST(Value, UsesAreCompleteAndCoverNestedGraphsAndOutputs) {
  const auto model = testing::model_from_text(kCapture);
  Value* a = model->graph().find("a");
  ASSERT_NE(a, nullptr);
  ASSERT_EQ(a->uses().size(), 2U);
  for (const Use& use : a->uses()) {
    EXPECT_NE(use.graph, &model->graph());
    EXPECT_TRUE(use.graph->is_within(model->graph()));
  }
  Value* y = model->graph().find("y");
  ASSERT_EQ(y->uses().size(), 1U);
  EXPECT_EQ(y->uses().front().node, nullptr);
  EXPECT_TRUE(y->is_graph_output());
}

TEST(NodeIndex, FindsNodesOfNestedGraphsInTheirOrder) {
  const auto model = testing::model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17, "other" : 1]>
g (bool p, float[2] x) => (float[2] y) {
  a = Relu(x)
  n = other.Neg(a)
  z = If(p) <
    then_branch = t () => (float[2] u) { s = Neg(a)  u = Relu(s) },
    else_branch = e () => (float[2] v) { v = Abs(a) }
  >
  b = Neg(n)
  y = Add(b, z)
})");
  const NodeIndex index(*model);
  const auto made = [&](std::vector<std::string_view> op_types) {
    std::string names;
    for (const Node* node : index.of(op_types)) names += std::string(node->output(0)->name()) + " ";
    return names;
  };
  // Outer graphs first; operators of other domains are others.
  EXPECT_EQ(made({"Neg"}), "b s ");
  EXPECT_EQ(made({"Relu", "Neg"}), "a b s u ");
  EXPECT_EQ(made({"Neg", "Relu"}), "a b s u ");
  EXPECT_EQ(made({"Pad"}), "");
  EXPECT_EQ(index.all().size(), 8U);
  EXPECT_EQ(index.all().front()->op_type(), "Relu");
}

TEST(NodeIndex, IsMadeAnewOnceTheModelChanged) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  FactStore facts;
  const std::vector<std::string_view> negations = {"Neg"};
  const auto first = facts.of<NodeIndex>(*model);
  EXPECT_EQ(first, facts.of<NodeIndex>(*model));
  ASSERT_EQ(first->of(negations).size(), 1U);
  edit.set_op_type(*first->of(negations).front(), "", "Abs");
  EXPECT_TRUE(facts.of<NodeIndex>(*model)->of(negations).empty());
}

TEST(Editor, CountsWhatIsKnownOfTypes) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  Value& a = *model->graph().find("a");
  const std::uint64_t before = model->known_of_types();
  const auto known = [&] { return model->known_of_types() - before; };
  edit.set_type(a, {DataType::kFloat, std::nullopt}, false);
  EXPECT_EQ(known(), 1U);
  edit.set_type(a, {DataType::kFloat, std::vector<Dim>{{std::nullopt, "N"}, {}}}, false);
  EXPECT_EQ(known(), 3U);  // its rank and a name
  edit.set_type(a, {DataType::kFloat, std::vector<Dim>{{4, {}}, {2, {}}}}, false);
  EXPECT_EQ(known(), 6U);  // two for each size
  edit.set_type(a, {DataType::kFloat, std::vector<Dim>{{4, {}}, {2, {}}}}, false);
  EXPECT_EQ(known(), 6U);
  edit.set_type(a, {DataType::kFloat, std::nullopt}, false);
  EXPECT_EQ(known(), 1U);
}

TEST(PackedList, GrowsErasesAndKeepsItsOrder) {
  std::pmr::monotonic_buffer_resource memory;
  PackedList<int> list;
  EXPECT_TRUE(list.empty());
  for (int i = 0; i < 100; ++i) list.push_back(i, memory);
  list.push_back(list.front(), memory);  // of itself, where it may grow
  ASSERT_EQ(list.size(), 101U);
  list.erase(list.begin() + 3);
  list.erase(list.end() - 1);
  EXPECT_EQ(std::vector<int>(list.begin(), list.begin() + 5), (std::vector<int>{0, 1, 2, 4, 5}));
  EXPECT_EQ(list[98], 99);
  list.pop_back();
  list.resize(100, 7, memory);
  EXPECT_EQ(list[97], 98);
  EXPECT_EQ(list[98], 7);
  EXPECT_EQ(list[99], 7);
  list.resize(2, 0, memory);
  EXPECT_EQ(std::span<const int>(list).size(), 2U);
  list.clear();
  EXPECT_TRUE(list.empty());
}

TEST(Editor, NewNamesAvoidThoseOfValuesNodesAndNewOnes) {
  const auto model = testing::model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) {
  [n] a = Relu(x)
  [a_1] y = Abs(a)
})");
  Editor edit(*model);
  EXPECT_EQ(edit.unique_name("n"), "n_1");
  EXPECT_EQ(edit.unique_name("a"), "a_2");
  EXPECT_EQ(edit.unique_name("b"), "b");
  EXPECT_EQ(edit.unique_name("b"), "b_1");
  EXPECT_EQ(edit.unique_name(""), "value");
  // Many more than the table was made for.
  for (int i = 1; i < 500; ++i) EXPECT_EQ(edit.unique_name("y"), "y_" + std::to_string(i));
}

TEST(Editor, ReplaceAllMovesTheInterfaceName) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  Value* y = model->graph().find("y");
  Node& add = *y->producer();
  Node& relu = edit.insert_after(add, {.op_type = "Relu", .inputs = {y}, .base_name = "tail"});
  Value& tail = *relu.output(0);
  ASSERT_TRUE(edit.replace_all(*y, tail).ok());
  edit.set_input(relu, 0, y);
  EXPECT_EQ(tail.name(), "y");
  EXPECT_NE(y->name(), "y");
  EXPECT_EQ(model->graph().outputs()[0], &tail);
  EXPECT_TRUE(verify(*model).ok());
}

TEST(Editor, RefusesToJoinTwoInterfaceValues) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  Value* y = model->graph().find("y");
  Value* x = model->graph().find("x");
  EXPECT_NE(edit.why_not_replace(*y, *x), "");
  const Status refused = edit.replace_all(*y, *x);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_TRUE(verify(*model).ok());
}

TEST(Editor, RefusesAValueThatIsNotVisible) {
  const auto model = testing::model_from_text(kCapture);
  Editor edit(*model);
  Node* branch = model->graph().find("y")->producer();
  Value* inner = branch->bodies()[0]->find("u");
  EXPECT_NE(edit.why_not_replace(*model->graph().find("a"), *inner), "");
}

TEST(Editor, EraseRefusesWhileUsedAndReleasesCaptures) {
  const auto model = testing::model_from_text(kCapture);
  Editor edit(*model);
  Value* a = model->graph().find("a");
  EXPECT_FALSE(edit.erase(*a->producer()).ok());
  Value* y = model->graph().find("y");
  Node& branch = *y->producer();
  Node& copy = edit.insert_before(branch, {.op_type = "Neg", .inputs = {a}, .base_name = "n"});
  ASSERT_TRUE(edit.replace_all(*y, *copy.output(0)).ok());
  ASSERT_TRUE(edit.erase(branch).ok());
  EXPECT_TRUE(edit.erased(branch));
  EXPECT_EQ(a->uses().size(), 1U);
  EXPECT_TRUE(verify(*model).ok());
}

TEST(Editor, ErasesInitializersOfSeveralGraphsAtOnce) {
  const auto model = testing::model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2] x) => (float[2] y) <float a = {1.0}, float b = {2.0}, float c = {3.0}, float d = {4.0}> {
  k = Add(x, c)
  y = If(p) <
    then_branch = t () => (float[2] u) <float e = {5.0}, float f = {6.0}> { u = Mul(k, f) },
    else_branch = s () => (float[2] v) { v = Neg(k) }>
})");
  Editor edit(*model);
  Graph& top = model->graph();
  Graph& branch = *top.find("y")->producer()->bodies()[0];
  const auto names = [](const Graph& graph) {
    std::string all;
    for (const Value* value : graph.initializers()) all += value->name();
    return all;
  };
  std::vector<Value*> values{top.find("d"), branch.find("e"), top.find("c"), top.find("a")};
  const auto revision = model->revision();
  const Status refused = erase_initializers(edit, values);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().diagnostic.message.find("1 uses"), std::string::npos);
  EXPECT_EQ(names(top), "abcd");
  EXPECT_EQ(names(branch), "ef");
  EXPECT_EQ(model->revision(), revision);
  std::erase(values, top.find("c"));
  ASSERT_TRUE(erase_initializers(edit, values).ok());
  EXPECT_EQ(names(top), "bc");
  EXPECT_EQ(names(branch), "f");
  EXPECT_NE(model->revision(), revision);
  EXPECT_TRUE(erase_initializers(edit, {}).ok());
  EXPECT_TRUE(verify(*model).ok());
}

TEST(Editor, EditsMarkOwnersAndOnlyThem) {
  const auto model = testing::model_from_text(kCapture);
  Node& relu = *model->graph().find("a")->producer();
  Node& branch = *model->graph().find("y")->producer();
  ASSERT_TRUE(relu.pristine());
  ASSERT_TRUE(branch.pristine());
  Editor edit(*model);
  const std::uint64_t revision = model->revision();
  Graph& then_branch = *branch.bodies()[0];
  edit.append(then_branch,
              {.op_type = "Neg", .inputs = {then_branch.find("u")}, .base_name = "more"});
  EXPECT_GT(model->revision(), revision);
  EXPECT_TRUE(relu.pristine());
  EXPECT_FALSE(branch.pristine());
  EXPECT_FALSE(then_branch.pristine());
  EXPECT_TRUE(branch.bodies()[1]->pristine());
}

TEST(Editor, NamesTakeTheSmallestFreeSuffix) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  EXPECT_EQ(edit.unique_name("fresh"), "fresh");
  EXPECT_EQ(edit.unique_name("fresh"), "fresh_1");
  EXPECT_EQ(edit.unique_name("a"), "a_1");
  EXPECT_EQ(edit.unique_name("fresh"), "fresh_2");
}

TEST(Editor, InsertKeepsTheOrderTopological) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  Value* a = model->graph().find("a");
  Node& before = *model->graph().find("c")->producer();
  edit.insert_before(before, {.op_type = "Exp", .inputs = {a}, .base_name = "e"});
  EXPECT_EQ(order(model->graph()), (std::vector<std::string>{"Relu", "Neg", "Exp", "Abs", "Add"}));
  EXPECT_TRUE(verify(*model).ok());
}

TEST(Editor, RequireOpsetNamesTheOperatorThatWouldChange) {
  const auto model = testing::model_from_text(R"(
<ir_version: 7, opset_import: ["" : 12]>
g (float[2,3] x) => (float[2,3] y) { y = Softmax <axis = 0> (x) })");
  Editor edit(*model, &onnx_catalog());
  const Status refused = edit.require_opset("", 13);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().diagnostic.message.find("Softmax"), std::string::npos);
  EXPECT_EQ(model->opset(""), 12);
}

TEST(Model, StateTellsEditsTypesAndSwaps) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  Value& a = *model->graph().find("a");
  TypeInfo type;
  type.element = DataType::kFloat;
  type.shape.emplace({Dim{2, {}}});
  const std::uint64_t first = model->state(), revision = model->revision();
  edit.set_type(a, type, false);
  const std::uint64_t typed = model->state();
  EXPECT_NE(typed, first);
  EXPECT_EQ(model->revision(), revision);
  edit.set_type(a, type, false);
  EXPECT_EQ(model->state(), typed);

  // What is undone is not the state that it was: types may be others.
  auto before = model->clone();
  edit.set_op_type(*a.producer(), "", "Exp");
  const std::uint64_t edited = model->state();
  EXPECT_NE(edited, typed);
  model->swap(*before);
  EXPECT_EQ(model->revision(), revision);
  EXPECT_NE(model->state(), edited);
  EXPECT_NE(model->state(), typed);
  EXPECT_EQ(*model->graph().find("a")->type(), type);
}

TEST(Model, NamesOfOperatorsOutliveTheirNode) {
  const auto model = testing::model_from_text(kChain);
  Editor edit(*model);
  Node& relu = *model->graph().find("a")->producer();
  const std::string_view before = relu.op_type();
  edit.set_op_type(relu, "com.example", std::string("SomeLongNameThatIsNotKeptInPlace"));
  EXPECT_EQ(before, "Relu");
  EXPECT_EQ(relu.op_type(), "SomeLongNameThatIsNotKeptInPlace");
  EXPECT_EQ(relu.domain(), "com.example");
  EXPECT_FALSE(relu.is("SomeLongNameThatIsNotKeptInPlace"));
  edit.set_op_type(relu, "ai.onnx", "Relu");
  EXPECT_TRUE(relu.is("Relu"));
}

TEST(Model, CloneIsEqualAndIndependent) {
  for (const testing::Fixture& fixture : testing::fixtures()) {
    const auto model = testing::model_from_bytes(fixture.bytes);
    const auto copy = model->clone();
    EXPECT_EQ(fingerprint(*copy), fingerprint(*model)) << fixture.name;
    EXPECT_TRUE(verify(*copy).ok()) << fixture.name;
    EXPECT_EQ(dump(*copy), dump(*model)) << fixture.name;
  }
  const auto model = testing::model_from_text(kChain);
  const auto copy = model->clone();
  Editor edit(*copy);
  edit.set_op_type(*copy->graph().find("a")->producer(), "", "Tanh");
  EXPECT_NE(fingerprint(*copy), fingerprint(*model));
  EXPECT_EQ(model->graph().find("a")->producer()->op_type(), "Relu");
}

}  // namespace
}  // namespace mcompress
