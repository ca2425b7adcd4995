// The per-layer table of Deep Compression, from the report of a run.
#pragma once

#include "console.h"
#include "mcompress/options.h"

namespace mcompress::tools {

// One line for each weight that was clustered and entropy-coded in the same run, and their sum:
// weights, share that is kept, bits of an index before and after Huffman coding, bits of a
// distance (of sparse weights, for each one that is kept), bytes, the bytes of the entropy, and the
// share of float32. Empty where no weight was both.
Table layer_table(const Datum& facts);

}  // namespace mcompress::tools
