// Data files: an .npz when the input begins like a zip archive, else an .npy. Whatever the bytes,
// opening and reading ends with samples or an error.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "calibration/npy_array.h"
#include "mcompress/calibration.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mcompress;
  const auto bytes = std::as_bytes(std::span(data, size));
  static_cast<void>(parse_npy_header(bytes, std::uint64_t{1} << 40).ok());
  const int descriptor = memfd_create("npz", 0);
  if (descriptor < 0 || write(descriptor, data, size) != static_cast<ssize_t>(size)) std::abort();
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  PortInfo floats, numbers;
  floats.name = "x";
  floats.type.element = DataType::kFloat;
  floats.type.shape.emplace(2);
  numbers.name = "y";
  numbers.type.element = DataType::kInt64;
  numbers.type.shape.emplace();
  for (const std::vector<PortInfo>& ports :
       {std::vector<PortInfo>{floats}, std::vector<PortInfo>{floats, numbers}}) {
    Diagnostics diagnostics;
    DataOptions options;
    options.max_bytes = 1 << 20;
    auto source = open_data(path, ports, options, diagnostics);
    if (!source.ok()) continue;
    for (std::int64_t i = 0; i < (*source)->count() && i < 64; ++i) {
      static_cast<void>((*source)->sample(i).ok());
    }
    if ((*source)->can_batch()) {
      static_cast<void>((*source)->batch(0, (*source)->count()).ok());
    }
    static_cast<void>((*source)->digest());
  }
  close(descriptor);
  return 0;
}
