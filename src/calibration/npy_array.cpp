#include "calibration/npy_array.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kChunk = 256 << 10;
constexpr std::uint64_t kMaxLabelBytes = std::uint64_t{1} << 30;
constexpr std::int64_t kMaxTexts = 1 << 24;

Error bad(std::string id, std::string message) { return {Code::kInput, id, std::move(message)}; }

void swap_elements(std::span<std::byte> bytes, std::size_t width) {
  for (std::size_t i = 0; i + width <= bytes.size(); i += width) {
    std::reverse(bytes.data() + i, bytes.data() + i + width);
  }
}

Status append_utf8(std::uint32_t c, std::string& out) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
    return bad("npy-text", "a text holds " + std::to_string(c) + ", which is no character");
  }
  if (c < 0x80) {
    out += static_cast<char>(c);
    return ok_status();
  }
  int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr std::array<std::uint32_t, 4> kLead = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(kLead[static_cast<std::size_t>(tail)] | c >> (6 * tail));
  while (tail-- > 0) out += static_cast<char>(0x80 | (c >> (6 * tail) & 0x3F));
  return ok_status();
}

}  // namespace

std::string shape_text(std::span<const std::int64_t> dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims[i]);
  }
  return text + "]";
}

Result<NpyArray> NpyArray::open(std::unique_ptr<ByteSource> source, std::uint64_t max_bytes) {
  std::vector<std::byte> bytes(std::min<std::uint64_t>(kNpyPrefix, source->size()));
  MCOMPRESS_TRY(source->read(0, bytes));
  MCOMPRESS_ASSIGN(const std::uint64_t length, npy_header_bytes(bytes));
  if (length > source->size()) return bad("npy-invalid", "the file ends inside its header");
  const std::size_t known = std::min<std::size_t>(bytes.size(), length);
  bytes.resize(length);
  MCOMPRESS_TRY(source->read(known, std::span(bytes).subspan(known)));
  NpyArray array;
  MCOMPRESS_ASSIGN(array.header_, parse_npy_header(bytes, max_bytes));
  const std::uint64_t held = source->size() - length;
  if (held != array.header_.data_bytes) {
    return bad("npy-size", "the header announces " + std::to_string(array.header_.data_bytes) +
                               " bytes of elements, the file holds " + std::to_string(held));
  }
  array.source_ = std::move(source);
  return array;
}

NpyArray NpyArray::over(std::unique_ptr<ByteSource> source, NpyHeader header) {
  NpyArray array;
  array.header_ = std::move(header);
  array.source_ = std::move(source);
  return array;
}

void NpyArray::reshape(std::vector<std::int64_t> shape) {
  std::uint64_t elements = 1;
  for (const std::int64_t size : shape) elements *= static_cast<std::uint64_t>(size);
  header_.data_bytes = elements * header_.item_bytes;
  header_.shape = std::move(shape);
}

std::string NpyArray::type_text() const {
  std::string type;
  switch (header_.kind) {
    case NpyHeader::Kind::kNumber:
      type = dtype_name(header_.dtype);
      break;
    case NpyHeader::Kind::kUnicode:
    case NpyHeader::Kind::kBytes:
      type = "text";
      break;
  }
  return type + " " + shape_text(header_.shape);
}

Status NpyArray::read(std::uint64_t offset, std::span<std::byte> out) {
  MCOMPRESS_TRY(source_->read(header_.data_offset + offset, out));
  if (header_.swapped) {
    swap_elements(out, header_.kind == NpyHeader::Kind::kUnicode
                           ? 4
                           : static_cast<std::size_t>(header_.item_bytes));
  }
  if (offset <= hashed_ && offset + out.size() > hashed_) {
    hasher_.bytes(out.subspan(static_cast<std::size_t>(hashed_ - offset)));
    hashed_ = offset + out.size();
  }
  return ok_status();
}

Result<std::uint64_t> NpyArray::digest(std::uint64_t bytes) {
  if (hashed_ > bytes) {  // read beyond: the hash can not go back
    hasher_ = Hasher();
    hashed_ = 0;
  }
  std::vector<std::byte> chunk(
      static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, bytes - hashed_)));
  while (hashed_ < bytes) {
    const auto step = std::min<std::uint64_t>(chunk.size(), bytes - hashed_);
    MCOMPRESS_TRY(read(hashed_, std::span(chunk).first(static_cast<std::size_t>(step))));
  }
  Hasher whole;
  whole.text(header_.kind == NpyHeader::Kind::kNumber ? dtype_name(header_.dtype) : "text");
  whole.integer(header_.shape.size());
  for (std::size_t i = 1; i < header_.shape.size(); ++i) {
    whole.integer(static_cast<std::uint64_t>(header_.shape[i]));
  }
  return whole.integer(bytes).integer(hasher_.digest()).digest();
}

Result<std::vector<std::string>> read_texts(NpyArray& array, std::int64_t count) {
  const NpyHeader& header = array.header();
  if (header.kind == NpyHeader::Kind::kNumber) return bad("npy-text", "the array holds no text");
  if (count > kMaxTexts) return bad("npy-text", "more than 16 million texts");
  const bool wide = header.kind == NpyHeader::Kind::kUnicode;
  std::vector<std::string> texts(static_cast<std::size_t>(count));
  std::vector<std::byte> item(static_cast<std::size_t>(header.item_bytes));
  for (std::int64_t i = 0; i < count; ++i) {
    MCOMPRESS_TRY(array.read(static_cast<std::uint64_t>(i) * item.size(), item));
    std::string& text = texts[static_cast<std::size_t>(i)];
    std::size_t kept = 0;  // numpy pads with zeros at the end
    for (std::size_t at = 0; at < item.size(); at += wide ? 4 : 1) {
      std::uint32_t c = std::to_integer<std::uint32_t>(item[at]);
      if (wide) {
        std::memcpy(&c, item.data() + at, 4);
        MCOMPRESS_TRY(append_utf8(c, text));
      } else {
        text += static_cast<char>(c);
      }
      if (c != 0) kept = text.size();
    }
    text.resize(kept);
  }
  return texts;
}

Result<Tensor> read_rows(NpyArray& array, std::int64_t count) {
  const NpyHeader& header = array.header();
  const DTypeInfo* type = find_dtype(header.dtype);
  if (header.kind != NpyHeader::Kind::kNumber || type == nullptr || type->floating) {
    return bad("npy-integers", "integers are wanted, the array holds " + array.type_text());
  }
  std::vector<std::int64_t> dims = header.shape;
  std::uint64_t bytes = header.data_bytes;
  if (!dims.empty() && dims[0] > 0) {
    bytes = bytes / static_cast<std::uint64_t>(dims[0]) * static_cast<std::uint64_t>(count);
    dims[0] = count;
  }
  if (bytes > kMaxLabelBytes) {
    return bad("npy-labels-size", "labels of " + human_bytes(bytes) + " pass the limit of " +
                                      human_bytes(kMaxLabelBytes));
  }
  std::vector<std::byte> data(static_cast<std::size_t>(bytes));
  MCOMPRESS_TRY(array.read(0, data));
  return make_bytes_tensor(header.dtype, std::move(dims), std::move(data));
}

Result<double> read_number(NpyArray& array) {
  const NpyHeader& header = array.header();
  if (header.kind != NpyHeader::Kind::kNumber || element_count(header.shape).value_or(0) != 1) {
    return bad("npy-number", "one number is wanted, the array is " + array.type_text());
  }
  std::vector<std::byte> data(static_cast<std::size_t>(header.item_bytes));
  MCOMPRESS_TRY(array.read(0, data));
  if (header.dtype == DataType::kDouble) {
    double value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    return value;
  }
  const Tensor tensor = make_bytes_tensor(header.dtype, {}, std::move(data));
  MCOMPRESS_ASSIGN(const std::vector<float> values, read_floats(tensor));
  return values.front();
}

}  // namespace mcompress
