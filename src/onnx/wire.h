// Moves tensor bytes out of and back into serialised ONNX messages without parsing them. Only the
// messages on the way to a tensor are walked; everything else is copied as it stands, so fields
// newer than the linked schema survive. Works on bytes alone: knows no protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/status.h"
#include "mcompress/tensor.h"

namespace mcompress::wire {

// What stands in a skeleton where the raw_data of a tensor was.
inline constexpr std::size_t kPlaceholderSize = 24;
std::string make_placeholder(std::uint64_t payload);
// The payload a raw_data field stands for; empty when it is no placeholder.
std::optional<std::uint64_t> placeholder_payload(std::string_view raw_data);

enum class Root : std::uint8_t { kModel, kTensor };

struct Slice {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// A message whose large tensors were replaced by placeholders.
struct Skeleton {
  std::string bytes;
  std::vector<Slice> payloads;  // ranges of the message it was made from
};

struct DeflateOptions {
  std::uint64_t threshold = 1024;  // raw_data of this many bytes on is replaced
  int max_graph_depth = 64;
};

// Fails with kInput on truncated or contradictory lengths and on graphs nested too deep. Touches
// only the bytes around tensors; linear in their number.
Result<Skeleton> deflate(std::span<const std::byte> message, Root root,
                         const DeflateOptions& options);

// Bytes in order, partly own text and partly ranges of storages that were not read yet.
struct Rope {
  struct Piece {
    StoragePtr storage;  // null: a range of `text`
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  std::string text;
  std::vector<Piece> pieces;
  std::uint64_t size = 0;
};

// The reverse: placeholders become the payloads they stand for and all lengths are set right.
Result<Rope> inflate(std::string_view skeleton, Root root, std::span<const StoragePtr> payloads);

// All bytes of a rope in memory. Fails with kUnsupported beyond what one message may hold.
Result<std::string> flatten(const Rope& rope);

inline constexpr std::uint64_t kMaxMessageBytes = 0x7fffffff;  // protobuf's own limit

}  // namespace mcompress::wire
