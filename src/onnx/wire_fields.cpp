#include "onnx/wire_fields.h"

#include <limits>
#include <vector>

#include "support/try.h"

namespace mcompress::wire {
namespace {

Error malformed(std::uint64_t offset, const std::string& what) {
  return Error(Code::kInput, "model-malformed", "byte " + std::to_string(offset) + ": " + what, {},
               "the file is damaged, incomplete or not an ONNX model");
}

}  // namespace

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

Result<std::uint64_t> read_varint(std::string_view message, std::uint64_t& at, std::uint64_t end) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (at >= end) return malformed(at, "the message ends inside a number");
    const auto byte = static_cast<unsigned char>(message[at++]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return malformed(at, "a number is longer than ten bytes");
}

Result<Field> read_field(std::string_view message, std::uint64_t at, std::uint64_t end) {
  Field field;
  field.start = at;
  std::vector<std::uint32_t> groups;
  do {
    const std::uint64_t tag_start = at;
    MCOMPRESS_ASSIGN(const std::uint64_t tag, read_varint(message, at, end));
    const std::uint64_t number = tag >> 3;
    if (tag > std::numeric_limits<std::uint32_t>::max() || number == 0) {
      return malformed(tag_start, "field number " + std::to_string(number) + " is not valid");
    }
    if (groups.empty()) field.number = static_cast<std::uint32_t>(number);
    switch (tag & 7) {
      case 0: {
        MCOMPRESS_ASSIGN(field.value, read_varint(message, at, end));
        field.numeric = groups.empty();
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
        MCOMPRESS_ASSIGN(const std::uint64_t length, read_varint(message, at, end));
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

}  // namespace mcompress::wire
