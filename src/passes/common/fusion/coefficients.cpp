#include "passes/common/fusion/coefficients.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "ir/convert.h"
#include "ir/facts.h"
#include "support/try.h"

namespace mcompress {

Result<Coefficients> read_coefficients(const Tensor& tensor) {
  Coefficients result;
  result.dims.assign(tensor.dims().begin(), tensor.dims().end());
  result.values.reserve(static_cast<std::size_t>(tensor.elements()));
  MCOMPRESS_TRY(
      read_as_float(tensor, std::size_t{1} << 16, [&](std::int64_t, std::span<const float> chunk) {
        result.values.insert(result.values.end(), chunk.begin(), chunk.end());
      }));
  return result;
}

Result<Rounded> round_coefficients(PassContext& context, const Coefficients& numbers,
                                   DataType type) {
  Rounded result;
  if (type == DataType::kDouble) {
    for (const double value : numbers.values) {
      if (!std::isfinite(value)) result.why_not = "a folded number is not finite";
    }
    std::vector<std::byte> bytes(numbers.values.size() * sizeof(double));
    if (!bytes.empty()) std::memcpy(bytes.data(), numbers.values.data(), bytes.size());
    if (result.why_not.empty()) {
      result.tensor = make_bytes_tensor(type, numbers.dims, std::move(bytes));
    }
    return result;
  }
  const std::uint64_t width = find_dtype(type)->bits / 8;
  std::vector<float> values, rounded;
  const auto fill = [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
    const auto first = static_cast<std::size_t>(offset / width);
    values.resize(out.size() / width);
    rounded.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(numbers.values[first + i]);
    }
    encode_from_float(type, values, out, {});
    decode_to_float(type, out, rounded);
    for (std::size_t i = 0; i < values.size() && result.why_not.empty(); ++i) {
      if (std::isfinite(rounded[i])) continue;
      char text[32];
      std::snprintf(text, sizeof text, "%g", numbers.values[first + i]);
      result.why_not = "a folded number, " + std::string(text) +
                       ", is not finite or too large for " + dtype_name(type);
    }
    return ok_status();
  };
  MCOMPRESS_ASSIGN(Tensor made, context.tensors().make(type, numbers.dims, fill));
  if (result.why_not.empty()) result.tensor = std::move(made);
  return result;
}

std::optional<std::vector<double>> bias_values(const Value* bias, std::int64_t channels) {
  const auto count = static_cast<std::size_t>(channels);
  if (bias == nullptr) return std::vector<double>(count, 0.0);
  auto values = constant_reals(bias, channels);
  if (!values) return std::nullopt;
  const auto shape = static_shape(*bias);
  if (values->size() == 1) return std::vector<double>(count, values->front());
  if (values->size() != count || shape->back() != channels) return std::nullopt;
  return values;
}

Result<Coefficients> linear_matrix(const LinearOp& op) {
  MCOMPRESS_ASSIGN(Coefficients read, read_coefficients(*constant_of(op.node->input(1))));
  Coefficients matrix;
  const std::int64_t rows = op.in.channels, columns = op.out.channels;
  const bool turned = op.layout.axis == 0;
  const float alpha = op.is("Gemm") ? op.node->float_attribute("alpha", 1.0f) : 1.0f;
  matrix.dims = {rows, columns};
  matrix.values.resize(read.values.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t from = turned ? c * rows + r : r * columns + c;
      matrix.values[static_cast<std::size_t>(r * columns + c)] =
          static_cast<double>(alpha) * read.values[static_cast<std::size_t>(from)];
    }
  }
  return matrix;
}

std::optional<std::vector<double>> linear_bias(const LinearOp& op) {
  const Value* bias = op.is("MatMul") ? nullptr : op.node->input(2);
  if (op.add != nullptr) bias = op.add->input(is_constant(op.add->input(1)) ? 1 : 0);
  auto values = bias_values(bias, op.out.channels);
  if (values && op.is("Gemm")) {
    const float beta = op.node->float_attribute("beta", 1.0f);
    for (double& value : *values) value *= static_cast<double>(beta);
  }
  return values;
}

std::optional<Coefficients> combine(const Coefficients& left, const Coefficients& right,
                                    double (*operation)(double, double)) {
  Coefficients result;
  const std::size_t rank = std::max(left.dims.size(), right.dims.size());
  const auto dim = [&](const Coefficients& of, std::size_t axis) {
    const std::size_t missing = rank - of.dims.size();
    return axis < missing ? 1 : of.dims[axis - missing];
  };
  std::size_t elements = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t a = dim(left, i), b = dim(right, i);
    if (a != b && a != 1 && b != 1) return std::nullopt;
    result.dims.push_back(a == 1 ? b : a);
    elements *= static_cast<std::size_t>(result.dims.back());
  }
  if (elements > std::max(left.values.size(), right.values.size())) return std::nullopt;
  const auto place = [&](const Coefficients& of, std::size_t flat) {
    std::size_t at = 0, stride = 1;
    for (std::size_t i = rank; i-- > 0;) {
      const auto size = static_cast<std::size_t>(result.dims[i]);
      if (dim(of, i) != 1) {
        at += flat % size * stride;
        stride *= size;
      }
      flat /= size;
    }
    return at;
  };
  for (std::size_t i = 0; i < elements; ++i) {
    result.values.push_back(operation(left.values[place(left, i)], right.values[place(right, i)]));
  }
  return result;
}

void add_product(const double* a, const double* b, double* c, std::int64_t rows, std::int64_t inner,
                 std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r) {
    double* to = c + r * columns;
    for (std::int64_t k = 0; k < inner; ++k) {
      const double factor = a[r * inner + k];
      const double* from = b + k * columns;
      for (std::int64_t i = 0; i < columns; ++i) to[i] += factor * from[i];
    }
  }
}

}  // namespace mcompress
