// A session and a data source without a runtime behind them.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/runtime.h"

namespace mcompress::testing {

// Answers with what a function makes of the feeds.
class FakeSession : public Session {
 public:
  using Answer = std::function<std::vector<NamedTensor>(std::span<const NamedTensor>)>;
  FakeSession(std::vector<std::string> outputs, Answer answer) : answer_(std::move(answer)) {
    for (std::string& name : outputs) {
      outputs_.push_back({std::move(name), {DataType::kFloat, std::nullopt}});
    }
  }
  std::span<const PortInfo> inputs() const override { return {}; }
  std::span<const PortInfo> outputs() const override { return outputs_; }
  Result<std::vector<Tensor>> run(std::span<const NamedTensor> feeds,
                                  std::span<const std::string> fetch) override {
    ++runs;
    const auto results = answer_(feeds);
    std::vector<Tensor> wanted;
    for (const std::string& name : fetch) {
      for (const NamedTensor& result : results) {
        if (result.name == name) wanted.push_back(result.tensor);
      }
    }
    return wanted;
  }
  Status run(std::span<const NamedTensor> feeds, std::span<const std::string> fetch,
             const ReceiveFn& receive) override {
    const auto results = run(feeds, fetch);
    for (std::size_t i = 0; i < results.value().size(); ++i) {
      const Tensor& tensor = results.value()[i];
      const Pinned pin = tensor.storage()->pin(0, tensor.byte_size()).value();
      Status status = receive(i, {tensor.dtype(), tensor.dims(), pin.bytes()});
      if (!status.ok()) return status;
    }
    return ok_status();
  }
  Result<std::vector<ProfileEvent>> profile() override { return std::vector<ProfileEvent>(); }

  std::atomic<int> runs = 0;

 private:
  std::vector<PortInfo> outputs_;
  Answer answer_;
};

// `count` samples; sample i is row i of an array of `width` floats.
// ONNX Runtime, with the sessions of models that were opened numbered.
class CountingRuntime final : public Runtime {
 public:
  std::string_view name() const override { return real_->name(); }
  Result<std::unique_ptr<Session>> open(const Model& model,
                                        const SessionOptions& options) override {
    ++opened;
    return real_->open(model, options);
  }
  Result<std::unique_ptr<Session>> open_file(const std::filesystem::path& path,
                                             const SessionOptions& options) override {
    return real_->open_file(path, options);
  }
  Result<std::vector<std::pair<std::string, std::int64_t>>> executed_operators(
      const Model& model, const SessionOptions& options) override {
    return real_->executed_operators(model, options);
  }

  std::atomic<int> opened = 0;

 private:
  std::shared_ptr<Runtime> real_ = find_runtime("onnxruntime").value();
};

class FakeData : public DataSource {
 public:
  FakeData(std::vector<float> values, std::int64_t width)
      : values_(std::move(values)), width_(width) {}
  std::int64_t count() const override { return static_cast<std::int64_t>(values_.size()) / width_; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "fake"; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    EXPECT_LE(first + count, this->count());
    const auto part = std::span<const float>(values_).subspan(
        static_cast<std::size_t>(first * width_), static_cast<std::size_t>(count * width_));
    batches.push_back({first, count});
    return std::vector<NamedTensor>{{"x", make_float_tensor(part, {count, width_})}};
  }
  bool can_batch() const override { return batching; }
  std::int64_t fixed_batch() const override { return fixed; }
  const Labels& labels() const override { return held; }

  FakeData& number(std::vector<std::int64_t> labels, std::vector<std::int64_t> dims) {
    held.numbers = make_int64_tensor(labels, std::move(dims));
    return *this;
  }

  Labels held;
  bool batching = true;
  std::int64_t fixed = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> batches;

 private:
  std::vector<float> values_;
  std::int64_t width_;
};

}  // namespace mcompress::testing
