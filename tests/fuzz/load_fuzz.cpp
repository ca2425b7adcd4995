// Any bytes: loading refuses them with an error about the input, or what it makes of them is sound
// and comes back from saving as it was.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mcompress/io.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mcompress;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  LoadOptions options;
  options.map_threshold = 32;  // so that small inputs reach the paths of large tensors
  Diagnostics diagnostics;
  const auto model = load_model_bytes(bytes, options, diagnostics);
  if (!model.ok()) {
    require(model.error().code == Code::kInput);
    return 0;
  }
  require(verify(**model).ok());
  (void)dump(**model);
  const std::uint64_t content = fingerprint(**model);
  const auto saved = save_model_bytes(**model);
  require(saved.ok());
  const auto again = load_model_bytes(*saved, options, diagnostics);
  require(again.ok());
  require(fingerprint(**again) == content);
  const auto twice = save_model_bytes(**again);
  require(twice.ok() && *twice == *saved);
  (void)check_model(**model);
  return 0;
}
