// YAML text -> Datum.
#pragma once

#include <string_view>

#include "mcompress/options.h"
#include "support/datum_builder.h"

namespace mcompress {

// One document of YAML 1.2 (core schema: "no" and "on" are texts, "0x10" is 16). Quoted scalars
// are strings. Aliases, tags of other types and keys that are no scalars are refused; so is a key
// given twice. Locations are as in parse_json; columns count characters. Fails with Code::kInput.
Result<Datum> parse_yaml(std::string_view text, std::string_view file,
                         const ParseLimits& limits = {.bytes = 8ULL << 20});

}  // namespace mcompress
