// Fidelity over every model of ONNX's own backend test data: what is loaded and saved is what was
// there, and runs the same.
#include <gtest/gtest.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "ir/builder.h"
#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "mcompress/runtime.h"
#include "onnx/proto.h"
#include "onnx/schema_registry.h"
#include "support/models.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> find_models() {
  std::vector<fs::path> models;
  const fs::path root = MCOMPRESS_ONNX_TESTDATA;
  if (root.empty() || !fs::exists(root)) return models;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().extension() == ".onnx") models.push_back(entry.path());
  }
  std::sort(models.begin(), models.end());
  return models;
}

const std::vector<fs::path>& models() {
  static const std::vector<fs::path> all = find_models();
  return all;
}

std::unique_ptr<Model> load(const fs::path& path) {
  Diagnostics diagnostics;
  auto model = load_model(path, {}, diagnostics);
  if (model.ok()) return std::move(model).value();
  ADD_FAILURE() << to_string(model.error().diagnostic);
  return nullptr;
}

bool checker_accepts(const onnx::ModelProto& proto) {
  try {
    const SchemaLease schemas(proto);
    onnx::checker::check_model(proto);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

class RoundTrip : public ::testing::Test {
 protected:
  void SetUp() override {
    if (models().empty()) GTEST_SKIP() << "cmake/bootstrap.sh makes ONNX's test data";
  }
};

TEST_F(RoundTrip, EqualsWhatProtobufWouldWriteAndIsAFixedPoint) {
  EXPECT_GT(models().size(), 1400U);
  for (const fs::path& path : models()) {
    const auto model = load(path);
    if (model == nullptr) continue;
    const Status sound = verify(*model);
    EXPECT_TRUE(sound.ok()) << path << to_string(sound.error().diagnostic);
    onnx::ModelProto proto;
    ASSERT_TRUE(proto.ParseFromString(testing::read_file(path)));
    const auto saved = save_model_bytes(*model);
    ASSERT_TRUE(saved.ok()) << path;
    EXPECT_TRUE(*saved == serialise(proto).value()) << path;
    const auto again = testing::model_from_bytes(*saved);
    EXPECT_TRUE(save_model_bytes(*again).value() == *saved) << path;
    EXPECT_EQ(fingerprint(*again), fingerprint(*model)) << path;
    EXPECT_EQ(check_model(*model).ok(), checker_accepts(proto)) << path;
  }
}

TEST_F(RoundTrip, PartsThatAreMadeAnewEqualTheOldOnes) {
  for (const fs::path& path : models()) {
    const auto model = load(path);
    if (model == nullptr) continue;
    const std::string before = save_model_bytes(*model).value();
    const auto copy = model->clone();
    EXPECT_EQ(dump(*copy), dump(*model)) << path;
    Editor editor(*copy);
    const auto touch = [&](const auto& self, Graph& graph) -> void {
      for (Node* node : graph.nodes()) {
        editor.set_op_type(*node, node->domain(), std::string(node->op_type()));
        for (Graph* body : node->bodies()) self(self, *body);
      }
    };
    touch(touch, copy->graph());
    EXPECT_TRUE(verify(*copy).ok()) << path;
    EXPECT_TRUE(save_model_bytes(*copy).value() == before) << path;
    EXPECT_TRUE(save_model_bytes(*model).value() == before) << path;
  }
}

TEST_F(RoundTrip, ShapeInferenceChangesNothingThatIsSaved) {
  for (const fs::path& path : models()) {
    const auto model = load(path);
    if (model == nullptr) continue;
    const std::string before = save_model_bytes(*model).value();
    const std::uint64_t content = fingerprint(*model);
    Editor editor(*model);
    Diagnostics diagnostics;
    EXPECT_TRUE(infer_shapes(*model, editor, diagnostics).ok()) << path;
    EXPECT_TRUE(save_model_bytes(*model).value() == before) << path;
    EXPECT_EQ(fingerprint(*model), content) << path;
    EXPECT_EQ(model->revision(), 0U) << path;
  }
}

TEST_F(RoundTrip, ACopyIsByteForByte) {
  const testing::TempFolder folder;
  for (std::size_t i = 0; i < models().size(); i += 50) {
    const auto model = load(models()[i]);
    ASSERT_NE(model, nullptr);
    ASSERT_TRUE(copy_model(*model, folder / "copy.onnx", silent_progress()).ok());
    EXPECT_TRUE(testing::read_file(folder / "copy.onnx") == testing::read_file(models()[i]));
  }
}

// ------------------------------------------------------------------------------------ running

// The inputs ONNX gives with a model; empty when they are not all tensors.
std::vector<NamedTensor> feeds_of(const Model& model, const fs::path& path) {
  std::vector<NamedTensor> feeds;
  int index = 0;
  for (const Value* input : model.graph().inputs()) {
    if (input->is_initializer()) continue;
    if (input->type() == nullptr) return {};
    const fs::path file =
        path.parent_path() / "test_data_set_0" / ("input_" + std::to_string(index++) + ".pb");
    auto tensor = load_tensor_file(file);
    if (!tensor.ok()) return {};
    feeds.push_back({std::string(input->name()), std::move(tensor->tensor)});
  }
  return feeds;
}

struct Outcome {
  std::string error;
  std::vector<Tensor> results;
};

Outcome run(Result<std::unique_ptr<Session>> session, const std::vector<NamedTensor>& feeds) {
  if (!session.ok()) return {session.error().diagnostic.id, {}};
  std::vector<std::string> fetch;
  for (const PortInfo& port : (*session)->outputs()) fetch.push_back(port.name);
  auto results = (*session)->run(feeds, fetch);
  if (!results.ok()) return {results.error().diagnostic.id, {}};
  return {{}, std::move(results).value()};
}

bool same(const Outcome& left, const Outcome& right) {
  if (left.error != right.error || left.results.size() != right.results.size()) return false;
  for (std::size_t i = 0; i < left.results.size(); ++i) {
    const Tensor& a = left.results[i];
    const Tensor& b = right.results[i];
    if (a.is_opaque() != b.is_opaque()) return false;
    if (!a.is_opaque() && !same_content(a, b).value()) return false;
  }
  return true;
}

TEST_F(RoundTrip, RunsTheSame) {
  const auto runtime = find_runtime("onnxruntime");
  ASSERT_TRUE(runtime.ok());
  const testing::TempFolder folder;
  int ran = 0;
  for (const fs::path& path : models()) {
    const auto model = load(path);
    if (model == nullptr) continue;
    const std::vector<NamedTensor> feeds = feeds_of(*model, path);
    if (feeds.empty()) continue;
    const SessionOptions options;
    const Outcome original = run((*runtime)->open_file(path, options), feeds);
    // From memory, with the large tensors handed over, every node written anew.
    Editor editor(*model);
    for (Node* node : model->graph().nodes()) {
      editor.set_op_type(*node, node->domain(), std::string(node->op_type()));
    }
    const Outcome ours = run((*runtime)->open(*model, options), feeds);
    if (original.error.empty()) ++ran;
    if (same(original, ours)) continue;
    // Random operators differ from run to run.
    const Outcome twice = run((*runtime)->open_file(path, options), feeds);
    if (original.error.empty() && ours.error.empty() && !same(original, twice)) continue;
    ADD_FAILURE() << path << ": '" << original.error << "' and '" << ours.error << "'";
  }
  EXPECT_GT(ran, 1000);
}

}  // namespace
}  // namespace mcompress
