// Operators written out in small ones, in the forms that runtimes take for one operator again.
#pragma once

#include <string_view>

#include "mcompress/ir.h"

namespace mcompress {

// x (1 + erf(..)) or x (1 + tanh(..)): a GELU but for the factor of one half behind it.
bool is_gelu_body(const Value& value);
// Whether a factor or shift of this value is the last part of a known form: the half of a GELU, or
// scale and shift of x / sqrt(mean + epsilon). Moving that part elsewhere saves one operator and
// costs the runtime the fused one.
bool ends_known_form(const Value& value);
// Whether `node` is the Pow(x, 2) of mean(x^2) / .. in a normalisation that is written out: a
// product of x with itself is no part of the form that runtimes look for.
bool squares_in_known_form(const Node& node);
inline constexpr std::string_view kEndsKnownForm =
    "it is the last part of a normalisation or GELU, which runtimes know as a whole";
inline constexpr std::string_view kInKnownForm =
    "it is a part of a normalisation, which runtimes know as a whole";

}  // namespace mcompress
