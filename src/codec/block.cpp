#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "codec/kernels.h"
#include "codec/plane.h"
#include "codec/prediction.h"
#include "codec/zstandard.h"
#include "mcompress/codec.h"

namespace mcompress {
namespace codec {
namespace {

enum class BlockMode : std::uint8_t {
  kRaw = 0,
  kZstd = 1,
  kPlanes = 2,
  kSparse = 3,    // gaps between elements that are not 0, then planes of those
  kCodebook = 4,  // at most 256 different elements, then a plane of their numbers
  kNibbles = 5,
  kPredicted = 6,  // bytes less a linear prediction from bytes before them
  kPredictedNibbles = 7,
};

constexpr std::uint8_t kRotate = 1;  // sign bits go below the mantissa
constexpr std::uint8_t kDelta = 2;   // each element less the one before
constexpr std::size_t kMostWords = 256;

std::uint64_t element_at(Bytes bytes, std::size_t i, std::size_t width) {
  return load_le(bytes.data() + i * width, width);
}

template <class T>
void difference(Bytes bytes, Buffer& out) {
  T before = 0;
  for (std::size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
    const auto value = static_cast<T>(load_le(bytes.data() + at, sizeof(T)));
    put_le(out, static_cast<T>(value - before), sizeof(T));
    before = value;
  }
}

template <class T>
void sum_up(std::span<std::uint8_t> bytes) {
  T value = 0;
  for (std::size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
    value = static_cast<T>(value + static_cast<T>(load_le(bytes.data() + at, sizeof(T))));
    for (std::size_t b = 0; b < sizeof(T); ++b) {
      bytes[at + b] = static_cast<std::uint8_t>(value >> (8 * b));
    }
  }
}

// What every encoder of a block gets: whole elements, and the bytes behind the last one.
struct Source {
  Bytes whole, tail;
  std::size_t width;
  bool floating;
  PlaneOptions planes;
};

void put_planes(Bytes elements, std::size_t width, bool rotate, const PlaneOptions& options,
                Buffer& out) {
  const std::size_t count = elements.size() / width;
  Buffer planes(elements.size());
  split_planes(elements.data(), count, width, rotate, planes.data());
  for (std::size_t b = 0; b < width; ++b) {
    encode_plane(Bytes(planes).subspan(b * count, count), options, out);
  }
}

Buffer plane_block(const Source& source, bool delta) {
  Buffer out{static_cast<std::uint8_t>(BlockMode::kPlanes), static_cast<std::uint8_t>(source.width),
             static_cast<std::uint8_t>((source.floating ? kRotate : 0) | (delta ? kDelta : 0))};
  Bytes elements = source.whole;
  Buffer differences;
  if (delta) {
    differences.reserve(elements.size());
    if (source.width == 1) difference<std::uint8_t>(elements, differences);
    if (source.width == 2) difference<std::uint16_t>(elements, differences);
    if (source.width == 4) difference<std::uint32_t>(elements, differences);
    if (source.width == 8) difference<std::uint64_t>(elements, differences);
    elements = differences;
  }
  put_planes(elements, source.width, source.floating, source.planes, out);
  out.insert(out.end(), source.tail.begin(), source.tail.end());
  return out;
}

Buffer sparse_block(const Source& source) {
  Buffer out{static_cast<std::uint8_t>(BlockMode::kSparse), static_cast<std::uint8_t>(source.width),
             static_cast<std::uint8_t>(source.floating ? kRotate : 0)};
  Buffer gaps, values;
  std::uint64_t gap = 0;
  for (std::size_t i = 0; i < source.whole.size() / source.width; ++i) {
    if (element_at(source.whole, i, source.width) == 0) {
      ++gap;
      continue;
    }
    put_gap(gaps, gap);
    const Bytes element = source.whole.subspan(i * source.width, source.width);
    values.insert(values.end(), element.begin(), element.end());
    gap = 0;
  }
  put_number(out, values.size() / source.width);
  put_number(out, gaps.size());
  encode_plane(gaps, source.planes, out);
  put_planes(values, source.width, source.floating, source.planes, out);
  out.insert(out.end(), source.tail.begin(), source.tail.end());
  return out;
}

// The different elements in rising order; empty when there are more than 256.
std::vector<std::uint64_t> codebook_of(const Source& source) {
  constexpr std::size_t kSlots = 2048;
  std::vector<std::uint64_t> keys(kSlots);
  std::vector<std::uint8_t> used(kSlots, 0);
  std::vector<std::uint64_t> words;
  for (std::size_t i = 0; i < source.whole.size() / source.width; ++i) {
    const std::uint64_t value = element_at(source.whole, i, source.width);
    std::size_t slot = (value * 0x9e3779b97f4a7c15ULL) >> 53;
    while (used[slot] != 0 && keys[slot] != value) slot = (slot + 1) % kSlots;
    if (used[slot] != 0) continue;
    if (words.size() == kMostWords) return {};
    used[slot] = 1;
    keys[slot] = value;
    words.push_back(value);
  }
  std::sort(words.begin(), words.end());
  return words;
}

Buffer codebook_block(const Source& source, const std::vector<std::uint64_t>& words) {
  Buffer out{static_cast<std::uint8_t>(BlockMode::kCodebook),
             static_cast<std::uint8_t>(source.width), static_cast<std::uint8_t>(words.size() - 1)};
  for (const std::uint64_t word : words) put_le(out, word, source.width);
  Buffer numbers(source.whole.size() / source.width);
  std::uint64_t last = words[0];
  std::uint8_t number = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::uint64_t value = element_at(source.whole, i, source.width);
    if (value != last) {
      last = value;
      number = static_cast<std::uint8_t>(std::lower_bound(words.begin(), words.end(), value) -
                                         words.begin());
    }
    numbers[i] = number;
  }
  encode_plane(numbers, source.planes, out);
  out.insert(out.end(), source.tail.begin(), source.tail.end());
  return out;
}

Buffer halves_of(Bytes bytes) {
  Buffer symbols;
  symbols.reserve(2 * bytes.size());
  for (const std::uint8_t byte : bytes) {
    symbols.push_back(byte & 15);
    symbols.push_back(byte >> 4);
  }
  return symbols;
}

Buffer nibble_block(const Source& source) {
  Buffer out{static_cast<std::uint8_t>(BlockMode::kNibbles)};
  encode_plane(halves_of(source.whole), source.planes, out);
  return out;
}

Buffer predicted_block(BlockMode mode, Bytes bytes, const Predictor& predictor,
                       const PlaneOptions& options) {
  Buffer out{static_cast<std::uint8_t>(mode), predictor.centre,
             static_cast<std::uint8_t>(predictor.taps.size())};
  for (const Tap& tap : predictor.taps) {
    put_number(out, tap.lag);
    out.push_back(static_cast<std::uint8_t>(tap.coefficient));
  }
  encode_plane(predicted_away(bytes, predictor), options, out);
  return out;
}

void keep_smaller(Buffer& best, Buffer&& other) {
  if (other.size() < best.size()) best = std::move(other);
}

Buffer encode(Bytes bytes, const Elements& elements, CodingEffort effort) {
  Source source;
  source.width = elements.width;
  source.floating = elements.floating && elements.width > 1;
  const std::size_t whole = bytes.size() / source.width * source.width;
  source.whole = bytes.first(whole);
  source.tail = bytes.subspan(whole);
  source.planes.thorough = effort == CodingEffort::kThorough;

  Buffer best = plane_block(source, false);
  if (source.width > 1 && whole > 0) {
    std::size_t zeros = 0;
    for (std::size_t i = 0; i < whole / source.width; ++i) {
      zeros += element_at(bytes, i, source.width) == 0 ? 1 : 0;
    }
    if (zeros * source.width * 100 > whole * kSparsePercent) {
      keep_smaller(best, sparse_block(source));
    }
    const std::vector<std::uint64_t> words = codebook_of(source);
    if (!words.empty()) keep_smaller(best, codebook_block(source, words));
  }
  // Neighbours in integer weights, too, are often near each other.
  if (!elements.floating) keep_smaller(best, plane_block(source, true));
  if (effort == CodingEffort::kThorough && !elements.floating && source.width == 1) {
    if (const auto predictor = find_predictor(bytes); predictor && !elements.nibbles) {
      keep_smaller(best, predicted_block(BlockMode::kPredicted, bytes, *predictor, source.planes));
    }
    // Indices of codebooks are packed in bytes, two each.
    const Buffer halves = halves_of(bytes);
    if (const auto predictor = find_predictor(halves)) {
      keep_smaller(
          best, predicted_block(BlockMode::kPredictedNibbles, halves, *predictor, source.planes));
    }
  }
  if (elements.nibbles) keep_smaller(best, nibble_block(source));
  if (effort == CodingEffort::kThorough && bytes.size() >= 64) {
    if (bytes.size() <= 8192 || zstd_encode(bytes, kZstdTrial, best.size())) {
      if (auto frame = zstd_encode(bytes, kZstdBest, best.size())) {
        frame->insert(frame->begin(), static_cast<std::uint8_t>(BlockMode::kZstd));
        keep_smaller(best, std::move(*frame));
      }
    }
  }
  if (best.size() > bytes.size()) {
    best.assign(1, static_cast<std::uint8_t>(BlockMode::kRaw));
    best.insert(best.end(), bytes.begin(), bytes.end());
  }
  return best;
}

bool valid_width(std::size_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

// Planes of `elements.size() / width` bytes each, joined into elements.
bool take_planes(ByteReader& in, std::size_t width, bool rotate, std::span<std::uint8_t> elements) {
  const std::size_t count = elements.size() / width;
  if (width == 1) return decode_plane(in, elements);
  Buffer planes(elements.size());
  for (std::size_t b = 0; b < width; ++b) {
    if (!decode_plane(in, std::span(planes).subspan(b * count, count))) return false;
  }
  join_planes(planes.data(), count, width, rotate, elements.data());
  return true;
}

bool take_tail(ByteReader& in, std::span<std::uint8_t> out, std::size_t width) {
  const std::size_t length = out.size() % width;
  const Bytes tail = in.take(length);
  if (in.failed()) return false;
  std::copy(tail.begin(), tail.end(), out.end() - static_cast<std::ptrdiff_t>(length));
  return in.left() == 0;
}

bool decode_planes(ByteReader& in, std::span<std::uint8_t> out) {
  const std::size_t width = in.byte();
  const std::uint8_t flags = in.byte();
  if (!valid_width(width) || flags > (kRotate | kDelta)) return false;
  if (width == 1 && (flags & kRotate) != 0) return false;
  const std::span<std::uint8_t> whole = out.first(out.size() / width * width);
  if (!take_planes(in, width, (flags & kRotate) != 0, whole)) return false;
  if ((flags & kDelta) != 0) {
    if (width == 1) sum_up<std::uint8_t>(whole);
    if (width == 2) sum_up<std::uint16_t>(whole);
    if (width == 4) sum_up<std::uint32_t>(whole);
    if (width == 8) sum_up<std::uint64_t>(whole);
  }
  return take_tail(in, out, width);
}

bool decode_sparse(ByteReader& in, std::span<std::uint8_t> out) {
  const std::size_t width = in.byte();
  const std::uint8_t flags = in.byte();
  const std::uint64_t others = in.number();
  const std::uint64_t gap_bytes = in.number();
  if (in.failed() || !valid_width(width) || width == 1 || flags > kRotate) return false;
  const std::size_t count = out.size() / width;
  if (others > count || gap_bytes < others || gap_bytes > others + count / 255) return false;
  Buffer gaps(static_cast<std::size_t>(gap_bytes));
  Buffer values(static_cast<std::size_t>(others) * width);
  if (!decode_plane(in, gaps)) return false;
  if (!take_planes(in, width, (flags & kRotate) != 0, values)) return false;
  std::fill(out.begin(), out.end(), 0);
  std::size_t at = 0, next = 0;
  for (const std::uint8_t gap : gaps) {
    at += gap;
    if (gap == 255) continue;
    if (at >= count || next == others) return false;
    std::memcpy(out.data() + at++ * width, values.data() + next++ * width, width);
  }
  return next == others && (gaps.empty() || gaps.back() != 255) && take_tail(in, out, width);
}

bool decode_codebook(ByteReader& in, std::span<std::uint8_t> out) {
  const std::size_t width = in.byte();
  const std::size_t words = std::size_t{in.byte()} + 1;
  if (!valid_width(width) || width == 1) return false;
  const Bytes book = in.take(words * width);
  if (in.failed()) return false;
  Buffer numbers(out.size() / width);
  if (!decode_plane(in, numbers)) return false;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] >= words) return false;
    std::memcpy(out.data() + i * width, book.data() + numbers[i] * width, width);
  }
  return take_tail(in, out, width);
}

bool decode_predicted(ByteReader& in, std::span<std::uint8_t> out) {
  Predictor predictor;
  predictor.centre = in.byte();
  const std::size_t taps = in.byte();
  if (taps == 0 || taps > kMostTaps) return false;
  for (std::size_t i = 0; i < taps; ++i) {
    const std::uint64_t lag = in.number();
    const auto coefficient = static_cast<std::int8_t>(in.byte());
    if (in.failed() || lag == 0 || lag > kMostLag || lag >= out.size() || coefficient == 0) {
      return false;
    }
    predictor.taps.push_back({static_cast<std::uint32_t>(lag), coefficient});
  }
  if (!decode_plane(in, out) || in.left() != 0) return false;
  predict_back(out, predictor);
  return true;
}

bool join_halves(const Buffer& symbols, std::span<std::uint8_t> out) {
  std::uint8_t seen = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    seen = static_cast<std::uint8_t>(seen | symbols[2 * i] | symbols[2 * i + 1]);
    out[i] = static_cast<std::uint8_t>(symbols[2 * i] | symbols[2 * i + 1] << 4);
  }
  return seen < 16;
}

bool decode_predicted_nibbles(ByteReader& in, std::span<std::uint8_t> out) {
  Buffer symbols(2 * out.size());
  return decode_predicted(in, symbols) && join_halves(symbols, out);
}

bool decode_nibbles(ByteReader& in, std::span<std::uint8_t> out) {
  Buffer symbols(2 * out.size());
  return decode_plane(in, symbols) && in.left() == 0 && join_halves(symbols, out);
}

bool decode(Bytes coded, std::span<std::uint8_t> out) {
  if (out.empty()) return coded.empty();
  if (out.size() > kMostBlockBytes || coded.empty() || coded.size() > out.size() + kBlockOverhead) {
    return false;
  }
  ByteReader in(coded);
  const auto mode = static_cast<BlockMode>(in.byte());
  switch (mode) {
    case BlockMode::kRaw: {
      const Bytes raw = in.take(in.left());
      if (raw.size() != out.size()) return false;
      std::copy(raw.begin(), raw.end(), out.begin());
      return true;
    }
    case BlockMode::kZstd:
      return zstd_decode(in.take(in.left()), out);
    case BlockMode::kPlanes:
      return decode_planes(in, out);
    case BlockMode::kSparse:
      return decode_sparse(in, out);
    case BlockMode::kCodebook:
      return decode_codebook(in, out);
    case BlockMode::kNibbles:
      return decode_nibbles(in, out);
    case BlockMode::kPredicted:
      return decode_predicted(in, out);
    case BlockMode::kPredictedNibbles:
      return decode_predicted_nibbles(in, out);
    default:
      return false;
  }
}

}  // namespace
}  // namespace codec

std::vector<std::byte> encode_block(std::span<const std::byte> bytes, const Elements& elements,
                                    CodingEffort effort) {
  if (bytes.empty()) return {};
  const codec::Buffer coded = codec::encode(
      {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, elements, effort);
  const auto view = std::as_bytes(std::span(coded));
  return {view.begin(), view.end()};
}

Status decode_block(std::span<const std::byte> coded, std::span<std::byte> out) {
  if (codec::decode({reinterpret_cast<const std::uint8_t*>(coded.data()), coded.size()},
                    {reinterpret_cast<std::uint8_t*>(out.data()), out.size()})) {
    return ok_status();
  }
  return Error(Code::kInput, "block-damaged",
               "a block of " + std::to_string(coded.size()) + " coded bytes does not hold " +
                   std::to_string(out.size()) + " bytes",
               {}, "the archive is damaged or was not written by mcompress");
}

}  // namespace mcompress
