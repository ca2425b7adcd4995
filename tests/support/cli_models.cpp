// cli_models FOLDER: writes the models that the tests of the command line read, besides those of
// models/.
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>

#include "support/arrays.h"
#include "support/decoder.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// Weights in both branches of an If and one outside that both read.
std::string branches() {
  return bytes_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> branches (bool c, float[2,32] x) => (float[2,32] "
      "y) <" +
      weights("outer", {32, 32}) + "> { y = If (c) < then_branch = t () => (float[2,32] o) <" +
      weights("left", {32, 64}) + ", " + weights("back", {64, 32}) +
      "> { a = MatMul(x, outer) b = MatMul(a, left) d = Relu(b) o = MatMul(d, back) }, "
      "else_branch = e () => (float[2,32] p) <" +
      weights("right", {32, 32}) +
      "> { e = MatMul(x, outer) r = Relu(e) f = MatMul(r, right) p = Neg(f) } > }");
}

// A decoder in three forms, and tokens: one row of them, and sequences of which some are padded.
void write_decoders(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_file(folder / "model.onnx", decoder_bytes({}));
  write_file(folder / "no-cache.onnx", decoder_bytes({.cache = false}));
  write_file(folder / "other.onnx", decoder_bytes({.prefix = "other"}));
  write_file(folder / "tokens.npy", npy("<i8", {1200}, decoder_tokens(1200, 1)));
  std::vector<std::int64_t> rows = decoder_tokens(std::int64_t{16} * 24, 2);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i / 24 % 4 == 3 && i % 24 >= 18) rows[i] = -100;
  }
  write_npz(folder / "rows.npz", {{"input_ids", npy("<i8", {16, 24}, rows)}});
}

// Models of which one reads what the other makes, with samples of the first, and what it makes of
// them: twice as much.
void write_chain(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::string head = "<ir_version: 8, opset_import: [\"\" : 17]> ";
  write_file(folder / "twice.onnx",
             bytes_from_text(head + "twice (float[N,32] x) => (float[N,32] h) { h = Add(x, x) }"));
  write_file(folder / "maker.onnx",
             bytes_from_text(head + "maker (float[N,32] x) => (float[N,32] h) <" +
                             weights("w", {32, 32}) + "> { h = MatMul(x, w) }"));
  const std::string layers = weights("v", {32, 64}) + ", " + weights("u", {64, 32});
  write_file(folder / "reader.onnx",
             bytes_from_text(head + "reader (float[N,32] h) => (float[N,32] y) <" + layers +
                             "> { a = MatMul(h, v) b = Relu(a) y = MatMul(b, u) }"));
  write_file(folder / "two.onnx",
             bytes_from_text(head + "two (float[N,32] k, float[N,32] t) => (float[N,32] y) <" +
                             layers + "> { s = Add(k, t) a = MatMul(s, v) y = MatMul(a, u) }"));
  write_file(folder / "other.onnx",
             bytes_from_text(head + "other (float[N,7] h) => (float[N,8] y) <" +
                             weights("w", {7, 8}) + "> { y = MatMul(h, w) }"));
  std::vector<float> once, doubled;
  for (int i = 0; i < 24 * 32; ++i) {
    once.push_back(static_cast<float>(i * 37 % 101) / 50 - 1);
    doubled.push_back(2 * once.back());
  }
  write_npz(folder / "x.npz", {{"x", npy("<f4", {24, 32}, once)}});
  write_npz(folder / "h.npz", {{"h", npy("<f4", {24, 32}, doubled)}});
  write_npz(folder / "t.npz", {{"t", npy("<f4", {24, 32}, once)}});
  write_npz(folder / "kt.npz",
            {{"k", npy("<f4", {24, 32}, doubled)}, {"t", npy("<f4", {24, 32}, once)}});
  write_npz(folder / "short.npz",
            {{"t", npy("<f4", {1, 32}, std::vector<float>(once.begin(), once.begin() + 32))}});
}

struct Named {
  std::string_view name;
  std::string bytes;
};

std::vector<Named> models() {
  return {
      {"branches", branches()},
      {"nothing", bytes_from_text(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        nothing (float[N,4] x) => (float[N,4] y) { y = Relu(x) })")},
      // The axes that were attributes become tensors with names.
      {"grows", bytes_from_text(R"(
        <ir_version: 7, opset_import: ["" : 12]>
        grows (float[2,1,4] x) => (float[2,4] y) { y = Squeeze<axes=[1]>(x) })")},
      // There is no older form of it, nor of the other.
      {"no-older-form", bytes_from_text(R"(
        <ir_version: 8, opset_import: ["" : 13]>
        half (float[1,1,2,3] x) => (float[1,1,4,6] y, float[1,1,8,12] z)
        <int64[4] s = {1,1,4,6}, int64[4] t = {1,1,8,12}> {
          y = Resize<mode="linear">(x, , , s)
          z = Resize<mode="linear">(y, , , t)
        })")},
      {"calls",
       bytes_from_text("<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1]> calls "
                       "(float[2,64] x) => (float[2,64] y) { [first] t = local.layer(x) "
                       "y = local.act(t) }\n<domain: \"local\", opset_import: [\"\" : 17]> "
                       "layer (a) => (b) { w = Constant<value = " +
                       weights("", {64, 64}) +
                       ">() [inner] b = MatMul(a, w) }\n<domain: \"local\", opset_import: "
                       "[\"\" : 17]> act (a) => (b) { b = Relu(a) }")},
      {"many-calls",
       bytes_from_text("<ir_version: 10, opset_import: [\"\" : 17, \"local\" : 1]> many "
                       "(float[2,64] x) => (float[2,64] y) { a = local.layer(x) b = "
                       "local.layer(a) y = local.layer(b) }\n<domain: \"local\", "
                       "opset_import: [\"\" : 17]> layer (a) => (b) { w = Constant<value = " +
                       weights("", {64, 64}, -0.1f, 0.1f) + ">() b = MatMul(a, w) }")},
      // The checker wants a shape for its output, the runtime does without.
      {"shapeless", bytes_from_text(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        shapeless (float[4] x, int64[N] s) => (float[] y) {
          a = Identity(x)
          b = Identity(a)
          c = Relu(b)
          y = Reshape(c, s)
        })")},
      // As large as products have to be for MatMulNBits.
      {"large-product", bytes_from_text("<ir_version: 8, opset_import: [\"\" : 17]> large "
                                        "(float[N,320] x) => (float[N,320] y) <" +
                                        weights("w", {320, 320}) + "> { y = MatMul(x, w) }")},
      // Nobody can run it.
      {"custom", bytes_from_text(R"(
        <ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
        custom (float[2] x) => (float[2] y) {
          a = Identity(x)
          b = com.example.Mystery(a)
          y = Identity(b)
        })")},
  };
}

}  // namespace
}  // namespace mcompress::testing

int main(int argc, char** argv) {
  // The helpers complain as tests do; here a complaint ends the build.
  ::testing::GTEST_FLAG(throw_on_failure) = true;
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    std::cerr << "usage: cli_models FOLDER\n";
    return 1;
  }
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  for (const auto& [name, bytes] : mcompress::testing::models()) {
    mcompress::testing::write_file(folder / (std::string(name) + ".onnx"), bytes);
  }
  mcompress::testing::write_decoders(folder / "decoder");
  mcompress::testing::write_chain(folder / "chain");
  for (const auto& fixture : mcompress::testing::fixtures()) {
    mcompress::testing::write_file(folder / (fixture.name + ".onnx"), fixture.bytes);
  }
  return 0;
}
