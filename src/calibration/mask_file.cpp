#include <zip.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "calibration/npy_array.h"
#include "calibration/npz.h"
#include "mcompress/host.h"
#include "mcompress/masks.h"
#include "mcompress/tensor.h"
#include "support/files.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 36;
constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kSuffix = ".npy";

// "(64, 48)", as Python writes a tuple.
std::string tuple_text(const std::vector<std::int64_t>& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    text += std::to_string(dims[i]);
    if (i + 1 < dims.size() || dims.size() == 1) text += i + 1 < dims.size() ? ", " : ",";
  }
  return text + ")";
}

// Version 1.0 of the array format: magic, version, length, a dictionary padded to 64 bytes.
std::string array_header(const std::vector<std::int64_t>& dims) {
  std::string text =
      "{'descr': '|b1', 'fortran_order': False, 'shape': " + tuple_text(dims) + ", }";
  constexpr std::size_t kFixed = 10, kAlign = 64;
  const std::size_t total = (kFixed + text.size() + 1 + kAlign - 1) / kAlign * kAlign;
  text.append(total - kFixed - text.size() - 1, ' ');
  text += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\x00';
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

Error broken(const std::string& path, std::string message, std::string subject = {},
             std::string hint = {}) {
  return {Code::kInput,
          "mask-file",
          std::move(message),
          {path, {}, std::move(subject)},
          std::move(hint)};
}

struct ZipCloser {
  void operator()(zip_t* zip) const { zip_discard(zip); }
};
using ZipPtr = std::unique_ptr<zip_t, ZipCloser>;

// An array of the archive, which has to have these dimensions.
Result<std::vector<std::uint8_t>> read_mask(std::unique_ptr<ByteSource> entry,
                                            const std::vector<std::int64_t>& dims) {
  const auto refused = [](std::string message, std::string hint = {}) {
    return Error(Code::kInput, "mask-file", std::move(message), {}, std::move(hint));
  };
  const std::uint64_t count = element_count(dims).value_or(0);
  MCOMPRESS_ASSIGN(NpyArray array, NpyArray::open(std::move(entry), kMostFileBytes));
  const NpyHeader& header = array.header();
  if (!std::ranges::equal(header.shape, dims)) {
    return refused(
        "the mask has shape " + shape_text(header.shape) + ", the weight " + shape_text(dims),
        "masks fit checkpoints of the same graph");
  }
  if (header.kind != NpyHeader::Kind::kNumber || header.item_bytes != 1) {
    return refused("the array holds neither booleans nor bytes: " + array.type_text(),
                   "a mask has a boolean for each weight");
  }
  std::vector<std::uint8_t> kept(count);
  MCOMPRESS_TRY(array.read(0, std::as_writable_bytes(std::span(kept))));
  if (std::ranges::any_of(kept, [](std::uint8_t byte) { return byte > 1; })) {
    return refused("the mask holds numbers other than 0 and 1");
  }
  return kept;
}

}  // namespace

Status write_masks(const std::string& path, const std::vector<NamedMask>& masks) {
  const auto failed = [&path](std::string why) {
    return Error(Code::kOutput, "output-unwritable", "the masks can not be written: " + why,
                 {path, {}, {}});
  };
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* const target = zip_source_buffer_create(nullptr, 0, 0, &error);
  if (target == nullptr) return failed(zip_error_strerror(&error));
  zip_source_keep(target);
  const std::unique_ptr<zip_source_t, void (*)(zip_source_t*)> keep(target, zip_source_free);
  ZipPtr zip(zip_open_from_source(target, ZIP_TRUNCATE, &error));
  if (zip == nullptr) {
    zip_source_free(target);
    return failed(zip_error_strerror(&error));
  }
  std::vector<std::string> arrays;  // live until the archive is closed
  arrays.reserve(masks.size());
  for (const NamedMask& mask : masks) {
    std::string& array = arrays.emplace_back(array_header(mask.dims));
    array.append(reinterpret_cast<const char*>(mask.kept.data()), mask.kept.size());
    zip_source_t* const source = zip_source_buffer(zip.get(), array.data(), array.size(), 0);
    const std::string name = mask.name + std::string(kSuffix);
    const zip_int64_t index =
        source == nullptr ? -1 : zip_file_add(zip.get(), name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      return failed(zip_strerror(zip.get()));
    }
    const auto at = static_cast<zip_uint64_t>(index);
    // No clock in the file: the first day that the format knows.
    constexpr zip_uint16_t kFirstDay = (1U << 5U) | 1U;
    zip_file_set_dostime(zip.get(), at, 0, kFirstDay, 0);
    zip_set_file_compression(zip.get(), at, ZIP_CM_DEFLATE, 6);
  }
  if (zip_close(zip.get()) != 0) return failed(zip_strerror(zip.get()));
  static_cast<void>(zip.release());
  if (zip_source_open(target) != 0) return failed("the archive could not be read back");
  zip_stat_t stat;
  zip_source_stat(target, &stat);
  std::string bytes(stat.size, '\0');
  const zip_int64_t got = zip_source_read(target, bytes.data(), bytes.size());
  zip_source_close(target);
  if (got != static_cast<zip_int64_t>(bytes.size())) return failed("the archive is incomplete");
  AtomicOutput output(real_files());
  MCOMPRESS_ASSIGN(OutputFile * file, output.add(path));
  MCOMPRESS_TRY(file->write(std::string_view(bytes)));
  return output.commit();
}

Result<std::map<std::string, std::vector<std::uint8_t>>> read_masks(
    const std::string& path, const std::map<std::string, std::vector<std::int64_t>>& dims) {
  MCOMPRESS_ASSIGN(const std::shared_ptr<NpzArchive> archive, NpzArchive::open(path));
  std::map<std::string, std::vector<std::uint8_t>> masks;
  std::vector<std::string> names;
  names.reserve(dims.size());
  for (const auto& [name, unused] : dims) names.push_back(name);
  for (const NpzArchive::Entry& entry : archive->entries()) {
    const auto wanted = dims.find(entry.name);
    if (wanted == dims.end()) {
      const std::string close = nearest_name(entry.name, names);
      return broken(path, "the model has no weight of this name that is pruned", entry.name,
                    close.empty() ? "masks fit checkpoints of the same graph"
                                  : "did you mean '" + close + "'?");
    }
    MCOMPRESS_ASSIGN(std::unique_ptr<ByteSource> bytes, archive->open_entry(entry));
    auto kept = read_mask(std::move(bytes), wanted->second);
    if (!kept.ok()) {
      Error error = std::move(kept).error();
      if (error.diagnostic.where.subject.empty()) error.diagnostic.where.subject = entry.name;
      return std::move(error).in_file(path);
    }
    masks[entry.name] = std::move(*kept);
  }
  for (const std::string& name : names) {
    if (!masks.contains(name)) {
      return broken(path, "there is no mask for this weight of the model", name,
                    "--exclude it, or give the mask of a checkpoint of the same graph");
    }
  }
  return masks;
}

}  // namespace mcompress
