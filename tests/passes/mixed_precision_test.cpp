// Which layers stay float32: ranking by effect, search and gates.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>

#include "mcompress/mcompress.h"
#include "passes/common/integer/choice_search.h"
#include "passes/common/integer/unit_effects.h"
#include "support/arrays.h"
#include "support/executor.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::filesystem::path kDigits = std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "models/digits";
constexpr std::string_view kSeventeen = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

// ------------------------------------------------------------------------------------- figures

TEST(MeanKl, OfDistributionsAsTheyAreAndOfLogitsAfterSoftmax) {
  // 0.5 ln(0.5/0.25) + 0.5 ln(0.5/0.75)
  const double expected = 0.5 * std::log(2.0) + 0.5 * std::log(0.5 / 0.75);
  const std::vector<float> p = {0.5F, 0.5F}, q = {0.25F, 0.75F};
  EXPECT_NEAR(mean_kl(p, q, 2), expected, 1e-6);
  // The same two rows as logits: ln p + 3.
  std::vector<float> a, b;
  for (const float value : p) a.push_back(std::log(value) + 3);
  for (const float value : q) b.push_back(std::log(value) + 3);
  EXPECT_NEAR(mean_kl(a, b, 2), expected, 1e-6);
  EXPECT_EQ(mean_kl(p, p, 2), 0);
  // Two rows, one of them equal.
  EXPECT_NEAR(mean_kl(std::vector<float>{0.5F, 0.5F, 0.5F, 0.5F},
                      std::vector<float>{0.25F, 0.75F, 0.5F, 0.5F}, 2),
              expected / 2, 1e-6);
  EXPECT_NEAR(mean_kl(p, std::vector<float>{NAN, 0.5F}, 2), std::log(2.0), 1e-6);
}

TEST(MeanKl, NothingToCompare) {
  EXPECT_EQ(mean_kl({}, {}, 4), 0);
  EXPECT_EQ(mean_kl(std::vector<float>{1}, std::vector<float>{2}, 0), 0);
}

TEST(Decibel, OfRatios) {
  EXPECT_DOUBLE_EQ(decibel(0.01), 20);
  EXPECT_EQ(decibel(0), 200);
  EXPECT_EQ(decibel(1e30), -200);
}

// -------------------------------------------------------------------------------------- search

using Set = std::set<std::size_t>;

Set ones(const std::vector<bool>& flags) {
  Set set;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i]) set.insert(i);
  }
  return set;
}

// Holds when all of `needed` are restored; the score is how many of them are.
Result<FoundChoice> search(std::size_t count, const Set& needed, std::int64_t trials,
                           std::size_t guess = 1) {
  return search_choice(count, {needed.empty(), 0}, guess, trials,
                       [&](const std::vector<bool>& restored) -> Result<ChoiceVerdict> {
                         const Set set = ones(restored);
                         double score = 0;
                         for (const std::size_t i : needed) score += set.count(i) != 0 ? 1 : 0;
                         return ChoiceVerdict{score == static_cast<double>(needed.size()), score};
                       });
}

TEST(ChoiceSearch, FindsTheFewThatAreNeeded) {
  for (const Set& needed : std::vector<Set>{{0}, {4}, {0, 5}, {1, 2, 11}, {0, 1, 2, 3}, {30}}) {
    for (const std::size_t guess : {1U, 3U, 20U, 500U}) {
      const auto found = search(31, needed, 200, guess);
      ASSERT_TRUE(found.ok());
      EXPECT_TRUE(found->verdict.holds);
      EXPECT_EQ(ones(found->restored), needed);
    }
  }
}

TEST(ChoiceSearch, StopsAtTheTrialsItIsGivenWithTheBestThatHolds) {
  const auto found = search(64, {40}, 8);
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->verdict.holds);
  EXPECT_TRUE(ones(found->restored).count(40) != 0);
  EXPECT_LE(found->trials, 9);
}

TEST(ChoiceSearch, GivesTheBestWhereNothingHolds) {
  const auto found = search_choice(
      8, {false, 3}, 1, 50, [](const std::vector<bool>& restored) -> Result<ChoiceVerdict> {
        return ChoiceVerdict{false, ones(restored).size() == 4 ? 7.0 : 1.0};
      });
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found->verdict.holds);
  EXPECT_EQ(found->verdict.score, 7);
  EXPECT_EQ(ones(found->restored), (Set{0, 1, 2, 3}));
}

TEST(ChoiceSearch, NothingToDoCostsNothing) {
  EXPECT_EQ(search(5, {}, 10)->trials, 0);
  const auto none = search_choice(
      0, {false, 0}, 1, 10,
      [](const std::vector<bool>&) -> Result<ChoiceVerdict> { return ChoiceVerdict{}; });
  EXPECT_EQ(none->trials, 0);
}

TEST(ChoiceSearch, PassesFailuresOn) {
  const auto found =
      search_choice(3, {false, 0}, 1, 10, [](const std::vector<bool>&) -> Result<ChoiceVerdict> {
        return Error(Code::kInput, "broken", "broken");
      });
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().diagnostic.id, "broken");
}

// ------------------------------------------------------------------------- single-layer effects

class Effects : public ::testing::Test {
 protected:
  void SetUp() override {
    Diagnostics diagnostics;
    model_ = load_model(kDigits / "model.onnx", {}, diagnostics).value();
    runtime_ = find_runtime("onnxruntime").value();
    const auto session = runtime_->open(*model_, {}).value();
    DataOptions options;
    options.limit = 12;
    data_ = open_data(kDigits / "calib.npz", session->inputs(), options, diagnostics).value();
    (void)run_passes(*model_, {"lift-constants", "infer-shapes", "fuse-batchnorm",
                               "eliminate-identity", "eliminate-dead", "infer-shapes"});
    const Graph& graph = model_->graph();
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (node->is("Conv")) layers_.push_back(node->id());
    }
  }

  // Layer i with every second weight 3 % smaller.
  UnitSource source() {
    UnitSource source;
    source.model = model_.get();
    source.count = layers_.size();
    const auto node_of = [this](const Model& model, std::size_t i) {
      const Graph& graph = model.graph();
      for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
        if (node->id() == layers_[i]) return node;
      }
      return static_cast<const Node*>(nullptr);
    };
    source.first = [=, this](std::size_t i) { return node_of(*model_, i); };
    source.own = [=, this](std::size_t i) { return node_of(*model_, i)->output(0); };
    source.emit = [=, this](std::size_t i) -> Result<UnitTrial> {
      UnitTrial trial;
      trial.model = model_->clone();
      Node* node = const_cast<Node*>(node_of(*trial.model, i));
      Editor edit(*trial.model, &onnx_catalog());
      const Tensor& weight = *node->input(1)->constant();
      std::vector<float> values = read_floats(weight).value();
      for (std::size_t k = 0; k < values.size(); k += 2) values[k] *= 0.97F;
      Value& fresh = edit.add_initializer(
          trial.model->graph(), "changed",
          make_float_tensor(values, {weight.dims().begin(), weight.dims().end()}));
      Value& old = *node->input(1);
      edit.set_input(*node, 1, &fresh);
      if (Status erased = edit.erase_initializer(old); !erased.ok())
        return std::move(erased).error();
      trial.own = node->output(0);
      return trial;
    };
    return source;
  }

  EffectRun measured(std::size_t cuts, std::uint64_t budget = 0, int threads = 1) {
    EffectOptions options;
    options.samples = 3;
    options.cuts = cuts;
    options.memory_budget = budget;
    const Executor executor(threads);
    auto run = measure_effects(*runtime_, source(), *data_, options, executor, silent_progress());
    EXPECT_TRUE(run.ok()) << to_string(run.error().diagnostic);
    return run.ok() ? std::move(run).value() : EffectRun{};
  }

  std::unique_ptr<Model> model_;
  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<DataSource> data_;
  std::vector<std::uint32_t> layers_;
};

TEST_F(Effects, AreTheSameFromCutsAsFromTheWholeModel) {
  ASSERT_GT(layers_.size(), 8U);
  const EffectRun whole = measured(1);
  const EffectRun parts = measured(6);
  EXPECT_EQ(whole.cuts, 0);
  EXPECT_EQ(parts.cuts, 4);  // thirteen layers by three
  EXPECT_DOUBLE_EQ(whole.passes, static_cast<double>(layers_.size()));
  EXPECT_LT(parts.passes, 0.7 * whole.passes);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    EXPECT_GT(whole.units[i].noise, 0) << i;
    EXPECT_NEAR(decibel(whole.units[i].noise), decibel(parts.units[i].noise), 0.05) << i;
    EXPECT_NEAR(whole.units[i].kl, parts.units[i].kl, 1e-3 * whole.units[i].kl + 1e-9) << i;
    EXPECT_EQ(whole.units[i].agreement, parts.units[i].agreement) << i;
    ASSERT_TRUE(whole.units[i].own_known && parts.units[i].own_known) << i;
    EXPECT_NEAR(decibel(whole.units[i].own_noise), decibel(parts.units[i].own_noise), 0.05) << i;
  }
}

TEST_F(Effects, AreTheSameWhateverTheThreads) {
  const EffectRun one = measured(4);
  const EffectRun three = measured(4, 0, 3);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    EXPECT_EQ(one.units[i].noise, three.units[i].noise) << i;
    EXPECT_EQ(one.units[i].kl, three.units[i].kl) << i;
  }
}

TEST_F(Effects, StayWithinASmallBudgetByRunningMore) {
  const EffectRun tight = measured(6, 40000);
  EXPECT_LT(tight.cuts, 4);
  EXPECT_LE(tight.samples, 3);
  EXPECT_GE(tight.samples, 1);
  EXPECT_GT(tight.units.front().noise, 0);
}

// --------------------------------------------------------------------------------------- gates

struct Gated {
  Status status = ok_status();
  Explain explain;
  Report report;
  double number(std::string_view key) const {
    const Datum facts = report.root().facts();
    const Datum* passes = facts.find("passes");
    for (const Datum& pass : *passes->as_list()) {
      const Datum* mixed = pass.find("mixed_precision");
      const Datum* value = mixed != nullptr ? mixed->find(key) : nullptr;
      if (value == nullptr) continue;
      if (const auto* real = std::get_if<double>(&value->value())) return *real;
      if (const auto* whole = std::get_if<std::int64_t>(&value->value())) {
        return static_cast<double>(*whole);
      }
      if (const auto* flag = std::get_if<bool>(&value->value())) return *flag ? 1 : 0;
    }
    return -1;
  }
};

class GatedDigits : public ::testing::Test {
 protected:
  // `store`: the weights that stay float32 are stored in int8 then.
  std::unique_ptr<Gated> run(const Datum& options, const PrecisionServices& services = {},
                             bool store = false) {
    auto outcome = std::make_unique<Gated>();
    Diagnostics diagnostics;
    auto model = load_model(kDigits / "model.onnx", {}, diagnostics).value();
    const auto runtime = find_runtime("onnxruntime").value();
    const auto session = runtime->open(*model, {}).value();
    DataOptions limit;
    limit.limit = 24;
    const auto data =
        open_data(kDigits / "calib.npz", session->inputs(), limit, diagnostics).value();
    JudgedData judged(*data, services);
    Recipe recipe;
    for (const char* name : {"lift-constants", "infer-shapes", "fuse-batchnorm", "infer-shapes"}) {
      recipe.steps.push_back({name, Datum::map()});
    }
    recipe.steps.push_back({"quantize-static", options});
    if (store) recipe.steps.push_back({"quantize-weights", Datum::map()});
    Services given;
    given.runtime = runtime;
    given.calibration_data = &judged;
    given.diagnostics = &diagnostics;
    outcome->status = run_pipeline(*model, recipe, builtin_passes(), given, {}, outcome->explain,
                                   outcome->report);
    return outcome;
  }
  static Datum asking(std::string_view key, double value) {
    Datum options = Datum::map();
    options.set(key, Datum::real(value));
    return options;
  }
};

TEST_F(GatedDigits, RestoresAsManyAsAreNeeded) {
  const auto plain = run(asking("min-sqnr", 1));
  ASSERT_TRUE(plain->status.ok());
  const double all = plain->number("first_sqnr_db");
  EXPECT_EQ(plain->number("restored_layers"), 0);
  EXPECT_EQ(plain->number("holds"), 1);

  const auto more = run(asking("min-sqnr", all + 3));
  ASSERT_TRUE(more->status.ok()) << to_string(more->status.error().diagnostic);
  const double restored = more->number("restored_layers");
  EXPECT_EQ(more->number("holds"), 1);
  EXPECT_GE(more->number("sqnr_db"), all + 3);
  EXPECT_GT(restored, 0);
  EXPECT_LT(restored, more->number("layers"));
  const std::int64_t explained = std::count_if(
      more->explain.all().begin(), more->explain.all().end(), [](const Decision& decision) {
        return !decision.applied && decision.why.starts_with("restored for accuracy: ");
      });
  EXPECT_EQ(static_cast<double>(explained), restored);

  const auto most = run(asking("min-sqnr", all + 10));
  ASSERT_TRUE(most->status.ok());
  EXPECT_GE(most->number("restored_layers"), restored);
}

TEST_F(GatedDigits, SaysWhereNothingHolds) {
  PrecisionServices services;
  services.drop = [](Session&) -> Result<double> { return 7.5; };
  services.drop_metric = "top1";
  const auto outcome = run(asking("max-drop", 1), services);
  ASSERT_TRUE(outcome->status.ok()) << "the choice is made; whoever asked decides what it is worth";
  EXPECT_EQ(outcome->number("holds"), 0);
  EXPECT_EQ(outcome->number("drop"), 7.5);
}

// What follows stores weights in int8. Restored layers keep theirs whole only where that asks too
// much of int8.
TEST_F(GatedDigits, WeightsOfRestoredLayersStayWholeWhereIntegersAskTooMuch) {
  std::vector<std::string> whole;
  PrecisionServices services;
  services.whole = &whole;
  services.finish = [](Model& trial, const std::vector<std::string>& restored) {
    Datum exclude = Datum::list();
    for (const std::string& pattern : restored) exclude.push(Datum::string(pattern));
    Datum options = Datum::map();
    options.set("exclude", std::move(exclude));
    Recipe recipe;
    recipe.steps = {{"quantize-weights", std::move(options)}};
    Diagnostics diagnostics;
    Services given;
    given.diagnostics = &diagnostics;
    Explain explain;
    Report report;
    return run_pipeline(trial, recipe, builtin_passes(), given, {}, explain, report);
  };
  const auto left = [](const Explain& explain) {
    return std::count_if(explain.all().begin(), explain.all().end(), [](const Decision& decision) {
      return decision.pass == "quantize-weights" && !decision.applied &&
             decision.why.starts_with("its layer was restored to float32 for accuracy");
    });
  };
  const auto little = run(asking("min-sqnr", 1), services, true);
  const double all = little->number("first_sqnr_db");
  const auto some = run(asking("min-sqnr", all + 2), services, true);
  ASSERT_TRUE(some->status.ok());
  EXPECT_EQ(some->number("holds"), 1);
  EXPECT_GT(some->number("restored_layers"), 0);
  EXPECT_TRUE(whole.empty());
  EXPECT_EQ(left(some->explain), 0);

  PrecisionServices stored = services;  // all that int8 weights can give
  stored.finish = [&](Model& trial, const std::vector<std::string>&) {
    return services.finish(trial, {});
  };
  const double most = run(asking("min-sqnr", 190), stored, true)->number("sqnr_db");
  whole.clear();
  const auto more = run(asking("min-sqnr", most + 0.5), services, true);
  ASSERT_TRUE(more->status.ok());
  EXPECT_EQ(more->number("holds"), 1);
  EXPECT_EQ(more->number("whole_weights"), 1);
  EXPECT_EQ(static_cast<double>(whole.size()), more->number("restored_layers"));
  EXPECT_GT(left(more->explain), 0);
}

TEST_F(GatedDigits, ADropNeedsSomebodyWhoMeasuresIt) {
  const auto outcome = run(asking("max-drop", 1));
  ASSERT_FALSE(outcome->status.ok());
  EXPECT_EQ(outcome->status.error().code, Code::kUsage);
  EXPECT_EQ(outcome->status.error().diagnostic.id, "drop-without-data");
}

TEST_F(GatedDigits, MeasuringRanksAllLayersAndChangesNothing) {
  EffectRequest request;
  request.samples = 4;
  LayerEffects effects;
  PrecisionServices services;
  services.measure = &request;
  services.effects = &effects;
  const auto outcome = run(Datum::map(), services);
  ASSERT_TRUE(outcome->status.ok());
  ASSERT_GT(effects.layers.size(), 5U);
  EXPECT_EQ(effects.samples, 4);
  EXPECT_TRUE(std::is_sorted(
      effects.layers.begin(), effects.layers.end(),
      [](const LayerEffect& a, const LayerEffect& b) { return a.sqnr_db < b.sqnr_db; }));
  for (const LayerEffect& effect : effects.layers) {
    EXPECT_TRUE(effect.measured);
    EXPECT_GE(effect.sqnr_db, effects.quantized_sqnr_db - 3) << effect.name;
  }
  EXPECT_TRUE(
      std::none_of(outcome->explain.all().begin(), outcome->explain.all().end(),
                   [](const Decision& d) { return d.applied && d.pass == "quantize-static"; }));
}

TEST(MeasureLayers, OfPassesThatQuantizeWeightByWeight) {
  Diagnostics diagnostics;
  const auto model = load_model(kDigits / "model.onnx", {}, diagnostics).value();
  (void)run_passes(*model, {"lift-constants", "infer-shapes", "fuse-batchnorm", "infer-shapes"});
  const auto runtime = find_runtime("onnxruntime").value();
  const auto session = runtime->open(*model, {}).value();
  const auto data = open_data(kDigits / "calib.npz", session->inputs(), {}, diagnostics).value();
  EffectRequest request;
  request.samples = 3;
  PrecisionServices precision;
  precision.data = data.get();
  precision.measure = &request;
  Services services;
  services.runtime = runtime;
  services.diagnostics = &diagnostics;
  const RecipeStep step{"quantize-weights", Datum::map()};
  const auto measured = [&](PrecisionGoal goal) {
    return measure_layers(*model, step, "onnxruntime-cpu", precision, goal, services);
  };
  const auto all = measured({});
  ASSERT_TRUE(all.ok()) << to_string(all.error().diagnostic);
  ASSERT_GT(all->layers.size(), 8U);
  EXPECT_GT(all->cuts, 0);
  EXPECT_TRUE(all->keep.empty());
  for (std::size_t i = 0; i < all->layers.size(); ++i) {
    const LayerEffect& effect = all->layers[i];
    EXPECT_LT(effect.sqnr_db, 100) << effect.name;
    EXPECT_GT(effect.sqnr_db, all->quantized_sqnr_db - 3) << effect.name;
    EXPECT_GT(effect.weight_bytes, 0U) << effect.name;
    if (i > 0) {
      EXPECT_GE(effect.sqnr_db, all->layers[i - 1].sqnr_db);
    }
  }
  const double goal = all->quantized_sqnr_db + 3;
  const auto kept = measured({goal, 100});
  ASSERT_TRUE(kept.ok());
  EXPECT_TRUE(kept->holds);
  EXPECT_GE(kept->kept_sqnr_db, goal);
  EXPECT_FALSE(kept->keep.empty());
  EXPECT_LT(kept->keep.size(), kept->layers.size());
}

}  // namespace
}  // namespace mcompress::testing
