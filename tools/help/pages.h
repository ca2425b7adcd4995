// What a command takes, as data: the source of completions and manual pages. It is read off the
// parser of the command, so that it says what --help says.
#pragma once

#include <string>
#include <vector>

#include "app.h"

namespace mcompress::tools {

// What may stand in the place of an argument or of a flag's value.
struct ValueHint {
  std::vector<std::string> words;
  bool files = false, folders = false;
  bool list = false;  // several words with commas between them
};

struct ArgumentPage {
  std::string name, help;
  bool required = false;
  ValueHint hint;
};

struct FlagPage {
  std::vector<std::string> names;  // "-o", "--output"; the short one first
  std::string value;               // "FILE", "auto|static"; empty: takes none
  std::string help, group;
  bool repeatable = false;
  ValueHint hint;
};

struct CommandPage {
  const CommandInfo* info = nullptr;
  std::vector<ArgumentPage> arguments;
  std::vector<FlagPage> flags;  // hidden ones are left out
};

CommandPage page_of(const CommandInfo& info, const CLI::App& app, const Flags& flags);
// Of all commands, in the order of the help text. Defined where the parsers are made.
std::vector<CommandPage> command_pages();

// What can follow `mcompress help`: topics and commands.
std::vector<std::string> help_subjects();

// All of a command's flags that take a value, with their dashes.
std::vector<std::string> value_flags(const CommandPage& page);

}  // namespace mcompress::tools
