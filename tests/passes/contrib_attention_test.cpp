#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::vector<std::string> kPasses = {"infer-shapes", "fuse-contrib:{\"allow-contrib\": true}"};
constexpr std::string_view kPass = "fuse-contrib";
constexpr std::string_view kSoftmax = "Softmax node that makes 'p'";

// Three heads of four; `body` makes y of x [N, T, 12], and of another tensor z [N, U, 12].
std::string model(const std::string& body, const std::string& outputs = "float[N,T,W] y",
                  const std::string& inputs = "", int opset = 17) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
         "]> g (float[N,T,12] x" + inputs + ") => (" + outputs + ") <" + weights("wq", {12, 12}) +
         "," + weights("wk", {12, 12}) + "," + weights("wv", {12, 12}) + "," + weights("bq", {12}) +
         "," + weights("bk", {12}) + "," + weights("bv", {12}) + "," + weights("w", {12, 36}) +
         "," + weights("b", {36}) + "," + weights("wn", {12, 6}) + "," + weights("w1", {12, 4}) +
         ", int64[4] heads = {0,0,3,4}, int64[4] narrow = {0,0,3,2}, int64[4] one = {0,0,1,4},"
         " int64[3] rows = {0,0,12}, int64[3] narrowrows = {0,0,6}, float two = {2}, float half ="
         " {0.5}, float minus = {-1}, float low = {-3.4e38}, float mild = {-100},"
         " int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {-1}, int64[1] ax2 = {2}, int64[1] ax3 = {3},"
         " int64[5] packed = {0,0,3,3,4}, int64[3] thirds = {12,12,12}, int64[3] ones = {1,1,1}> "
         "{ " +
         body + " }";
}

std::string query(const std::string& of = "x") {
  return "qm = MatMul(" + of +
         ", wq) qa = Add(qm, bq) qr = Reshape(qa, heads) "
         "q = Transpose<perm = [0,2,1,3]>(qr) ";
}
std::string key(const std::string& of = "x") {
  return "km = MatMul(" + of +
         ", wk) ka = Add(bk, km) kr = Reshape(ka, heads) "
         "k = Transpose<perm = [0,2,3,1]>(kr) ";
}
std::string value(const std::string& of = "x") {
  return "vm = MatMul(" + of +
         ", wv) va = Add(vm, bv) vr = Reshape(va, heads) "
         "v = Transpose<perm = [0,2,1,3]>(vr) ";
}
std::string projections() { return query() + key() + value(); }
const std::string kMixed =
    "p = Softmax<axis = -1>(s) c = MatMul(p, v) ct = Transpose<perm = [0,2,1,3]>(c) "
    "y = Reshape(ct, rows) ";
const std::string kPlain = "s0 = MatMul(q, k) s = Div(s0, two) " + kMixed;

// The nodes that are left besides the operator.
Checked becomes(std::string_view op_type, const std::string& text, std::size_t others = 0,
                double tolerance = 1e-5) {
  Checked checked = check_passes(text, kPasses, tolerance, 3);
  EXPECT_EQ(checked.after->graph().node_count(), 1u + others) << text;
  EXPECT_EQ(count_nodes(*checked.after, op_type), 1) << text << checked.run->why(kSoftmax);
  EXPECT_EQ(checked.run->count(kPass, op_type), 1) << text;
  EXPECT_EQ(checked.after->opset("com.microsoft"), 1);
  return checked;
}

std::string why_not(const std::string& text, std::string_view subject = kSoftmax) {
  const auto checked = check_passes(text, kPasses, 1e-5, 3);
  EXPECT_EQ(count_nodes(*checked.after, "Attention"), 0) << text;
  EXPECT_EQ(count_nodes(*checked.after, "MultiHeadAttention"), 0) << text;
  EXPECT_EQ(count_nodes(*checked.after, "Softmax"), 1) << text;
  return checked.run->why(subject);
}

TEST(ContribAttention, SeparateProjections) {
  for (const std::string& body : {
           projections() + kPlain,
           projections() + "s0 = MatMul(q, k) s = Mul(half, s0) " + kMixed,
           projections() + "s = MatMul(q, k) " + kMixed,
           // scaled before, on both sides
           projections() + "r = Div(q, two) l = Mul(k, two) s = MatMul(r, l) " + kMixed,
           // keys that are turned twice
           query() + value() +
               "km = MatMul(x, wk) ka = Add(bk, km) kr = Reshape(ka, heads) kh = Transpose<perm = "
               "[0,2,1,3]>(kr) k = Transpose<perm = [0,1,3,2]>(kh) " +
               kPlain,
           // without some biases
           query() + value() +
               "km = MatMul(x, wk) kr = Reshape(km, heads) k = Transpose<perm = [0,2,3,1]>(kr) " +
               kPlain,
       }) {
    const auto checked = becomes("Attention", model(body));
    const Node& node = *checked.after->graph().first();
    EXPECT_EQ(node.int_attribute("num_heads", 0), 3);
    EXPECT_EQ(node.input(1)->constant()->dims()[1], 36);
    EXPECT_EQ(node.input(2)->constant()->dims()[0], 36);
    EXPECT_EQ(node.inputs().size(), 3u);
  }
}

TEST(ContribAttention, WithoutAnyBias) {
  const auto checked = becomes(
      "Attention",
      model("qm = MatMul(x, wq) qr = Reshape(qm, heads) q = Transpose<perm = [0,2,1,3]>(qr) "
            "km = MatMul(x, wk) kr = Reshape(km, heads) k = Transpose<perm = [0,2,3,1]>(kr) "
            "vm = MatMul(x, wv) vr = Reshape(vm, heads) v = Transpose<perm = [0,2,1,3]>(vr) " +
            kPlain));
  EXPECT_EQ(checked.after->graph().first()->inputs().size(), 2u);
}

TEST(ContribAttention, TheScaleIsTheProductOfAllFactors) {
  const auto checked = becomes(
      "Attention",
      model(projections() + "r = Mul(q, half) l = Div(k, two) t = MatMul(r, l) s = Mul(t, minus) " +
            kMixed));
  EXPECT_FLOAT_EQ(checked.after->graph().first()->float_attribute("scale", 0), -0.25f);
}

TEST(ContribAttention, PackedProjections) {
  const std::string all = "m = MatMul(x, w) a = Add(m, b) ";
  for (const std::string& body : {
           // [3, B, N, S, H]
           all + "r = Reshape(a, packed) t = Transpose<perm = [2,0,3,1,4]>(r) q = Gather<axis = "
                 "0>(t, i0) kh = Gather<axis = 0>(t, i1) v = Gather<axis = 0>(t, i2) k = "
                 "Transpose<perm = [0,1,3,2]>(kh) ",
           // split by columns
           all + "qa, ka, va = Split<axis = 2>(a, thirds) qr = Reshape(qa, heads) q = "
                 "Transpose<perm = [0,2,1,3]>(qr) kr = Reshape(ka, heads) k = Transpose<perm = "
                 "[0,2,3,1]>(kr) vr = Reshape(va, heads) v = Transpose<perm = [0,2,1,3]>(vr) ",
           // split by an axis of three
           all + "r = Reshape(a, packed) qs, ks, vs = Split<axis = 2>(r, ones) qr = Squeeze(qs, "
                 "ax2) q = Transpose<perm = [0,2,1,3]>(qr) kr = Squeeze(ks, ax2) k = "
                 "Transpose<perm = [0,2,3,1]>(kr) vr = Squeeze(vs, ax2) v = Transpose<perm = "
                 "[0,2,1,3]>(vr) ",
       }) {
    const auto checked = becomes("Attention", model(body + kPlain));
    // The weight stays what it is.
    EXPECT_EQ(checked.after->graph().first()->input(1)->name(), "w") << body;
  }
  // Queries, keys and values of each head side by side: the columns change places.
  const auto checked = becomes(
      "Attention", model(all +
                         "r = Reshape(a, packed) qs, ks, vs = Split<axis = 3>(r, ones) qr = "
                         "Squeeze(qs, ax3) q = Transpose<perm = [0,2,1,3]>(qr) kr = Squeeze(ks, "
                         "ax3) k = Transpose<perm = [0,2,3,1]>(kr) vr = Squeeze(vs, ax3) v = "
                         "Transpose<perm = [0,2,1,3]>(vr) " +
                         kPlain));
  EXPECT_NE(checked.after->graph().first()->input(1)->name(), "w");
}

TEST(ContribAttention, ValuesOfAnotherSize) {
  const auto checked = becomes(
      "Attention",
      model(query() + key() +
            "vm = MatMul(x, wn) vr = Reshape(vm, narrow) v = Transpose<perm = [0,2,1,3]>(vr) "
            "s0 = MatMul(q, k) s = Div(s0, two) p = Softmax<axis = -1>(s) c = MatMul(p, v) "
            "ct = Transpose<perm = [0,2,1,3]>(c) y = Reshape(ct, narrowrows)"));
  EXPECT_EQ(checked.after->graph().first()->ints_attribute("qkv_hidden_sizes"),
            (std::vector<std::int64_t>{12, 12, 6}));
}

TEST(ContribAttention, Masks) {
  const std::string scores = projections() + "s0 = MatMul(q, k) s1 = Div(s0, two) ";
  // as the kernels take them
  becomes("Attention",
          model(scores + "s = Add(s1, m) " + kMixed, "float[N,T,W] y", ", float[N,1,T,T] m"));
  becomes("Attention",
          model(scores + "s = Add(m, s1) " + kMixed, "float[N,T,W] y", ", float[1,3,T,T] m"));
  // made larger, once: Shape, Gather, Expand, and Concat where axes have to be put in front
  for (const auto& [mask, nodes] :
       {std::pair("float[T,T] m", 4), std::pair("float[1,T] m", 4), std::pair("float[3,1,T] m", 4),
        std::pair("float[N,1,1,T] m", 3), std::pair("float[N,1,T,1] m", 3),
        std::pair("float[N,3,T,1] m", 3)}) {
    becomes("Attention",
            model(scores + "s = Add(s1, m) " + kMixed, "float[N,T,W] y", std::string(", ") + mask),
            nodes);
  }
  // the sum of two
  becomes("Attention",
          model(scores + "s2 = Add(s1, m) s = Add(s2, n) " + kMixed, "float[N,T,W] y",
                ", float[N,1,1,T] m, float[1,3,T,T] n"),
          1);
  // filled in
  becomes(
      "Attention",
      model(scores + "s = Where(c0, s1, low) " + kMixed, "float[N,T,W] y", ", bool[N,1,1,T] c0"),
      4);
  becomes(
      "Attention",
      model(scores + "s = Where(c0, low, s1) " + kMixed, "float[N,T,W] y", ", bool[N,1,T,T] c0"),
      1);
  becomes("Attention",
          model(scores + "s2 = Where(c0, s1, low) s = Add(s2, m) " + kMixed, "float[N,T,W] y",
                ", bool[N,1,T,T] c0, float[N,1,1,T] m"),
          2);
}

// A mask gathered from its flattened rows, as exporters write what was vectorised: its batch is
// that of the input.
TEST(ContribAttention, MasksGatheredByPosition) {
  const std::string mask =
      "ms = Shape(m) mb = Gather(ms, i0) ml = Gather(ms, i1) rb = Range(i0, mb, i1) rl = Range(i0, "
      "ml, i1) b4 = Unsqueeze(rb, tail) l4 = Unsqueeze(rl, front) bm = Mul(b4, ml) at = Add(bm, "
      "l4) mf = Reshape(m, all) mg = Gather(mf, at) as = Shape(at) mh = Reshape(mg, all) mr = "
      "Reshape(mh, as) ";
  std::string text = model(mask + projections() + "s0 = MatMul(q, k) s = Add(s0, mr) " + kMixed,
                           "float[N,T,W] y", ", float[N,T] m");
  text.replace(text.find("float two"), 9,
               "int64[3] tail = {1,2,3}, int64[3] front = {0,1,2}, int64[1] all = {-1}, float two");
  const auto checked = check_passes(text, kPasses, 1e-5, 3);
  EXPECT_EQ(count_nodes(*checked.after, "Attention"), 1) << checked.run->why(kSoftmax);
}

TEST(ContribAttention, LayersShareTheirMask) {
  const std::string text =
      "qm = MatMul(x, wq) qr = Reshape(qm, heads) q = Transpose<perm = [0,2,1,3]>(qr) "
      "km = MatMul(x, wk) kr = Reshape(km, heads) k = Transpose<perm = [0,2,3,1]>(kr) "
      "vm = MatMul(x, wv) vr = Reshape(vm, heads) v = Transpose<perm = [0,2,1,3]>(vr) "
      "s0 = MatMul(q, k) s = Add(s0, m) p = Softmax<axis = -1>(s) c = MatMul(p, v) "
      "ct = Transpose<perm = [0,2,1,3]>(c) h = Reshape(ct, rows) "
      "e = MatMul(h, w) qa, ka, va = Split<axis = 2>(e, thirds) er = Reshape(qa, heads) e1 = "
      "Transpose<perm = [0,2,1,3]>(er) fr = Reshape(ka, heads) f1 = Transpose<perm = "
      "[0,2,3,1]>(fr) gr = Reshape(va, heads) g1 = Transpose<perm = [0,2,1,3]>(gr) "
      "t0 = MatMul(e1, f1) t1 = Add(t0, m) t2 = Softmax<axis = -1>(t1) d = MatMul(t2, g1) dt = "
      "Transpose<perm = [0,2,1,3]>(d) y = Reshape(dt, rows) ";
  const auto checked =
      check_passes(model(text, "float[N,T,W] y", ", float[N,1,1,T] m"), kPasses, 1e-5, 3);
  EXPECT_EQ(count_nodes(*checked.after, "Attention"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Expand"), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 5u);
}

TEST(ContribAttention, RowsThatAreReshapedInOtherWays) {
  const std::string text = projections() +
                           "s = MatMul(q, k) p = Softmax<axis = -1>(s) c = MatMul(p, v) ct = "
                           "Transpose<perm = [0,2,1,3]>(c) y = Reshape(ct, rows) z = Reshape(ct, "
                           "flat)";
  std::string both = model(text, "float[N,T,W] y, float[M,W2] z");
  both.replace(both.find("float two"), 9, "int64[2] flat = {-1,12}, float two");
  const auto checked = becomes("Attention", both, 2);
  EXPECT_EQ(count_nodes(*checked.after, "Reshape"), 2);
}

TEST(ContribAttention, LayersSideBySide) {
  const std::string text =
      projections() + "s0 = MatMul(q, k) s = Add(s0, m) p = Softmax<axis = -1>(s) " +
      "e = MatMul(x, w) qb, kb, vb = Split<axis = 2>(e, thirds) er = Reshape(qb, heads) e1 = "
      "Transpose<perm = [0,2,1,3]>(er) fr = Reshape(kb, heads) f1 = Transpose<perm = "
      "[0,2,3,1]>(fr) gr = Reshape(vb, heads) g1 = Transpose<perm = [0,2,1,3]>(gr) "
      "t0 = MatMul(e1, f1) t1 = Add(t0, m) t2 = Softmax<axis = -1>(t1) d = MatMul(t2, g1) dt = "
      "Transpose<perm = [0,2,1,3]>(d) z = Reshape(dt, rows) c = MatMul(p, v) ct = Transpose<perm "
      "= [0,2,1,3]>(c) u = Reshape(ct, rows) y = Add(u, z)";
  const auto checked =
      check_passes(model(text, "float[N,T,W] y", ", float[N,1,1,T] m"), kPasses, 1e-5, 3);
  EXPECT_EQ(count_nodes(*checked.after, "Attention"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Expand"), 1);
}

TEST(ContribAttention, BatchesOfMatricesOfThreeDimensions) {
  const std::string header =
      "<ir_version: 8, opset_import: [\"\" : 12]> g (float[2,5,12] x, "
      "float[2,1,5,5] m) => (float[2,5,12] y) <" +
      weights("wq", {12, 12}) + "," + weights("wk", {12, 12}) + "," + weights("wv", {12, 12}) +
      ", int64[4] heads = {2,5,3,4}, int64[3] flat = {6,5,4}, int64[4] four "
      "= {2,3,5,5}, int64[3] three = {6,5,5}, int64[4] back = {2,3,5,4}, "
      "int64[3] rows = {2,5,12}, float two = {2}> {";
  const std::string body =
      "qm = MatMul(x, wq) qs = Div(qm, two) qr = Reshape(qs, heads) qt = Transpose<perm = "
      "[0,2,1,3]>(qr) q = Reshape(qt, flat) km = MatMul(x, wk) kr = Reshape(km, heads) kt = "
      "Transpose<perm = [0,2,1,3]>(kr) kf = Reshape(kt, flat) k = Transpose<perm = [0,2,1]>(kf) "
      "vm = MatMul(x, wv) vr = Reshape(vm, heads) vt = Transpose<perm = [0,2,1,3]>(vr) v = "
      "Reshape(vt, flat) s = MatMul(q, k) s4 = Reshape(s, four) sm = Add(s4, m) s3 = Reshape(sm, "
      "three) p = Softmax<axis = 2>(s3) c = MatMul(p, v) c4 = Reshape(c, back) ct = "
      "Transpose<perm = [0,2,1,3]>(c4) y = Reshape(ct, rows) }";
  const auto checked = becomes("Attention", header + body);
  EXPECT_FLOAT_EQ(checked.after->graph().first()->float_attribute("scale", 0), 0.5f);
}

TEST(ContribAttention, KeysOfAnotherTensor) {
  const std::string z = ", float[N,U,12] z";
  const auto checked =
      becomes("MultiHeadAttention",
              model(query() + key("z") + value("z") + kPlain, "float[N,T,W] y", z), 6);
  EXPECT_EQ(checked.after->graph().node_count(), 7u);  // three products with their biases
  becomes("MultiHeadAttention",
          model(query() + key("z") + value("z") + "s0 = MatMul(q, k) s = Add(s0, m) " + kMixed,
                "float[N,T,W] y", z + ", float[1,3,T,U] m"),
          6);
  // Shape and Gather of both
  becomes("MultiHeadAttention",
          model(query() + key("z") + value("z") + "s0 = MatMul(q, k) s = Add(s0, m) " + kMixed,
                "float[N,T,W] y", z + ", float[N,1,1,U] m"),
          10);
}

TEST(ContribAttention, SharedWeightsAreNotCopied) {
  const auto checked = becomes(
      "MultiHeadAttention",
      model(query() + value() +
            "km = MatMul(x, wq) kr = Reshape(km, heads) k = Transpose<perm = [0,2,3,1]>(kr) " +
            kPlain),
      5);
  EXPECT_EQ(checked.run->count(kPass, "Attention"), -1);
}

TEST(ContribAttention, SaysWhatStays) {
  EXPECT_EQ(why_not(model(projections() + kPlain, "float[N,T,W] y, float[N,3,T,T] p")),
            "'p' is a graph output");
  EXPECT_EQ(why_not(model(projections() + kPlain + "e = Neg(s0)", "float[N,T,W] y, float e")),
            "'s0' is read 2 times");
  const std::string scores = projections() + "s0 = MatMul(q, k) s = Add(s0, m) ";
  EXPECT_EQ(why_not(model(scores + kMixed, "float[N,T,W] y", ", float[N,1,R,T] m")),
            "the mask 'm' may have more rows, heads or batches than the scores");
  EXPECT_EQ(why_not(model(scores + kMixed, "float[N,T,W] y", ", float[B,1,1,T] m")),
            "the mask 'm' may have more rows, heads or batches than the scores");
  EXPECT_EQ(why_not(model(query() +
                          "km = MatMul(x, w1) kr = Reshape(km, one) k = Transpose<perm = "
                          "[0,2,3,1]>(kr) vm = MatMul(x, w1) vr = Reshape(vm, one) v = "
                          "Transpose<perm = [0,2,1,3]>(vr) " +
                          kPlain)),
            "3 heads of queries read 1 of keys and 1 of values");
  EXPECT_EQ(why_not(model(projections() +
                              "s0 = MatMul(q, k) s1 = Add(s0, m) s = Where(c0, s1, low) " + kMixed,
                          "float[N,T,W] y", ", float[N,1,1,T] m, bool[N,1,1,T] c0")),
            "it fills in what is masked already");
  EXPECT_EQ(why_not(model(projections() +
                          "s = MatMul(q, k) p = Softmax<axis = -1>(s) c = MatMul(p, v) ct = "
                          "Transpose<perm = [0,2,3,1]>(c) e = Reshape(ct, rows) y = Neg(e)")),
            "the heads of its result are not put side by side");
  // Rows that only add up in another order.
  EXPECT_EQ(why_not("<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,T,4] q, "
                    "float[N,3,4,T] k, float[N,3,T,4] v) => (float y) <int64[3] rows = {0,0,12}> "
                    "{ s = MatMul(q, k) " +
                    kMixed + "}"),
            "the heads of 'q' are not known to come from one tensor of rows");
}

TEST(ContribAttention, IsNotSeenInOtherArithmetic) {
  for (const std::string& body : {
           // scaled with the mask, filled in with a number that leaves something, another axis
           "s0 = MatMul(q, k) s1 = Add(s0, half) s = Div(s1, two) " + kMixed,
           "s0 = MatMul(q, k) c0 = Less(s0, mild) s = Where(c0, mild, s0) " + kMixed,
           "s0 = MatMul(q, k) s = Div(two, s0) " + kMixed,
       }) {
    EXPECT_EQ(why_not(model(projections() + body)), "") << body;
  }
  EXPECT_EQ(why_not(model(projections() + "s = MatMul(q, k) p = Softmax<axis = 2>(s) c = "
                                          "MatMul(p, v) ct = Transpose<perm = [0,2,1,3]>(c) y = "
                                          "Reshape(ct, rows) ")),
            "");
}

}  // namespace
}  // namespace mcompress::testing
