// Operators with rules of their own: where channels pass through them, cuts leave the same results;
// where they do not, the group stays and says why.
#include <gtest/gtest.h>

#include "support/channel_cuts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

struct Net {
  std::vector<std::string> constants;
  std::string body;
  std::string ports = "(float[N,3,8,8] x) => (float y)";
  int opset = 17;
};

std::unique_ptr<Model> inferred(const Net& net) {
  std::string list;
  for (const std::string& constant : net.constants) list += (list.empty() ? "" : ", ") + constant;
  auto model =
      model_from_text("<ir_version: 8, opset_import: [\"\" : " + std::to_string(net.opset) +
                      "]> g " + net.ports + " <" + list + "> { " + net.body + " }");
  run_passes(*model, {"lift-constants", "infer-shapes"});
  return model;
}

ChannelGroup first_group(const Net& net) {
  const auto groups = channel_groups(*inferred(net));
  EXPECT_FALSE(groups.empty());
  return groups.empty() ? ChannelGroup{} : groups.front();
}

// Every third free unit goes, and what is left computes the same. How many went.
std::int64_t cut_some(const Net& net, const std::string& what) {
  const auto model = inferred(net);
  std::int64_t seen = 0;
  return cut_and_compare(
      *model, [&](std::uint32_t) { return seen++ % 3 == 0; }, what);
}

// A convolution makes 16 channels, something happens, a convolution reads `width` of them.
Net between(const std::string& body, std::vector<std::string> more = {}, std::int64_t width = 16) {
  Net net;
  net.constants = {weights("w", {16, 3, 1, 1}), weights("z", {4, width, 1, 1})};
  net.constants.insert(net.constants.end(), more.begin(), more.end());
  net.body = "a = Conv(x, w) " + body + " y = Conv(s, z)";
  return net;
}

TEST(ChannelRules, GroupsOfANormalisationGoWhole) {
  Net net = between("s = GroupNormalization<num_groups=4>(a, scale, shift)",
                    {weights("scale", {4}), weights("shift", {4})});
  net.opset = 18;
  const ChannelGroup group = first_group(net);
  EXPECT_EQ(group.units, 4);
  EXPECT_EQ(group.unit_width, 4);
  EXPECT_EQ(group.free_units, 4);  // the checker knows this form no more
  net = between("s = GroupNormalization<num_groups=4>(a, scale, shift)",
                {weights("scale", {16}), weights("shift", {16})});
  net.opset = 21;
  EXPECT_EQ(first_group(net).free_units, 4);
  EXPECT_EQ(cut_some(net, "a number for each channel"), 2);
  net = between("s = GroupNormalization<num_groups=1>(a, scale, shift)",
                {weights("scale", {16}), weights("shift", {16})});
  net.opset = 21;
  EXPECT_EQ(first_group(net).frozen,
            "GroupNormalization node that makes 's' takes means or sums over them");
}

TEST(ChannelRules, ChannelsOfAnInstanceNormalisationAreAlone) {
  const Net net = between("s = InstanceNormalization(a, scale, shift)",
                          {weights("scale", {16}), weights("shift", {16})});
  EXPECT_EQ(first_group(net).free_units, 16);
  EXPECT_GT(cut_some(net, "InstanceNormalization"), 5);
}

TEST(ChannelRules, NeighboursOfAnLrnStay) {
  const ChannelGroup group = first_group(between("s = LRN<size=3>(a)"));
  EXPECT_EQ(group.free_units, 0);
  EXPECT_EQ(group.frozen, "LRN node that makes 's' takes sums over neighbours of them");
}

TEST(ChannelRules, PixelsOfAChannelGoTogether) {
  for (const std::string mode : {"DCR", "CRD"}) {
    const Net net = between("s = DepthToSpace<blocksize=2, mode=\"" + mode + "\">(a)", {}, 4);
    const ChannelGroup group = first_group(net);
    EXPECT_EQ(group.free_units, 4) << mode;
    EXPECT_EQ(group.unit_width, 4) << mode;
    EXPECT_EQ(cut_some(net, mode), 2);
  }
  Net all;
  all.constants = {weights("w", {4, 3, 1, 1})};
  all.body = "a = Conv(x, w) s = DepthToSpace<blocksize=2>(a) y = Relu(s)";
  EXPECT_EQ(first_group(all).frozen, "DepthToSpace node that makes 's' makes one channel of them");
}

TEST(ChannelRules, ChannelsOfPixelsAreCounted) {
  const Net net = between("s = SpaceToDepth<blocksize=2>(a)", {}, 64);
  EXPECT_EQ(first_group(net).free_units, 16);
  EXPECT_GT(cut_some(net, "SpaceToDepth"), 5);
}

TEST(ChannelRules, RoundedActivationsPass) {
  const Net one = between("q = QuantizeLinear(a, d, o) s = DequantizeLinear(q, d, o)",
                          {"float d = {0.05}", "uint8 o = {128}"});
  EXPECT_EQ(first_group(one).free_units, 16);
  EXPECT_GT(cut_some(one, "one scale"), 5);
  const Net many = between("q = QuantizeLinear<axis=1>(a, d) s = DequantizeLinear<axis=1>(q, d)",
                           {weights("d", {16}, 0.02F, 0.05F)});
  EXPECT_EQ(first_group(many).free_units, 16);
  EXPECT_GT(cut_some(many, "a scale for each channel"), 5);
}

TEST(ChannelRules, WeightsInIntegersStay) {
  std::string numbers = "1";
  for (int i = 1; i < 64; ++i) numbers += ", " + std::to_string(i % 17);
  Net net;
  net.constants = {weights("w", {16, 3, 1, 1}), "int8[4,16,1,1] z = {" + numbers + "}",
                   "float d = {0.05}"};
  net.body = "a = Conv(x, w) f = DequantizeLinear(z, d) r = Conv(a, f) y = Relu(r)";
  const auto model = inferred(net);
  const auto groups = channel_groups(*model);
  ASSERT_EQ(groups.size(), 2);  // what the second convolution makes is listed, too
  for (const ChannelGroup& group : groups) {
    EXPECT_EQ(group.free_units, 0);
    EXPECT_EQ(group.frozen, "Conv node that makes 'r' has weights that are stored as integers");
  }
  net.ports = "(float[N,16] x) => (float y)";
  net.constants = {weights("w", {16, 16}), "int8[16,4] z = {" + numbers + "}"};
  net.body =
      "a = MatMul(x, w) q, d, o = DynamicQuantizeLinear(a) i = MatMulInteger(q, z, o) "
      "y = Cast<to=1>(i)";
  ChannelGroup group = first_group(net);
  EXPECT_EQ(group.free_units, 0);
  EXPECT_EQ(group.frozen,
            "DynamicQuantizeLinear node that makes 'q' reads them in a way that is not followed");
  EXPECT_EQ(channel_groups(*inferred(net)).back().frozen,
            "MatMulInteger node that makes 'i' has weights that are stored as integers");
}

TEST(ChannelRules, LettersOfAnEinsumAreChannels) {
  Net net;
  net.ports = "(float[N,5,8] x) => (float y)";
  net.constants = {weights("w", {8, 16}), weights("z", {4, 16})};
  net.body =
      "a = Einsum<equation=\"bsd,dh->bsh\">(x, w) s = Relu(a) "
      "y = Einsum<equation=\"bsh,oh->bso\">(s, z)";
  EXPECT_EQ(first_group(net).free_units, 16);
  EXPECT_GT(cut_some(net, "einsum"), 5);
  // Heads: q and k of one letter.
  net.constants = {weights("q", {8, 4, 6}), weights("k", {8, 4, 6}), weights("v", {8, 4, 6}),
                   weights("o", {4, 6, 8})};
  net.body =
      "a = Einsum<equation=\"bsd,dhk->bhsk\">(x, q) b = Einsum<equation=\"bsd,dhk->bhsk\">(x, k) "
      "c = Einsum<equation=\"bsd,dhk->bhsk\">(x, v) s = Einsum<equation=\"bhqk,bhtk->bhqt\">(a, b) "
      "p = Softmax<axis=-1>(s) r = Einsum<equation=\"bhqt,bhtk->bqhk\">(p, c) "
      "y = Einsum<equation=\"bqhk,hkd->bqd\">(r, o)";
  EXPECT_EQ(first_group(net).units, 4);
  EXPECT_EQ(first_group(net).free_units, 4);
  const auto model = inferred(net);
  EXPECT_EQ(cut_and_compare(
                *model, [](std::uint32_t unit) { return unit == 1; }, "heads by letters"),
            1);
  EXPECT_EQ(model->graph().find("o")->initializer()->dims()[0], 3);
  EXPECT_EQ(model->graph().find("q")->initializer()->dims()[1], 3);
  net.constants = {weights("w", {8, 16}), weights("z", {16, 4})};
  net.body = "a = MatMul(x, w) y = Einsum<equation=\"...h,ho->...o\">(a, z)";
  EXPECT_EQ(first_group(net).frozen,
            "Einsum node that makes 'y' reads them in a way that is not followed");
}

TEST(ChannelRules, HiddenUnitsOfRecurrentLayersGo) {
  const struct {
    std::string op;
    std::int64_t gates;
  } layers[] = {{"LSTM", 4}, {"GRU", 3}, {"RNN", 1}};
  for (const auto& [op, gates] : layers) {
    for (const std::int64_t directions : {1, 2}) {
      Net net;
      net.ports = "(float[5,N,8] x) => (float y)";
      net.constants = {weights("e", {8, 12}),
                       weights("w", {directions, gates * 9, 12}),
                       weights("r", {directions, gates * 9, 9}),
                       weights("b", {directions, gates * 18}),
                       weights("z", {directions * 9, 4}),
                       "int64[3] flat = {0, 0, " + std::to_string(directions * 9) + "}"};
      net.body = "a = MatMul(x, e) h = " + op + "<hidden_size=9, direction=\"" +
                 (directions == 2 ? "bidirectional" : "forward") +
                 "\">(a, w, r, b) t = Transpose<perm=[0,2,1,3]>(h) s = Reshape(t, flat) "
                 "y = MatMul(s, z)";
      const auto groups = channel_groups(*inferred(net));
      ASSERT_EQ(groups.size(), 3) << op;
      EXPECT_EQ(groups[0].free_units, 12) << op;  // inputs
      EXPECT_EQ(groups[1].free_units, 9) << op;   // hidden units
      EXPECT_EQ(cut_some(net, op), 7) << op << directions;
    }
  }
}

TEST(ChannelRules, StatesThatAreGivenStay) {
  Net net;
  net.ports = "(float[5,2,8] x, float[1,2,9] h0) => (float y)";
  net.constants = {weights("w", {1, 27, 8}), weights("r", {1, 27, 9}), weights("z", {9, 4})};
  net.body = "h = GRU<hidden_size=9>(x, w, r, , , h0) y = MatMul(h, z)";
  const ChannelGroup group = first_group(net);
  EXPECT_EQ(group.free_units, 0);
  EXPECT_EQ(group.frozen,
            "GRU node that makes 'h' combines them with channels that can not be cut");
  net.ports = "(float[5,2,8] x, float[1,27,8] w) => (float y)";
  net.constants = {weights("e", {8, 8}), weights("r", {1, 27, 9})};
  net.body = "a = MatMul(x, e) h = GRU<hidden_size=9>(a, w, r) y = Relu(h)";
  EXPECT_EQ(first_group(net).frozen, "GRU node that makes 'h' has weights that are computed");
}

}  // namespace
}  // namespace mcompress::testing
