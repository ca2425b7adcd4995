// JSON text <-> Datum.
#pragma once

#include <string>
#include <string_view>

#include "mcompress/options.h"
#include "support/datum_builder.h"

namespace mcompress {

// Strict JSON (no comments, one value, valid UTF-8, no key twice). Each Datum knows
// "<file>:<line>:<column>" of its first character (columns count bytes from 1) and its path, for
// example "passes[2].options.bits". Integers beyond 64 bits become reals. Fails with Code::kInput.
Result<Datum> parse_json(std::string_view text, std::string_view file,
                         const ParseLimits& limits = {});

// Stable text with two spaces per level and a final line break. Reals are the shortest text that
// reads back to the same number and always hold a point or an exponent; "nan", "inf" and "-inf"
// are strings. Lists of scalars that fit stay on one line. Broken UTF-8 becomes U+FFFD.
std::string print_json(const Datum& datum);

// The same on one line, without line break: for logs and JSON lines.
std::string print_json_line(const Datum& datum);

}  // namespace mcompress
