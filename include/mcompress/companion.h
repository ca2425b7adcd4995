// Files that appear together: a model and a file about it, or several texts.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "mcompress/io.h"

namespace mcompress {

struct Companion {
  std::filesystem::path path;
  // What it says, asked for when the model has been written but not yet put in place; its failure
  // leaves everything as it was.
  std::function<Result<std::string>(const SavedModel&)> text;
};

// save_model and copy_model with one more file: both appear, or none. A companion without a path
// writes nothing, but its text is asked for and may object.
Result<SavedModel> save_model(const Model& model, const std::filesystem::path& path,
                              const SaveOptions& options, const Companion& companion,
                              Progress& progress);
Result<SavedModel> copy_model(const Model& model, const std::filesystem::path& path,
                              const Companion& companion, Progress& progress);

struct TextFile {
  std::filesystem::path path;
  std::string_view text;
};
// write_file of host.h for several: all appear, or none.
Status write_files(std::span<const TextFile> texts);

}  // namespace mcompress
