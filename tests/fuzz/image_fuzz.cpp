// Image files, and lists of files when the input is no image. Whatever the bytes, they end as
// pixels of the promised size or as an error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "calibration/image_file.h"
#include "calibration/list_file.h"
#include "calibration/preprocess.h"

namespace {

using namespace mcompress;

PortInfo image_port() {
  PortInfo port;
  port.name = "x";
  port.type.element = DataType::kFloat;
  port.type.shape = {{1, {}}, {3, {}}, {8, {}}, {12, {}}};
  return port;
}

void see_image(std::span<const std::byte> bytes) {
  for (const int channels : {1, 3}) {
    auto image = decode_image(bytes, channels);
    if (!image.ok()) continue;
    const auto wanted = static_cast<std::size_t>(image->width * image->height * channels);
    if (image->pixels.size() != wanted) std::abort();
    if (channels == 1) continue;
    PreprocessRequest letterbox;
    letterbox.letterbox = ImageSide{8, 12};
    for (const PreprocessRequest& request : {PreprocessRequest(), letterbox}) {
      auto plan = ImagePlan::make(request, image_port());
      if (!plan.ok()) std::abort();
      auto fitted = plan->fit(*image);
      if (!fitted.ok()) continue;
      if (plan->convert(*fitted).size() != std::size_t{3} * 8 * 12 * sizeof(float)) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (!image_format(bytes).empty()) {
    see_image(bytes);
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const PortInfo port = image_port();
  PortInfo second = port;
  second.name = "y";
  for (const std::vector<PortInfo>& ports : {std::vector{port}, std::vector{port, second}}) {
    auto list = parse_list(text, "folder/list.csv", ports, 0);
    if (!list.ok()) continue;
    const std::size_t count = list->files[0].size();
    for (const auto& files : list->files) {
      if (files.size() != count) std::abort();
    }
    if (list->labels.numbers &&
        list->labels.numbers->elements() != static_cast<std::int64_t>(count)) {
      std::abort();
    }
  }
  return 0;
}
