#include "calibration/feed.h"

#include <algorithm>
#include <concepts>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

#include "calibration/npy_array.h"
#include "ir/convert.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

struct Float16 {
  std::uint16_t bits;
};
struct Bfloat16 {
  std::uint16_t bits;
};
struct Bool {
  std::uint8_t byte;
};
template <class T>
struct Element {
  using Type = T;
};

// Calls `use` with the C++ type of a data type; false for types without one.
template <class F>
bool with_type(DataType type, F&& use) {
  switch (type) {
    case DataType::kFloat:
      use(Element<float>());
      return true;
    case DataType::kDouble:
      use(Element<double>());
      return true;
    case DataType::kFloat16:
      use(Element<Float16>());
      return true;
    case DataType::kBfloat16:
      use(Element<Bfloat16>());
      return true;
    case DataType::kInt8:
      use(Element<std::int8_t>());
      return true;
    case DataType::kInt16:
      use(Element<std::int16_t>());
      return true;
    case DataType::kInt32:
      use(Element<std::int32_t>());
      return true;
    case DataType::kInt64:
      use(Element<std::int64_t>());
      return true;
    case DataType::kUint8:
      use(Element<std::uint8_t>());
      return true;
    case DataType::kUint16:
      use(Element<std::uint16_t>());
      return true;
    case DataType::kUint32:
      use(Element<std::uint32_t>());
      return true;
    case DataType::kUint64:
      use(Element<std::uint64_t>());
      return true;
    case DataType::kBool:
      use(Element<Bool>());
      return true;
    default:
      return false;
  }
}

template <class T>
constexpr bool kFloating =
    std::floating_point<T> || std::same_as<T, Float16> || std::same_as<T, Bfloat16>;

// The number an element stands for: an integer stays one, a float becomes a float or double.
template <class T>
auto number(T element) {
  if constexpr (std::same_as<T, Float16>) {
    return float16_to_float(element.bits);
  } else if constexpr (std::same_as<T, Bfloat16>) {
    return bfloat16_to_float(element.bits);
  } else if constexpr (std::same_as<T, Bool>) {
    return static_cast<std::uint8_t>(element.byte != 0 ? 1 : 0);
  } else {
    return element;
  }
}

template <class T>
T float_element(double value) {
  if constexpr (std::same_as<T, Float16>) {
    return {float_to_float16(static_cast<float>(value), Overflow::kOverflow)};
  } else if constexpr (std::same_as<T, Bfloat16>) {
    return {float_to_bfloat16(static_cast<float>(value), Overflow::kOverflow)};
  } else {
    return static_cast<T>(value);
  }
}

Error does_not_fit(std::string value, DataType to) {
  return {Code::kInput, "data-value-range",
          "the value " + std::move(value) + " does not fit into " + dtype_name(to)};
}

template <class From, class To>
Status convert_all(std::span<const std::byte> in, std::span<std::byte> out,
                   const std::optional<Affine>& affine, DataType to) {
  const std::size_t count = in.size() / sizeof(From);
  for (std::size_t i = 0; i < count; ++i) {
    From element;
    std::memcpy(&element, in.data() + i * sizeof(From), sizeof(From));
    const auto value = number(element);
    To result{};
    if constexpr (kFloating<To>) {
      if (affine) {
        const float product = static_cast<float>(value) * affine->scale;
        result = float_element<To>(product + affine->bias);
      } else {
        result = float_element<To>(static_cast<double>(value));
      }
    } else if constexpr (!kFloating<From>) {
      if constexpr (std::same_as<To, Bool>) {
        if (value != 0 && value != 1) return does_not_fit(std::to_string(value), to);
        result.byte = static_cast<std::uint8_t>(value);
      } else {
        if (!std::in_range<To>(value)) return does_not_fit(std::to_string(value), to);
        result = static_cast<To>(value);
      }
    }
    std::memcpy(out.data() + i * sizeof(To), &result, sizeof(To));
  }
  return ok_status();
}

std::size_t element_bytes(DataType type) {
  std::size_t bytes = 0;
  with_type(type, [&](auto element) { bytes = sizeof(typename decltype(element)::Type); });
  return bytes;
}

std::string dim_text(const Dim& dim) {
  if (dim.size) return std::to_string(*dim.size);
  return dim.symbol.empty() ? "?" : dim.symbol;
}

bool fits(const Dim& dim, std::int64_t size) { return !dim.size || *dim.size == size; }

// "try transpose(0, 3, 1, 2)" when a reordering of the sample's axes fits the input.
std::string transpose_hint(std::span<const Dim> wanted, std::span<const std::int64_t> sample,
                           bool skip_first) {
  const std::size_t rank = wanted.size();
  if (rank != sample.size() || rank < 2 || rank > 6) return {};
  std::vector<std::size_t> order(rank);
  std::iota(order.begin(), order.end(), 0);
  const auto first = order.begin() + (skip_first ? 1 : 0);
  while (std::next_permutation(first, order.end())) {
    bool all = true;
    for (std::size_t i = skip_first ? 1 : 0; i < rank && all; ++i) {
      all = fits(wanted[i], sample[order[i]]);
    }
    if (!all) continue;
    std::string text = "the axes look transposed: save array.transpose(";
    for (std::size_t i = 0; i < rank; ++i) text += (i > 0 ? ", " : "") + std::to_string(order[i]);
    return text + ")";
  }
  return {};
}

Error wrong_shape(const PortInfo& port, std::span<const std::int64_t> dims, std::string hint) {
  Location where;
  where.subject = port.name;
  return {Code::kInput, "data-shape",
          "the data has shape " + shape_text(dims) + ", the model's input " + shape_text(port.type),
          std::move(where), std::move(hint)};
}

}  // namespace

Result<ElementConversion> ElementConversion::make(DataType from, DataType to,
                                                  const std::optional<Affine>& affine,
                                                  std::string* note) {
  ElementConversion result;
  result.from_ = from;
  result.to_ = to;
  result.affine_ = affine;
  result.from_bytes_ = element_bytes(from);
  result.to_bytes_ = element_bytes(to);
  const std::string facts =
      "the data is " + dtype_name(from) + ", the model's input " + dtype_name(to);
  if (result.from_bytes_ == 0 || result.to_bytes_ == 0) {
    return Error(Code::kUnsupported, "data-type", facts);
  }
  const DTypeInfo& source = *find_dtype(from);
  const DTypeInfo& target = *find_dtype(to);
  if (affine) {
    if (target.floating) return result;
    return Error(Code::kInput, "data-type",
                 "scale and bias make floats, the model's input is " + dtype_name(to));
  }
  if (from == to) return result;
  if (source.floating && !target.floating) {
    return Error(Code::kInput, "data-type", facts, {}, "convert with astype() if that is meant");
  }
  if (!source.floating && target.floating) {
    return Error(Code::kInput, "data-type", facts, {},
                 "store how to scale it beside it (<input>_scale and <input>_bias), or convert it");
  }
  const bool bf16_and_f16 = source.bits == target.bits;
  if (note != nullptr && source.floating && (target.bits < source.bits || bf16_and_f16)) {
    *note = facts + ": its values are rounded";
  }
  return result;
}

Status ElementConversion::convert(std::span<const std::byte> in, std::span<std::byte> out) const {
  if (is_copy()) {
    if (!in.empty()) std::memcpy(out.data(), in.data(), in.size());
    return ok_status();
  }
  Status status = ok_status();
  with_type(from_, [&](auto source) {
    with_type(to_, [&](auto target) {
      status = convert_all<typename decltype(source)::Type, typename decltype(target)::Type>(
          in, out, affine_, to_);
    });
  });
  return status;
}

std::string shape_text(const TypeInfo& type) {
  if (!type.shape) return "of unknown rank";
  std::string text = "[";
  for (std::size_t i = 0; i < type.shape->size(); ++i) {
    text += (i > 0 ? ", " : "") + dim_text((*type.shape)[i]);
  }
  return text + "]";
}

Result<RowForm> choose_form(const PortInfo& port, std::span<const std::int64_t> dims,
                            Feeding wanted, RowForm fallback) {
  if (!port.type.shape) {
    if (wanted != Feeding::kAuto) {
      return wanted == Feeding::kSlice ? RowForm::kSlice : RowForm::kIndex;
    }
    return fallback;
  }
  const std::size_t rank = port.type.shape->size();
  const bool slice = dims.size() == rank && rank > 0, index = dims.size() == rank + 1;
  if (slice && wanted != Feeding::kIndex) return RowForm::kSlice;
  if (index && wanted != Feeding::kSlice) return RowForm::kIndex;
  std::string hint;
  if (slice) {
    hint = "the rank fits feeding 'slice', not 'index'";
  } else if (index) {
    hint = "the rank fits feeding 'index', not 'slice'";
  } else if (dims.size() + 1 == rank) {
    hint =
        "the axis of the samples seems to be missing: save array[np.newaxis], or stack the "
        "samples";
  } else {
    hint = "the first axis counts the samples, the others are those of the input";
  }
  return wrong_shape(port, dims, std::move(hint));
}

Status check_shape(const PortInfo& port, std::span<const std::int64_t> sample, bool skip_first) {
  if (!port.type.shape) return ok_status();
  const std::vector<Dim>& wanted = *port.type.shape;
  bool same = wanted.size() == sample.size();
  for (std::size_t i = skip_first ? 1 : 0; i < wanted.size() && same; ++i) {
    same = fits(wanted[i], sample[i]);
  }
  if (same) return ok_status();
  return wrong_shape(port, sample, transpose_hint(wanted, sample, skip_first));
}

}  // namespace mcompress
