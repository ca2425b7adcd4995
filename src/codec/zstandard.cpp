#include "codec/zstandard.h"

#include <zstd.h>

#include <algorithm>
#include <memory>

namespace mcompress::codec {

std::optional<Buffer> zstd_encode(Bytes bytes, int level, std::size_t most) {
  // One for each thread: making one costs more than a small block. The bytes do not depend on what
  // it did before.
  thread_local const std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context(
      ZSTD_createCCtx(), ZSTD_freeCCtx);
  if (context == nullptr) return std::nullopt;
  ZSTD_CCtx_reset(context.get(), ZSTD_reset_session_and_parameters);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 0);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 0);
  // With less room than it may need zstd gives up, or stores what it could have coded.
  Buffer out(ZSTD_compressBound(bytes.size()));
  const std::size_t size =
      ZSTD_compress2(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(size) != 0 || size > most) return std::nullopt;
  out.resize(size);
  return out;
}

bool zstd_decode(Bytes coded, std::span<std::uint8_t> out) {
  // One frame that is all there is: ZSTD_decompress would go on with a second one.
  if (ZSTD_findFrameCompressedSize(coded.data(), coded.size()) != coded.size()) return false;
  return ZSTD_decompress(out.data(), out.size(), coded.data(), coded.size()) == out.size();
}

}  // namespace mcompress::codec
