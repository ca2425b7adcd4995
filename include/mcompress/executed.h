// What a runtime really makes of a quantized model: which of the nodes that were meant to run in
// integers do.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"
#include "mcompress/target.h"

namespace mcompress {

// A node that stands between Q/DQ as the target wants it, and that the runtime executes in float32.
struct FloatIsland {
  std::string node, op_type;
  std::string kernel;  // what runs in its place: "Conv", "com.microsoft:FusedConv"
  std::string why;     // "its Q/DQ pairs were not fused: 2 of its inputs are dequantized on every
                       // run"
};

struct IntegerKernels {
  // Nodes between Q/DQ that the target runs in integers, MatMulInteger and DynamicQuantizeLSTM.
  std::int64_t planned = 0;
  std::int64_t integer = 0;               // of those, executed in integers or gone
  std::vector<FloatIsland> stayed_float;  // in the graph's order
  std::vector<std::pair<std::string, std::int64_t>> kernels;  // integer ones, by name
  std::int64_t quantizes = 0, dequantizes = 0;                // conversions on every run
};

// Opens the model as an application would (all optimisations), looks at the graph that the runtime
// then executes, and finds each planned node in it: by its name, which the runtime keeps through
// fusion, or by its result. Nothing is run. A difference is a mistake in the target's rules. Fails
// as Runtime::open does, or with kUnsupported when the runtime can not write its graph.
Result<IntegerKernels> count_integer_kernels(Runtime& runtime, const Model& written,
                                             const Target& target);

// The comparison itself. `executed` is the runtime's own graph.
IntegerKernels compare_with_executed(const Model& written, const Model& executed,
                                     const Target& target);

}  // namespace mcompress
