#include "codec/plane.h"

#include <algorithm>

#include "codec/adaptive.h"
#include "codec/huffman.h"
#include "codec/rans.h"
#include "codec/zstandard.h"

namespace mcompress::codec {
namespace {

// Below this many bytes in a thousand a coder's table and time are not worth it.
constexpr std::uint64_t kWorthPerMille = 2;
// Adaptive coding decodes a bit at a time: up to here any byte it saves counts, and above one in so
// many.
constexpr std::size_t kSmallPlane = 16384;
constexpr std::size_t kAdaptiveWorth = 512;

void put_plane(PlaneMethod method, Bytes body, Buffer& out) {
  out.push_back(static_cast<std::uint8_t>(method));
  put_number(out, body.size());
  out.insert(out.end(), body.begin(), body.end());
}

struct Best {
  PlaneMethod method = PlaneMethod::kRaw;
  Buffer body;
  std::size_t size;

  void take(PlaneMethod other, Buffer&& bytes) {
    if (bytes.size() >= size) return;
    method = other;
    size = bytes.size();
    body = std::move(bytes);
  }
};

Buffer sparse_body(Bytes symbols, std::uint8_t base, std::size_t others,
                   const PlaneOptions& options) {
  Buffer gaps, values, body;
  values.reserve(others);
  std::uint64_t gap = 0;
  for (const std::uint8_t symbol : symbols) {
    if (symbol == base) {
      ++gap;
      continue;
    }
    put_gap(gaps, gap);
    values.push_back(symbol);
    gap = 0;
  }
  body.push_back(base);
  put_number(body, others);
  put_number(body, gaps.size());
  PlaneOptions inner = options;
  inner.sparse = false;
  encode_plane(gaps, inner, body);
  encode_plane(values, inner, body);
  return body;
}

bool decode_sparse(Bytes coded, std::span<std::uint8_t> out) {
  ByteReader in(coded);
  const std::uint8_t base = in.byte();
  const std::uint64_t others = in.number();
  const std::uint64_t gap_bytes = in.number();
  // A byte of a gap stands for 255 places or for one other value.
  if (in.failed() || others > out.size() || gap_bytes < others ||
      gap_bytes > others + out.size() / 255) {
    return false;
  }
  Buffer gaps(static_cast<std::size_t>(gap_bytes)), values(static_cast<std::size_t>(others));
  if (!decode_plane(in, gaps, false) || !decode_plane(in, values, false) || in.left() != 0) {
    return false;
  }
  std::fill(out.begin(), out.end(), base);
  std::size_t at = 0, next = 0;
  for (const std::uint8_t gap : gaps) {
    if (gap == 255) {
      at += 255;
      continue;
    }
    at += gap;
    if (at >= out.size() || next == values.size() || values[next] == base) return false;
    out[at++] = values[next++];
  }
  return next == values.size() && (gaps.empty() || gaps.back() != 255);
}

}  // namespace

void put_gap(Buffer& gaps, std::uint64_t gap) {
  for (; gap >= 255; gap -= 255) gaps.push_back(255);
  gaps.push_back(static_cast<std::uint8_t>(gap));
}

void encode_plane(Bytes symbols, const PlaneOptions& options, Buffer& out) {
  if (symbols.empty()) return put_plane(PlaneMethod::kRaw, symbols, out);
  const Counts counts = count_bytes(symbols);
  const auto most = std::max_element(counts.begin(), counts.end());
  const auto base = static_cast<std::uint8_t>(most - counts.begin());
  if (*most == symbols.size()) return put_plane(PlaneMethod::kConstant, Bytes(&base, 1), out);

  Best best{PlaneMethod::kRaw, {}, symbols.size()};
  const std::uint64_t worth = symbols.size() - symbols.size() * kWorthPerMille / 1000;
  constexpr std::size_t kStateBytes = 28;  // beyond what they hold of the last symbols
  const Frequencies frequencies = rans_frequencies(counts);
  const Classes lengths = huffman_lengths(counts, kFastHuffmanBits);
  const std::uint64_t by_rans = rans_bytes(counts, frequencies) + kStateBytes;
  const std::uint64_t by_huffman = huffman_bits(counts, lengths) / 8;
  if (std::min(by_rans, by_huffman) < worth) {
    // Both sizes are known within a few bytes, tables left out: those cost rANS more.
    Buffer body;
    if (by_rans < by_huffman) {
      rans_encode(symbols, frequencies, body);
      best.take(PlaneMethod::kRans, std::move(body));
    }
    constexpr std::uint64_t kTableBytes = 256;
    body = {};
    if (by_huffman < by_rans + kTableBytes) {
      huffman_encode(symbols, lengths, body);
      best.take(PlaneMethod::kHuffman, std::move(body));
    }
  }
  if (options.sparse && *most * std::uint64_t{100} > symbols.size() * kSparsePercent) {
    best.take(PlaneMethod::kSparse, sparse_body(symbols, base, symbols.size() - *most, options));
  }
  if (options.thorough && std::min(by_rans - kStateBytes, by_huffman) < worth &&
      symbols.size() <= kMostAdaptive) {
    const std::size_t gain = symbols.size() <= kSmallPlane ? 1 : best.size / kAdaptiveWorth + 1;
    if (auto body = adaptive_encode(symbols, best.size - gain)) {
      best.take(PlaneMethod::kAdaptive, std::move(*body));
    }
  }
  if (options.thorough && symbols.size() >= 64) {
    // Repeats that a fast search finds are worth a slow one; without any, zstd is a Huffman code.
    const bool promising =
        symbols.size() <= 8192 || zstd_encode(symbols, kZstdTrial, best.size).has_value();
    if (promising) {
      if (auto frame = zstd_encode(symbols, kZstdBest, best.size)) {
        best.take(PlaneMethod::kZstd, std::move(*frame));
      }
    }
  }
  put_plane(best.method, best.method == PlaneMethod::kRaw ? symbols : Bytes(best.body), out);
}

bool decode_plane(ByteReader& in, std::span<std::uint8_t> out, bool sparse) {
  const auto method = static_cast<PlaneMethod>(in.byte());
  const std::uint64_t size = in.number();
  const Bytes body = in.take(size);
  if (in.failed()) return false;
  if (method == PlaneMethod::kRaw) {
    if (body.size() != out.size()) return false;
    std::copy(body.begin(), body.end(), out.begin());
    return true;
  }
  if (out.empty()) return false;
  switch (method) {
    case PlaneMethod::kConstant:
      if (body.size() != 1) return false;
      std::fill(out.begin(), out.end(), body[0]);
      return true;
    case PlaneMethod::kHuffman:
      return huffman_decode(body, out);
    case PlaneMethod::kRansFull:
      return rans_decode_full(body, out);
    case PlaneMethod::kRans:
      return rans_decode(body, out);
    case PlaneMethod::kSparse:
      return sparse && decode_sparse(body, out);
    case PlaneMethod::kZstd:
      return zstd_decode(body, out);
    case PlaneMethod::kAdaptive:
      return adaptive_decode(body, out);
    default:
      return false;
  }
}

}  // namespace mcompress::codec
