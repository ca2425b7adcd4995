#include "onnx/wire.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "support/try.h"

namespace mcompress::wire {
namespace {

// Not text, not a likely weight, and with the top bits of the first byte clear, which the
// checker wants of padded types.
constexpr std::string_view kMagic("\x1bmcompress/weight", 16);

enum class Kind : std::uint8_t {
  kModel,
  kGraph,
  kNode,
  kAttribute,
  kTensor,
  kSparse,
  kFunction,
  kTraining,
  kRawData,
  kOther,
};

// Which message (or the raw data itself) a length-delimited field of a message holds.
Kind child_kind(Kind parent, std::uint32_t field) {
  switch (parent) {
    case Kind::kModel:
      if (field == 7) return Kind::kGraph;
      if (field == 20) return Kind::kTraining;
      if (field == 25) return Kind::kFunction;
      break;
    case Kind::kGraph:
      if (field == 1) return Kind::kNode;
      if (field == 5) return Kind::kTensor;
      if (field == 15) return Kind::kSparse;
      break;
    case Kind::kNode:
      if (field == 5) return Kind::kAttribute;
      break;
    case Kind::kAttribute:
      if (field == 5 || field == 10) return Kind::kTensor;
      if (field == 6 || field == 11) return Kind::kGraph;
      if (field == 22 || field == 23) return Kind::kSparse;
      break;
    case Kind::kSparse:
      if (field == 1 || field == 2) return Kind::kTensor;
      break;
    case Kind::kFunction:
      if (field == 7) return Kind::kNode;
      if (field == 11) return Kind::kAttribute;
      break;
    case Kind::kTraining:
      if (field == 1 || field == 2) return Kind::kGraph;
      break;
    case Kind::kTensor:
      if (field == 9) return Kind::kRawData;
      break;
    case Kind::kRawData:
    case Kind::kOther:
      break;
  }
  return Kind::kOther;
}

void append_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

std::uint64_t varint_size(std::uint64_t value) {
  std::uint64_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

Error malformed(std::uint64_t offset, const std::string& what) {
  return Error(Code::kInput, "model-malformed", "byte " + std::to_string(offset) + ": " + what, {},
               "the file is damaged, incomplete or not an ONNX model");
}

// What to do with the raw_data fields met on the way.
class RawData {
 public:
  virtual ~RawData() = default;
  // The size of what takes the place of these bytes; empty: they stay.
  virtual Result<std::optional<std::uint64_t>> replacement(std::uint64_t offset,
                                                           std::string_view bytes) = 0;
  // Called in the same order for each that does not stay.
  virtual void emit(std::string& out) = 0;
};

// Two passes over the same tree: the first measures every message, the second writes, knowing all
// lengths. Each byte of structure is looked at twice, payloads never.
class Rewriter {
 public:
  Rewriter(std::string_view message, int max_graph_depth, RawData& raw_data)
      : message_(message), max_graph_depth_(max_graph_depth), raw_data_(raw_data) {}

  Result<std::uint64_t> measure(Kind root) { return measure(root, 0, message_.size(), 0); }
  // Only after a successful measure.
  void write(Kind root, std::string& out) { write(root, 0, message_.size(), out); }

 private:
  struct Field {
    std::uint64_t start = 0;  // of the tag
    std::uint64_t body = 0;   // of the contents, for length-delimited fields
    std::uint64_t end = 0;
    std::uint32_t number = 0;
    bool delimited = false;
  };

  Result<std::uint64_t> read_varint(std::uint64_t& at, std::uint64_t end) const {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at >= end) return malformed(at, "the message ends inside a number");
      const auto byte = static_cast<unsigned char>(message_[at++]);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return malformed(at, "a number is longer than ten bytes");
  }

  // Reads one field and moves past it; groups, nested or not, count as one field.
  Result<Field> read_field(std::uint64_t at, std::uint64_t end) const {
    Field field;
    field.start = at;
    std::vector<std::uint32_t> groups;
    do {
      const std::uint64_t tag_start = at;
      MCOMPRESS_ASSIGN(const std::uint64_t tag, read_varint(at, end));
      const std::uint64_t number = tag >> 3;
      if (tag > std::numeric_limits<std::uint32_t>::max() || number == 0) {
        return malformed(tag_start, "field number " + std::to_string(number) + " is not valid");
      }
      if (groups.empty()) field.number = static_cast<std::uint32_t>(number);
      switch (tag & 7) {
        case 0: {
          MCOMPRESS_TRY(read_varint(at, end));
          break;
        }
        case 1:
        case 5: {
          const std::uint64_t width = (tag & 7) == 1 ? 8 : 4;
          if (end - at < width) return malformed(at, "the message ends inside a number");
          at += width;
          break;
        }
        case 2: {
          MCOMPRESS_ASSIGN(const std::uint64_t length, read_varint(at, end));
          if (length > end - at) {
            return malformed(tag_start, "field " + std::to_string(number) + " claims " +
                                            std::to_string(length) + " bytes, but only " +
                                            std::to_string(end - at) + " are left");
          }
          field.body = at;
          field.delimited = groups.empty();
          at += length;
          break;
        }
        case 3:
          if (groups.size() >= 100) return malformed(tag_start, "groups are nested too deep");
          groups.push_back(static_cast<std::uint32_t>(number));
          break;
        case 4:
          if (groups.empty() || groups.back() != number) {
            return malformed(tag_start, "a group ends that never began");
          }
          groups.pop_back();
          break;
        default:
          return malformed(tag_start, "wire type " + std::to_string(tag & 7) + " does not exist");
      }
    } while (!groups.empty());
    field.end = at;
    return field;
  }

  Result<std::uint64_t> measure(Kind kind, std::uint64_t at, std::uint64_t end, int graphs) {
    if (kind == Kind::kGraph && ++graphs > max_graph_depth_) {
      return Error(Code::kInput, "graph-nesting",
                   "graphs are nested more than " + std::to_string(max_graph_depth_) + " deep");
    }
    std::uint64_t size = 0;
    while (at < end) {
      MCOMPRESS_ASSIGN(const Field field, read_field(at, end));
      at = field.end;
      const Kind child = field.delimited ? child_kind(kind, field.number) : Kind::kOther;
      if (child == Kind::kOther) {
        size += field.end - field.start;
        continue;
      }
      std::uint64_t inner = 0;
      if (child == Kind::kRawData) {
        MCOMPRESS_ASSIGN(const std::optional<std::uint64_t> replaced,
                         raw_data_.replacement(field.body, body(field)));
        plan_.push_back(replaced.has_value());
        if (!replaced) {
          size += field.end - field.start;
          continue;
        }
        inner = *replaced;
      } else {
        const std::size_t slot = plan_.size();
        plan_.push_back(0);
        MCOMPRESS_ASSIGN(inner, measure(child, field.body, field.end, graphs));
        plan_[slot] = inner;
      }
      size += varint_size(tag_of(field)) + varint_size(inner) + inner;
    }
    return size;
  }

  void write(Kind kind, std::uint64_t at, std::uint64_t end, std::string& out) {
    std::uint64_t copied = at;  // everything before is written
    while (at < end) {
      const Field field = read_field(at, end).value();
      at = field.end;
      const Kind child = field.delimited ? child_kind(kind, field.number) : Kind::kOther;
      if (child == Kind::kOther) continue;
      const std::uint64_t planned = plan_[next_++];
      if (child == Kind::kRawData && planned == 0) continue;
      out.append(message_, copied, field.start - copied);
      copied = field.end;
      append_varint(out, tag_of(field));
      if (child == Kind::kRawData) {
        raw_data_.emit(out);
      } else {
        append_varint(out, planned);
        write(child, field.body, field.end, out);
      }
    }
    out.append(message_, copied, end - copied);
  }

  std::string_view body(const Field& field) const {
    return message_.substr(field.body, field.end - field.body);
  }
  static std::uint64_t tag_of(const Field& field) {
    return (static_cast<std::uint64_t>(field.number) << 3) | 2;
  }

  std::string_view message_;
  int max_graph_depth_;
  RawData& raw_data_;
  // In the order of the walk: the new size of a message, or whether a raw_data is replaced.
  std::vector<std::uint64_t> plan_;
  std::size_t next_ = 0;
};

class TakeOut final : public RawData {
 public:
  explicit TakeOut(std::uint64_t threshold)
      : threshold_(std::max<std::uint64_t>(threshold, kPlaceholderSize)) {}

  Result<std::optional<std::uint64_t>> replacement(std::uint64_t offset,
                                                   std::string_view bytes) override {
    // Data that looks like a placeholder is taken out whatever its size: then whatever looks like
    // one in a skeleton is one.
    if (bytes.size() < threshold_ && !placeholder_payload(bytes)) {
      return std::optional<std::uint64_t>();
    }
    payloads.push_back({offset, bytes.size()});
    return std::optional<std::uint64_t>(kPlaceholderSize);
  }
  void emit(std::string& out) override {
    append_varint(out, kPlaceholderSize);
    out += make_placeholder(written_++);
  }

  std::vector<Slice> payloads;

 private:
  std::uint64_t threshold_;
  std::uint64_t written_ = 0;
};

class PutBack final : public RawData {
 public:
  PutBack(std::span<const StoragePtr> payloads, Rope& rope) : payloads_(payloads), rope_(rope) {}

  Result<std::optional<std::uint64_t>> replacement(std::uint64_t offset,
                                                   std::string_view bytes) override {
    const auto payload = placeholder_payload(bytes);
    if (!payload) return std::optional<std::uint64_t>();
    if (*payload >= payloads_.size() || payloads_[*payload] == nullptr) {
      return Error(Code::kInternal, "payload-unknown",
                   "payload " + std::to_string(*payload) + " at byte " + std::to_string(offset) +
                       " of a skeleton is not one of " + std::to_string(payloads_.size()));
    }
    order_.push_back(payloads_[*payload]);
    return std::optional<std::uint64_t>(order_.back()->size());
  }
  void emit(std::string& out) override {
    StoragePtr& storage = order_[written_++];
    const std::uint64_t size = storage->size();
    append_varint(out, size);
    end_text(out);
    if (size != 0) rope_.pieces.push_back({std::move(storage), 0, size});
  }
  void end_text(const std::string& out) {
    if (out.size() > text_done_) {
      rope_.pieces.push_back({nullptr, text_done_, out.size() - text_done_});
    }
    text_done_ = out.size();
  }

 private:
  std::span<const StoragePtr> payloads_;
  Rope& rope_;
  std::vector<StoragePtr> order_;
  std::size_t written_ = 0;
  std::uint64_t text_done_ = 0;
};

Kind kind_of(Root root) { return root == Root::kModel ? Kind::kModel : Kind::kTensor; }

}  // namespace

std::string make_placeholder(std::uint64_t payload) {
  std::string text(kMagic);
  for (int i = 0; i < 8; ++i) text.push_back(static_cast<char>(payload >> (8 * i)));
  return text;
}

std::optional<std::uint64_t> placeholder_payload(std::string_view raw_data) {
  if (raw_data.size() != kPlaceholderSize || raw_data.substr(0, kMagic.size()) != kMagic) {
    return std::nullopt;
  }
  std::uint64_t payload = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    payload |= static_cast<std::uint64_t>(static_cast<unsigned char>(raw_data[16 + i])) << (8 * i);
  }
  return payload;
}

Result<Skeleton> deflate(std::span<const std::byte> message, Root root,
                         const DeflateOptions& options) {
  const std::string_view text(reinterpret_cast<const char*>(message.data()), message.size());
  TakeOut take_out(options.threshold);
  Rewriter rewriter(text, options.max_graph_depth, take_out);
  MCOMPRESS_ASSIGN(const std::uint64_t size, rewriter.measure(kind_of(root)));
  Skeleton skeleton;
  skeleton.bytes.reserve(size);
  rewriter.write(kind_of(root), skeleton.bytes);
  skeleton.payloads = std::move(take_out.payloads);
  return skeleton;
}

Result<Rope> inflate(std::string_view skeleton, Root root, std::span<const StoragePtr> payloads) {
  Rope rope;
  PutBack put_back(payloads, rope);
  // What was loaded within a limit is written without one.
  Rewriter rewriter(skeleton, std::numeric_limits<int>::max(), put_back);
  MCOMPRESS_ASSIGN(rope.size, rewriter.measure(kind_of(root)));
  rope.text.reserve(skeleton.size());
  rewriter.write(kind_of(root), rope.text);
  put_back.end_text(rope.text);
  return rope;
}

Result<std::string> flatten(const Rope& rope) {
  if (rope.size > kMaxMessageBytes) {
    return Error(Code::kUnsupported, "message-too-large",
                 std::to_string(rope.size) + " bytes do not fit one message of at most " +
                     std::to_string(kMaxMessageBytes));
  }
  std::string bytes;
  bytes.reserve(rope.size);
  for (const Rope::Piece& piece : rope.pieces) {
    if (piece.storage == nullptr) {
      bytes.append(rope.text, piece.offset, piece.length);
      continue;
    }
    MCOMPRESS_ASSIGN(const Pinned pinned, piece.storage->pin(piece.offset, piece.length));
    bytes.append(reinterpret_cast<const char*>(pinned.bytes().data()), pinned.bytes().size());
    piece.storage->release(piece.offset, piece.length);
  }
  return bytes;
}

}  // namespace mcompress::wire
