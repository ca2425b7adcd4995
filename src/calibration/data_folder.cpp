#include "calibration/data_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "calibration/image_file.h"
#include "calibration/raw_layout.h"
#include "calibration/sources.h"
#include "support/files.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

void sort_naturally(std::vector<fs::path>& paths) {
  std::ranges::sort(paths, {}, [](const fs::path& path) {
    const std::string stem = path.stem().string();
    return std::pair(trailing_number(stem), path.filename().string());
  });
}

}  // namespace

Result<DataFolder> list_folder(const fs::path& path) {
  DataFolder folder;
  std::vector<FileSystem::Entry> entries;
  if (const int error = real_files().list(path.string(), entries); error < 0) {
    return Error(Code::kInput, "data-unreadable",
                 error == -ENOENT ? "there is no such file" : std::strerror(-error),
                 {path.string(), {}, {}});
  }
  for (const auto& [name, is_folder] : entries) {
    if (name.starts_with('.')) continue;
    if (is_folder) {
      folder.folders.push_back(path / name);
    } else if (name.ends_with(".npy") || is_raw_name(name)) {
      folder.files.push_back(path / name);
    } else if (is_image_name(name)) {
      folder.images.push_back(path / name);
    } else if (name.starts_with("input_") && name.ends_with(".pb")) {
      folder.has_test_tensors = true;
    }
  }
  sort_naturally(folder.files);
  sort_naturally(folder.images);
  sort_naturally(folder.folders);
  return folder;
}

Result<ClassFolders> list_classes(const DataFolder& folder, std::int64_t limit) {
  ClassFolders classes;
  std::vector<fs::path> names = folder.folders;
  std::ranges::sort(names, {}, [](const fs::path& path) { return path.filename().string(); });
  std::vector<std::vector<fs::path>> images;
  std::vector<std::int64_t> numbers;
  std::size_t most = 0;
  for (const fs::path& name : names) {
    MCOMPRESS_ASSIGN(DataFolder inside, list_folder(name));
    most = std::max(most, inside.images.size());
    images.push_back(std::move(inside.images));
    const std::optional<std::int64_t> number = parse_int(name.filename().string());
    if (number && *number >= 0) numbers.push_back(*number);
  }
  if (most == 0) return classes;
  const bool numbered = numbers.size() == names.size();
  classes.note = std::to_string(names.size()) + " folders are classes, ";
  classes.note += numbered ? "their names the class numbers"
                           : "numbered in the order of their names: 0 is '" +
                                 names.front().filename().string() + "', " +
                                 std::to_string(names.size() - 1) + " is '" +
                                 names.back().filename().string() + "'";
  std::vector<std::int64_t> labels;
  const std::size_t wanted = limit > 0 ? static_cast<std::size_t>(limit) : SIZE_MAX;
  for (std::size_t turn = 0; turn < most; ++turn) {
    for (std::size_t i = 0; i < names.size() && labels.size() < wanted; ++i) {
      if (turn >= images[i].size()) continue;
      classes.images.push_back(std::move(images[i][turn]));
      labels.push_back(numbered ? numbers[i] : static_cast<std::int64_t>(i));
    }
  }
  std::vector<std::byte> bytes(labels.size() * sizeof(std::int64_t));
  std::memcpy(bytes.data(), labels.data(), bytes.size());
  classes.labels.numbers = make_bytes_tensor(
      DataType::kInt64, {static_cast<std::int64_t>(labels.size())}, std::move(bytes));
  return classes;
}

}  // namespace mcompress
