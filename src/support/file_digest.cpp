#include "mcompress/digest.h"
#include "support/files.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {

Result<std::uint64_t> file_digest(const std::filesystem::path& path) {
  MCOMPRESS_ASSIGN(const MappedFilePtr file, map_file(real_files(), path.string()));
  return digest_bytes(file->bytes());
}

std::uint64_t text_digest(std::string_view text) { return digest_bytes(text); }

}  // namespace mcompress
