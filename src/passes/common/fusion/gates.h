// What the gated activations look like as arithmetic, for find_gate().
#pragma once

#include "passes/common/fusion/expression.h"

namespace mcompress {

// 0.5 x (1 + u) with u = Erf(x / sqrt(2)).
GateRules erf_gelu_rules();
// 0.5 x (1 + u) with u = Tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
GateRules tanh_gelu_rules();
// x u with u = Sigmoid(a x), for any a; Gate::inner tells it.
GateRules swish_rules();

}  // namespace mcompress
