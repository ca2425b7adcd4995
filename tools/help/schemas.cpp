// schema: what --json prints, reports and recipes, as JSON Schemas.
#include "help/schemas.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "app.h"
#include "embedded_schemas.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

// ------------------------------------------------------------------------------------- Markdown

// Follows {"$ref": "#/$defs/NAME"}; what else stands beside it goes before.
Datum resolved(const Datum& schema, const Datum& root) {
  const Datum* reference = schema.find("$ref");
  if (reference == nullptr) return schema;
  const std::string name = reference->as_string()->substr(std::string("#/$defs/").size());
  Datum result = *root.find("$defs")->find(name);
  for (const auto& [key, value] : *schema.as_map()) {
    if (key != "$ref") result.set(key, value);
  }
  return result;
}

std::string type_of(const Datum& schema) {
  const Datum* type = schema.find("type");
  if (type != nullptr && type->as_string() != nullptr) {
    if (*type->as_string() == "object" && schema.find("properties") == nullptr) return "map";
    return *type->as_string();
  }
  if (const Datum* value = schema.find("const")) return "`" + option_text(*value) + "`";
  const Datum* values = schema.find("enum");
  std::string text;
  if (values != nullptr) {
    for (const Datum& one : *values->as_list()) {
      text += (text.empty() ? "`" : ", `") + option_text(one) + "`";
    }
    return text;
  }
  if (type != nullptr) {
    for (const Datum& one : *type->as_list())
      text += (text.empty() ? "" : " or ") + option_text(one);
    return text;
  }
  if (const Datum* either = schema.find("anyOf")) {
    const Datum* first = (*either->as_list())[0].find("type");
    return first != nullptr ? option_text(*first) : "object";
  }
  return "";
}

void describe(const Datum& given, const Datum& root, const std::string& path, bool required,
              std::string& text) {
  const Datum schema = resolved(given, root);
  if (!path.empty()) {
    const Datum* description = schema.find("description");
    text += "| `" + path + "` | " + type_of(schema) + (required ? "" : ", not always") + " | " +
            (description != nullptr ? option_text(*description) : "") + " |\n";
  }
  const std::string below = path.empty() ? "" : path + ".";
  if (const Datum* properties = schema.find("properties")) {
    const Datum* always = schema.find("required");
    for (const auto& [key, value] : *properties->as_map()) {
      const bool needed =
          always != nullptr &&
          std::any_of(always->as_list()->begin(), always->as_list()->end(),
                      [&key = key](const Datum& one) { return option_text(one) == key; });
      describe(value, root, below + key, needed, text);
    }
  }
  const Datum* items = schema.find("items");
  if (items != nullptr && resolved(*items, root).find("properties") != nullptr) {
    describe(*items, root, path + "[]", true, text);
  }
  const Datum* any = schema.find("additionalProperties");
  if (any != nullptr && any->as_map() != nullptr &&
      resolved(*any, root).find("properties") != nullptr) {
    describe(*any, root, path + ".*", true, text);
  }
  if (const Datum* either = schema.find("anyOf")) {
    for (const Datum& one : *either->as_list()) {
      if (resolved(one, root).find("properties") != nullptr) {
        describe(one, root, path, required, text);
      }
    }
  }
}

Result<std::string> markdown() {
  std::string text =
      "# Results as JSON\n\nPrinted by `mcompress schema --markdown` from the schemas that "
      "`mcompress schema NAME` prints (JSON Schema, draft\n2020-12). `--json` of a command prints "
      "one document on standard output; `batch` prints a line per model. Messages\nstay on "
      "standard error. A command that failed prints nothing there, unless it says otherwise.\n\n"
      "## What is promised\n\n"
      "- `schema_version` stands first. Within a version keys keep name, type, unit and meaning, "
      "and "
      "what is described\n  without \"not always\" is always there.\n"
      "- New keys may come at any time, new words where a text is not an enumeration too: readers "
      "ignore what they do not know.\n  The schemas are open for that reason.\n"
      "- The version grows when a key goes, is renamed, or changes its type, unit or meaning. The "
      "changelog names it.\n"
      "- The order of keys, and of lists described as ordered, is stable. The same work gives the "
      "same bytes, measured times\n  aside.\n"
      "- Numbers that are not finite are the texts `inf`, `-inf` and `nan`. Sizes are bytes, times "
      "say their unit in the key.\n"
      "- Texts for people (`why`, `what`, `message`, `hint`, `notes`) may be reworded; `id` of a "
      "message is stable.\n"
      "- Names of target files and of options keep their dashes, since they are typed so; all "
      "other "
      "keys have underscores.\n"
      "  Keys that passes add to their entry in a report's `passes` are of the pass, and may "
      "change "
      "with it.\n\n"
      "`mcompress schema recipe` is for editors: with it they complete passes, options and values "
      "of "
      "a recipe in YAML or JSON,\nfor example by the first line `# yaml-language-server: "
      "$schema=recipe.schema.json`.\n";
  for (const std::string& name : schema_names()) {
    if (name == "recipe") continue;
    MCOMPRESS_ASSIGN(const Datum schema, find_schema(name));
    text += "\n## " + name + "\n\n`" + option_text(*schema.find("title")) + "`\n\n";
    if (const Datum* description = schema.find("description")) {
      text += option_text(*description) + "\n\n";
    }
    text += "| key | value | what it is |\n|---|---|---|\n";
    describe(schema, schema, "", true, text);
  }
  return text;
}

struct SchemaOptions {
  bool list = false;
  bool markdown = false;

  static const Schema<SchemaOptions>& schema() {
    static const Schema<SchemaOptions> kSchema =
        Schema<SchemaOptions>()
            .field("list", &SchemaOptions::list,
                   "the names of all schemas, with what they describe")
            .field("markdown", &SchemaOptions::markdown, "all of them, as docs/json.md");
    return kSchema;
  }
};

class PrintSchema final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("NAME", name_, "what is described: recipe, report, or a command with --json")
        ->type_name("");
    flags.add(SchemaOptions::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    if (flags_->has("list")) {
      std::string text;
      for (const std::string& name : schema_names()) {
        MCOMPRESS_ASSIGN(const Datum schema, find_schema(name));
        std::string first = name;
        first.resize(std::max<std::size_t>(first.size() + 2, 16), ' ');
        text += first + option_text(*schema.find("title")) + "\n";
      }
      return console.print(text);
    }
    if (flags_->has("markdown")) {
      MCOMPRESS_ASSIGN(const std::string text, markdown());
      return console.print(text);
    }
    if (name_.empty()) {
      return Error(Code::kUsage, "no-schema", "the name of a schema is missing", {},
                   "`mcompress schema --list` lists them");
    }
    MCOMPRESS_ASSIGN(const Datum schema, find_schema(name_));
    return console.print(json_text(schema));
  }

 private:
  Flags* flags_ = nullptr;
  std::string name_;
};

}  // namespace

std::vector<std::string> schema_names() {
  std::vector<std::string> names = {"recipe"};
  for (const auto& file : embedded::schemas) names.emplace_back(file.name);
  std::sort(names.begin(), names.end());
  return names;
}

Result<Datum> find_schema(std::string_view name) {
  if (name == "recipe") return recipe_schema();
  for (const auto& file : embedded::schemas) {
    if (file.name == name) return datum_from_json(file.text, std::string(name) + ".json");
  }
  const std::vector<std::string> names = schema_names();
  const std::string close = nearest_name(name, names);
  return Error(
      Code::kUsage, "unknown-schema", "unknown schema '" + std::string(name) + "'", {},
      close.empty() ? "`mcompress schema --list` lists them" : "did you mean '" + close + "'?");
}

std::unique_ptr<Command> make_schema() { return std::make_unique<PrintSchema>(); }

}  // namespace mcompress::tools
