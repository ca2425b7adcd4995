// Archives: a model's files, or its weights alone, in less space; bit-exact back. load_model reads
// them as they are. docs/format.md describes the bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mcompress/codec.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

struct PackOptions {
  bool only_weights = false;  // the initializers of the main graph, no graph
  bool allow_larger = false;
  CodingEffort effort = CodingEffort::kThorough;
  bool dry_run = false;  // do all of it, and leave no archive
  int threads = 0;       // 0: as many as there are; the bytes do not depend on it
};

struct PackedTensor {
  std::string name;
  std::uint64_t bytes = 0, coded = 0;  // coded 0: the same bytes as another tensor
};
struct PackedModel {
  std::uint64_t bytes = 0;    // of the files, or of the weights, that were packed
  std::uint64_t archive = 0;  // of the archive
  std::vector<PackedTensor> tensors;
};

// Packs a model that was loaded from a file and not edited, with its external data. Every block is
// decoded and compared before it is written; the archive appears whole or not at all. Fails with
// kUnsupported on a model that is an archive already or has no weights to pack, with kOutput when
// the archive would be larger and that was not allowed.
Result<PackedModel> pack_model(const Model& model, const std::filesystem::path& archive,
                               const PackOptions& options, Progress& progress);

// Whether the file begins like an archive. Fails with kInput when it can not be read.
Result<bool> is_archive(const std::filesystem::path& path);

// Writes the model file of an archive as `model`, and its data files where that file looks for
// them; byte for byte what was packed, which their digests prove. Fails with kUnsupported on an
// archive of weights alone.
Result<SavedModel> unpack_archive(const std::filesystem::path& archive,
                                  const std::filesystem::path& model, Progress& progress);

// The same, checks and all, without leaving a file.
Result<SavedModel> check_archive(const std::filesystem::path& archive,
                                 const std::filesystem::path& model, Progress& progress);

// What an archive holds, tensor by tensor; damaged blocks are not noticed.
Result<PackedModel> describe_archive(const std::filesystem::path& archive);

}  // namespace mcompress
