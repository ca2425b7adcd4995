// Loading and saving over a given file system: what the public functions of io.h do over the real
// one.
#pragma once

#include <filesystem>
#include <memory>

#include "mcompress/companion.h"
#include "mcompress/io.h"
#include "support/files.h"

namespace mcompress {

Result<std::unique_ptr<Model>> load_model(FileSystem& files, const std::filesystem::path& path,
                                          const LoadOptions& options, Diagnostics& diagnostics);
Result<SavedModel> save_model(FileSystem& files, const Model& model,
                              const std::filesystem::path& path, const SaveOptions& options,
                              Progress& progress, const Companion& companion = {});
Result<SavedModel> copy_model(FileSystem& files, const Model& model,
                              const std::filesystem::path& path, Progress& progress,
                              const Companion& companion = {});

}  // namespace mcompress
