#include <gtest/gtest.h>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::fixture;
using testing::model_from_bytes;

TEST(Dump, IsStableText) {
  const auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17, "com.example" : 2], metadata_props: ["k" : "v"]>
    g (float[N, 4] x, bool c) => (float[N, 4] y)
    <float[4] bias = {0.5, -0.5, 0.25, 2.0}, int64[2] axes = {0, 1}> {
      [first] a = Add (x, bias)
      [second] b, d = com.example.Split <to = "left", axis = 1, parts = [1, 2], scale = 0.1> (a, , x)
      y = If (c) <
        then_branch = t () => (float[N, 4] p) { p = Relu (b) },
        else_branch = e () => (float[N, 4] q) { q = Neg (d) }
      >
    })");
  EXPECT_EQ(dump(*model), R"(ir_version 8
opset "" 17
opset "com.example" 2
metadata "k" = "v"
graph g(x: float32[N, 4], c: bool[]) -> (y: float32[N, 4]) {
  bias = float32[4] {0.5, -0.5, 0.25, 2}
  axes = int64[2] {0, 1}
  a = Add(x, bias)  # first
  b, d = com.example.Split(a, _, x) {axis: 1, parts: [1, 2], scale: 0.1f, to: "left"}  # second
  y: float32[N, 4] = If(c)
    else_branch = e() -> (q: float32[N, 4]) {
      q: float32[N, 4] = Neg(d)
    }
    then_branch = t() -> (p: float32[N, 4]) {
      p: float32[N, 4] = Relu(b)
    }
}
)");
}

TEST(Dump, LeavesTypesOutAndNamesLargeTensorsByDigest) {
  const auto model = model_from_bytes(fixture("plain"));
  DumpOptions options;
  options.types = false;
  options.max_elements = 0;
  const std::string text = dump(*model, options);
  EXPECT_NE(text.find("graph plain(x) -> (y) {"), std::string::npos) << text;
  EXPECT_NE(text.find("bias = float32[4] <digest "), std::string::npos) << text;
  EXPECT_EQ(dump(*model, options), text);
}

TEST(Dump, QuotesWhatCouldBeMisread) {
  auto model = std::make_unique<Model>();
  Editor editor(*model);
  editor.add_initializer(model->graph(), "a name, \"odd\"\n", make_float_scalar(1));
  EXPECT_NE(dump(*model).find(R"("a name, \"odd\"\x0a" = float32[] {1})"), std::string::npos)
      << dump(*model);
}

TEST(Dump, PrintsEveryFixture) {
  for (const auto& entry : testing::fixtures()) {
    const auto model = model_from_bytes(entry.bytes);
    EXPECT_FALSE(dump(*model).empty());
    EXPECT_EQ(dump(*model), dump(*model->clone()));
  }
  const std::string text = dump(*model_from_bytes(fixture("functions")));
  EXPECT_NE(text.find("function local.leaky(x) -> (y) {"), std::string::npos) << text;
  EXPECT_NE(text.find("alpha: @alpha"), std::string::npos) << text;
}

TEST(Fingerprint, DependsOnContentOnly) {
  for (const auto& entry : testing::fixtures()) {
    const auto model = model_from_bytes(entry.bytes);
    const testing::TempFolder folder;
    SaveOptions options;
    options.external = SaveOptions::External::kAlways;
    options.external_threshold = 1;
    ASSERT_TRUE(save_model(*model, folder / "m.onnx", options, silent_progress()).ok());
    Diagnostics diagnostics;
    const auto again = load_model(folder / "m.onnx", {}, diagnostics);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(fingerprint(**again), fingerprint(*model)) << entry.name;
    EXPECT_EQ(fingerprint(*model->clone()), fingerprint(*model)) << entry.name;
  }
}

TEST(Fingerprint, SeesEveryKindOfEdit) {
  std::vector<std::uint64_t> seen;
  const auto record = [&](const std::function<void(Model&, Editor&)>& change) {
    const auto model = model_from_bytes(fixture("plain"));
    Editor editor(*model);
    change(*model, editor);
    seen.push_back(fingerprint(*model));
  };
  record([](Model&, Editor&) {});
  record([](Model&, Editor& editor) { editor.set_metadata("kind", "other"); });
  record([](Model&, Editor& editor) { editor.set_opset("", 18); });
  record([](Model&, Editor& editor) { editor.require_ir_version(9); });
  record([](Model& model, Editor& editor) {
    editor.set_constant(*model.graph().find("bias"), make_float_tensor(std::vector<float>(4), {4}));
  });
  record([](Model& model, Editor& editor) {
    editor.set_constant(*model.graph().find("bias"),
                        make_float_tensor(std::vector<float>{0.5, -0.5, 0.25, 2}, {1, 4}));
  });
  record([](Model& model, Editor& editor) {
    editor.set_attribute(*model.graph().first(), attribute("a", std::int64_t{1}));
  });
  record([](Model& model, Editor& editor) {
    editor.set_attribute(*model.graph().first(), attribute("a", 1.0F));
  });
  record([](Model& model, Editor& editor) {
    editor.set_op_type(*testing::maker_of(model, "r"), "", "Neg");
  });
  record([](Model& model, Editor& editor) {
    editor.set_input(*testing::maker_of(model, "m"), 0, model.graph().find("h"));
  });
  record([](Model& model, Editor& editor) {
    editor.set_type(*model.graph().find("m"), {DataType::kFloat, {}}, true);
  });
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

}  // namespace
}  // namespace mcompress
