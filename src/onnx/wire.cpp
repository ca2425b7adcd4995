#include "onnx/wire.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "onnx/wire_fields.h"
#include "support/try.h"

namespace mcompress::wire {
namespace {

// Not text, not a likely weight, and with the top bits of the first byte clear, which the
// checker wants of padded types.
constexpr std::string_view kMagic("\x1bmcompress/weight", 16);

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
  Result<std::uint64_t> measure(Kind kind, std::uint64_t at, std::uint64_t end, int graphs) {
    if (kind == Kind::kGraph && ++graphs > max_graph_depth_) {
      return Error(Code::kInput, "graph-nesting",
                   "graphs are nested more than " + std::to_string(max_graph_depth_) + " deep");
    }
    std::uint64_t size = 0;
    while (at < end) {
      MCOMPRESS_ASSIGN(const Field field, read_field(message_, at, end));
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
      size += varint_size(delimited_tag(field.number)) + varint_size(inner) + inner;
    }
    return size;
  }

  void write(Kind kind, std::uint64_t at, std::uint64_t end, std::string& out) {
    std::uint64_t copied = at;  // everything before is written
    while (at < end) {
      const Field field = read_field(message_, at, end).value();
      at = field.end;
      const Kind child = field.delimited ? child_kind(kind, field.number) : Kind::kOther;
      if (child == Kind::kOther) continue;
      const std::uint64_t planned = plan_[next_++];
      if (child == Kind::kRawData && planned == 0) continue;
      out.append(message_, copied, field.start - copied);
      copied = field.end;
      append_varint(out, delimited_tag(field.number));
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
