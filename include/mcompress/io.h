// Loading and saving ONNX files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

class Editor;

struct LoadOptions {
  // Tensors stored in the model file from this many bytes on stay in the mapped file and are
  // never parsed into memory.
  std::uint64_t map_threshold = 1024;
  int max_graph_depth = 64;
};

// Maps and parses a model file and its external data. Fails with kInput, naming file, place and
// both facts: unreadable, truncated, lengths that lie, undefined or duplicate names, cycles,
// external data that is missing, too short or outside the model's folder.
Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path,
                                          const LoadOptions& options, Diagnostics& diagnostics);
// The same from bytes that are copied; external data is refused.
Result<std::unique_ptr<Model>> load_model_bytes(std::string_view bytes, const LoadOptions& options,
                                                Diagnostics& diagnostics);
// ONNX's text form (docs/Syntax.md of ONNX); for tests and small models.
Result<std::unique_ptr<Model>> parse_model_text(std::string_view text, Diagnostics& diagnostics);

struct SaveOptions {
  enum class External : std::uint8_t { kAuto, kAlways, kNever };
  // kAuto: external when the loaded model was, or when the file would pass `inline_limit`.
  External external = External::kAuto;
  std::uint64_t inline_limit = 2'000'000'000;  // bytes; protobuf's own limit is 2 GiB - 1
  std::uint64_t external_threshold = 1024;     // smaller tensors stay in the model file
  std::uint64_t alignment = 4096;              // of large tensors in the data file
  bool allow_larger = false;                   // else a larger result than `original_bytes` fails
  std::uint64_t original_bytes = 0;            // 0: not compared
  std::uint64_t added_bytes = 0;               // of notes that were asked for: not compared
  bool strip_notes = false;                    // those of mcompress/notes.h are left out
};

struct SavedModel {
  std::uint64_t model_bytes = 0;
  std::uint64_t data_bytes = 0;
  // Those of mcompress/notes.h among them; empty: not counted, as in copies.
  std::optional<std::uint64_t> note_bytes;
  std::uint64_t total() const { return model_bytes + data_bytes; }
};

// Writes the model (and "<name>.data" beside it when external), streaming tensors from their
// storage, to temporary names that are flushed and renamed at the end: on failure or interrupt
// nothing changes. The output may be the input. Fails with kOutput.
Result<SavedModel> save_model(const Model& model, const std::filesystem::path& path,
                              const SaveOptions& options, Progress& progress);
// The same bytes in memory, always inline. Fails with kUnsupported beyond 2 GiB - 1.
Result<std::string> save_model_bytes(const Model& model, bool strip_notes = false);
// Copies a model file and its external data byte for byte, for runs that changed nothing.
Result<SavedModel> copy_model(const Model& model, const std::filesystem::path& path,
                              Progress& progress);

// Bytes of the model file and its external data files on disk; of an archive, once unpacked.
Result<SavedModel> model_size_on_disk(const Model& model);

// Serialises one tensor / parses a TensorProto file (ONNX test data, "input_0.pb").
struct NamedTensor {
  std::string name;
  Tensor tensor;
};
Result<NamedTensor> load_tensor_file(const std::filesystem::path& path);
Result<std::string> tensor_file_bytes(const NamedTensor& tensor);

// ONNX's own checker on the model as it would be written. Fails with kInput.
Status check_model(const Model& model);
// ONNX shape inference over the model; the types found are set through the Editor (not
// persisted). Never fatal: what inference complains about becomes a warning.
Status infer_shapes(Model& model, Editor& editor, Diagnostics& diagnostics);

}  // namespace mcompress
