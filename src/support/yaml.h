// YAML text <-> Datum.
#pragma once

#include <string>
#include <string_view>

#include "mcompress/options.h"
#include "support/datum_builder.h"

namespace mcompress {

// One document of YAML 1.2 (core schema: "no" and "on" are texts, "0x10" is 16). Quoted scalars
// are strings. Aliases, tags of other types and keys that are no scalars are refused; so is a key
// given twice. Locations are as in parse_json; columns count characters. Fails with Code::kInput.
Result<Datum> parse_yaml(std::string_view text, std::string_view file,
                         const ParseLimits& limits = {.bytes = 8ULL << 20});

// Stable text that parse_yaml reads back to the same: two spaces per level, short lists and maps of
// scalars on one line, texts quoted only where they would read as something else. "nan", "inf" and
// "-inf" are texts, as in print_json.
std::string print_yaml(const Datum& datum);

}  // namespace mcompress
