// passes: what is built in, printed from its declarations.
#include <CLI/CLI.hpp>

#include "app.h"
#include "mcompress/host.h"
#include "mcompress/pass.h"
#include "try.h"

namespace mcompress::tools {
namespace {

std::string bounds_text(const OptionSpec& spec) {
  if (!spec.choices.empty()) {
    std::string text;
    for (const std::string& choice : spec.choices) text += (text.empty() ? "" : ", ") + choice;
    return text;
  }
  std::string text;
  switch (spec.kind) {
    case OptionSpec::Kind::kBool:
      return "true or false";
    case OptionSpec::Kind::kInt:
      text = "integer";
      break;
    case OptionSpec::Kind::kReal:
      text = "number";
      break;
    case OptionSpec::Kind::kString:
      return "text";
    case OptionSpec::Kind::kStringList:
      return "names";
  }
  if (spec.minimum && spec.maximum) {
    text += " from " + option_text(Datum::real(*spec.minimum)) + " to " +
            option_text(Datum::real(*spec.maximum));
  }
  if (!spec.unit.empty()) text += spec.unit == "%" ? " %" : " " + spec.unit;
  return text;
}

std::string_view level_text(OptionSpec::Level level) {
  switch (level) {
    case OptionSpec::Level::kAdvanced:
      return "advanced";
    case OptionSpec::Level::kExperimental:
      return "experimental";
    case OptionSpec::Level::kDeprecated:
      return "deprecated";
    case OptionSpec::Level::kBasic:
      break;
  }
  return "";
}

std::string reach_text(const PassInfo& pass) {
  return pass.reach == Reach::kNestedGraphs ? "top graph and nested graphs" : "top graph";
}

std::string runs_after_text(const PassInfo& pass, std::string_view quote) {
  std::string text;
  for (const std::string_view name : pass.runs_after) {
    text += text.empty() ? "" : ", ";
    if (name == "*") return "all others, once";
    text += std::string(quote) + std::string(name) + std::string(quote);
  }
  return text;
}

std::string markdown() {
  std::string text =
      "# Passes\n\nPrinted by `mcompress passes --markdown` from the declarations the program is "
      "built from. A recipe names\npasses and their options; `mcompress COMMAND --print-recipe` "
      "prints the one a command runs.\nPasses that reach nested graphs run in the bodies of "
      "functions "
      "that stay as calls too, but for those that are\nabout the model as a whole: convert-opset, "
      "fuse-contrib, fuse-quantized, inline-functions, lift-constants, pin-inputs, raise-opset.\n";
  for (const PassInfo* pass : builtin_passes().all()) {
    text += "\n## " + std::string(pass->name) + "\n\n" + std::string(pass->summary) + ".\n\n";
    text += "Reach: " + reach_text(*pass) + ".";
    if (!pass->runs_after.empty()) text += " Runs after " + runs_after_text(*pass, "`") + ".";
    text += "\n";
    if (pass->options.empty()) continue;
    text += "\n| option | values | default | what it does |\n|---|---|---|---|\n";
    for (const OptionSpec& spec : pass->options) {
      text += "| `" + spec.name + "` | " + bounds_text(spec) + " | " +
              (spec.default_text.empty() ? "" : "`" + spec.default_text + "`") + " | " + spec.help;
      const std::string_view level = level_text(spec.level);
      if (!level.empty()) text += " (" + std::string(level) + ")";
      text += " |\n";
    }
  }
  return text;
}

std::string page(const PassInfo& pass) {
  std::string text = std::string(pass.name) + ": " + std::string(pass.summary) + "\n";
  text += "  reach: " + reach_text(pass) + "\n";
  if (!pass.runs_after.empty()) text += "  runs after: " + runs_after_text(pass, "") + "\n";
  for (const OptionSpec& spec : pass.options) {
    text += "\n  " + spec.name + "  (" + bounds_text(spec);
    if (!spec.default_text.empty()) text += "; default " + spec.default_text;
    text += ")\n" + wrap_text(spec.help, 96, 6) + "\n";
  }
  return text;
}

std::string_view kind_name(OptionSpec::Kind kind) {
  switch (kind) {
    case OptionSpec::Kind::kBool:
      return "boolean";
    case OptionSpec::Kind::kInt:
      return "integer";
    case OptionSpec::Kind::kReal:
      return "number";
    case OptionSpec::Kind::kStringList:
      return "list";
    case OptionSpec::Kind::kString:
      break;
  }
  return "string";
}

Datum option_datum(const OptionSpec& spec) {
  Datum map = Datum::map();
  map.set("name", Datum::string(spec.name));
  map.set("help", Datum::string(spec.help));
  map.set("kind", Datum::string(kind_name(spec.kind)));
  map.set("default", Datum::string(spec.default_text));
  const std::string_view level = level_text(spec.level);
  map.set("level", Datum::string(level.empty() ? "basic" : level));
  if (!spec.unit.empty()) map.set("unit", Datum::string(spec.unit));
  if (!spec.choices.empty()) {
    Datum choices = Datum::list();
    for (const std::string& choice : spec.choices) choices.push(Datum::string(choice));
    map.set("choices", std::move(choices));
  }
  if (spec.minimum) map.set("minimum", Datum::real(*spec.minimum));
  if (spec.maximum) map.set("maximum", Datum::real(*spec.maximum));
  if (!spec.replaced_by.empty()) map.set("replaced_by", Datum::string(spec.replaced_by));
  return map;
}

Datum passes_datum(const std::vector<const PassInfo*>& passes) {
  Datum list = Datum::list();
  for (const PassInfo* pass : passes) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(pass->name));
    entry.set("summary", Datum::string(pass->summary));
    entry.set("nested_graphs", Datum::boolean(pass->reach == Reach::kNestedGraphs));
    Datum after = Datum::list();
    for (const std::string_view name : pass->runs_after) after.push(Datum::string(name));
    entry.set("runs_after", std::move(after));
    Datum options = Datum::list();
    for (const OptionSpec& spec : pass->options) options.push(option_datum(spec));
    entry.set("options", std::move(options));
    list.push(std::move(entry));
  }
  Datum map = Datum::map();
  map.set("passes", std::move(list));
  return map;
}

struct PassesOptions {
  bool json = false;
  bool markdown = false;
  bool manual = false;

  static const Schema<PassesOptions>& schema() {
    static const Schema<PassesOptions> kSchema =
        Schema<PassesOptions>()
            .field("json", &PassesOptions::json, "as JSON")
            .field("markdown", &PassesOptions::markdown, "all passes, as docs/passes.md")
            .field("manual", &PassesOptions::manual, "all commands, as docs/manual.md");
    return kSchema;
  }
};

class Passes final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("NAME", name_, "one pass only")->type_name("");
    flags.add(PassesOptions::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(
        const PassesOptions options,
        PassesOptions::schema().parse(flags_->given(PassesOptions::schema().specs()), diagnostics));
    if (options.manual) return console.print(commands_markdown());
    if (options.markdown) return console.print(markdown());
    if (!name_.empty()) {
      const PassInfo* pass = builtin_passes().find(name_);
      if (pass == nullptr) return builtin_passes().unknown(name_, {});
      return console.print(options.json ? result_json(passes_datum({pass})) : page(*pass));
    }
    if (options.json) return console.print(result_json(passes_datum(builtin_passes().all())));
    std::string text;
    for (const PassInfo* pass : builtin_passes().all()) {
      std::string name(pass->name);
      name.resize(std::max<std::size_t>(name.size() + 2, 24), ' ');
      text += name + std::string(pass->summary) + "\n";
    }
    return console.print(text);
  }

 private:
  Flags* flags_ = nullptr;
  std::string name_;
};

}  // namespace

std::unique_ptr<Command> make_passes() { return std::make_unique<Passes>(); }

}  // namespace mcompress::tools
