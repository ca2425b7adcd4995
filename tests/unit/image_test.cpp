// Decoding, resizing and what becomes of pixels. Expected numbers of resizing and of gray are those
// of Pillow 11 for the same pixels; those of preprocessing are worked out by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "calibration/image_file.h"
#include "calibration/preprocess.h"
#include "numeric/resample.h"
#include "support/images.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::bmp_bytes;
using testing::jpeg_bytes;
using testing::pixels_of;
using testing::png_bytes;
using testing::png_of_chunks;
using testing::test_pixel;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string failure_of(const std::string& file) {
  auto image = decode_image(bytes_of(file), 3);
  if (image.ok()) return "ok";
  EXPECT_EQ(image.error().code, Code::kInput);
  return image.error().diagnostic.message;
}

TEST(ImageFile, DecodesWithoutLoss) {
  for (const std::string& file : {png_bytes(9, 7, 3, test_pixel), bmp_bytes(9, 7, 3, test_pixel)}) {
    auto image = decode_image(bytes_of(file), 3);
    ASSERT_TRUE(image.ok()) << to_string(image.error().diagnostic);
    EXPECT_EQ(image->width, 9);
    EXPECT_EQ(image->height, 7);
    EXPECT_EQ(image->pixels, pixels_of(9, 7, 3, test_pixel));
  }
}

TEST(ImageFile, DropsAlphaAndSpreadsGray) {
  auto image = decode_image(bytes_of(png_bytes(9, 7, 4, test_pixel)), 3);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->pixels, pixels_of(9, 7, 3, test_pixel));
  image = decode_image(bytes_of(png_bytes(9, 7, 1, test_pixel)), 3);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->pixels,
            pixels_of(9, 7, 3, [](int y, int x, int) { return test_pixel(y, x, 0); }));
  image = decode_image(bytes_of(png_bytes(9, 7, 2, test_pixel)), 1);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->pixels, pixels_of(9, 7, 1, test_pixel));
}

TEST(ImageFile, GrayIsThatOfPillow) {
  const std::vector<std::uint8_t> expected = {
      43,  134, 196, 60,  151, 213, 77,  168, 80,  80,  182, 105, 130, 203, 78,  180,
      103, 128, 117, 201, 87,  171, 57,  170, 104, 140, 74,  154, 99,  146, 91,  138,
      83,  130, 75,  122, 191, 70,  176, 84,  190, 98,  204, 112, 68,  199, 118, 85,
      154, 44,  190, 80,  197, 116, 86,  166, 67,  195, 125, 103, 183, 84,  212};
  auto image = decode_image(bytes_of(png_bytes(9, 7, 3, test_pixel)), 1);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->pixels, expected);
}

TEST(ImageFile, JpegIsNearTheOriginal) {
  const auto smooth = [](int y, int x, int c) { return 40 + 5 * y + 3 * x + 20 * c; };
  auto image = decode_image(bytes_of(jpeg_bytes(24, 16, 3, smooth)), 3);
  ASSERT_TRUE(image.ok()) << to_string(image.error().diagnostic);
  const std::vector<std::uint8_t> wanted = pixels_of(24, 16, 3, smooth);
  ASSERT_EQ(image->pixels.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(image->pixels[i], wanted[i], 6) << i;
}

TEST(ImageFile, NamesWhatItCanNotRead) {
  EXPECT_EQ(failure_of("GIF89a and more"), "is a GIF");
  EXPECT_EQ(failure_of(std::string("RIFF\0\0\0\0WEBPVP8 ", 16)), "is a WebP");
  EXPECT_EQ(failure_of(std::string("II*\0rest", 8)), "is a TIFF");
  EXPECT_EQ(failure_of("text"), "is no JPEG, PNG or BMP image");
  EXPECT_EQ(failure_of(""), "is no JPEG, PNG or BMP image");
  EXPECT_TRUE(is_image_name("a/B.JPG"));
  EXPECT_TRUE(is_image_name("x.png"));
  EXPECT_FALSE(is_image_name("png"));
}

TEST(ImageFile, RefusesWhatTheHeaderCanNotMean) {
  EXPECT_EQ(failure_of(png_of_chunks(12000, 12000, 8, 2, "x")),
            "the image has 12000 x 12000 pixels, the limit is 128 Mi pixels");
  const std::string liar = png_of_chunks(9000, 9000, 8, 2, "x");
  EXPECT_EQ(failure_of(liar),
            std::to_string(liar.size()) +
                " bytes can not hold the 9000 x 9000 pixels that the header names");
}

TEST(ImageFile, ABombStopsAtTheBudget) {
  // Deflated zeros: a fixed Huffman block of literal 0 and matches of length 258 at distance 1,
  // 13 bits each: about 160 times smaller.
  std::string stream = "\x78\x01";
  std::uint32_t held = 0;
  int bits = 0;
  const auto put = [&](std::uint32_t value, int count) {
    for (int i = 0; i < count; ++i) {
      held |= (value >> i & 1) << bits;
      if (++bits == 8) {
        stream += static_cast<char>(held);
        held = 0;
        bits = 0;
      }
    }
  };
  put(1, 1);     // last block
  put(1, 2);     // fixed codes
  put(0x0C, 8);  // literal 0 is 00110000, first bit first
  for (int i = 0; i < 400000; ++i) {
    put(0xA3, 8);  // length 258 is 11000101
    put(0, 5);     // distance 1
  }
  put(0, 7);
  put(0, 8);
  const std::string bomb = png_of_chunks(1, 1, 8, 2, stream);  // 650 kB hold 103 MB
  EXPECT_EQ(failure_of(bomb), "the stream holds more than the 1 x 1 pixels that the header names");
}

TEST(ImageFile, RefusesFilesThatEndEarly) {
  const std::string jpeg = jpeg_bytes(24, 16, 3, test_pixel);
  EXPECT_EQ(failure_of(jpeg.substr(0, jpeg.size() - 40)),
            "the file ends in the middle of the picture");
  for (const std::string& whole :
       {jpeg, png_bytes(9, 7, 3, test_pixel), bmp_bytes(9, 7, 3, test_pixel)}) {
    for (std::size_t size = 0; size + 4 < whole.size(); size += 7) {
      const std::string text = failure_of(whole.substr(0, size));
      EXPECT_NE(text, "ok") << size;
    }
  }
}

TEST(ImageFile, DamageNeverEscapes) {
  std::mt19937 random(7);
  for (const std::string& whole :
       {jpeg_bytes(24, 16, 3, test_pixel), png_bytes(20, 9, 3, test_pixel),
        bmp_bytes(9, 7, 3, test_pixel)}) {
    for (int round = 0; round < 300; ++round) {
      std::string file = whole;
      for (int i = 0; i < 3; ++i) file[random() % file.size()] = static_cast<char>(random());
      auto image = decode_image(bytes_of(file), 3);
      if (image.ok()) {
        EXPECT_EQ(image->pixels.size(), static_cast<std::size_t>(image->width * image->height * 3));
      }
    }
  }
}

TEST(Resample, GivesTheNumbersOfPillow) {
  struct Case {
    ResampleFilter filter;
    int width, height;
    std::vector<std::uint8_t> expected;
  };
  const std::vector<Case> cases = {
      {ResampleFilter::kBilinear, 4, 3, {104, 135, 146, 119, 143, 118, 121, 151, 141,
                                         155, 96,  149, 133, 135, 145, 131, 122, 113,
                                         135, 116, 134, 146, 90,  125, 133, 131, 132,
                                         112, 133, 122, 120, 136, 152, 122, 154, 115}},
      {ResampleFilter::kBilinear,
       12,
       5,
       {12,  65,  118, 72,  125, 178, 142, 163, 152, 181, 160, 63,  61,  103, 135, 100, 153, 152,
        138, 191, 127, 135, 188, 91,  78,  131, 163, 128, 127, 180, 166, 102, 155, 172, 55,  108,
        58,  111, 164, 125, 178, 143, 153, 163, 127, 131, 84,  120, 127, 165, 94,  105, 158, 86,
        89,  142, 124, 100, 135, 188, 181, 109, 162, 173, 102, 155, 158, 86,  139, 154, 65,  118,
        111, 164, 217, 160, 111, 135, 157, 108, 114, 113, 146, 152, 171, 82,  88,  127, 119, 126,
        124, 116, 140, 168, 73,  120, 139, 131, 143, 153, 87,  122, 150, 66,  119, 126, 85,  138,
        164, 217, 157, 92,  145, 155, 101, 111, 111, 174, 127, 56,  87,  125, 161, 88,  141, 105,
        98,  151, 115, 99,  152, 187, 119, 172, 100, 120, 173, 102, 130, 129, 111, 146, 57,  110,
        210, 92,  60,  145, 134, 155, 101, 122, 175, 98,  77,  108, 149, 191, 95,  93,  146, 135,
        113, 102, 155, 196, 99,  152, 118, 150, 203, 95,  148, 147, 114, 167, 103, 156, 209, 92}},
      {ResampleFilter::kBicubic, 4, 3, {101, 132, 148, 123, 144, 115, 118, 155, 144,
                                        157, 92,  151, 134, 139, 147, 128, 122, 106,
                                        134, 119, 134, 149, 83,  123, 137, 129, 133,
                                        110, 130, 119, 119, 137, 156, 121, 159, 113}},
      {ResampleFilter::kBicubic,
       12,
       5,
       {7,   57,  109, 60,  119, 195, 154, 173, 165, 199, 168, 46,  44,  89,  143, 96,  153, 168,
        154, 207, 124, 139, 193, 76,  61,  131, 169, 125, 131, 192, 175, 103, 156, 172, 52,  105,
        52,  105, 166, 132, 194, 140, 165, 171, 127, 127, 65,  126, 133, 175, 91,  104, 163, 72,
        79,  138, 123, 93,  133, 201, 193, 105, 165, 182, 99,  153, 156, 85,  138, 151, 67,  120,
        107, 169, 237, 173, 98,  124, 163, 101, 100, 94,  164, 167, 186, 66,  69,  126, 120, 129,
        120, 118, 150, 182, 56,  106, 140, 137, 141, 153, 79,  122, 151, 52,  118, 127, 85,  137,
        170, 233, 157, 77,  142, 165, 93,  99,  104, 193, 131, 40,  77,  119, 180, 84,  142, 97,
        98,  155, 103, 92,  154, 202, 117, 176, 90,  122, 187, 93,  130, 128, 112, 144, 47,  113,
        219, 81,  41,  152, 143, 162, 91,  123, 196, 91,  59,  109, 163, 208, 86,  81,  150, 142,
        103, 86,  161, 216, 94,  148, 113, 150, 221, 83,  143, 150, 112, 171, 93,  158, 222, 92}},
      {ResampleFilter::kLanczos, 4, 3, {102, 129, 147, 127, 148, 112, 115, 154, 148,
                                        160, 89,  153, 136, 142, 148, 128, 118, 103,
                                        132, 121, 134, 152, 81,  122, 138, 127, 133,
                                        108, 127, 120, 117, 141, 156, 121, 161, 113}},
      {ResampleFilter::kLanczos,
       12,
       5,
       {7,   55,  101, 44,  110, 208, 176, 185, 170, 203, 162, 38,  42,  83,  143, 86,  150, 186,
        177, 222, 109, 128, 187, 71,  53,  137, 169, 120, 133, 204, 184, 102, 150, 164, 57,  110,
        49,  99,  162, 134, 205, 138, 176, 169, 129, 126, 51,  132, 138, 175, 96,  109, 171, 62,
        66,  129, 126, 94,  132, 209, 192, 102, 175, 196, 96,  148, 152, 87,  135, 144, 76,  127,
        102, 169, 254, 180, 89,  119, 157, 108, 89,  80,  178, 169, 185, 67,  56,  129, 118, 124,
        116, 119, 160, 192, 55,  97,  152, 136, 130, 143, 84,  132, 147, 43,  121, 141, 80,  123,
        176, 244, 154, 66,  143, 178, 95,  85,  92,  207, 132, 39,  76,  114, 191, 77,  142, 97,
        105, 160, 95,  84,  155, 206, 109, 176, 94,  126, 201, 77,  133, 124, 116, 137, 43,  119,
        221, 75,  25,  161, 153, 157, 79,  116, 215, 96,  50,  105, 173, 210, 83,  69,  159, 149,
        98,  67,  165, 225, 100, 151, 115, 145, 227, 71,  139, 155, 118, 177, 84,  154, 227, 100}},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(
        resample(pixels_of(9, 7, 3, test_pixel), {9, 7, 3}, one.width, one.height, one.filter),
        one.expected)
        << one.width << "x" << one.height;
  }
}

TEST(Resample, KeepsWhatNeedsNoChange) {
  const auto pixels = pixels_of(9, 7, 3, test_pixel);
  EXPECT_EQ(resample(pixels, {9, 7, 3}, 9, 7, ResampleFilter::kBilinear), pixels);
  const std::vector<std::uint8_t> flat(5 * 4, 77);
  EXPECT_EQ(resample(flat, {5, 4, 1}, 3, 8, ResampleFilter::kLanczos),
            std::vector<std::uint8_t>(3 * 8, 77));
}

// ------------------------------------------------------------------------------ preprocessing

PortInfo image_port(const std::vector<std::int64_t>& dims, DataType type = DataType::kFloat) {
  PortInfo port;
  port.name = "x";
  port.type.element = type;
  port.type.shape.emplace();
  for (const std::int64_t size : dims) {
    port.type.shape->push_back(size < 0 ? Dim{{}, "n"} : Dim{size, {}});
  }
  return port;
}

Result<ImagePlan> plan_for(std::string_view text, const PortInfo& port) {
  auto request = parse_preprocess(text);
  if (!request.ok()) return std::move(request).error();
  return ImagePlan::make(*request, port);
}

std::string plan_failure(std::string_view text, const PortInfo& port) {
  auto plan = plan_for(text, port);
  return plan.ok() ? "ok: " + plan->describe() : to_string(plan.error().diagnostic);
}

PixelImage image_of(int width, int height, int channels, const testing::PixelFn& value) {
  return {width, height, channels, pixels_of(width, height, channels, value)};
}

std::vector<float> floats_of(const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(Preprocess, InfersWhatIsNotSaid) {
  auto plan = plan_for("", image_port({1, 3, 4, 6}));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->describe(), "cover 4x6 (bilinear), crop 4x6, RGB, x/255, nchw");
  EXPECT_EQ(
      plan->inferred(),
      "layout=nchw, channels=rgb, resized to cover 4x6, crop=4x6, scale=1/255, no mean, no std");
  plan = plan_for("", image_port({-1, 28, 28, 1}));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->describe(), "cover 28x28 (bilinear), crop 28x28, gray, x/255, nhwc");
  plan = plan_for("", image_port({1, 3, 4, 6}, DataType::kUint8));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->describe(), "cover 4x6 (bilinear), crop 4x6, RGB, x, nchw");
  plan = plan_for("", image_port({-1, 3, -1, -1}));
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->fixed_size());
  // Means of 0 to 255 belong to pixels of 0 to 255.
  plan = plan_for("mean=127.5,std=127.5", image_port({1, 3, 4, 6}));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->describe(), "cover 4x6 (bilinear), crop 4x6, RGB, (x - 127.5)/127.5, nchw");
}

TEST(Preprocess, ReadsTextAndYamlAlike) {
  const PortInfo port = image_port({-1, 3, 224, 224});
  const std::string text =
      "resize=256,crop=224,mean=0.485,0.456,0.406,std=0.229,0.224,0.225,scale=1/255,layout=nchw,"
      "channels=bgr,filter=bicubic";
  const std::string expected =
      "shorter side to 256 (bicubic), crop 224x224, BGR, (x/255 - 0.485,0.456,0.406)/"
      "0.229,0.224,0.225, nchw";
  EXPECT_EQ(plan_failure(text, port), "ok: " + expected);
  testing::TempFolder folder;
  testing::write_bytes(folder / "p.yaml",
                       "resize: 256\ncrop: [224, 224]\nmean: [0.485, 0.456, 0.406]\n"
                       "std: [0.229, 0.224, 0.225]\nscale: 1/255\nlayout: NCHW\nchannels: BGR\n"
                       "filter: bicubic\n");
  EXPECT_EQ(plan_failure((folder / "p.yaml").string(), port), "ok: " + expected);
}

TEST(Preprocess, RefusesWithReasons) {
  const PortInfo port = image_port({1, 3, 224, 224});
  EXPECT_EQ(plan_failure("rezise=3", port),
            "--preprocess: rezise: this setting is not known (did you mean 'resize'?)");
  EXPECT_NE(plan_failure("crop=0", port).find("no size of 1 to 16384"), std::string::npos);
  EXPECT_NE(plan_failure("crop=3x4x5", port).find("more than two numbers"), std::string::npos);
  EXPECT_NE(plan_failure("std=0", port).find("can not divide"), std::string::npos);
  EXPECT_NE(plan_failure("mean=1,2", port).find("2 numbers are given"), std::string::npos);
  EXPECT_NE(plan_failure("scale=1/0", port).find("no number"), std::string::npos);
  EXPECT_NE(plan_failure("crop=1,crop=2", port).find("given twice"), std::string::npos);
  EXPECT_NE(plan_failure("letterbox=9,crop=9", port).find("by itself"), std::string::npos);
  EXPECT_NE(plan_failure("layout=nwhc", port).find("none of nchw"), std::string::npos);
  EXPECT_NE(plan_failure("pad=256", port).find("0 to 255"), std::string::npos);
  EXPECT_NE(plan_failure("missing.yaml", port).find("is no setting"), std::string::npos);
  EXPECT_NE(plan_failure("crop=200", port).find("become 200x200"), std::string::npos);
  EXPECT_NE(plan_failure("channels=gray", port).find("gray images have 1"), std::string::npos);
  EXPECT_NE(plan_failure("", image_port({-1, 4, 8, 8})).find("has 4 channels"), std::string::npos);
  EXPECT_NE(plan_failure("", image_port({-1, 128})).find("is no image"), std::string::npos);
}

TEST(Preprocess, CropsInTheMiddleAndPads) {
  // 7 wide to 4: (7 - 4) / 2 = 1.5 rounds to the even 2; 5 high to 4: 0.5 rounds to 0.
  auto plan = plan_for("crop=4", image_port({1, 1, 4, 4}, DataType::kUint8));
  ASSERT_TRUE(plan.ok());
  const auto place = [](int y, int x, int) { return 10 * y + x; };
  auto fitted = plan->fit(image_of(7, 5, 1, place));
  ASSERT_TRUE(fitted.ok());
  EXPECT_EQ(fitted->pixels, pixels_of(4, 4, 1, [](int y, int x, int) { return 10 * y + x + 2; }));
  // Smaller than the crop: 3 of 4 columns, the missing one at the right.
  plan = plan_for("crop=4,pad=9", image_port({1, 1, 4, 4}, DataType::kUint8));
  fitted = plan->fit(image_of(3, 4, 1, place));
  ASSERT_TRUE(fitted.ok());
  EXPECT_EQ(fitted->pixels,
            pixels_of(4, 4, 1, [](int y, int x, int) { return x == 3 ? 9 : 10 * y + x; }));
}

TEST(Preprocess, ShorterSideAndLetterboxKeepTheAspect) {
  auto plan = plan_for("resize=4", image_port({1, 1, -1, -1}, DataType::kUint8));
  ASSERT_TRUE(plan.ok()) << to_string(plan.error().diagnostic);
  const auto flat = [](int, int, int) { return 50; };
  auto fitted = plan->fit(image_of(15, 8, 1, flat));  // 4 * 15 / 8 = 7.5, cut
  ASSERT_TRUE(fitted.ok());
  EXPECT_EQ(fitted->width, 7);
  EXPECT_EQ(fitted->height, 4);
  plan = plan_for("letterbox=8", image_port({1, 1, 8, 8}, DataType::kUint8));
  ASSERT_TRUE(plan.ok());
  fitted = plan->fit(image_of(16, 6, 1, flat));  // to 8 x 3; 2 rows above, 3 below
  ASSERT_TRUE(fitted.ok());
  EXPECT_EQ(fitted->pixels,
            pixels_of(8, 8, 1, [](int y, int, int) { return y >= 2 && y < 5 ? 50 : 114; }));
  plan = plan_for("resize=16384", image_port({1, 1, -1, -1}, DataType::kUint8));
  fitted = plan->fit(image_of(2000, 1, 1, flat));
  ASSERT_FALSE(fitted.ok());
  EXPECT_EQ(fitted.error().diagnostic.id, "image-size");
}

TEST(Preprocess, NormalisesPerChannelInTheAskedLayout) {
  const auto value = [](int y, int x, int c) { return 100 * c + 10 * y + x; };
  const std::string common = "scale=1,mean=1,2,3,std=2,4,8";
  auto plan = plan_for(common, image_port({1, 3, 2, 2}));
  ASSERT_TRUE(plan.ok());
  std::vector<float> expected;
  for (const int c : {0, 1, 2}) {
    for (const int i : {0, 1, 10, 11}) {
      expected.push_back(static_cast<float>(100 * c + i - (c + 1)) / static_cast<float>(2 << c));
    }
  }
  EXPECT_EQ(floats_of(plan->convert(image_of(2, 2, 3, value))), expected);
  EXPECT_EQ(plan->dims(image_of(2, 2, 3, value)), (std::vector<std::int64_t>{1, 3, 2, 2}));
  // Mean and deviation are of the channels as the model gets them.
  plan = plan_for(common + ",channels=bgr", image_port({-1, 2, 2, 3}));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->dims(image_of(2, 2, 3, value)), (std::vector<std::int64_t>{1, 2, 2, 3}));
  expected.clear();
  for (const int i : {0, 1, 10, 11}) {
    for (const int c : {0, 1, 2}) {
      expected.push_back(static_cast<float>(100 * (2 - c) + i - (c + 1)) /
                         static_cast<float>(2 << c));
    }
  }
  EXPECT_EQ(floats_of(plan->convert(image_of(2, 2, 3, value))), expected);
}

TEST(Preprocess, RoundsAndSaturatesForIntegers) {
  auto plan = plan_for("mean=128", image_port({1, 1, 1, 4}, DataType::kInt8));
  ASSERT_TRUE(plan.ok());
  const std::vector<std::byte> bytes =
      plan->convert({4, 1, 1, std::vector<std::uint8_t>{0, 127, 128, 255}});
  EXPECT_EQ(static_cast<int>(static_cast<std::int8_t>(bytes[0])), -128);
  EXPECT_EQ(static_cast<int>(static_cast<std::int8_t>(bytes[1])), -1);
  EXPECT_EQ(static_cast<int>(static_cast<std::int8_t>(bytes[3])), 127);
  plan = plan_for("scale=2", image_port({1, 1, 1, 2}, DataType::kUint8));
  ASSERT_TRUE(plan.ok());
  const std::vector<std::byte> doubled =
      plan->convert({2, 1, 1, std::vector<std::uint8_t>{100, 200}});
  EXPECT_EQ(std::to_integer<int>(doubled[0]), 200);
  EXPECT_EQ(std::to_integer<int>(doubled[1]), 255);
}

}  // namespace
}  // namespace mcompress
