#include "mcompress/host.h"

#include "support/files.h"
#include "support/hash.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"
#include "support/yaml.h"

namespace mcompress {

Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_text_file(real_files(), path.string(), max_bytes);
}

Status write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicOutput output(real_files());
  MCOMPRESS_ASSIGN(OutputFile * file, output.add(path.string()));
  MCOMPRESS_TRY(file->write(text));
  return output.commit();
}

bool remove_unfinished_files() { return remove_temporaries_from_signal_handler(); }

Result<Datum> read_datum_file(const std::filesystem::path& path) {
  MCOMPRESS_ASSIGN(const std::string text, read_file(path, ParseLimits{}.bytes));
  const std::string extension = lower(path.extension().string());
  if (extension == ".yaml" || extension == ".yml") return parse_yaml(text, path.string());
  return parse_json(text, path.string());
}

Result<Datum> datum_from_json(std::string_view text, std::string_view name) {
  return parse_json(text, name);
}

std::string json_text(const Datum& datum) { return print_json(datum); }

std::string json_line(const Datum& datum) { return print_json_line(datum); }

std::string yaml_text(const Datum& datum) { return print_yaml(datum); }

std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  return nearest(name, candidates);
}

bool matches_glob(std::string_view pattern, std::string_view text) {
  return glob_match(pattern, text);
}

std::string bytes_text(std::uint64_t bytes) { return human_bytes(bytes); }

std::string decimal_text(double value, int digits) { return fixed(value, digits); }

std::string digest_text(std::uint64_t digest) { return hex_digest(digest); }

std::string wrap_text(std::string_view text, std::size_t width, std::size_t indent) {
  return wrap(text, width, indent);
}

}  // namespace mcompress
