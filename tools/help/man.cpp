// man: manual pages in the macros of man(7), made from the same declarations as --help.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "help/pages.h"
#include "help/topics.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

// Text as it is. Dashes are written so that they can be copied into a shell; a dot or an
// apostrophe at the start of a line would be a request.
std::string troff(std::string_view text) {
  std::string result;
  bool start = true;
  for (const char c : text) {
    if (start && (c == '.' || c == '\'')) result += "\\&";
    start = c == '\n';
    switch (c) {
      case '\\':
        result += "\\e";
        break;
      case '-':
        result += "\\-";
        break;
      case '\'':
        result += "\\(aq";
        break;
      case '`':
        result += "\\(ga";
        break;
      case '|':
        result += "|\\:";  // a list of values may be broken here
        break;
      case '^':
        result += "\\(ha";
        break;
      case '~':
        result += "\\(ti";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string upper(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

// Not justified: names of flags and values can not be broken.
std::string title(const std::string& name) {
  return ".\\\" Printed by `mcompress man`.\n.TH " + troff(upper(name)) + " 1 \"\" \"mcompress " +
         std::string(kVersion) + "\" \"User Commands\"\n.ad l\n.SH NAME\n" + troff(name) + " \\- ";
}

// Paragraphs that keep their lines.
std::string literal(std::string_view text) {
  std::string result = ".nf\n.ft CR\n" + troff(text);
  if (!result.ends_with('\n')) result += '\n';
  return result + ".ft R\n.fi\n";
}

std::string tagged(const std::string& tag, std::string_view text) {
  return ".TP\n" + tag + "\n" + troff(text) + "\n";
}

std::string tag_of(const FlagPage& flag) {
  std::string tag;
  for (const std::string& name : flag.names) {
    tag += (tag.empty() ? "" : ", ") + ("\\fB" + troff(name) + "\\fR");
  }
  if (!flag.value.empty()) tag += " \\fI" + troff(flag.value) + "\\fR";
  return tag;
}

std::string flags_text(const CommandPage& page) {
  std::vector<std::string> groups;
  for (const FlagPage& flag : page.flags) {
    if (std::find(groups.begin(), groups.end(), flag.group) == groups.end()) {
      groups.push_back(flag.group);
    }
  }
  // As in --help: what is common to all commands comes last.
  std::stable_partition(groups.begin(), groups.end(),
                        [](const std::string& group) { return group != "Messages"; });
  std::string text = ".SH OPTIONS\n";
  for (const std::string& group : groups) {
    text += ".SS " + troff(group) + "\n";
    for (const FlagPage& flag : page.flags) {
      if (flag.group == group) text += tagged(tag_of(flag), flag.help);
    }
  }
  return text;
}

std::string see_also(std::string_view own) {
  std::string text = ".SH SEE ALSO\n";
  std::vector<std::string> names = {"mcompress"};
  for (const CommandInfo& command : all_commands()) {
    if (command.name != own) names.push_back("mcompress-" + std::string(command.name));
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += ".BR " + troff(names[i]) + (i + 1 < names.size() ? " (1),\n" : " (1)\n");
  }
  return text;
}

// "exit-codes" is "EXIT CODES".
std::string section_of(const HelpTopic& topic) {
  std::string name = upper(std::string(topic.name));
  std::replace(name.begin(), name.end(), '-', ' ');
  return ".SH " + name + "\n" + literal(topic.text());
}

std::string command_page(const CommandPage& page) {
  const std::string name(page.info->name);
  std::string text = title("mcompress-" + name) + troff(page.info->summary) + "\n";
  text += ".SH SYNOPSIS\n.B mcompress " + troff(name) + "\n" + troff(page.info->usage) + "\n";
  if (!page.info->alias.empty()) {
    text += ".SH DESCRIPTION\n.B mcompress " + troff(page.info->alias) + "\nis the same.\n";
  }
  if (!page.arguments.empty()) {
    text += ".SH ARGUMENTS\n";
    for (const ArgumentPage& argument : page.arguments) {
      text += tagged("\\fI" + troff(argument.name) + "\\fR", argument.help);
    }
  }
  text += flags_text(page);
  if (const HelpTopic* topic = find_topic(name)) text += section_of(*topic);
  text += section_of(*find_topic("exit-codes"));
  text += ".SH EXAMPLES\n" + literal(page.info->example);
  return text + see_also(name);
}

std::string main_page(const std::vector<CommandPage>& pages) {
  std::string text = title("mcompress") +
                     "makes ONNX models smaller and faster, and proves the result\n"
                     ".SH SYNOPSIS\n.B mcompress\n\\fICOMMAND\\fR [\\fIarguments\\fR] "
                     "[\\fIflags\\fR]\n.br\n.B mcompress help\n[\\fICOMMAND\\fR|\\fITOPIC\\fR]\n"
                     ".SH COMMANDS\n";
  for (const CommandPage& page : pages) {
    text += tagged("\\fB" + troff(page.info->name) + "\\fR " + troff(page.info->usage),
                   page.info->summary);
  }
  for (const HelpTopic& topic : help_topics()) text += section_of(topic);
  return text + see_also("");
}

struct ManOptions {
  std::string output;

  static const Schema<ManOptions>& schema() {
    static const Schema<ManOptions> kSchema =
        Schema<ManOptions>()
            .field("output", &ManOptions::output, "write all pages into this folder")
            .unit("FOLDER");
    return kSchema;
  }
};

class Man final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("COMMAND", name_, "the page of one command")->type_name("");
    flags.add(ManOptions::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = ManOptions::schema();
    MCOMPRESS_ASSIGN(const ManOptions options,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    const std::vector<CommandPage> pages = command_pages();
    if (!options.output.empty()) {
      if (!name_.empty()) {
        return Error(Code::kUsage, "unexpected-argument", "unexpected argument '" + name_ + "'", {},
                     "-o writes all pages");
      }
      return write_all(options.output, pages);
    }
    if (name_.empty()) return console.print(main_page(pages));
    std::vector<std::string> names;
    for (const CommandPage& page : pages) {
      if (page.info->name == name_ || page.info->alias == name_) {
        return console.print(command_page(page));
      }
      names.emplace_back(page.info->name);
    }
    const std::string close = nearest_name(name_, names);
    return Error(Code::kUsage, "unknown-command", "unknown command '" + name_ + "'", {},
                 close.empty() ? "`mcompress --help` lists them" : "did you mean '" + close + "'?");
  }

 private:
  static Status write_all(const std::string& folder, const std::vector<CommandPage>& pages) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      return Error(Code::kOutput, "folder-not-made", "can not be made: " + error.message(),
                   {folder, {}, {}});
    }
    const auto write = [&](std::string_view command, std::string_view text) {
      const std::string name = "mcompress" + (command.empty() ? "" : "-" + std::string(command));
      return write_file(fs::path(folder) / (name + ".1"), text);
    };
    MCOMPRESS_TRY(write("", main_page(pages)));
    for (const CommandPage& page : pages) {
      MCOMPRESS_TRY(write(page.info->name, command_page(page)));
      if (page.info->alias.empty()) continue;
      MCOMPRESS_TRY(
          write(page.info->alias, ".so man1/mcompress-" + std::string(page.info->name) + ".1\n"));
    }
    return ok_status();
  }

  Flags* flags_ = nullptr;
  std::string name_;
};

}  // namespace

std::unique_ptr<Command> make_man() { return std::make_unique<Man>(); }

}  // namespace mcompress::tools
