// prune-weights: where it fires and where not, what is stored, and what the model computes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "mcompress/mcompress.h"
#include "support/mask_file.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view signature, std::string_view initializers,
                  std::string_view body) {
  return "<ir_version: 8, opset_import: [\"\": 17]>\nmain " + std::string(signature) + " <" +
         std::string(initializers) + "> {" + std::string(body) + "}";
}

std::vector<float> floats_of(const Model& model, std::string_view name) {
  const Value* value = model.graph().find(name);
  EXPECT_NE(value, nullptr) << name;
  if (value == nullptr || value->constant() == nullptr) return {};
  auto floats = read_floats(*value->constant());
  return floats.ok() ? *floats : std::vector<float>();
}

double zeros_of(const std::vector<float>& numbers) {
  return static_cast<double>(std::count(numbers.begin(), numbers.end(), 0.0F)) /
         static_cast<double>(numbers.size());
}

// Two products, of which the second makes the output.
const std::string kNet = graph("(float[N,64] x) => (float[N,8] y)",
                               weights("w", {64, 48}) + ", " + weights("v", {48, 8}),
                               "h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v)");

TEST(PruneWeights, TakesHalfOfWhatIsNoEnd) {
  const auto model = model_from_text(kNet);
  const auto run = run_passes(*model, {R"(prune-weights:{"storage": "dense"})"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->applied("prune-weights"), 1);
  EXPECT_DOUBLE_EQ(zeros_of(floats_of(*model, "w")), 0.5);
  EXPECT_EQ(zeros_of(floats_of(*model, "v")), 0);
  EXPECT_NE(run->why("v").find("makes the outputs of the model"), std::string::npos);
  EXPECT_EQ(run->count("prune-weights", "zeros"), 64 * 48 / 2);
}

// What is left is what was there, and the smaller half is gone.
TEST(PruneWeights, MagnitudesDecideWithoutData) {
  const auto before = model_from_text(kNet);
  const auto model = model_from_text(kNet);
  ASSERT_TRUE(
      run_passes(*model, {R"(prune-weights:{"storage": "dense", "sparsity": 0.25})"})->status.ok());
  const auto old = floats_of(*before, "w"), now = floats_of(*model, "w");
  float largest_gone = 0, least_kept = 10;
  for (std::size_t i = 0; i < old.size(); ++i) {
    if (now[i] == 0) {
      largest_gone = std::max(largest_gone, std::fabs(old[i]));
    } else {
      EXPECT_EQ(now[i], old[i]);
      least_kept = std::min(least_kept, std::fabs(old[i]));
    }
  }
  EXPECT_LE(largest_gone, least_kept);
}

// Bit masks and gaps bring back the very weights, in a graph of which the runtime leaves nothing
// but the product.
TEST(PruneWeights, StoredFormsComputeTheSame) {
  for (const char* sparsity : {"0.5", "0.9", "0.99"}) {
    const auto dense = model_from_text(kNet);
    const std::string options = R"("ends": true, "sparsity": )" + std::string(sparsity) + "}";
    ASSERT_TRUE(
        run_passes(*dense, {R"(prune-weights:{"storage": "dense", )" + options})->status.ok());
    for (const char* form : {"bitmask", "gaps"}) {
      const auto stored = model_from_text(kNet);
      const auto run = run_passes(
          *stored, {R"(prune-weights:{"storage": ")" + std::string(form) + "\", " + options});
      ASSERT_TRUE(run->status.ok()) << to_string(run->status.error().diagnostic);
      EXPECT_EQ(count_nodes(*stored, "CumSum"), 2);
      EXPECT_EQ(run->count("prune-weights", "unfolded_operators"), 0);
      EXPECT_EQ(run->count("prune-weights", std::string("stored_") + form), 2);
      expect_same_results(*dense, *stored, 0);
    }
  }
}

TEST(PruneWeights, TheSmallestFormIsTaken) {
  struct Case {
    const char* sparsity;
    const char* form;
  };
  for (const auto& [sparsity, form] :
       {Case{"0.02", "stored_dense"}, Case{"0.5", "stored_bitmask"}, Case{"0.97", "stored_gaps"}}) {
    const auto model = model_from_text(kNet);
    const auto run =
        run_passes(*model, {R"(prune-weights:{"sparsity": )" + std::string(sparsity) + "}"});
    EXPECT_EQ(run->count("prune-weights", form), 1) << sparsity;
  }
}

TEST(PruneWeights, GroupsAndBlocksLieAlongTheInputs) {
  // A convolution: groups of input channels at one tap of the kernel.
  const std::string net = graph("(float[N,8,6,6] x) => (float[N,4,2,2] y)",
                                weights("w", {16, 8, 3, 3}) + ", " + weights("v", {4, 16, 3, 3}),
                                "h = Conv(x, w)  y = Conv(h, v)");
  const auto model = model_from_text(net);
  ASSERT_TRUE(
      run_passes(*model, {R"(prune-weights:{"pattern": "2:4", "storage": "dense"})"})->status.ok());
  const auto w = floats_of(*model, "w");
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t tap = 0; tap < 9; ++tap) {
      for (std::size_t group = 0; group < 2; ++group) {
        int zeros = 0;
        for (std::size_t c = 0; c < 4; ++c) {
          zeros += w[(row * 8 + group * 4 + c) * 9 + tap] == 0 ? 1 : 0;
        }
        EXPECT_EQ(zeros, 2);
      }
    }
  }
  const auto blocks = model_from_text(kNet);
  ASSERT_TRUE(run_passes(*blocks, {R"(prune-weights:{"pattern": "block:4x2", "storage": "dense"})"})
                  ->status.ok());
  const auto b = floats_of(*blocks, "w");  // [64 inputs, 48 outputs]
  EXPECT_NEAR(zeros_of(b), 0.5, 0.01);
  for (std::size_t k = 0; k < 64; k += 2) {
    for (std::size_t n = 0; n < 48; n += 4) {
      int zeros = 0;
      for (std::size_t i = 0; i < 8; ++i) zeros += b[(k + i / 4) * 48 + n + i % 4] == 0 ? 1 : 0;
      EXPECT_TRUE(zeros == 0 || zeros == 8);
    }
  }
}

TEST(PruneWeights, SaysWhyWeightsStay) {
  const auto model = model_from_text(
      graph("(float[N,3,8,8] x, int64[M] i) => (float[N,4,1,1] y, float[M,300] e)",
            weights("first", {16, 3, 3, 3}) + ", " + weights("depth", {16, 1, 3, 3}) + ", " +
                weights("last", {4, 16, 4, 4}) + ", " + weights("table", {9, 300}),
            "a = Conv(x, first)  b = Conv <group = 16> (a, depth)  y = Conv(b, last)"
            "  e = Gather(table, i)"));
  const auto run = run_passes(*model, {R"(prune-weights:{"min-elements": 100})"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->applied("prune-weights"), 0);
  EXPECT_NE(run->why("first").find("first convolution"), std::string::npos);
  EXPECT_NE(run->why("depth").find("9 weights per output"), std::string::npos);
  EXPECT_NE(run->why("last").find("makes the outputs"), std::string::npos);
  EXPECT_NE(run->why("table").find("embedding table"), std::string::npos);
}

TEST(PruneWeights, LeavesNumbersThatHaveNoRank) {
  auto model = model_from_text(kNet);
  std::vector<float> numbers = floats_of(*model, "w");
  numbers[5] = std::nanf("");
  Editor edit(*model, &onnx_catalog());
  edit.set_constant(*model->graph().find("w"), make_float_tensor(numbers, {64, 48}));
  const auto run = run_passes(*model, {"prune-weights"});
  EXPECT_FALSE(run->changed);
  EXPECT_NE(run->why("w").find("NaN or infinity"), std::string::npos);
}

TEST(PruneWeights, RefusesWhatItCanNotDo) {
  const auto code = [](const std::string& options) {
    const auto model = model_from_text(kNet);
    const auto run = run_passes(*model, {"prune-weights:" + options});
    return run->status.ok() ? std::string("done") : run->status.error().diagnostic.id;
  };
  EXPECT_EQ(code(R"({"pattern": "4:2"})"), "unknown-pattern");
  EXPECT_EQ(code(R"({"method": "sparsegpt"})"), "no-calibration-data");
  EXPECT_EQ(code(R"({"repair": "least-squares"})"), "no-calibration-data");
  EXPECT_EQ(code(R"({"max-drop": 1})"), "no-calibration-data");
  EXPECT_EQ(code(R"({"pattern": "2:4", "sparsity": 0.5})"), "sparsity-twice");
  EXPECT_EQ(code(R"({"storage": "sparse-initializer"})"), "storage-unsupported");
  EXPECT_EQ(code(R"({"mask": ["nowhere.npz"]})"), "file-missing");
  const auto model = model_from_text(kNet);
  const auto run = run_passes_for("generic-qdq", *model, {R"(prune-weights:{"storage": "gaps"})"});
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().code, Code::kUnsupported);
}

TEST(PruneWeights, MasksGoToAnotherCheckpointAndIntersect) {
  const TempFolder folder;
  const std::string first = folder / "a.npz", second = folder / "b.npz";
  const auto model = model_from_text(kNet);
  ASSERT_TRUE(
      run_passes(*model, {R"(prune-weights:{"storage": "dense", "save-mask": ")" + first + "\"}"})
          ->status.ok());
  std::vector<std::uint8_t> kept(64 * 48, 1);
  for (std::size_t i = 0; i < kept.size(); i += 3) kept[i] = 0;
  ASSERT_TRUE(write_masks(second, {{"w", {64, 48}, kept}}).ok());
  // Other numbers under the same names.
  auto other = model_from_text(kNet);
  Editor edit(*other, &onnx_catalog());
  std::vector<float> numbers(64 * 48);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = 1 + static_cast<float>(i);
  edit.set_constant(*other->graph().find("w"), make_float_tensor(numbers, {64, 48}));
  ASSERT_TRUE(run_passes(*other, {R"(prune-weights:{"storage": "dense", "mask": [")" + first +
                                  "\", \"" + second + "\"]}"})
                  ->status.ok());
  const auto old = floats_of(*model, "w"), now = floats_of(*other, "w");
  for (std::size_t i = 0; i < now.size(); ++i) {
    EXPECT_EQ(now[i], old[i] != 0 && kept[i] != 0 ? numbers[i] : 0.0F);
  }
  // Another shape, and a name that the model does not have.
  for (const NamedMask& wrong : {NamedMask{"w", {48, 64}, kept}, NamedMask{"u", {64, 48}, kept}}) {
    ASSERT_TRUE(write_masks(second, {wrong}).ok());
    const auto again = model_from_text(kNet);
    const auto run = run_passes(*again, {R"(prune-weights:{"mask": [")" + second + "\"]}"});
    ASSERT_FALSE(run->status.ok());
    EXPECT_EQ(run->status.error().diagnostic.id, "mask-file");
    EXPECT_EQ(run->status.error().code, Code::kInput);
  }
}

class PruneDigits : public ::testing::Test {
 protected:
  static std::filesystem::path folder() {
    return std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "models/digits";
  }
  void SetUp() override {
    auto runtime = find_runtime("onnxruntime");
    ASSERT_TRUE(runtime.ok());
    runtime_ = *runtime;
    original_ = load();
    auto session = runtime_->open(*original_, {});
    ASSERT_TRUE(session.ok());
    reference_ = std::move(session).value();
    Diagnostics diagnostics;
    DataOptions options;
    options.limit = 60;
    auto data = open_data(folder() / "calib.npz", reference_->inputs(), options, diagnostics);
    ASSERT_TRUE(data.ok());
    data_ = std::move(data).value();
  }
  static std::unique_ptr<Model> load() {
    Diagnostics diagnostics;
    auto loaded = load_model(folder() / "model.onnx", {}, diagnostics);
    EXPECT_TRUE(loaded.ok());
    return std::move(loaded).value();
  }

  struct Pruned {
    std::unique_ptr<Model> model;
    Report report;
    Explain explain;
  };
  void prune(Datum options, int threads, Pruned& made) {
    made.model = load();
    options.set("pass", Datum::string("prune-weights"));
    Datum passes = Datum::list();
    for (const char* pass :
         {"lift-constants", "infer-shapes", "fuse-batchnorm", "eliminate-dead"}) {
      passes.push(Datum::string(pass));
    }
    passes.push(std::move(options));
    Datum recipe = Datum::map();
    recipe.set("passes", std::move(passes));
    Diagnostics diagnostics;
    auto parsed = parse_recipe(recipe, builtin_passes(), diagnostics);
    ASSERT_TRUE(parsed.ok()) << to_string(parsed.error().diagnostic);
    Services services;
    services.runtime = runtime_;
    services.calibration_data = data_.get();
    services.diagnostics = &diagnostics;
    services.threads = threads;
    const Status status = run_pipeline(*made.model, *parsed, builtin_passes(), services, {},
                                       made.explain, made.report);
    ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  }

  double sqnr_db(const Model& candidate) {
    auto session = runtime_->open(candidate, {});
    EXPECT_TRUE(session.ok());
    double signal = 0, noise = 0;
    const std::vector<std::string> fetch = {"logits"};
    for (std::int64_t i = 0; i < data_->count(); ++i) {
      auto feeds = data_->sample(i);
      auto expected = read_floats(reference_->run(*feeds, fetch)->front());
      auto actual = read_floats((*session)->run(*feeds, fetch)->front());
      for (std::size_t k = 0; k < expected->size(); ++k) {
        signal += std::pow(double{(*expected)[k]}, 2);
        noise += std::pow(double{(*expected)[k]} - double{(*actual)[k]}, 2);
      }
    }
    return 10 * std::log10(signal / noise);
  }

  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Model> original_;
  std::unique_ptr<Session> reference_;
  std::unique_ptr<DataSource> data_;
};

Datum at(double sparsity, std::string_view method, std::string_view repair) {
  Datum options = Datum::map();
  options.set("sparsity", Datum::real(sparsity));
  options.set("method", Datum::string(method));
  options.set("repair", Datum::string(repair));
  options.set("scope", Datum::string("layer"));
  return options;
}

TEST_F(PruneDigits, SparseGptIsBestAndRepairHelps) {
  std::vector<double> db;
  for (const auto& [method, repair] :
       {std::pair("magnitude", "none"), std::pair("wanda", "none"), std::pair("sparsegpt", "none"),
        std::pair("sparsegpt", "least-squares")}) {
    Pruned made;
    prune(at(0.7, method, repair), 1, made);
    db.push_back(sqnr_db(*made.model));
  }
  EXPECT_GT(db[2], db[0] + 3);
  EXPECT_GT(db[2], db[1] + 3);
  EXPECT_GT(db[3], db[2]);
}

TEST_F(PruneDigits, TheSameBytesWithAnyThreads) {
  std::vector<std::uint64_t> prints;
  for (const int threads : {1, 4}) {
    Pruned made;
    Datum options = at(0.6, "auto", "auto");
    options.set("scope", Datum::string("auto"));
    prune(options, threads, made);
    prints.push_back(fingerprint(*made.model));
  }
  EXPECT_EQ(prints[0], prints[1]);
}

TEST_F(PruneDigits, StepsEndWhereOneStepEnds) {
  Pruned made;
  Datum options = at(0.8, "sparsegpt", "auto");
  options.set("steps", Datum::integer(2));
  prune(options, 1, made);
  const Datum facts = made.report.root().facts();
  const Datum* passes = facts.find("passes");
  ASSERT_NE(passes, nullptr);
  const Datum& last = passes->as_list()->back();
  ASSERT_NE(last.find("curve"), nullptr);
  ASSERT_EQ(last.find("curve")->as_list()->size(), 2U);
  EXPECT_NEAR(std::get<double>(last.find("sparsity")->value()), 0.8, 0.01);
}

}  // namespace
}  // namespace mcompress::testing
