// Whole weights as doubles, for passes that add or multiply them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/fusion/linear.h"

namespace mcompress {

struct Coefficients {
  std::vector<std::int64_t> dims;
  std::vector<double> values;
};
Result<Coefficients> read_coefficients(const Tensor& tensor);

// Rounded once to a floating type.
struct Rounded {
  std::optional<Tensor> tensor;
  std::string why_not;  // "a folded number, 1e+39, is too large for float32"
};
Result<Rounded> round_coefficients(PassContext& context, const Coefficients& numbers,
                                   DataType type);

// The bias of a linear operator as one number for each of its channels; zeros when it is left out.
// Empty: it is no constant of that form.
std::optional<std::vector<double>> bias_values(const Value* bias, std::int64_t channels);

// The weight of a Gemm or MatMul as [inputs, outputs], with the alpha of a Gemm in it.
Result<Coefficients> linear_matrix(const LinearOp& op);
// The bias of any linear operator, with the beta of a Gemm in it. Empty as above.
std::optional<std::vector<double>> linear_bias(const LinearOp& op);

// Element by element, with the broadcasting of ONNX. Empty when the operands do not fit, or when
// the result would be larger than both.
std::optional<Coefficients> combine(const Coefficients& left, const Coefficients& right,
                                    double (*operation)(double, double));

// c += a b for matrices in row order: c is rows x columns, a is rows x inner.
void add_product(const double* a, const double* b, double* c, std::int64_t rows, std::int64_t inner,
                 std::int64_t columns);
// More multiplications than this are left alone: they would take seconds.
inline constexpr std::int64_t kMostMultiplications = std::int64_t{1} << 32;

}  // namespace mcompress
