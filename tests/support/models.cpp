#include "support/models.h"

#include <gtest/gtest.h>
#include <onnx/defs/parser.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>

#include "mcompress/io.h"

namespace mcompress::testing {
namespace {

onnx::ModelProto proto_from_text(std::string_view text) {
  onnx::ModelProto model;
  const auto status = onnx::OnnxParser::Parse(model, std::string(text).c_str());
  EXPECT_TRUE(status.IsOK()) << status.ErrorMessage() << "\n" << text;
  return model;
}

std::string bytes_of(const onnx::ModelProto& model) {
  std::string bytes;
  EXPECT_TRUE(model.SerializeToString(&bytes));
  return bytes;
}

// A field number no ONNX schema uses: number 3000, length-delimited.
template <class Message>
void add_unknown_field(Message& message, std::string_view text) {
  std::string field("\xc2\xbb\x01", 3);
  field.push_back(static_cast<char>(text.size()));
  field += text;
  EXPECT_TRUE(message.MergeFromString(field));
}

std::string raw_floats(std::size_t count, float step) {
  std::string bytes(count * sizeof(float), '\0');
  for (std::size_t i = 0; i < count; ++i) {
    const float value = step * static_cast<float>(static_cast<int>(i % 17) - 8);
    std::copy_n(reinterpret_cast<const char*>(&value), sizeof(value),
                bytes.begin() + static_cast<std::ptrdiff_t>(i * sizeof(value)));
  }
  return bytes;
}

void fill_floats(onnx::TensorProto& tensor, std::string name, std::vector<std::int64_t> dims,
                 float step) {
  std::size_t count = 1;
  tensor.set_name(std::move(name));
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  for (const std::int64_t size : dims) {
    tensor.add_dims(size);
    count *= static_cast<std::size_t>(size);
  }
  tensor.set_raw_data(raw_floats(count, step));
}

std::string plain() {
  auto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17], producer_name: "fixtures",
     metadata_props: ["kind" : "plain", "second" : "entry"]>
    plain (float[N, 16] x) => (float[N, 4] y)
    <float[4] bias = {0.5, -0.5, 0.25, 2.0}, float[N, 32] h> {
      h = MatMul (x, w1)
      r = Relu (h)
      m = MatMul (r, w2)
      y = Add (m, bias)
    })");
  fill_floats(*model.mutable_graph()->add_initializer(), "w1", {16, 32}, 0.125F);
  fill_floats(*model.mutable_graph()->add_initializer(), "w2", {32, 4}, 0.0625F);
  return bytes_of(model);
}

// The weight is captured through two levels; bodies capture values of nodes as well.
std::string captured() {
  auto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    captured (float[8, 8] x, bool c, int64 trips) => (float[8, 8] y)
    <float[8] bias = {1, 2, 3, 4, 5, 6, 7, 8}> {
      start = Add (x, bias)
      y = If (c) <
        then_branch = then_body () => (float[8, 8] t) {
          keep = Constant <value = bool {1}> ()
          t = Loop (trips, keep, start) <
            body = loop_body (int64 i, bool k, float[8, 8] a) => (bool ko, float[8, 8] ao) {
              ko = Identity (k)
              mm = MatMul (a, w)
              ao = Add (mm, start)
            }
          >
        },
        else_branch = else_body () => (float[8, 8] e) {
          local = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> ()
          p = MatMul (start, w)
          e = Mul (p, local)
        }
      >
    })");
  fill_floats(*model.mutable_graph()->add_initializer(), "w", {8, 8}, 0.01F);
  return bytes_of(model);
}

// Branches whose outputs have the name of the If's own output, as many exporters write them.
std::string same_names() {
  return bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    same_names (float[4] x, bool c) => (float[4] y) {
      y = If (c) <
        then_branch = a () => (float[4] y) { y = Relu (x) },
        else_branch = b () => (float[4] y) { y = Neg (x) }
      >
    })");
}

std::string functions() {
  return bytes_from_text(R"(
    <ir_version: 9, opset_import: ["" : 17, "local" : 1]>
    functions (float[N, 4] x) => (float[N, 4] y) {
      a = local.leaky <alpha = 0.25> (x)
      y = local.twice (a)
    }
    <domain: "local", opset_import: ["" : 17]>
    leaky <alpha> (x) => (y) {
      y = LeakyRelu <alpha: float = @alpha> (x)
    }
    <domain: "local", opset_import: ["" : 17]>
    twice (x) => (y) {
      two = Constant <value = float {2.0}> ()
      y = Mul (x, two)
    })");
}

// A custom operator, and fields nobody here can name, at every level.
std::string unknown_fields() {
  auto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17, "com.example" : 3]>
    unknown_fields (float[4] x) => (float[4] y)
    <float[4] w = {1, 2, 3, 4}> {
      a = com.example.Conv <pads = [1, 2], flavour = "odd"> (x, w)
      b = Relu (a)
      y = Add (b, w)
    })");
  add_unknown_field(model, "model");
  add_unknown_field(*model.mutable_opset_import(0), "opset");
  auto& graph = *model.mutable_graph();
  add_unknown_field(graph, "graph");
  add_unknown_field(*graph.mutable_input(0), "input");
  add_unknown_field(*graph.mutable_initializer(0), "initializer");
  for (auto& node : *graph.mutable_node()) {
    add_unknown_field(node, "node");
    for (auto& attribute : *node.mutable_attribute()) add_unknown_field(attribute, "attribute");
  }
  return bytes_of(model);
}

// One embedding, read along one axis by Gather and along the other by MatMul.
std::string tied() {
  auto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    tied (int64[N] ids) => (float[N, 40] logits) {
      h = Gather (embedding, ids)
      r = Relu (h)
      transposed = Transpose <perm = [1, 0]> (embedding)
      logits = MatMul (r, transposed)
    })");
  fill_floats(*model.mutable_graph()->add_initializer(), "embedding", {40, 16}, 0.05F);
  return bytes_of(model);
}

std::string interface_initializers() {
  return bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    interface_initializers (float[4] x, float[4] w = {1, 2, 3, 4})
      => (float[4] y, float[4] constant, float[4] x)
    <float[4] constant = {4, 3, 2, 1}> {
      a = Add (x, w)
      y = Mul (a, constant)
    })");
}

std::string typed_fields() {
  onnx::ModelProto model = proto_from_text(R"(
    <ir_version: 12, opset_import: ["" : 25]>
    typed_fields (float[3] x) => (float[3] y) { y = Identity (x) })");
  auto& graph = *model.mutable_graph();
  const auto add = [&](const char* name, int type, std::int64_t count) -> onnx::TensorProto& {
    auto& tensor = *graph.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    tensor.add_dims(count);
    return tensor;
  };
  using T = onnx::TensorProto;
  auto& floats = add("floats", T::FLOAT, 3);
  for (const float value : {1.5F, -0.0F, std::numeric_limits<float>::infinity()}) {
    floats.add_float_data(value);
  }
  auto& doubles = add("doubles", T::DOUBLE, 2);
  for (const double value : {1e300, -2.5}) doubles.add_double_data(value);
  auto& complex = add("complex", T::COMPLEX64, 1);
  for (const float value : {1.0F, 2.0F}) complex.add_float_data(value);
  const auto add_int32 = [&](const char* name, int type, std::int64_t count,
                             std::vector<std::int32_t> values) {
    auto& tensor = add(name, type, count);
    for (const std::int32_t value : values) tensor.add_int32_data(value);
  };
  add_int32("int32", T::INT32, 2, {-7, 1 << 30});
  add_int32("int16", T::INT16, 2, {-300, 300});
  add_int32("uint16", T::UINT16, 2, {65535, 1});
  add_int32("int8", T::INT8, 3, {-128, 127, -1});
  add_int32("uint8", T::UINT8, 3, {255, 0, 1});
  add_int32("bool", T::BOOL, 2, {1, 0});
  add_int32("float16", T::FLOAT16, 2, {0x3c00, 0xc000});
  add_int32("bfloat16", T::BFLOAT16, 2, {0x3f80, 0xc000});
  add_int32("float8", T::FLOAT8E4M3FN, 2, {0x38, 0xb8});
  add_int32("int4", T::INT4, 3, {0x21, 0x0f});
  add_int32("uint4", T::UINT4, 4, {0x21, 0x43});
  auto& int64 = add("int64", T::INT64, 2);
  for (const std::int64_t value : {std::int64_t{-5}, std::int64_t{1} << 40}) {
    int64.add_int64_data(value);
  }
  auto& uint32 = add("uint32", T::UINT32, 2);
  for (const std::uint64_t value : {4294967295ULL, 7ULL}) uint32.add_uint64_data(value);
  auto& uint64 = add("uint64", T::UINT64, 1);
  uint64.add_uint64_data(~0ULL);
  auto& strings = add("strings", T::STRING, 2);
  for (const char* value : {"one", ""}) strings.add_string_data(value);
  return bytes_of(model);
}

// Types as raw bytes, the last one from the future.
std::string small_types() {
  onnx::ModelProto model = proto_from_text(R"(
    <ir_version: 11, opset_import: ["" : 23]>
    small_types (float[4] x) => (float[4] y) { y = Identity (x) })");
  const auto add = [&](const char* name, int type, std::vector<std::int64_t> dims,
                       std::size_t bytes) {
    auto& tensor = *model.mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    for (const std::int64_t size : dims) tensor.add_dims(size);
    std::string data;
    for (std::size_t i = 0; i < bytes; ++i) data.push_back(static_cast<char>(i * 37));
    tensor.set_raw_data(data);
  };
  using T = onnx::TensorProto;
  add("float16", T::FLOAT16, {600, 2}, 2400);
  add("bfloat16", T::BFLOAT16, {7}, 14);
  add("float8", T::FLOAT8E5M2, {5}, 5);
  add("int4", T::INT4, {3, 3}, 5);
  add("uint4", T::UINT4, {2048}, 1024);
  add("unknown", 99, {3, 5, 7}, 2000);
  return bytes_of(model);
}

std::string odd_shapes() {
  onnx::ModelProto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    odd_shapes (float[N] x) => (float[N] y, float[2, 0, 3] empty)
    <float scalar = {2.0}, float[2, 0, 3] empty = {}> {
      s = Mul (x, scalar)
      y = Add (s, special)
    })");
  auto& special = *model.mutable_graph()->add_initializer();
  special.set_name("special");
  special.set_data_type(onnx::TensorProto::FLOAT);
  special.add_dims(1);
  special.add_float_data(std::numeric_limits<float>::quiet_NaN());
  return bytes_of(model);
}

std::string left_out() {
  return bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    left_out (float[2, 3, 4] x, float[1, 20, 4] w, float[1, 20, 5] r, float high)
      => (float[3] y_h, float z) {
      , y_h = LSTM <hidden_size = 5> (x, w, r)
      z = Clip (high, , high)
    })");
}

// IR version 3: every initializer is also an input and none can be overridden.
std::string old_version() {
  auto model = proto_from_text(R"(
    <ir_version: 3, opset_import: ["" : 9]>
    old_version (float[1, 3, 8, 8] x, float[4, 3, 3, 3] w, float[4] scale, float[4] shift,
                 float[4] mean, float[4] var) => (float[1, 4, 6, 6] y)
    <float[4] scale = {1, 2, 3, 4}, float[4] shift = {0, 0, 1, 1}, float[4] mean = {0, 1, 0, 1},
     float[4] var = {1, 1, 4, 4}> {
      c = Conv (x, w)
      y = BatchNormalization (c, scale, shift, mean, var)
    })");
  fill_floats(*model.mutable_graph()->add_initializer(), "w", {4, 3, 3, 3}, 0.1F);
  return bytes_of(model);
}

std::string sparse() {
  onnx::ModelProto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    sparse (float[4] x) => (float[4] y) {
      y = Add (x, sparse_w)
    })");
  auto& sparse = *model.mutable_graph()->add_sparse_initializer();
  sparse.add_dims(4);
  sparse.mutable_values()->set_name("sparse_w");
  sparse.mutable_values()->set_data_type(onnx::TensorProto::FLOAT);
  sparse.mutable_values()->add_dims(2);
  sparse.mutable_values()->set_raw_data(raw_floats(2, 1.0F));
  sparse.mutable_indices()->set_name("sparse_w_indices");
  sparse.mutable_indices()->set_data_type(onnx::TensorProto::INT64);
  sparse.mutable_indices()->add_dims(2);
  for (const std::int64_t index : {1, 3}) sparse.mutable_indices()->add_int64_data(index);
  return bytes_of(model);
}

// Names that are prefixes of others and that look like derived ones.
std::string prefixes() {
  return bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    prefixes (float[4] a) => (float[4] a_1_1)
    <float[4] a_quantized = {1, 2, 3, 4}> {
      a_1 = Relu (a)
      a_2 = Add (a_1, a_quantized)
      a_1_1 = Neg (a_2)
    })");
}

std::string not_tensors() {
  return bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    not_tensors (float[2] x, seq(float[2]) s, int64 at) => (float[2] y, seq(float[2]) t) {
      t = SequenceInsert (s, x)
      y = SequenceAt (t, at)
    })");
}

// Everything around the graph that is no concern of this tool and has to survive.
std::string surroundings() {
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(plain()));
  model.set_producer_version("1.2");
  model.set_domain("org.example");
  model.set_model_version(7);
  model.set_doc_string("documentation");
  auto& training = *model.add_training_info();
  *training.mutable_algorithm() = model.graph();
  auto& graph = *model.mutable_graph();
  graph.set_doc_string("graph documentation");
  auto& annotation = *graph.add_quantization_annotation();
  annotation.set_tensor_name("h");
  annotation.add_quant_parameter_tensor_names()->set_key("SCALE_TENSOR");
  auto& node = *graph.mutable_node(1);
  node.set_doc_string("node documentation");
  node.add_metadata_props()->set_key("node metadata");
  auto& device = *node.add_device_configurations();
  device.set_configuration_id("two devices");
  model.add_configuration()->set_name("two devices");
  return bytes_of(model);
}

// Large tensors where they are seldom looked for.
std::string large_anywhere() {
  onnx::ModelProto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    large_anywhere (float[512] x, bool c) => (float[512] y) {
      k = Constant <value = float {1.0}> ()
      s = Add (x, k)
      y = If (c) <
        then_branch = a () => (float[512] t) { t = Mul (s, inner) },
        else_branch = b () => (float[512] e) { e = Sub (s, inner_b) }
      >
    })");
  auto& graph = *model.mutable_graph();
  auto& constant = *graph.mutable_node(0)->mutable_attribute(0)->mutable_t();
  constant.Clear();
  fill_floats(constant, "k_value", {512}, 0.5F);
  auto& branch = *graph.mutable_node(2);
  fill_floats(*branch.mutable_attribute(0)->mutable_g()->add_initializer(), "inner", {512}, 0.1F);
  fill_floats(*branch.mutable_attribute(1)->mutable_g()->add_initializer(), "inner_b", {512}, 0.2F);
  return bytes_of(model);
}

std::vector<Fixture> make_fixtures() {
  return {
      {"plain", plain()},
      {"captured", captured()},
      {"same_names", same_names()},
      {"functions", functions()},
      {"unknown_fields", unknown_fields()},
      {"tied", tied()},
      {"interface_initializers", interface_initializers()},
      {"typed_fields", typed_fields()},
      {"small_types", small_types()},
      {"odd_shapes", odd_shapes()},
      {"left_out", left_out()},
      {"old_version", old_version()},
      {"sparse", sparse()},
      {"prefixes", prefixes()},
      {"not_tensors", not_tensors()},
      {"surroundings", surroundings()},
      {"large_anywhere", large_anywhere()},
  };
}

}  // namespace

std::string bytes_from_text(std::string_view text) { return bytes_of(proto_from_text(text)); }

const std::vector<Fixture>& fixtures() {
  static const std::vector<Fixture> all = make_fixtures();
  return all;
}

const std::string& fixture(std::string_view name) {
  static const std::string none;
  for (const Fixture& entry : fixtures()) {
    if (entry.name == name) return entry.bytes;
  }
  ADD_FAILURE() << "no fixture " << name;
  return none;
}

std::unique_ptr<Model> model_from_bytes(std::string_view bytes) {
  Diagnostics diagnostics;
  auto model = load_model_bytes(bytes, {}, diagnostics);
  if (model.ok()) return std::move(model).value();
  ADD_FAILURE() << to_string(model.error().diagnostic);
  return std::make_unique<Model>();
}

std::unique_ptr<Model> model_from_text(std::string_view text) {
  return model_from_bytes(bytes_from_text(text));
}

std::string chain_bytes(std::int64_t nodes) {
  onnx::ModelProto model = proto_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    chain (float[4] v0) => (float[4] last) { })");
  auto& graph = *model.mutable_graph();
  for (std::int64_t i = 0; i < nodes; ++i) {
    auto& node = *graph.add_node();
    node.set_op_type(i % 2 == 0 ? "Relu" : "Neg");
    node.add_input("v" + std::to_string(i));
    node.add_output(i + 1 == nodes ? "last" : "v" + std::to_string(i + 1));
  }
  return bytes_of(model);
}

Node* maker_of(Model& model, std::string_view value) {
  Value* found = model.graph().find(value);
  return found == nullptr ? nullptr : found->producer();
}

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "mcompress-test-XXXXXX").string();
  EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TempFolder::list() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
    if (!entry.is_directory()) {
      names.push_back(std::filesystem::relative(entry.path(), path_).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file.good()) << path;
}

}  // namespace mcompress::testing
