// Files that appear together: a model and a file about it, or several texts.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "mcompress/io.h"

namespace mcompress {

class AtomicOutput;

// Models and texts that appear together at commit(), or not at all. Until then each is complete
// under a temporary name beside its place; without a commit the folders stay as they were. After a
// failure other than that of a companion's text nothing more can be done with it. Failures are
// kOutput and name path and reason.
class OutputSet {
 public:
  OutputSet();
  ~OutputSet();
  OutputSet(const OutputSet&) = delete;
  OutputSet& operator=(const OutputSet&) = delete;

  // Makes a folder and those it lies in where there are none; they go again unless committed.
  Status add_folder(const std::filesystem::path& path);
  Status add_text(const std::filesystem::path& path, std::string_view text);
  Status commit();

  // For what writes models.
  AtomicOutput& output() { return *output_; }

 private:
  std::unique_ptr<AtomicOutput> output_;
};

struct Companion {
  std::filesystem::path path;
  // What it says, asked for when the model has been written but not yet put in place; its failure
  // leaves everything as it was.
  std::function<Result<std::string>(const SavedModel&)> text;
  // Where given, the model and this appear with the rest of the set, and the text is asked for
  // before anything is written.
  OutputSet* outputs = nullptr;
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
