// The constants of a model, for passes that store them in another type.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// Initializers and what Constant nodes make, of a graph and of those nested in it, in order. Bodies
// of functions have no initializers.
std::vector<Value*> constants_of(Graph& graph);

// A tensor of int32 numbers.
Tensor make_int32_tensor(std::span<const std::int32_t> numbers, std::vector<std::int64_t> dims);

// Explains that a constant stays as it is. `user`: a node that reads it, or null.
void explain_kept(PassContext& context, const Value& value, const Tensor& tensor, const Node* user,
                  std::string why);

}  // namespace mcompress
