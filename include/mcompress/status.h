// Results, errors and diagnostics. Every library function that can fail returns Result<T> or
// Status; the library neither prints nor exits. One Code maps to one process exit status.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mcompress {

// One code per exit status: usage 1, input 2, unsupported 3, output 4, gate missed 5,
// internal 70, cancelled 130.
enum class Code : std::uint8_t {
  kUsage,
  kInput,
  kUnsupported,
  kOutput,
  kGateMissed,
  kCancelled,
  kInternal,
};

// The process exit status that belongs to a code.
int exit_status(Code code);

// Where something is; every part is optional, outermost first.
struct Location {
  std::string file;     // "model.onnx", "recipe.json:7:15"
  std::string path;     // "graph/If_3/then_branch/node[12]" or "passes[2].options.bits"
  std::string subject;  // node, value or option name as the user knows it
};

struct Diagnostic {
  enum class Level : std::uint8_t { kNote, kWarning, kError };
  Level level = Level::kError;
  std::string id;       // stable slug, for example "external-data-escapes-folder"
  std::string message;  // one sentence that names both facts
  std::string hint;     // what to do about it; may be empty
  Location where;
};

// "file: path: subject: message (hint)" with the empty parts left out.
std::string to_string(const Diagnostic& diagnostic);

struct Error {
  Code code = Code::kInternal;
  Diagnostic diagnostic;

  Error() = default;
  Error(Code error_code, std::string_view id, std::string message, Location where = {},
        std::string hint = {});

  // Fills parts of the location that are still empty: inner layers know the subject, outer ones
  // know the file.
  Error&& in_file(std::string_view file) &&;
  Error&& at(std::string_view path) &&;
};

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & { return std::get<1>(state_); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

using Status = Result<std::monostate>;
inline Status ok_status() { return std::monostate{}; }

// Collects notes and warnings in the order they were given. The caller decides what to print.
class Diagnostics {
 public:
  void add(Diagnostic diagnostic);
  void note(std::string_view id, std::string message, Location where = {}, std::string hint = {});
  void warn(std::string_view id, std::string message, Location where = {}, std::string hint = {});
  const std::vector<Diagnostic>& all() const { return all_; }

 private:
  std::vector<Diagnostic> all_;
};

// Told how far a long piece of work is, and asked whether the user wants it to stop.
class Progress {
 public:
  virtual ~Progress() = default;
  // `unit` is "bytes" or "samples"; total 0 means unknown.
  virtual void update(std::string_view stage, std::uint64_t done, std::uint64_t total,
                      std::string_view unit) = 0;
  virtual bool cancelled() const = 0;
};

// A Progress that shows nothing and never cancels.
Progress& silent_progress();

}  // namespace mcompress
