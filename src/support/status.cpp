#include "mcompress/status.h"

namespace mcompress {

int exit_status(Code code) {
  switch (code) {
    case Code::kUsage:
      return 1;
    case Code::kInput:
      return 2;
    case Code::kUnsupported:
      return 3;
    case Code::kOutput:
      return 4;
    case Code::kGateMissed:
      return 5;
    case Code::kCancelled:
      return 130;
    case Code::kInternal:
      break;
  }
  return 70;
}

std::string to_string(const Diagnostic& diagnostic) {
  std::string text;
  const Location& where = diagnostic.where;
  for (const std::string* part : {&where.file, &where.path, &where.subject, &diagnostic.message}) {
    if (part->empty()) continue;
    if (!text.empty()) text += ": ";
    text += *part;
  }
  if (!diagnostic.hint.empty()) {
    if (!text.empty()) text += ' ';
    text += '(' + diagnostic.hint + ')';
  }
  return text;
}

Error::Error(Code error_code, std::string_view id, std::string message, Location where,
             std::string hint)
    : code(error_code),
      diagnostic{Diagnostic::Level::kError, std::string(id), std::move(message), std::move(hint),
                 std::move(where)} {}

Error&& Error::in_file(std::string_view file) && {
  if (diagnostic.where.file.empty()) diagnostic.where.file = file;
  return std::move(*this);
}

Error&& Error::at(std::string_view path) && {
  if (diagnostic.where.path.empty()) diagnostic.where.path = path;
  return std::move(*this);
}

void Diagnostics::add(Diagnostic diagnostic) { all_.push_back(std::move(diagnostic)); }

void Diagnostics::note(std::string_view id, std::string message, Location where, std::string hint) {
  add({Diagnostic::Level::kNote, std::string(id), std::move(message), std::move(hint),
       std::move(where)});
}

void Diagnostics::warn(std::string_view id, std::string message, Location where, std::string hint) {
  add({Diagnostic::Level::kWarning, std::string(id), std::move(message), std::move(hint),
       std::move(where)});
}

namespace {

class SilentProgress final : public Progress {
 public:
  void update(std::string_view, std::uint64_t, std::uint64_t, std::string_view) override {}
  bool cancelled() const override { return false; }
};

}  // namespace

Progress& silent_progress() {
  static SilentProgress progress;
  return progress;
}

}  // namespace mcompress
