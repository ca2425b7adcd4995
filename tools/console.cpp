#include "console.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

using Level = Diagnostic::Level;

// Lines go out as they are: spdlog's part is the level and the thread-safe sink.
spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> kLogger = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
    auto made = std::make_shared<spdlog::logger>("mcompress", std::move(sink));
    made->set_pattern("%v");
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *kLogger;
}

std::string_view level_name(Level level) {
  switch (level) {
    case Level::kNote:
      return "note";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      break;
  }
  return "error";
}

spdlog::level::level_enum log_level(Level level) {
  switch (level) {
    case Level::kNote:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      break;
  }
  return spdlog::level::err;
}

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

// One message is one line, whatever names a model holds.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

}  // namespace

std::atomic<bool> Console::interrupted{false};
std::atomic<bool> Console::line_shown{false};
std::atomic<int> Console::helper{0};

std::string Table::text(std::size_t indent) const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - display_width(row[i]), ' ');
      if (i != 0) line += "  ";
      line += i == 0 ? row[i] + padding : padding + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

Console::~Console() { clear_line(); }

void Console::configure(const ConsoleOptions& options) {
  options_ = options;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const char* no_colour = std::getenv("NO_COLOR");
  colours_ = terminal && (no_colour == nullptr || *no_colour == '\0') && !options.json_log;
  using Progress = ConsoleOptions::Progress;
  show_progress_ =
      options.progress == Progress::kAlways ||
      (options.progress == Progress::kAuto && terminal && !options.quiet && !options.json_log);
}

void Console::clear_line() {
  if (!line_shown.exchange(false)) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

void Console::message(Level level, const Diagnostic& diagnostic) {
  clear_line();
  if (options_.json_log) {
    Datum line = Datum::map();
    line.set("level", Datum::string(level_name(level)));
    line.set("id", Datum::string(diagnostic.id));
    line.set("message", Datum::string(diagnostic.message));
    const auto add = [&line](std::string_view key, const std::string& text) {
      if (!text.empty()) line.set(key, Datum::string(text));
    };
    add("hint", diagnostic.hint);
    add("file", diagnostic.where.file);
    add("path", diagnostic.where.path);
    add("subject", diagnostic.where.subject);
    logger().log(log_level(level), "{}", json_line(line));
    return;
  }
  const std::string_view colour = level == Level::kError     ? "\033[31m"
                                  : level == Level::kWarning ? "\033[33m"
                                                             : "";
  const bool coloured = colours_ && !colour.empty();
  logger().log(log_level(level), "mcompress: {}{}:{} {}", coloured ? colour : "", level_name(level),
               coloured ? "\033[0m" : "", one_line(to_string(diagnostic)));
}

void Console::error(const Diagnostic& diagnostic) { message(Level::kError, diagnostic); }

void Console::show(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    if (diagnostic.level == Level::kNote && !options_.verbose) continue;
    if (options_.quiet && diagnostic.level != Level::kError) continue;
    std::string text = to_string(diagnostic);
    if (std::find(shown_.begin(), shown_.end(), text) != shown_.end()) continue;
    shown_.push_back(std::move(text));
    message(diagnostic.level, diagnostic);
  }
}

void Console::say(std::string_view text) {
  if (options_.quiet || text.empty()) return;
  clear_line();
  if (text.back() == '\n') text.remove_suffix(1);
  if (options_.json_log) {
    Datum line = Datum::map();
    line.set("level", Datum::string("info"));
    line.set("message", Datum::string(text));
    logger().info("{}", json_line(line));
    return;
  }
  logger().info("{}", text);
}

void Console::detail(std::string_view text) {
  if (options_.verbose) say(text);
}

Status Console::print(std::string_view text) {
  clear_line();
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return ok_status();
  return Error(Code::kOutput, "stdout-not-written",
               std::string("standard output could not be written: ") + std::strerror(errno));
}

void Console::update(std::string_view stage, std::uint64_t done, std::uint64_t total,
                     std::string_view unit) {
  if (!show_progress_) return;
  const auto now = std::chrono::steady_clock::now();
  constexpr std::chrono::milliseconds kStep{166};  // six a second
  if (now - last_update_ < kStep) return;
  last_update_ = now;
  std::string line(stage);
  const auto amount = [&](std::uint64_t number) {
    return unit == "bytes" ? bytes_text(number) : grouped(number);
  };
  line += ": " + amount(done);
  if (total > 0) line += " of " + amount(total);
  if (unit != "bytes") line += ' ' + std::string(unit);
  std::fprintf(stderr, "\r\033[K%s", one_line(line).c_str());
  std::fflush(stderr);
  line_shown.store(true);
}

std::string result_json(const Datum& result, std::int64_t schema_version) {
  Datum map = Datum::map();
  map.set("schema_version", Datum::integer(schema_version));
  for (const auto& [key, value] : *result.as_map()) map.set(key, value);
  return json_text(map);
}

std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

std::string counted(std::uint64_t number, std::string_view noun) {
  std::string text = grouped(number) + ' ';
  text += noun;
  if (number != 1) text += 's';
  return text;
}

}  // namespace mcompress::tools
