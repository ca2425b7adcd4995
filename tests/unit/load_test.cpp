#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <random>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "onnx/proto.h"
#include "support/models.h"
#include "support/protos.h"

namespace mcompress {
namespace {

using testing::bytes_from_text;
using testing::fixture;
using testing::proto_of;
using testing::TempFolder;

Result<std::unique_ptr<Model>> load(std::string_view bytes) {
  Diagnostics diagnostics;
  return load_model_bytes(bytes, {}, diagnostics);
}

// The whole message of the error that loading ends in; checks its code.
std::string refusal(std::string_view bytes) {
  const auto model = load(bytes);
  if (model.ok()) {
    ADD_FAILURE() << "loaded";
    return {};
  }
  EXPECT_EQ(model.error().code, Code::kInput);
  return to_string(model.error().diagnostic);
}

std::string changed(std::string_view bytes, const std::function<void(onnx::ModelProto&)>& change) {
  onnx::ModelProto proto = proto_of(bytes);
  change(proto);
  return proto.SerializeAsString();
}

void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(Load, EveryFixtureIsSound) {
  for (const auto& entry : testing::fixtures()) {
    auto model = load(entry.bytes);
    ASSERT_TRUE(model.ok()) << entry.name << to_string(model.error().diagnostic);
    const Status sound = verify(**model);
    EXPECT_TRUE(sound.ok()) << entry.name << to_string(sound.error().diagnostic);
    EXPECT_TRUE((*model)->graph().pristine());
  }
}

TEST(Load, CapturedValuesAreUsesOfTheOuterValue) {
  auto model = testing::model_from_bytes(fixture("captured"));
  const Value* weight = model->graph().find("w");
  ASSERT_NE(weight, nullptr);
  ASSERT_EQ(weight->uses().size(), 2U);
  for (const Use& use : weight->uses()) {
    EXPECT_TRUE(use.node->is("MatMul"));
    EXPECT_NE(use.graph, &model->graph());
    EXPECT_TRUE(use.graph->is_within(model->graph()));
  }
  EXPECT_EQ(model->graph().find("start")->uses().size(), 3U);
}

TEST(Load, OverridableInitializersAreNoConstants) {
  auto model = testing::model_from_bytes(fixture("interface_initializers"));
  EXPECT_EQ(model->graph().find("w")->constant(), nullptr);
  EXPECT_NE(model->graph().find("w")->initializer(), nullptr);
  EXPECT_NE(model->graph().find("constant")->constant(), nullptr);
  EXPECT_TRUE(model->graph().find("x")->is_graph_output());
  auto old = testing::model_from_bytes(fixture("old_version"));
  EXPECT_NE(old->graph().find("w")->constant(), nullptr);
}

TEST(Load, LeftOutInputsAndOutputsAreNull) {
  auto model = testing::model_from_bytes(fixture("left_out"));
  const Node& lstm = *model->graph().first();
  EXPECT_EQ(lstm.outputs().size(), 2U);
  EXPECT_EQ(lstm.output(0), nullptr);
  EXPECT_EQ(model->graph().last()->input(1), nullptr);
}

TEST(Load, TypedFieldsAreReadAsRawBytes) {
  auto model = testing::model_from_bytes(fixture("typed_fields"));
  const auto floats = [&](std::string_view name) {
    return read_floats(*model->graph().find(name)->constant()).value();
  };
  const auto ints = [&](std::string_view name) {
    return read_ints(*model->graph().find(name)->constant()).value();
  };
  using Ints = std::vector<std::int64_t>;
  EXPECT_EQ(floats("floats")[0], 1.5F);
  EXPECT_TRUE(std::isinf(floats("floats")[2]));
  EXPECT_EQ(floats("doubles")[1], -2.5F);
  EXPECT_EQ(floats("float16"), (std::vector<float>{1, -2}));
  EXPECT_EQ(floats("bfloat16"), (std::vector<float>{1, -2}));
  EXPECT_EQ(floats("float8"), (std::vector<float>{1, -1}));
  EXPECT_EQ(ints("int32"), (Ints{-7, 1 << 30}));
  EXPECT_EQ(ints("int16"), (Ints{-300, 300}));
  EXPECT_EQ(ints("uint16"), (Ints{65535, 1}));
  EXPECT_EQ(ints("int8"), (Ints{-128, 127, -1}));
  EXPECT_EQ(ints("uint8"), (Ints{255, 0, 1}));
  EXPECT_EQ(ints("bool"), (Ints{1, 0}));
  EXPECT_EQ(floats("int4"), (std::vector<float>{1, 2, -1}));
  EXPECT_EQ(floats("uint4"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(ints("int64"), (Ints{-5, std::int64_t{1} << 40}));
  EXPECT_EQ(ints("uint32"), (Ints{4294967295, 7}));
  EXPECT_EQ(model->graph().find("complex")->constant()->byte_size(), 8U);
  EXPECT_TRUE(model->graph().find("strings")->constant()->is_opaque());
}

TEST(Load, UnknownTypesAreOpaque) {
  auto model = testing::model_from_bytes(fixture("small_types"));
  const Tensor& unknown = *model->graph().find("unknown")->constant();
  EXPECT_TRUE(unknown.is_opaque());
  EXPECT_EQ(static_cast<int>(unknown.dtype()), 99);
  EXPECT_EQ(unknown.byte_size(), 2000U);
  EXPECT_EQ(unknown.elements(), 105);
}

TEST(Load, FunctionBodiesAreGraphsOfTheirOwn) {
  auto model = testing::model_from_bytes(fixture("functions"));
  ASSERT_EQ(model->functions().size(), 2U);
  const Graph& body = *model->functions()[0].body;
  ASSERT_EQ(body.node_count(), 1U);
  const auto* alpha = std::get_if<AttributeRef>(body.first()->attribute("alpha"));
  ASSERT_NE(alpha, nullptr);
  EXPECT_EQ(alpha->of_function, "alpha");
}

TEST(Load, RefusesUndefinedDoubledAndShadowingNames) {
  expect_contains(refusal(bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (float[4] y) { y = Add (x, ghost) })")),
                  "graph/node[0]: ghost: input 1 of this Add node is 'ghost'");
  expect_contains(refusal(bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (float[4] y) { x = Relu (x) y = Neg (x) })")),
                  "output 0 is already defined in this graph");
  expect_contains(refusal(bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (float[4] nowhere) { y = Relu (x) })")),
                  "nowhere: nothing in the graph defines this output");
  expect_contains(refusal(bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x, bool c) => (float[4] y) {
      a = Relu (x)
      y = If (c) <then_branch = t () => (float[4] b) { a = Neg (x) b = Neg (a) },
                  else_branch = e () => (float[4] b) { b = Neg (x) }>
    })")),
                  "graph/node[1]/then_branch/node[0]: a: output 0 has the name of a value of the "
                  "enclosing graph 'graph'");
  expect_contains(refusal(changed(fixture("plain"),
                                  [](onnx::ModelProto& proto) {
                                    auto& graph = *proto.mutable_graph();
                                    *graph.add_initializer() = graph.initializer(1);
                                  })),
                  "initializer 3 is already defined");
  expect_contains(refusal(changed(fixture("plain"),
                                  [](onnx::ModelProto& proto) {
                                    *proto.mutable_graph()->add_input() = proto.graph().input(0);
                                  })),
                  "input 1 is already defined");
}

TEST(Load, RefusesFunctionsThatReachOutside) {
  expect_contains(refusal(changed(fixture("functions"),
                                  [](onnx::ModelProto& proto) {
                                    proto.mutable_functions(0)->mutable_node(0)->set_input(0, "a");
                                  })),
                  "function/local:leaky/node[0]: a: input 0");
}

TEST(Load, RefusesDomainsWithoutOperatorSet) {
  expect_contains(refusal(changed(fixture("unknown_fields"),
                                  [](onnx::ModelProto& proto) {
                                    proto.mutable_opset_import()->DeleteSubrange(1, 1);
                                  })),
                  "no operator set is imported for domain 'com.example'");
}

TEST(Load, AddsTheImportOfTheRuntimesOperatorsThatAFileForgot) {
  const std::string bytes = bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "local" : 1]>
    g (float[4] x) => (float[4] y) {
      a = com.microsoft.QuickGelu <alpha = 1.0> (x)
      b = com.microsoft.QuickGelu <alpha = 2.0> (a)
      y = local.twice (b)
    }
    <domain: "local", opset_import: ["" : 17, "com.microsoft" : 1]>
    twice (p) => (q) { m = com.microsoft.QuickGelu <alpha = 1.0> (p) q = Add (m, m) })");
  const auto without = [](google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& imports) {
    for (int i = imports.size() - 1; i >= 0; --i) {
      if (imports.at(i).domain() == "com.microsoft") imports.DeleteSubrange(i, 1);
    }
  };
  Diagnostics diagnostics;
  auto model =
      load_model_bytes(changed(bytes,
                               [&](onnx::ModelProto& proto) {
                                 without(*proto.mutable_opset_import());
                                 without(*proto.mutable_functions(0)->mutable_opset_import());
                               }),
                       {}, diagnostics);
  ASSERT_TRUE(model.ok()) << to_string(model.error().diagnostic);
  EXPECT_EQ((*model)->opset("com.microsoft"), 1);
  EXPECT_EQ((*model)->functions()[0].opsets.at("com.microsoft"), 1);
  ASSERT_EQ(diagnostics.all().size(), 2U);  // one for the model, one for the function
  EXPECT_EQ(diagnostics.all()[0].id, "opset-added");
  Diagnostics none;
  auto again = load_model_bytes(save_model_bytes(**model).value(), {}, none);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(none.all().empty());
  // A version that makes no sense is not left out.
  expect_contains(
      refusal(changed(
          bytes, [](onnx::ModelProto& proto) { proto.mutable_opset_import(1)->set_version(0); })),
      "no operator set is imported for domain 'com.microsoft'");
}

TEST(Load, RenamesInputsOfBodiesThatShadow) {
  const std::string bytes = bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64 n, bool c, float[2] a, float[2] x, float[2] x_inner) => (float[2] z, float[2] t) {
      y = Add (x, x_inner)
      z, t = Loop (n, c, a, y) <body = b (int64 i, bool go, float[2] acc, float[2] x)
        => (bool more, float[2] next, float[2] x_out) {
          more = Identity (go)
          next = If (go) <then_branch = p () => (float[2] u) { u = Add (acc, x) },
                          else_branch = q () => (float[2] v) { v = Mul (y, x) }>
          x_out = Neg (x)
        }>
    })");
  Diagnostics diagnostics;
  auto model = load_model_bytes(bytes, {}, diagnostics);
  ASSERT_TRUE(model.ok()) << to_string(model.error().diagnostic);
  ASSERT_EQ(diagnostics.all().size(), 1U);
  EXPECT_EQ(diagnostics.all()[0].id, "shadowing-names-changed");
  EXPECT_TRUE(verify(**model).ok());
  const Graph& body = *(*model)->graph().last()->bodies().front();
  const Value& x = *body.inputs()[3];
  EXPECT_EQ(x.name(), "x_inner1");
  EXPECT_EQ(x.uses().size(), 3U);  // both branches and Neg
  Diagnostics none;
  const std::string saved = save_model_bytes(**model).value();
  auto again = load_model_bytes(saved, {}, none);
  ASSERT_TRUE(again.ok()) << to_string(again.error().diagnostic);
  EXPECT_TRUE(none.all().empty());
  EXPECT_EQ(save_model_bytes(**again).value(), saved);
}

TEST(Load, SortsNodesAndSaysSo) {
  const std::string bytes = bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x, bool c) => (float[4] y) {
      y = If (c) <then_branch = t () => (float[4] a) { a = Neg (late) },
                  else_branch = e () => (float[4] b) { b = Neg (x) }>
      late = Relu (middle)
      first = Neg (x)
      middle = Abs (first)
    })");
  Diagnostics diagnostics;
  auto model = load_model_bytes(bytes, {}, diagnostics);
  ASSERT_TRUE(model.ok()) << to_string(model.error().diagnostic);
  ASSERT_EQ(diagnostics.all().size(), 1U);
  EXPECT_EQ(diagnostics.all()[0].id, "nodes-out-of-order");
  std::string order;
  for (const Node* node : (*model)->graph().nodes()) order += std::string(node->op_type()) + " ";
  EXPECT_EQ(order, "Neg Abs Relu If ");
  EXPECT_TRUE(verify(**model).ok());
  EXPECT_TRUE(check_model(**model).ok());
  Diagnostics none;
  const std::string saved = save_model_bytes(**model).value();
  EXPECT_TRUE(load_model_bytes(saved, {}, none).ok());
  EXPECT_TRUE(none.all().empty());
}

TEST(Load, RefusesCycles) {
  expect_contains(refusal(bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (float[4] y) {
      before = Neg (x)
      a = Add (before, b)
      b = Relu (a)
      y = Neg (b)
    })")),
                  "needs its own result");
  expect_contains(refusal(bytes_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x, bool c) => (float[4] y) {
      y = If (c) <then_branch = t () => (float[4] a) { a = Neg (y) },
                  else_branch = e () => (float[4] b) { b = Neg (x) }>
    })")),
                  "needs its own result");
}

TEST(Load, RefusesTensorsThatDoNotFitTheirType) {
  const auto with = [](const std::function<void(onnx::TensorProto&)>& change) {
    return refusal(changed(fixture("plain"), [&](onnx::ModelProto& proto) {
      change(*proto.mutable_graph()->mutable_initializer(1));
    }));
  };
  expect_contains(with([](auto& tensor) { tensor.set_dims(0, 17); }),
                  "w1: dimensions [17, 32] of float32 need 2176 bytes, but 2048 are stored");
  expect_contains(with([](auto& tensor) { tensor.set_dims(0, -16); }), "negative or too large");
  expect_contains(with([](auto& tensor) { tensor.set_dims(0, std::int64_t{1} << 60); }),
                  "too large");
  expect_contains(with([](auto& tensor) { tensor.set_data_type(onnx::TensorProto::DOUBLE); }),
                  "of float64 need 4096 bytes, but 2048 are stored");
  expect_contains(with([](auto& tensor) { tensor.clear_raw_data(); }), "but 0 are stored");
  expect_contains(with([](auto& tensor) { tensor.add_float_data(1); }), "more than one field");
  expect_contains(with([](auto& tensor) { tensor.clear_name(); }), "initializer 1 has no name");
}

TEST(Load, RefusesWhatIsNoModel) {
  expect_contains(refusal(""), "no bytes at all");
  expect_contains(refusal("This is a text and not a model."), "not an ONNX model");
  expect_contains(refusal(onnx::ModelProto().SerializeAsString() + "\x08\x07"), "holds no graph");
  Diagnostics diagnostics;
  const auto missing = load_model("/nonexistent/model.onnx", {}, diagnostics);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, Code::kInput);
  EXPECT_EQ(missing.error().diagnostic.where.file, "/nonexistent/model.onnx");
}

TEST(Load, NamesTheFile) {
  const TempFolder folder;
  testing::write_file(folder / "bad.onnx", fixture("plain").substr(0, 100));
  Diagnostics diagnostics;
  const auto model = load_model(folder / "bad.onnx", {}, diagnostics);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().diagnostic.where.file, (folder / "bad.onnx").string());
}

// ------------------------------------------------------------------------------ external data

class External : public ::testing::Test {
 protected:
  // The model with its first large weight in "w.bin", which has 100 bytes in front of it.
  void write(const std::vector<std::pair<std::string, std::string>>& entries) {
    const std::string bytes = changed(fixture("plain"), [&](onnx::ModelProto& proto) {
      auto& tensor = *proto.mutable_graph()->mutable_initializer(1);
      data_ = tensor.raw_data();
      tensor.clear_raw_data();
      tensor.set_data_location(onnx::TensorProto::EXTERNAL);
      for (const auto& [key, value] : entries) {
        auto& entry = *tensor.add_external_data();
        entry.set_key(key);
        entry.set_value(value);
      }
    });
    std::filesystem::create_directories(folder_ / "sub");
    testing::write_file(folder_ / "sub/m.onnx", bytes);
    testing::write_file(folder_ / "sub/w.bin", std::string(100, '#') + data_);
    testing::write_file(folder_ / "secret", data_);
  }
  std::string refusal() {
    Diagnostics diagnostics;
    const auto model = load_model(folder_ / "sub/m.onnx", {}, diagnostics);
    if (model.ok()) {
      ADD_FAILURE() << "loaded";
      return {};
    }
    EXPECT_EQ(model.error().code, Code::kInput);
    return to_string(model.error().diagnostic);
  }

  TempFolder folder_;
  std::string data_;
};

TEST_F(External, IsMapped) {
  for (const bool with_length : {true, false}) {
    std::vector<std::pair<std::string, std::string>> entries = {{"location", "w.bin"},
                                                                {"offset", "100"}};
    if (with_length) entries.emplace_back("length", "2048");
    write(entries);
    Diagnostics diagnostics;
    const auto model = load_model(folder_ / "sub/m.onnx", {}, diagnostics);
    ASSERT_TRUE(model.ok()) << to_string(model.error().diagnostic);
    EXPECT_TRUE((*model)->had_external_data());
    const Tensor& weight = *(*model)->graph().find("w1")->constant();
    EXPECT_TRUE(weight.storage()->file_range());
    const auto pinned = weight.storage()->pin(0, 2048);
    ASSERT_TRUE(pinned.ok());
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(pinned->bytes().data()), 2048), data_);
    EXPECT_EQ(model_size_on_disk(**model)->data_bytes, 2148U);
  }
}

TEST_F(External, ThatIsNotThereIsRefused) {
  write({{"location", "nothing.bin"}});
  expect_contains(refusal(), "nothing.bin");
  write({});
  expect_contains(refusal(), "w1");
  write({{"location", "."}});
  refusal();
  write({{"location", ""}});
  refusal();
}

TEST_F(External, OutsideTheFolderIsRefused) {
  for (const char* location : {"../secret", "/etc/passwd", "x/../../secret", "..", "link"}) {
    write({{"location", location}});
    if (std::string(location) == "link") {
      std::filesystem::create_symlink("../secret", folder_ / "sub/link");
    }
    refusal();
  }
}

TEST_F(External, RangesOutsideTheFileAreRefused) {
  write({{"location", "w.bin"}, {"offset", "101"}, {"length", "2048"}});
  expect_contains(refusal(),
                  "w1: external data needs 2048 bytes from byte 101 of 'w.bin', which "
                  "has 2148 bytes");
  write({{"location", "w.bin"}, {"offset", "5000"}});
  expect_contains(refusal(), "starts at byte 5000");
  write({{"location", "w.bin"}, {"offset", "18446744073709551615"}, {"length", "2048"}});
  refusal();
  write({{"location", "w.bin"}, {"offset", "100"}, {"length", "18446744073709551615"}});
  refusal();
  for (const char* text : {"-1", "12x", "", "99999999999999999999999", " 5", "0x10"}) {
    write({{"location", "w.bin"}, {"offset", text}});
    expect_contains(refusal(), "not a number of bytes");
  }
  write({{"location", "w.bin"}, {"offset", "100"}, {"length", "2044"}});
  expect_contains(refusal(), "need 2048 bytes, but 2044 are stored");
}

TEST_F(External, InMemoryIsRefused) {
  write({{"location", "w.bin"}});
  expect_contains(::mcompress::refusal(testing::read_file(folder_ / "sub/m.onnx")),
                  "a model that is not a file");
}

// ------------------------------------------------------------------------------ hostile bytes

// Loading may succeed; then saving and loading again must as well.
void expect_survives(const std::string& bytes) {
  auto model = load(bytes);
  if (!model.ok()) {
    ASSERT_EQ(model.error().code, Code::kInput) << to_string(model.error().diagnostic);
    return;
  }
  const Status sound = verify(**model);
  ASSERT_TRUE(sound.ok()) << to_string(sound.error().diagnostic);
  (void)dump(**model);
  (void)fingerprint(**model);
  const auto saved = save_model_bytes(**model);
  ASSERT_TRUE(saved.ok()) << to_string(saved.error().diagnostic);
  auto again = load(*saved);
  ASSERT_TRUE(again.ok()) << to_string(again.error().diagnostic);
  ASSERT_EQ(save_model_bytes(**again).value(), *saved);
}

TEST(Hostile, EveryTruncation) {
  for (const auto& entry : testing::fixtures()) {
    for (std::size_t size = 0; size < entry.bytes.size(); ++size) {
      expect_survives(entry.bytes.substr(0, size));
      if (HasFatalFailure()) FAIL() << entry.name << " cut at " << size;
    }
  }
}

TEST(Hostile, TenThousandBitFlips) {
  std::mt19937_64 random(2026);
  const auto& all = testing::fixtures();
  for (int round = 0; round < 10000; ++round) {
    const auto& entry = all[static_cast<std::size_t>(round) % all.size()];
    std::string bytes = entry.bytes;
    const int flips = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < flips; ++i) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1U << (random() % 8));
    }
    expect_survives(bytes);
    if (HasFatalFailure()) FAIL() << entry.name << " in round " << round;
  }
}

TEST(Hostile, TenThousandNodesLoadInLinearTime) {
  const auto seconds = [](std::int64_t nodes) {
    const std::string bytes = testing::chain_bytes(nodes);
    const auto start = std::chrono::steady_clock::now();
    auto model = load(bytes);
    EXPECT_TRUE(model.ok());
    EXPECT_TRUE(verify(**model).ok());
    EXPECT_EQ(save_model_bytes(**model).value(), bytes);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  (void)seconds(100);
  EXPECT_LT(seconds(20000), 60 * seconds(2000) + 0.2);
}

TEST(Hostile, ManyNodesInTheWorstOrderSortQuickly) {
  onnx::ModelProto proto = proto_of(testing::chain_bytes(10000));
  auto& nodes = *proto.mutable_graph()->mutable_node();
  for (int i = 0; i < nodes.size() / 2; ++i) nodes.SwapElements(i, nodes.size() - 1 - i);
  const auto start = std::chrono::steady_clock::now();
  auto model = load(proto.SerializeAsString());
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(save_model_bytes(**model).value(), testing::chain_bytes(10000));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Hostile, HugeDimensionsCostNothing) {
  const std::string bytes = changed(fixture("plain"), [](onnx::ModelProto& proto) {
    auto& tensor = *proto.mutable_graph()->mutable_initializer(0);
    tensor.clear_dims();
    for (int i = 0; i < 3; ++i) tensor.add_dims(1 << 20);
  });
  expect_contains(refusal(bytes), "[1048576, 1048576, 1048576] of float32 are too large");
}

// ---------------------------------------------------------------------------- checks and shapes

TEST(Check, AcceptsWhatTheOnnxCheckerAccepts) {
  for (const auto& entry : testing::fixtures()) {
    const auto model = testing::model_from_bytes(entry.bytes);
    const Status checked = check_model(*model);
    EXPECT_EQ(checked.ok(), entry.standard)
        << entry.name << (checked.ok() ? "" : to_string(checked.error().diagnostic));
  }
}

TEST(Check, SaysWhatIsWrong) {
  auto model = testing::model_from_bytes(changed(fixture("plain"), [](onnx::ModelProto& proto) {
    proto.mutable_graph()->mutable_node(1)->set_op_type("Relou");
  }));
  const Status checked = check_model(*model);
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().code, Code::kInput);
  expect_contains(to_string(checked.error().diagnostic), "Relou");
}

TEST(Check, PrintsNothing) {
  auto model = testing::model_from_text(R"(
    <ir_version: 3, opset_import: ["" : 9]>
    g (float[1, 3, 4, 4] x) => (float[1, 3, 2, 2] y) { y = Crop <border = [1, 1, 1, 1]> (x) })");
  ::testing::internal::CaptureStdout();
  EXPECT_TRUE(check_model(*model).ok());
  std::cout << "mine" << std::flush;
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "mine");
}

TEST(Catalog, KnowsVersions) {
  const OperatorCatalog& catalog = onnx_catalog();
  EXPECT_EQ(catalog.since_version("", "Relu", 17), 14);
  EXPECT_EQ(catalog.since_version("", "Relu", 13), 13);
  EXPECT_EQ(catalog.since_version("ai.onnx", "QuantizeLinear", 9), 0);
  EXPECT_EQ(catalog.since_version("com.example", "Conv", 3), 0);
  EXPECT_EQ(catalog.since_version("", "Relu", 0), 0);
}

}  // namespace
}  // namespace mcompress
