// Tensors that stand in files beside the model: finding them when loading, laying them out and
// streaming them when saving.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/io.h"
#include "mcompress/status.h"
#include "mcompress/tensor.h"
#include "onnx/proto.h"
#include "onnx/wire.h"
#include "support/files.h"

namespace mcompress {

// A range of a mapped file. The range must lie inside the file.
StoragePtr make_file_slice(MappedFilePtr file, std::uint64_t offset, std::uint64_t length);

// Maps the files that external tensors of `parsed.proto` stand in, below `folder`, and turns
// those tensors into payloads. Fails with kInput, naming the tensor: location outside the folder,
// no such file, range outside the file.
Status attach_external_data(FileSystem& files, const std::string& folder, ParsedModel& parsed);

// A data file in the making: which storages, where.
struct DataLayout {
  struct Entry {
    StoragePtr storage;
    std::uint64_t offset = 0;
  };
  std::vector<Entry> entries;
  std::uint64_t size = 0;
  bool empty() const { return entries.empty(); }
};

struct LayoutOptions {
  std::string location;            // the data file as the model is to name it
  std::uint64_t threshold = 1024;  // smaller tensors stay
  std::uint64_t alignment = 4096;  // of large tensors
  bool attributes_too = false;     // tensors of attributes that did not come from outside as well
};

// Makes tensors of a skeleton external, in the order of the walk; a storage that several share is
// laid out once.
Result<DataLayout> externalise(onnx::ModelProto& skeleton, Payloads& payloads,
                               const LayoutOptions& options);

// Counts bytes for the user while they are written, and notices that they want to stop.
class WriteMeter {
 public:
  WriteMeter(Progress& progress, std::uint64_t total) : progress_(progress), total_(total) {}
  Status advance(std::uint64_t bytes);

 private:
  Progress& progress_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
};

// Appends storages without holding more than a chunk of them in memory.
Status write_storage(const Storage& storage, std::uint64_t offset, std::uint64_t length,
                     OutputFile& output, WriteMeter& meter);
Status write_rope(const wire::Rope& rope, OutputFile& output, WriteMeter& meter);
Status write_layout(const DataLayout& layout, OutputFile& output, WriteMeter& meter);

}  // namespace mcompress
