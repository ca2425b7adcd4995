#include "passes/common/kernel_names.h"

#include <cctype>

namespace mcompress {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// Not a part of a longer word.
bool holds_name(std::string_view text, std::string_view name) {
  for (std::size_t at = text.find(name); at != std::string_view::npos;
       at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if ((at == 0 || !is_word(text[at - 1]) || !is_word(name.front())) &&
        (end == text.size() || !is_word(text[end]) || !is_word(name.back()))) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool holds_kernels(std::string_view op_type) {
  return op_type == "If" || op_type == "Loop" || op_type == "Scan";
}

std::optional<std::size_t> place_of_kernel(
    const std::map<std::string, std::size_t, std::less<>>& places, std::string_view kernel) {
  const auto same = places.find(kernel);
  if (same != places.end()) return same->second;
  std::size_t longest = 0;
  std::optional<std::size_t> found;
  for (const auto& [name, place] : places) {
    if (name.size() <= longest || name.size() > kernel.size() || !holds_name(kernel, name)) {
      continue;
    }
    longest = name.size(), found = place;
  }
  return found;
}

}  // namespace mcompress
