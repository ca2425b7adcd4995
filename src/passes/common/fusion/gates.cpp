#include "passes/common/fusion/gates.h"

#include <numbers>

namespace mcompress {
namespace {

bool is_half_gate(const Expression&, const Expression& outer) {
  return outer.is({{{1, 0}, 0.5}, {{1, 1}, 0.5}});
}

}  // namespace

GateRules erf_gelu_rules() {
  return {[](const Expression& inner) {
            return inner.is({{{1}, std::numbers::sqrt2 / 2}});
          },
          is_half_gate};
}

GateRules tanh_gelu_rules() {
  return {[](const Expression& inner) {
            const double slope = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
            constexpr double kCubic = 0.044715;
            return inner.is({{{1}, slope}, {{3}, slope * kCubic}});
          },
          is_half_gate};
}

GateRules swish_rules() {
  return {[](const Expression& inner) {
            return inner.is({{{1}, inner.of({1})}});
          },
          [](const Expression&, const Expression& outer) {
            return outer.is({{{1, 1}, 1.0}});
          }};
}

}  // namespace mcompress
