#include "runtime/messages.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <optional>
#include <utility>

namespace mcompress {
namespace {

constexpr std::size_t kMaxMessage = 600;
constexpr std::size_t kNone = std::string_view::npos;

bool contains(std::string_view text, std::string_view part) { return text.find(part) != kNone; }

// What stands between `open` and `close`, searched from `from` on.
std::optional<std::string_view> between(std::string_view text, std::string_view open,
                                        std::string_view close, std::size_t from = 0) {
  std::size_t start = text.find(open, from);
  if (start == kNone) return std::nullopt;
  start += open.size();
  const std::size_t end = text.find(close, start);
  if (end == kNone) return std::nullopt;
  return text.substr(start, end - start);
}

// The word that ends right before `position`, spaces skipped.
std::string_view word_before(std::string_view text, std::size_t position) {
  while (position > 0 && text[position - 1] == ' ') --position;
  std::size_t start = position;
  while (start > 0 && text[start - 1] != ' ') --start;
  return text.substr(start, position - start);
}

bool blank(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
bool digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// Past the parenthesis that closes the one at `open`; the end of the text when none does.
std::size_t past_closing(std::string_view text, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (text[i] == '(') ++depth;
    if (text[i] == ')' && --depth == 0) return i + 1;
  }
  return text.size();
}

std::size_t skip_blanks(std::string_view text, std::size_t at) {
  while (at < text.size() && blank(text[at])) ++at;
  return at;
}

// Removes "/path/file.cc:12 type onnxruntime::name(arguments) " or "file.cc:12 name ". The runtime
// puts it in front of its sentences; a user can do nothing with it.
bool remove_one_position(std::string& text) {
  for (const std::string_view ending : {".cc:", ".h:"}) {
    for (std::size_t dot = text.find(ending); dot != kNone; dot = text.find(ending, dot + 1)) {
      std::size_t at = dot + ending.size();
      if (at >= text.size() || !digit(text[at])) continue;
      while (at < text.size() && digit(text[at])) ++at;
      at = skip_blanks(text, at);
      std::size_t start = dot;
      while (start > 0 && !blank(text[start - 1])) --start;
      const std::string_view rest = text;
      const std::size_t open = rest.find('(', at);
      if (open != kNone && contains(rest.substr(at, open - at), "onnxruntime::") &&
          !contains(rest.substr(at, open - at), ". ")) {
        at = skip_blanks(rest, past_closing(rest, open));
        if (rest.substr(at).starts_with("const ")) at += 6;
      } else {
        while (at < text.size() && !blank(text[at])) ++at;
        at = skip_blanks(rest, at);
      }
      text.erase(start, at - start);
      return true;
    }
  }
  return false;
}

bool speaks_of_missing_kernel(std::string_view text) {
  constexpr std::array<std::string_view, 8> kSigns = {
      "Could not find an implementation",
      "is not a registered function/op",
      "No Op registered for",
      "No opset import for domain",
      "Unsupported model IR version",
      "max supported IR version",
      "is under development and support for this is limited",
      "Failed to find kernel for",
  };
  return std::any_of(kSigns.begin(), kSigns.end(),
                     [&](std::string_view sign) { return contains(text, sign); });
}

bool speaks_of_memory(std::string_view text) {
  return contains(text, "Failed to allocate memory") || contains(text, "std::bad_alloc") ||
         contains(text, "bad allocation");
}

}  // namespace

std::string blamed_node(std::string_view text) {
  const auto named = [](std::optional<std::string_view> name) {
    return name.has_value() && !name->empty();
  };
  // "Non-zero status code returned while running Conv node. Name:'conv1' Status Message: ..."
  // Innermost last: a failing If names itself first and then the node inside it.
  constexpr std::string_view kRunning = "while running ";
  if (const std::size_t at = text.rfind(kRunning); at != kNone) {
    const auto name = between(text, "Name:'", "'", at);
    if (named(name)) return std::string(*name);
    if (const auto type = between(text, kRunning, " node", at)) return std::string(*type);
  }
  // "Could not find an implementation for Foo(1) node with name 'bar'"
  if (const auto name = between(text, "node with name '", "'"); named(name)) {
    return std::string(*name);
  }
  if (const auto type = between(text, "Could not find an implementation for ", "(")) {
    return std::string(*type);
  }
  // "In Node, ("conv1", Conv, "", -1) : (...)"
  if (const auto name = between(text, "In Node, (\"", "\""); name.has_value()) {
    if (!name->empty()) return std::string(*name);
    if (const auto type = between(text, "In Node, (\"\", ", ",")) return std::string(*type);
  }
  // "Node (conv1) Op (Conv) [ShapeInferenceError] ..."
  if (const auto name = between(text, "Node (", ") Op ("); name.has_value()) {
    if (!name->empty()) return std::string(*name);
    if (const auto type = between(text, ") Op (", ")")) return std::string(*type);
  }
  // "... of operator (Conv) in node (conv1) is invalid", "... in node (add)."
  if (const auto name = between(text, "in node (", ")"); named(name)) return std::string(*name);
  if (const auto type = between(text, "of operator (", ")")) return std::string(*type);
  // "Node:conv1 Output:y ..."
  if (const auto name = between(text, "Node:", " "); named(name)) return std::string(*name);
  // "Node input 'x' is not a graph input, initializer, or output of a previous node."
  if (const auto name = between(text, "Node input '", "'"); named(name)) return std::string(*name);
  // "com.acme:Foo(-1) is not a registered function/op", "No Op registered for Foo with ..."
  if (const std::size_t at = text.find(" is not a registered function/op"); at != kNone) {
    std::string_view word = word_before(text, at);
    return std::string(word.substr(0, word.find('(')));
  }
  if (const auto type = between(text, "No Op registered for ", " ")) return std::string(*type);
  return {};
}

std::string readable_message(std::string_view text) {
  std::string out(text);
  while (remove_one_position(out)) {
  }
  std::string line;
  for (const char c : out) {
    if (!blank(c)) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  if (line.size() > kMaxMessage) {
    std::size_t end = kMaxMessage;
    // Not inside a UTF-8 sequence.
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0U) == 0x80U) --end;
    line.resize(end);
    line += "...";
  }
  return line.empty() ? "the runtime gave no reason" : line;
}

Error runtime_error(const RuntimeFailure& failure) {
  using Stage = RuntimeFailure::Stage;
  Code code = failure.stage == Stage::kSetUp ? Code::kInternal : Code::kInput;
  std::string_view id =
      failure.stage == Stage::kRun ? "runtime-run-failed" : "runtime-refuses-model";
  std::string hint;
  if (failure.not_implemented || speaks_of_missing_kernel(failure.text)) {
    code = Code::kUnsupported;
    id = "runtime-lacks-operator";
    hint = "this ONNX Runtime build has no kernel for the operator, type or version";
  } else if (speaks_of_memory(failure.text)) {
    code = Code::kInternal;
    id = "runtime-out-of-memory";
  } else if (failure.no_such_file) {
    id = "runtime-file-missing";
  } else if (failure.stage == Stage::kSetUp) {
    id = "runtime-set-up-failed";
  }
  Location where;
  where.file = failure.file;
  where.subject = blamed_node(failure.text);
  return Error(code, id, "ONNX Runtime: " + readable_message(failure.text), std::move(where),
               std::move(hint));
}

}  // namespace mcompress
