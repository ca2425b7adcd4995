// An archive, or a block of one. Whatever the bytes, reading ends with bytes or an error.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/container.h"
#include "codec/huffman.h"
#include "codec/rans.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mcompress;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto archive = codec::Archive::open(bytes);
  if (archive.ok()) {
    for (std::size_t s = 0; s < archive->index().streams.size(); ++s) {
      for (std::size_t b = 0; b < archive->blocks_of(s); ++b) {
        std::vector<std::byte> block(archive->block_length(s, b));
        static_cast<void>(archive->read_block(s, b, block).ok());
      }
    }
  }
  static_cast<void>(codec::parse_index(bytes, size).ok());
  // The first two bytes say how much is to come out.
  if (size < 2) return 0;
  const std::size_t wanted = data[0] + std::size_t{256} * data[1];
  std::vector<std::byte> block(wanted);
  static_cast<void>(decode_block(bytes.subspan(2), block).ok());
  std::vector<std::uint8_t> out(wanted), plain(wanted);
  const codec::Bytes coded(data + 2, size - 2);
  static_cast<void>(codec::huffman_decode(coded, out));
  for (const auto& decode : {codec::rans_decode, codec::rans_decode_full}) {
    const bool fast = decode(coded, out, false);
    if (fast != decode(coded, plain, true) || (fast && out != plain)) __builtin_trap();
  }
  return 0;
}
