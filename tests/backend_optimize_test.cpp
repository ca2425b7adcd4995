// Every model of ONNX's own backend test data goes through `optimize`, with and without its numeric
// guard, and computes what it computed before.
#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "support/backend_data.h"
#include "support/optimise.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

namespace fs = std::filesystem;

struct Tally {
  int loaded = 0, optimised = 0, changed = 0, undone = 0;
  int run_before = 0, random = 0, same_bits = 0, close = 0;
};

void optimise_one(const fs::path& path, GuardMode guard, Tally& tally) {
  Diagnostics diagnostics;
  const auto loaded = load_model(path, {}, diagnostics);
  if (!loaded.ok()) return;
  ++tally.loaded;
  Model& model = **loaded;
  const auto original = model.clone();
  const Optimised run = optimise(model, guard);
  ASSERT_TRUE(run.status.ok()) << path << ": " << to_string(run.status.error().diagnostic);
  ++tally.optimised;
  if (run.changed) ++tally.changed;
  for (const std::string& what : run.undone()) {
    ++tally.undone;
    ADD_FAILURE() << path << ": " << what;
  }
  if (check_model(*original).ok()) {
    const Status sound = check_model(model);
    EXPECT_TRUE(sound.ok()) << path << ": " << to_string(sound.error().diagnostic);
  }
  const auto before = backend_outputs(*original, path);
  if (!before) return;
  ++tally.run_before;
  const auto after = backend_outputs(model, path);
  ASSERT_TRUE(after.has_value()) << path << " is not run any more";
  switch (likeness(*before, *after, kBackendCloseness)) {
    case Likeness::kSameBits:
      ++tally.same_bits;
      return;
    case Likeness::kClose:
      ++tally.close;
      return;
    case Likeness::kDifferent:
      break;
  }
  // What is drawn at random is never equal.
  const auto again = backend_outputs(*original, path);
  if (!again || likeness(*before, *again, kBackendCloseness) == Likeness::kDifferent) {
    ++tally.random;
    return;
  }
  ADD_FAILURE() << path << " computes something else";
}

Tally optimise_all(GuardMode guard) {
  Tally tally;
  for (const fs::path& path : find_backend_models()) optimise_one(path, guard, tally);
  std::cout << "guard " << (guard == GuardMode::kOff ? "off" : "on") << ": " << tally.loaded
            << " models, " << tally.optimised << " optimised, " << tally.changed << " changed, "
            << tally.undone << " passes undone; of " << tally.run_before << " that run, "
            << tally.same_bits << " give the same bits, " << tally.close << " are close, "
            << tally.random << " draw random numbers\n";
  return tally;
}

class BackendOptimize : public ::testing::TestWithParam<GuardMode> {};

TEST_P(BackendOptimize, EveryModelComputesWhatItComputed) {
  const int models = static_cast<int>(find_backend_models().size());
  if (models == 0) GTEST_SKIP() << "cmake/bootstrap.sh makes ONNX's test data";
  const Tally tally = optimise_all(GetParam());
  EXPECT_GT(tally.loaded, models * 9 / 10);
  EXPECT_EQ(tally.optimised, tally.loaded);
  EXPECT_EQ(tally.undone, 0);
  EXPECT_GT(tally.changed, models / 6);
  EXPECT_GT(tally.run_before, models * 4 / 5);
  EXPECT_EQ(tally.same_bits + tally.close + tally.random, tally.run_before);
  EXPECT_GT(tally.same_bits, tally.run_before * 9 / 10);
}

// Networks of full size come without inputs: theirs are made up.
TEST_P(BackendOptimize, NetworksComputeWhatTheyComputed) {
  int networks = 0;
  for (const fs::path& path : find_backend_models()) {
    if (path.parent_path().filename() != "light") continue;
    Diagnostics diagnostics;
    const auto model = load_model(path, {}, diagnostics);
    ASSERT_TRUE(model.ok()) << path;
    const auto original = (*model)->clone();
    const Optimised run = optimise(**model, GetParam());
    ASSERT_TRUE(run.status.ok()) << path << to_string(run.status.error().diagnostic);
    EXPECT_TRUE(run.undone().empty()) << path;
    SCOPED_TRACE(path);
    expect_same_results(*original, **model, 1e-4, 1);
    ++networks;
  }
  if (networks == 0) GTEST_SKIP() << "cmake/bootstrap.sh makes ONNX's test data";
  EXPECT_EQ(networks, 9);
}

INSTANTIATE_TEST_SUITE_P(Guards, BackendOptimize,
                         ::testing::Values(GuardMode::kOff, GuardMode::kAuto),
                         [](const auto& guard) {
                           return guard.param == GuardMode::kOff ? "Off" : "On";
                         });

}  // namespace
}  // namespace mcompress::testing
