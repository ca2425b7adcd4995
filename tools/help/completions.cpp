// completions: scripts for shells, made from the same declarations as --help.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "help/pages.h"
#include "help/topics.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

std::string joined(const std::vector<std::string>& words, std::string_view between = " ") {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : std::string(between)) + word;
  return text;
}

// In single quotes, for bash and zsh.
std::string sh_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// fish knows two escapes within single quotes.
std::string fish_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') result += '\\';
    result += c;
  }
  return result + "'";
}

std::string names_of(const CommandInfo& info, std::string_view between) {
  std::string text(info.name);
  if (!info.alias.empty()) text += std::string(between) + std::string(info.alias);
  return text;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names = {"help"};
  for (const CommandInfo& command : all_commands()) {
    names.emplace_back(command.name);
    if (!command.alias.empty()) names.emplace_back(command.alias);
  }
  return names;
}

// One line, at the first end of a sentence or clause: lists of a shell are narrow.
std::string brief(std::string_view text) {
  return std::string(text.substr(0, std::min(text.find(" ("), text.find("; "))));
}

// ----------------------------------------------------------------------------------------- bash

// "w": words, "f": files, "d": folders, "l": words with commas.
std::string bash_kind(const ValueHint& hint) {
  std::string kind;
  if (!hint.words.empty()) kind += "w";
  if (hint.files) kind += "f";
  if (hint.folders) kind += "d";
  if (hint.list && !hint.words.empty()) kind += "l";
  return kind.empty() ? "-" : kind;
}

std::string bash_case(const std::string& pattern, const ValueHint& hint) {
  return "    " + pattern + ") kind=" + bash_kind(hint) +
         " words=" + sh_quoted(joined(hint.words)) + " ;;\n";
}

std::string bash_script(const std::vector<CommandPage>& pages) {
  std::string flags, values, arguments;
  for (const CommandPage& page : pages) {
    std::vector<std::string> names;
    std::map<std::string, std::pair<std::string, ValueHint>> hints;  // by what they complete
    for (const FlagPage& flag : page.flags) {
      names.insert(names.end(), flag.names.begin(), flag.names.end());
      if (flag.value.empty()) continue;
      auto& [pattern, hint] = hints[bash_kind(flag.hint) + joined(flag.hint.words)];
      for (const std::string& name : flag.names) {
        pattern += (pattern.empty() ? "" : "|") + std::string(page.info->name) + ":" + name;
      }
      hint = flag.hint;
    }
    flags += "    " + names_of(*page.info, "|") + ") flags=" + sh_quoted(joined(names)) + " ;;\n";
    for (const auto& [key, entry] : hints) values += bash_case(entry.first, entry.second);
    for (std::size_t i = 0; i < page.arguments.size(); ++i) {
      arguments += bash_case(std::string(page.info->name) + ":" + std::to_string(i + 1),
                             page.arguments[i].hint);
    }
  }
  std::string aliases;
  for (const CommandPage& page : pages) {
    if (page.info->alias.empty()) continue;
    aliases += "    " + std::string(page.info->alias) +
               ") command=" + std::string(page.info->name) + " ;;\n";
  }
  std::string text =
      "# bash completion of mcompress, printed by `mcompress completions bash`.\n\n"
      "# Flags of command $1.\n_mcompress_flags() {\n  case $1 in\n" +
      flags +
      "    *) flags= ;;\n  esac\n}\n\n"
      "# What may follow flag $2 of command $1, or stand as its argument number $2; fails for a\n"
      "# flag that takes no value.\n_mcompress_value() {\n  case $1:$2 in\n" +
      values + arguments + "    help:1) kind=w words=" + sh_quoted(joined(help_subjects())) +
      " ;;\n    *) return 1 ;;\n  esac\n}\n\n";
  text += "_mcompress() {\n  local commands=" + sh_quoted(joined(command_names())) + "\n";
  text +=
      R"(  local cur=${COMP_WORDS[COMP_CWORD]} flag= command= before= lead= i word kind words flags
  local position=1 skip=0
  COMPREPLY=()
  # The command, and how many arguments stand before the cursor. "--flag=value" may be three words.
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    if [[ -z $command ]]; then
      command=$word
      case $command in
)" + aliases +
      R"(      esac
    elif [[ $word == = ]]; then
      skip=1
    elif ((skip)); then
      skip=0
    elif [[ $word == -?* ]]; then
      if [[ $word != *=* ]] && _mcompress_value "$command" "$word"; then skip=1; fi
    else
      ((++position))
    fi
  done
  if [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "$commands --help --version" -- "$cur"))
    return
  fi
  before=${COMP_WORDS[COMP_CWORD - 1]}
  if [[ $cur == = ]]; then
    flag=$before cur=
  elif [[ $before == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $cur == --*=* ]]; then
    flag=${cur%%=*} lead=$flag= cur=${cur#*=}
  elif ((skip)); then
    flag=$before
  elif [[ $cur == -* ]]; then
    _mcompress_flags "$command"
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    return
  fi
  _mcompress_value "$command" "${flag:-$position}" || return
  if [[ $kind == *l* && $cur == *,* ]]; then
    lead=$lead${cur%,*}, cur=${cur##*,}
  fi
  local IFS=$'\n'
  if [[ $kind == *w* ]]; then
    IFS=$' \n'
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    IFS=$'\n'
    [[ $kind == *l* ]] && compopt -o nospace 2>/dev/null
  fi
  if [[ $kind == *f* ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen -f -- "$cur"))
  elif [[ $kind == *d* ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen -d -- "$cur"))
  fi
  if [[ -n $lead ]]; then COMPREPLY=("${COMPREPLY[@]/#/$lead}"); fi
}

complete -F _mcompress mcompress
)";
  return text;
}

// ------------------------------------------------------------------------------------------ zsh

// Text within an argument specification of _arguments.
std::string zsh_text(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

// Actions for values, functions where one is not enough.
class ZshActions {
 public:
  std::string of(const ValueHint& hint) {
    if (hint.words.empty()) return hint.files ? "_files" : hint.folders ? "_files -/" : " ";
    if (!hint.list && !hint.files && !hint.folders) return "(" + joined(hint.words) + ")";
    std::string body = hint.list ? "  _sequence compadd - " + joined(hint.words) + "\n"
                                 : "  compadd - " + joined(hint.words) + "\n";
    if (hint.files) body += "  _files\n";
    if (hint.folders) body += "  _files -/\n";
    const auto [place, added] =
        names_.try_emplace(body, "_mcompress_values_" + std::to_string(names_.size() + 1));
    if (added) functions_ += place->second + "() {\n" + body + "}\n\n";
    return place->second;
  }
  const std::string& functions() const { return functions_; }

 private:
  std::map<std::string, std::string> names_;
  std::string functions_;
};

std::string zsh_flag(const FlagPage& flag, ZshActions& actions) {
  const std::string rest =
      "[" + zsh_text(brief(flag.help)) + "]" +
      (flag.value.empty() ? "" : ":" + zsh_text(flag.value) + ":" + actions.of(flag.hint));
  std::string text;
  for (const std::string& name : flag.names) {
    std::string spec;
    if (flag.repeatable) {
      spec = "*";
    } else if (flag.names.size() > 1) {
      spec = "(" + joined(flag.names) + ")";
    }
    spec += name;
    if (!flag.value.empty()) spec += name.starts_with("--") ? "=" : "+";
    text += " \\\n        " + sh_quoted(spec + rest);
  }
  return text;
}

std::string zsh_script(const std::vector<CommandPage>& pages) {
  ZshActions actions;
  std::string commands, cases;
  for (const CommandPage& page : pages) {
    commands += "    " +
                sh_quoted(std::string(page.info->name) + ":" + zsh_text(page.info->summary)) + "\n";
    if (!page.info->alias.empty()) {
      commands += "    " +
                  sh_quoted(std::string(page.info->alias) + ":" + zsh_text(page.info->summary)) +
                  "\n";
    }
    cases += "    " + names_of(*page.info, "|") + ")\n      _arguments -s";
    for (const FlagPage& flag : page.flags) cases += zsh_flag(flag, actions);
    for (std::size_t i = 0; i < page.arguments.size(); ++i) {
      const ArgumentPage& argument = page.arguments[i];
      cases +=
          " \\\n        " + sh_quoted(std::to_string(i + 1) + (argument.required ? ":" : "::") +
                                      zsh_text(argument.name) + ":" + actions.of(argument.hint));
    }
    cases += "\n      ;;\n";
  }
  return "#compdef mcompress\n# zsh completion of mcompress, printed by `mcompress completions "
         "zsh`.\n\n" +
         actions.functions() +
         "_mcompress() {\n  local curcontext=$curcontext state line\n  typeset -A opt_args\n"
         "  local -a commands=(\n    'help:a command or a topic'\n" +
         commands +
         "  )\n  _arguments -C '(- *)'{-h,--help}'[commands and topics]' "
         "'(- *)--version[the version]' \\\n    '1:command:->command' '*::argument:->argument'\n"
         "  case $state in\n  command)\n    _describe -t commands command commands\n    return\n"
         "    ;;\n  argument) ;;\n  *) return ;;\n  esac\n  case $words[1] in\n    help)\n"
         "      _arguments " +
         sh_quoted("1:TOPIC:(" + joined(help_subjects()) + ")") + "\n      ;;\n" + cases +
         "  esac\n}\n\n# Loaded from a folder of $fpath this file is the function itself.\n"
         "if [[ $funcstack[1] == _mcompress ]]; then\n  _mcompress \"$@\"\nelse\n"
         "  compdef _mcompress mcompress\nfi\n";
}

// ----------------------------------------------------------------------------------------- fish

std::string fish_hint(const ValueHint& hint) {
  std::string text;
  if (hint.list && !hint.words.empty()) {
    // fish completes the whole token: what stands before the last comma goes in front.
    text = " -a " + fish_quoted("(__mcompress_list " + joined(hint.words) + ")");
  } else if (!hint.words.empty()) {
    text = " -a " + fish_quoted(joined(hint.words));
  }
  if (hint.folders) text += " -a '(__fish_complete_directories)'";
  return text + (hint.files ? " -F" : " -f");
}

std::string fish_script(const std::vector<CommandPage>& pages) {
  std::string text = R"(# fish completion of mcompress, printed by `mcompress completions fish`.

# Is the command one of these?
function __mcompress_command
    set -l tokens (commandline -opc)
    test (count $tokens) -ge 2; and contains -- $tokens[2] $argv
end

# Is the command $argv[2..] and its argument number $argv[1] at the cursor? Flags that take a value
# are followed by it.
function __mcompress_argument
    set -l tokens (commandline -opc)
    test (count $tokens) -ge 2; or return 1
    contains -- $tokens[2] $argv[2..-1]; or return 1
    set -l position 1
    set -l skip 0
    for token in $tokens[3..-1]
        if test $skip = 1
            set skip 0
        else if string match -q -- '-*' $token
            if not string match -q -- '*=*' $token; and contains -- $token (__mcompress_value_flags $tokens[2])
                set skip 1
            end
        else
            set position (math $position + 1)
        end
    end
    test $position = $argv[1]
end

function __mcompress_list
    set -l token (commandline -ct)
    set -l lead (string replace -r '^--[^=]*=' '' -- $token | string replace -r '[^,]*$' '')
    for word in $argv
        echo $lead$word
    end
end

function __mcompress_value_flags
    switch $argv[1]
)";
  for (const CommandPage& page : pages) {
    text += "        case " + names_of(*page.info, " ") + "\n            printf '%s\\n' " +
            joined(value_flags(page)) + "\n";
  }
  text += "    end\nend\n\n";
  text +=
      "complete -c mcompress -f\n"
      "complete -c mcompress -n __fish_use_subcommand -s h -l help -d 'commands and topics'\n"
      "complete -c mcompress -n __fish_use_subcommand -l version -d 'the version'\n"
      "complete -c mcompress -n __fish_use_subcommand -a help -d 'a command or a topic'\n"
      "complete -c mcompress -n '__mcompress_argument 1 help' -a " +
      fish_quoted(joined(help_subjects())) + "\n";
  for (const CommandPage& page : pages) {
    const std::string names = names_of(*page.info, " ");
    text += "\n";
    for (const std::string_view name : {page.info->name, page.info->alias}) {
      if (name.empty()) continue;
      text += "complete -c mcompress -n __fish_use_subcommand -a " + std::string(name) + " -d " +
              fish_quoted(page.info->summary) + "\n";
    }
    const std::string of_command = "complete -c mcompress -n '__mcompress_command " + names + "'";
    for (const FlagPage& flag : page.flags) {
      text += of_command;
      for (const std::string& name : flag.names) {
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (!flag.value.empty()) text += " -r" + fish_hint(flag.hint);
      text += " -d " + fish_quoted(brief(flag.help)) + "\n";
    }
    for (std::size_t i = 0; i < page.arguments.size(); ++i) {
      text += "complete -c mcompress -n '__mcompress_argument " + std::to_string(i + 1) + " " +
              names + "'" + fish_hint(page.arguments[i].hint) + "\n";
    }
  }
  return text;
}

// -------------------------------------------------------------------------------------- command

struct CompletionsOptions {
  std::string output;

  static const Schema<CompletionsOptions>& schema() {
    static const Schema<CompletionsOptions> kSchema =
        Schema<CompletionsOptions>()
            .field("output", &CompletionsOptions::output, "a file instead of standard output")
            .unit("FILE");
    return kSchema;
  }
};

class Completions final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("SHELL", shell_, "bash, zsh or fish")->required()->type_name("");
    flags.add(CompletionsOptions::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = CompletionsOptions::schema();
    MCOMPRESS_ASSIGN(const CompletionsOptions options,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    std::string text;
    if (shell_ == "bash") {
      text = bash_script(command_pages());
    } else if (shell_ == "zsh") {
      text = zsh_script(command_pages());
    } else if (shell_ == "fish") {
      text = fish_script(command_pages());
    } else {
      const std::vector<std::string> known = {"bash", "fish", "zsh"};
      const std::string close = nearest_name(shell_, known);
      return Error(Code::kUsage, "unknown-shell", "no completions for '" + shell_ + "'", {},
                   close.empty() ? "there are some for bash, zsh and fish"
                                 : "did you mean '" + close + "'?");
    }
    return options.output.empty() ? console.print(text) : write_file(options.output, text);
  }

 private:
  Flags* flags_ = nullptr;
  std::string shell_;
};

}  // namespace

std::unique_ptr<Command> make_completions() { return std::make_unique<Completions>(); }

}  // namespace mcompress::tools
