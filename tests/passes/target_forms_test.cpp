// What the quantizing passes write for every built-in target, node by node against its file; and
// that the written model still computes what it should.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "ir/facts.h"
#include "ir/walk.h"
#include "mcompress/mcompress.h"
#include "passes/common/target_rules.h"
#include "support/arrays.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kHead = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

std::string text_of(std::string_view signature, std::string_view initializers,
                    std::string_view body) {
  return std::string(kHead) + std::string(signature) + " <" + std::string(initializers) + "> { " +
         std::string(body) + " }";
}

std::string w(std::string_view name, std::vector<std::int64_t> dims) {
  return weights(name, std::move(dims), -0.3F, 0.3F);
}

// Each holds something that a target lacks.
std::map<std::string, std::string> models() {
  std::map<std::string, std::string> all;
  all["residual"] = text_of(
      "(float[N,8,12,12] x) => (float[N,10] y)",
      w("w1", {16, 8, 3, 3}) + ", " + w("b1", {16}) + ", " + w("w2", {16, 16, 3, 3}) + ", " +
          w("w3", {16, 8, 1, 1}) + ", " + w("wg", {10, 16}) + ", " + w("bg", {10}),
      "c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1) c2 = Conv<pads=[1,1,1,1]>(r1, w2) "
      "s = Conv(x, w3) a = Add(c2, s) r2 = Relu(a) m = MaxPool<kernel_shape=[2,2]>(r2) "
      "p = GlobalAveragePool(m) f = Flatten(p) y = Gemm<transB=1>(f, wg, bg)");
  all["one_dimensional"] = text_of(
      "(float[N,8,24] x) => (float[N,12,20] y)", w("w1", {16, 8, 3}) + ", " + w("w2", {12, 16, 3}),
      "c = Conv(x, w1) r = Relu(c) t = LeakyRelu<alpha=0.1>(r) y = Conv(t, w2)");
  all["upsampling"] =
      text_of("(float[N,8,6,6] x) => (float[N,8,24,24] y)",
              w("w1", {16, 8, 1, 1}) + ", " + w("w2", {16, 16, 1, 1}) + ", " +
                  w("wt", {32, 8, 2, 2}) + ", float[4] s = {1, 1, 2, 2}",
              "c = Conv(x, w1) u = Resize<mode=\"linear\">(c, , s) d = Conv(u, w2) "
              "v = Resize<mode=\"nearest\">(c, , s) e = Conv(v, w2) k = Concat<axis=1>(d, e) "
              "y = ConvTranspose<strides=[2,2]>(k, wt)");
  all["grouped"] = text_of(
      "(float[N,16,10,10] x) => (float[N,6,6,16] y)",
      w("wd", {16, 1, 3, 3}) + ", " + w("wg", {16, 4, 1, 1}) + ", " + w("wp", {16, 16, 1, 1}) +
          ", float lo = {0}, float hi = {6}, int64[2] f = {1, 1}, int64[2] t = {7, 7}, int64[2] ax "
          "= {2, 3}",
      "d = Conv<group=16, pads=[1,1,1,1]>(x, wd) a = Clip(d, lo, hi) g = Conv<group=4>(a, wg) "
      "p = Conv(g, wp) q = AveragePool<kernel_shape=[2,2], strides=[1,1]>(p) "
      "s = Slice(q, f, t, ax) y = Transpose<perm=[0,2,3,1]>(s)");
  all["products"] = text_of(
      "(float[N,6,64] x) => (float[N,6,32] y)",
      w("q", {64, 32}) + ", " + w("k", {64, 32}) + ", " + w("o", {32, 64}) + ", " + w("b", {64}) +
          ", " + w("p", {64, 32}) + ", float h = {0.2}",
      "mq = MatMul(x, q) mk = MatMul(x, k) t = Transpose<perm=[0,2,1]>(mk) s = MatMul(mq, t) "
      "u = Mul(s, h) z = Softmax(u) v = MatMul(z, mk) mo = MatMul(v, o) e = Add(mo, b) "
      "g = Add(e, x) r = Tanh(g) y = MatMul(r, p)");
  all["recurrent"] = text_of("(int64[N,12] i) => (float[12,1,N,48] y)",
                             w("table", {700, 400}) + ", " + w("w", {2, 256, 400}) + ", " +
                                 w("r", {2, 256, 64}) + ", " + w("wg", {1, 144, 128}) + ", " +
                                 w("rg", {1, 144, 48}) + ", int64[3] z = {0, 0, 128}",
                             "e = Gather(table, i) t = Transpose<perm=[1,0,2]>(e) "
                             "l = LSTM<hidden_size=64, direction=\"bidirectional\">(t, w, r) "
                             "m = Transpose<perm=[0,2,1,3]>(l) "
                             "n = Reshape(m, z) y = GRU<hidden_size=48>(n, wg, rg)");
  return all;
}

// Numbers for every input of the top graph: floats around zero, indices below 700.
void write_data(const Model& model, const std::filesystem::path& path) {
  std::mt19937 random(7);
  Entries arrays;
  for (const Value* input : model.graph().inputs()) {
    constexpr std::int64_t kSamples = 8;
    std::vector<std::int64_t> dims;
    std::int64_t count = 1;
    for (const Dim& dim : *input->type()->shape) {
      dims.push_back(dim.size.value_or(kSamples));
      count *= dims.back();
    }
    if (element_type(*input) == DataType::kInt64) {
      std::vector<std::int64_t> values(static_cast<std::size_t>(count));
      for (std::int64_t& value : values) value = static_cast<std::int64_t>(random() % 700);
      arrays.emplace_back(std::string(input->name()), npy("<i8", dims, values));
    } else {
      std::vector<float> values(static_cast<std::size_t>(count));
      for (float& value : values) {
        value = static_cast<float>(random() % 2001) / 500.0F - 2.0F;
      }
      arrays.emplace_back(std::string(input->name()), npy_floats(dims, values));
    }
  }
  write_npz(path, arrays);
}

struct Written {
  std::unique_ptr<Model> before, after;
  std::unique_ptr<DataSource> data;
  std::shared_ptr<Runtime> runtime;
  Explain explain;
  Status status = ok_status();
};

Written write_for(const Target& target, const std::string& text,
                  const std::vector<std::string>& passes, const TempFolder& folder) {
  Written result;
  result.before = model_from_text(text);
  result.after = result.before->clone();
  result.runtime = find_runtime("onnxruntime").value();
  write_data(*result.before, folder / "data.npz");
  Diagnostics diagnostics;
  const auto session = result.runtime->open(*result.before, {});
  EXPECT_TRUE(session.ok()) << to_string(session.error().diagnostic);
  auto data = open_data(folder / "data.npz", (*session)->inputs(), {}, diagnostics);
  EXPECT_TRUE(data.ok());
  result.data = std::move(data).value();
  std::string recipe = "{\"passes\": [";
  for (const std::string& pass : passes) recipe += (recipe.back() == '[' ? "" : ", ") + pass;
  const auto parsed =
      parse_recipe(*datum_from_json(recipe + "]}", "recipe"), builtin_passes(), diagnostics);
  EXPECT_TRUE(parsed.ok()) << recipe;
  Services services;
  services.runtime = result.runtime;
  services.calibration_data = result.data.get();
  services.target = &target;
  services.diagnostics = &diagnostics;
  Report report;
  result.status =
      run_pipeline(*result.after, *parsed, builtin_passes(), services, {}, result.explain, report);
  return result;
}

double sqnr_db(const Written& written) {
  const auto before = written.runtime->open(*written.before, {});
  const auto after = written.runtime->open(*written.after, {});
  EXPECT_TRUE(after.ok()) << to_string(after.error().diagnostic);
  if (!before.ok() || !after.ok()) return 0;
  const auto feeds = written.data->sample(0);
  EXPECT_TRUE(feeds.ok());
  double signal = 0, noise = 0;
  const auto expected = read_floats((*before)->run(*feeds, {})->front());
  const auto actual = read_floats((*after)->run(*feeds, {})->front());
  for (std::size_t i = 0; i < expected->size(); ++i) {
    signal += std::pow((*expected)[i], 2);
    noise += std::pow(double{(*expected)[i]} - (*actual)[i], 2);
  }
  return noise > 0 ? 10 * std::log10(signal / noise) : 200;
}

// Walks a written model; each finding is a test failure that names target and node.
class FormCheck {
 public:
  // `before` has its shapes inferred.
  FormCheck(const Target& target, const std::string& model, const Model& before)
      : target_(target), model_(model) {
    for (const Node* node = before.graph().first(); node != nullptr;
         node = before.graph().next(*node)) {
      before_[node->label()] = node;
    }
  }

  void look(Model& written) {
    for_each_node(written.graph(), [this](Node& node) {
      place_ = target_.name + ", " + model_ + ", " + node.label();
      if (node.is("QuantizeLinear")) check_activation(node);
      if (node.is("DequantizeLinear")) check_dequantized(node);
      if (node.is("Cast")) check_cast(node);
      const bool dynamic = node.is("MatMulInteger") || node.is("DynamicQuantizeLinear") ||
                           node.op_type() == "DynamicQuantizeLSTM";
      if (dynamic) check_dynamic(node);
      EXPECT_TRUE(node.domain().empty() || dynamic) << place_;
      if (has_integer_weight(node) || moves_codes(node)) check_integer(node);
    });
  }
  std::int64_t integer_nodes() const { return integer_nodes_; }
  std::int64_t stored_weights() const { return stored_weights_; }

 private:
  static const Node* activation(const Value* input) {
    const Node* from = input != nullptr ? made_by(input, "DequantizeLinear") : nullptr;
    return from != nullptr && from->input(0)->initializer() == nullptr ? from : nullptr;
  }

  // A weight in integers beside an activation.
  static bool has_integer_weight(const Node& node) {
    return node.inputs().size() > 1 && activation(node.input(0)) != nullptr &&
           node.input(1) != nullptr && made_by(node.input(1), "DequantizeLinear") != nullptr &&
           activation(node.input(1)) == nullptr;
  }

  // One scale in front of it and behind. A float node may stand between two islands by itself, so
  // that other kinds of nodes can not be told from those.
  bool moves_codes(const Node& node) const {
    const OperatorRule* rule = target_.find(node.op_type());
    const Node* from = node.inputs().empty() ? nullptr : activation(node.input(0));
    if (rule == nullptr || rule->kind != OperatorRule::Kind::kSameScale || from == nullptr) {
      return false;
    }
    const auto uses = node.output(0)->uses();
    const auto quantize = std::ranges::find_if(
        uses, [](const Use& use) { return use.node != nullptr && use.node->is("QuantizeLinear"); });
    return quantize != uses.end() && read_floats(*quantize->node->input(1)->constant()).value() ==
                                         read_floats(*from->input(1)->constant()).value();
  }

  void check_activation(const Node& node) {
    const Tensor* zero = node.input(2) != nullptr ? node.input(2)->constant() : nullptr;
    ASSERT_NE(zero, nullptr) << place_;
    EXPECT_TRUE(zero->dims().empty()) << place_;
    EXPECT_TRUE(node.input(1)->constant()->dims().empty()) << place_;
    EXPECT_EQ(zero->dtype(), target_.signed_activations ? DataType::kInt8 : DataType::kUint8)
        << place_;
    if (target_.symmetric_activations) {
      EXPECT_EQ(read_floats(*zero)->front(), 0) << place_;
    }
  }

  void check_dequantized(const Node& node) {
    const Tensor* codes = node.input(0)->initializer();
    if (codes == nullptr) return;
    ASSERT_FALSE(node.output(0)->uses().empty()) << place_;
    const Node& reader = *node.output(0)->uses().front().node;
    if (codes->dtype() == DataType::kInt32) {
      EXPECT_FALSE(target_.float_biases) << place_;
      return;
    }
    const bool in_integers =
        std::any_of(reader.inputs().begin(), reader.inputs().end(), [](const Value* input) {
          const Node* from = made_by(input, "DequantizeLinear");
          return from != nullptr && from->input(0)->initializer() == nullptr;
        });
    const bool scalar = node.input(1)->constant()->dims().empty();
    const std::vector<float> zeros = read_floats(*node.input(2)->constant()).value();
    if (in_integers) {
      const OperatorRule* rule = target_.find(reader.op_type());
      ASSERT_NE(rule, nullptr) << place_;
      EXPECT_TRUE(target_.takes_weights(codes->dtype())) << place_;
      EXPECT_EQ(scalar, !rule->per_channel.value_or(target_.per_channel)) << place_;
      EXPECT_TRUE(std::ranges::all_of(zeros, [](float zero) { return zero == 0; })) << place_;
      if (!scalar) {
        const std::int64_t axis = node.int_attribute("axis", 1);
        const bool last = reader.is("MatMul") ||
                          (reader.is("Gemm") && reader.int_attribute("transB", 0) == 0) ||
                          reader.is("ConvTranspose");
        EXPECT_EQ(axis, last ? 1 : 0) << place_;
        EXPECT_EQ(node.input(1)->constant()->dims()[0],
                  codes->dims()[static_cast<std::size_t>(axis)])
            << place_;
      }
    } else {
      ++stored_weights_;
      EXPECT_EQ(target_.weight_only.form, WeightOnlyRule::Form::kDequantize) << place_;
      EXPECT_TRUE(target_.weight_only.takes(codes->dtype())) << place_;
    }
  }

  // Integers that arithmetic restores: folded, or looked up, or (where DequantizeLinear has no axis
  // for the scales) the standard's only other way.
  void check_cast(const Node& node) {
    const Value* from = node.input(0);
    const Node* rows = made_by(from, "Gather");
    if (rows != nullptr && rows->input(0)->initializer() != nullptr) {
      ++stored_weights_;
      EXPECT_EQ(target_.weight_only.embeddings, WeightOnlyRule::Form::kLookup) << place_;
      return;
    }
    const Tensor* codes = from->initializer();
    if (codes == nullptr || element_type(*from) == DataType::kInt64) return;
    ++stored_weights_;
    EXPECT_TRUE(target_.weight_only.takes(codes->dtype())) << place_;
    const bool two_axes = codes->dims().size() == 3 && codes->dims()[0] == 2;
    EXPECT_TRUE(target_.weight_only.form == WeightOnlyRule::Form::kFold || two_axes) << place_;
  }

  void check_dynamic(const Node& node) {
    const bool lstm = node.op_type() == "DynamicQuantizeLSTM";
    const DynamicRule* rule = target_.find_dynamic(lstm ? "LSTM" : "MatMul");
    ASSERT_NE(rule, nullptr) << place_;
    EXPECT_EQ(rule->form, lstm ? "com.microsoft:DynamicQuantizeLSTM" : "MatMulInteger") << place_;
  }

  void check_integer(const Node& node) {
    ++integer_nodes_;
    const OperatorRule* rule = target_.find(node.op_type());
    ASSERT_NE(rule, nullptr) << place_ << " is not in the target";
    EXPECT_TRUE(rule->quantizes()) << place_ << " is " << kind_name(rule->kind);
    EXPECT_LE(rule->since, node.graph().model().opset("")) << place_;
    // Q/DQ have no shapes: the rules are asked of the node as it was.
    std::string label = node.label();  // of a node that made an output
    if (const auto at = label.find("_replaced"); at != std::string::npos) label.erase(at, 9);
    const auto known = before_.find(label);
    ASSERT_NE(known, before_.end()) << place_;
    EXPECT_EQ(why_excepted(target_, rule->cases, *known->second), "") << place_;
    for (const TargetCase& one : rule->cases) {
      if (one.ranks_other_than.empty() || one.verdict != TargetCase::Verdict::kMissing) continue;
      const auto rank = rank_of(*known->second->input(0));
      EXPECT_TRUE(rank &&
                  std::ranges::count(one.ranks_other_than, static_cast<std::int64_t>(*rank)) > 0)
          << place_ << " has a rank that the target lacks";
    }
  }

  const Target& target_;
  std::string model_, place_;
  std::map<std::string, const Node*> before_;
  std::int64_t integer_nodes_ = 0, stored_weights_ = 0;
};

const std::vector<std::string> kStatic = {"\"lift-constants\"", "\"infer-shapes\"",
                                          R"({"pass": "quantize-static", "guard-sqnr": 0})",
                                          "\"quantize-weights\""};
const std::vector<std::string> kWeights = {"\"lift-constants\"", "\"infer-shapes\"",
                                           "\"quantize-weights\""};
const std::vector<std::string> kDynamic = {"\"lift-constants\"", "\"infer-shapes\"",
                                           R"({"pass": "quantize-dynamic", "min-elements": 64})",
                                           "\"quantize-weights\""};

TEST(TargetForms, NothingIsWrittenThatTheTargetLacks) {
  std::map<std::string, std::int64_t> integer, stored;
  for (const Target* target : all_targets()) {
    Target everything = *target;
    everything.cost_model = false;  // not only what pays
    for (const auto& [name, text] : models()) {
      for (const auto* passes : {&kStatic, &kWeights, &kDynamic}) {
        const TempFolder folder;
        Written written = write_for(everything, text, *passes, folder);
        ASSERT_TRUE(written.status.ok())
            << target->name << ' ' << name << ": " << to_string(written.status.error().diagnostic);
        Editor edit(*written.before);
        Diagnostics ignored;
        ASSERT_TRUE(infer_shapes(*written.before, edit, ignored).ok());
        FormCheck check(*target, name, *written.before);
        check.look(*written.after);
        integer[target->name] += check.integer_nodes();
        stored[target->name] += check.stored_weights();
        const Status sound = check_model(*written.after);
        EXPECT_TRUE(sound.ok()) << target->name << ' ' << name;
        EXPECT_GT(sqnr_db(written), 14) << target->name << ' ' << name << ' ' << (*passes)[2];
      }
    }
  }
  for (const Target* target : all_targets()) {
    if (target->takes_weights(DataType::kInt8)) {
      EXPECT_GT(integer[target->name], 8) << target->name;
      EXPECT_GT(stored[target->name], 8) << target->name;
    } else {
      EXPECT_EQ(integer[target->name] + stored[target->name], 0) << target->name;
    }
  }
}

TEST(TargetForms, WhatStaysNamesTheRule) {
  const TempFolder folder;
  const auto why = [&](std::string_view target, const std::string& model,
                       const std::vector<std::string>& passes, std::string_view subject) {
    const Written written = write_for(*find_target(target), models()[model], passes, folder);
    for (const Decision& decision : written.explain.all()) {
      if (!decision.applied && decision.subject.find(subject) != std::string::npos) {
        return decision.why;
      }
    }
    return std::string();
  };
  EXPECT_NE(why("onnxruntime-cpu", "upsampling", kStatic, "'y'")
                .find("rule ConvTranspose of onnxruntime-cpu"),
            std::string::npos);
  EXPECT_NE(why("onnxruntime-mobile", "one_dimensional", kStatic, "'c'")
                .find("missing: rule Conv/two-dimensional of onnxruntime-mobile"),
            std::string::npos);
  EXPECT_NE(why("npu-int4", "residual", kStatic, "'c2'").find("npu-int4 does not take"),
            std::string::npos);
  EXPECT_NE(why("npu-int4", "residual", kWeights, "w1").find("rule weight-only of npu-int4"),
            std::string::npos);
  EXPECT_NE(why("tensorrt", "products", kDynamic, "q").find("rule dynamic MatMul of tensorrt"),
            std::string::npos);
  EXPECT_NE(why("onnxruntime-cpu", "recurrent", kDynamic, "wg").find("rule dynamic GRU"),
            std::string::npos);
}

// The residual sum of TensorRT: one operand is quantized, the one that skips the convolution.
TEST(TargetForms, OnlyTheSkippingBranchOfASumIsQuantized) {
  const TempFolder folder;
  Written written = write_for(*find_target("tensorrt"), models()["residual"], kStatic, folder);
  const Node* sum = nullptr;
  for_each_node(written.after->graph(), [&](Node& node) {
    if (node.is("Add")) sum = &node;
  });
  ASSERT_NE(sum, nullptr);
  const bool left = made_by(sum->input(0), "DequantizeLinear") != nullptr;
  const bool right = made_by(sum->input(1), "DequantizeLinear") != nullptr;
  EXPECT_NE(left, right);
  // The later convolution makes the other operand: it is fused.
  EXPECT_NE(made_by(sum->input(left ? 1 : 0), "Conv"), nullptr);
}

// What is planned for ONNX Runtime becomes an integer kernel there: no exception.
TEST(TargetForms, EveryPlannedNodeBecomesAnIntegerKernelOfOnnxRuntime) {
  for (const auto& [name, text] : models()) {
    for (const std::string_view target : {"onnxruntime-cpu", "onnxruntime-cpu-vnni"}) {
      Target everything = *find_target(target);
      everything.cost_model = false;  // not only what pays
      const TempFolder folder;
      const Written written = write_for(everything, text, kStatic, folder);
      const auto kernels = count_integer_kernels(*written.runtime, *written.after, everything);
      ASSERT_TRUE(kernels.ok()) << to_string(kernels.error().diagnostic);
      EXPECT_EQ(kernels->integer, kernels->planned) << name;
      for (const FloatIsland& island : kernels->stayed_float) {
        ADD_FAILURE() << name << ": " << island.node << " runs as " << island.kernel << ": "
                      << island.why;
      }
      EXPECT_EQ(kernels->planned > 0, name != "recurrent") << name;
    }
  }
}

// The runtime rounds what is left in float32 between integers by itself, unless the form says no.
TEST(TargetForms, ExcludedLayersRunInFloat32) {
  const std::string text = text_of(
      "(float[N,16,12,12] x) => (float[N,16,6,6] y)",
      w("w1", {32, 16, 3, 3}) + ", " + w("w2", {32, 32, 3, 3}) + ", " + w("w3", {16, 32, 3, 3}),
      "c1 = Conv(x, w1) r1 = Relu(c1) c2 = Conv(r1, w2) r2 = Relu(c2) y = Conv(r2, w3)");
  Target target = default_target();
  target.cost_model = false;  // not only what pays
  const TempFolder folder;
  const std::vector<std::string> passes = {"\"lift-constants\"", "\"infer-shapes\"",
                                           R"({"pass": "quantize-static", "exclude": ["w2"]})"};
  const Written written = write_for(target, text, passes, folder);
  ASSERT_TRUE(written.status.ok()) << to_string(written.status.error().diagnostic);
  const auto executed = written.runtime->executed_operators(*written.after, {});
  ASSERT_TRUE(executed.ok());
  std::map<std::string, std::int64_t> count(executed->begin(), executed->end());
  EXPECT_EQ(count["QLinearConv"] + count["com.microsoft:QLinearConv"], 2);
  EXPECT_EQ(count["Conv"] + count["com.microsoft.nchwc:Conv"], 1);
  const auto kernels = count_integer_kernels(*written.runtime, *written.after, target);
  ASSERT_TRUE(kernels.ok());
  EXPECT_EQ(kernels->planned, 2);
  EXPECT_EQ(kernels->integer, 2);
}

TEST(ExecutedKernels, AFormThatIsNotFusedIsNamed) {
  const auto written = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[4,16] x) => (float[4,16] y) "
      "<float s = {0.02}, uint8 z = {128}> { q = QuantizeLinear(x, s, z) "
      "d = DequantizeLinear(q, s, z) t = Tanh(d) u = QuantizeLinear(t, s, z) "
      "v = DequantizeLinear(u, s, z) a = Add(v, d) b = QuantizeLinear(a, s, z) "
      "y = DequantizeLinear(b, s, z) }");
  const auto runtime = find_runtime("onnxruntime").value();
  const auto none = count_integer_kernels(*runtime, *written, default_target());
  ASSERT_TRUE(none.ok()) << to_string(none.error().diagnostic);
  EXPECT_EQ(none->planned, 1) << "Tanh is not expected to run in integers";
  EXPECT_EQ(none->integer, 1);
  Target hopeful = default_target();
  std::erase_if(hopeful.rules, [](const OperatorRule& rule) { return rule.op_type == "Tanh"; });
  OperatorRule tanh;
  tanh.op_type = "Tanh";
  tanh.kind = OperatorRule::Kind::kUnary;
  hopeful.rules.push_back(tanh);
  const auto kernels = count_integer_kernels(*runtime, *written, hopeful);
  ASSERT_TRUE(kernels.ok()) << to_string(kernels.error().diagnostic);
  EXPECT_EQ(kernels->planned, 2);
  EXPECT_EQ(kernels->integer, 1);
  ASSERT_EQ(kernels->stayed_float.size(), 1u);
  EXPECT_EQ(kernels->stayed_float[0].op_type, "Tanh");
  EXPECT_EQ(kernels->stayed_float[0].kernel, "Tanh");
  EXPECT_EQ(kernels->stayed_float[0].why,
            "its Q/DQ pairs were not fused: 1 of its 1 inputs are dequantized on every run");
  ASSERT_EQ(kernels->kernels.size(), 1u);
  EXPECT_EQ(kernels->kernels[0].first, "com.microsoft:QLinearAdd");
}

}  // namespace
}  // namespace mcompress::testing
