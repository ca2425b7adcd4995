// Recipes as data: what is refused and how, and what is printed.
#include <gtest/gtest.h>

#include <algorithm>

#include "mcompress/pipeline.h"
#include "support/json.h"
#include "support/yaml.h"

namespace mcompress {
namespace {

class Nothing : public Pass {
 public:
  Status run(Model&, PassContext&) override { return ok_status(); }
};

class Clean final : public Nothing {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema;
    return kSchema;
  }
  explicit Clean(Options) {}
};

class Round final : public Nothing {
 public:
  struct Options {
    std::int64_t bits = 8;
    double ratio = 0.5;
    bool exact = true;
    std::string mode = "fast";
    std::vector<std::string> keep;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("bits", &Options::bits, "how many")
            .range(2, 16)
            .field("ratio", &Options::ratio, "how much")
            .range(0, 1)
            .field("exact", &Options::exact, "or nearly")
            .field("mode", &Options::mode, "how")
            .choices({"fast", "thorough"})
            .field("keep", &Options::keep, "what stays")
            .rule([](const Options& options) -> Status {
              if (options.bits != 16 || options.mode == "fast") return ok_status();
              return Error(Code::kUsage, "bits-and-mode", "16 bits are for mode fast");
            });
    return kSchema;
  }
  explicit Round(Options) {}
};

const PassRegistry& registry() {
  static const PassRegistry kRegistry = [] {
    PassRegistry made;
    EXPECT_TRUE(made.add(pass_info<Clean>("clean-up", "remove what nobody reads", Reach::kTopGraph,
                                          true, {}))
                    .ok());
    EXPECT_TRUE(made.add(pass_info<Clean>("split", "take apart", Reach::kTopGraph, true, {})).ok());
    EXPECT_TRUE(made.add(pass_info<Round>("round", "fewer bits", Reach::kTopGraph, true,
                                          {"clean-up", "split"}))
                    .ok());
    return made;
  }();
  return kRegistry;
}

Result<Recipe> recipe_of(std::string_view json) {
  Diagnostics diagnostics;
  auto datum = parse_json(json, "r.json");
  if (!datum.ok()) return std::move(datum).error();
  return parse_recipe(*datum, registry(), diagnostics);
}

Recipe good(std::string_view json) {
  auto recipe = recipe_of(json);
  EXPECT_TRUE(recipe.ok()) << to_string(recipe.error().diagnostic);
  return recipe.ok() ? *recipe : Recipe();
}

// "id | what the user reads".
std::string complaint(std::string_view json) {
  const auto recipe = recipe_of(json);
  if (recipe.ok()) return "no error";
  EXPECT_EQ(recipe.error().code, Code::kUsage) << json;
  return recipe.error().diagnostic.id + " | " + to_string(recipe.error().diagnostic);
}

TEST(Recipe, NamesMapsAndDefaults) {
  const Recipe recipe = good(R"({"name": "mine", "seed": 7, "target": "generic-qdq",
    "passes": ["split", {"pass": "clean-up"}, {"pass": "round", "bits": 4, "keep": ["a", "b"]}]})");
  EXPECT_EQ(recipe.name, "mine");
  EXPECT_EQ(recipe.seed, 7U);
  EXPECT_EQ(recipe.target, "generic-qdq");
  ASSERT_EQ(recipe.steps.size(), 3U);
  EXPECT_EQ(recipe.steps[0].pass, "split");
  EXPECT_EQ(recipe.steps[1].options, Datum::map());
  EXPECT_EQ(*recipe.steps[2].options.find("bits"), Datum::integer(4));
  EXPECT_EQ(recipe.steps[2].options.find("ratio"), nullptr) << "nothing is filled in";
  const Recipe least = good(R"({"passes": ["split"]})");
  EXPECT_EQ(least.name, "");
  EXPECT_EQ(least.seed, 0U);
  EXPECT_EQ(least.target, "onnxruntime-cpu");
}

TEST(Recipe, WhatIsNoRecipe) {
  EXPECT_EQ(complaint("[1]"),
            "recipe-not-a-map | r.json:1:1: a recipe must be a map with the key 'passes'");
  EXPECT_EQ(complaint("\n  3"),
            "recipe-not-a-map | r.json:2:3: a recipe must be a map with the key 'passes'");
  EXPECT_EQ(complaint("{}"),
            "recipe-no-passes | r.json:1:1: 'passes' must be a list with at least one pass");
  for (const char* passes : {"[]", "\"split\"", "{\"split\": 1}", "null"}) {
    EXPECT_EQ(complaint(std::string("{\"passes\": ") + passes + "}"),
              "recipe-no-passes | r.json:1:12: passes: 'passes' must be a list with at least one "
              "pass")
        << passes;
  }
}

TEST(Recipe, UnknownKeysNameTheNearest) {
  EXPECT_EQ(complaint(R"({"passes": ["split"], "sed": 1})"),
            "recipe-unknown-key | r.json:1:30: sed: unknown key 'sed' (did you mean 'seed'?)");
  EXPECT_EQ(complaint(R"({"pases": ["split"]})"),
            "recipe-unknown-key | r.json:1:11: pases: unknown key 'pases' (did you mean "
            "'passes'?)");
  EXPECT_EQ(complaint(R"({"passes": ["split"], "x": 1})"),
            "recipe-unknown-key | r.json:1:28: x: unknown key 'x' (known keys: converge, data, "
            "gates, name, passes, seed, summary, target, version)");
}

TEST(Recipe, TypesOfItsKeys) {
  EXPECT_EQ(complaint(R"({"name": 3, "passes": ["split"]})"),
            "recipe-not-text | r.json:1:10: name: must be a text");
  EXPECT_EQ(complaint(R"({"target": ["a"], "passes": ["split"]})"),
            "recipe-not-text | r.json:1:12: target: must be a text");
  for (const char* seed : {"-1", "1.5", "\"1\"", "true", "18446744073709551616"}) {
    EXPECT_EQ(complaint(std::string(R"({"passes": ["split"], "seed": )") + seed + "}"),
              "recipe-seed | r.json:1:31: seed: must be a whole number from 0 up")
        << seed;
  }
}

TEST(Recipe, UnknownTargetsNameTheNearestAndTheirPlace) {
  EXPECT_EQ(complaint("{\"passes\": [\"split\"],\n \"target\": \"generic-qd\"}"),
            "unknown-target | r.json:2:12: target: unknown target 'generic-qd' (did you mean "
            "'generic-qdq'?)");
  EXPECT_EQ(complaint(R"({"target": "toaster", "passes": ["split"]})"),
            "unknown-target | r.json:1:12: target: unknown target 'toaster' (`mcompress targets` "
            "lists them; a file of your own ends in .json, .yaml or .yml)");
}

TEST(Recipe, StepsThatAreNone) {
  EXPECT_EQ(complaint("{\"passes\": [\"split\",\n 3]}"),
            "recipe-not-text | r.json:2:2: passes[1]: must be the name of a pass, or a map with "
            "the key 'pass'");
  EXPECT_EQ(complaint(R"({"passes": [["split"]]})"),
            "recipe-not-text | r.json:1:13: passes[0]: must be the name of a pass, or a map with "
            "the key 'pass'");
  EXPECT_EQ(complaint(R"({"passes": ["split", {"bits": 4}]})"),
            "recipe-pass-name | r.json:1:22: passes[1]: the key 'pass' is missing");
  EXPECT_EQ(complaint(R"({"passes": [{"pass": 4}]})"),
            "recipe-not-text | r.json:1:22: passes[0].pass: must be a text");
}

TEST(Recipe, UnknownPassesNameTheNearest) {
  EXPECT_EQ(complaint("{\"passes\": [\"split\",\n  \"cleanup\"]}"),
            "unknown-pass | r.json:2:3: passes[1]: unknown pass 'cleanup' (did you mean "
            "'clean-up'?)");
  EXPECT_EQ(complaint(R"({"passes": [{"pass": "rond", "bits": 4}]})"),
            "unknown-pass | r.json:1:13: passes[0]: unknown pass 'rond' (did you mean 'round'?)");
  EXPECT_EQ(complaint(R"({"passes": ["entirely-different"]})"),
            "unknown-pass | r.json:1:13: passes[0]: unknown pass 'entirely-different' (`mcompress "
            "passes` lists them)");
}

TEST(Recipe, OptionsAreCheckedWhereTheyStand) {
  const auto with = [](std::string_view options) {
    return complaint("{\"passes\": [\"split\",\n{\"pass\": \"round\", " + std::string(options) +
                     "}]}");
  };
  EXPECT_EQ(with(R"("bit": 4)"),
            "unknown-option | r.json:2:26: passes[1].bit: unknown option 'bit' (did you mean "
            "'bits'?)");
  EXPECT_EQ(with(R"("bits": "four")"),
            "wrong-option-type | r.json:2:27: passes[1].bits: expects an integer, not the text "
            "'four'");
  EXPECT_EQ(with(R"("bits": 4.5)"),
            "wrong-option-type | r.json:2:27: passes[1].bits: expects an integer, not 4.5");
  EXPECT_EQ(with(R"("exact": "yes")"),
            "wrong-option-type | r.json:2:28: passes[1].exact: expects true or false, not the text "
            "'yes' (write it without quotes)");
  EXPECT_EQ(with(R"("keep": {"a": 1})"),
            "wrong-option-type | r.json:2:27: passes[1].keep: expects a list of texts, not a map");
  EXPECT_EQ(with(R"("bits": 1)"),
            "option-below-minimum | r.json:2:27: passes[1].bits: 1 is below 2");
  EXPECT_EQ(with(R"("ratio": 1.25)"),
            "option-above-maximum | r.json:2:28: passes[1].ratio: 1.25 is above 1");
  EXPECT_EQ(with(R"("mode": "thorugh")"),
            "option-not-a-choice | r.json:2:27: passes[1].mode: 'thorugh' is none of fast, "
            "thorough (did you mean 'thorough'?)");
  EXPECT_EQ(with(R"("bits": 16, "mode": "thorough")"),
            "bits-and-mode | r.json:2:1: passes[1]: 16 bits are for mode fast");
  EXPECT_EQ(complaint(R"({"passes": [{"pass": "split", "bits": 4}]})"),
            "unknown-option | r.json:1:39: passes[0].bits: unknown option 'bits' (there are no "
            "options here)");
}

TEST(Recipe, OrderIsCheckedAgainstEveryPassThatIsThere) {
  EXPECT_EQ(complaint("{\"passes\": [\"clean-up\", \"round\",\n \"split\"]}"),
            "recipe-order | r.json:1:25: passes[1]: round has to run after split");
  EXPECT_EQ(complaint(R"({"passes": [{"pass": "round", "bits": 4}, "clean-up"]})"),
            "recipe-order | r.json:1:13: passes[0]: round has to run after clean-up");
  // Alone it needs nothing; once is enough; what comes again may stand behind.
  EXPECT_EQ(good(R"({"passes": ["round"]})").steps.size(), 1U);
  EXPECT_EQ(good(R"({"passes": ["split", "round", "split", "round"]})").steps.size(), 4U);
}

TEST(Recipe, WithoutAFileThePathIsNamed) {
  // As an API caller builds it: values that know no place.
  Datum options = Datum::map();
  options.set("pass", Datum::string("round"));
  options.set("bits", Datum::integer(99));
  Datum list = Datum::list();
  list.push(std::move(options));
  Datum datum = Datum::map();
  datum.set("passes", std::move(list));
  Diagnostics diagnostics;
  auto recipe = parse_recipe(datum, registry(), diagnostics);
  ASSERT_FALSE(recipe.ok());
  EXPECT_EQ(to_string(recipe.error().diagnostic), "passes[0].bits: 99 is above 16");
  datum.set("target", Datum::string("generic"));
  recipe = parse_recipe(datum, registry(), diagnostics);
  ASSERT_FALSE(recipe.ok());
  EXPECT_EQ(recipe.error().diagnostic.where.path, "target");
  datum.set("speed", Datum::integer(1));
  recipe = parse_recipe(datum, registry(), diagnostics);
  ASSERT_FALSE(recipe.ok());
  EXPECT_EQ(recipe.error().diagnostic.where.path, "speed");
}

TEST(Recipe, IsPrintedWithEveryOption) {
  const Recipe recipe = good(R"({"passes": ["split", {"pass": "round", "bits": 4}], "seed": 3})");
  EXPECT_EQ(
      print_json_line(print_recipe(recipe, registry())),
      R"({"version": 1, "target": "onnxruntime-cpu", "seed": 3, "converge": false, "passes": [{"pass": "split"}, )"
      R"({"pass": "round", "bits": 4, "ratio": 0.5, "exact": true, "mode": "fast", )"
      R"("keep": []}]})");
}

TEST(Recipe, WhatIsPrintedReplaysTheRun) {
  const Recipe recipe = good(
      R"({"name": "n", "target": "generic-qdq", "seed": 9007199254740993, "passes": ["clean-up",
      {"pass": "round", "ratio": 0.1, "exact": false, "mode": "thorough", "keep": ["a,b", "*"]}]})");
  const Datum printed = print_recipe(recipe, registry());
  const Recipe again = good(print_json(printed));
  EXPECT_EQ(again.name, recipe.name);
  EXPECT_EQ(again.target, recipe.target);
  EXPECT_EQ(again.seed, recipe.seed);
  EXPECT_EQ(print_recipe(again, registry()), printed);
  EXPECT_EQ(recipe_digest(again, registry()), recipe_digest(recipe, registry()));
}

TEST(Recipe, EveryPassOfTheLibraryReplays) {
  for (const PassInfo* pass : builtin_passes().all()) {
    Datum list = Datum::list();
    list.push(Datum::string(pass->name));
    Datum datum = Datum::map();
    datum.set("passes", std::move(list));
    Diagnostics diagnostics;
    const auto recipe = parse_recipe(datum, builtin_passes(), diagnostics);
    ASSERT_TRUE(recipe.ok()) << pass->name;
    const Datum printed = print_recipe(*recipe, builtin_passes());
    const auto again =
        parse_recipe(*parse_json(print_json(printed), "printed"), builtin_passes(), diagnostics);
    ASSERT_TRUE(again.ok()) << pass->name;
    EXPECT_EQ(print_recipe(*again, builtin_passes()), printed) << pass->name;
  }
}

TEST(Recipe, TheDigestIsThatOfWhatRuns) {
  const auto digest = [](std::string_view json) { return recipe_digest(good(json), registry()); };
  const std::uint64_t plain = digest(R"({"passes": ["split", "round"]})");
  // Spelled differently, the same run.
  EXPECT_EQ(digest(R"({"seed": 0, "target": "onnxruntime-cpu", "passes": [{"pass": "split"},
    {"pass": "round", "keep": [], "mode": "fast", "bits": 8.0, "ratio": 0.5}]})"),
            plain);
  std::vector<std::uint64_t> others = {
      plain,
      digest(R"({"passes": ["split", {"pass": "round", "bits": 7}]})"),
      digest(R"({"passes": ["split", {"pass": "round", "ratio": 0.5000000000000001}]})"),
      digest(R"({"passes": ["split", {"pass": "round", "keep": ["a", "b"]}]})"),
      digest(R"({"passes": ["split", {"pass": "round", "keep": ["a,b"]}]})"),
      digest(R"({"passes": ["clean-up", "round"]})"),
      digest(R"({"passes": ["split", "round", "round"]})"),
      digest(R"({"passes": ["split", "round"], "seed": 1})"),
      digest(R"({"passes": ["split", "round"], "target": "generic-qdq"})"),
  };
  std::ranges::sort(others);
  EXPECT_EQ(std::ranges::adjacent_find(others), others.end()) << "two runs share a digest";
}

TEST(Recipe, YamlSaysTheSameAsJson) {
  constexpr std::string_view kYaml =
      "name: mine\n"
      "seed: 7\n"
      "passes:\n"
      "  - split            # a name\n"
      "  - pass: round\n"
      "    bits: 0x4\n"
      "    ratio: 1e-1\n"
      "    exact: false\n"
      "    keep: [a, 'b']\n";
  Diagnostics diagnostics;
  const auto from_yaml = parse_recipe(*parse_yaml(kYaml, "r.yaml"), registry(), diagnostics);
  ASSERT_TRUE(from_yaml.ok()) << to_string(from_yaml.error().diagnostic);
  const Recipe from_json = good(R"({"name": "mine", "seed": 7, "passes": ["split",
    {"pass": "round", "bits": 4, "ratio": 0.1, "exact": false, "keep": ["a", "b"]}]})");
  EXPECT_EQ(print_recipe(*from_yaml, registry()), print_recipe(from_json, registry()));
  EXPECT_EQ(recipe_digest(*from_yaml, registry()), recipe_digest(from_json, registry()));
  // And its mistakes are found where they stand.
  const auto wrong = parse_recipe(*parse_yaml("passes:\n  - pass: round\n    bits: 40\n", "r.yaml"),
                                  registry(), diagnostics);
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(to_string(wrong.error().diagnostic), "r.yaml:3:11: passes[0].bits: 40 is above 16");
}

}  // namespace
}  // namespace mcompress
