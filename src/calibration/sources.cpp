// Finds out what lies at a path.
#include "calibration/sources.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "calibration/data_folder.h"
#include "calibration/image_file.h"
#include "calibration/list_file.h"
#include "support/files.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

Error unreadable(const fs::path& path, int error) {
  return {Code::kInput,
          "data-unreadable",
          error == -ENOENT ? "there is no such file" : std::strerror(-error),
          {path.string(), {}, {}}};
}

// Names of inputs may hold characters that names of files can not.
std::string file_stem(const std::string& input) {
  std::string stem = input;
  std::ranges::replace(stem, '/', '_');
  return stem;
}

Result<ArrayOpener> opener_for(std::span<const PortInfo> inputs, const SampleOptions& options) {
  ArrayOpener opener;
  opener.max_bytes = options.max_bytes;
  MCOMPRESS_ASSIGN(opener.layouts, raw_layouts(options.raw, inputs));
  return opener;
}

ArraySet::OpenFn open_later(std::string path, PortInfo port, const ArrayOpener& opener) {
  return [path = std::move(path), port = std::move(port), opener]() {
    return opener.open(path, port, false);
  };
}

ArraySet folder_arrays(const DataFolder& folder, const fs::path& path,
                       std::span<const PortInfo> inputs, const ArrayOpener& opener) {
  ArraySet set;
  set.file = path.string();
  for (const fs::path& file : folder.files) {
    std::string name = file.stem().string();
    PortInfo owner;
    for (const PortInfo& port : inputs) {
      const std::string stem = file_stem(port.name);
      if (name == stem) {
        name = port.name;
        owner = port;
      }
      if (name == stem + "_scale") name = port.name + "_scale";
      if (name == stem + "_bias") name = port.name + "_bias";
    }
    set.arrays.emplace(name, open_later(file.string(), std::move(owner), opener));
  }
  return set;
}

Result<std::unique_ptr<DataSource>> open_npz(const std::string& path,
                                             std::span<const PortInfo> inputs,
                                             const SampleOptions& options,
                                             Diagnostics& diagnostics) {
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
  return open_token_arrays(std::move(set), inputs, options, diagnostics);
}

using FilesPerInput = std::vector<std::vector<fs::path>>;

bool complete(const FilesPerInput& files) {
  return std::ranges::none_of(files, [](const auto& list) { return list.empty(); });
}

// NAME_0001.npy, NAME-1.npy, NAME.1.npy.
FilesPerInput numbered_files(const DataFolder& folder, std::span<const PortInfo> inputs) {
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
Result<FilesPerInput> files_in_folders(const DataFolder& folder, std::span<const PortInfo> inputs) {
  FilesPerInput by_input(inputs.size()), by_sample(inputs.size());
  for (const fs::path& child : folder.folders) {
    MCOMPRESS_ASSIGN(const DataFolder inside, list_folder(child));
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
          "wanted: <input>.npy with all samples, <input>_0001.npy, <input>/0001.npy, "
          "test_data_set_*/input_*.pb, or for one input images or folders of images"};
}

Result<std::unique_ptr<DataSource>> open_folder(const fs::path& path,
                                                std::span<const PortInfo> inputs,
                                                const SampleOptions& options,
                                                Diagnostics& diagnostics) {
  MCOMPRESS_ASSIGN(const DataFolder folder, list_folder(path));
  std::vector<fs::path> sets;
  for (const fs::path& child : folder.folders) {
    if (child.filename().string().starts_with("test_data_set")) sets.push_back(child);
  }
  if (sets.empty() && folder.has_test_tensors) sets.push_back(path);
  if (!sets.empty()) {
    return open_test_sets(std::move(sets), path.string(), inputs, options, diagnostics);
  }
  MCOMPRESS_ASSIGN(const ArrayOpener opener, opener_for(inputs, options));
  const ArraySet arrays = folder_arrays(folder, path, inputs, opener);
  const bool whole = tokens_suffice(
      inputs, options, [&](const std::string& name) { return arrays.arrays.contains(name); });
  if (whole) return open_token_arrays(arrays, inputs, options, diagnostics);
  if (!folder.images.empty() && inputs.size() == 1) {
    std::vector<fs::path> images = folder.images;
    const auto available = static_cast<std::int64_t>(images.size());
    if (options.limit > 0 && options.limit < available) {
      images.resize(static_cast<std::size_t>(options.limit));
    }
    MCOMPRESS_ASSIGN(Labels labels, find_labels(arrays, inputs, available,
                                                static_cast<std::int64_t>(images.size())));
    return open_images(std::move(images), std::move(labels), path.string(), inputs[0], options,
                       diagnostics);
  }
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
    return open_sample_files(std::move(files), opener, arrays, inputs, options, diagnostics);
  }
  if (inputs.size() == 1) {
    MCOMPRESS_ASSIGN(ClassFolders classes, list_classes(folder, options.limit));
    if (!classes.images.empty()) {
      diagnostics.note("image-classes", classes.note, {path.string(), {}, {}});
      return open_images(std::move(classes.images), std::move(classes.labels), path.string(),
                         inputs[0], options, diagnostics);
    }
  }
  // Some inputs have arrays: then name the one that has none.
  for (const PortInfo& port : inputs) {
    if (arrays.arrays.contains(port.name)) {
      return open_arrays(arrays, inputs, options, diagnostics);
    }
  }
  return nothing_there(path, inputs);
}

// One kind of file per input.
Result<std::unique_ptr<DataSource>> open_list(const std::string& path,
                                              std::span<const PortInfo> inputs,
                                              const SampleOptions& options,
                                              Diagnostics& diagnostics) {
  MCOMPRESS_ASSIGN(const std::string text, read_text_file(real_files(), path, kMaxListBytes));
  MCOMPRESS_ASSIGN(ListedSamples samples, parse_list(text, path, inputs, options.limit));
  std::vector<SourcePart> parts;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<fs::path>& files = samples.files[i];
    SourcePart part;
    part.name = inputs[i].name;
    if (is_image_name(files.front().string())) {
      MCOMPRESS_ASSIGN(part.source, open_images(std::move(files), Labels(), path, inputs[i],
                                                options, diagnostics));
    } else {
      MCOMPRESS_ASSIGN(const ArrayOpener opener, opener_for(inputs, options));
      ArraySet none;
      none.file = path;
      MCOMPRESS_ASSIGN(part.source, open_sample_files({std::move(files)}, opener, none,
                                                      inputs.subspan(i, 1), options, diagnostics));
    }
    parts.push_back(std::move(part));
  }
  return join_sources(std::move(parts), std::move(samples.labels), path);
}

}  // namespace

Result<NpyArray> ArrayOpener::open(const std::string& path, const PortInfo& port,
                                   bool one_sample) const {
  MCOMPRESS_ASSIGN(auto bytes, open_bytes(path));
  std::string magic(static_cast<std::size_t>(std::min<std::uint64_t>(bytes->size(), 4)), '\0');
  MCOMPRESS_TRY(bytes->read(0, std::as_writable_bytes(std::span(magic))));
  const auto known = layouts.find(port.name);
  const bool said = known != layouts.end() && known->second.given;
  const bool raw = is_raw_name(path) || (said && magic != "\x93NUM");
  if (raw && known == layouts.end()) {
    return Error(Code::kInput, "raw-layout",
                 "nothing says what a sample of this raw file is, and the shape of the model's "
                 "input is open",
                 {path, {}, port.name}, "give --raw NAME=TYPE[SHAPE], as in x=f32[1,3,224,224]");
  }
  auto array = raw ? open_raw(std::move(bytes), known->second, port, one_sample, max_bytes)
                   : NpyArray::open(std::move(bytes), max_bytes);
  if (!array.ok()) return std::move(array).error().in_file(path);
  return array;
}

Result<std::unique_ptr<DataSource>> open_path(const fs::path& path,
                                              std::span<const PortInfo> inputs,
                                              const SampleOptions& options,
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
  std::string magic(8, '\0');
  {
    MCOMPRESS_ASSIGN(const auto bytes, open_bytes(file));
    magic.resize(static_cast<std::size_t>(std::min<std::uint64_t>(bytes->size(), magic.size())));
    MCOMPRESS_TRY(bytes->read(0, std::as_writable_bytes(std::span(magic))));
  }
  if (magic.starts_with("PK")) return open_npz(file, inputs, options, diagnostics);
  const bool raw = is_raw_name(file) || (!options.raw.empty() && !is_list_name(file));
  if (magic.starts_with("\x93NUM") || raw) {
    const PortInfo* port = inputs.size() == 1 ? &inputs[0] : token_ids_port(inputs, options);
    if (port == nullptr) {
      return Error(Code::kInput, "data-input-missing",
                   "one array is given, the model has " + std::to_string(inputs.size()) + " inputs",
                   {file, {}, {}}, "save an .npz with one array per input");
    }
    ArraySet set;
    set.file = file;
    MCOMPRESS_ASSIGN(const ArrayOpener opener, opener_for(inputs, options));
    set.arrays.emplace(port->name, open_later(file, *port, opener));
    return open_token_arrays(std::move(set), inputs, options, diagnostics);
  }
  if (inputs.size() == 1 && !image_format(std::as_bytes(std::span(magic))).empty()) {
    return open_images({path}, Labels(), file, inputs[0], options, diagnostics);
  }
  if (is_list_name(file)) return open_list(file, inputs, options, diagnostics);
  return Error(Code::kInput, "data-format", "this is no data that can be read", {file, {}, {}},
               "data is an .npz, an .npy, a .bin, a list (.txt, .csv), or a folder of .npy or .bin "
               "files, of images, or of ONNX test sets");
}

}  // namespace mcompress
