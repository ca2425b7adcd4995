// What can be told of infinities: masks bring them into an attention layer on purpose.
#pragma once

#include <cstdint>

#include "mcompress/ir.h"

namespace mcompress {

// Of float32: no element is infinite or NaN as long as the inputs of the model are neither and what
// it computes in products stays below 1e30. A floating input that gets here without a product on
// the way may be a mask of infinities: false for it, and for whatever is not known. Two masks of
// the lowest number that are added may become infinite.
bool is_finite(const Value* value);

// Each row along the axis (from the end: 1 is the last) holds a finite number, under the same
// conditions, and no row holds NaN or plus infinity: what is_finite, to which a constant may be
// added that masks a part of each row with minus infinity.
bool has_finite_rows(const Value* value, std::int64_t axis_from_end);

}  // namespace mcompress
