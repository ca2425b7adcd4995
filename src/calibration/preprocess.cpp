#include "calibration/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "calibration/feed.h"
#include "support/files.h"
#include "support/text.h"
#include "support/try.h"
#include "support/yaml.h"

namespace mcompress {
namespace {

constexpr std::int64_t kMaxSide = 16384;
constexpr std::uint64_t kMaxYamlBytes = 1 << 20;

const std::vector<std::string> kKeys = {"resize", "crop",  "letterbox", "pad",      "mean",
                                        "std",    "scale", "layout",    "channels", "filter"};

// A setting as typed, and where.
struct PreprocessSetting {
  std::string key, value;
  Location where;
  Code code = Code::kUsage;
};

Error bad_setting(const PreprocessSetting& setting, std::string message, std::string hint = {}) {
  Location where = setting.where;
  where.subject = setting.key;
  return {setting.code, "preprocess", std::move(message), std::move(where), std::move(hint)};
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string> pieces_of(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  for (;;) {
    const std::size_t end = text.find(separator);
    pieces.emplace_back(trimmed(text.substr(0, end)));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

// "1/255" too.
std::optional<double> ratio_of(std::string_view text) {
  const std::vector<std::string> parts = pieces_of(text, '/');
  if (parts.size() > 2) return std::nullopt;
  std::optional<double> value = parse_real(parts[0]);
  if (value && parts.size() == 2) {
    const std::optional<double> divisor = parse_real(parts[1]);
    if (!divisor || *divisor == 0) return std::nullopt;
    *value /= *divisor;
  }
  if (value && !std::isfinite(*value)) return std::nullopt;
  return value;
}

Result<std::vector<double>> reals_of(const PreprocessSetting& setting) {
  std::vector<double> values;
  for (const std::string& piece : pieces_of(setting.value, ',')) {
    const std::optional<double> value = ratio_of(piece);
    if (!value) return bad_setting(setting, "'" + piece + "' is no number");
    values.push_back(*value);
  }
  if (values.size() != 1 && values.size() != 3) {
    return bad_setting(setting, std::to_string(values.size()) + " numbers are given",
                       "give one, or one per channel");
  }
  return values;
}

// "224" or "240x320".
Result<ImageSide> side_of(const PreprocessSetting& setting) {
  std::string text = lower(setting.value);
  std::ranges::replace(text, ',', 'x');  // a list in YAML
  const std::vector<std::string> parts = pieces_of(text, 'x');
  ImageSide side;
  for (std::size_t i = 0; i < parts.size() && i < 2; ++i) {
    const std::optional<std::int64_t> value = parse_int(parts[i]);
    if (!value || *value < 1 || *value > kMaxSide) {
      return bad_setting(setting,
                         "'" + setting.value + "' is no size of 1 to " + std::to_string(kMaxSide),
                         "write 224, or HEIGHTxWIDTH as in 240x320");
    }
    (i == 0 ? side.height : side.width) = *value;
  }
  if (parts.size() == 1) side.width = side.height;
  if (parts.size() > 2) {
    return bad_setting(setting, "'" + setting.value + "' has more than two numbers",
                       "write 224, or HEIGHTxWIDTH as in 240x320");
  }
  return side;
}

Result<std::string> choice_of(const PreprocessSetting& setting,
                              const std::vector<std::string>& choices) {
  const std::string value = lower(setting.value);
  if (std::ranges::find(choices, value) != choices.end()) return value;
  return bad_setting(setting, "'" + setting.value + "' is none of " + join(choices, ", "),
                     did_you_mean(value, choices));
}

Result<std::vector<PreprocessSetting>> settings_in_text(std::string_view text) {
  const Location where{{}, "--preprocess", {}};
  std::vector<PreprocessSetting> settings;
  for (const std::string& piece : pieces_of(text, ',')) {
    const std::size_t equals = piece.find('=');
    if (equals != std::string::npos) {
      settings.push_back({lower(trimmed(std::string_view(piece).substr(0, equals))),
                          std::string(trimmed(std::string_view(piece).substr(equals + 1))), where,
                          Code::kUsage});
    } else if (!settings.empty()) {
      settings.back().value += "," + piece;  // mean=0.5,0.5,0.5
    } else {
      return Error(Code::kUsage, "preprocess", "'" + std::string(text) + "' is no setting", where,
                   "write resize=256,crop=224, or name a YAML file");
    }
  }
  return settings;
}

Result<std::vector<PreprocessSetting>> settings_in_file(const std::string& path) {
  MCOMPRESS_ASSIGN(const std::string text, read_text_file(real_files(), path, kMaxYamlBytes));
  MCOMPRESS_ASSIGN(const Datum datum, parse_yaml(text, path));
  if (datum.as_map() == nullptr) {
    return Error(Code::kInput, "preprocess", "a map of settings is wanted", datum.where());
  }
  std::vector<PreprocessSetting> settings;
  for (const auto& [key, value] : *datum.as_map()) {
    std::string typed;
    if (const Datum::List* list = value.as_list()) {
      for (const Datum& item : *list) typed += (typed.empty() ? "" : ",") + option_text(item);
    } else {
      typed = option_text(value);
    }
    settings.push_back({lower(key), std::move(typed), value.where(), Code::kInput});
  }
  return settings;
}

Status apply_setting(const PreprocessSetting& setting, PreprocessRequest& request) {
  const std::string& key = setting.key;
  if (key == "resize") {
    MCOMPRESS_ASSIGN(const ImageSide side, side_of(setting));
    const bool one = setting.value.find_first_of("xX,") == std::string::npos;
    if (one) {
      request.resize_shorter = side.height;
    } else {
      request.resize = side;
    }
  } else if (key == "crop") {
    MCOMPRESS_ASSIGN(request.crop, side_of(setting));
  } else if (key == "letterbox") {
    MCOMPRESS_ASSIGN(request.letterbox, side_of(setting));
  } else if (key == "pad") {
    const std::optional<std::int64_t> value = parse_int(setting.value);
    if (!value || *value < 0 || *value > 255) {
      return bad_setting(setting, "'" + setting.value + "' is no pixel value of 0 to 255");
    }
    request.pad = static_cast<std::uint8_t>(*value);
  } else if (key == "mean") {
    MCOMPRESS_ASSIGN(request.mean, reals_of(setting));
  } else if (key == "std") {
    MCOMPRESS_ASSIGN(request.std, reals_of(setting));
    if (std::ranges::find(request.std, 0.0) != request.std.end()) {
      return bad_setting(setting, "a deviation of 0 can not divide");
    }
  } else if (key == "scale") {
    request.scale = ratio_of(setting.value);
    if (!request.scale) {
      return bad_setting(setting, "'" + setting.value + "' is no number", "write 1/255 or 0.0039");
    }
  } else if (key == "layout") {
    MCOMPRESS_ASSIGN(request.layout, choice_of(setting, {"nchw", "nhwc", "chw", "hwc"}));
    if (request.layout.size() == 3) request.layout.insert(0, "n");
  } else if (key == "channels") {
    MCOMPRESS_ASSIGN(request.channels, choice_of(setting, {"rgb", "bgr", "gray", "grey"}));
    if (request.channels == "grey") request.channels = "gray";
  } else if (key == "filter") {
    MCOMPRESS_ASSIGN(const std::string name,
                     choice_of(setting, {"bilinear", "bicubic", "lanczos"}));
    request.filter = name == "bicubic"   ? ResampleFilter::kBicubic
                     : name == "lanczos" ? ResampleFilter::kLanczos
                                         : ResampleFilter::kBilinear;
  } else {
    const std::string close = did_you_mean(key, kKeys);
    return bad_setting(setting, "this setting is not known",
                       close.empty() ? "known are " + join(kKeys, ", ") : close);
  }
  return ok_status();
}

std::string size_text(const ImageSide& side) {
  return std::to_string(side.height) + "x" + std::to_string(side.width);
}

std::string_view filter_name(ResampleFilter filter) {
  return filter == ResampleFilter::kBicubic   ? "bicubic"
         : filter == ResampleFilter::kLanczos ? "lanczos"
                                              : "bilinear";
}

// The nearest even number in the middle, as Python rounds.
std::int64_t half_even(std::int64_t twice) {
  const std::int64_t down = twice / 2;
  return twice % 2 == 0 || down % 2 == 0 ? down : down + 1;
}

// A window of `image` with its corner at (top, left), which may lie outside: `pad` is there.
PixelImage window(const PixelImage& image, std::int64_t top, std::int64_t left, ImageSide side,
                  std::uint8_t pad) {
  PixelImage result;
  result.width = side.width;
  result.height = side.height;
  result.channels = image.channels;
  const auto channels = static_cast<std::size_t>(image.channels);
  result.pixels.assign(static_cast<std::size_t>(side.width * side.height) * channels, pad);
  const std::int64_t first_y = std::max<std::int64_t>(0, -top);
  const std::int64_t last_y = std::min(side.height, image.height - top);
  const std::int64_t first_x = std::max<std::int64_t>(0, -left);
  const std::int64_t last_x = std::min(side.width, image.width - left);
  for (std::int64_t y = first_y; y < last_y && first_x < last_x; ++y) {
    const std::size_t from =
        static_cast<std::size_t>((y + top) * image.width + first_x + left) * channels;
    const std::size_t to = static_cast<std::size_t>(y * side.width + first_x) * channels;
    std::memcpy(result.pixels.data() + to, image.pixels.data() + from,
                static_cast<std::size_t>(last_x - first_x) * channels);
  }
  return result;
}

bool is_channel_count(const Dim& dim) { return dim.size && (*dim.size == 1 || *dim.size == 3); }

}  // namespace

Result<PreprocessRequest> parse_preprocess(std::string_view text) {
  PreprocessRequest request;
  if (trimmed(text).empty()) return request;
  std::error_code ignored;
  const bool file = text.find('=') == std::string_view::npos ||
                    std::filesystem::is_regular_file(std::filesystem::path(text), ignored);
  const bool missing = file && !std::filesystem::exists(std::filesystem::path(text), ignored);
  auto settings = file && !missing ? settings_in_file(std::string(text)) : settings_in_text(text);
  if (!settings.ok()) return std::move(settings).error();
  std::vector<std::string> seen;
  for (const PreprocessSetting& setting : *settings) {
    if (std::ranges::find(seen, setting.key) != seen.end()) {
      return bad_setting(setting, "is given twice");
    }
    seen.push_back(setting.key);
    MCOMPRESS_TRY(apply_setting(setting, request));
  }
  if (request.letterbox && (request.resize || request.resize_shorter || request.crop)) {
    return Error(Code::kUsage, "preprocess", "resizes and crops by itself", {{}, {}, "letterbox"},
                 "leave resize and crop out");
  }
  return request;
}

Result<ImagePlan> ImagePlan::make(const PreprocessRequest& request, const PortInfo& port) {
  ImagePlan plan;
  plan.request_ = request;
  const Location where{{}, {}, port.name};
  const std::string facts = "the model's input " + shape_text(port.type);
  std::vector<Dim> dims = port.type.shape.value_or(std::vector<Dim>(4));
  if (dims.size() != 3 && dims.size() != 4) {
    return Error(Code::kInput, "image-input", facts + " is no image", where,
                 "images fit inputs of 3 or 4 axes");
  }
  plan.batched_ = dims.size() == 4;
  if (plan.batched_) dims.erase(dims.begin());
  const bool first = is_channel_count(dims[0]), last = is_channel_count(dims[2]);
  plan.channels_last_ = request.layout.empty() ? last && !first : request.layout == "nhwc";
  if (request.layout.empty()) {
    plan.guesses_.push_back(plan.channels_last_ ? "layout=nhwc" : "layout=nchw");
  }
  const Dim depth = plan.channels_last_ ? dims[2] : dims[0];
  const Dim rows = plan.channels_last_ ? dims[0] : dims[1];
  const Dim columns = plan.channels_last_ ? dims[1] : dims[2];
  std::string colours = request.channels;
  if (colours.empty()) {
    colours = depth.size == 1 ? "gray" : "rgb";
    plan.guesses_.push_back("channels=" + colours);
  }
  plan.channels_ = colours == "gray" ? 1 : 3;
  plan.swap_ = colours == "bgr";
  if (depth.size && *depth.size != plan.channels_) {
    return Error(Code::kInput, "image-input",
                 facts + " has " + std::to_string(*depth.size) + " channels as " +
                     (plan.channels_last_ ? "nhwc" : "nchw") + ", " + colours + " images have " +
                     std::to_string(plan.channels_),
                 where, "--preprocess takes channels= and layout=");
  }
  // Geometry.
  std::optional<ImageSide> wanted;
  if (rows.size && columns.size) wanted = ImageSide{*rows.size, *columns.size};
  plan.pad_ = request.pad.value_or(request.letterbox ? 114 : 0);
  if (request.letterbox) {
    plan.geometry_ = Geometry::kLetterbox;
    plan.target_ = request.letterbox;
  } else {
    if (request.resize) plan.geometry_ = Geometry::kStretch, plan.stretch_ = *request.resize;
    if (request.resize_shorter) {
      plan.geometry_ = Geometry::kShorter;
      plan.shorter_ = *request.resize_shorter;
    }
    plan.target_ = request.crop;
    if (!plan.target_ && request.resize) {
      plan.target_ = request.resize;
    } else if (!plan.target_ && wanted) {
      plan.target_ = wanted;
      plan.crop_ = true;
      if (!request.resize_shorter) {
        plan.geometry_ = Geometry::kCover;
        plan.guesses_.push_back("resized to cover " + size_text(*wanted));
      }
      plan.guesses_.push_back("crop=" + size_text(*wanted));
    }
    plan.crop_ = plan.crop_ || request.crop.has_value();
  }
  const auto off = [](const Dim& dim, std::int64_t size) { return dim.size && *dim.size != size; };
  if (plan.target_ && (off(rows, plan.target_->height) || off(columns, plan.target_->width))) {
    return Error(Code::kInput, "image-input",
                 "the images become " + size_text(*plan.target_) + ", " + facts + " wants " +
                     (rows.size ? std::to_string(*rows.size) : "?") + "x" +
                     (columns.size ? std::to_string(*columns.size) : "?"),
                 where, "change crop=, resize= or letterbox= of --preprocess");
  }
  // Values.
  const DTypeInfo* type = find_dtype(port.type.element);
  std::vector<double> mean = request.mean, deviation = request.std;
  if (mean.empty()) mean = {0.0};
  if (deviation.empty()) deviation = {1.0};
  for (std::vector<double>* values : {&mean, &deviation}) {
    if (values->size() > 1 && plan.channels_ == 1) {
      return Error(Code::kUsage, "preprocess", "three values are given for one channel of gray",
                   {{}, "--preprocess", values == &mean ? "mean" : "std"});
    }
    values->resize(static_cast<std::size_t>(plan.channels_), values->front());
  }
  if (request.scale) {
    plan.scale_ = *request.scale;
  } else {
    // Means and deviations of 0 to 1 belong to pixels of 0 to 1, larger ones to 0 to 255.
    constexpr double kLargest = 2.0;
    const auto large = [](double value) { return std::abs(value) > kLargest; };
    const bool pixels = std::ranges::any_of(mean, large) || std::ranges::any_of(deviation, large);
    const bool floating = type != nullptr && type->floating;
    plan.scale_ = floating && !pixels ? 1.0 / 255.0 : 1.0;
    plan.guesses_.push_back(floating && !pixels ? "scale=1/255" : "scale=1");
    if (floating && request.mean.empty() && request.std.empty()) {
      plan.guesses_.emplace_back("no mean, no std");
    }
  }
  // The element of every pixel value.
  const DataType from = type != nullptr && !type->floating ? DataType::kInt64 : DataType::kDouble;
  MCOMPRESS_ASSIGN(const ElementConversion conversion,
                   ElementConversion::make(from, port.type.element, std::nullopt, nullptr));
  plan.width_ = conversion.to_bytes();
  const std::size_t count = std::size_t{256} * static_cast<std::size_t>(plan.channels_);
  plan.table_.resize(count * plan.width_);
  double lowest = 0, highest = 0;
  if (from == DataType::kInt64) {
    const int bits = std::min<int>(type->bits, 32);
    lowest = type->is_signed ? -std::ldexp(1.0, bits - 1) : 0.0;
    highest = std::ldexp(1.0, type->is_signed ? bits - 1 : bits) - 1.0;
    if (port.type.element == DataType::kBool) highest = 1.0;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t channel = i / 256;
    const double value =
        (static_cast<double>(i % 256) * plan.scale_ - mean[channel]) / deviation[channel];
    std::array<std::byte, 8> raw{};
    if (from == DataType::kInt64) {
      const auto whole =
          static_cast<std::int64_t>(std::clamp(std::nearbyint(value), lowest, highest));
      std::memcpy(raw.data(), &whole, sizeof whole);
    } else {
      std::memcpy(raw.data(), &value, sizeof value);
    }
    MCOMPRESS_TRY(
        conversion.convert(raw, std::span(plan.table_).subspan(i * plan.width_, plan.width_)));
  }
  return plan;
}

std::vector<std::int64_t> ImagePlan::dims(const PixelImage& fitted) const {
  std::vector<std::int64_t> dims = {channels_, fitted.height, fitted.width};
  if (channels_last_) dims = {fitted.height, fitted.width, channels_};
  if (batched_) dims.insert(dims.begin(), 1);
  return dims;
}

Result<PixelImage> ImagePlan::fit(PixelImage image) const {
  std::int64_t width = image.width, height = image.height;
  const double w = static_cast<double>(width), h = static_cast<double>(height);
  switch (geometry_) {
    case Geometry::kNone:
      break;
    case Geometry::kStretch:
      width = stretch_.width;
      height = stretch_.height;
      break;
    case Geometry::kShorter: {
      // The longer side is cut, not rounded, as torchvision does.
      if (width <= height) {
        height = std::max<std::int64_t>(shorter_ * height / width, 1);
        width = shorter_;
      } else {
        width = std::max<std::int64_t>(shorter_ * width / height, 1);
        height = shorter_;
      }
      break;
    }
    case Geometry::kCover:
    case Geometry::kLetterbox: {
      const double by_width = static_cast<double>(target_->width) / w;
      const double by_height = static_cast<double>(target_->height) / h;
      const bool inside = geometry_ == Geometry::kLetterbox;
      const double factor = inside ? std::min(by_width, by_height) : std::max(by_width, by_height);
      width = std::max<std::int64_t>(std::llround(w * factor), 1);
      height = std::max<std::int64_t>(std::llround(h * factor), 1);
      break;
    }
  }
  if (width > kMaxImagePixels / height) {
    return Error(Code::kInput, "image-size",
                 "resizing makes " + std::to_string(width) + " x " + std::to_string(height) +
                     " pixels of an image of " + std::to_string(image.width) + " x " +
                     std::to_string(image.height),
                 {}, "letterbox= keeps long images small");
  }
  if (width != image.width || height != image.height) {
    const PixelGrid grid{image.width, image.height, image.channels};
    image.pixels = resample(image.pixels, grid, width, height, request_.filter);
    image.width = width;
    image.height = height;
  }
  if (!target_ || (width == target_->width && height == target_->height)) return image;
  const auto corner = [&](std::int64_t have, std::int64_t want) {
    if (geometry_ == Geometry::kLetterbox || have < want) return -((want - have) / 2);
    return half_even(have - want);
  };
  const std::int64_t top = corner(height, target_->height);
  const std::int64_t left = corner(width, target_->width);
  return window(image, top, left, *target_, pad_);
}

std::vector<std::byte> ImagePlan::convert(const PixelImage& fitted) const {
  const auto channels = static_cast<std::size_t>(channels_);
  const auto count = static_cast<std::size_t>(fitted.width * fitted.height);
  std::vector<std::byte> bytes(count * channels * width_);
  for (std::size_t c = 0; c < channels; ++c) {
    const std::uint8_t* pixel = fitted.pixels.data() + (swap_ ? channels - 1 - c : c);
    const std::byte* const table = table_.data() + c * 256 * width_;
    const std::size_t step = channels_last_ ? channels * width_ : width_;
    std::byte* to = bytes.data() + (channels_last_ ? c * width_ : c * count * width_);
    const auto fill = [&](auto width) {
      for (std::size_t i = 0; i < count; ++i, pixel += channels, to += step) {
        std::memcpy(to, table + *pixel * width, width);
      }
    };
    if (width_ == 4) {
      fill(std::integral_constant<std::size_t, 4>());
    } else {
      fill(width_);
    }
  }
  return bytes;
}

std::string ImagePlan::describe() const {
  std::vector<std::string> steps;
  const std::string filter = " (" + std::string(filter_name(request_.filter)) + ")";
  if (geometry_ == Geometry::kShorter) {
    steps.push_back("shorter side to " + std::to_string(shorter_) + filter);
  }
  if (geometry_ == Geometry::kStretch) steps.push_back("resize to " + size_text(stretch_) + filter);
  if (geometry_ == Geometry::kCover) steps.push_back("cover " + size_text(*target_) + filter);
  if (geometry_ == Geometry::kLetterbox) {
    steps.push_back("letterbox " + size_text(*target_) + filter);
  }
  if (crop_) steps.push_back("crop " + size_text(*target_));
  steps.emplace_back(channels_ == 1 ? "gray" : swap_ ? "BGR" : "RGB");
  const auto listed = [](const std::vector<double>& values) {
    std::string text;
    for (const double value : values) text += (text.empty() ? "" : ",") + shortest(value);
    return text;
  };
  std::string values = scale_ == 1.0 / 255.0 ? "x/255" : "x*" + shortest(scale_);
  if (scale_ == 1.0) values = "x";
  if (!request_.mean.empty()) values = "(" + values + " - " + listed(request_.mean) + ")";
  if (!request_.std.empty()) values += "/" + listed(request_.std);
  steps.push_back(std::move(values));
  steps.emplace_back(channels_last_ ? "nhwc" : "nchw");
  return join(steps, ", ");
}

std::string ImagePlan::inferred() const { return join(guesses_, ", "); }

}  // namespace mcompress
