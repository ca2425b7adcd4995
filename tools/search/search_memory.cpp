#include "search/search_memory.h"

#include <filesystem>
#include <system_error>
#include <variant>

#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

constexpr std::string_view kSchema = "mcompress-search-memory";
constexpr std::uint64_t kMostBytes = 256 << 20;

Error no_memory(const std::string& path) {
  return Error(Code::kInput, "no-search-memory", "this is no file of --resume of a search",
               {path, {}, {}}, "name a file that does not exist yet, or one that search wrote");
}

}  // namespace

Status open_memory(const std::string& path, SearchMemory& memory) {
  if (path.empty()) return ok_status();
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    MCOMPRESS_ASSIGN(const std::string text, read_file(path, kMostBytes));
    const auto read = datum_from_json(text, path);
    const Datum* schema = read.ok() ? read->find("schema") : nullptr;
    const Datum* known = read.ok() ? read->find("known") : nullptr;
    if (schema == nullptr || schema->as_string() == nullptr || *schema->as_string() != kSchema ||
        known == nullptr || known->as_map() == nullptr) {
      return no_memory(path);
    }
    if (const Datum* metric = read->find("metric"); metric != nullptr && metric->as_string()) {
      memory.metric = *metric->as_string();
    }
    for (const auto& [key, numbers] : *known->as_map()) {
      if (numbers.as_list() == nullptr) return no_memory(path);
      std::vector<double>& kept = memory.known[key];
      for (const Datum& number : *numbers.as_list()) {
        if (const auto* real = std::get_if<double>(&number.value())) {
          kept.push_back(*real);
        } else if (const auto* whole = std::get_if<std::int64_t>(&number.value())) {
          kept.push_back(static_cast<double>(*whole));
        } else {
          return no_memory(path);
        }
      }
    }
  }
  memory.changed = [path, &memory]() -> Status {
    Datum known = Datum::map();
    for (const auto& [key, numbers] : memory.known) {
      Datum list = Datum::list();
      for (const double number : numbers) list.push(Datum::real(number));
      known.set(key, std::move(list));
    }
    Datum map = Datum::map();
    map.set("schema", Datum::string(kSchema));
    map.set("metric", Datum::string(memory.metric));
    map.set("known", std::move(known));
    return write_file(path, json_text(map));
  };
  return ok_status();
}

}  // namespace mcompress::tools
