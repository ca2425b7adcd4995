#include "mcompress/runtime.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <numeric>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "runtime/feeds.h"
#include "runtime/messages.h"
#include "runtime/scratch.h"

namespace mcompress {
namespace {

std::unique_ptr<Model> parse(std::string_view text) {
  Diagnostics diagnostics;
  auto model = parse_model_text(text, diagnostics);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : to_string(model.error().diagnostic));
  return model.ok() ? std::move(model).value() : std::make_unique<Model>();
}

Runtime& runtime() {
  static const std::shared_ptr<Runtime> found = find_runtime("onnxruntime").value();
  return *found;
}

std::unique_ptr<Session> open(const Model& model, const SessionOptions& options = {}) {
  auto session = runtime().open(model, options);
  EXPECT_TRUE(session.ok()) << (session.ok() ? "" : to_string(session.error().diagnostic));
  return session.ok() ? std::move(session).value() : nullptr;
}

Tensor floats(std::vector<float> values, std::vector<std::int64_t> dims) {
  return make_float_tensor(values, std::move(dims));
}

std::vector<float> values_of(const Tensor& tensor) {
  auto values = read_floats(tensor);
  EXPECT_TRUE(values.ok());
  return values.ok() ? std::move(values).value() : std::vector<float>();
}

// The error of something that must fail.
template <class T>
Error failure(Result<T> result) {
  EXPECT_FALSE(result.ok());
  return result.ok() ? Error() : std::move(result).error();
}

constexpr std::string_view kAdd = R"(
  <ir_version: 8, opset_import: ["" : 17]>
  g (float[N, 2] x, float scale) => (float[N, 2] y) {
    [times] h = Mul (x, scale)
    [plus] y = Add (h, x)
  })";

TEST(Runtime, IsFoundByName) {
  EXPECT_TRUE(runtime().name().starts_with("onnxruntime 1."));
  EXPECT_EQ(failure(find_runtime("tensorflow")).code, Code::kUnsupported);
}

TEST(Runtime, RunsAndDescribesItsPorts) {
  const auto session = open(*parse(kAdd));
  ASSERT_NE(session, nullptr);
  ASSERT_EQ(session->inputs().size(), 2U);
  EXPECT_EQ(port_type_text(session->inputs()[0].type), "float32[N,2]");
  // A scalar, as the model says; the runtime alone could not tell it from an unknown rank.
  EXPECT_EQ(port_type_text(session->inputs()[1].type), "float32[]");
  EXPECT_EQ(port_type_text(session->outputs()[0].type), "float32[N,2]");
  const std::vector<NamedTensor> feeds = {{"x", floats({1, 2, 3, 4}, {2, 2})},
                                          {"scale", make_float_scalar(10)}};
  const std::vector<std::string> fetch = {"y"};
  const auto results = session->run(feeds, fetch);
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(values_of(results.value()[0]), (std::vector<float>{11, 22, 33, 44}));
  // Nothing named: every output.
  EXPECT_EQ(session->run(feeds, {}).value().size(), 1U);
}

TEST(Runtime, RefusesFeedsThatDoNotFit) {
  const auto session = open(*parse(kAdd));
  ASSERT_NE(session, nullptr);
  const NamedTensor x{"x", floats({1, 2}, {1, 2})}, scale{"scale", make_float_scalar(1)};
  const auto fails = [&](std::vector<NamedTensor> feeds, std::string_view id,
                         std::string_view subject) {
    const Error error = failure(session->run(feeds, {}));
    EXPECT_EQ(error.diagnostic.id, id);
    EXPECT_EQ(error.diagnostic.where.subject, subject);
    EXPECT_EQ(error.code, Code::kInput);
  };
  fails({x}, "feed-missing", "scale");
  fails({x, scale, {"xx", x.tensor}}, "feed-unknown", "xx");
  fails({x, x, scale}, "feed-twice", "x");
  fails({{"x", floats({1, 2, 3}, {1, 3})}, scale}, "feed-shape-differs", "x");
  fails({{"x", floats({1, 2}, {2})}, scale}, "feed-shape-differs", "x");
  fails({x, {"scale", floats({1}, {1})}}, "feed-shape-differs", "scale");
  const std::vector<std::int64_t> whole = {1, 2};
  fails({{"x", make_int64_tensor(whole, {1, 2})}, scale}, "feed-type-differs", "x");
  const std::vector<std::string> fetch = {"z"};
  EXPECT_EQ(failure(session->run(std::vector<NamedTensor>{x, scale}, fetch)).diagnostic.id,
            "fetch-unknown");
  const Tensor text = Tensor::opaque_tensor(DataType::kString, {1, 2}, nullptr, 2);
  EXPECT_EQ(failure(session->run(std::vector<NamedTensor>{{"x", text}, scale}, {})).code,
            Code::kUnsupported);
}

TEST(Runtime, CountsWhatARunTakes) {
  const auto model = parse(R"(
    <ir_version: 8, opset_import: ["" : 17]> g (float[1000] x) => (float[1000] y)
    <float[1] w = {2.0}> { a = Mul (x, w) b = Sin (a) c = Add (a, b) y = Cos (c) })");
  SessionOptions options;
  EXPECT_FALSE(open(*model)->memory_use().ok());
  options.count_memory = true;
  options.optimisation = Optimisation::kNone;
  const auto session = open(*model, options);
  const std::vector<float> zeros(1000);
  const NamedTensor feed{"x", make_float_tensor(zeros, {1000})};
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(session->run({&feed, 1}, {}).ok());
    const auto use = session->memory_use();
    ASSERT_TRUE(use.ok());
    // a, b and what becomes of them: Add may write into one of both.
    EXPECT_GE(use->peak_bytes, 2U * 4000U) << round;
    EXPECT_LE(use->peak_bytes, 3U * 4000U + 1024U) << round;
    EXPECT_GT(use->allocations, 0U);
  }
}

TEST(Runtime, MissingKernelsAreUnsupportedAndNamed) {
  const auto model = parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (double[1, 1, 4, 4] x, double[1, 1, 1, 1] w) => (double[N, C, H, W] y) {
      [conv_of_doubles] y = Conv (x, w)
    })");
  const Error error = failure(runtime().open(*model, {}));
  EXPECT_EQ(error.code, Code::kUnsupported);
  EXPECT_EQ(error.diagnostic.where.subject, "conv_of_doubles");
}

TEST(Runtime, FailingNodesAreNamed) {
  const auto model = parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[A] x, float[B] w, bool c) => (float[Y] y) {
      [choice] y = If (c) <
        then_branch = one () => (float[T] t) { [inner_sum] t = Add (x, w) },
        else_branch = two () => (float[E] e) { e = Identity (x) }>
    })");
  const auto session = open(*model);
  ASSERT_NE(session, nullptr);
  const std::vector<NamedTensor> feeds = {
      {"x", floats({1, 2, 3}, {3})},
      {"w", floats({1, 2}, {2})},
      {"c", make_bytes_tensor(DataType::kBool, {}, {std::byte{1}})}};
  const Error error = failure(session->run(feeds, {}));
  EXPECT_EQ(error.code, Code::kInput);
  EXPECT_EQ(error.diagnostic.where.subject, "inner_sum");
  EXPECT_EQ(error.diagnostic.message.find(".cc"), std::string::npos) << error.diagnostic.message;
  EXPECT_EQ(error.diagnostic.message.find(".h:"), std::string::npos) << error.diagnostic.message;
}

// A 64 x 64 weight with bytes at an odd address, one that nested graphs read.
std::unique_ptr<Model> large_weights() {
  auto model = parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 64] x, bool c) => (float[N, 64] y)
    <float[1] w = {1}, float[1] s = {1}> {
      [outer] h = MatMul (x, w)
      k = Mul (h, s)
      y = If (c) <
        then_branch = one () => (float[N, 64] t) { [inner] t = MatMul (k, w) },
        else_branch = two () => (float[N, 64] e) { e = Identity (k) }>
    })");
  auto bytes = std::make_shared<std::vector<std::byte>>(64 * 64 * sizeof(float) + 1);
  for (std::size_t i = 0; i < 64 * 64; ++i) {
    const float value = i % 65 == 0 ? 2.0F : 0.0F;  // twice the identity
    std::memcpy(bytes->data() + 1 + i * sizeof(float), &value, sizeof(float));
  }
  const std::span<const std::byte> odd(bytes->data() + 1, bytes->size() - 1);
  Editor editor(*model);
  editor.set_constant(*model->graph().find("w"),
                      Tensor(DataType::kFloat, {64, 64}, make_storage(bytes, odd)));
  editor.set_constant(*model->graph().find("s"), floats(std::vector<float>(64, 3), {64}));
  return model;
}

TEST(Runtime, LargeTensorsAreHandedOverAtEveryLevel) {
  const auto model = large_weights();
  std::vector<float> x(64);
  std::iota(x.begin(), x.end(), 0.0F);
  const std::vector<NamedTensor> feeds = {
      {"x", floats(x, {1, 64})}, {"c", make_bytes_tensor(DataType::kBool, {}, {std::byte{1}})}};
  for (const auto level :
       {Optimisation::kNone, Optimisation::kBasic, Optimisation::kExtended, Optimisation::kAll}) {
    for (const bool lean : {false, true}) {
      SessionOptions options;
      options.optimisation = level;
      options.prepack = !lean;
      options.memory_arena = !lean;
      const auto session = open(*model, options);
      ASSERT_NE(session, nullptr);
      const auto results = session->run(feeds, {});
      ASSERT_TRUE(results.ok());
      const std::vector<float> y = values_of(results.value()[0]);
      ASSERT_EQ(y.size(), 64U);
      for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(y[i], 12 * x[i]);
    }
  }
}

// The runtime drops such tensors, and then misses what is handed over.
TEST(Runtime, LargeTensorsThatNothingNeedsAreNoObstacle) {
  std::string numbers = "{0.5";
  for (int i = 1; i < 1100; ++i) numbers += ", 0.5";
  numbers += "}";
  const auto model = parse(R"(<ir_version: 8, opset_import: ["" : 17]>
    g (float[1100] x) => (float[1100] y) <float[1100] read = )" +
                           numbers + ", float[1100] unread = " + numbers +
                           ", float[1100] idle = " + numbers + R"(> {
      a = Identity (idle)
      b = Relu (a)
      y = Add (x, read)
    })");
  for (const Optimisation level :
       {Optimisation::kNone, Optimisation::kBasic, Optimisation::kExtended, Optimisation::kAll}) {
    SessionOptions options;
    options.optimisation = level;
    const auto session = open(*model, options);
    ASSERT_NE(session, nullptr);
    const std::vector<NamedTensor> feeds = {{"x", floats(std::vector<float>(1100, 1), {1100})}};
    const std::vector<std::string> fetch = {"y"};
    auto results = session->run(feeds, fetch);
    ASSERT_TRUE(results.ok());
    EXPECT_EQ(values_of(results->front())[7], 1.5f);
  }
}

TEST(Runtime, SubByteWeightsAreHandedOver) {
  auto model = parse(R"(
    <ir_version: 10, opset_import: ["" : 21]>
    g (float x) => (float[10000] y)
    <int8[2] w = {1, 2}, float s = {0.5}> {
      d = DequantizeLinear (w, s)
      y = Mul (d, x)
    })");
  std::vector<std::byte> packed(5000, std::byte{0x71});  // 1, 7, 1, 7, ...
  Editor(*model).set_constant(*model->graph().find("w"),
                              make_bytes_tensor(DataType::kInt4, {10000}, packed));
  for (const auto level : {Optimisation::kNone, Optimisation::kAll}) {
    SessionOptions options;
    options.optimisation = level;
    const auto session = open(*model, options);
    ASSERT_NE(session, nullptr);
    const auto results = session->run(std::vector<NamedTensor>{{"x", make_float_scalar(2)}}, {});
    ASSERT_TRUE(results.ok());
    const std::vector<float> y = values_of(results.value()[0]);
    EXPECT_EQ(y[0], 1);
    EXPECT_EQ(y[9999], 7);
  }
}

TEST(Runtime, ExtraOutputsComeLast) {
  SessionOptions options;
  options.extra_outputs = {"h"};
  const auto session = open(*parse(kAdd), options);
  ASSERT_NE(session, nullptr);
  ASSERT_EQ(session->outputs().size(), 2U);
  EXPECT_EQ(session->outputs()[1].name, "h");
  const std::vector<NamedTensor> feeds = {{"x", floats({1, 2}, {1, 2})},
                                          {"scale", make_float_scalar(10)}};
  const std::vector<std::string> fetch = {"h", "y"};
  std::vector<std::size_t> order;
  const Status status = session->run(feeds, fetch, [&](std::size_t i, const TensorView& view) {
    order.push_back(i);
    float first = 0;
    std::memcpy(&first, view.bytes.data(), sizeof(first));
    EXPECT_EQ(first, i == 0 ? 10 : 11);
    return ok_status();
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1}));
}

TEST(Runtime, ReceiversCanStopARun) {
  const auto session = open(*parse(kAdd));
  const std::vector<NamedTensor> feeds = {{"x", floats({1, 2}, {1, 2})},
                                          {"scale", make_float_scalar(10)}};
  const std::vector<std::string> fetch = {"y"};
  const Status status = session->run(feeds, fetch, [](std::size_t, const TensorView&) -> Status {
    return Error(Code::kCancelled, "enough", "enough");
  });
  EXPECT_EQ(failure(status).diagnostic.id, "enough");
}

TEST(Runtime, ResultsOutliveFeedsAndSession) {
  auto session = open(*parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (float[2] x, float[2] c)
    <float[2] c = {5, 6}> {
      unused = Relu (x)
    })"));
  ASSERT_NE(session, nullptr);
  std::vector<Tensor> kept;
  {
    const std::vector<NamedTensor> feeds = {{"x", floats({1, 2}, {2})}};
    auto results = session->run(feeds, {});
    ASSERT_TRUE(results.ok());
    kept = std::move(results).value();
  }
  session.reset();
  EXPECT_EQ(values_of(kept[0]), (std::vector<float>{1, 2}));
  EXPECT_EQ(values_of(kept[1]), (std::vector<float>{5, 6}));
}

TEST(Runtime, EmptyTensorsAreData) {
  const auto session = open(*parse(kAdd));
  const std::vector<NamedTensor> feeds = {{"x", floats({}, {0, 2})},
                                          {"scale", make_float_scalar(10)}};
  const auto results = session->run(feeds, {});
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results.value()[0].dims()[0], 0);
  EXPECT_EQ(results.value()[0].dims()[1], 2);
}

TEST(Runtime, SequencesAreSkippedAndTextsRefused) {
  const auto session = open(*parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (seq(float[2]) s, float[2] y, string t)
    <string t = {"text"}> {
      s = SequenceConstruct (x, x)
      y = Relu (x)
    })"));
  ASSERT_NE(session, nullptr);
  const std::vector<NamedTensor> feeds = {{"x", floats({1, 2}, {2})}};
  const std::vector<std::string> tensors = {"s", "y"};
  const auto results = session->run(feeds, tensors);
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results.value()[0].dtype(), DataType::kUndefined);
  EXPECT_EQ(values_of(results.value()[1]), (std::vector<float>{1, 2}));
  const std::vector<std::string> texts = {"t"};
  const Error error = failure(session->run(feeds, texts));
  EXPECT_EQ(error.code, Code::kUnsupported);
  EXPECT_EQ(error.diagnostic.where.subject, "t");
}

TEST(Runtime, OverridableInitializersMayBeFed) {
  const auto session = open(*parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x, float[2] w = {1, 1}) => (float[2] y) {
      y = Mul (x, w)
    })"));
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->inputs().size(), 1U);
  std::vector<NamedTensor> feeds = {{"x", floats({1, 2}, {2})}};
  EXPECT_EQ(values_of(session->run(feeds, {}).value()[0]), (std::vector<float>{1, 2}));
  feeds.push_back({"w", floats({3, 4}, {2})});
  EXPECT_EQ(values_of(session->run(feeds, {}).value()[0]), (std::vector<float>{3, 8}));
}

TEST(Runtime, SessionsServeSeveralThreads) {
  const auto session = open(*large_weights());
  std::vector<std::future<bool>> workers;
  workers.reserve(4);
  for (int worker = 0; worker < 4; ++worker) {
    workers.push_back(std::async(std::launch::async, [&session, worker] {
      const auto value = static_cast<float>(worker);
      const std::vector<NamedTensor> feeds = {
          {"x", floats(std::vector<float>(64, value), {1, 64})},
          {"c", make_bytes_tensor(DataType::kBool, {}, {std::byte{0}})}};
      bool right = true;
      for (int i = 0; i < 50; ++i) {
        const auto results = session->run(feeds, {});
        right = right && results.ok() && values_of(results.value()[0])[0] == 6 * value;
      }
      return right;
    }));
  }
  for (auto& worker : workers) EXPECT_TRUE(worker.get());
}

TEST(Runtime, ProfilesNodes) {
  SessionOptions options;
  options.profile = true;
  options.optimisation = Optimisation::kNone;
  const auto session = open(*parse(kAdd), options);
  ASSERT_NE(session, nullptr);
  const std::vector<NamedTensor> feeds = {{"x", floats({1, 2}, {1, 2})},
                                          {"scale", make_float_scalar(10)}};
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(session->run(feeds, {}).ok());
  const auto events = session->profile();
  ASSERT_TRUE(events.ok());
  std::map<std::string, std::int64_t> calls;
  for (const ProfileEvent& event : events.value()) {
    calls[event.node + "/" + event.op_type] = event.calls;
    EXPECT_EQ(event.provider, "CPUExecutionProvider");
  }
  EXPECT_EQ(calls, (std::map<std::string, std::int64_t>{{"plus/Add", 3}, {"times/Mul", 3}}));
  EXPECT_FALSE(open(*parse(kAdd))->profile().ok());
}

TEST(Runtime, NamesTheOperatorsItExecutes) {
  const auto model = parse(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 2] x, bool c) => (float[N, 2] y)
    <float[2, 2] w = {1, 0, 0, 1}, float[2] b = {1, 1}> {
      h = MatMul (x, w)
      k = Add (h, b)
      y = If (c) <
        then_branch = one () => (float[N, 2] t) { t = Relu (k) },
        else_branch = two () => (float[N, 2] e) { e = Tanh (k) }>
    })");
  const auto count = [&](Optimisation level) {
    SessionOptions options;
    options.optimisation = level;
    auto operators = runtime().executed_operators(*model, options);
    EXPECT_TRUE(operators.ok());
    using Counts = std::vector<std::pair<std::string, std::int64_t>>;
    return operators.ok() ? std::move(operators).value() : Counts();
  };
  using Counts = std::vector<std::pair<std::string, std::int64_t>>;
  EXPECT_EQ(count(Optimisation::kNone),
            (Counts{{"Add", 1}, {"If", 1}, {"MatMul", 1}, {"Relu", 1}, {"Tanh", 1}}));
  EXPECT_EQ(count(Optimisation::kAll), (Counts{{"Gemm", 1}, {"If", 1}, {"Relu", 1}, {"Tanh", 1}}));
}

TEST(Runtime, LeavesNoTemporaryFiles) {
  auto outer = ScratchFolder::make();
  ASSERT_TRUE(outer.ok());
  const char* before = std::getenv("TMPDIR");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("TMPDIR", outer.value()->path().c_str(), 1);
  {
    SessionOptions options;
    options.optimisation = Optimisation::kNone;
    options.profile = true;
    const auto model = large_weights();
    const auto session = open(*model, options);
    EXPECT_TRUE(runtime().executed_operators(*model, {}).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(outer.value()->path()));
  before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", saved.c_str(), 1);
}

TEST(Runtime, OpensFiles) {
  const auto folder = ScratchFolder::make();
  ASSERT_TRUE(folder.ok());
  const auto path = folder.value()->path() / "model.onnx";
  std::ofstream(path, std::ios::binary) << save_model_bytes(*large_weights()).value();
  ASSERT_TRUE(runtime().open_file(path, {}).ok());
  SessionOptions options;
  options.extra_outputs = {"k"};
  const auto session = runtime().open_file(path, options);
  ASSERT_TRUE(session.ok());
  EXPECT_EQ(session.value()->outputs().size(), 2U);
  const Error missing = failure(runtime().open_file(path.string() + "x", {}));
  EXPECT_EQ(missing.code, Code::kInput);
  EXPECT_EQ(missing.diagnostic.where.file, path.string() + "x");
  std::ofstream(path, std::ios::binary) << "no model";
  EXPECT_EQ(failure(runtime().open_file(path, {})).code, Code::kInput);
}

TEST(RuntimeMessages, BlameTheNode) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"Non-zero status code returned while running If node. Name:'if' Status Message: Non-zero "
       "status code returned while running Add node. Name:'in ner' Status Message: x",
       "in ner"},
      {"Non-zero status code returned while running Add node. Name:'' Status Message: x", "Add"},
      {"Could not find an implementation for Conv(11) node with name 'c 1'", "c 1"},
      {"Could not find an implementation for Det(11) node with name ''", "Det"},
      {"This is an invalid model. In Node, (\"cat\", Concat, \"\", -1) : (\"x\"", "cat"},
      {"This is an invalid model. In Node, (\"\", Concat, \"\", -1) : (\"x\"", "Concat"},
      {"Node (add1) Op (Add) [ShapeInferenceError] Incompatible dimensions", "add1"},
      {"Node () Op (Add) [ShapeInferenceError] Incompatible dimensions", "Add"},
      {"Type Error: Type 'tensor(int32)' of input parameter (x) of operator (Conv) in node (c) is "
       "invalid.",
       "c"},
      {"Fatal error: com.acme:Foo(-1) is not a registered function/op", "com.acme:Foo"},
      {"Invalid model. Node input 'zz' is not a graph input", "zz"},
      {"Failed to load model because protobuf parsing failed.", ""},
  };
  for (const auto& [text, node] : cases) EXPECT_EQ(blamed_node(text), node) << text;
}

TEST(RuntimeMessages, LoseSourcePositions) {
  EXPECT_EQ(readable_message("/src/core/element_wise_ops.h:563 void onnxruntime::It::Init("
                             "ptrdiff_t, std::map<a, b(c)>) const axis == 1 was false. 3 by 4\n"),
            "axis == 1 was false. 3 by 4");
  EXPECT_EQ(readable_message("Bad w. Error: tensorprotoutils.cc:619 Validate File is missing"),
            "Bad w. Error: File is missing");
  EXPECT_EQ(readable_message("plain (with parentheses) text"), "plain (with parentheses) text");
  EXPECT_EQ(readable_message(" \n"), "the runtime gave no reason");
  EXPECT_EQ(readable_message("a.cc:1"), "the runtime gave no reason");
  EXPECT_LT(readable_message(std::string(5000, 'x')).size(), 700U);
}

TEST(RuntimeMessages, ChooseTheCode) {
  RuntimeFailure failure;
  failure.stage = RuntimeFailure::Stage::kOpen;
  failure.text = "Unsupported model IR version: 99, max supported IR version: 14";
  EXPECT_EQ(runtime_error(failure).code, Code::kUnsupported);
  failure.text = "Failed to allocate memory for requested buffer of size 99";
  EXPECT_EQ(runtime_error(failure).code, Code::kInternal);
  failure.text = "anything";
  EXPECT_EQ(runtime_error(failure).code, Code::kInput);
  failure.not_implemented = true;
  EXPECT_EQ(runtime_error(failure).code, Code::kUnsupported);
}

TEST(RuntimeProfile, AddsUpKernelTimes) {
  const auto events = parse_profile(R"([
    {"cat": "Session", "name": "session_initialization", "dur": 9, "args": {}},
    {"cat": "Node", "name": "a_kernel_time", "dur": 2, "args": {"op_name": "Add", "provider": "P"}},
    {"cat": "Node", "name": "a_fence_before", "dur": 50, "args": {"op_name": "Add"}},
    {"cat": "Node", "name": "b_kernel_time", "dur": 4, "args": {"op_name": "Mul"}},
    {"cat": "Node", "name": "a_kernel_time", "dur": 3, "args": {"op_name": "Add"}}])",
                                    "trace.json");
  ASSERT_TRUE(events.ok());
  ASSERT_EQ(events.value().size(), 2U);
  EXPECT_EQ(events.value()[0].node, "a");
  EXPECT_EQ(events.value()[0].microseconds, 5);
  EXPECT_EQ(events.value()[0].calls, 2);
  EXPECT_EQ(events.value()[1].op_type, "Mul");
  EXPECT_FALSE(parse_profile("{}", "trace.json").ok());
  EXPECT_FALSE(parse_profile("[", "trace.json").ok());
}

}  // namespace
}  // namespace mcompress
