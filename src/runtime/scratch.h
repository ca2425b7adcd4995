// A private folder for files that only the runtime can write or read.
#pragma once

#include <filesystem>
#include <memory>

#include "mcompress/status.h"

namespace mcompress {

// Made in the system's temporary folder, removed with its content when the object dies.
class ScratchFolder {
 public:
  static Result<std::unique_ptr<ScratchFolder>> make();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// The whole file; kInput when it can not be read.
Result<std::string> read_scratch_file(const std::filesystem::path& path);
// An empty file; kOutput when it can not be made.
Status make_scratch_file(const std::filesystem::path& path);

}  // namespace mcompress
