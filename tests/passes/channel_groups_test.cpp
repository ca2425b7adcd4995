// Coupling groups: which channels go together, which stay and why. Every group found in random
// networks is cut, and the rest has to run and to compute the same where what was cut was not read.
#include "passes/common/channels/channel_groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <sstream>

#include "support/channel_cuts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::unique_ptr<Model> inferred(std::string_view text) {
  auto model = model_from_text(text);
  run_passes(*model, {"lift-constants", "infer-shapes"});
  return model;
}

std::string graph_text(const std::string& in_out, const std::vector<std::string>& constants,
                       const std::string& body) {
  std::string list;
  for (const std::string& constant : constants) list += (list.empty() ? "" : ", ") + constant;
  return "<ir_version: 8, opset_import: [\"\" : 17]> g " + in_out + " <" + list + "> { " + body +
         " }";
}

const ChannelGroup* group_named(const std::vector<ChannelGroup>& groups, std::string_view part) {
  for (const ChannelGroup& group : groups) {
    if (group.name.find(part) != std::string::npos) return &group;
  }
  return nullptr;
}

TEST(ChannelGroups, ResidualAddCouples) {
  const auto model = inferred(graph_text(
      "(float[N,3,8,8] x) => (float[N,4,6,6] y)",
      {weights("wa", {16, 3, 1, 1}), weights("wb", {8, 16, 1, 1}), weights("wc", {16, 8, 1, 1}),
       weights("wd", {4, 16, 3, 3})},
      "a = Conv(x, wa) b = Conv(a, wb) r = Relu(b) c = Conv(r, wc) s = Add(a, c) y = Conv(s, wd)"));
  const auto groups = channel_groups(*model);
  ASSERT_EQ(groups.size(), 3);
  EXPECT_EQ(groups[0].units, 16);
  EXPECT_EQ(groups[0].free_units, 16);
  EXPECT_EQ(groups[0].frozen, "");
  // wa and wc make them, wb and wd read them.
  EXPECT_EQ(groups[0].members.size(), 4);
  EXPECT_EQ(groups[1].units, 8);
  EXPECT_EQ(groups[1].members.size(), 2);
  EXPECT_EQ(groups[2].free_units, 0);
  EXPECT_EQ(groups[2].frozen, "'y' is a graph output");
}

TEST(ChannelGroups, HeadsGoAsAWhole) {
  const auto model = inferred(graph_text(
      "(float[N,5,16] x) => (float[N,5,16] y)",
      {weights("q", {16, 32}), weights("k", {16, 32}), weights("v", {16, 32}),
       weights("o", {32, 16}), "int64[4] heads = {0, 5, 4, 8}", "int64[3] flat = {0, 5, 32}"},
      "a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v) "
      "a1 = Reshape(a, heads) b1 = Reshape(b, heads) c1 = Reshape(c, heads) "
      "a2 = Transpose<perm=[0,2,1,3]>(a1) b2 = Transpose<perm=[0,2,3,1]>(b1) "
      "c2 = Transpose<perm=[0,2,1,3]>(c1) s = MatMul(a2, b2) p = Softmax<axis=-1>(s) "
      "d = MatMul(p, c2) d1 = Transpose<perm=[0,2,1,3]>(d) d2 = Reshape(d1, flat) "
      "y = MatMul(d2, o)"));
  const auto groups = channel_groups(*model);
  const ChannelGroup* heads = group_named(groups, "'a'");
  ASSERT_NE(heads, nullptr);
  EXPECT_EQ(heads->kind, ChannelKind::kHeads);
  EXPECT_EQ(heads->units, 4);
  EXPECT_EQ(heads->unit_width, 8);
  EXPECT_EQ(heads->free_units, 4);
  EXPECT_EQ(cut_and_compare(
                *model, [](std::uint32_t unit) { return unit == 1; }, "heads"),
            1);
  EXPECT_EQ(model->graph().find("o")->initializer()->dims()[0], 24);
  EXPECT_EQ(model->graph().find("q")->initializer()->dims()[1], 24);
}

TEST(ChannelGroups, HiddenUnitsAreFfn) {
  const auto model = inferred(graph_text(
      "(float[N,5,16] x) => (float[N,5,16] y)",
      {weights("up", {16, 32}), weights("gate", {16, 32}), weights("b", {32}),
       weights("down", {32, 16})},
      "u = MatMul(x, up) u1 = Add(u, b) g = MatMul(x, gate) s = Sigmoid(g) h = Mul(u1, s) "
      "y = MatMul(h, down)"));
  const auto groups = channel_groups(*model);
  ASSERT_GE(groups.size(), 1);
  EXPECT_EQ(groups[0].kind, ChannelKind::kFfn);
  EXPECT_EQ(groups[0].free_units, 32);
  EXPECT_EQ(groups[0].members.size(), 4);
}

// One line per rule that keeps channels, with what it says.
TEST(ChannelGroups, ReasonsToStay) {
  const auto why = [](const std::string& body, std::vector<std::string> more = {},
                      const std::string& output = "float[N,A,B,C] y") {
    std::vector<std::string> constants{weights("w", {16, 3, 1, 1}), weights("z", {4, 16, 1, 1})};
    constants.insert(constants.end(), more.begin(), more.end());
    const auto model = inferred(
        graph_text("(float[N,3,8,8] x) => (" + output + ")", constants, "a = Conv(x, w) " + body));
    return channel_groups(*model).front().frozen;
  };
  EXPECT_EQ(why("y = Conv(a, z)"), "");
  EXPECT_EQ(why("y = Relu(a)"), "'y' is a graph output");
  EXPECT_EQ(why("s = Softmax<axis=1>(a) y = Conv(s, z)"),
            "Softmax node that makes 's' takes means or sums over them");
  EXPECT_EQ(why("s = ReduceMean<axes=[1]>(a) y = Mul(s, s)"),
            "ReduceMean node that makes 's' takes means or sums over them");
  EXPECT_EQ(why("y = Shape(a)", {}, "int64[4] y"),
            "Shape node that makes 'y' computes with their number");
  EXPECT_EQ(why("s = Pad(a, p) y = Relu(s)", {"int64[8] p = {0,1,0,0,0,0,0,0}"}),
            "Pad node that makes 's' adds channels, or may do so");
  EXPECT_EQ(why("s = Slice(a, b, e, d, t) y = Relu(s)",
                {"int64[1] b = {0}", "int64[1] e = {16}", "int64[1] d = {1}", "int64[1] t = {2}"}),
            "Slice node that makes 's' takes a part of them that is computed, or in steps");
  EXPECT_EQ(why("y = Conv(a, z) v = Mul(w, w)"),
            "Mul node that makes 'v' reads a constant whose channels it does not know");
}

TEST(ChannelGroups, ShapeOfOtherAxesIsHarmless) {
  const auto model = inferred(
      graph_text("(float[N,3,8,8] x) => (float[N,4,8,8] y, int64 n)",
                 {weights("w", {16, 3, 1, 1}), weights("z", {4, 16, 1, 1}), "int64 zero = {0}"},
                 "a = Conv(x, w) s = Shape(a) n = Gather(s, zero) y = Conv(a, z)"));
  EXPECT_EQ(channel_groups(*model).front().free_units, 16);
}

// Nested captures stay.
TEST(ChannelGroups, NestedGraphsKeepWhatTheyRead) {
  const auto model = inferred(graph_text(
      "(float[N,3,8,8] x, bool c) => (float[N,A,B,C] y)", {weights("w", {16, 3, 1, 1})},
      "a = Conv(x, w) y = If(c)<then_branch = t () => (float[N,D,E,F] p) { p = Relu(a) }, "
      "else_branch = e () => (float[N,D,E,F] q) { q = Neg(a) }>"));
  EXPECT_EQ(channel_groups(*model).front().frozen, "'a' is read in a nested graph");
}

TEST(ChannelGroups, LongChainsAreCheap) {
  std::string body = "a0 = Conv(x, w) ";
  for (int i = 0; i < 4000; ++i) {
    body += "a" + std::to_string(i + 1) + " = Relu(a" + std::to_string(i) + ") ";
  }
  const auto model = inferred(graph_text("(float[1,3,4,4] x) => (float[1,4,4,4] y)",
                                         {weights("w", {64, 3, 1, 1}), weights("z", {4, 64, 1, 1})},
                                         body + "y = Conv(a4000, z)"));
  EXPECT_EQ(channel_groups(*model).front().free_units, 64);
}

// ------------------------------------------------------------------------------ random networks

// Builds a network of blocks, each of a known kind, on [N, C, 8, 8].
class RandomNetwork {
 public:
  explicit RandomNetwork(std::uint32_t seed) : random_(seed) {}

  std::string text() {
    std::string value = "x";
    std::int64_t channels = 8;
    const int blocks = 2 + pick(4);
    for (int i = 0; i < blocks; ++i) value = block(value, channels);
    switch (pick(3)) {
      case 0:
        value = node("GlobalAveragePool", {value});
        value = node("Flatten", {value});
        node("Gemm", {value, weight({channels, 5})}, "", "y");
        break;
      case 1:
        value = node("Flatten", {value});
        node("Gemm", {value, weight({channels * 64, 5}), weight({5})}, "", "y");
        break;
      default:
        node("Conv", {value, weight({5, channels, 1, 1})}, "", "y");
    }
    return graph_text("(float[N,8,8,8] x) => (float y)", constants_, body_.str());
  }

 private:
  int pick(int count) { return static_cast<int>(random_() % static_cast<std::uint32_t>(count)); }
  std::string fresh() { return "t" + std::to_string(next_++); }
  std::string weight(std::vector<std::int64_t> dims) {
    std::string name = fresh();
    constants_.push_back(weights(name, std::move(dims), -0.5F, 0.5F));
    return name;
  }
  std::string numbers(const std::vector<std::int64_t>& values) {
    std::string name = fresh();
    std::string list;
    for (const std::int64_t value : values) {
      list += (list.empty() ? "" : ", ") + std::to_string(value);
    }
    constants_.push_back("int64[" + std::to_string(values.size()) + "] " + name + " = {" + list +
                         "}");
    return name;
  }
  std::string node(const std::string& op, const std::vector<std::string>& inputs,
                   const std::string& attributes = "", std::string output = "") {
    if (output.empty()) output = fresh();
    body_ << output << " = " << op << (attributes.empty() ? "" : "<" + attributes + ">") << "(";
    for (std::size_t i = 0; i < inputs.size(); ++i) body_ << (i == 0 ? "" : ", ") << inputs[i];
    body_ << ") ";
    return output;
  }
  std::string conv(const std::string& x, std::int64_t in, std::int64_t out, bool wide = false) {
    std::vector<std::string> inputs{x, weight({out, in, wide ? 3 : 1, wide ? 3 : 1})};
    if (pick(2) == 0) inputs.push_back(weight({out}));
    return node("Conv", inputs, wide ? "pads=[1,1,1,1]" : "");
  }
  std::string active(const std::string& x, std::int64_t channels) {
    switch (pick(5)) {
      case 0:
        return node("Relu", {x});
      case 1:
        return node("Sigmoid", {x});
      case 2:
        return node("PRelu", {x, weight({channels, 1, 1})});
      case 3:
        return node("Mul", {x, weight({1, channels, 1, 1})});
      default: {
        const std::string variance = fresh();
        constants_.push_back(weights(variance, {channels}, 0.5F, 1.0F));
        return node("BatchNormalization",
                    {x, weight({channels}), weight({channels}), weight({channels}), variance});
      }
    }
  }
  std::string attention(const std::string& x, std::int64_t c) {
    const std::string n = std::to_string(c);
    std::string t = node("Reshape", {x, numbers({0, c, 64})});
    t = node("Transpose", {t}, "perm=[0,2,1]");
    const std::int64_t inner = 16;
    std::vector<std::string> parts;
    if (pick(2) == 0) {
      const std::string all = node("MatMul", {t, weight({c, 3 * inner})});
      const std::string q = fresh(), k = fresh(), v = fresh();
      body_ << q << ", " << k << ", " << v << " = Split<axis=-1>(" << all << ", "
            << numbers({inner, inner, inner}) << ") ";
      parts = {q, k, v};
    } else {
      for (int i = 0; i < 3; ++i) {
        parts.push_back(node("Add", {node("MatMul", {t, weight({c, inner})}), weight({inner})}));
      }
    }
    for (std::size_t i = 0; i < 3; ++i) {
      parts[i] = node("Reshape", {parts[i], numbers({0, 64, 4, inner / 4})});
      parts[i] = node("Transpose", {parts[i]}, i == 1 ? "perm=[0,2,3,1]" : "perm=[0,2,1,3]");
    }
    const std::string p = node("Softmax", {node("MatMul", {parts[0], parts[1]})}, "axis=-1");
    std::string out = node("Transpose", {node("MatMul", {p, parts[2]})}, "perm=[0,2,1,3]");
    out = node("Reshape", {out, numbers({0, 64, inner})});
    out = node("Transpose", {node("MatMul", {out, weight({inner, c})})}, "perm=[0,2,1]");
    return node("Add", {x, node("Reshape", {out, numbers({0, c, 8, 8})})});
  }
  std::string block(const std::string& x, std::int64_t& c) {
    const std::int64_t wide = 8 * (1 + pick(3));
    switch (pick(12)) {
      case 0: {  // residual
        const std::string a = active(conv(x, c, wide, true), wide);
        return node("Relu", {node("Add", {conv(a, wide, c), x})});
      }
      case 1: {  // dense
        const std::string a = active(conv(x, c, wide), wide);
        std::string out = node("Concat", {x, a}, "axis=1");
        c += wide;
        return out;
      }
      case 2: {  // inception
        const std::string a = conv(x, c, 8), b = active(conv(conv(x, c, wide), wide, 8, true), 8);
        const std::string p =
            conv(node("MaxPool", {x}, "kernel_shape=[3,3], pads=[1,1,1,1]"), c, wide);
        c = 16 + wide;
        return node("Concat", {a, b, p}, "axis=1");
      }
      case 3: {  // grouped
        const std::string a = active(conv(x, c, 16), 16);
        c = 24;
        return node("Conv", {a, weight({24, 4, 3, 3})}, "group=4, pads=[1,1,1,1]");
      }
      case 4: {  // inverted residual
        const std::string a = active(conv(x, c, wide), wide);
        const std::string d = node("Conv", {a, weight({wide, 1, 3, 3}), weight({wide})},
                                   "group=" + std::to_string(wide) + ", pads=[1,1,1,1]");
        return node("Add", {x, conv(active(d, wide), wide, c)});
      }
      case 5: {  // two halves, one gates the other
        const std::string a = conv(x, c, 2 * wide), l = fresh(), r = fresh();
        body_ << l << ", " << r << " = Split<axis=1>(" << a << ") ";
        c = wide;
        return node("Mul", {l, node("Sigmoid", {r})});
      }
      case 6:
        return attention(x, c);
      case 7: {  // U-Net
        const std::string d = node("MaxPool", {x}, "kernel_shape=[2,2], strides=[2,2]");
        const std::string a = active(conv(d, c, wide, true), wide);
        std::string u;
        if (pick(2) == 0) {
          u = node("ConvTranspose", {a, weight({wide, 8, 2, 2}), weight({8})}, "strides=[2,2]");
        } else {
          const std::string scales = fresh();
          constants_.push_back("float[4] " + scales + " = {1, 1, 2, 2}");
          u = conv(node("Resize", {a, "", scales}, "mode=\"nearest\""), wide, 8);
        }
        std::string out = node("Concat", {u, x}, "axis=1");
        c += 8;
        return out;
      }
      case 8: {  // squeeze and excite
        const std::string a = conv(x, c, wide);
        const std::string s = active(conv(node("GlobalAveragePool", {a}), wide, 8), 8);
        c = wide;
        return node("Mul", {a, node("Sigmoid", {conv(s, 8, wide)})});
      }
      case 9: {  // shuffle
        const std::string a = conv(x, c, 16);
        std::string s = node("Reshape", {a, numbers({0, 4, 4, 8, 8})});
        s = node("Transpose", {s}, "perm=[0,2,1,3,4]");
        c = 16;
        return node("Reshape", {s, numbers({0, 16, 8, 8})});
      }
      case 10: {  // a part, beside others
        const std::string a = conv(x, c, 16);
        const std::string s = node("Slice", {a, numbers({0}), numbers({8}), numbers({1})});
        const std::string g = node("Gather", {a, numbers({15, 9, 10, 11, 3, 8})}, "axis=1");
        c = 14;
        return node("Concat", {node("Relu", {s}), g}, "axis=1");
      }
      default: {  // channels last
        const std::string a = node("Transpose", {conv(x, c, wide)}, "perm=[0,2,3,1]");
        const std::string b = node("Add", {node("MatMul", {a, weight({wide, 16})}), weight({16})});
        c = 16;
        return node("Transpose", {b}, "perm=[0,3,1,2]");
      }
    }
  }

  std::mt19937 random_;
  int next_ = 0;
  std::vector<std::string> constants_;
  std::ostringstream body_;
};

TEST(ChannelGroups, RandomNetworksSurviveEveryCut) {
  std::int64_t units = 0, networks = 0;
  for (std::uint32_t seed = 1; seed <= 500; ++seed) {
    const auto model = inferred(RandomNetwork(seed).text());
    ASSERT_NE(model, nullptr) << seed;
    std::mt19937 random(seed);
    const auto one_in = 2 + random() % 3;
    const std::int64_t cut = cut_and_compare(
        *model, [&](std::uint32_t) { return random() % one_in == 0; },
        "seed " + std::to_string(seed));
    units += cut;
    networks += cut > 0 ? 1 : 0;
    if (::testing::Test::HasFailure()) FAIL() << "seed " << seed << "\n" << dump(*model);
  }
  EXPECT_GT(networks, 480);
  EXPECT_GT(units, 5000);
}

}  // namespace
}  // namespace mcompress::testing
