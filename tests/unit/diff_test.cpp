#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "mcompress/analysis.h"
#include "mcompress/io.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress {
namespace {

using testing::model_from_text;

ModelDiff diff_of(const Model& before, const Model& after) {
  auto diff = diff_models(before, after);
  EXPECT_TRUE(diff.ok());
  return diff.ok() ? std::move(diff).value() : ModelDiff();
}

ModelDiff diff_of(std::string_view before, std::string_view after) {
  // The nodes in the result belong to the models.
  static std::vector<std::unique_ptr<Model>> kept;
  kept.push_back(model_from_text(before));
  kept.push_back(model_from_text(after));
  return diff_of(*kept[kept.size() - 2], *kept.back());
}

std::string net(const std::string& nodes, const std::string& constants = "",
                const std::string& outputs = "float[4] y",
                const std::string& inputs = "float[4] x") {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (" + inputs + ") => (" + outputs + ") <" +
         constants + "> { " + nodes + " }";
}

std::vector<std::string> changes(const ModelDiff& diff) {
  std::vector<std::string> list;
  for (const NodePair& pair : diff.pairs) {
    for (const Difference& entry : pair.differences) {
      list.push_back(std::string(pair.after->op_type()) + " " + entry.what + ": " + entry.before +
                     " -> " + entry.after);
    }
  }
  return list;
}

using Texts = std::vector<std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

TEST(Diff, EveryFixtureIsIdenticalToItself) {
  for (const auto& entry : testing::fixtures()) {
    const auto model = testing::model_from_bytes(entry.bytes);
    const auto again = testing::model_from_bytes(entry.bytes);
    EXPECT_TRUE(diff_of(*model, *again).identical()) << entry.name;
    EXPECT_TRUE(diff_of(*model, *model->clone()).identical()) << entry.name;
  }
}

TEST(Diff, NamesAndOrderDoNotMatter) {
  const ModelDiff diff =
      diff_of(net("[one] a = Relu (x) [two] b = Neg (x) [three] y = Add (a, b)"),
              net("[three] q = Neg (x) [four] p = Relu (x) [five] y = Add (p, q)"));
  EXPECT_TRUE(diff.same_content());
  EXPECT_FALSE(diff.identical());
  EXPECT_EQ(diff.pairs.size(), 3U);
  EXPECT_EQ(diff.renamed_values, (Pairs{{"b", "q"}, {"a", "p"}}));
  EXPECT_EQ(diff.renamed_nodes, (Pairs{{"two", "three"}, {"one", "four"}, {"three", "five"}}));
}

TEST(Diff, AnAttributeHasBothFacts) {
  const ModelDiff diff = diff_of(net("a = Relu (x) b = LeakyRelu <alpha = 0.5> (a) y = Neg (b)"),
                                 net("a = Relu (x) b = LeakyRelu <alpha = 0.25> (a) y = Neg (b)"));
  EXPECT_EQ(changes(diff), (Texts{"LeakyRelu attribute 'alpha': 0.5 -> 0.25"}));
  EXPECT_TRUE(diff.removed.empty() && diff.added.empty());
  EXPECT_FALSE(diff.same_content());
}

TEST(Diff, ANodeInBetweenComesAndGoes) {
  const std::string with = net("a = Relu (x) b = Abs (a) c = Neg (b) y = Exp (c)");
  const std::string without = net("a = Relu (x) c = Neg (a) y = Exp (c)");
  const ModelDiff gone = diff_of(with, without);
  ASSERT_EQ(gone.removed.size(), 1U);
  EXPECT_EQ(gone.removed[0]->op_type(), "Abs");
  EXPECT_TRUE(gone.added.empty());
  EXPECT_TRUE(changes(gone).empty());
  const ModelDiff came = diff_of(without, with);
  ASSERT_EQ(came.added.size(), 1U);
  EXPECT_EQ(came.added[0]->op_type(), "Abs");
  EXPECT_TRUE(came.removed.empty());
}

TEST(Diff, AnOperatorInTheSamePlaceHasChanged) {
  const ModelDiff diff = diff_of(net("a = Relu (x) b = Abs (a) y = Exp (b)"),
                                 net("a = Relu (x) b = Neg (a) y = Exp (b)"));
  EXPECT_EQ(changes(diff), (Texts{"Neg operator: Abs -> Neg"}));
  EXPECT_TRUE(diff.removed.empty() && diff.added.empty());
}

TEST(Diff, WiringIsCompared) {
  const ModelDiff diff = diff_of(net("a = Relu (x) b = Neg (x) c = Sub (a, b) y = Exp (c)"),
                                 net("a = Relu (x) b = Neg (x) c = Sub (b, a) y = Exp (c)"));
  EXPECT_EQ(changes(diff), (Texts{"Sub input 0: 'a' of Relu -> 'b' of Neg",
                                  "Sub input 1: 'b' of Neg -> 'a' of Relu"}));
}

TEST(Diff, WeightsAreComparedByContent) {
  const auto text = [](const std::string& name, const std::string& values) {
    return net("a = Relu (x) y = Mul (a, " + name + ")",
               "float[4] " + name + " = {" + values + "}");
  };
  EXPECT_TRUE(
      diff_of(text("w", "1.0, 2.0, 3.0, 4.0"), text("v", "1.0, 2.0, 3.0, 4.0")).same_content());
  // signal 30, noise 0.3: 20 dB.
  const ModelDiff diff =
      diff_of(text("w", "1.0, 2.0, 3.0, 4.0"), text("w", "1.0, 2.0, 3.0, 4.547722558"));
  ASSERT_EQ(diff.tensors.size(), 1U);
  ASSERT_TRUE(diff.tensors[0].sqnr_db.has_value());
  EXPECT_NEAR(*diff.tensors[0].sqnr_db, 20.0, 1e-5);
  EXPECT_EQ(diff.tensors[0].differences.size(), 1U);
  EXPECT_EQ(diff.tensors[0].differences[0].what, "values");
  EXPECT_EQ(changes(diff).size(), 1U);
}

TEST(Diff, AQuantizedWeightIsSeenThroughItsDequantization) {
  const ModelDiff diff =
      diff_of(net("a = Relu (x) y = Mul (a, w)", "float[4] w = {1.0, 2.0, 3.0, 4.0}"),
              net("a = Relu (x) d = DequantizeLinear (q, s) y = Mul (a, d)",
                  "int8[4] q = {2, 4, 6, 8}, float s = {0.5}"));
  ASSERT_EQ(diff.tensors.size(), 1U);
  const TensorPair& pair = diff.tensors[0];
  EXPECT_EQ(pair.before, "w");
  EXPECT_EQ(pair.after, "q");
  EXPECT_EQ(pair.through, "DequantizeLinear");
  EXPECT_EQ(pair.bytes_before, 16U);
  EXPECT_EQ(pair.bytes_after, 4U);
  ASSERT_TRUE(pair.sqnr_db.has_value());
  EXPECT_TRUE(std::isinf(*pair.sqnr_db));
  ASSERT_EQ(diff.added.size(), 1U);
  EXPECT_EQ(diff.added_tensors, (Texts{"s"}));
}

TEST(Diff, PerChannelScalesAreApplied) {
  const ModelDiff diff = diff_of(
      net("y = MatMul (x, w)", "float[4,2] w = {1.0, 20.0, 2.0, 40.0, 3.0, 60.0, 4.0, 80.0}",
          "float[2] y"),
      net("d = DequantizeLinear <axis = 1> (q, s, z) y = MatMul (x, d)",
          "int8[4,2] q = {2, 3, 3, 5, 4, 7, 5, 9}, float[2] s = {1.0, 10.0}, int8[2] z = {1, 1}",
          "float[2] y"));
  ASSERT_EQ(diff.tensors.size(), 1U);
  ASSERT_TRUE(diff.tensors[0].sqnr_db.has_value());
  EXPECT_TRUE(std::isinf(*diff.tensors[0].sqnr_db)) << *diff.tensors[0].sqnr_db;
}

TEST(Diff, InterfaceMetadataAndOpsets) {
  const ModelDiff diff = diff_of(
      R"(<ir_version: 8, opset_import: ["" : 17], metadata_props: ["a" : "1", "b" : "2"]>
         g (float[N,4] x, float[4] u) => (float[N,4] y) { y = Add (x, u) })",
      R"(<ir_version: 9, opset_import: ["" : 18], metadata_props: ["a" : "1", "c" : "3"]>
         g (float[2,4] x, float[4] v) => (float[2,4] y) { y = Add (x, v) })");
  Texts model, interface;
  for (const Difference& entry : diff.model) {
    model.push_back(entry.what + ": " + entry.before + " -> " + entry.after);
  }
  for (const Difference& entry : diff.interface) {
    interface.push_back(entry.what + ": " + entry.before + " -> " + entry.after);
  }
  EXPECT_EQ(model, (Texts{"IR version: 8 -> 9", "operator set ai.onnx: 17 -> 18",
                          "metadata b: 2 -> none", "metadata c: none -> 3"}));
  EXPECT_EQ(interface, (Texts{"input 'x': float32[N, 4] -> float32[2, 4]", "input renamed: u -> v",
                              "output 'y': float32[N, 4] -> float32[2, 4]"}));
  EXPECT_TRUE(changes(diff).empty());
}

TEST(Diff, TheProducerIsPartOfTheModel) {
  const auto with = [](std::string_view producer) {
    return "<ir_version: 8, opset_import: [\"\" : 17], producer_name: \"" + std::string(producer) +
           "\"> g (float[4] x) => (float[4] y) { y = Relu (x) }";
  };
  const ModelDiff diff = diff_of(with("one"), with("two"));
  ASSERT_EQ(diff.model.size(), 1U);
  EXPECT_EQ(diff.model[0], (Difference{"producer", "one", "two"}));
}

TEST(Diff, ConstantNodesAndInitializersAreTheSameData) {
  const ModelDiff diff =
      diff_of(net("k = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> () y = Mul (x, k)"),
              net("y = Mul (x, k)", "float[4] k = {1.0, 2.0, 3.0, 4.0}"));
  EXPECT_TRUE(diff.removed.empty());
  EXPECT_TRUE(diff.tensors.empty());
  ASSERT_EQ(diff.model.size(), 1U);
  EXPECT_EQ(diff.model[0], (Difference{"constants held by nodes", "1", "0"}));
}

TEST(Diff, NestedGraphs) {
  const auto text = [](const std::string& inner) {
    return R"(<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[4] x) => (float[4] y) {
      a = Relu (x)
      y = If (c) < then_branch = t () => (float[4] p) { )" +
           inner + R"( }, else_branch = e () => (float[4] q) { q = Neg (a) } > })";
  };
  EXPECT_TRUE(diff_of(text("p = Exp (a)"), text("r = Exp (a) p = Identity (r)")).removed.empty());
  const ModelDiff diff = diff_of(text("p = Exp (a)"), text("r = Exp (a) p = Identity (r)"));
  ASSERT_EQ(diff.added.size(), 1U);
  EXPECT_EQ(diff.added[0]->op_type(), "Identity");
  EXPECT_EQ(diff.pairs.size(), 4U);
}

TEST(Diff, FunctionsAreComparedByTheirBodies) {
  const auto text = [](const std::string& op) {
    return "<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1]> g (float[4] x) => (float[4] "
           "y) "
           "{ y = local.f (x) } <domain: \"local\", opset_import: [\"\" : 17]> f (a) => (b) { b "
           "= " +
           op + " (a) }";
  };
  EXPECT_TRUE(diff_of(text("Relu"), text("Relu")).identical());
  const ModelDiff diff = diff_of(text("Relu"), text("Abs"));
  ASSERT_EQ(diff.model.size(), 1U);
  EXPECT_EQ(diff.model[0].what, "function local:f");
}

// A change at every hundredth node: hashes alone see nothing between two changes.
TEST(Diff, LongChainsAreAlignedInTime) {
  const auto before = testing::model_from_bytes(testing::chain_bytes(20'000));
  const auto after = before->clone();
  Editor editor(*after, &onnx_catalog());
  std::size_t place = 0, inserted = 0;
  for (Node* node : after->graph().nodes()) {
    if (++place % 100 != 0) continue;
    Node& added = editor.insert_before(*node, {.op_type = "Abs", .inputs = {node->input(0)}});
    editor.set_input(*node, 0, added.output(0));
    ++inserted;
  }
  const auto start = std::chrono::steady_clock::now();
  const ModelDiff diff = diff_of(*before, *after);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(diff.added.size(), inserted);
  EXPECT_TRUE(diff.removed.empty());
  EXPECT_EQ(diff.pairs.size(), 20'000U);
  EXPECT_LT(took.count(), 10.0);  // a tenth of a second; sanitizers and busy machines take longer
}

TEST(Draw, WhateverNamesHoldIsQuoted) {
  auto model = model_from_text(net("a = Relu (x) y = Neg (a)"));
  Editor editor(*model);
  editor.insert_after(*model->graph().first(),
                      {.op_type = "Abs",
                       .inputs = {model->graph().first()->output(0)},
                       .base_name = std::string("\"]; evil [\\\n\xff") + std::string(500, 'z')});
  const std::string text = draw_model(*model, nullptr, {});
  EXPECT_NE(text.find(R"(\"]; evil [\\??)"), std::string::npos) << text;
  EXPECT_NE(text.find("z..."), std::string::npos);
  EXPECT_EQ(text.find(std::string(450, 'z')), std::string::npos);
  EXPECT_EQ(draw_model(*model, nullptr, {}), text);
}

TEST(Draw, ColoursTellTheDifference) {
  const auto before =
      model_from_text(net("a = LeakyRelu <alpha = 0.5> (x) b = Abs (a) y = Exp (b)"));
  const auto after =
      model_from_text(net("a = LeakyRelu <alpha = 0.1> (x) b = Exp (a) y = Neg (b)"));
  const ModelDiff diff = diff_of(*before, *after);
  const std::string text = draw_diff(*before, *after, diff, {});
  EXPECT_NE(text.find("LeakyRelu\\nattribute 'alpha': 0.5 > 0.1"), std::string::npos) << text;
  EXPECT_NE(text.find("#f6c6c6"), std::string::npos) << text;
  EXPECT_NE(text.find("#c5edc9"), std::string::npos) << text;
  EXPECT_NE(text.find("#fbe1a2"), std::string::npos) << text;
  for (const auto& entry : testing::fixtures()) {
    const auto model = testing::model_from_bytes(entry.bytes);
    EXPECT_EQ(draw_diff(*model, *model, diff_of(*model, *model), {}).find("#f6c6c6"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace mcompress
