// Writes .npy and .npz files for tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mcompress::testing {

struct NpyForm {
  int version = 1;
  bool fortran = false;
};
// `descr` as in "<f4".
std::string npy_bytes(std::string_view descr, std::span<const std::int64_t> shape,
                      std::string_view elements, NpyForm form = {});
// With a header of the caller's own making.
std::string npy_with_header(int version, std::string_view header, std::string_view elements);

template <class T>
std::string npy(std::string_view descr, std::vector<std::int64_t> shape,
                const std::vector<T>& values, NpyForm form = {}) {
  return npy_bytes(descr, shape,
                   {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)}, form);
}
inline std::string npy_floats(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return npy("<f4", std::move(shape), values);
}

enum class Packing : std::uint8_t { kStored, kDeflated };
using Entries = std::vector<std::pair<std::string, std::string>>;  // file name, bytes
void write_zip(const std::filesystem::path& path, const Entries& entries, Packing packing);
// Entry names without ".npy".
void write_npz(const std::filesystem::path& path, const Entries& arrays,
               Packing packing = Packing::kDeflated);

}  // namespace mcompress::testing
