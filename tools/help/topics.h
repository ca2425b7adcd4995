// What `mcompress help TOPIC` explains beside the commands.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mcompress::tools {

struct HelpTopic {
  std::string_view name;
  std::string_view summary;  // one line
  std::string (*text)();
};

// In the order of the list. A topic may share its name with a command: then it follows its flags.
std::span<const HelpTopic> help_topics();
const HelpTopic* find_topic(std::string_view name);

// The list, as `mcompress help` shows it.
std::string topics_text();

}  // namespace mcompress::tools
