// Every model of ONNX's own backend test data, whatever its opset, moves to the newest one and to
// an older one, or is refused for a reason; what moved computes the same on the data beside it.
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <map>
#include <vector>

#include "mcompress/io.h"
#include "support/backend_data.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

namespace fs = std::filesystem;

// What a newer form of an operator may round differently.
constexpr Closeness kMoved = {1e-5, 1e-3};

bool same(const BackendOutputs& left, const BackendOutputs& right) {
  return likeness(left, right, kMoved) != Likeness::kDifferent;
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
    const auto after = backend_outputs(model, path);
    const auto before = backend_outputs(*original, path);
    if (!after || !before) {
      ++tally.not_run;  // kernels that are missing, inputs that are no tensors
      continue;
    }
    // What is drawn at random is never equal.
    const auto again = backend_outputs(*original, path);
    if (!again || !same(*before, *again)) continue;
    ++tally.compared;
    EXPECT_TRUE(same(*before, *after)) << path;
  }
  std::cout << "opset " << to << ": " << tally.moved << " moved, of which " << tally.compared
            << " compared; " << tally.refused << " refused\n";
  return tally;
}

TEST(BackendOpset, EverythingMovesToTheNewestOrToAnOlderOneOrIsRefused) {
  const std::vector<fs::path> models = find_backend_models();
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
