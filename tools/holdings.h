// What a model holds: operators, weights by type, the largest of them, what could be quantized.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "console.h"
#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "models.h"

namespace mcompress::tools {

struct Weight {
  std::string name;
  std::string owner;  // "Conv", or the first user's type
  DataType dtype = DataType::kUndefined;
  std::vector<std::int64_t> dims;
  std::uint64_t bytes = 0;
};

struct Sum {
  std::uint64_t count = 0, elements = 0, bytes = 0;
};

// Bodies of functions count once, however often they are called; they are no graphs here.
struct Holdings {
  std::map<std::string, std::uint64_t> operators;  // "domain:Type", default domain bare
  std::map<std::string, Sum> by_dtype;
  std::vector<Weight> weights;  // largest first
  Sum all;
  std::uint64_t nodes = 0, graphs = 0, depth = 0, shared = 0, overridable = 0;
  std::uint64_t function_nodes = 0;  // of the nodes
  Sum in_functions;                  // of all tensors
  Sum integer_ready;                 // weights of Conv, Gemm and MatMul: static quantization
  Sum dynamic_ready;                 // of these, large enough matrices
  Sum weight_ready;                  // any float weight large enough to be stored in 8 bits
};
Holdings holdings_of(const Model& model, std::int64_t top);

// "Conv", "com.microsoft:QGemm".
std::string op_name(const Node& node);

// Text in three parts, so that others can stand in between.
std::string head_text(const LoadedModel& loaded, const Holdings& holdings);
std::string largest_text(const Holdings& holdings);
std::string chances_text(const Holdings& holdings);
// Sets the keys of `inspect --json`.
void add_holdings(const LoadedModel& loaded, const Holdings& holdings, Datum& map);

}  // namespace mcompress::tools
