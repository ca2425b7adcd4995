// What lies in a folder of samples, in an order that the file system does not decide.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/status.h"

namespace mcompress {

// Sorted by the number at the end of the name, then by name: x_2 stands before x_10. Hidden files
// are left out.
struct DataFolder {
  std::vector<std::filesystem::path> files;  // .npy and raw files
  std::vector<std::filesystem::path> images;
  std::vector<std::filesystem::path> folders;
  bool has_test_tensors = false;
};
Result<DataFolder> list_folder(const std::filesystem::path& path);

// Images in one folder per class.
struct ClassFolders {
  std::vector<std::filesystem::path> images;  // empty: there are none
  Labels labels;
  std::string note;  // what became of the names
};
// The classes take turns, so that the first N samples hold all of them. Labels count the folders in
// the order of their names, byte by byte; where all names are numbers, they are those numbers.
// `limit` 0: all.
Result<ClassFolders> list_classes(const DataFolder& folder, std::int64_t limit);

}  // namespace mcompress
