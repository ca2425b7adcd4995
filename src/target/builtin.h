// The built-in targets, as the JSON a user's own target file would hold.
#pragma once

#include <array>
#include <string_view>

namespace mcompress {

// ONNX Runtime on x86-64 and ARM64 CPUs. The kinds follow its QDQ selectors: a weighted operator
// becomes QLinearConv, QGemm or QLinearMatMul; a binary one QLinearAdd or QLinearMul; a same-scale
// one drops its Q/DQ pair; an absorbed one disappears when the range of its output makes it
// redundant. Weights are scaled so that the 16-bit sums of AVX2 without VNNI can not saturate:
// the same file is then right on every CPU.
//
// Native operators: Gelu and the normalisations have kernels of their own. HardSwish and Mish are
// taken apart when a model is loaded, into just what stands in older models, so that they cost
// nothing but gain nothing either; Swish becomes one operator more than Sigmoid and Mul, and is not
// listed. Those of com.microsoft are what the runtime itself makes of a model on loading it, but
// for SkipLayerNormalization, which takes 4 to 8 times as long as Add and LayerNormalization
// (1.32).
inline constexpr std::string_view kOnnxRuntimeCpu = R"({
  "name": "onnxruntime-cpu",
  "description": "ONNX Runtime, CPU provider: AVX2, AVX-512, VNNI and ARM64",
  "per-channel": true,
  "signed-activations": false,
  "saturation-free-weights": true,
  "cost-model": true,
  "folds-weight-only": true,
  "min-weight-elements": 512,
  "operators": {
    "Conv": {"kind": "weighted", "since": 1},
    "Gemm": {"kind": "weighted", "since": 1},
    "MatMul": {"kind": "weighted", "since": 1},
    "Add": {"kind": "binary", "since": 7},
    "Concat": {"kind": "binary", "since": 4},
    "GlobalAveragePool": {"kind": "unary", "since": 1},
    "AveragePool": {"kind": "unary", "since": 1},
    "LeakyRelu": {"kind": "unary", "since": 6},
    "MaxPool": {"kind": "same-scale", "since": 12},
    "Reshape": {"kind": "same-scale", "since": 5},
    "Flatten": {"kind": "same-scale", "since": 1},
    "Transpose": {"kind": "same-scale", "since": 1},
    "Squeeze": {"kind": "same-scale", "since": 1},
    "Unsqueeze": {"kind": "same-scale", "since": 1},
    "Resize": {"kind": "same-scale", "since": 10},
    "Relu": {"kind": "absorbed", "since": 6},
    "Clip": {"kind": "absorbed", "since": 6}
  },
  "native": {
    "Gelu": {"since": 20, "worth-raising": true},
    "HardSigmoid": {"since": 6},
    "HardSwish": {"since": 14},
    "LayerNormalization": {"since": 17, "worth-raising": true},
    "Mish": {"since": 18},
    "RMSNormalization": {"since": 23},
    "com.microsoft:BiasGelu": {"since": 1},
    "com.microsoft:FastGelu": {"since": 1},
    "com.microsoft:FusedConv": {"since": 1, "activations":
      ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Clip", "HardSwish"]},
    "com.microsoft:FusedGemm": {"since": 1, "activations":
      ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "Softplus", "Softsign"]},
    "com.microsoft:FusedMatMul": {"since": 1},
    "com.microsoft:Gelu": {"since": 1},
    "com.microsoft:QuickGelu": {"since": 1}
  }
})";

// Plain QDQ for tools that place their own kernels: every listed operator is quantized, whatever
// it costs on one machine.
inline constexpr std::string_view kGenericQdq = R"({
  "name": "generic-qdq",
  "description": "portable QDQ form for runtimes with their own integer kernels",
  "per-channel": true,
  "signed-activations": true,
  "saturation-free-weights": false,
  "cost-model": false,
  "folds-weight-only": false,
  "min-weight-elements": 64,
  "operators": {
    "Conv": {"kind": "weighted", "since": 1},
    "Gemm": {"kind": "weighted", "since": 1},
    "MatMul": {"kind": "weighted", "since": 1},
    "Add": {"kind": "binary", "since": 7},
    "GlobalAveragePool": {"kind": "unary", "since": 1},
    "AveragePool": {"kind": "unary", "since": 1},
    "MaxPool": {"kind": "same-scale", "since": 12},
    "Reshape": {"kind": "same-scale", "since": 5},
    "Flatten": {"kind": "same-scale", "since": 1},
    "Transpose": {"kind": "same-scale", "since": 1},
    "Relu": {"kind": "absorbed", "since": 6},
    "Clip": {"kind": "absorbed", "since": 6}
  },
  "native": {
    "Gelu": {"since": 20},
    "HardSigmoid": {"since": 6},
    "HardSwish": {"since": 14},
    "LayerNormalization": {"since": 17},
    "Mish": {"since": 18},
    "RMSNormalization": {"since": 23},
    "Swish": {"since": 24}
  }
})";

inline constexpr std::array<std::string_view, 2> kBuiltinTargets = {kOnnxRuntimeCpu, kGenericQdq};

}  // namespace mcompress
