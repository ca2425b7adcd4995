// open_data: finds out what lies at a path.
#include "calibration/sources.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "support/files.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

// A folder, as names in sorted order: the order of the file system is no order.
struct Folder {
  std::vector<fs::path> files;  // .npy files
  std::vector<fs::path> folders;
  bool has_test_tensors = false;
};

Error unreadable(const fs::path& path, int error) {
  return {Code::kInput,
          "data-unreadable",
          error == -ENOENT ? "there is no such file" : std::strerror(-error),
          {path.string(), {}, {}}};
}

// By the number at the end, then by name: x_2 stands before x_10.
void sort_naturally(std::vector<fs::path>& paths) {
  std::ranges::sort(paths, {}, [](const fs::path& path) {
    const std::string stem = path.stem().string();
    return std::pair(trailing_number(stem), path.filename().string());
  });
}

Result<Folder> list_folder(const fs::path& path) {
  Folder folder;
  std::vector<FileSystem::Entry> entries;
  if (const int error = real_files().list(path.string(), entries); error < 0) {
    return unreadable(path, error);
  }
  for (const auto& [name, is_folder] : entries) {
    if (name.starts_with('.')) continue;
    if (is_folder) {
      folder.folders.push_back(path / name);
    } else if (name.ends_with(".npy")) {
      folder.files.push_back(path / name);
    } else if (name.starts_with("input_") && name.ends_with(".pb")) {
      folder.has_test_tensors = true;
    }
  }
  sort_naturally(folder.files);
  sort_naturally(folder.folders);
  return folder;
}

// Names of inputs may hold characters that names of files can not.
std::string file_stem(const std::string& input) {
  std::string stem = input;
  std::ranges::replace(stem, '/', '_');
  return stem;
}

ArraySet::OpenFn opener(std::string path, std::uint64_t max_bytes) {
  return [path = std::move(path), max_bytes]() -> Result<NpyArray> {
    MCOMPRESS_ASSIGN(auto bytes, open_bytes(path));
    auto array = NpyArray::open(std::move(bytes), max_bytes);
    if (!array.ok()) return std::move(array).error().in_file(path);
    return array;
  };
}

ArraySet folder_arrays(const Folder& folder, const fs::path& path, std::span<const PortInfo> inputs,
                       std::uint64_t max_bytes) {
  ArraySet set;
  set.file = path.string();
  for (const fs::path& file : folder.files) {
    std::string name = file.stem().string();
    for (const PortInfo& port : inputs) {
      const std::string stem = file_stem(port.name);
      if (name == stem) name = port.name;
      if (name == stem + "_scale") name = port.name + "_scale";
      if (name == stem + "_bias") name = port.name + "_bias";
    }
    set.arrays.emplace(name, opener(file.string(), max_bytes));
  }
  return set;
}

Result<std::unique_ptr<DataSource>> open_npz(const std::string& path,
                                             std::span<const PortInfo> inputs,
                                             const DataOptions& options, Diagnostics& diagnostics) {
  MCOMPRESS_ASSIGN(const std::shared_ptr<NpzArchive> archive, NpzArchive::open(path));
  ArraySet set;
  set.file = path;
  for (const NpzArchive::Entry& entry : archive->entries()) {
    set.arrays.emplace(entry.name,
                       [archive, &entry, path, max = options.max_bytes]() -> Result<NpyArray> {
                         const auto locate = [&](Error error) {
                           if (error.diagnostic.where.subject.empty())
                             error.diagnostic.where.subject = entry.name;
                           return std::move(error).in_file(path);
                         };
                         auto bytes = archive->open_entry(entry);
                         if (!bytes.ok()) return locate(std::move(bytes).error());
                         auto array = NpyArray::open(std::move(bytes).value(), max);
                         if (!array.ok()) return locate(std::move(array).error());
                         return array;
                       });
  }
  return open_arrays(set, inputs, options, diagnostics);
}

using FilesPerInput = std::vector<std::vector<fs::path>>;

bool complete(const FilesPerInput& files) {
  return std::ranges::none_of(files, [](const auto& list) { return list.empty(); });
}

// NAME_0001.npy, NAME-1.npy, NAME.1.npy.
FilesPerInput numbered_files(const Folder& folder, std::span<const PortInfo> inputs) {
  FilesPerInput files(inputs.size());
  for (const fs::path& file : folder.files) {
    const std::string stem = file.stem().string();
    const std::size_t digits = stem.find_last_not_of("0123456789");
    if (digits == std::string::npos || digits + 1 == stem.size()) continue;
    if (std::string_view("_-.").find(stem[digits]) == std::string_view::npos) continue;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (stem.compare(0, digits, file_stem(inputs[i].name)) == 0) files[i].push_back(file);
    }
  }
  return files;
}

// NAME/*.npy for each input, or */NAME.npy for each sample.
Result<FilesPerInput> files_in_folders(const Folder& folder, std::span<const PortInfo> inputs) {
  FilesPerInput by_input(inputs.size()), by_sample(inputs.size());
  for (const fs::path& child : folder.folders) {
    MCOMPRESS_ASSIGN(const Folder inside, list_folder(child));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::string stem = file_stem(inputs[i].name);
      if (child.filename() == stem) by_input[i] = inside.files;
      for (const fs::path& file : inside.files) {
        if (file.stem() == stem) by_sample[i].push_back(file);
      }
    }
  }
  return complete(by_input) ? by_input : by_sample;
}

Error nothing_there(const fs::path& path, std::span<const PortInfo> inputs) {
  std::string names;
  for (const PortInfo& port : inputs) names += (names.empty() ? "'" : ", '") + port.name + "'";
  return {Code::kInput,
          "data-not-found",
          "the folder holds no data for the model's inputs " + names,
          {path.string(), {}, {}},
          "wanted: <input>.npy with all samples, <input>_0001.npy, <input>/0001.npy, or "
          "test_data_set_*/input_*.pb"};
}

Result<std::unique_ptr<DataSource>> open_folder(const fs::path& path,
                                                std::span<const PortInfo> inputs,
                                                const DataOptions& options,
                                                Diagnostics& diagnostics) {
  MCOMPRESS_ASSIGN(const Folder folder, list_folder(path));
  std::vector<fs::path> sets;
  for (const fs::path& child : folder.folders) {
    if (child.filename().string().starts_with("test_data_set")) sets.push_back(child);
  }
  if (sets.empty() && folder.has_test_tensors) sets.push_back(path);
  if (!sets.empty()) {
    return open_test_sets(std::move(sets), path.string(), inputs, options, diagnostics);
  }
  const ArraySet arrays = folder_arrays(folder, path, inputs, options.max_bytes);
  const bool whole = std::ranges::all_of(
      inputs, [&](const PortInfo& port) { return arrays.arrays.contains(port.name); });
  if (whole) return open_arrays(arrays, inputs, options, diagnostics);
  FilesPerInput files = numbered_files(folder, inputs);
  if (!complete(files)) {
    MCOMPRESS_ASSIGN(files, files_in_folders(folder, inputs));
  }
  if (!complete(files) && inputs.size() == 1 && !folder.files.empty()) {
    files[0].clear();
    for (const fs::path& file : folder.files) {
      const std::string stem = file.stem().string(), port = file_stem(inputs[0].name);
      if (stem != "labels" && stem != port + "_scale" && stem != port + "_bias") {
        files[0].push_back(file);
      }
    }
  }
  if (complete(files)) {
    return open_sample_files(std::move(files), arrays, inputs, options, diagnostics);
  }
  // Some inputs have arrays: then name the one that has none.
  for (const PortInfo& port : inputs) {
    if (arrays.arrays.contains(port.name)) {
      return open_arrays(arrays, inputs, options, diagnostics);
    }
  }
  return nothing_there(path, inputs);
}

}  // namespace

Result<std::unique_ptr<DataSource>> open_data(const fs::path& path,
                                              std::span<const PortInfo> inputs,
                                              const DataOptions& options,
                                              Diagnostics& diagnostics) {
  const std::string file = path.string();
  if (inputs.empty()) {
    return Error(Code::kInput, "model-without-inputs",
                 "the model has no inputs: there is nothing to feed", {file, {}, {}});
  }
  struct stat status = {};
  if (const int error = real_files().status(file, status); error < 0) {
    return unreadable(path, error);
  }
  if (S_ISDIR(status.st_mode)) return open_folder(path, inputs, options, diagnostics);
  std::string magic(4, '\0');
  {
    MCOMPRESS_ASSIGN(const auto bytes, open_bytes(file));
    magic.resize(static_cast<std::size_t>(std::min<std::uint64_t>(bytes->size(), magic.size())));
    MCOMPRESS_TRY(bytes->read(0, std::as_writable_bytes(std::span(magic))));
  }
  if (magic.starts_with("PK")) return open_npz(file, inputs, options, diagnostics);
  if (magic.starts_with("\x93NUM")) {
    if (inputs.size() != 1) {
      return Error(Code::kInput, "data-input-missing",
                   "one array is given, the model has " + std::to_string(inputs.size()) + " inputs",
                   {file, {}, {}}, "save an .npz with one array per input");
    }
    ArraySet set;
    set.file = file;
    set.arrays.emplace(inputs[0].name, opener(file, options.max_bytes));
    return open_arrays(set, inputs, options, diagnostics);
  }
  return Error(Code::kInput, "data-format", "this is neither an .npz nor an .npy file",
               {file, {}, {}},
               "data is an .npz, an .npy, a folder of .npy files, or a folder of ONNX test sets");
}

}  // namespace mcompress
