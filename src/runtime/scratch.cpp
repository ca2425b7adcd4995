#include "runtime/scratch.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <utility>

namespace mcompress {

Result<std::unique_ptr<ScratchFolder>> ScratchFolder::make() {
  std::error_code failure;
  std::filesystem::path base = std::filesystem::temp_directory_path(failure);
  if (failure) base = "/tmp";
  std::string name = (base / "mcompress-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    return Error(Code::kOutput, "scratch-folder",
                 std::string("no temporary folder can be made: ") + std::strerror(errno),
                 Location{base.string(), {}, {}}, "set TMPDIR to a folder that can be written");
  }
  return std::unique_ptr<ScratchFolder>(new ScratchFolder(std::move(name)));
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Result<std::string> read_scratch_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad() || !in.is_open()) {
    return Error(Code::kInternal, "scratch-file", "the runtime's file can not be read",
                 Location{path.string(), {}, {}});
  }
  return text;
}

}  // namespace mcompress
