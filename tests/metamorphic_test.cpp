// The same model spelt in another way (nodes that do nothing, pairs that undo each other, copies,
// other names, another order) comes out of `optimize` as the same graph.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <vector>

#include "mcompress/io.h"
#include "support/backend_data.h"
#include "support/models.h"
#include "support/mutate.h"
#include "support/optimise.h"
#include "support/pass_fixture.h"
#include "support/structure.h"

namespace mcompress::testing {
namespace {

namespace fs = std::filesystem;

// Convolutions, batch normalisation and a shortcut, as trained.
std::string residual() {
  const auto norm = [](const std::string& name) {
    return weights(name + "s", {8}, 0.5F, 1.5F) + ", " + weights(name + "b", {8}) + ", " +
           weights(name + "m", {8}) + ", " + weights(name + "v", {8}, 0.5F, 1.5F);
  };
  return "<ir_version: 8, opset_import: [\"\" : 17]> residual (float[1,3,12,12] x) => "
         "(float[1,10] y) <" +
         weights("stem", {8, 3, 3, 3}) + ", " + weights("c1", {8, 8, 3, 3}) + ", " +
         weights("c2", {8, 8, 1, 1}) + ", " + weights("head", {8, 10}) + ", " +
         weights("bias", {10}) + ", " + norm("n0") + ", " + norm("n1") + ", " + norm("n2") +
         "> { s = Conv<pads=[1,1,1,1]>(x, stem) s0 = BatchNormalization(s, n0s, n0b, n0m, n0v) "
         "s1 = Relu(s0) a = Conv<pads=[1,1,1,1]>(s1, c1) "
         "a0 = BatchNormalization(a, n1s, n1b, n1m, n1v) a1 = Relu(a0) b = Conv(a1, c2) "
         "b0 = BatchNormalization(b, n2s, n2b, n2m, n2v) j = Add(b0, s1) j1 = Relu(j) "
         "p = GlobalAveragePool(j1) f = Flatten(p) m = MatMul(f, head) y = Add(m, bias) }";
}

// Hard swish and squeeze-and-excite, spelt out as exporters do.
std::string mobile() {
  return "<ir_version: 8, opset_import: [\"\" : 13]> mobile (float[1,4,8,8] x) => "
         "(float[1,4,8,8] y) <" +
         weights("w", {4, 4, 1, 1}) + ", " + weights("d", {4, 1, 3, 3}) + ", " +
         weights("e", {4, 4, 1, 1}) + ", " + weights("eb", {4}) +
         ", float three = {3}, float zero = {0}, float six = {6}, float sixth = {0.16666667}> { "
         "a = Conv(x, w) a3 = Add(a, three) a6 = Clip(a3, zero, six) am = Mul(a, a6) "
         "h = Mul(am, sixth) g = Conv<group=4, pads=[1,1,1,1]>(h, d) p = GlobalAveragePool(g) "
         "q = Conv(p, e, eb) r = Sigmoid(q) t = Mul(g, r) y = Add(t, x) }";
}

// One attention block: layer normalisation and GELU in pieces, heads split by Reshape and
// Transpose.
std::string attention() {
  return "<ir_version: 8, opset_import: [\"\" : 17]> attention (float[2,4,16] x) => "
         "(float[2,4,16] y) <" +
         weights("gamma", {16}, 0.5F, 1.5F) + ", " + weights("beta", {16}) + ", " +
         weights("wq", {16, 16}) + ", " + weights("wk", {16, 16}) + ", " + weights("wv", {16, 16}) +
         ", " + weights("wo", {16, 16}) + ", " + weights("up", {16, 32}) + ", " +
         weights("down", {32, 16}) + ", " + weights("bu", {32}) +
         ", float two = {2}, float eps = {0.00001}, float scale = {0.5}, float one = {1}, "
         "float half = {0.5}, float root = {1.4142135}, int64[4] heads = {2,4,4,4}, "
         "int64[3] flat = {2,4,16}> { "
         "mean = ReduceMean<axes=[-1]>(x) c = Sub(x, mean) sq = Pow(c, two) "
         "var = ReduceMean<axes=[-1]>(sq) ve = Add(var, eps) sd = Sqrt(ve) n = Div(c, sd) "
         "ng = Mul(n, gamma) nb = Add(ng, beta) "
         "q = MatMul(nb, wq) q4 = Reshape(q, heads) qt = Transpose<perm=[0,2,1,3]>(q4) "
         "k = MatMul(nb, wk) k4 = Reshape(k, heads) kt = Transpose<perm=[0,2,3,1]>(k4) "
         "v = MatMul(nb, wv) v4 = Reshape(v, heads) vt = Transpose<perm=[0,2,1,3]>(v4) "
         "qk = MatMul(qt, kt) qs = Mul(qk, scale) w = Softmax<axis=-1>(qs) o = MatMul(w, vt) "
         "ot = Transpose<perm=[0,2,1,3]>(o) o3 = Reshape(ot, flat) p = MatMul(o3, wo) "
         "r = Add(p, x) u = MatMul(r, up) ub = Add(u, bu) g0 = Div(ub, root) g1 = Erf(g0) "
         "g2 = Add(g1, one) g3 = Mul(ub, g2) g4 = Mul(g3, half) z = MatMul(g4, down) "
         "y = Add(z, r) }";
}

// Layout changes, pieces and shape arithmetic.
std::string views() {
  return "<ir_version: 8, opset_import: [\"\" : 13]> views (float[2,3,4,5] x) => "
         "(float[2,60] y, float[2,4,5,3] z) <int64[1] zero = {0}, int64[1] two = {2}, "
         "int64[1] three = {3}, int64[1] axis = {1}, int64 first = {0}, int64[1] rest = {-1}> { "
         "a = Transpose<perm=[0,2,3,1]>(x) b = Relu(a) z = Neg(b) "
         "s = Shape(x) n = Gather(s, first) n1 = Unsqueeze(n, zero) t = Concat<axis=0>(n1, rest) "
         "l = Slice(x, zero, two, axis) r = Slice(x, two, three, axis) e = Exp(l) "
         "j = Concat<axis=1>(e, r) y = Reshape(j, t) }";
}

std::string branches() {
  return "<ir_version: 8, opset_import: [\"\" : 17]> branches (bool c, float[2,8] x) => "
         "(float[2,8] y) <" +
         weights("outer", {8, 8}) + ", " + weights("b", {8}) +
         "> { h = MatMul(x, outer) "
         "k = Add(h, b) i = If (c) < then_branch = t () => (float[2,8] o) { m = MatMul(k, outer) "
         "n = Identity(m) o = Relu(n) }, else_branch = e () => (float[2,8] p) { p = Neg(k) } > "
         "y = Add(i, x) }";
}

struct Tally {
  int models = 0, mutants = 0, mutations = 0, different = 0;
};

std::unique_ptr<Model> load_bytes(const std::string& bytes) {
  Diagnostics diagnostics;
  auto model = load_model_bytes(bytes, {}, diagnostics);
  return model.ok() ? std::move(*model) : nullptr;
}

void keep(const std::string& name, const std::string& bytes) {
  const char* folder = std::getenv("MCOMPRESS_KEEP_MUTANTS");
  if (folder != nullptr) write_file(fs::path(folder) / (name + ".onnx"), bytes);
}

void expect_same_graph(const std::string& name, const std::string& bytes, std::uint64_t seeds,
                       int mutations, Tally& tally) {
  const auto model = load_bytes(bytes);
  if (model == nullptr || !check_model(*model).ok()) return;
  ASSERT_TRUE(optimise(*model, GuardMode::kOff).status.ok()) << name;
  const Structure expected = structure_of(*model);
  ++tally.models;
  const auto again = model->clone();
  ASSERT_TRUE(optimise(*again, GuardMode::kOff).status.ok()) << name;
  const Structure repeated = structure_of(*again);
  EXPECT_EQ(repeated.fingerprint, expected.fingerprint)
      << name << " optimised once more: " << difference_in_operators(expected, repeated);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const Mutant mutant = mutate(bytes, seed, mutations);
    if (mutant.mutations.empty()) continue;
    std::string what = name + ", seed " + std::to_string(seed) + ":";
    for (const std::string& mutation : mutant.mutations) what += "\n  " + mutation;
    const auto other = load_bytes(mutant.bytes);
    ASSERT_NE(other, nullptr) << what;
    const Status sound = check_model(*other);
    ASSERT_TRUE(sound.ok()) << what << to_string(sound.error().diagnostic);
    ++tally.mutants;
    tally.mutations += static_cast<int>(mutant.mutations.size());
    const Optimised run = optimise(*other, GuardMode::kOff);
    ASSERT_TRUE(run.status.ok()) << what << to_string(run.status.error().diagnostic);
    const Structure found = structure_of(*other);
    if (found.fingerprint == expected.fingerprint) continue;
    ++tally.different;
    keep(name + "-" + std::to_string(seed), mutant.bytes);
    ADD_FAILURE() << what << "\n=> " << difference_in_operators(expected, found);
  }
}

void report(const char* what, const Tally& tally) {
  std::cout << what << ": " << tally.models << " models, " << tally.mutants << " mutants with "
            << tally.mutations << " mutations, " << tally.different
            << " that end in another graph\n";
}

TEST(Metamorphic, ExporterStyleGraphs) {
  Tally tally;
  const std::pair<const char*, std::string> graphs[] = {{"residual", residual()},
                                                        {"mobile", mobile()},
                                                        {"attention", attention()},
                                                        {"views", views()},
                                                        {"branches", branches()}};
  for (const auto& [name, text] : graphs) {
    expect_same_graph(name, bytes_from_text(text), 60, 4, tally);
  }
  report("exporter-style", tally);
  EXPECT_EQ(tally.models, 5);
  EXPECT_EQ(tally.mutants, 300);
}

TEST(Metamorphic, OneMutationAtATime) {
  Tally tally;
  expect_same_graph("residual", bytes_from_text(residual()), 150, 1, tally);
  expect_same_graph("attention", bytes_from_text(attention()), 150, 1, tally);
  report("one at a time", tally);
  EXPECT_EQ(tally.mutants, 300);
}

TEST(Metamorphic, Digits) {
  Tally tally;
  const std::string path = std::string(MCOMPRESS_SOURCE_DIR) + "/models/digits/model.onnx";
  expect_same_graph("digits", read_file(path), 10, 8, tally);
  report("digits", tally);
  EXPECT_EQ(tally.mutants, 10);
}

TEST(Metamorphic, Fixtures) {
  Tally tally;
  for (const Fixture& fixture : fixtures()) {
    if (fixture.standard) expect_same_graph(fixture.name, fixture.bytes, 10, 3, tally);
  }
  report("fixtures", tally);
  EXPECT_GT(tally.mutants, 100);
}

TEST(Metamorphic, BackendModels) {
  Tally tally;
  for (const fs::path& path : find_backend_models()) {
    const std::string folder = path.parent_path().parent_path().filename().string();
    if (folder != "pytorch-converted" && folder != "pytorch-operator" && folder != "simple")
      continue;
    expect_same_graph(path.parent_path().filename().string(), read_file(path), 4, 3, tally);
  }
  if (tally.models == 0) GTEST_SKIP() << "cmake/bootstrap.sh makes ONNX's test data";
  report("backend models", tally);
  EXPECT_GT(tally.mutants, 300);
}

}  // namespace
}  // namespace mcompress::testing
