#include "passes/common/prune/sparse_storage.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Bytes that a node or an initializer costs in the file beside its data, names included; and how
// many a form has.
constexpr std::uint64_t kNodeBytes = 90;
constexpr std::uint64_t kBitmaskNodes = 11, kGapNodes = 8;
constexpr std::int64_t kOpset = 11;  // CumSum, ScatterElements
constexpr std::int64_t kByteBits = 8;
constexpr std::int64_t kLargestGap = 255;
constexpr std::int64_t kFloatType = 1, kInt32Type = 6;

// visit(position, number) for every number that is not 0, in order.
template <class Visit>
Status each_number(const Tensor& weights, Visit&& visit) {
  constexpr std::size_t kChunk = std::size_t{1} << 16;
  return read_as_float(weights, kChunk, [&](std::int64_t first, std::span<const float> part) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (part[i] != 0.0F) visit(first + static_cast<std::int64_t>(i), part[i]);
    }
  });
}

class SparseEmitter {
 public:
  SparseEmitter(Value& value, PassContext& context)
      : value_(value),
        context_(context),
        graph_(value.graph()),
        anchor_(*graph_.first()),
        base_(value.name()),
        tensor_(*value.constant()) {}

  Status bitmask() {
    const std::int64_t count = tensor_.elements();
    const std::int64_t bytes = (count + kByteBits - 1) / kByteBits;
    std::vector<std::byte> bits(static_cast<std::size_t>(bytes));
    std::vector<float> numbers = {0.0F};  // what is looked up where no bit is set
    MCOMPRESS_TRY(each_number(tensor_, [&](std::int64_t at, float number) {
      bits[static_cast<std::size_t>(at / kByteBits)] |=
          static_cast<std::byte>(1U << static_cast<unsigned>(at % kByteBits));
      numbers.push_back(number);
    }));
    Value* const packed =
        initializer("_bits", make_bytes_tensor(DataType::kUint8, {bytes, 1}, std::move(bits)));
    Value* const values = initializer("_values", floats(numbers));
    Value* bit = cast(packed);
    std::vector<std::int32_t> powers;
    powers.reserve(kByteBits);
    for (int i = 0; i < kByteBits; ++i) powers.push_back(1 << i);
    bit = node("Div", {bit, initializer("_powers", make_int32_tensor(powers, {kByteBits}))});
    bit = node("Mod",
               {bit, initializer("_two", make_int32_tensor(std::array{std::int32_t{2}}, {1}))});
    bit = node("Reshape", {bit, ints("_flat", {-1})});
    if (bytes * kByteBits != count) {
      bit = node("Slice", {bit, ints("_first", {0}), ints("_count", {count})});
    }
    Value* const rank = node("CumSum", {bit, axis()});
    Value* const place = node("Mul", {rank, bit});
    return finish(node("Gather", {values, place}));
  }

  Status gaps() {
    std::vector<std::byte> steps;
    std::vector<float> numbers;
    std::int64_t last = 0;
    MCOMPRESS_TRY(each_number(tensor_, [&](std::int64_t at, float number) {
      for (; at - last > kLargestGap; last += kLargestGap) {
        steps.push_back(static_cast<std::byte>(kLargestGap));
        numbers.push_back(0);
      }
      steps.push_back(static_cast<std::byte>(at - last));
      numbers.push_back(number);
      last = at;
    }));
    // Nothing but zeros: one is written where one is.
    if (steps.empty()) {
      steps.push_back(std::byte{0});
      numbers.push_back(0);
    }
    const auto count = static_cast<std::int64_t>(steps.size());
    Value* const packed =
        initializer("_gaps", make_bytes_tensor(DataType::kUint8, {count}, std::move(steps)));
    Value* const values = initializer("_values", floats(numbers));
    Value* const place = node("CumSum", {cast(packed), axis()});
    Value* const zeros = node("ConstantOfShape", {ints("_size", {tensor_.elements()})});
    return finish(node("ScatterElements", {zeros, place, values}));
  }

 private:
  static Tensor floats(const std::vector<float>& numbers) {
    return make_float_tensor(numbers, {static_cast<std::int64_t>(numbers.size())});
  }
  Value* initializer(std::string_view suffix, Tensor tensor) {
    return &context_.edit().add_initializer(graph_, base_ + std::string(suffix), std::move(tensor));
  }
  Value* ints(std::string_view suffix, const std::vector<std::int64_t>& numbers) {
    return initializer(suffix,
                       make_int64_tensor(numbers, {static_cast<std::int64_t>(numbers.size())}));
  }
  Value* axis() { return initializer("_axis", make_int64_tensor(std::array{std::int64_t{0}}, {})); }
  Value* node(std::string_view op_type, std::vector<Value*> inputs) {
    NewNode made;
    made.op_type = op_type;
    made.inputs = std::move(inputs);
    made.base_name = base_ + "_sparse";
    return context_.edit().insert_before(anchor_, std::move(made)).output(0);
  }
  Value* cast(Value* from) {
    Value* const to = node("Cast", {from});
    context_.edit().set_attribute(*to->producer(), attribute("to", kInt32Type));
    return to;
  }

  Status finish(Value* flat) {
    const std::vector<std::int64_t> dims(tensor_.dims().begin(), tensor_.dims().end());
    Value* const shaped = node("Reshape", {flat, ints("_shape", dims)});
    context_.edit().set_type(*shaped, type_of(dims), false);
    MCOMPRESS_TRY(context_.edit().replace_all(value_, *shaped));
    return context_.edit().erase_initializer(value_);
  }
  static TypeInfo type_of(const std::vector<std::int64_t>& dims) {
    TypeInfo type;
    type.element = static_cast<DataType>(kFloatType);
    type.shape.emplace();
    for (const std::int64_t dim : dims) type.shape->push_back({dim, {}});
    return type;
  }

  Value& value_;
  PassContext& context_;
  Graph& graph_;
  Node& anchor_;
  std::string base_;
  Tensor tensor_;
};

}  // namespace

const char* sparse_form_name(SparseForm form) {
  switch (form) {
    case SparseForm::kBitmask:
      return "bitmask";
    case SparseForm::kGaps:
      return "gaps";
    default:
      return "dense";
  }
}

std::uint64_t SparseBytes::of(SparseForm form) const {
  return form == SparseForm::kBitmask ? bitmask : form == SparseForm::kGaps ? gaps : dense;
}

SparseForm SparseBytes::smallest() const {
  if (bitmask < dense && bitmask <= gaps) return SparseForm::kBitmask;
  return gaps < dense ? SparseForm::kGaps : SparseForm::kDense;
}

Result<SparseBytes> sparse_bytes(const Tensor& weights) {
  std::int64_t stored = 0, split = 0, last = 0;
  MCOMPRESS_TRY(each_number(weights, [&](std::int64_t at, float) {
    ++stored;
    if (at > last) split += (at - last - 1) / kLargestGap;
    last = at;
  }));
  SparseBytes bytes;
  bytes.zeros = weights.elements() - stored;
  bytes.dense = weights.byte_size();
  const auto numbers = static_cast<std::uint64_t>(stored);
  bytes.bitmask = static_cast<std::uint64_t>(weights.elements() + kByteBits - 1) / kByteBits +
                  sizeof(float) * (numbers + 1) + kBitmaskNodes * kNodeBytes;
  bytes.gaps =
      (sizeof(float) + 1) * (numbers + static_cast<std::uint64_t>(split)) + kGapNodes * kNodeBytes;
  return bytes;
}

std::string why_not_sparse(const Model& model, const Target& target) {
  if (!target.folds_weight_only) {
    return "target '" + target.name +
           "' does not compute constants when it loads a model: weights would be restored on "
           "every run";
  }
  if (model.opset("") < kOpset) {
    return "the operators that restore weights need opset " + std::to_string(kOpset) +
           ", the model has " + std::to_string(model.opset(""));
  }
  return {};
}

Status store_sparse(Value& value, SparseForm form, PassContext& context) {
  if (form == SparseForm::kDense) return ok_status();
  modernise_initializers(value.graph().model(), context);
  SparseEmitter emitter(value, context);
  return form == SparseForm::kBitmask ? emitter.bitmask() : emitter.gaps();
}

Result<std::int64_t> unfolded_operators(Runtime& runtime, const Model& before, const Model& model) {
  const auto count = [&](const Model& of) -> Result<std::int64_t> {
    SessionOptions options;
    options.prepack = false;
    MCOMPRESS_ASSIGN(const auto operators, runtime.executed_operators(of, options));
    std::int64_t total = 0;
    for (const auto& [name, times] : operators) {
      const std::string_view op(name);
      if (op.ends_with("CumSum") || op.ends_with("ScatterElements")) total += times;
    }
    return total;
  };
  MCOMPRESS_ASSIGN(const std::int64_t now, count(model));
  if (now == 0) return now;
  MCOMPRESS_ASSIGN(const std::int64_t then, count(before));
  return std::max<std::int64_t>(now - then, 0);
}

}  // namespace mcompress
