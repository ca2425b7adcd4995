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
  for (const auto& fixture : mcompress::testing::fixtures()) {
    mcompress::testing::write_file(folder / (fixture.name + ".onnx"), fixture.bytes);
  }
  return 0;
}
