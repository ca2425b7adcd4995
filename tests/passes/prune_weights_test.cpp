// prune-weights: where it fires and where not, what is stored, and what the model computes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "mcompress/masks.h"
#include "mcompress/mcompress.h"
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
  EXPECT_EQ(code(R"({"output-sqnr": 20})"), "no-calibration-data");
  EXPECT_EQ(code(R"({"pattern": "2:4", "sparsity": 0.5})"), "sparsity-twice");
  EXPECT_EQ(code(R"({"storage": "sparse-initializer"})"), "storage-unsupported");
  EXPECT_EQ(code(R"({"method": "ria"})"), "no-calibration-data");
  EXPECT_EQ(code(R"({"weights": "int8", "storage": "gaps"})"), "storage-of-integers");
  EXPECT_EQ(code(R"({"weights": "int4", "block-size": 20})"), "block-size");
  EXPECT_EQ(code(R"({"mask": ["nowhere.npz"]})"), "data-unreadable");
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

// Codes of the first constant that a Cast or MatMulNBits reads under this name.
std::vector<int> codes_of(const Model& model, std::string_view name) {
  const Value* value = model.graph().find(std::string(name) + "_quantized");
  EXPECT_NE(value, nullptr) << name;
  std::vector<int> codes;
  if (value == nullptr || value->constant() == nullptr) return codes;
  const auto numbers = read_ints(*value->constant());
  EXPECT_TRUE(numbers.ok());
  for (const std::int64_t number : *numbers) codes.push_back(static_cast<int>(number));
  return codes;
}

TEST(PruneWeights, IntegersInTheFormsOfTheQuantizingPasses) {
  // 8 bits: int8 and a scale for each output, as quantize-weights writes them. Half of the codes of
  // what is pruned are 0, what makes the outputs is rounded and nothing else.
  const auto bytes = model_from_text(kNet);
  const auto run = run_passes(*bytes, {R"(prune-weights:{"weights": "int8"})"});
  ASSERT_TRUE(run->status.ok()) << to_string(run->status.error().diagnostic);
  EXPECT_EQ(run->applied("prune-weights"), 2);
  EXPECT_EQ(run->count("prune-weights", "zeros"), 64 * 48 / 2);
  EXPECT_EQ(run->count("prune-weights", "stored_int8"), 2);
  EXPECT_EQ(count_nodes(*bytes, "Cast"), 2);
  EXPECT_EQ(count_nodes(*bytes, "Mul"), 2);
  const std::vector<int> codes = codes_of(*bytes, "w");
  ASSERT_EQ(codes.size(), 64U * 48U);
  EXPECT_GE(std::count(codes.begin(), codes.end(), 0), 64 * 48 / 2);
  const std::vector<int> last = codes_of(*bytes, "v");
  EXPECT_LT(std::count(last.begin(), last.end(), 0), 48 * 8 / 10);
  const auto floats = model_from_text(kNet);
  ASSERT_TRUE(run_passes(*floats, {R"(prune-weights:{"storage": "dense"})"})->status.ok());
  expect_same_results(*floats, *bytes, 0.1);

  const auto words = model_from_text(kNet);
  const auto small = run_passes(*words, {R"(prune-weights:{"weights": "uint4"})"});
  ASSERT_TRUE(small->status.ok()) << to_string(small->status.error().diagnostic);
  EXPECT_EQ(small->count("prune-weights", "stored_uint4"), 2);
  EXPECT_LT(small->count("prune-weights", "bytes_stored"), (64 * 48 + 48 * 8) * 3 / 4);
  // What would get no smaller in 4 bits stays what it is, with the reason of an end.
  const auto little = model_from_text(graph("(float[N,64] x) => (float[N,3] y)",
                                            weights("w", {64, 48}) + ", " + weights("v", {48, 3}),
                                            "h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v)"));
  const auto end =
      run_passes(*little, {R"(prune-weights:{"weights": "uint4", "min-elements": 100})"});
  ASSERT_TRUE(end->status.ok());
  EXPECT_EQ(end->count("prune-weights", "stored_uint4"), 1);
  EXPECT_NE(end->why("v").find("makes the outputs"), std::string::npos);
}

// A convolution: codes lie as the weight does, its pruning by taps.
TEST(PruneWeights, GroupsOfIntegersLieAlongTheInputs) {
  const std::string net = graph("(float[N,8,6,6] x) => (float[N,32,2,2] y)",
                                weights("w", {32, 8, 3, 3}) + ", " + weights("v", {32, 32, 3, 3}),
                                "h = Conv(x, w)  y = Conv(h, v)");
  for (const char* type : {"int8", "int4"}) {
    const auto model = model_from_text(net);
    const auto run = run_passes(*model, {R"(prune-weights:{"pattern": "2:4", "ends": true, )"
                                         R"("weights": ")" +
                                         std::string(type) + "\"}"});
    ASSERT_TRUE(run->status.ok()) << to_string(run->status.error().diagnostic);
    const auto stored = model_from_text(net);
    ASSERT_TRUE(run_passes(*stored, {R"(prune-weights:{"pattern": "2:4", "ends": true, )"
                                     R"("storage": "dense"})"})
                    ->status.ok());
    if (type == std::string("int8")) expect_same_results(*stored, *model, 0.3);
    std::vector<int> codes = codes_of(*model, "w");
    const std::vector<float> pruned = floats_of(*stored, "w"),
                             scales = floats_of(*model, "w_scale");
    const std::size_t blocks = scales.size() / 32;
    if (codes.size() < 32 * 72) {
      std::vector<int> halves;  // two in a byte, 8 stands for 0
      for (const int byte : codes) {
        halves.push_back((byte & 15) - 8);
        halves.push_back((byte >> 4) - 8);
      }
      // Blocks of 32 fill rows of 72 up to 96.
      codes.clear();
      for (std::size_t row = 0; row < 32; ++row) {
        codes.insert(codes.end(), halves.begin() + static_cast<std::ptrdiff_t>(row * 96),
                     halves.begin() + static_cast<std::ptrdiff_t>(row * 96 + 72));
      }
    }
    ASSERT_EQ(codes.size(), 32U * 72U) << type;
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const std::size_t block = i / 72 * blocks + (blocks > 1 ? i % 72 / 32 : 0);
      signal += std::pow(double{pruned[i]}, 2);
      noise += std::pow(double{pruned[i]} - codes[i] * double{scales[block]}, 2);
    }
    EXPECT_LT(noise, (type == std::string("int8") ? 1e-3 : 0.02) * signal);
    for (std::size_t row = 0; row < 32; ++row) {
      for (std::size_t tap = 0; tap < 9; ++tap) {
        for (std::size_t group = 0; group < 2; ++group) {
          int zeros = 0;
          for (std::size_t c = 0; c < 4; ++c) {
            zeros += codes[(row * 8 + group * 4 + c) * 9 + tap] == 0 ? 1 : 0;
          }
          EXPECT_GE(zeros, 2);
        }
      }
    }
  }
}

TEST(PruneWeights, TellsScoreDensityAndWhatIsFrozen) {
  const auto model = model_from_text(kNet);
  const auto run = run_passes(*model, {R"(prune-weights:{"storage": "dense", "scope": "row"})"});
  const Datum facts = run->report.root().facts();
  const Datum& pass = facts.find("passes")->as_list()->back();
  const Datum* tensors = pass.find("tensors");
  const Datum* frozen = pass.find("frozen");
  ASSERT_NE(tensors, nullptr);
  ASSERT_NE(frozen, nullptr);
  const Datum& w = tensors->as_list()->front();
  EXPECT_EQ(*w.find("name")->as_string(), "w");
  EXPECT_EQ(*w.find("score")->as_string(), "|w|");
  EXPECT_EQ(*w.find("ranked_in")->as_string(), "output");
  EXPECT_EQ(*w.find("pattern")->as_string(), "unstructured");
  EXPECT_DOUBLE_EQ(std::get<double>(w.find("density")->value()), 0.5);
  const Datum& v = frozen->as_list()->front();
  EXPECT_EQ(*v.find("name")->as_string(), "v");
  EXPECT_NE(v.find("why")->as_string()->find("makes the outputs"), std::string::npos);
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
  for (const double sparsity : {0.6, 0.7, 0.8}) {
    std::vector<double> db;
    for (const auto& [method, repair] : {std::pair("wanda", "none"), std::pair("sparsegpt", "none"),
                                         std::pair("sparsegpt", "least-squares")}) {
      Pruned made;
      prune(at(sparsity, method, repair), 1, made);
      db.push_back(sqnr_db(*made.model));
    }
    EXPECT_GT(db[1], db[0] + 1) << sparsity;
    EXPECT_GT(db[2], db[1]) << sparsity;
  }
}

// By scores alone it is not: they see no output as a whole.
TEST_F(PruneDigits, WandaIsBetterThanMagnitude) {
  for (const double sparsity : {0.6, 0.7, 0.8}) {
    std::vector<double> db;
    for (const char* method : {"magnitude", "wanda"}) {
      Pruned made;
      prune(at(sparsity, method, "none"), 1, made);
      db.push_back(sqnr_db(*made.model));
    }
    EXPECT_GT(db[1], db[0] + 1) << sparsity;
  }
}

TEST_F(PruneDigits, OneSweepIsBetterThanRoundingWhatWasPruned) {
  Pruned joint, pruned;
  Datum options = at(0.5, "sparsegpt", "auto");
  prune(options, 1, pruned);
  Diagnostics diagnostics;
  const auto rounded =
      run_passes(*pruned.model, {R"(quantize-blocks:{"min-elements": 256, "block-form": "fold"})"});
  ASSERT_TRUE(rounded->status.ok());
  options.set("weights", Datum::string("uint4"));
  prune(options, 1, joint);
  EXPECT_GT(sqnr_db(*joint.model), sqnr_db(*pruned.model) + 1);
}

TEST_F(PruneDigits, TheSameBytesWithAnyThreads) {
  std::vector<std::uint64_t> prints;
  for (const int threads : {1, 4}) {
    Pruned made;
    Datum options = at(0.6, "auto", "auto");
    options.set("weights", Datum::string("int4"));
    options.set("scope", Datum::string("auto"));
    prune(options, threads, made);
    prints.push_back(fingerprint(*made.model));
  }
  EXPECT_EQ(prints[0], prints[1]);
}

TEST_F(PruneDigits, TakesAsMuchAsKeepsTheOutputs) {
  std::vector<double> shares;
  for (const double wanted : {8.0, 24.0, 100.0}) {
    for (const char* scope : {"auto", "layer"}) {  // with a prediction, and by halves
      Pruned made;
      Datum options = at(0.6, "wanda", "bias");
      options.set("scope", Datum::string(scope));
      options.set("output-sqnr", Datum::real(wanted));
      options.set("storage", Datum::string("dense"));
      prune(options, 1, made);
      const Datum facts = made.report.root().facts();
      const Datum& last = facts.find("passes")->as_list()->back();
      const Datum::List& tried = *last.find("curve")->as_list();
      EXPECT_LE(tried.size(), 5U);
      if (wanted == 100.0) {  // nothing is that close
        EXPECT_EQ(last.find("sparsity"), nullptr);
        continue;
      }
      const double share = std::get<double>(last.find("sparsity")->value());
      EXPECT_LE(share, 0.605);
      // Trials are judged on a fifth of the samples; of the others, which the repair is fitted to,
      // more is left.
      EXPECT_GT(sqnr_db(*made.model), wanted - 1) << scope;
      if (share < 0.55) {
        EXPECT_LT(sqnr_db(*made.model), wanted + 6) << scope;
      }
      if (wanted == 8.0) {
        EXPECT_NEAR(share, 0.6, 0.01) << scope;
      }
      shares.push_back(share);
    }
  }
  EXPECT_GT(shares[0], shares[2]);
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
