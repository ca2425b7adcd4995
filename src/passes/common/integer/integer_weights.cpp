#include "passes/common/integer/integer_weights.h"

#include <algorithm>

#include "ir/facts.h"
#include "numeric/kernels.h"
#include "passes/common/contrib/contrib.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

// How a reader takes integer weights: where its scale and zero point are, and how they lie.
struct Reading {
  const Value* scale = nullptr;  // null: steps are worth the same
  const Value* zero = nullptr;
  std::optional<std::int64_t> axis;  // of the scales, where there are several
  std::int64_t block = 0;            // weights that share one along that axis; 0: all
  std::int64_t packed_bits = 0;      // of MatMulNBits
  bool front = false;                // each scale is that of as many codes, one behind the other
  std::optional<std::uint8_t> table_zero = {};  // of halves of bytes that a table takes apart
};

// The data of a constant, or of one that a Cast stores in fewer bytes.
std::optional<Tensor> stored_constant(const Value* value) {
  if (const Node* cast = made_by(value, "Cast")) value = cast->input(0);
  return constant_of(value);
}

// What codes are multiplied with further on, where they are first cast to floats. `arithmetic`:
// they are numbers, not indices.
struct Behind {
  bool arithmetic = false;
  const Value* scale = nullptr;
};

const Value* constant_among(const Node& node) {
  for (const Value* input : node.inputs()) {
    if (stored_constant(input)) return input;
  }
  return nullptr;
}

Behind look_behind(const Node& node, std::uint32_t slot, bool arithmetic) {
  Behind behind{arithmetic, nullptr};
  constexpr int kDeepest = 8;
  const Node* at = &node;
  for (int depth = 0; depth < kDeepest; ++depth) {
    if (at->is("Mul")) {
      if (!behind.arithmetic) return behind;
      const Value* const other = at->input(1 - slot);
      const Node* const maker = other != nullptr ? other->producer() : nullptr;
      behind.scale = stored_constant(other) ? other
                     : maker != nullptr     ? constant_among(*maker)
                                            : nullptr;
      return behind;
    }
    if (at->is("Cast")) {
      const auto to = static_cast<DataType>(at->int_attribute("to", 0));
      behind.arithmetic = behind.arithmetic || to == DataType::kFloat || to == DataType::kFloat16;
    } else if (depth > 0 || !arithmetic) {
      const bool passes = at->is("Reshape") || at->is("Sub") || at->is("Gather");
      if (!passes || slot != 0) return behind;
    }
    const Value* const next = at->output(0);
    if (next->uses().size() != 1 || next->uses().front().node == nullptr) return behind;
    slot = next->uses().front().slot;
    at = next->uses().front().node;
  }
  return behind;
}

// Whether what is cast looks up both halves of each byte as numbers: the half that stands for 0.
std::optional<std::uint8_t> halves_table(const Node& cast) {
  if (!cast.is("Cast") || cast.output(0)->uses().size() != 1) return std::nullopt;
  const Use& use = cast.output(0)->uses().front();
  if (use.node == nullptr || !use.node->is("Gather") || use.slot != 1) return std::nullopt;
  const auto table = constant_of(use.node->input(0));
  const std::vector<std::int64_t> dims = {256, 2};
  if (!table || table->dtype() != DataType::kFloat || !std::ranges::equal(table->dims(), dims)) {
    return std::nullopt;
  }
  const auto numbers = read_floats(*table);
  if (!numbers.ok()) return std::nullopt;
  const float low = (*numbers)[0];
  for (std::size_t i = 0; i < 512; ++i) {
    const auto half = static_cast<float>(i / 2 >> (i % 2 * 4) & 15);
    if ((*numbers)[i] != half + low) return std::nullopt;
  }
  if (!(low <= 0 && low >= -15)) return std::nullopt;
  return static_cast<std::uint8_t>(-low);
}

std::optional<Reading> reading_of(const Use& use) {
  struct Known {
    std::string_view domain, type;
    std::uint32_t slot;
    int scale, zero;
    std::int64_t axis;  // of several scales
  };
  static constexpr Known kKnown[] = {
      {"", "QLinearConv", 3, 4, 5, 0},
      {"", "QLinearMatMul", 3, 4, 5, -1},
      {"", "ConvInteger", 1, -1, 3, 0},
      {"", "MatMulInteger", 1, -1, 3, -1},
      {kContribDomain, "DynamicQuantizeMatMul", 1, 2, 3, -1},
      {kContribDomain, "MatMulIntegerToFloat", 1, 3, 5, -1},
  };
  const Node& node = *use.node;
  const auto input = [&](int slot) -> const Value* {
    return slot < 0 ? nullptr : node.input(size_of(slot));
  };
  if (node.is("DequantizeLinear") && use.slot == 0) {
    return Reading{input(1), input(2), node.int_attribute("axis", 1),
                   node.int_attribute("block_size", 0)};
  }
  if (node.domain() == kContribDomain && node.op_type() == "MatMulNBits" && use.slot == 1) {
    Reading reading{input(2), input(3), 1, node.int_attribute("block_size", 0)};
    reading.packed_bits = node.int_attribute("bits", 4);
    // An order of the columns of its own: none that writes it is known here.
    if (node.input(4) != nullptr) return std::nullopt;
    return reading;
  }
  for (const Known& known : kKnown) {
    if (node.domain() == known.domain && node.op_type() == known.type && use.slot == known.slot) {
      Reading reading{input(known.scale), input(known.zero), known.axis};
      if (known.scale < 0) reading.scale = look_behind(node, use.slot, true).scale;
      return reading;
    }
  }
  if (const auto zero = halves_table(node)) {
    const Node& lookup = *node.output(0)->uses().front().node;
    const Value& codes = *lookup.output(0);
    Reading reading{nullptr, nullptr, std::nullopt, 0, 0, true, zero};
    if (codes.uses().size() == 1 && codes.uses().front().node != nullptr) {
      const Use& next = codes.uses().front();
      reading.scale = look_behind(*next.node, next.slot, true).scale;
    }
    return reading;
  }
  if (node.is("Cast") || (node.is("Gather") && use.slot == 0)) {
    const Behind behind = look_behind(node, use.slot, false);
    // By what stands at the front of their dimensions: a block, a row, or all.
    if (behind.arithmetic) return Reading{behind.scale, nullptr, std::nullopt, 0, 0, true};
  }
  return std::nullopt;
}

bool is_half(DataType type) { return type == DataType::kInt4 || type == DataType::kUint4; }
bool is_signed(DataType type) { return type == DataType::kInt4 || type == DataType::kInt8; }

// Stored codes as symbols from 0 on.
Result<std::vector<std::uint8_t>> symbols_of(const Tensor& tensor, std::size_t count, bool halves,
                                             std::uint8_t flip) {
  std::vector<std::uint8_t> symbols(count);
  MCOMPRESS_ASSIGN(const Pinned pin, tensor.storage()->pin(0, tensor.byte_size()));
  for (std::size_t e = 0; e < count; ++e) {
    const auto byte = std::to_integer<unsigned>(pin.bytes()[halves ? e / 2 : e]);
    const unsigned code = halves ? byte >> (e % 2 * 4) & 15 : byte;
    symbols[e] = static_cast<std::uint8_t>(code ^ flip);
  }
  return symbols;
}

// Dimensions to the left of an axis, along it, and to the right of it.
void lay_out(IntegerWeight& weight, std::span<const std::int64_t> dims, std::int64_t axis) {
  const auto rank = static_cast<std::int64_t>(dims.size());
  const std::int64_t at = axis < 0 ? axis + rank : axis;
  weight.axis = size_of(dims[size_of(at)]);
  weight.inner = 1;
  for (std::int64_t d = at + 1; d < rank; ++d) weight.inner *= size_of(dims[size_of(d)]);
}

// A depthwise convolution, or the first one: few weights, whose errors cost most.
std::string why_sensitive(const Node& node, const Tensor& tensor) {
  const Node* reader = &node;
  if (node.is("DequantizeLinear")) {
    reader = node.output(0)->uses().empty() ? nullptr : node.output(0)->uses().front().node;
  }
  if (reader == nullptr ||
      (!reader->is("Conv") && !reader->is("QLinearConv") && !reader->is("ConvInteger"))) {
    return {};
  }
  const auto dims = tensor.dims();
  if (dims.size() > 1 && dims[1] == 1 && reader->int_attribute("group", 1) > 1) {
    return "is that of a depthwise convolution, whose errors cost most";
  }
  const Value* data = reader->input(0);
  for (const std::string_view step : {"DequantizeLinear", "QuantizeLinear"}) {
    if (const Node* maker = made_by(data, step)) data = maker->input(0);
  }
  return data != nullptr && data->is_graph_input() ? "is that of the first convolution" : "";
}

std::string unknown_reader(const Node& node) {
  return "is not a quantized weight of " + std::string(node.op_type()) + " '" + node.label() + "'";
}

}  // namespace

Result<FoundIntegers> integer_weight(Value& value) {
  FoundIntegers found;
  const auto stays = [&](std::string why) {
    found.why = std::move(why);
    return found;
  };
  IntegerWeight weight;
  weight.value = &value;
  weight.tensor = *value.initializer();
  const DataType type = weight.tensor.dtype();
  std::optional<Reading> reading;
  for (const Use& use : value.uses()) {
    if (use.node == nullptr) return stays("is an output of the graph");
    const auto other = reading_of(use);
    weight.user = use.node;
    if (!other) return stays(unknown_reader(*use.node));
    if (reading && (other->scale != reading->scale || other->zero != reading->zero ||
                    other->axis != reading->axis || other->block != reading->block ||
                    other->table_zero != reading->table_zero)) {
      return stays("is read with different scales");
    }
    reading = other;
  }
  if (!reading) return stays("is not read");
  if (std::string why = why_sensitive(*weight.user, weight.tensor); !why.empty()) {
    return stays(std::move(why));
  }
  weight.halves = is_half(type) || reading->packed_bits == 4 || reading->table_zero;
  weight.flip = is_signed(type) ? (weight.halves ? 8 : 128) : 0;
  std::vector<std::int64_t> dims(weight.tensor.dims().begin(), weight.tensor.dims().end());
  std::uint8_t usual_zero = is_signed(type) ? weight.flip : 0;
  if (reading->packed_bits != 0) {
    if (dims.size() != 3 || type != DataType::kUint8 || reading->block <= 0 ||
        (reading->packed_bits != 4 && reading->packed_bits != 8)) {
      return stays("is packed in a way that is not known");
    }
    dims = {dims[0], dims[1] * reading->block};
    usual_zero = static_cast<std::uint8_t>(1 << (reading->packed_bits - 1));
    if (size_of(dims[0] * dims[1]) != weight.tensor.byte_size() * (weight.halves ? 2 : 1)) {
      return stays("is packed in a way that is not known");
    }
  }
  std::size_t count = 1;
  for (const std::int64_t d : dims) count *= size_of(d);
  if (reading->table_zero) {
    count *= 2;
    usual_zero = *reading->table_zero;
    weight.flip = 0;
  }
  MCOMPRESS_ASSIGN(weight.symbols, symbols_of(weight.tensor, count, weight.halves, weight.flip));

  weight.steps = {1};
  if (reading->scale != nullptr) {
    const auto scale = stored_constant(reading->scale);
    if (!scale) return stays("has a scale that is not constant");
    MCOMPRESS_ASSIGN(weight.steps, read_floats(*scale));
  }
  // Zero points of columns whose scale is not known.
  if (reading->scale == nullptr && reading->zero != nullptr) {
    const auto zero = constant_of(reading->zero);
    if (zero && zero->elements() > 1) weight.steps.assign(size_of(zero->elements()), 1);
  }
  std::size_t groups = 1;
  if (reading->front) {
    // Scales of something else than blocks or rows tell nothing.
    if (count % weight.steps.size() != 0) weight.steps = {1};
    groups = weight.axis = weight.steps.size();
    weight.inner = count / groups;
  } else if (weight.steps.size() > 1) {
    const auto rank = static_cast<std::int64_t>(dims.size());
    if (!reading->axis || *reading->axis >= rank || *reading->axis < -rank) {
      return stays("has scales that do not fit its dimensions");
    }
    lay_out(weight, dims, *reading->axis);
    weight.by_inner = reading->block > 0;
    weight.block = weight.by_inner ? size_of(reading->block) : 1;
    groups = (weight.axis + weight.block - 1) / weight.block;
    if (weight.by_inner) groups *= count / weight.axis;
  }
  if (groups != weight.steps.size()) return stays("has scales that do not fit its dimensions");
  if (!kernel::all_finite(weight.steps.data(), weight.steps.size())) {
    return stays("has scales that are not finite");
  }
  weight.zeros = {usual_zero};
  if (reading->zero != nullptr) {
    const auto zero = constant_of(reading->zero);
    if (!zero) return stays("has a zero point that is not constant");
    const bool packed = reading->packed_bits == 4;
    if (packed && zero->dtype() == DataType::kUint8) {
      // Rows of whole bytes.
      const std::size_t blocks = size_of(dims[1] / reading->block), row = (blocks + 1) / 2;
      MCOMPRESS_ASSIGN(const auto halves,
                       symbols_of(*zero, 2 * size_of(zero->elements()), true, 0));
      if (halves.size() != size_of(dims[0]) * row * 2)
        return stays("has zero points that do not fit");
      weight.zeros.clear();
      for (std::size_t n = 0; n < size_of(dims[0]); ++n) {
        const auto from = halves.begin() + static_cast<std::ptrdiff_t>(n * row * 2);
        weight.zeros.insert(weight.zeros.end(), from, from + static_cast<std::ptrdiff_t>(blocks));
      }
    } else if (zero->dtype() == type || zero->dtype() == DataType::kUint8) {
      MCOMPRESS_ASSIGN(weight.zeros, symbols_of(*zero, size_of(zero->elements()),
                                                is_half(zero->dtype()), weight.flip));
    } else {
      return stays("has zero points of another type");
    }
    if (weight.zeros.size() != 1 && weight.zeros.size() != weight.steps.size()) {
      return stays("has zero points that do not fit");
    }
  }
  const bool one = std::ranges::all_of(
      weight.zeros, [&](std::uint8_t zero) { return zero == weight.zeros.front(); });
  if (one) {
    weight.zeros.resize(1);
    weight.zero = weight.zeros.front();
  }
  found.weight = std::move(weight);
  return found;
}

Status measure_energies(const Model& model, std::vector<IntegerWeight>& weights,
                        std::int64_t samples, PassContext& context) {
  std::vector<UnitInput> inputs;
  std::vector<BlockUnit> units(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    IntegerWeight& weight = weights[i];
    const Node& user = *weight.user;
    if (user.graph().owner() != nullptr) continue;
    if (user.op_type() == "MatMulNBits") {
      const auto columns = size_of(user.int_attribute("K", 0));
      if (columns == 0 || user.input(0) == nullptr || user.input(0)->initializer() != nullptr) {
        continue;
      }
      inputs.push_back(
          {i, &user, std::string(user.input(0)->name()), LayerRows::of_vectors(columns), {}});
      weight.column_part = weight.symbols.size();
      weight.column_inner = size_of(weight.tensor.dims()[1] * user.int_attribute("block_size", 1));
      continue;
    }
    if (!user.is("DequantizeLinear")) continue;
    Value* const real = user.output(0);
    for (const Use& use : real->uses()) {
      if (use.node == nullptr) continue;
      const auto view = weight_view(*use.node, use.slot, weight.tensor.dims());
      if (!view) continue;
      BlockUnit unit;
      unit.holders.push_back({real, weight.tensor, row_view(*view, weight.tensor.dims()),
                              BlockUnit::Kind::kOther, BlockRule::Form::kFold, use.node});
      std::vector<UnitInput> seen = unit_inputs({unit});
      if (seen.empty()) break;
      seen.front().unit = i;
      inputs.push_back(std::move(seen.front()));
      weight.column_inner = size_of(view->inner);
      weight.column_part = size_of(view->channels) * weight.column_inner;
      break;
    }
  }
  MCOMPRESS_ASSIGN(auto energies, input_energies(model, inputs, weights.size(), samples, context));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    std::vector<float>& energy = energies[i];
    if (energy.empty()) continue;
    double mean = 0;
    for (const float h : energy) mean += double{h} / static_cast<double>(energy.size());
    constexpr double kLeast = 0.01;
    for (float& h : energy) h = std::max(h, static_cast<float>(kLeast * mean));
    // Rows of MatMulNBits are filled up to whole blocks.
    const std::size_t padded = weights[i].column_inner * weights[i].symbols.size();
    if (weights[i].user->op_type() == "MatMulNBits" && padded > 0) {
      energy.resize(weights[i].column_inner, static_cast<float>(kLeast * mean));
    }
    weights[i].energy = std::move(energy);
  }
  return ok_status();
}

Result<Tensor> with_symbols(const IntegerWeight& weight, const std::vector<std::uint8_t>& symbols,
                            TensorFactory& tensors) {
  const auto dims = weight.tensor.dims();
  return tensors.make(weight.tensor.dtype(), {dims.begin(), dims.end()},
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        const auto code = [&](std::size_t e) -> unsigned {
                          return e < symbols.size() ? symbols[e] ^ weight.flip : 0U;
                        };
                        for (std::size_t i = 0; i < out.size(); ++i) {
                          const std::size_t at = offset + i;
                          out[i] = static_cast<std::byte>(
                              weight.halves ? code(2 * at) | code(2 * at + 1) << 4 : code(at));
                        }
                        return ok_status();
                      });
}

}  // namespace mcompress
