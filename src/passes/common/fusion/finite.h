// What can be told of infinities: masks bring them into an attention layer on purpose.
#pragma once

#include <cstdint>

#include "mcompress/ir.h"

namespace mcompress {

// No element is infinite or NaN as long as the inputs of the model are neither and nothing
// overflows. A floating input that gets here without a product on the way may be such a mask: false
// for it, and for whatever is not known.
bool is_finite(const Value* value);

// Each row along the axis (from the end: 1 is the last) holds a finite number, under the same
// conditions, and no row holds NaN or plus infinity: what is_finite, to which a constant may be
// added that masks a part of each row with minus infinity.
bool has_finite_rows(const Value* value, std::int64_t axis_from_end);

}  // namespace mcompress
