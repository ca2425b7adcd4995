#include "layer_table.h"

#include <map>
#include <string>

#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

double number_of(const Datum& map, std::string_view key) {
  const Datum* value = map.find(key);
  if (value == nullptr) return 0;
  if (const auto* real = std::get_if<double>(&value->value())) return *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value->value())) {
    return static_cast<double>(*whole);
  }
  return 0;
}

// Items of a list of the last pass that has it, by name.
std::map<std::string, const Datum*> items_of(const Datum& facts, std::string_view list) {
  std::map<std::string, const Datum*> items;
  const Datum* passes = facts.find("passes");
  if (passes == nullptr || passes->as_list() == nullptr) return items;
  for (const Datum& pass : *passes->as_list()) {
    const Datum* entries = pass.find(list);
    if (entries == nullptr || entries->as_list() == nullptr) continue;
    for (const Datum& entry : *entries->as_list()) {
      const Datum* name = entry.find("name");
      if (name != nullptr && name->as_string() != nullptr) items[*name->as_string()] = &entry;
    }
  }
  return items;
}

std::string percent_text(double share, int digits) {
  return decimal_text(100 * share, digits) + " %";
}
std::uint64_t whole(double number) { return static_cast<std::uint64_t>(number + 0.5); }

}  // namespace

Table layer_table(const Datum& facts) {
  const auto clustered = items_of(facts, "layers"), packed = items_of(facts, "packed");
  Table table;
  double weights = 0, kept = 0, bytes = 0, bound = 0;
  for (const auto& [name, layer] : clustered) {
    const auto coded = packed.find(name);
    const double of_layer = number_of(*layer, "weights");
    if (coded == packed.end() || number_of(*layer, "clusters") == 0 || of_layer == 0) continue;
    const Datum& code = *coded->second;
    const double share = number_of(*layer, "kept"), distance = number_of(code, "index_bits");
    const bool sparse = distance > 0 && share > 0;
    const double each = sparse ? share : 1;
    const double entropy = number_of(code, "entropy_bits") * of_layer / 8;
    if (table.empty()) {
      table.row({"layer", "weights", "kept", "bits", "Huffman", "index", "bytes", "entropy",
                 "of float32"});
    }
    table.row({name, grouped(whole(of_layer)), percent_text(share, 1),
               grouped(whole(number_of(*layer, "index_bits"))),
               decimal_text((number_of(code, "bits") - distance) / each, 2),
               sparse ? decimal_text(distance / share, 2) : "-",
               grouped(whole(number_of(code, "bytes"))), grouped(whole(entropy)),
               percent_text(number_of(code, "bytes") / (4 * of_layer), 2)});
    weights += of_layer, kept += share * of_layer;
    bytes += number_of(code, "bytes"), bound += entropy;
  }
  if (!table.empty()) {
    table.row({"all", grouped(whole(weights)), percent_text(kept / weights, 1), "", "", "",
               grouped(whole(bytes)), grouped(whole(bound)),
               percent_text(bytes / (4 * weights), 2)});
  }
  return table;
}

}  // namespace mcompress::tools
