// What people and scripts see: messages and tables on stderr, results on stdout.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress::tools {

struct ConsoleOptions {
  bool quiet = false;     // errors only
  bool verbose = false;   // notes too
  bool json_log = false;  // one JSON object per message
  enum class Progress : std::uint8_t { kAuto, kAlways, kNever };
  Progress progress = Progress::kAuto;
};

// Rows of cells, columns padded to the widest; the first column left, the others right.
class Table {
 public:
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string text(std::size_t indent = 0) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

class Console final : public Progress {
 public:
  Console() = default;
  ~Console() override;
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void configure(const ConsoleOptions& options);
  const ConsoleOptions& options() const { return options_; }

  void error(const Diagnostic& diagnostic);
  // Warnings, and notes when verbose; those already shown are not shown again.
  void show(const Diagnostics& diagnostics);
  // A line, or a block of lines, for people.
  void say(std::string_view text);
  // The same, when verbose.
  void detail(std::string_view text);
  // What was asked for. Fails with kOutput.
  Status print(std::string_view text);

  void update(std::string_view stage, std::uint64_t done, std::uint64_t total,
              std::string_view unit) override;
  bool cancelled() const override { return interrupted.load(); }

  // Set by the signal handler.
  static std::atomic<bool> interrupted;
  // A progress line stands on the terminal.
  static std::atomic<bool> line_shown;
  // A program that works for this one and ends with it; 0: none.
  static std::atomic<int> helper;

 private:
  void message(Diagnostic::Level level, const Diagnostic& diagnostic);
  void clear_line();

  ConsoleOptions options_;
  std::vector<std::string> shown_;
  std::chrono::steady_clock::time_point last_update_{};
  bool show_progress_ = false;
  bool colours_ = false;
};

// What --json prints: a map with the version of its form in front (docs/json.md).
std::string result_json(const Datum& result, std::int64_t schema_version = 1);

// "695,485".
std::string grouped(std::uint64_t number);
// "1 node", "2 nodes".
std::string counted(std::uint64_t number, std::string_view noun);

}  // namespace mcompress::tools
