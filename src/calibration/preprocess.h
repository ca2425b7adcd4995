// From a decoded image to an input of the model.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calibration/image_file.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"
#include "numeric/resample.h"

namespace mcompress {

struct ImageSide {
  std::int64_t height = 0, width = 0;
};

// What the user asked for; the rest follows from the model's input.
struct PreprocessRequest {
  std::optional<std::int64_t> resize_shorter;
  std::optional<ImageSide> resize, crop, letterbox;
  std::optional<std::uint8_t> pad;
  std::vector<double> mean, std;  // one value, or one per channel
  std::optional<double> scale;
  std::string layout, channels;  // "nchw", "nhwc"; "rgb", "bgr", "gray"; empty: by the input
  ResampleFilter filter = ResampleFilter::kBilinear;
};

// `text` is "key=value,key=value" or the name of a YAML file with these keys: resize, crop,
// letterbox, pad, mean, std, scale, layout, channels, filter. Fails with kUsage (kInput for a file)
// and names what is known.
Result<PreprocessRequest> parse_preprocess(std::string_view text);

// Everything decided. An image goes through: resize, crop or letterbox, colours, then
// (x * scale - mean) / std per channel, rounded and saturated for integer inputs.
class ImagePlan {
 public:
  // Fails (kInput) when the input is no image: rank 3 or 4, 1 or 3 channels.
  static Result<ImagePlan> make(const PreprocessRequest& request, const PortInfo& port);

  int channels() const { return channels_; }
  // [1, C, H, W], [C, H, W], [1, H, W, C] or [H, W, C]; of the image after geometry.
  std::vector<std::int64_t> dims(const PixelImage& fitted) const;
  // Whether all samples have one size, whatever the images.
  bool fixed_size() const { return target_.has_value(); }
  bool has_batch_axis() const { return batched_; }
  // Resize, crop, letterbox. Fails when the result would be larger than kMaxImagePixels.
  Result<PixelImage> fit(PixelImage image) const;
  // The bytes of the sample, in the input's element type.
  std::vector<std::byte> convert(const PixelImage& fitted) const;
  // "resize the shorter side to 256 (bilinear), crop 224x224, RGB, x/255, nchw": goes into the
  // digest, since samples depend on it.
  std::string describe() const;
  // What was not asked for and taken from the model; empty: nothing.
  std::string inferred() const;

 private:
  enum class Geometry : std::uint8_t { kNone, kShorter, kStretch, kLetterbox, kCover };

  PreprocessRequest request_;
  Geometry geometry_ = Geometry::kNone;
  std::int64_t shorter_ = 0;
  ImageSide stretch_;
  std::optional<ImageSide> target_;  // after crop or letterbox
  bool crop_ = false;
  std::uint8_t pad_ = 0;
  bool channels_last_ = false, batched_ = true;
  int channels_ = 3;
  bool swap_ = false;  // blue first
  double scale_ = 1;
  std::size_t width_ = 0;         // bytes of an element
  std::vector<std::byte> table_;  // the element of every pixel value, 256 per channel
  std::vector<std::string> guesses_;
};

}  // namespace mcompress
