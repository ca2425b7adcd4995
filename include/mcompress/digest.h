// Content digests of files: good against accidents, not against forgery.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "mcompress/status.h"

namespace mcompress {

// XXH3-64 of a file's bytes. Fails with kInput when it can not be read.
Result<std::uint64_t> file_digest(const std::filesystem::path& path);
std::uint64_t text_digest(std::string_view text);

}  // namespace mcompress
