// Running recipes, with passes of the tests' own.
#include "mcompress/pipeline.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <utility>

#include "mcompress/io.h"
#include "support/json.h"
#include "support/models.h"

namespace mcompress {
namespace {

using Work = std::function<Status(Model&, PassContext&)>;

class Scripted final : public Pass {
 public:
  explicit Scripted(Work work) : work_(std::move(work)) {}
  Status run(Model& model, PassContext& context) override { return work_(model, context); }

 private:
  Work work_;
};

constexpr std::string_view kModel = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) })";

class PipelineTest : public ::testing::Test {
 protected:
  void add(std::string_view name, Work work) {
    PassInfo info;
    info.name = name;
    info.summary = "a pass of this test";
    info.create = [work = std::move(work)](const Datum&,
                                           Diagnostics&) -> Result<std::unique_ptr<Pass>> {
      return std::unique_ptr<Pass>(std::make_unique<Scripted>(work));
    };
    info.print = [](const Datum& options) { return options; };
    ASSERT_TRUE(registry.add(std::move(info)).ok());
  }
  // A pass that does nothing but to say so.
  void add_marker(std::string_view name) {
    add(name, [this, name](Model&, PassContext&) {
      ran.emplace_back(name);
      return ok_status();
    });
  }
  // Each run adds one Neg behind the last node's output.
  void add_editor(std::string_view name) {
    add(name, [](Model& model, PassContext& context) {
      Node& last = *model.graph().last();
      context.edit().insert_before(
          last, {.op_type = "Neg", .inputs = {last.input(0)}, .base_name = "added"});
      Decision decision;
      decision.subject = last.label();
      decision.what = "one more";
      context.explain().chose(std::move(decision));
      context.report().count("added", 1);
      return ok_status();
    });
  }
  // Lets the first node read what the last one makes.
  void add_breaker(std::string_view name) {
    add(name, [](Model& model, PassContext& context) {
      context.edit().set_input(*model.graph().first(), 0, model.graph().find("y"));
      return ok_status();
    });
  }

  Status execute(std::vector<std::string> passes) {
    Recipe recipe;
    recipe.seed = 42;
    recipe.target = target;
    for (std::string& pass : passes) recipe.steps.push_back({std::move(pass), Datum::map()});
    services.diagnostics = &diagnostics;
    return run_pipeline(*model, recipe, registry, services, options, explain, report);
  }
  std::string passes_report() const {
    const Datum facts = report.root().facts();
    const Datum* passes = facts.find("passes");
    return passes != nullptr ? print_json_line(*passes) : "none";
  }

  std::unique_ptr<Model> model = testing::model_from_text(kModel);
  PassRegistry registry;
  std::string target = "onnxruntime-cpu";
  Services services;
  PipelineOptions options;
  Diagnostics diagnostics;
  Explain explain;
  Report report;
  std::vector<std::string> ran;
};

std::string text(const Status& status) {
  return status.ok() ? "ok" : to_string(status.error().diagnostic);
}

TEST(FactStore, KeepsWhatItFoundUntilTheModelChanges) {
  struct Nodes {
    explicit Nodes(Model& model) : count(model.graph().node_count()) {}
    std::size_t count;
  };
  const auto model = ::mcompress::testing::model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) {
  a = Relu(x)
  y = Neg(a)
})");
  FactStore facts;
  const auto first = facts.of<Nodes>(*model);
  EXPECT_EQ(first->count, 2U);
  EXPECT_EQ(facts.of<Nodes>(*model), first);
  Editor edit(*model);
  edit.append(model->graph(), {"Abs", {model->graph().inputs()[0]}});
  const auto second = facts.of<Nodes>(*model);
  EXPECT_EQ(second->count, 3U);
  EXPECT_EQ(first->count, 2U);  // for as long as somebody holds it
  const auto copy = model->clone();
  EXPECT_NE(facts.of<Nodes>(*copy), second);
}

TEST(Explain, ForgetsWhatAPassSkippedAndNothingElse) {
  Explain explain;
  const auto decision = [](std::string subject) {
    Decision made;
    made.subject = std::move(subject);
    return made;
  };
  explain.set_pass("one");
  explain.skipped(decision("early"));
  explain.skipped(decision("a"));
  explain.chose(decision("b"));
  explain.set_pass("two");
  explain.skipped(decision("c"));
  explain.set_pass("one");
  explain.skipped(decision("d"));
  explain.forget_skipped("three", 0);
  EXPECT_EQ(explain.all().size(), 5U);
  explain.forget_skipped("one", 1);
  std::vector<std::string> left;
  for (const Decision& kept : explain.all()) left.push_back(kept.subject);
  EXPECT_EQ(left, (std::vector<std::string>{"early", "b", "c"}));
  explain.truncate(2);
  explain.skipped(decision("e"));
  explain.forget_skipped("one", 0);
  ASSERT_EQ(explain.all().size(), 1U);
  EXPECT_EQ(explain.all().front().subject, "b");
}

TEST_F(PipelineTest, PassesRunInTheOrderOfTheRecipe) {
  add_marker("a");
  add_marker("b");
  ASSERT_TRUE(execute({"b", "a", "b"}).ok());
  EXPECT_EQ(ran, (std::vector<std::string>{"b", "a", "b"}));
  EXPECT_TRUE(diagnostics.all().empty());
}

TEST_F(PipelineTest, EachPassHasItsOwnReportAndDecisions) {
  add_marker("look");
  add_editor("grow");
  ASSERT_TRUE(execute({"look", "grow", "grow", "look"}).ok());
  EXPECT_EQ(
      passes_report(),
      R"([{"name": "look", "changed": false}, {"name": "grow", "added": 1, "changed": true}, )"
      R"({"name": "grow", "added": 1, "changed": true}, {"name": "look", "changed": false}])");
  ASSERT_EQ(explain.all().size(), 2U);
  for (const Decision& decision : explain.all()) {
    EXPECT_EQ(decision.pass, "grow");
    EXPECT_TRUE(decision.applied);
    EXPECT_EQ(decision.what, "one more");
  }
}

TEST_F(PipelineTest, APassThatBreaksTheGraphIsNamed) {
  add_marker("look");
  add_breaker("wreck");
  const Status status = execute({"look", "wreck", "look"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kInternal);
  const Diagnostic& diagnostic = status.error().diagnostic;
  EXPECT_EQ(diagnostic.id, "verify-order");
  EXPECT_EQ(diagnostic.message,
            "pass wreck broke the graph: input 0, 'y', is not defined before this node");
  EXPECT_EQ(diagnostic.where.subject, "Relu node that makes 'a'");
  EXPECT_NE(diagnostic.hint.find("please report it"), std::string::npos);
  EXPECT_EQ(ran.size(), 1U) << "nothing runs on a broken graph";
}

TEST_F(PipelineTest, VerifyingAtTheEndsFindsWhatAnyPassBroke) {
  add_marker("look");
  add_breaker("wreck");
  options.verify = VerifyLevel::kEnds;
  // The pass that broke it is not the last one to run.
  const Status status = execute({"wreck", "look"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kInternal);
  EXPECT_EQ(status.error().diagnostic.id, "verify-order");
  EXPECT_EQ(ran.size(), 1U);
}

TEST_F(PipelineTest, WithoutVerifyingNothingIsFound) {
  add_breaker("wreck");
  options.verify = VerifyLevel::kOff;
  EXPECT_TRUE(execute({"wreck"}).ok());
  EXPECT_FALSE(verify(*model).ok());
}

TEST_F(PipelineTest, AModelThatWasBrokenBeforeIsNoPassesFault) {
  add_marker("look");
  Editor(*model).set_input(*model->graph().first(), 0, model->graph().find("y"));
  for (const VerifyLevel level : {VerifyLevel::kEachPass, VerifyLevel::kEnds}) {
    options.verify = level;
    const Status status = execute({"look"});
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(text(status).find("pass look"), std::string::npos) << text(status);
  }
  EXPECT_TRUE(ran.empty());
}

TEST_F(PipelineTest, APassThatFailsIsNamedAndTheLastToRun) {
  add_marker("look");
  add("refuse", [](Model&, PassContext&) -> Status {
    return Error(Code::kUnsupported, "too-odd", "this is too odd", {{}, {}, "node 3"}, "try less");
  });
  const Status status = execute({"look", "refuse", "look"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUnsupported);
  EXPECT_EQ(status.error().diagnostic.id, "too-odd");
  EXPECT_EQ(text(status), "pass refuse: node 3: this is too odd (try less)");
  EXPECT_EQ(ran.size(), 1U);
  // It is in the report, without a word on what it did.
  EXPECT_EQ(passes_report(), R"([{"name": "look", "changed": false}, {"name": "refuse"}])");
}

TEST_F(PipelineTest, RecipesMadeByHandAreCheckedToo) {
  add_marker("look");
  Status status = execute({"look", "loook"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUsage);
  EXPECT_EQ(text(status), "passes[1]: unknown pass 'loook' (did you mean 'look'?)");
  EXPECT_TRUE(ran.empty()) << "before anything runs";
  target = "generic-qd";
  status = execute({"look"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUsage);
  EXPECT_EQ(text(status), "target: unknown target 'generic-qd' (did you mean 'generic-qdq'?)");
  EXPECT_TRUE(ran.empty());
}

TEST_F(PipelineTest, OptionsThatAPassRefusesStopTheRun) {
  PassInfo info;
  info.name = "picky";
  info.create = [](const Datum&, Diagnostics&) -> Result<std::unique_ptr<Pass>> {
    return Error(Code::kUsage, "never", "no options suit it");
  };
  info.print = [](const Datum& datum) { return datum; };
  ASSERT_TRUE(registry.add(std::move(info)).ok());
  const Status status = execute({"picky"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().diagnostic.id, "never");
  EXPECT_EQ(passes_report(), "none");
}

struct CountedProgress final : Progress {
  std::vector<std::string> updates;
  std::size_t cancel_after = 1000;

  void update(std::string_view stage, std::uint64_t done, std::uint64_t total,
              std::string_view unit) override {
    updates.push_back(std::string(stage) + " " + std::to_string(done) + "/" +
                      std::to_string(total) + " " + std::string(unit));
  }
  bool cancelled() const override { return updates.size() >= cancel_after; }
};

TEST_F(PipelineTest, ProgressHearsOfEachPass) {
  add_marker("a");
  add_marker("b");
  CountedProgress progress;
  services.progress = &progress;
  ASSERT_TRUE(execute({"a", "b"}).ok());
  EXPECT_EQ(progress.updates, (std::vector<std::string>{"a 0/2 passes", "b 1/2 passes"}));
}

TEST_F(PipelineTest, ACancelledRunStopsBeforeTheNextPass) {
  add_marker("a");
  add_marker("b");
  CountedProgress progress;
  progress.cancel_after = 2;
  services.progress = &progress;
  const Status status = execute({"a", "b", "a"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kCancelled);
  EXPECT_EQ(text(status), "interrupted before pass b");
  EXPECT_EQ(ran, std::vector<std::string>{"a"});
}

TEST_F(PipelineTest, DumpsAreNumberedAndHoldWhatEachPassLeft) {
  add_marker("look");
  add_editor("grow");
  const testing::TempFolder folder;
  options.dump_folder = folder / "made/here";
  const std::string before = dump(*model);
  ASSERT_TRUE(execute({"look", "grow", "look"}).ok());
  EXPECT_EQ(folder.list(),
            (std::vector<std::string>{"made/here/01-look.txt", "made/here/02-grow.txt",
                                      "made/here/03-look.txt"}));
  EXPECT_EQ(testing::read_file(folder / "made/here/01-look.txt"), before);
  EXPECT_EQ(testing::read_file(folder / "made/here/02-grow.txt"), dump(*model));
  EXPECT_NE(dump(*model), before);
}

TEST_F(PipelineTest, ADumpThatCanNotBeWrittenIsAnOutputError) {
  add_marker("look");
  const testing::TempFolder folder;
  testing::write_file(folder / "file", "in the way");
  options.dump_folder = folder / "file";
  const Status status = execute({"look"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kOutput);
  EXPECT_EQ(status.error().diagnostic.message, "the folder can not be made: File exists");
  EXPECT_EQ(status.error().diagnostic.where.file, (folder / "file").string());
}

TEST_F(PipelineTest, TheSameRunTwiceGivesTheSame) {
  add_editor("grow");
  add_marker("look");
  const auto second = model->clone();
  ASSERT_TRUE(execute({"grow", "look", "grow"}).ok());
  const std::string bytes = save_model_bytes(*model).value();
  const std::string reported = print_json(report.to_datum());

  Explain other_explain;
  Report other_report;
  Recipe recipe;
  recipe.seed = 42;
  for (const char* pass : {"grow", "look", "grow"}) recipe.steps.push_back({pass, Datum::map()});
  ASSERT_TRUE(
      run_pipeline(*second, recipe, registry, services, options, other_explain, other_report).ok());
  EXPECT_EQ(save_model_bytes(*second).value(), bytes);
  EXPECT_EQ(print_json(other_report.to_datum()), reported);
  ASSERT_EQ(other_explain.all().size(), explain.all().size());
  for (std::size_t i = 0; i < explain.all().size(); ++i) {
    EXPECT_EQ(other_explain.all()[i].subject, explain.all()[i].subject);
  }
}

TEST_F(PipelineTest, TargetAndSeedReachThePasses) {
  std::string seen;
  std::uint64_t seed = 0;
  add("ask", [&](Model&, PassContext& context) {
    seen = context.target().name;
    seed = context.seed();
    return ok_status();
  });
  target = "generic-qdq";
  ASSERT_TRUE(execute({"ask"}).ok());
  EXPECT_EQ(seen, "generic-qdq");
  EXPECT_EQ(seed, 42U);
  // A target of the caller's own comes before the name in the recipe.
  Target own;
  own.name = "own";
  services.target = &own;
  ASSERT_TRUE(execute({"ask"}).ok());
  EXPECT_EQ(seen, "own");
}

TEST_F(PipelineTest, WithoutARuntimeOrDataPassesLearnWhatIsMissing) {
  Status no_runtime = ok_status();
  Status no_data = ok_status();
  bool no_reference = false;
  add("ask", [&](Model& asked, PassContext& context) {
    if (auto runtime = context.runtime(); !runtime.ok()) no_runtime = runtime.error();
    auto table = context.calibration(asked, {});
    if (!table.ok()) no_data = table.error();
    no_reference = context.reference() == nullptr && context.calibration_data() == nullptr;
    EXPECT_FALSE(context.progress().cancelled());
    return ok_status();
  });
  ASSERT_TRUE(execute({"ask"}).ok());
  ASSERT_FALSE(no_runtime.ok());
  EXPECT_EQ(no_runtime.error().code, Code::kUnsupported);
  ASSERT_FALSE(no_data.ok());
  EXPECT_EQ(no_data.error().code, Code::kUsage);
  EXPECT_EQ(no_data.error().diagnostic.id, "no-calibration-data");
  EXPECT_NE(no_data.error().diagnostic.hint.find("--calib"), std::string::npos);
  EXPECT_TRUE(no_reference);
}

TEST_F(PipelineTest, AReferenceThatCanNotBeOpenedIsNone) {
  int asked = 0;
  services.reference = [&]() -> Result<Session*> {
    ++asked;
    return Error(Code::kUnsupported, "no-session", "not here");
  };
  add("ask", [](Model&, PassContext& context) {
    EXPECT_EQ(context.reference(), nullptr);
    return ok_status();
  });
  ASSERT_TRUE(execute({"ask"}).ok());
  EXPECT_EQ(asked, 1);
}

TEST_F(PipelineTest, ATableIsRefusedWhenItIsOfAnotherModelOrIncomplete) {
  std::vector<std::string> outcomes;
  add("ask", [&](Model& asked, PassContext& context) {
    CalibrationRequest request;
    request.values = {"a"};
    const auto found = context.calibration(asked, request);
    outcomes.push_back(found.ok() ? "ok" : found.error().diagnostic.id);
    if (!found.ok()) {
      EXPECT_EQ(found.error().code, Code::kUsage);
    }
    return ok_status();
  });
  CalibrationTable table;
  services.table = &table;
  table.model_digest = fingerprint(*model) + 1;
  ASSERT_TRUE(execute({"ask"}).ok());
  table.model_digest = fingerprint(*model);
  ASSERT_TRUE(execute({"ask"}).ok());
  table.set("a", ValueStats());
  ASSERT_TRUE(execute({"ask"}).ok());
  EXPECT_EQ(outcomes,
            (std::vector<std::string>{"table-of-another-model", "table-incomplete", "ok"}));
}

TEST_F(PipelineTest, ARegistryHoldsEachNameOnceAndKnowsTheNearest) {
  add_marker("look");
  add_marker("behold");
  PassInfo again;
  again.name = "look";
  const Status status = registry.add(std::move(again));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().diagnostic.id, "duplicate-pass");
  EXPECT_EQ(status.error().diagnostic.where.subject, "look");
  ASSERT_EQ(registry.all().size(), 2U);
  EXPECT_EQ(registry.all()[0]->name, "behold");
  EXPECT_EQ(registry.find("lok"), nullptr);
  EXPECT_EQ(registry.nearest("lok"), "look");
  EXPECT_EQ(registry.nearest("zzzzzzzz"), "");
}

}  // namespace
}  // namespace mcompress
