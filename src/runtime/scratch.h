// A private folder for files that only the runtime can write or read.
#pragma once

#include <filesystem>
#include <memory>

#include "mcompress/status.h"

namespace mcompress {

// Made in the system's temporary folder, removed with its files when the object dies or a signal
// ends the process.
class ScratchFolder {
 public:
  static Result<std::unique_ptr<ScratchFolder>> make();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  ScratchFolder(std::filesystem::path path, int slot) : path_(std::move(path)), slot_(slot) {}
  std::filesystem::path path_;
  int slot_;
};

// The whole file; kInput when it can not be read.
Result<std::string> read_scratch_file(const std::filesystem::path& path);
// An empty file; kOutput when it can not be made.
Status make_scratch_file(const std::filesystem::path& path);

}  // namespace mcompress
