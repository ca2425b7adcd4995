// Commands and how one is chosen.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bind.h"
#include "console.h"
#include "mcompress/status.h"

namespace mcompress::tools {

class Command {
 public:
  virtual ~Command() = default;
  // Declares arguments and flags; both outlive run().
  virtual void declare(CLI::App& app, Flags& flags) = 0;
  virtual Status run(Console& console) = 0;
};

struct CommandInfo {
  std::string_view name;
  std::string_view alias;
  std::string_view usage;    // what follows the name: "MODEL -o OUT [flags]"
  std::string_view summary;  // one line
  std::string_view example;
  std::unique_ptr<Command> (*make)();
};

std::unique_ptr<Command> make_inspect();
std::unique_ptr<Command> make_diff();
std::unique_ptr<Command> make_optimize();
std::unique_ptr<Command> make_calibrate();
std::unique_ptr<Command> make_drift();
std::unique_ptr<Command> make_cluster();
std::unique_ptr<Command> make_convert_opset();
std::unique_ptr<Command> make_quantize();
std::unique_ptr<Command> make_factorize();
std::unique_ptr<Command> make_tables();
std::unique_ptr<Command> make_prune();
std::unique_ptr<Command> make_pack();
std::unique_ptr<Command> make_unpack();
std::unique_ptr<Command> make_run();
std::unique_ptr<Command> make_plan();
std::unique_ptr<Command> make_apply();
std::unique_ptr<Command> make_explain();
std::unique_ptr<Command> make_batch();
std::unique_ptr<Command> make_report();
std::unique_ptr<Command> make_search();
std::unique_ptr<Command> make_sensitivity();
std::unique_ptr<Command> make_eval();
std::unique_ptr<Command> make_compare();
std::unique_ptr<Command> make_bench();
std::unique_ptr<Command> make_gate();
std::unique_ptr<Command> make_passes();
std::unique_ptr<Command> make_targets();
std::unique_ptr<Command> make_schema();
std::unique_ptr<Command> make_completions();
std::unique_ptr<Command> make_man();

// In the order of the help text.
std::span<const CommandInfo> all_commands();

// Runs the command line; the exit status.
int run_command_line(std::span<const std::string> arguments, Console& console);

// The manual page of every command in Markdown, for docs/manual.md.
std::string commands_markdown();

}  // namespace mcompress::tools
