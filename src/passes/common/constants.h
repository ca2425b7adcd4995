// The constants of a model, for passes that store them in another type.
#pragma once

#include <string>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// Initializers and what Constant nodes make, of a graph and of those nested in it, in order. Bodies
// of functions have no initializers.
std::vector<Value*> constants_of(Graph& graph);

// Explains that a constant stays as it is. `user`: a node that reads it, or null.
void explain_kept(PassContext& context, const Value& value, const Tensor& tensor, const Node* user,
                  std::string why);

}  // namespace mcompress
