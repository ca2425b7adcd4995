#include "calibration/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "mcompress/tensor.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kMaxRank = 32;  // numpy's own limit for long

Error bad(std::string message, std::string hint = {}) {
  return {Code::kInput, "npy-invalid", std::move(message), {}, std::move(hint)};
}

std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  return value;
}

// The header is a Python dict of a string, a boolean and a tuple of integers.
class DictParser {
 public:
  explicit DictParser(std::string_view text) : text_(text) {}

  struct Fields {
    std::optional<std::string_view> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<std::int64_t>> shape;
  };

  Result<Fields> parse() {
    Fields fields;
    if (!take('{')) return broken("'{'");
    while (!take('}')) {
      MCOMPRESS_ASSIGN(const std::string_view key, quoted());
      if (!take(':')) return broken("':'");
      if (key == "descr" && !fields.descr) {
        if (peek() == '[') {
          return bad("structured arrays (records) are not supported",
                     "save each field as an array of its own");
        }
        MCOMPRESS_ASSIGN(fields.descr, quoted());
      } else if (key == "fortran_order" && !fields.fortran_order) {
        MCOMPRESS_ASSIGN(fields.fortran_order, boolean());
      } else if (key == "shape" && !fields.shape) {
        MCOMPRESS_ASSIGN(fields.shape, tuple());
      } else {
        return bad("the header has an unexpected or repeated key '" + std::string(key) + "'");
      }
      if (!take(',') && peek() != '}') return broken("',' or '}'");
    }
    if (peek() != '\0') return broken("the end");
    if (!fields.descr || !fields.fortran_order || !fields.shape) {
      return bad("the header lacks 'descr', 'fortran_order' or 'shape'");
    }
    return fields;
  }

 private:
  char peek() {
    while (position_ < text_.size() &&
           (text_[position_] == ' ' || text_[position_] == '\n' || text_[position_] == '\t')) {
      ++position_;
    }
    return position_ < text_.size() ? text_[position_] : '\0';
  }
  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++position_;
    return true;
  }
  Error broken(std::string_view wanted) const {
    return bad("the header is malformed: expected " + std::string(wanted) + " at its byte " +
               std::to_string(position_));
  }
  Result<std::string_view> quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return broken("a quoted text");
    const std::size_t end = text_.find(quote, position_ + 1);
    if (end == std::string_view::npos) return broken("a closing quote");
    const std::string_view inside = text_.substr(position_ + 1, end - position_ - 1);
    position_ = end + 1;
    return inside;
  }
  Result<bool> boolean() {
    peek();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true},
                                      std::pair<std::string_view, bool>{"False", false}}) {
      if (text_.substr(position_).starts_with(word)) {
        position_ += word.size();
        return value;
      }
    }
    return broken("True or False");
  }
  Result<std::vector<std::int64_t>> tuple() {
    std::vector<std::int64_t> dims;
    if (!take('(')) return broken("'('");
    while (!take(')')) {
      peek();
      std::int64_t size = 0;
      const char* const end = text_.data() + text_.size();
      const auto [next, error] = std::from_chars(text_.data() + position_, end, size);
      if (error != std::errc() || size < 0) return broken("a size");
      position_ = static_cast<std::size_t>(next - text_.data());
      take('L');  // Python 2 wrote 3L
      dims.push_back(size);
      if (dims.size() > kMaxRank) return bad("the array has more than 32 axes");
      if (!take(',') && peek() != ')') return broken("',' or ')'");
    }
    return dims;
  }

  std::string_view text_;
  std::size_t position_ = 0;
};

struct NumberType {
  char kind;
  std::uint64_t bytes;
  DataType dtype;
};
constexpr std::array<NumberType, 12> kNumbers = {{
    {'f', 2, DataType::kFloat16},
    {'f', 4, DataType::kFloat},
    {'f', 8, DataType::kDouble},
    {'i', 1, DataType::kInt8},
    {'i', 2, DataType::kInt16},
    {'i', 4, DataType::kInt32},
    {'i', 8, DataType::kInt64},
    {'u', 1, DataType::kUint8},
    {'u', 2, DataType::kUint16},
    {'u', 4, DataType::kUint32},
    {'u', 8, DataType::kUint64},
    {'b', 1, DataType::kBool},
}};

Status read_descr(std::string_view descr, NpyHeader& header) {
  const std::string shown = std::string("'").append(descr) + "'";
  std::string_view rest = descr;
  bool big = false;
  if (!rest.empty() && std::string_view("<>=|").find(rest[0]) != std::string_view::npos) {
    big = rest[0] == '>';
    rest.remove_prefix(1);
  }
  if (rest.empty()) return bad("the element type " + shown + " is not known");
  const char kind = rest[0];
  rest.remove_prefix(1);
  if (kind == 'O') {
    return bad("arrays of Python objects are refused: reading them would run a pickle",
               "convert to numbers or text first, for example with astype(np.float32)");
  }
  std::uint64_t size = 0;
  const auto [next, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
  if (error != std::errc() || next != rest.data() + rest.size()) {
    return bad("the element type " + shown + " is not known");
  }
  if (kind == 'U' || kind == 'S') {
    header.kind = kind == 'U' ? NpyHeader::Kind::kUnicode : NpyHeader::Kind::kBytes;
    if (size > (1u << 20)) return bad("texts of " + std::to_string(size) + " characters each");
    header.item_bytes = kind == 'U' ? 4 * size : size;
    header.swapped = big && kind == 'U';
    return ok_status();
  }
  for (const NumberType& number : kNumbers) {
    if (number.kind != kind || number.bytes != size) continue;
    header.dtype = number.dtype;
    header.item_bytes = size;
    header.swapped = big && size > 1;
    return ok_status();
  }
  return bad("the element type " + shown + " is not supported",
             "booleans, integers, floats of 16 to 64 bits, and texts are");
}

}  // namespace

std::int64_t NpyHeader::row_elements() const {
  if (shape.empty()) return 1;
  return element_count(std::span(shape).subspan(1)).value_or(0);
}

Result<std::uint64_t> npy_header_bytes(std::span<const std::byte> prefix) {
  if (prefix.size() < kNpyPrefix || std::memcmp(prefix.data(), kMagic.data(), 6) != 0) {
    return bad("this is no NPY array: it does not begin with \\x93NUMPY");
  }
  const int major = std::to_integer<int>(prefix[6]);
  if (major < 1 || major > 3) {
    return bad("NPY version " + std::to_string(major) + " is not known (1 to 3 are)");
  }
  const std::uint64_t fixed = major == 1 ? 10 : 12;
  const std::uint64_t length = little_endian(prefix.subspan(8, major == 1 ? 2 : 4));
  if (length > kNpyHeaderLimit) {
    return bad("the header claims " + std::to_string(length) + " bytes, more than " +
               std::to_string(kNpyHeaderLimit));
  }
  return fixed + length;
}

Result<NpyHeader> parse_npy_header(std::span<const std::byte> bytes, std::uint64_t max_bytes) {
  MCOMPRESS_ASSIGN(const std::uint64_t length, npy_header_bytes(bytes));
  if (bytes.size() < length) return bad("the file ends inside its header");
  const std::size_t fixed = bytes[6] == std::byte{1} ? 10 : 12;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + fixed, length - fixed);
  MCOMPRESS_ASSIGN(DictParser::Fields fields, DictParser(text).parse());
  NpyHeader header;
  MCOMPRESS_TRY(read_descr(*fields.descr, header));
  header.shape = std::move(*fields.shape);
  header.data_offset = length;
  const auto long_axes = std::ranges::count_if(header.shape, [](auto size) { return size != 1; });
  const std::optional<std::int64_t> elements = element_count(header.shape);
  if (!elements) return bad("the shape overflows");
  if (*fields.fortran_order && long_axes > 1 && *elements != 0) {
    return bad("the array is stored in column-major (Fortran) order",
               "save np.ascontiguousarray(array) instead");
  }
  // Texts of no length take no bytes, yet cost memory each.
  const std::uint64_t cost = std::max<std::uint64_t>(header.item_bytes, 1);
  if (static_cast<std::uint64_t>(*elements) > max_bytes / cost) {
    return bad("an array of " + std::to_string(*elements) + " elements of " +
               std::to_string(header.item_bytes) + " bytes passes the limit of " +
               human_bytes(max_bytes));
  }
  header.data_bytes = static_cast<std::uint64_t>(*elements) * header.item_bytes;
  return header;
}

}  // namespace mcompress
