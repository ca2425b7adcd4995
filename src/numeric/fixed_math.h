// Transcendental functions made of IEEE additions, multiplications and divisions only: the same
// digits on every machine, which the C library does not promise. Compile with -ffp-contract=off.
#pragma once

namespace mcompress {

// log2 of a positive normal finite number; error below 1e-15 absolute plus one rounding.
double fixed_log2(double x);

}  // namespace mcompress
