// Targets: what a runtime on a kind of machine executes in integers, what it executes slowly or
// wrongly, and which merged operators it has kernels for, as data. docs/targets.md describes the
// files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/dtype.h"
#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress {

// A case in which a node of an operator does not run in integers although the operator does. All
// conditions that are set have to hold.
struct TargetCase {
  enum class Verdict : std::uint8_t {
    kMissing,  // the runtime has no kernel for it, or does not recognise the form
    kSlow,     // runs, slower than in float32
    kWrong,    // runs, with results that are not those of the operator
  };
  std::string id;  // names the rule in reasons: "few-input-channels"
  Verdict verdict = Verdict::kMissing;
  std::string why;      // one clause that fits behind the node: "has few input channels: ..."
  std::string instead;  // what is done about it, or what a user can do; may be empty
  std::string source;   // document, measurement, or "not verified"
  // Versions of the runtime concerned: "<1.17", ">=1.29 <1.31"; empty: all.
  std::string versions;

  // --- conditions
  // Ranks of the first input. A rank that is not known counts as outside.
  std::vector<std::int64_t> ranks_other_than;
  std::vector<std::int64_t> weight_ranks_other_than;
  std::optional<std::int64_t> input_channels_at_most;  // of Conv and ConvTranspose, per group
  std::optional<std::int64_t> weights_at_most;         // elements of the weight
  std::optional<std::int64_t> kernel_at_least;         // largest spatial size of the kernel
  std::optional<bool> grouped;                         // group above 1, depthwise included
  std::optional<bool> depthwise;                       // one input channel per group, group above 1
  std::optional<bool> has_bias;                        // third input
  std::optional<bool> constant_operand;                // an input is an initializer
  std::optional<bool> open_shape;                      // the first input's shape is not all known
  // Attributes: any of them is there and is, or is not, one of the values. One that is left out
  // never matches.
  std::vector<std::pair<std::string, Datum>> attributes, attributes_other_than;
};

// What the target does with one operator in static quantization.
struct OperatorRule {
  enum class Kind : std::uint8_t {
    kWeighted,   // one constant weight becomes int8, activation in, activation out
    kBinary,     // all inputs and the output quantized, one type
    kSameScale,  // moves or selects elements: input and output share scale and zero point
    kUnary,      // own integer kernel with its own output range
    kAbsorbed,   // activation that the output range of its producer makes redundant
    kFused,      // becomes part of its neighbours by itself: no Q/DQ around it
    kFloat,      // never in integers; `why` says what happens to Q/DQ around it
  };
  std::string op_type;
  Kind kind = Kind::kWeighted;
  std::int64_t since = 1;           // smallest opset at which the form is recognised
  std::optional<bool> per_channel;  // of the weight; empty: as the target has it
  bool skip_operand_only = false;   // of a residual Add only the branch that skips is quantized
  // Where its input is restored from codes and its result quantized, the runtime rounds a float32
  // weight to int8 by itself, with one scale for the whole tensor.
  bool rounds_float_weights = false;
  std::vector<std::string> kernels;  // what the runtime makes of it: "com.microsoft:QLinearAdd"
  std::vector<TargetCase> cases;
  std::string why, source;

  // Whether Q/DQ may stand around it.
  bool quantizes() const { return kind < Kind::kAbsorbed; }
};

// An operator whose weights are integers and whose activations are quantized on every run.
struct DynamicRule {
  std::string op_type;
  std::string form;  // "MatMulInteger", "com.microsoft:DynamicQuantizeLSTM"
  std::int64_t since = 11;
  bool per_channel = true;
  std::vector<std::string> kernels;
  std::vector<TargetCase> cases;
  std::string why, source;
};

// Weights stored in integers and computed with in float32.
struct WeightOnlyRule {
  enum class Form : std::uint8_t {
    kFold,        // Cast and Mul, computed once when the model is loaded
    kDequantize,  // DequantizeLinear on the weight
    kLookup,      // of embedding tables: Gather of codes, Cast, and Mul with the gathered scales
    kNone,        // the runtime has no use for them
  };
  Form form = Form::kDequantize;
  Form embeddings = Form::kDequantize;  // of tables that a Gather reads row by row
  std::vector<DataType> types = {DataType::kInt8, DataType::kUint8};
  std::string why, source;
  bool takes(DataType type) const;
};

// Weights of 2, 4 or 8 bits with a scale for each block of neighbours, stored so and computed with
// in float32.
struct BlockRule {
  enum class Form : std::uint8_t {
    kMatMulNBits,  // com.microsoft:MatMulNBits, for products
    kGatherBlock,  // com.microsoft:GatherBlockQuantized, for tables
    kDequantize,   // DequantizeLinear of 4-bit types, blocked from opset 21 on
    kFold,         // unpacked, scaled and shaped by operators that are computed at load
    kNone,
  };
  Form products = Form::kDequantize;  // MatMul and Gemm with the weight on the right
  Form tables = Form::kDequantize;    // read by Gather row by row
  Form others = Form::kDequantize;    // Conv, recurrent operators and the rest
  std::vector<std::int64_t> bits = {4, 8};
  std::vector<std::int64_t> block_sizes;  // that its operators take; empty: any
  bool symmetric = false;                 // no zero points but the middle
  std::int64_t accuracy_level = 0;        // of MatMulNBits: 4 computes in int8
  std::int64_t min_product_elements = 0;  // smaller products take the form of `others`
  std::string why, source;
};

// Arithmetic in 16-bit floats, and weights stored in floats of 16 or 8 bits.
struct LowFloatRule {
  enum class Compute : std::uint8_t {
    kFast,  // kernels of their own
    kSlow,  // runs, slower than in float32
    kNone,  // does not run
  };
  Compute compute = Compute::kNone;  // in float16
  // Operators without a kernel get casts around them from the runtime; else they do not run.
  bool casts_by_itself = false;
  // Those with kernels, as "Conv" or "com.microsoft:Gelu"; "*": all.
  std::vector<std::string> operators, bfloat16_operators;
  // Stored weights for which Cast to float32 is computed once, when the model is loaded.
  std::vector<DataType> storage = {DataType::kFloat16};
  std::string why, source;
  bool stores(DataType type) const;
  // `name` as in `operators`; `type`: float16 or bfloat16.
  bool has_kernel(std::string_view name, DataType type) const;
};

// A form that the writer never emits for the target, and what it writes in its place.
struct AvoidedForm {
  std::string form, versions, what, instead, source;
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

// What kernels take on one thread, for deciding between float32 and integers: nanoseconds, and for
// arithmetic multiplications per nanosecond. Nothing is predicted with it, only compared.
struct KernelCosts {
  double node = 1500;  // one more node to run
  // Per element at a border of the integers; `layout` comes to both for images, whose float32
  // kernels keep blocks of channels.
  double quantize = 0.25, dequantize = 0.15, layout = 0.15;
  // Multiplications per nanosecond: convolutions of images in blocks, depthwise ones with kernels
  // of up to nine weights and with larger ones, products and all other convolutions.
  double float_convolution = 36, float_depthwise = 13, float_large_depthwise = 20;
  double float_product = 32;
  double integer_depthwise = 10, integer_large_depthwise = 16, integer_product = 65;
  // Convolutions that are not of images gather columns in float32: per element, and per group for
  // the call of a product of its own.
  double float_column = 0.12, float_group = 160;
  // Integer convolutions, per position and group: a row of the product, what groups add to it and
  // each tap of their kernel, whose channels are copied by themselves, and what fewer than 16
  // channels of the input add, with each result.
  double integer_row = 4, integer_group = 6, integer_copy = 3.5;
  double integer_narrow = 8, integer_narrow_result = 0.3;
  // Per result of integer products, and where few rows leave nothing to share.
  double integer_result = 0.3, integer_single_result = 2;
  // Per weight of products of a few rows, where reading the weight is the work.
  double float_weight = 0.1, integer_weight = 0.05;
};

class Target {
 public:
  std::string name;
  std::string description;
  std::string extends;          // the target that its file builds on; for display
  std::string runtime;          // what executes it: "onnxruntime" can be asked for its kernels
  std::string runtime_version;  // empty: any; cases of all versions hold
  std::vector<OperatorRule> rules;
  bool per_channel = true;
  bool signed_activations = false;     // activations int8 instead of uint8
  bool symmetric_activations = false;  // zero point 0; goes with int8
  bool float_biases = false;           // biases stay float32 instead of int32 at s(x) * s(W)
  // Q/DQ stands only where an integer operator reads; else at both ends of integer islands.
  bool quantize_inputs_only = false;
  // Weights scaled so that sums of two int8 x uint8 products fit 16 bits (AVX2 without VNNI).
  bool saturation_free_weights = false;
  // Operators that would run slower in integers stay float32.
  bool cost_model = false;
  KernelCosts costs;  // counts with cost_model only
  // Constant Cast and Mul in front of a weight are computed once, when the model is loaded.
  bool folds_weight_only = false;
  // Weighted operators below these sizes run slower in integers than in float32.
  std::int64_t min_weight_elements = 0;
  std::vector<DataType> weight_types = {DataType::kInt8};  // of weighted operators
  std::string rounding = "half-to-even";                   // of QuantizeLinear there
  std::string saturation;                                  // how sums behave, in words
  std::vector<std::string> notes;
  std::string source;  // where the facts come from, unless a rule names its own

  const OperatorRule* find(std::string_view op_type) const;
  std::vector<DynamicRule> dynamic;
  const DynamicRule* find_dynamic(std::string_view op_type) const;
  WeightOnlyRule weight_only;
  BlockRule blocks;
  LowFloatRule low_float;
  std::vector<AvoidedForm> avoided;
  std::vector<NativeOperator> natives;
  // Null: the target takes the operator apart, has no kernel for it or runs it slower.
  const NativeOperator* native(std::string_view op_type, std::string_view domain = {}) const;
  // Whether `versions` of a case covers the runtime's version, or the target names none.
  bool concerns(std::string_view versions) const;
  bool takes_weights(DataType type) const;

  // Reads a target; "extends" names another one, whose maps are merged with this one's key by
  // key: lists and scalars replace, null removes. Unknown keys and wrong types fail with kUsage at
  // line and column, with the nearest known name.
  static Result<Target> from_datum(const Datum& datum);
  // from_datum(to_datum()) gives the same target; "extends" is resolved.
  Datum to_datum() const;
  // Of everything it says.
  std::uint64_t digest() const;
};

std::string_view kind_name(OperatorRule::Kind kind);         // "same-scale"
std::string_view verdict_name(TargetCase::Verdict verdict);  // "slow"
std::string_view block_form_name(BlockRule::Form form);      // "matmul-nbits"

// Null: no such target.
const Target* find_target(std::string_view name);
std::vector<const Target*> all_targets();
// The usage error about a name that find_target() does not know, with the nearest one.
Error unknown_target(std::string_view name, Location where);
// "onnxruntime-cpu".
const Target& default_target();

// Whether a text given for a target names a file: it ends in .json, .yaml or .yml.
bool is_target_file(std::string_view text);
// A user's own target. Fails with kUsage: unreadable, or as from_datum() does.
Result<Target> load_target(const std::filesystem::path& path);

}  // namespace mcompress
