// What a session needs to know of a model beside its bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// Types by name of what enters and leaves the top graph.
using KnownTypes = std::map<std::string, const TypeInfo*, std::less<>>;
KnownTypes known_types(const Model& model);

// "Conv" or "com.microsoft:QGemm" with the number of nodes, nested graphs included, by name.
std::vector<std::pair<std::string, std::int64_t>> count_operators(Model& model);

// False for a value of unknown type that an operator makes as a sequence or an optional, and for
// what Identity, If and Loop hand on of those.
bool may_be_tensor(const Value& value);

using LargeTensors = std::vector<std::pair<std::string, Tensor>>;
std::uint64_t total_bytes(const LargeTensors& large);

}  // namespace mcompress
