// Results that are computed where they are written.
#include "ir/deferred.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "mcompress/openable.h"
#include "mcompress/pipeline.h"
#include "support/executor.h"
#include "support/hash.h"
#include "support/models.h"

namespace mcompress::testing {
namespace {

constexpr std::int64_t kBytes = (9 << 20) + 12345;  // two steps of 4 MiB and a bit

std::byte expected(std::uint64_t i) { return static_cast<std::byte>((i * 2654435761u) >> 13); }

struct Counted {
  std::shared_ptr<std::atomic<int>> calls = std::make_shared<std::atomic<int>>(0);
  TensorFactory::FillFn fill() const {
    return [calls = calls](std::uint64_t offset, std::span<std::byte> out) {
      ++*calls;
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = expected(offset + i);
      return ok_status();
    };
  }
};

Tensor deferred(const Counted& counted) {
  const auto tensors = make_tensor_factory(0);
  auto tensor = defer_tensor(*tensors, Executor(2), DataType::kUint8, {kBytes}, counted.fill());
  EXPECT_TRUE(tensor.ok());
  return *tensor;
}

void expect_bytes(const Storage& storage, std::uint64_t offset, std::uint64_t length) {
  const auto pinned = storage.pin(offset, length);
  ASSERT_TRUE(pinned.ok());
  ASSERT_EQ(pinned->bytes().size(), length);
  for (std::uint64_t i = 0; i < length; ++i) {
    ASSERT_EQ(pinned->bytes()[i], expected(offset + i)) << offset + i;
  }
}

TEST(Deferred, ComputesThePartThatIsLookedAt) {
  const Counted counted;
  const Tensor tensor = deferred(counted);
  const Storage& storage = *tensor.storage();
  EXPECT_EQ(*counted.calls, 3);  // once to see that it works
  EXPECT_EQ(storage.size(), static_cast<std::uint64_t>(kBytes));
  expect_bytes(storage, 0, 100);
  expect_bytes(storage, 4'194'301, 77);
  expect_bytes(storage, kBytes - 5, 5);
  expect_bytes(storage, kBytes, 0);
  EXPECT_FALSE(storage.pin(kBytes - 5, 6).ok());
  EXPECT_FALSE(storage.file_range());
  EXPECT_EQ(*counted.calls, 7);
}

TEST(Deferred, GoesToASpillFileWhenMoreIsWanted) {
  const Counted counted;
  const Tensor tensor = deferred(counted);
  expect_bytes(*tensor.storage(), 0, kBytes);
  EXPECT_TRUE(tensor.storage()->file_range());
  const int calls = *counted.calls;
  expect_bytes(*tensor.storage(), 1, kBytes - 1);
  expect_bytes(*tensor.storage(), 70, 3);
  EXPECT_EQ(*counted.calls, calls);
}

TEST(Deferred, HasTheDigestOfItsBytes) {
  const Counted counted;
  const Tensor tensor = deferred(counted);
  const std::uint64_t digest = tensor.storage()->digest();
  EXPECT_FALSE(tensor.storage()->file_range());
  const auto pinned = tensor.storage()->pin(0, kBytes);
  ASSERT_TRUE(pinned.ok());
  EXPECT_EQ(digest, digest_bytes(pinned->bytes()));
}

TEST(Deferred, SmallOnesAndThoseWithinTheBudgetAreKept) {
  const Counted counted;
  const auto none = make_tensor_factory(0);
  ASSERT_TRUE(defer_tensor(*none, Executor(1), DataType::kUint8, {1000}, counted.fill()).ok());
  EXPECT_EQ(*counted.calls, 1);
  const auto enough = make_tensor_factory(10 << 20);
  const auto kept = defer_tensor(*enough, Executor(1), DataType::kUint8, {kBytes}, counted.fill());
  ASSERT_TRUE(kept.ok());
  const int calls = *counted.calls;
  expect_bytes(*kept->storage(), 0, 64);
  EXPECT_EQ(*counted.calls, calls);
  // The budget is used up.
  const Tensor next =
      *defer_tensor(*enough, Executor(1), DataType::kUint8, {kBytes}, counted.fill());
  const int checked = *counted.calls;
  expect_bytes(*next.storage(), 0, 64);
  EXPECT_EQ(*counted.calls, checked + 1);
}

TEST(Deferred, WhatFailsFailsAtOnce) {
  const auto tensors = make_tensor_factory(0);
  for (const int threads : {1, 2}) {
    const auto tensor = defer_tensor(
        *tensors, Executor(threads), DataType::kUint8, {std::int64_t{80} << 20},
        [](std::uint64_t offset, std::span<std::byte>) -> Status {
          if (offset < (36u << 20)) return ok_status();
          return Error(Code::kUnsupported, "too-far", "at " + std::to_string(offset >> 20));
        });
    ASSERT_FALSE(tensor.ok());
    EXPECT_EQ(tensor.error().diagnostic.message, "at 36");
  }
}

// y = (x W) s, W large enough to be spilled.
std::unique_ptr<Model> scaled_product() {
  constexpr std::int64_t kRows = 1024, kColumns = 1100;
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,1024] x, float[1024,1100] w, float[1100] s) => (float[N,1100] y) {
  p = MatMul(x, w)
  y = Mul(p, s)
})");
  std::vector<float> weights(static_cast<std::size_t>(kRows * kColumns)), factors(kColumns);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(static_cast<int>(i * 7919 % 2001) - 1000) / 1000.0f;
  }
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = 0.5f + static_cast<float>(i) / 1e3f;
  Editor editor(*model);
  Graph& graph = model->graph();
  Value& w = editor.add_initializer(graph, "weight", make_float_tensor(weights, {kRows, kColumns}));
  Value& s = editor.add_initializer(graph, "factors", make_float_tensor(factors, {kColumns}));
  editor.set_input(*maker_of(*model, "p"), 1, &w);
  editor.set_input(*maker_of(*model, "y"), 1, &s);
  return model;
}

std::unique_ptr<Model> folded(std::uint64_t budget) {
  auto model = scaled_product();
  Recipe recipe;
  recipe.steps.push_back({"fuse-affine", Datum::map()});
  Diagnostics diagnostics;
  Services services;
  services.diagnostics = &diagnostics;
  PipelineOptions options;
  options.tensor_heap_budget = budget;
  Explain explain;
  Report report;
  EXPECT_TRUE(
      run_pipeline(*model, recipe, builtin_passes(), services, options, explain, report).ok());
  return model;
}

const Tensor& weight_of(Model& model) { return *maker_of(model, "y")->input(1)->initializer(); }

TEST(Deferred, TheBudgetDoesNotShowInTheFile) {
  auto kept = folded(64 << 20), computed = folded(0);
  ASSERT_EQ(computed->graph().node_count(), 1u);
  const Tensor& weight = weight_of(*computed);
  EXPECT_FALSE(weight.storage()->file_range());  // not in a spill file
  const auto expected_bytes = save_model_bytes(*kept);
  ASSERT_TRUE(expected_bytes.ok());
  TempFolder folder;
  ASSERT_TRUE(save_model(*computed, folder / "out.onnx", {}, silent_progress()).ok());
  EXPECT_EQ(read_file(folder / "out.onnx"), *expected_bytes);
  EXPECT_FALSE(weight.storage()->file_range());
}

TEST(Deferred, AModelIsOpenedWithoutLargeWeights) {
  auto small = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N] x) => (float[N] y) { y = Neg(x) }");
  auto nothing = clone_to_open(*small);
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(*nothing, nullptr);
  for (const std::uint64_t budget : {0, 64 << 20}) {
    auto model = folded(budget);
    auto hollow = clone_to_open(*model);
    ASSERT_TRUE(hollow.ok());
    ASSERT_NE(*hollow, nullptr);
    const Tensor& weight = weight_of(**hollow);
    EXPECT_EQ(weight.byte_size(), weight_of(*model).byte_size());
    const auto pinned = weight.storage()->pin(0, weight.byte_size());
    ASSERT_TRUE(pinned.ok());
    for (const std::byte byte : pinned->bytes()) ASSERT_EQ(byte, std::byte{0});
    EXPECT_FALSE(weight_of(*model).storage()->file_range());
    const auto real = weight_of(*model).storage()->pin(0, 4);
    ASSERT_TRUE(real.ok());
    EXPECT_NE(real->bytes()[3], std::byte{0});
  }
}

}  // namespace
}  // namespace mcompress::testing
