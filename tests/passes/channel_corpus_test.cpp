// Every prunable coupling group of whole models, each cut once on its own: the rest has to pass the
// checker, to run, and to compute the same where what was cut was not read.
//
//   MCOMPRESS_CORPUS=FOLDER_OR_FILE[:...] channel_corpus_test --gtest_filter='*Corpus*'
//
// walks the models below those folders, too; inputs are the first sample of a calib.npz beside the
// model, or seeded.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "compress.h"
#include "mcompress/calibration.h"
#include "mcompress/io.h"
#include "mcompress/pipeline.h"
#include "support/channel_cuts.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

namespace fs = std::filesystem;

struct Cuts {
  std::int64_t groups = 0, prunable = 0, units = 0;
};

// What the recipe does before it prunes.
bool prepare(Model& model) {
  auto recipe = tools::builtin_recipe("prune-channels");
  EXPECT_TRUE(recipe.ok());
  if (!recipe.ok()) return false;
  const auto prune = std::ranges::find(recipe->steps, "prune-channels", &RecipeStep::pass);
  recipe->steps.erase(prune, recipe->steps.end());
  Diagnostics diagnostics;
  Services services;
  services.runtime = find_runtime("onnxruntime").value();
  services.diagnostics = &diagnostics;
  Explain explain;
  Report report;
  const Status done = run_pipeline(model, *recipe, builtin_passes(), services, {}, explain, report);
  EXPECT_TRUE(done.ok()) << to_string(done.error().diagnostic);
  return done.ok();
}

std::vector<NamedTensor> inputs_of(const Model& model, const fs::path& calib) {
  SessionOptions options;
  options.optimisation = Optimisation::kNone;
  auto session = find_runtime("onnxruntime").value()->open(model, options);
  EXPECT_TRUE(session.ok()) << to_string(session.error().diagnostic);
  if (!session.ok()) return {};
  if (fs::exists(calib)) {
    Diagnostics diagnostics;
    const auto data = open_data(calib, (*session)->inputs(), {}, diagnostics);
    EXPECT_TRUE(data.ok()) << to_string(data.error().diagnostic);
    if (data.ok()) return (*data)->sample(0).value();
  }
  std::vector<NamedTensor> feeds;
  for (PortInfo port : (*session)->inputs()) {
    // Samples first; lengths and image sizes after them.
    if (port.type.shape && !port.type.shape->empty() && !port.type.shape->front().size) {
      port.type.shape->front().size = 2;
    }
    Tensor values = seeded_input(port, 32);
    if (values.dtype() == DataType::kInt64) {  // tokens, kinds of tokens and masks know 0 and 1
      std::vector<std::int64_t> numbers(static_cast<std::size_t>(values.elements()));
      for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = i % 3 == 1 ? 0 : 1;
      values = make_int64_tensor(numbers, {values.dims().begin(), values.dims().end()});
    }
    feeds.push_back({port.name, std::move(values)});
  }
  return feeds;
}

// Cuts every third of the units that may go, of one group at a time.
Cuts cut_each_group(Model& model, const fs::path& calib, const std::string& name) {
  Cuts cuts;
  if (!prepare(model)) return cuts;
  const std::vector<NamedTensor> feeds = inputs_of(model, calib);
  const auto traced = model.clone();
  const ChannelTrace trace(*traced);
  for (const ChannelTrace::Group& group : trace.groups()) {
    ++cuts.groups;
    std::vector<bool> chosen(trace.units());
    std::size_t free = 0;
    for (const std::uint32_t unit : group.units) {
      if (!trace.is_frozen(unit)) chosen[unit] = free++ % 3 == 0;
    }
    if (free == 0) continue;
    ++cuts.prunable;
    // Ids and order of a copy are those of the model: so are its units.
    const auto trial = model.clone();
    const std::int64_t gone = cut_and_compare(
        *trial, [&](std::uint32_t unit) { return chosen[unit]; },
        name + ", group of " + group.facts.name, feeds);
    EXPECT_GT(gone, 0) << name << ": nothing goes of the group of " << group.facts.name;
    cuts.units += gone;
  }
  return cuts;
}

std::vector<fs::path> listed_models(std::string_view list) {
  std::vector<fs::path> files;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(':'), list.size());
    const fs::path place(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
    if (!fs::is_directory(place)) {
      files.push_back(place);
      continue;
    }
    for (const auto& entry : fs::recursive_directory_iterator(place)) {
      if (entry.path().extension() == ".onnx") files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  return files;
}

TEST(ChannelCorpus, DigitsSurviveTheCutOfEachGroup) {
  const fs::path folder = fs::path(MCOMPRESS_SOURCE_DIR) / "models/digits";
  Diagnostics diagnostics;
  const auto model = load_model(folder / "model.onnx", {}, diagnostics);
  ASSERT_TRUE(model.ok());
  const Cuts cuts = cut_each_group(**model, folder / "calib.npz", "digits");
  EXPECT_GE(cuts.prunable, 3);
  EXPECT_LT(cuts.prunable, cuts.groups);
  EXPECT_GT(cuts.units, 20);
}

TEST(ChannelCorpus, CorpusSurvivesTheCutOfEachGroup) {
  const char* const listed = std::getenv("MCOMPRESS_CORPUS");
  if (listed == nullptr) GTEST_SKIP() << "MCOMPRESS_CORPUS names no folder of models";
  Cuts all;
  std::int64_t models = 0;
  for (const fs::path& file : listed_models(listed)) {
    Diagnostics diagnostics;
    const auto model = load_model(file, {}, diagnostics);
    if (!model.ok()) {
      std::cout << file.string() << ": not loaded: " << model.error().diagnostic.message << "\n";
      continue;
    }
    const Cuts cuts = cut_each_group(**model, file.parent_path() / "calib.npz", file.string());
    std::cout << file.string() << ": " << cuts.groups << " groups, " << cuts.prunable << " cut, "
              << cuts.units << " units gone\n"
              << std::flush;
    ++models;
    all.groups += cuts.groups, all.prunable += cuts.prunable, all.units += cuts.units;
  }
  EXPECT_GT(models, 0);
  std::cout << models << " models: " << all.groups << " groups, " << all.prunable << " cut, "
            << all.units << " units gone\n";
}

}  // namespace
}  // namespace mcompress::testing
