// An archive as something that a runtime loads: the model without its weights, and those. Knows no
// protobuf, so that the small library around it needs none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/container.h"
#include "mcompress/status.h"

namespace mcompress {

struct LoadableTensor {
  std::string name;
  std::int32_t dtype = 0;  // ONNX's number
  std::vector<std::int64_t> dims;
  std::uint64_t bytes = 0;  // what type and dimensions need
  std::uint32_t file = codec::kNoFile;
  std::uint64_t offset = 0;  // in the file
  std::size_t stream = 0;    // without a file
};

class LoadableArchive {
 public:
  // `bytes` stay in use. Fails with kInput on a damaged archive or model, with kUnsupported on
  // another version and when the rest of the model exceeds one message.
  static Result<LoadableArchive> open(std::span<const std::byte> bytes);

  // The model; its large initializers, `tensors`, are external data without a file. Empty: there
  // are weights only.
  const std::optional<std::string>& model() const { return model_; }
  const std::vector<LoadableTensor>& tensors() const { return tensors_; }
  std::optional<std::size_t> find(std::string_view name) const;
  // `out` has the tensor's bytes. Fails with kInput when the archive is damaged there.
  Status read(std::size_t tensor, std::span<std::byte> out) const;

 private:
  explicit LoadableArchive(codec::Archive archive) : archive_(std::move(archive)) {}
  Status list_weights();

  codec::Archive archive_;
  std::vector<std::vector<codec::Archive::Piece>> pieces_;  // of each file
  std::optional<std::string> model_;
  std::vector<LoadableTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace mcompress
