// Whether two nodes or graphs are the same but for the names inside.
#pragma once

#include "mcompress/ir.h"
#include "mcompress/status.h"
#include "support/hash.h"

namespace mcompress {

// Adds what an attribute holds. False when it can not be compared: graphs, opaque kinds.
bool hash_attribute(const AttributeValue& value, Hasher& hasher);
// Equal kind and content, floating-point numbers by their bits. False for graphs.
Result<bool> same_attribute(const AttributeValue& left, const AttributeValue& right);

// Equal nodes in the same order over the same captured values and equal initializers, and equal
// outputs. Opaque attributes never compare equal.
Result<bool> same_graph(const Graph& left, const Graph& right);

}  // namespace mcompress
