// Names in target files and what they mean.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "mcompress/target.h"

namespace mcompress {

inline constexpr std::array<std::pair<std::string_view, OperatorRule::Kind>, 7> kTargetKinds = {{
    {"weighted", OperatorRule::Kind::kWeighted},
    {"binary", OperatorRule::Kind::kBinary},
    {"same-scale", OperatorRule::Kind::kSameScale},
    {"unary", OperatorRule::Kind::kUnary},
    {"absorbed", OperatorRule::Kind::kAbsorbed},
    {"fused", OperatorRule::Kind::kFused},
    {"float", OperatorRule::Kind::kFloat},
}};

inline constexpr std::array<std::pair<std::string_view, double KernelCosts::*>, 22> kKernelCosts = {
    {
        {"node", &KernelCosts::node},
        {"quantize", &KernelCosts::quantize},
        {"dequantize", &KernelCosts::dequantize},
        {"layout", &KernelCosts::layout},
        {"float-convolution", &KernelCosts::float_convolution},
        {"float-depthwise", &KernelCosts::float_depthwise},
        {"float-large-depthwise", &KernelCosts::float_large_depthwise},
        {"float-product", &KernelCosts::float_product},
        {"integer-depthwise", &KernelCosts::integer_depthwise},
        {"integer-large-depthwise", &KernelCosts::integer_large_depthwise},
        {"integer-product", &KernelCosts::integer_product},
        {"float-column", &KernelCosts::float_column},
        {"float-group", &KernelCosts::float_group},
        {"integer-row", &KernelCosts::integer_row},
        {"integer-group", &KernelCosts::integer_group},
        {"integer-copy", &KernelCosts::integer_copy},
        {"integer-narrow", &KernelCosts::integer_narrow},
        {"integer-narrow-result", &KernelCosts::integer_narrow_result},
        {"integer-result", &KernelCosts::integer_result},
        {"integer-single-result", &KernelCosts::integer_single_result},
        {"float-weight", &KernelCosts::float_weight},
        {"integer-weight", &KernelCosts::integer_weight},
    }};

inline constexpr std::array<std::pair<std::string_view, TargetCase::Verdict>, 3> kTargetVerdicts = {
    {{"missing", TargetCase::Verdict::kMissing},
     {"slow", TargetCase::Verdict::kSlow},
     {"wrong", TargetCase::Verdict::kWrong}}};

inline constexpr std::array<std::pair<std::string_view, WeightOnlyRule::Form>, 4> kWeightForms = {
    {{"fold", WeightOnlyRule::Form::kFold},
     {"dequantize", WeightOnlyRule::Form::kDequantize},
     {"lookup", WeightOnlyRule::Form::kLookup},
     {"none", WeightOnlyRule::Form::kNone}}};

inline constexpr std::array<std::pair<std::string_view, BlockRule::Form>, 5> kBlockForms = {
    {{"matmul-nbits", BlockRule::Form::kMatMulNBits},
     {"gather-block", BlockRule::Form::kGatherBlock},
     {"dequantize", BlockRule::Form::kDequantize},
     {"fold", BlockRule::Form::kFold},
     {"none", BlockRule::Form::kNone}}};

inline constexpr std::array<std::pair<std::string_view, bool>, 2> kTargetOperands = {
    {{"all", false}, {"skip-only", true}}};

inline constexpr std::array<std::pair<std::string_view, bool>, 2> kTargetFloatWeights = {
    {{"kept", false}, {"rounded", true}}};

inline constexpr std::array<std::pair<std::string_view, bool>, 2> kTargetPlacements = {
    {{"islands", false}, {"inputs", true}}};

inline constexpr std::array<std::pair<std::string_view, bool>, 2> kTargetBiases = {
    {{"int32", false}, {"float32", true}}};

inline constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kTargetRoundings = {
    {{"half-to-even", "half-to-even"},
     {"half-away-from-zero", "half-away-from-zero"},
     {"unknown", "unknown"}}};

inline constexpr std::array<std::pair<std::string_view, DataType>, 8> kWeightTypes = {{
    {"int8", DataType::kInt8},
    {"uint8", DataType::kUint8},
    {"int4", DataType::kInt4},
    {"uint4", DataType::kUint4},
    {"int16", DataType::kInt16},
    {"uint16", DataType::kUint16},
    {"int2", DataType::kInt2},
    {"uint2", DataType::kUint2},
}};

inline constexpr std::array<std::pair<std::string_view, LowFloatRule::Compute>, 3>
    kLowFloatCompute = {{{"fast", LowFloatRule::Compute::kFast},
                         {"slow", LowFloatRule::Compute::kSlow},
                         {"none", LowFloatRule::Compute::kNone}}};

inline constexpr std::array<std::pair<std::string_view, bool>, 2> kLowFloatElsewhere = {
    {{"missing", false}, {"casts", true}}};

inline constexpr std::array<std::pair<std::string_view, DataType>, 4> kStoredFloats = {{
    {"float16", DataType::kFloat16},
    {"bfloat16", DataType::kBfloat16},
    {"float8e4m3fn", DataType::kFloat8E4M3FN},
    {"float8e5m2", DataType::kFloat8E5M2},
}};

template <class T, std::size_t N>
std::string_view name_of(const std::array<std::pair<std::string_view, T>, N>& names, T meaning) {
  for (const auto& [name, value] : names) {
    if (value == meaning) return name;
  }
  return {};
}

}  // namespace mcompress
