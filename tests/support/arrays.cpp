#include "support/arrays.h"

#include <gtest/gtest.h>
#include <zip.h>

namespace mcompress::testing {

std::string npy_with_header(int version, std::string_view header, std::string_view elements) {
  std::string bytes("\x93NUMPY", 6);
  bytes += static_cast<char>(version);
  bytes += '\0';
  const std::size_t length = header.size();
  for (std::size_t i = 0; i < (version == 1 ? 2u : 4u); ++i) {
    bytes += static_cast<char>(length >> (8 * i) & 0xFF);
  }
  bytes += header;
  bytes += elements;
  return bytes;
}

std::string npy_bytes(std::string_view descr, std::span<const std::int64_t> shape,
                      std::string_view elements, NpyForm form) {
  std::string header = "{'descr': '";
  header.append(descr).append("', 'fortran_order': ");
  header += form.fortran ? "True" : "False";
  header += ", 'shape': (";
  for (const std::int64_t size : shape) header += std::to_string(size) + ", ";
  header += "), }";
  while ((header.size() + (form.version == 1 ? 10 : 12) + 1) % 64 != 0) header += ' ';
  header += '\n';
  return npy_with_header(form.version, header, elements);
}

void write_zip(const std::filesystem::path& path, const Entries& entries, Packing packing) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  ASSERT_NE(archive, nullptr) << path << ": " << code;
  for (const auto& [name, bytes] : entries) {
    zip_source_t* source = zip_source_buffer(archive, bytes.data(), bytes.size(), 0);
    const zip_int64_t index = zip_file_add(archive, name.c_str(), source, ZIP_FL_ENC_UTF_8);
    ASSERT_GE(index, 0) << name;
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(index),
                             packing == Packing::kStored ? ZIP_CM_STORE : ZIP_CM_DEFLATE, 6);
    zip_file_set_mtime(archive, static_cast<zip_uint64_t>(index), 0, 0);
  }
  ASSERT_EQ(zip_close(archive), 0) << zip_strerror(archive);
}

void write_npz(const std::filesystem::path& path, const Entries& arrays, Packing packing) {
  Entries entries;
  for (const auto& [name, bytes] : arrays) entries.emplace_back(name + ".npy", bytes);
  write_zip(path, entries, packing);
}

}  // namespace mcompress::testing
