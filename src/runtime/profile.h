// Reads the runtime's profile.
#pragma once

#include <string_view>
#include <vector>

#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// Kernel time per node from the runtime's JSON trace; most expensive first, then by name.
Result<std::vector<ProfileEvent>> parse_profile(std::string_view json, std::string_view file);

}  // namespace mcompress
