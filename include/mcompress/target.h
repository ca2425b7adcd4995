// Targets: what a runtime on a kind of machine executes in integers, and which operators it has
// kernels for, as data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress {

// What the target does with one operator in static quantization.
struct OperatorRule {
  enum class Kind : std::uint8_t {
    kWeighted,   // one constant weight becomes int8, activation in, activation out
    kBinary,     // all inputs and the output quantized, one type
    kSameScale,  // moves or selects elements: input and output share scale and zero point
    kUnary,      // own integer kernel with its own output range
    kAbsorbed,   // activation that the output range of its producer makes redundant
  };
  std::string op_type;
  Kind kind = Kind::kWeighted;
  std::int64_t since = 1;  // smallest opset at which the form is recognised
};

// An operator that the target runs at least as fast as the operators it stands for.
struct NativeOperator {
  std::string domain;  // "": the default one
  std::string op_type;
  std::int64_t since = 1;      // smallest opset of the domain that has it
  bool worth_raising = false;  // so much faster that a model should move to that opset for it
  std::vector<std::string> activations;  // those that the kernel applies to its own result
  bool applies(std::string_view activation) const;
};

class Target {
 public:
  std::string name;
  std::string description;
  std::vector<OperatorRule> rules;
  bool per_channel = true;
  bool signed_activations = false;  // activations int8 instead of uint8
  // Weights scaled so that sums of two int8 x uint8 products fit 16 bits (AVX2 without VNNI).
  bool saturation_free_weights = false;
  // Operators that would run slower in integers stay float32.
  bool cost_model = false;
  // Constant Cast and Mul in front of a weight are computed once, when the model is loaded.
  bool folds_weight_only = false;
  // Weighted operators below these sizes run slower in integers than in float32.
  std::int64_t min_weight_elements = 0;
  const OperatorRule* find(std::string_view op_type) const;
  std::vector<NativeOperator> natives;
  // Null: the target takes the operator apart, has no kernel for it or runs it slower.
  const NativeOperator* native(std::string_view op_type, std::string_view domain = {}) const;

  static Result<Target> from_datum(const Datum& datum);
};

// Null: no such target.
const Target* find_target(std::string_view name);
std::vector<const Target*> all_targets();
// The usage error about a name that find_target() does not know, with the nearest one.
Error unknown_target(std::string_view name, Location where);
// "onnxruntime-cpu".
const Target& default_target();

}  // namespace mcompress
