// How the limits of a product are shared out among its parts.
#include "product/product.h"

#include <gtest/gtest.h>

#include <cmath>

#include "mcompress/host.h"
#include "support/models.h"

namespace mcompress::tools {
namespace {

using mcompress::testing::TempFolder;

class Products : public ::testing::Test {
 protected:
  Product read(const std::string& text) {
    const std::string file = (folder_.path() / "product.yaml").string();
    EXPECT_TRUE(write_file(file, text).ok());
    const auto recipe = read_recipe(file);
    EXPECT_TRUE(recipe.ok() && has_parts(*recipe));
    if (!recipe.ok()) return {};
    auto product = product_of(*recipe, console_);
    EXPECT_TRUE(product.ok()) << (product.ok() ? "" : product.error().diagnostic.message);
    if (!product.ok()) return {};
    return std::move(*product);
  }
  static double gate(const PartChoice& choice, std::string_view name) {
    const Datum* value = choice.found.recipe.gates.find(name);
    return value != nullptr ? std::get<double>(value->value()) : -1;
  }

  Console console_;
  const TempFolder folder_;
};

TEST_F(Products, OtherRecipesAreNone) {
  const auto named = read_recipe("server-int8");
  ASSERT_TRUE(named.ok());
  EXPECT_FALSE(has_parts(*named));
}

TEST_F(Products, PointsAddUpAndSoDoPowersOfErrors) {
  const Product product = read(
      "gates: {max-drop: 2.0, min-sqnr: 30}\nparts:\n"
      "  - {name: a, model: a.onnx, recipe: server-int8, data: {calib: x.npz}, quality-share: "
      "0.5}\n"
      "  - {name: b, model: b.onnx, recipe: server-int8, data: {eval: x.npz}}\n"
      "  - {name: c, model: c.onnx, recipe: server-int8, data: {calib: x.npz},"
      " gates: {min-sqnr: 50, max-drop: 0.1}}\n"
      "  - {name: d, model: d.onnx, recipe: optimize, quality-share: 0}\n");
  ASSERT_EQ(product.parts.size(), 4U);
  EXPECT_DOUBLE_EQ(gate(product.parts[0].choices[0], "max-drop"), 1.0);
  EXPECT_DOUBLE_EQ(gate(product.parts[1].choices[0], "max-drop"), 0.5);
  EXPECT_DOUBLE_EQ(gate(product.parts[2].choices[0], "max-drop"), 0.1);
  EXPECT_EQ(gate(product.parts[3].choices[0], "max-drop"), -1);
  double power = 0;  // of errors, relative to the signal's
  for (const std::size_t part : {0U, 1U}) {
    power += std::pow(10, -gate(product.parts[part].choices[0], "min-sqnr") / 10);
  }
  EXPECT_NEAR(power, 0.75e-3, 1e-12);
  EXPECT_DOUBLE_EQ(gate(product.parts[2].choices[0], "min-sqnr"), 50);
}

TEST_F(Products, BytesGoToSharesThenToThoseWithoutAChoiceThenBySize) {
  const Product product = read(
      "gates: {max-bytes: 1000}\nparts:\n"
      "  - {name: free, model: a.onnx, recipe: [optimize, server-int8]}\n"
      "  - {name: fixed, model: b.onnx, recipe: optimize}\n"
      "  - {name: shared, model: c.onnx, recipe: [optimize, server-int8], bytes-share: 0.25}\n"
      "  - {name: larger, model: d.onnx, recipe: [optimize, server-int8]}\n");
  ASSERT_EQ(product.parts.size(), 4U);
  ByteBudget budget(product, bytes_allowed(product.gates, 5000), {1000, 700, 300, 3000});
  EXPECT_EQ(budget.order(), (std::vector<std::size_t>{1, 2, 0, 3}));
  EXPECT_EQ(budget.limit(1), 0U);
  EXPECT_EQ(budget.limit(2), 250U);
  EXPECT_FALSE(budget.may_pass(2));
  budget.use(1, 200);
  budget.use(2, 100);
  EXPECT_EQ(budget.limit(0), 175U);  // 1000 - 300, a quarter
  EXPECT_TRUE(budget.may_pass(0));
  budget.use(0, 100);
  EXPECT_EQ(budget.limit(3), 600U);  // all that is left
  budget.use(3, 600);
  EXPECT_TRUE(budget.check().ok());
  budget.use(3, 1);
  const Status missed = budget.check();
  ASSERT_FALSE(missed.ok());
  EXPECT_EQ(missed.error().code, Code::kGateMissed);
}

TEST_F(Products, TheStricterLimitOfBytesHolds) {
  RecipeGates gates;
  EXPECT_EQ(bytes_allowed(gates, 1000), 0U);
  gates.max_size_ratio = 0.25;
  EXPECT_EQ(bytes_allowed(gates, 1000), 250U);
  gates.max_bytes = "0.2kB";
  EXPECT_EQ(bytes_allowed(gates, 1000), 200U);
  EXPECT_EQ(bytes_allowed(gates, 400), 100U);
}

}  // namespace
}  // namespace mcompress::tools
