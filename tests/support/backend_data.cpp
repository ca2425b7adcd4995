#include "support/backend_data.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "mcompress/runtime.h"

namespace mcompress::testing {
namespace {

namespace fs = std::filesystem;

// The tensors of a data set in their order; empty when one is no tensor.
std::vector<NamedTensor> tensors(const fs::path& folder, const std::string& stem) {
  std::vector<NamedTensor> all;
  for (int i = 0;; ++i) {
    const fs::path path = folder / (stem + std::to_string(i) + ".pb");
    if (!fs::exists(path)) return all;
    auto tensor = load_tensor_file(path);
    if (!tensor.ok()) return {};
    all.push_back(std::move(*tensor));
  }
}

bool is_floating(DataType type) {
  const DTypeInfo* info = find_dtype(type);
  return info != nullptr && info->floating;
}

bool same_bytes(const Tensor& left, const Tensor& right) {
  if (left.is_opaque() || right.is_opaque()) return left.is_opaque() && right.is_opaque();
  const auto a = left.storage()->pin(0, left.byte_size());
  const auto b = right.storage()->pin(0, right.byte_size());
  return a.ok() && b.ok() && std::ranges::equal(a->bytes(), b->bytes());
}

bool close(double x, double y, Closeness allowed) {
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
  return x == y || std::abs(x - y) <= allowed.absolute + allowed.relative * std::abs(x);
}

}  // namespace

std::vector<fs::path> find_backend_models() {
  std::vector<fs::path> models;
  const fs::path root = MCOMPRESS_ONNX_TESTDATA;
  if (root.empty() || !fs::exists(root)) return models;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().extension() == ".onnx") models.push_back(entry.path());
  }
  std::sort(models.begin(), models.end());
  return models;
}

std::optional<BackendOutputs> backend_outputs(const Model& model, const fs::path& model_file) {
  static const auto runtime = find_runtime("onnxruntime").value();
  SessionOptions options;
  options.optimisation = Optimisation::kNone;
  auto session = runtime->open(model, options);
  if (!session.ok()) return std::nullopt;
  std::vector<NamedTensor> feeds = tensors(model_file.parent_path() / "test_data_set_0", "input_");
  const auto inputs = (*session)->inputs();
  if (feeds.size() > inputs.size()) return std::nullopt;
  for (std::size_t i = 0; i < feeds.size(); ++i) feeds[i].name = inputs[i].name;
  std::vector<std::string> fetch;
  for (const PortInfo& port : (*session)->outputs()) fetch.push_back(port.name);
  auto results = (*session)->run(feeds, fetch);
  if (!results.ok()) return std::nullopt;
  return std::move(*results);
}

Likeness likeness(const BackendOutputs& left, const BackendOutputs& right, Closeness allowed) {
  if (left.size() != right.size()) return Likeness::kDifferent;
  Likeness found = Likeness::kSameBits;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].dtype() != right[i].dtype()) return Likeness::kDifferent;
    if (left[i].dtype() == DataType::kUndefined) continue;
    if (!std::ranges::equal(left[i].dims(), right[i].dims())) return Likeness::kDifferent;
    if (same_bytes(left[i], right[i])) continue;
    if (!is_floating(left[i].dtype())) return Likeness::kDifferent;
    const auto a = read_floats(left[i]);
    const auto b = read_floats(right[i]);
    if (!a.ok() || !b.ok()) return Likeness::kDifferent;
    for (std::size_t k = 0; k < a->size(); ++k) {
      const auto x = static_cast<double>((*a)[k]), y = static_cast<double>((*b)[k]);
      if (!close(x, y, allowed)) return Likeness::kDifferent;
    }
    found = Likeness::kClose;
  }
  return found;
}

}  // namespace mcompress::testing
