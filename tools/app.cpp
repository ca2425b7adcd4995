#include "app.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "help/pages.h"
#include "help/topics.h"
#include "mcompress/host.h"
#include "mcompress/options.h"
#include "mcompress/version.h"
#include "try.h"

namespace mcompress::tools {
namespace {

struct MessageOptions {
  bool quiet = false;
  bool verbose = false;
  std::string log_format = "text";
  std::string progress = "auto";

  static const Schema<MessageOptions>& schema() {
    static const Schema<MessageOptions> kSchema =
        Schema<MessageOptions>()
            .field("quiet", &MessageOptions::quiet, "only errors on stderr")
            .field("verbose", &MessageOptions::verbose, "notes and details too")
            .field("log-format", &MessageOptions::log_format,
                   "messages as text, or as one JSON object per line")
            .choices({"text", "json"})
            .field("progress", &MessageOptions::progress,
                   "a progress line: auto shows it on a terminal")
            .choices({"auto", "always", "never"});
    return kSchema;
  }
};

constexpr auto kCommands = std::to_array<CommandInfo>({
    {"inspect", "", "MODEL [--json | --dump]", "what a model holds, computes and keeps in memory",
     "mcompress inspect model.onnx", make_inspect},
    {"optimize", "fuse", "MODEL -o OUT", "clean and fuse, arithmetic unchanged",
     "mcompress optimize model.onnx -o clean.onnx", make_optimize},
    {"quantize", "", "MODEL -o OUT [--calib DATA]", "8-bit integers: static, dynamic, weight-only",
     "mcompress quantize model.onnx -o int8.onnx --calib calib.npz --eval labelled.npz",
     make_quantize},
    {"factorize", "", "MODEL -o OUT [--calib DATA]", "large matrices as products of two thin ones",
     "mcompress factorize model.onnx -o thin.onnx --calib calib.npz --keep 0.8", make_factorize},
    {"tables", "", "MODEL -o OUT [--calib DATA]",
     "embedding tables as fewer rows, bits or thin products",
     "mcompress tables model.onnx -o small.onnx --calib ids.npz --tables hash --table-keep 0.25",
     make_tables},
    {"prune", "", "MODEL -o OUT [--calib DATA]",
     "zeros in weights; channels, heads and blocks that go",
     "mcompress prune model.onnx -o sparse.onnx --sparsity 0.5 --calib calib.npz", make_prune},
    {"pack", "", "MODEL -o OUT [--form archive|onnx]", "entropy coding, bit-exact back",
     "mcompress pack model.onnx -o model.mca", make_pack},
    {"unpack", "", "ARCHIVE -o OUT", "a packed model back, byte for byte",
     "mcompress unpack model.mca -o model.onnx", make_unpack},
    {"cluster", "", "MODEL -o OUT [--bits N]", "a codebook for each weight, indices of 1 to 8 bits",
     "mcompress cluster model.onnx -o clustered.onnx --bits 4 --calib calib.npz", make_cluster},
    {"calibrate", "", "MODEL --calib DATA -o TABLE", "the statistics static quantization needs",
     "mcompress calibrate model.onnx --calib calib.npz -o table.json", make_calibrate},
    {"sensitivity", "", "MODEL --calib DATA [--eval DATA] [-o FILE]",
     "what each layer alone in integers does to the outputs",
     "mcompress sensitivity model.onnx --calib calib.npz --min-sqnr 30 -o exclude.txt",
     make_sensitivity},
    {"search", "", "MODEL -o OUT --calib DATA --eval DATA --max-size-ratio R",
     "a form for each layer, so that limits of size, quality and time hold together",
     "mcompress search model.onnx -o small.onnx --calib calib.npz --eval eval.npz "
     "--max-size-ratio 0.15",
     make_search},
    {"drift", "", "MODEL TABLE --data NEW", "which calibrated ranges new data leave",
     "mcompress drift model.onnx table.json --data new.npz --max-psi 0.25", make_drift},
    {"eval", "", "MODEL --data DATA", "quality on labelled data, agreement with another model",
     "mcompress eval int8.onnx --data labelled.npz --against model.onnx", make_eval},
    {"compare", "", "REF MODEL --data DATA", "error of each output against a reference",
     "mcompress compare model.onnx int8.onnx --data calib.npz", make_compare},
    {"diff", "", "A B [--json]", "what differs between two models, node by node",
     "mcompress diff model.onnx int8.onnx", make_diff},
    {"bench", "", "MODEL [--against REF]", "latency, interleaved with a reference",
     "mcompress bench int8.onnx --against model.onnx", make_bench},
    {"gate", "", "MODEL --baseline FILE [--reference REF] [--eval DATA]",
     "a committed baseline still holds, or exit with 5",
     "mcompress gate int8.onnx --baseline gate.json --reference model.onnx --eval labelled.npz",
     make_gate},
    {"convert-opset", "", "MODEL -o OUT --to N", "the same in a newer or older operator set",
     "mcompress convert-opset model.onnx -o older.onnx --to 13", make_convert_opset},
    {"run", "", "RECIPE [MODEL] -o OUT", "a recipe of your own: passes, options, target, parts",
     "mcompress run recipe.yaml model.onnx -o out.onnx", make_run},
    {"plan", "", "RECIPE MODEL [-o PLAN] [--calib DATA]",
     "what a recipe would do to each tensor, as a file to edit",
     "mcompress plan smallest-file model.onnx -o plan.yaml", make_plan},
    {"apply", "", "PLAN MODEL -o OUT [--calib DATA]", "a plan, as it was edited, or no result",
     "mcompress apply plan.yaml model.onnx -o out.onnx", make_apply},
    {"explain", "", "MODEL [--recipe RECIPE|PLAN] [--tensor GLOB]",
     "why each tensor is, or would be, compressed or not",
     "mcompress explain model.onnx --recipe server-int8 --calib calib.npz", make_explain},
    {"batch", "", "MODELS RECIPE -o FOLDER", "a recipe over many models, resumed where it stopped",
     "mcompress batch zoo/ server-int8 -o small/ --jobs 4", make_batch},
    {"report", "", "INPUT... -o report.html [--reference BASE]",
     "a page with plots of a run, several runs or a batch",
     "mcompress report int8.onnx --reference model.onnx --run-report r.json -o report.html",
     make_report},
    {"passes", "", "[NAME] [--markdown]", "reference of passes and their options",
     "mcompress passes quantize-static", make_passes},
    {"targets", "", "[NAME|FILE] [--json]",
     "what runtimes execute in integers, slowly or not at all", "mcompress targets onnxruntime-cpu",
     make_targets},
    {"schema", "", "NAME | --list", "JSON Schemas of --json, reports and recipes",
     "mcompress schema recipe", make_schema},
    {"completions", "", "bash|zsh|fish [-o FILE]", "a script that completes command lines",
     "mcompress completions bash", make_completions},
    {"man", "", "[COMMAND | -o FOLDER]", "manual pages", "mcompress man quantize", make_man},
});

std::string overview() {
  std::string text = "mcompress " + std::string(kVersion) +
                     ": makes ONNX models smaller and faster, and proves the result\n\n"
                     "Usage: mcompress COMMAND [arguments] [flags]\n\nCommands:\n";
  for (const CommandInfo& command : kCommands) {
    std::string name(command.name);
    if (!command.alias.empty()) name += ", " + std::string(command.alias);
    name.resize(std::max<std::size_t>(name.size() + 2, 18), ' ');
    text += "  " + name + std::string(command.summary) + '\n';
  }
  text += "\nTopics, by `mcompress help TOPIC`:\n" + topics_text();
  text +=
      "\n`mcompress COMMAND --help` shows its flags, `mcompress --version` the version.\n"
      "Exit status: 0 done, 1 usage, 2 bad input, 3 not supported, 4 output not written,\n"
      "5 gate missed, 70 internal error, 130 interrupted.\n";
  return text;
}

Error usage_error(std::string_view id, std::string message, Location where = {},
                  std::string hint = {}) {
  return Error(Code::kUsage, id, std::move(message), std::move(where), std::move(hint));
}

std::string meant(std::string_view wrong, const std::vector<std::string>& known,
                  std::string_view otherwise) {
  const std::string close = nearest_name(wrong, known);
  return close.empty() ? std::string(otherwise) : "did you mean '" + close + "'?";
}

const CommandInfo* find_command(std::string_view name) {
  for (const CommandInfo& command : kCommands) {
    if (command.name == name || (!command.alias.empty() && command.alias == name)) {
      return &command;
    }
  }
  return nullptr;
}

Error unknown_command(const std::string& name) {
  std::vector<std::string> names;
  for (const CommandInfo& command : kCommands) {
    names.emplace_back(command.name);
    if (!command.alias.empty()) names.emplace_back(command.alias);
  }
  return usage_error("unknown-command", "unknown command '" + name + "'", {},
                     meant(name, names, "`mcompress --help` lists them"));
}

Error unknown_argument(const std::string& text, const CommandInfo& command, const Flags& flags) {
  const std::string help = "`mcompress " + std::string(command.name) + " --help` lists its flags";
  if (text.empty() || text[0] != '-') {
    return usage_error(
        "unexpected-argument", "unexpected argument '" + text + "'", {},
        "usage: mcompress " + std::string(command.name) + " " + std::string(command.usage));
  }
  const std::string flag = text.substr(0, text.find('='));
  return usage_error("unknown-flag", "unknown flag", {{}, flag, {}},
                     meant(flag, flags.names(), help));
}

constexpr std::size_t kHelpColumn = 34;
constexpr std::size_t kHelpWidth = 100;

// CLI11 leaves long descriptions on one line.
std::string wrapped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    std::string line(text.substr(0, end));
    text.remove_prefix(end + 1);
    std::size_t start = line.find_first_not_of(' ');
    if (start == std::string::npos) start = 0;
    if (line.size() > kHelpColumn && line[kHelpColumn - 1] == ' ') start = kHelpColumn;
    if (line.size() > kHelpWidth && start <= kHelpColumn) {
      line = line.substr(0, start) + wrap_text(line.substr(start), kHelpWidth, start).substr(start);
    }
    if (line.empty() && result.ends_with("\n\n")) continue;
    result += line + '\n';
  }
  return result;
}

// One command with its parser.
class Invocation {
 public:
  explicit Invocation(const CommandInfo& info)
      : info_(info),
        app_(std::string(info.summary), "mcompress " + std::string(info.name)),
        flags_(app_),
        command_(info.make()) {
    app_.allow_extras();
    app_.set_help_flag("-h,--help", "this text");
    app_.option_defaults()->take_last();
    app_.footer("Example:\n  " + std::string(info.example) + "\n");
    app_.get_formatter()->column_width(kHelpColumn);
    app_.get_help_ptr()->group("Messages");
    command_->declare(app_, flags_);
    flags_.add(MessageOptions::schema().specs(), "Messages");
  }

  CommandPage page() const { return page_of(info_, app_, flags_); }

  std::string help() {
    // CLI11's own usage line knows neither the order nor what goes together.
    std::string text = app_.help();
    for (const std::string_view value : {"{true}", "{false}"}) {
      for (std::size_t at = text.find(value); at != std::string::npos; at = text.find(value)) {
        text.erase(at, value.size());
      }
    }
    const std::string usage = "Usage: ";
    const std::size_t line = text.find(usage);
    if (line != std::string::npos) {
      text.replace(line, text.find('\n', line) - line,
                   usage + "mcompress " + std::string(info_.name) + " " + std::string(info_.usage));
    }
    return wrapped(text);
  }

  Status run(std::span<const std::string> arguments, Console& console) {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    std::optional<std::string> failure;
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::CallForHelp&) {
      return console.print(help());
    } catch (const CLI::ParseError& error) {
      failure = error.what();
    }
    MCOMPRESS_TRY(configure(console));
    const std::vector<std::string> extras = app_.remaining();
    if (!extras.empty()) return unknown_argument(extras.front(), info_, flags_);
    if (failure) {
      return usage_error(
          "bad-command-line", *failure, {},
          "usage: mcompress " + std::string(info_.name) + " " + std::string(info_.usage));
    }
    return command_->run(console);
  }

 private:
  Status configure(Console& console) {
    Diagnostics diagnostics;
    const Schema<MessageOptions>& schema = MessageOptions::schema();
    MCOMPRESS_ASSIGN(const MessageOptions given,
                     schema.parse(flags_.given(schema.specs()), diagnostics));
    ConsoleOptions options;
    options.quiet = given.quiet;
    options.verbose = given.verbose;
    options.json_log = given.log_format == "json";
    if (given.progress == "always") options.progress = ConsoleOptions::Progress::kAlways;
    if (given.progress == "never") options.progress = ConsoleOptions::Progress::kNever;
    console.configure(options);
    return ok_status();
  }

  const CommandInfo& info_;
  CLI::App app_;
  Flags flags_;
  std::unique_ptr<Command> command_;
};

// A command, a topic, or both.
Status help_on(const std::string& subject, Console& console) {
  const CommandInfo* command = find_command(subject);
  const HelpTopic* topic = find_topic(subject);
  if (command == nullptr && topic == nullptr) {
    return usage_error("unknown-topic", "no command or topic '" + subject + "'", {},
                       meant(subject, help_subjects(), "`mcompress help` lists them"));
  }
  std::string text = command != nullptr ? Invocation(*command).help() : std::string();
  if (topic != nullptr)
    text += (text.empty() || text.ends_with("\n\n") ? "" : "\n") + topic->text();
  return console.print(text);
}

Status dispatch(std::span<const std::string> arguments, Console& console) {
  if (arguments.empty()) {
    return usage_error("no-command", "a command is missing", {},
                       "`mcompress --help` lists the commands");
  }
  const std::string& name = arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    if (name == "help" && arguments.size() > 1) return help_on(arguments[1], console);
    return console.print(overview());
  }
  if (name == "--version") return console.print("mcompress " + std::string(kVersion) + "\n");
  const CommandInfo* command = find_command(name);
  if (command == nullptr) {
    if (!name.empty() && name[0] == '-') {
      return usage_error("unknown-flag", "unknown flag", {{}, name, {}},
                         "flags stand behind the command; `mcompress --help` lists the commands");
    }
    return unknown_command(name);
  }
  return Invocation(*command).run(arguments.subspan(1), console);
}

}  // namespace

std::span<const CommandInfo> all_commands() { return kCommands; }

int run_command_line(std::span<const std::string> arguments, Console& console) {
  const Status status = dispatch(arguments, console);
  if (status.ok()) return 0;
  console.error(status.error().diagnostic);
  return exit_status(status.error().code);
}

std::vector<CommandPage> command_pages() {
  std::vector<CommandPage> pages;
  pages.reserve(kCommands.size());
  for (const CommandInfo& command : kCommands) pages.push_back(Invocation(command).page());
  return pages;
}

std::string commands_markdown() {
  std::string text =
      "# Commands\n\nPrinted by `mcompress passes --manual` from the declarations the program is "
      "built from.\n";
  for (const CommandInfo& command : kCommands) {
    text += "\n## " + std::string(command.name) + "\n\n";
    text += "```text\n" + Invocation(command).help();
    while (text.ends_with("\n\n")) text.pop_back();
    text += "```\n";
  }
  return text;
}

}  // namespace mcompress::tools
