// What a search has measured, kept in a file: --resume.
#pragma once

#include <string>

#include "mcompress/search.h"

namespace mcompress::tools {

// Reads `path` where it exists, and writes it anew after each evaluation. An empty path: nothing.
// Fails with kInput for a file that is no such memory.
Status open_memory(const std::string& path, SearchMemory& memory);

}  // namespace mcompress::tools
