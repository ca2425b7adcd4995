// Every model of ONNX's own backend test data, whatever its opset, moves to the newest one and to
// an older one, or is refused for a reason; what moved computes the same on the data beside it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <vector>

#include "mcompress/io.h"
#include "mcompress/runtime.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> find_models() {
  std::vector<fs::path> models;
  const fs::path root = MCOMPRESS_ONNX_TESTDATA;
  if (root.empty() || !fs::exists(root)) return models;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().extension() == ".onnx") models.push_back(entry.path());
  }
  std::sort(models.begin(), models.end());
  return models;
}

using Outputs = std::vector<Tensor>;

// The tensors of a data set in their order; empty when one is missing or is no tensor.
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

std::optional<Outputs> outputs_of(const Model& model, const fs::path& data) {
  static const auto runtime = find_runtime("onnxruntime").value();
  SessionOptions options;
  options.optimisation = Optimisation::kNone;
  auto session = runtime->open(model, options);
  if (!session.ok()) return std::nullopt;
  std::vector<NamedTensor> feeds = tensors(data, "input_");
  const auto inputs = (*session)->inputs();
  if (feeds.size() > inputs.size()) return std::nullopt;
  for (std::size_t i = 0; i < feeds.size(); ++i) feeds[i].name = inputs[i].name;
  std::vector<std::string> fetch;
  for (const PortInfo& port : (*session)->outputs()) fetch.push_back(port.name);
  auto results = (*session)->run(feeds, fetch);
  if (!results.ok()) return std::nullopt;
  return std::move(*results);
}

// Rounding apart; what can not be read as numbers counts as equal.
bool same(const Outputs& left, const Outputs& right) {
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].dtype() == DataType::kUndefined) continue;
    if (left[i].dtype() != right[i].dtype()) return false;
    if (!std::ranges::equal(left[i].dims(), right[i].dims())) return false;
    const auto a = read_floats(left[i]);
    const auto b = read_floats(right[i]);
    if (!a.ok() || !b.ok()) continue;
    for (std::size_t k = 0; k < a->size(); ++k) {
      const double x = static_cast<double>((*a)[k]), y = static_cast<double>((*b)[k]);
      if (std::isnan(x) != std::isnan(y)) return false;
      if (x == y || std::isnan(x)) continue;
      if (!(std::abs(x - y) <= 1e-5 + 1e-3 * std::abs(x))) return false;
    }
  }
  return true;
}

struct Tally {
  int moved = 0, refused = 0, compared = 0, not_run = 0;
  std::map<std::string, int> reasons;
};

Tally move_all(const std::vector<fs::path>& models, std::int64_t to) {
  Tally tally;
  for (const fs::path& path : models) {
    Diagnostics diagnostics;
    auto loaded = load_model(path, {}, diagnostics);
    if (!loaded.ok()) continue;
    Model& model = **loaded;
    if (model.opset("") == to) continue;
    const auto original = model.clone();
    const auto run = run_passes(model, {"convert-opset:{\"to\": " + std::to_string(to) + "}"});
    if (!run->status.ok()) {
      EXPECT_EQ(run->status.error().code, Code::kUnsupported)
          << path << to_string(run->status.error().diagnostic);
      ++tally.refused;
      ++tally.reasons[run->status.error().diagnostic.message];
      continue;
    }
    ++tally.moved;
    EXPECT_TRUE(!check_model(*original).ok() || check_model(model).ok())
        << path << to_string(check_model(model).error().diagnostic);
    const fs::path data = path.parent_path() / "test_data_set_0";
    const auto after = outputs_of(model, data);
    const auto before = outputs_of(*original, data);
    if (!after || !before) {
      ++tally.not_run;  // kernels that are missing, inputs that are no tensors
      continue;
    }
    // What is drawn at random is never equal.
    const auto again = outputs_of(*original, data);
    if (!again || !same(*before, *again)) continue;
    ++tally.compared;
    EXPECT_TRUE(same(*before, *after)) << path;
  }
  std::cout << "opset " << to << ": " << tally.moved << " moved, of which " << tally.compared
            << " compared; " << tally.refused << " refused\n";
  return tally;
}

TEST(BackendOpset, EverythingMovesToTheNewestOrToAnOlderOneOrIsRefused) {
  const std::vector<fs::path> models = find_models();
  if (models.empty()) GTEST_SKIP() << "cmake/bootstrap.sh makes ONNX's test data";
  const Tally up = move_all(models, 28);
  EXPECT_GT(up.moved, static_cast<int>(models.size()) * 4 / 5);
  for (const auto& [reason, count] : up.reasons) {
    const bool known = reason == "the model imports no version of ONNX's own operators" ||
                       reason.find("Scan 9 has no batch axis any more") != std::string::npos ||
                       reason.find("it hands out masked scores") != std::string::npos;
    EXPECT_TRUE(known) << count << " times: " << reason;
  }
  const Tally down = move_all(models, 13);
  EXPECT_GT(down.moved, static_cast<int>(models.size()) / 2);
}

}  // namespace
}  // namespace mcompress::testing
