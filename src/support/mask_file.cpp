#include "support/mask_file.h"

#include <zip.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>

#include "mcompress/host.h"
#include "support/files.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 36;
constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kSuffix = ".npy";

std::string shape_text(const std::vector<std::int64_t>& dims) {
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
      "{'descr': '|b1', 'fortran_order': False, 'shape': " + shape_text(dims) + ", }";
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
struct ZipFileCloser {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using ZipPtr = std::unique_ptr<zip_t, ZipCloser>;

// One entry, whose array has to have these dimensions.
Result<std::vector<std::uint8_t>> read_entry(zip_t* zip, zip_uint64_t index,
                                             const std::string& path, const std::string& name,
                                             const std::vector<std::int64_t>& dims) {
  std::uint64_t count = 1;
  for (const std::int64_t dim : dims) count *= static_cast<std::uint64_t>(dim);
  const std::unique_ptr<zip_file_t, ZipFileCloser> file(zip_fopen_index(zip, index, 0));
  if (file == nullptr) return broken(path, "the entry can not be read", name);
  const auto read = [&](void* to, std::uint64_t length) {
    return zip_fread(file.get(), to, length) == static_cast<zip_int64_t>(length);
  };
  char fixed[10];
  if (!read(fixed, sizeof fixed) || std::string_view(fixed, kMagic.size()) != kMagic) {
    return broken(path, "the entry is no array in the NPY format", name);
  }
  std::size_t length = static_cast<unsigned char>(fixed[8]) |
                       static_cast<std::size_t>(static_cast<unsigned char>(fixed[9])) << 8;
  if (fixed[6] != 1) {
    return broken(path,
                  "the array has version " + std::to_string(int{fixed[6]}) +
                      " of the NPY format, version 1 is read",
                  name);
  }
  std::string text(length, '\0');
  if (!read(text.data(), length)) return broken(path, "the array ends in its header", name);
  const bool boolean = text.find("'|b1'") != std::string::npos;
  const bool bytes =
      text.find("'|u1'") != std::string::npos || text.find("'|i1'") != std::string::npos;
  if (!boolean && !bytes) {
    return broken(path, "the array holds neither booleans nor bytes", name,
                  "a mask has a boolean for each weight");
  }
  if (text.find("'fortran_order': True") != std::string::npos && dims.size() > 1) {
    return broken(path, "the array is in column-major order", name);
  }
  const std::size_t from = text.find("'shape': (");
  const std::size_t to = from == std::string::npos ? from : text.find(')', from);
  if (to == std::string::npos) return broken(path, "the array has no shape", name);
  constexpr std::size_t kBeforeDims = 9;  // "'shape': "
  std::string shape = text.substr(from + kBeforeDims, to - from - kBeforeDims + 1);
  const auto plain = [](std::string all) {
    std::erase(all, ' ');
    return all;
  };
  if (plain(shape) != plain(shape_text(dims))) {
    return broken(path, "the mask has shape " + shape + ", the weight " + shape_text(dims), name,
                  "masks fit checkpoints of the same graph");
  }
  std::vector<std::uint8_t> kept(count);
  if (!read(kept.data(), count)) return broken(path, "the array ends early", name);
  char more = 0;
  if (zip_fread(file.get(), &more, 1) > 0) return broken(path, "the array goes on too long", name);
  if (std::ranges::any_of(kept, [](std::uint8_t byte) { return byte > 1; })) {
    return broken(path, "the mask holds numbers other than 0 and 1", name);
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
  MCOMPRESS_ASSIGN(const std::string bytes, read_text_file(real_files(), path, kMostFileBytes));
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* const source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  ZipPtr zip(source == nullptr ? nullptr : zip_open_from_source(source, ZIP_RDONLY, &error));
  if (zip == nullptr) {
    zip_source_free(source);
    return broken(path, "no .npz archive: " + std::string(zip_error_strerror(&error)));
  }
  std::map<std::string, std::vector<std::uint8_t>> masks;
  std::vector<std::string> names;
  names.reserve(dims.size());
  for (const auto& [name, unused] : dims) names.push_back(name);
  const zip_int64_t count = zip_get_num_entries(zip.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const char* const stored = zip_get_name(zip.get(), static_cast<zip_uint64_t>(i), 0);
    std::string name = stored != nullptr ? stored : "";
    if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
    const auto wanted = dims.find(name);
    if (wanted == dims.end()) {
      const std::string close = nearest_name(name, names);
      return broken(path, "the model has no weight of this name that is pruned", name,
                    close.empty() ? "masks fit checkpoints of the same graph"
                                  : "did you mean '" + close + "'?");
    }
    MCOMPRESS_ASSIGN(
        std::vector<std::uint8_t> kept,
        read_entry(zip.get(), static_cast<zip_uint64_t>(i), path, name, wanted->second));
    masks[name] = std::move(kept);
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
