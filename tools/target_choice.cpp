#include "target_choice.h"

#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {

Result<TargetChoice> TargetChoice::of(const std::string& text, std::string_view flag) {
  TargetChoice choice;
  choice.builtin_ = find_target(text);
  if (choice.builtin_ != nullptr) return choice;
  if (!is_target_file(text)) return unknown_target(text, {{}, std::string(flag), {}});
  MCOMPRESS_ASSIGN(Target own, load_target(text));
  choice.own_ = std::make_shared<const Target>(std::move(own));
  return choice;
}

std::string TargetChoice::stamp() const {
  return target().name + " " + digest_text(target().digest());
}

}  // namespace mcompress::tools
