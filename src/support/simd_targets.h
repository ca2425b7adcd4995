// What stands before Highway in each source of kernels. Scalable vectors can not be kept in arrays
// or structs, and their lane count could exceed fixed lanes; such machines use their fixed-width
// instruction set.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
