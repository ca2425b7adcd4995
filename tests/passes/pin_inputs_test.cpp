#include <gtest/gtest.h>

#include <tuple>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kModel = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3,h] x, float[n,t] other) => (float[n,a] y, float[b,t] z) <int64[2] s = {0, -1}> {
  y = Reshape(x, s)
  z = Relu(other)
})";

std::string text_of(const Value& value) {
  std::string text;
  for (const Dim& dim : *value.type()->shape) {
    text += (text.empty() ? "" : ",") + (dim.size ? std::to_string(*dim.size) : dim.symbol);
  }
  return text;
}

struct Pinned {
  std::unique_ptr<Model> model;
  std::unique_ptr<PassRun> run;
  std::string input(std::size_t i) const { return text_of(*model->graph().inputs()[i]); }
  std::string output(std::size_t i) const { return text_of(*model->graph().outputs()[i]); }
  std::string error() const {
    return run->status.ok() ? "" : to_string(run->status.error().diagnostic);
  }
};

Pinned pin(std::string_view options, std::string_view text = kModel) {
  Pinned pinned;
  pinned.model = model_from_text(text);
  pinned.run = run_passes(*pinned.model, {"pin-inputs:" + std::string(options)});
  return pinned;
}

TEST(PinInputs, NothingIsAskedForByDefault) {
  const auto pinned = pin("{}");
  EXPECT_FALSE(pinned.run->changed);
}

TEST(PinInputs, AShapeHoldsForEverythingOfThatName) {
  const auto pinned = pin(R"({"input-shape": ["x:2,3,2"]})");
  EXPECT_EQ(pinned.error(), "");
  EXPECT_EQ(pinned.input(0), "2,3,2");
  EXPECT_EQ(pinned.input(1), "2,t");
  EXPECT_EQ(pinned.output(0), "2,6");
  EXPECT_EQ(pinned.output(1), "2,t");  // another name was declared: it follows from Relu
  EXPECT_EQ(pinned.run->count("pin-inputs", "pinned"), 2);
  EXPECT_TRUE(check_model(*pinned.model).ok());
  expect_same_results(*model_from_text(kModel), *pinned.model, 0.0, 2);
}

TEST(PinInputs, AShapeThatWasSplitAtItsCommas) {
  EXPECT_EQ(pin(R"({"input-shape": ["x:2", "3", "?", "other:2", "5"]})").input(0), "2,3,h");
  EXPECT_EQ(pin(R"({"input-shape": ["x:2", "3", "?", "other:2", "5"]})").input(1), "2,5");
}

TEST(PinInputs, ANamedDimension) {
  const auto pinned = pin(R"({"dim": ["n=1", "t=4"]})");
  EXPECT_EQ(pinned.error(), "");
  EXPECT_EQ(pinned.input(0), "1,3,h");
  EXPECT_EQ(pinned.input(1), "1,4");
  EXPECT_EQ(pinned.output(1), "1,4");
}

TEST(PinInputs, TheOnlyInputNeedsNoName) {
  constexpr std::string_view kOne = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,2] x) => (float[n,2] y) { y = Relu(x) })";
  EXPECT_EQ(pin(R"({"input-shape": ["4,2"]})", kOne).input(0), "4,2");
}

TEST(PinInputs, WhatDoesNotFitIsRefused) {
  for (const auto& [options, message, hint] :
       std::vector<std::tuple<std::string_view, std::string_view, std::string_view>>{
           {R"({"input-shape": ["othr:2,5"]})", "the model has no input 'othr'", "'other'"},
           {R"({"input-shape": ["x:2,3"]})", "input 'x' has 3 dimensions, [n,3,h], not 2", ""},
           {R"({"input-shape": ["x:2,4,8"]})", "dimension 1 of input 'x' is 3, it can not become 4",
            ""},
           {R"({"input-shape": ["x:2,3,-8"]})", "'-8' in 'x:2,3,-8' is no size", ""},
           {R"({"input-shape": ["x:2,3,8", "other:3,1"]})", "dimension 'n' can not be both 2 and 3",
            ""},
           {R"({"input-shape": ["2,3,8"]})", "names none of the model's 2 inputs", "x, other"},
           {R"({"dim": ["nn=1"]})", "no input has an open dimension 'nn'", "'n'"},
           {R"({"dim": ["n"]})", "'n' is no NAME=SIZE", ""},
           {R"({"dim": ["n=x"]})", "'x' in 'n=x' is no size", ""},
       }) {
    const auto pinned = pin(options);
    ASSERT_FALSE(pinned.run->status.ok()) << options;
    EXPECT_EQ(pinned.run->status.error().code, Code::kUsage) << options;
    EXPECT_NE(pinned.error().find(message), std::string::npos) << pinned.error();
    EXPECT_NE(pinned.run->status.error().diagnostic.hint.find(hint), std::string::npos)
        << pinned.run->status.error().diagnostic.hint;
    EXPECT_FALSE(pinned.run->changed);
  }
}

TEST(PinInputs, ShapesFoldAfterwards) {
  const auto checked = check_passes(
      R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3,h] x) => (float[b,c] y) <int64[1] zero = {0}, int64[1] one = {1}, int64[1] rest = {-1}> {
  s = Shape(x)
  n = Slice(s, zero, one)
  t = Concat<axis=0>(n, rest)
  y = Reshape(x, t)
})",
      {R"(pin-inputs:{"dim": ["n=2", "h=2"]})", "infer-shapes", "fold-constants", "eliminate-dead"},
      0.0, 2);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(text_of(*checked.after->graph().outputs()[0]), "2,6");
}

}  // namespace
}  // namespace mcompress::testing
