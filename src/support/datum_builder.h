// Builds a Datum from the events of a parser: paths, nesting, duplicates and limits in one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "mcompress/options.h"

namespace mcompress {

// What a text may cost. Each value needs about 150 bytes of memory, whatever its text length.
struct ParseLimits {
  std::uint64_t bytes = 64ULL << 20;
  std::size_t values = 2'000'000;
  std::size_t depth = 128;
};

// Refuses text beyond limits.bytes with Code::kInput.
Status check_size(std::string_view text, std::string_view file, const ParseLimits& limits);

// "Code::kInput" error at "file:line:column".
Error parse_failure(std::string_view file, std::size_t line, std::size_t column,
                    std::string_view id, std::string message);

class DatumBuilder {
 public:
  DatumBuilder(std::string_view file, const ParseLimits& limits);

  // Lines and columns start at 1. Each returns false once an error is there.
  bool scalar(Datum::Value value, std::size_t line, std::size_t column);
  bool begin(bool map, std::size_t line, std::size_t column);
  bool key(std::string_view name, std::size_t line, std::size_t column);
  bool end();
  bool fail(std::string_view id, std::string message, std::size_t line, std::size_t column);

  bool in_map() const { return !frames_.empty() && frames_.back().is_map; }
  bool done() const { return done_; }
  std::optional<Error>& error() { return error_; }
  Datum take() { return std::move(root_); }

 private:
  struct Frame {
    Datum datum;
    bool is_map;
    std::string key;
    std::unordered_set<std::string> keys;
  };
  Location locate(std::size_t line, std::size_t column) const;
  void place(Datum datum);

  std::string file_;
  ParseLimits limits_;
  std::size_t values_ = 0;
  std::vector<Frame> frames_;
  Datum root_;
  bool done_ = false;
  std::optional<Error> error_;
};

}  // namespace mcompress
