// A part of a model as a model of its own, to be run alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// What feeds a part: a value that some other node makes, and the shape it will have; a size of -1
// is open.
struct PartInput {
  const Value* value = nullptr;
  DataType element = DataType::kUndefined;
  std::vector<std::int64_t> dims;
  bool any_shape = false;  // `dims` do not count: shapes differ from run to run
};

// Why a node can not be taken out of its model (it holds graphs, or attributes that only its
// origin knows); empty: it can.
std::string why_no_part(const Node& node);
// The name that a value has in a part: graphs side by side may use the same ones.
std::string part_name(const Value& value);

// A model of `nodes`, which are in topological order, may come from several graphs of one model,
// and read nothing but each other, constants and `inputs`. Its outputs are `wanted`; where no node
// of the part makes one, or it was asked for before, an Identity does, named "out" and its place.
// Tensors are shared. All nodes must satisfy why_no_part().
std::unique_ptr<Model> part_of(const Model& model, std::span<const Node* const> nodes,
                               std::span<const PartInput> inputs,
                               std::span<const Value* const> wanted);

}  // namespace mcompress
