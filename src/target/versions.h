// Conditions on a runtime's version.
#pragma once

#include <string_view>

namespace mcompress {

// "<1.17", ">=1.29 <1.31", "=8.6.1": conditions that all have to hold, of <, <=, >, >=, = and
// numbers with points. Missing parts count as 0.
bool are_version_conditions(std::string_view text);
// Whether the version satisfies them. False for a version that is none.
bool version_satisfies(std::string_view version, std::string_view conditions);

}  // namespace mcompress
