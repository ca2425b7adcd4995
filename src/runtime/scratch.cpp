#include "runtime/scratch.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "support/files.h"
#include "support/temporaries.h"
#include "support/try.h"

namespace mcompress {

Result<std::unique_ptr<ScratchFolder>> ScratchFolder::make() {
  const std::string base = temporary_folder();
  std::string path;
  const CreationPhase phase;
  if (!phase.granted()) {
    return Error(Code::kCancelled, "interrupted", "interrupted before a temporary folder was made");
  }
  const int error = real_files().make_private_folder(join_path(base, "mcompress-"), path);
  if (error < 0) {
    return Error(Code::kOutput, "scratch-folder",
                 std::string("no temporary folder can be made: ") + std::strerror(-error),
                 Location{base, {}, {}}, "set TMPDIR to a folder that can be written");
  }
  const int slot = remember_scratch_folder(path);
  return std::unique_ptr<ScratchFolder>(new ScratchFolder(std::move(path), slot));
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  forget_temporary(slot_);
}

Result<std::string> read_scratch_file(const std::filesystem::path& path) {
  constexpr std::uint64_t kMost = std::uint64_t{4} << 30;
  return read_text_file(real_files(), path.string(), kMost);
}

Status make_scratch_file(const std::filesystem::path& path) {
  AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
  MCOMPRESS_TRY(output.add(path.string()));
  return output.commit();
}

}  // namespace mcompress
