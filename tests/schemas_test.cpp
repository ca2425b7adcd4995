// What --json prints is what its schema says: every key is described, what is always there is
// there, values have their types. A command that takes --json and has no line below fails here:
// give it tools/schemas/NAME.json (in tools/CMakeLists.txt) and a line.
#include "help/schemas.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "help/pages.h"
#include "mcompress/host.h"
#include "support/models.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;
using mcompress::testing::TempFolder;

const std::string kDigits = std::string(MCOMPRESS_SOURCE_DIR) + "/models/digits/";

struct JsonRun {
  std::string schema, arguments;  // $M: a model, $Q: it quantized, $C: samples, $E: with labels
};

// In this order: later ones read what earlier ones write.
const std::vector<JsonRun>& runs() {
  static const std::vector<JsonRun> kRuns = {
      {"report",
       "quantize $M -o q.onnx --calib $C --eval $E --samples 32 --bench --times --json --report "
       "r.json"},
      {"report", "quantize $M -o w.onnx --mode weight-only --json"},
      {"report", "optimize $M -o o.onnx --json"},
      {"report", "prune $M -o p.onnx --sparsity 0.5 --calib $C --samples 16 --json"},
      {"report", "cluster $M -o c.onnx --bits 4 --json"},
      {"report", "convert-opset $M -o v.onnx --to 18 --json"},
      {"report", "run smallest-file $M -o s.onnx --json"},
      {"product", "run parts.yaml -o parts --json --report parts.json"},
      {"product", "run parts.yaml --dry-run --json"},
      {"report-page", "report parts.json --json"},
      {"pack", "pack $M -o m.mca --json"},
      {"unpack", "unpack m.mca -o m.onnx --json"},
      {"inspect", "inspect $M --json"},
      {"inspect", "inspect $M --measure --passes --json"},
      {"inspect", "inspect $M --groups --json"},
      {"diff", "diff $M q.onnx --json"},
      {"diff", "diff $M $M --json"},
      {"eval", "eval q.onnx --data $E --against $M --samples 50 --json"},
      {"eval", "eval $M --data $E --samples 20 --json"},
      {"compare", "compare $M q.onnx --data $C --samples 16 --layers --json"},
      {"compare", "compare $M $M --data $C --samples 4 --json"},
      {"bench", "bench q.onnx --against $M --runs 2 --loads 1 --profile --json"},
      {"sensitivity", "sensitivity $M --calib $C --samples 4 --min-sqnr 30 --json"},
      {"drift", "drift $M t.json --data $E --samples 100 --json"},
      {"targets", "targets --json"},
      {"targets", "targets onnxruntime-cpu --json"},
      {"gate", "gate q.onnx --baseline b.json --reference $M --eval $E --update --json"},
      {"gate", "gate q.onnx --baseline b.json --reference $M --eval $E --json"},
      {"explain", "explain q.onnx --json"},
      {"explain", "explain $M --recipe smallest-file --json"},
      {"plan", "plan cluster $M --json"},
      {"plan", "plan mobile-int8 $M --calib $C --samples 16 --json"},
      {"report", "apply p.yaml $M -o a.onnx --json"},
      {"report",
       "search $M -o f.onnx --calib $C --eval $E --max-size-ratio 0.3 --evaluations 2 --json"},
      {"report-page", "report q.onnx --reference $M --eval $E --run-report r.json --json"},
      {"passes", "passes --json"},
      {"passes", "passes quantize-static --json"},
  };
  return kRuns;
}

class Schemas : public ::testing::Test {
 protected:
  Schemas() { fs::current_path(folder_.path()); }
  ~Schemas() override { fs::current_path(home_); }

  static std::string run(std::string arguments) {
    for (const auto& [mark, file] : {std::pair<std::string, std::string>{"$M", "model.onnx"},
                                     {"$C", "calib.npz"},
                                     {"$E", "eval.npz"}}) {
      for (std::size_t at = arguments.find(mark); at != std::string::npos;
           at = arguments.find(mark)) {
        arguments.replace(at, mark.size(), kDigits + file);
      }
    }
    FILE* pipe = ::popen((MCOMPRESS_CLI " " + arguments + " 2>errors").c_str(), "r");
    std::string text;
    char buffer[65536];
    std::size_t got = 0;
    while ((got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0) text.append(buffer, got);
    ::pclose(pipe);
    return text;
  }

  // A recipe of two models, of which one has a choice and the first does not do.
  static void write_parts() {
    const std::string model = "model: " + kDigits + "model.onnx, ";
    const std::string data = "data: {calib: " + kDigits + "calib.npz}, ";
    ASSERT_TRUE(write_file("parts.yaml",
                           "name: two\ngates: {max-bytes: 1MB, min-sqnr: 10}\nparts:\n"
                           "  - {name: a, " +
                               model + data +
                               "output: a.onnx, recipe: [optimize, smallest-file]}\n"
                               "  - {name: b, " +
                               model + data +
                               "output: b.onnx, recipe: optimize, bytes-share: 0.7}\n")
                    .ok());
  }

  // The first thing that is not as described; empty: none.
  static std::string wrong(const Datum& value, const Datum& schema, const Datum& root,
                           const std::string& path) {
    if (const Datum* reference = schema.find("$ref")) {
      const std::string name = reference->as_string()->substr(std::string("#/$defs/").size());
      const Datum* definition = root.find("$defs")->find(name);
      if (definition == nullptr) return path + ": no definition of " + name;
      return wrong(value, *definition, root, path);
    }
    if (const Datum* either = schema.find("anyOf")) {
      std::string last;
      for (const Datum& one : *either->as_list()) {
        last = wrong(value, one, root, path);
        if (last.empty()) return last;
      }
      return last;
    }
    if (const Datum* constant = schema.find("const")) {
      return *constant == value ? "" : path + ": is not " + option_text(*constant);
    }
    if (const Datum* words = schema.find("enum")) {
      const auto& list = *words->as_list();
      return std::find(list.begin(), list.end(), value) != list.end()
                 ? ""
                 : path + ": '" + option_text(value) + "' is not listed";
    }
    if (const Datum* type = schema.find("type"); type != nullptr && !has_type(value, *type)) {
      return path + ": is no " + (type->as_string() != nullptr ? *type->as_string() : "such type");
    }
    if (const Datum* pattern = schema.find("pattern")) {
      const std::string* text = value.as_string();
      if (text != nullptr && !std::regex_search(*text, std::regex(*pattern->as_string()))) {
        return path + ": '" + *text + "' does not fit";
      }
    }
    if (const auto* map = value.as_map()) return wrong_map(*map, schema, root, path);
    if (const auto* list = value.as_list()) {
      const Datum* items = schema.find("items");
      for (std::size_t i = 0; items != nullptr && i < list->size(); ++i) {
        std::string found = wrong((*list)[i], *items, root, path + "[]");
        if (!found.empty()) return found;
      }
    }
    return "";
  }

 private:
  static bool has_type(const Datum& value, const Datum& type) {
    if (const auto* either = type.as_list()) {
      return std::any_of(either->begin(), either->end(),
                         [&](const Datum& one) { return has_type(value, one); });
    }
    const std::string& name = *type.as_string();
    const bool integer = std::holds_alternative<std::int64_t>(value.value());
    if (name == "object") return value.as_map() != nullptr;
    if (name == "array") return value.as_list() != nullptr;
    if (name == "string") return value.as_string() != nullptr;
    if (name == "boolean") return std::holds_alternative<bool>(value.value());
    if (name == "integer") return integer;
    return name == "number" && (integer || std::holds_alternative<double>(value.value()));
  }

  static std::string wrong_map(const Datum::Map& map, const Datum& schema, const Datum& root,
                               const std::string& path) {
    const Datum* properties = schema.find("properties");
    const Datum* rest = schema.find("additionalProperties");
    std::set<std::string> keys;
    for (const auto& [key, value] : map) {
      if (!keys.insert(key).second) return path + ": '" + key + "' is there twice";
      const Datum* known = properties != nullptr ? properties->find(key) : nullptr;
      const std::string below = path + "." + key;
      std::string found;
      if (known != nullptr) {
        found = wrong(value, *known, root, below);
      } else if (rest == nullptr ||
                 (std::get_if<bool>(&rest->value()) != nullptr && !std::get<bool>(rest->value()))) {
        // Schemas are open for what later versions add; what this one writes is described.
        return below + ": is not described";
      } else if (rest->as_map() != nullptr) {
        found = wrong(value, *rest, root, below);
      }
      if (!found.empty()) return found;
    }
    if (const Datum* required = schema.find("required")) {
      for (const Datum& key : *required->as_list()) {
        if (!keys.contains(*key.as_string())) return path + ": lacks " + *key.as_string();
      }
    }
    return "";
  }

  const fs::path home_ = fs::current_path();
  const TempFolder folder_;
};

TEST_F(Schemas, ResultsAreAsDescribed) {
  run("calibrate $M --calib $C -o t.json");
  run("plan cluster $M -o p.yaml");
  write_parts();
  for (const JsonRun& one : runs()) {
    const std::string text = run(one.arguments);
    const auto result = datum_from_json(text, one.arguments);
    ASSERT_TRUE(result.ok()) << one.arguments << "\n" << text.substr(0, 500);
    const auto schema = find_schema(one.schema);
    ASSERT_TRUE(schema.ok());
    EXPECT_EQ(wrong(*result, *schema, *schema, ""), "") << one.arguments;
  }
}

TEST_F(Schemas, LinesOfABatchAreAsDescribed) {
  fs::create_directory("zoo");
  fs::copy(kDigits + "model.onnx", "zoo/a.onnx");
  ASSERT_TRUE(write_file("zoo/b.onnx", "no model").ok());
  ASSERT_TRUE(write_file("rules.yaml",
                         "rules:\n  - when: {path: a.onnx}\n    recipe: optimize\n"
                         "  - recipe: smallest-file\n")
                  .ok());
  const std::string text = run("batch zoo rules.yaml -o out --json");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  const auto schema = find_schema("batch");
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    const auto line = datum_from_json(text.substr(at, text.find('\n', at) - at), "line");
    ASSERT_TRUE(line.ok());
    EXPECT_EQ(wrong(*line, *schema, *schema, ""), "");
  }
}

TEST_F(Schemas, EveryCommandWithJsonHasOne) {
  std::set<std::string> tried = {"batch"};
  for (const JsonRun& one : runs()) tried.insert(one.arguments.substr(0, one.arguments.find(' ')));
  // The same path as `quantize`, for models of their own kind.
  tried.insert({"factorize", "tables"});
  const std::vector<std::string> names = schema_names();
  for (const CommandPage& page : command_pages()) {
    const auto has = [&](const char* flag) {
      return std::any_of(page.flags.begin(), page.flags.end(), [&](const FlagPage& one) {
        return std::find(one.names.begin(), one.names.end(), flag) != one.names.end();
      });
    };
    if (!has("--json")) continue;
    const std::string name(page.info->name);
    EXPECT_TRUE(tried.contains(name)) << name << " has no line above";
    EXPECT_TRUE(has("--report") || std::find(names.begin(), names.end(), name) != names.end())
        << name << " has no tools/schemas/" << name << ".json";
  }
}

TEST_F(Schemas, EveryKeyIsExplained) {
  for (const std::string& name : schema_names()) {
    const auto schema = find_schema(name);
    ASSERT_TRUE(schema.ok());
    EXPECT_EQ(option_text(*schema->find("$schema")),
              "https://json-schema.org/draft/2020-12/schema");
    ASSERT_NE(schema->find("title"), nullptr) << name;
    std::vector<std::pair<std::string, Datum>> left = {{name, *schema}};
    while (!left.empty()) {
      const auto [path, one] = left.back();
      left.pop_back();
      if (const Datum* properties = one.find("properties")) {
        for (const auto& [key, value] : *properties->as_map()) {
          const bool reference = value.find("$ref") != nullptr;
          const Datum* description = value.find("description");
          EXPECT_TRUE(reference || (description != nullptr && !option_text(*description).empty()))
              << path << "." << key;
          left.emplace_back(path + "." + key, value);
        }
      }
      if (const Datum* items = one.find("items")) left.emplace_back(path + "[]", *items);
      if (const Datum* definitions = one.find("$defs")) {
        for (const auto& [key, value] : *definitions->as_map()) left.emplace_back(key, value);
      }
    }
  }
}

TEST_F(Schemas, RecipesThatRunFitAndOthersDoNot) {
  const Datum schema = recipe_schema();
  int count = 0;
  for (const auto& file : fs::directory_iterator(MCOMPRESS_SOURCE_DIR "/tools/recipes")) {
    const auto recipe = read_datum_file(file.path());
    ASSERT_TRUE(recipe.ok());
    EXPECT_EQ(wrong(*recipe, schema, schema, ""), "") << file.path();
    ++count;
  }
  EXPECT_GT(count, 10);
  const auto printed =
      datum_from_json(run("quantize $M -o out.onnx --calib $C --print-recipe"), "printed");
  ASSERT_TRUE(printed.ok());
  EXPECT_EQ(wrong(*printed, schema, schema, ""), "");
  write_parts();
  for (const std::string& product : {run("run parts.yaml --print-recipe"), std::string(R"({"parts":
           [{"name": "a", "model": "a.onnx", "recipe": ["server-int8", "own.yaml", {"passes":
           ["quantize-weights"]}]}, {"name": "b", "model": "b*.onnx", "passes": ["infer-shapes"]}]})")}) {
    const auto recipe = datum_from_json(product, "product");
    ASSERT_TRUE(recipe.ok());
    EXPECT_EQ(wrong(*recipe, schema, schema, ""), "");
  }
  for (const char* bad :
       {R"({})", R"({"parts": [{"name": "a", "recipe": "optimize"}]})",
        R"({"parts": [{"name": "a", "model": "a", "recipe": "optimise"}]})",
        R"({"parts": [{"name": "a", "model": "a", "byte-share": 1}]})",
        R"({"parts": [], "passes": ["optimize"]})", R"({"passes": [{"pass": "quantize-weigths"}]})",
        R"({"passes": [3]})", R"({"passes": [{"pass": "quantize-weights", "min-element": 3}]})",
        R"({"passes": [{"pass": "quantize-weights", "min-elements": "many"}]})",
        R"({"passes": ["optimise"]})", R"({"passes": ["quantize-weights"], "gate": {}})",
        R"({"passes": ["quantize-weights"], "gates": {"max-dorp": 1}})",
        R"({"passes": [{"recipe": "server-int"}]})",
        R"({"passes": [{"pass": "quantize-weights", "when": {"has-ops": ["Conv"]}}]})"}) {
    const auto recipe = datum_from_json(bad, "bad");
    ASSERT_TRUE(recipe.ok());
    EXPECT_NE(wrong(*recipe, schema, schema, ""), "") << bad;
  }
}

}  // namespace
}  // namespace mcompress::tools
