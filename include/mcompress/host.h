// What a program around the library needs from the machine: files that appear whole or not at
// all, text forms of data, names that a user may have meant, and cleaning up on a signal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress {

// ----------------------------------------------------------------------------------------- files

// A whole file as text. Fails with kInput when it can not be read or has more bytes.
Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t max_bytes);
// Written under a temporary name, flushed, renamed: on failure nothing changes. Fails with
// kOutput.
Status write_file(const std::filesystem::path& path, std::string_view text);
// For a signal handler that is about to end the process: removes the temporaries of all files that
// are being written. Async-signal-safe. Returns false, having removed nothing, while files are
// being renamed: then return from the handler and let that finish.
bool remove_unfinished_files();

// ------------------------------------------------------------------------------------------ data

// JSON, or YAML when the file's name ends in .yaml or .yml. Fails with kInput at line and column.
Result<Datum> read_datum_file(const std::filesystem::path& path);
// JSON text; `name` stands for the file in messages.
Result<Datum> datum_from_json(std::string_view text, std::string_view name);
// Stable JSON with a final line break; on one line without.
std::string json_text(const Datum& datum);
std::string json_line(const Datum& datum);
// The same as YAML, which read_datum_file reads back.
std::string yaml_text(const Datum& datum);

// ------------------------------------------------------------------------------------------ text

// The candidate that was most likely meant; empty when nothing is near.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);
// '*', '?' and sets, over the whole text.
bool matches_glob(std::string_view pattern, std::string_view text);
// "1.2 MB".
std::string bytes_text(std::uint64_t bytes);
// "0.125" for (0.125, 3), whatever the locale.
std::string decimal_text(double value, int digits);
// Sixteen lower-case hexadecimal digits.
std::string digest_text(std::uint64_t digest);
// Breaks at spaces so that lines stay within `width`; each starts with `indent` spaces.
std::string wrap_text(std::string_view text, std::size_t width, std::size_t indent);

}  // namespace mcompress
