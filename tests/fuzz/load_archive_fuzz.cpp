// A model file in an archive without fault, beside a data file 'd' of 4,096 bytes. Whatever the
// model, the C interface ends with weights or an error.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codec/container.h"
#include "mcompress/archive_c.h"
#include "support/hash.h"

namespace {

using namespace mcompress;

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

// Blocks as they are (mode 0), see docs/format.md.
std::string archive_of(std::string_view model, std::string_view data) {
  std::string out("\x8dMCA\r\n\x1a\n", 8);
  put(out, codec::kArchiveVersion, 2);
  put(out, 0, 6);
  const std::string header = out;
  codec::ArchiveIndex index;
  const auto add = [&](std::uint32_t file, std::string_view bytes) {
    codec::ArchivedStream stream;
    stream.file = file;
    stream.residue = file == 0;
    stream.length = bytes.size();
    stream.digest = digest_bytes(bytes);
    stream.block_bytes = 1 << 24;
    const std::string coded = '\0' + std::string(bytes);
    stream.blocks.push_back({out.size(), static_cast<std::uint32_t>(coded.size()),
                             static_cast<std::uint32_t>(digest_bytes(coded))});
    out += coded;
    index.streams.push_back(std::move(stream));
  };
  index.files.push_back({"m", model.size(), digest_bytes(model)});
  index.files.push_back({"d", data.size(), digest_bytes(data)});
  add(0, model);
  add(1, data);
  const std::vector<std::uint8_t> plain = codec::index_bytes(index);
  const std::string coded = '\0' + std::string(plain.begin(), plain.end());
  std::string trailer;
  put(trailer, out.size(), 8);
  put(trailer, coded.size(), 8);
  put(trailer, plain.size(), 8);
  put(trailer, digest_bytes(header + coded + trailer), 8);
  return out + coded + trailer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > (1 << 20)) return 0;
  static const std::string weights(4096, 'w');
  const std::string bytes = archive_of({reinterpret_cast<const char*>(data), size}, weights);
  mca_archive* archive = nullptr;
  if (mca_open_memory(bytes.data(), bytes.size(), &archive) != MCA_OK) return 0;
  const void* model = nullptr;
  std::size_t model_size = 0;
  if (mca_model_bytes(archive, &model, &model_size) != MCA_OK) __builtin_trap();
  for (std::size_t i = 0; i < mca_tensor_count(archive); ++i) {
    mca_tensor tensor;
    if (mca_tensor_info(archive, i, &tensor) != MCA_OK) __builtin_trap();
    // All of it is in the archive, whose size bounds it.
    if (tensor.bytes > bytes.size()) __builtin_trap();
    std::vector<char> out(static_cast<std::size_t>(tensor.bytes));
    if (mca_tensor_read(archive, i, out.data(), out.size()) != MCA_OK) __builtin_trap();
  }
  mca_close(archive);
  return 0;
}
