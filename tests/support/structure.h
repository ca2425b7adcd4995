// What a model computes and how, whatever its values and nodes are called and in which order they
// stand.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "mcompress/ir.h"

namespace mcompress::testing {

struct Structure {
  // Equal for models whose graphs are the same up to names and order: interface, operators,
  // attributes, tensors bit by bit, who reads whom, and how many nodes do the same.
  std::uint64_t fingerprint = 0;
  // How many nodes of each type, nested ones included; for messages.
  std::map<std::string, int> operators;
};

Structure structure_of(const Model& model);
// "Relu 2 instead of 3, Add 1 instead of 0"; empty: the same numbers.
std::string difference_in_operators(const Structure& expected, const Structure& found);

}  // namespace mcompress::testing
