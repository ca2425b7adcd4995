// drop-nan-guards: every case is computed by the runtime before and after.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// y = the guarded Softmax of what `body` makes as s [n, 2, 3, 3], of q, k and a caller's mask.
Checked guard(std::string_view body, int opset = 17, std::string_view constants = {}) {
  return check_passes(
      "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
          "]> g (float[n,2,3,4] q, float[n,2,4,3] k, bool[n,1,1,3] seen, float[n,1,1,3] mask) => "
          "(float[n,2,3,3] y) <float zero = {0.0}, float[1] half = {0.5}, float lowest = "
          "{-3.4028234663852886e38}, float[1,1,1,1] wide = {0.0}, float[1,1,1,1,1] wider = {0.0}" +
          std::string(constants) + "> { s0 = MatMul(q, k) " + std::string(body) + " }",
      {"infer-shapes", "drop-nan-guards"}, 0.0, 2);
}
constexpr std::string_view kGuard = " p = Softmax<axis=-1>(s) b = IsNaN(p) y = Where(b, zero, p)";

std::int64_t removed(const Checked& checked) {
  return checked.run->count("drop-nan-guards", "removed");
}

// A constant of 3 x 3 with minus infinity where the text has an x.
std::string mask(std::string_view rows) {
  std::string text = ", float[3,3] hidden = {";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += std::string(i == 0 ? "" : ", ") + (rows[i] == 'x' ? "-inf" : "0.0");
  }
  return text + "}";
}

TEST(DropNanGuards, WithoutAMask) {
  for (std::string_view body :
       {"s = Identity(s0)", "s = Mul(s0, half)", "a = Transpose<perm=[0,1,3,2]>(s0) s = Neg(a)"}) {
    const auto checked = guard(std::string(body) + std::string(kGuard));
    EXPECT_EQ(removed(checked), 1) << body;
    EXPECT_EQ(count_nodes(*checked.after, "IsNaN"), 0);
    EXPECT_EQ(count_nodes(*checked.after, "Where"), 0);
  }
  EXPECT_EQ(removed(guard("s = Identity(s0) p = Softmax<axis=2>(s) b = IsNaN(p) "
                          "y = Where(b, wide, p)")),
            1);
  EXPECT_EQ(removed(guard("s = Identity(s0) p = Softmax<axis=2>(s) b = IsNaN(p) "
                          "y = Where(b, zero, p)",
                          12)),
            1);
}

TEST(DropNanGuards, AMaskOfFiniteNumbers) {
  EXPECT_EQ(removed(guard("m = Where(seen, zero, lowest) s = Add(s0, m)" + std::string(kGuard))),
            1);
  EXPECT_EQ(removed(guard("f = Cast<to=1>(seen) m = Mul(f, lowest) s = Add(m, s0)" +
                          std::string(kGuard))),
            1);
}

TEST(DropNanGuards, ConstantMasksThatLeaveANumberInEachRow) {
  const auto end = "s = Add(s0, hidden)" + std::string(kGuard);
  EXPECT_EQ(removed(guard(end, 17, mask("oxxooxooo"))), 1);
  const auto checked = guard(end, 17, mask("oxxxxxooo"));
  EXPECT_EQ(removed(checked), 0);
  EXPECT_EQ(checked.run->why("Where node that makes 'y'"),
            "a row of 's' may be masked as a whole, or be infinite");
  // The rows of the second axis from the end are columns here.
  const std::string columns =
      "s = Add(s0, hidden) p = Softmax<axis=2>(s) b = IsNaN(p) y = Where(b, zero, p)";
  EXPECT_EQ(removed(guard(columns, 17, mask("oxxxxxoxo"))), 0);
  EXPECT_EQ(removed(guard(columns, 17, mask("oxxxxxooo"))), 1);
  // A column that masks whole rows.
  EXPECT_EQ(removed(guard("s = Add(s0, hides)" + std::string(kGuard), 17,
                          ", float[3,1] hides = {0.0, -inf, 0.0}")),
            0);
}

TEST(DropNanGuards, WhatMayBeMaskedStays) {
  for (std::string_view body :
       {"s = Add(s0, mask)", "m = Where(seen, zero, none) s = Add(s0, m)", "s = Div(s0, mask)",
        "m = Expand(mask, same) s = Add(s0, m)", "l = Log(mask) s = Add(s0, l)",
        "m = Where(seen, zero, lowest) a = Add(s0, m) s = Add(a, m)",
        "m = Where(seen, zero, lowest) h = Cast<to=10>(m) f = Cast<to=1>(h) s = Add(s0, f)"}) {
    const auto checked = guard(std::string(body) + std::string(kGuard), 17,
                               ", float none = {-inf}, int64[4] same = {1, 2, 3, 3}");
    EXPECT_EQ(removed(checked), 0) << body;
    EXPECT_FALSE(checked.run->changed) << body;
  }
}

TEST(DropNanGuards, OtherTestsStay) {
  for (std::string_view end : {"p = Softmax(s0) b = IsNaN(s0) y = Where(b, zero, p)",
                               "p = Softmax(s0) b = IsNaN(p) y = Where(b, p, zero)",
                               "p = Sigmoid(s0) b = IsNaN(p) y = Where(b, zero, p)",
                               "p = Softmax(s0) b = IsNaN(p) y = Where(b, s0, p)",
                               "p = Softmax(s0) b = IsInf(p) y = Where(b, zero, p)"}) {
    EXPECT_EQ(removed(guard(end)), 0) << end;
  }
  const auto checked =
      guard("p = Softmax(s0) b = IsNaN(p) w = Where(b, wider, p) z = Squeeze(w, first) y = Neg(z)",
            17, ", int64[1] first = {0}");
  EXPECT_EQ(removed(checked), 0);
}

TEST(DropNanGuards, OthersMayReadTheSoftmaxAndTheTest) {
  const auto checked = guard(
      "p = Softmax(s0) b = IsNaN(p) w = Where(b, zero, p) c = Cast<to=1>(b) d = Add(w, c) "
      "y = Add(d, p)");
  EXPECT_EQ(removed(checked), 1);
  EXPECT_EQ(count_nodes(*checked.after, "IsNaN"), 1);
}

}  // namespace
}  // namespace mcompress::testing
