// Constants that mask entries out in front of a Softmax: -3.4e38 means "not this one", and so does
// every other number from which exp() makes 0.
#pragma once

#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// All ways from it lead, by sums, products with what is not negative, choices and moves, into a
// Softmax, whatever else goes into the sums.
struct HalfMask {
  Value* constant = nullptr;  // an initializer, a Constant node or a ConstantOfShape
  double lowest = 0;          // of it
  // What takes the place of numbers below -65504: that number, or a quarter of it where scores
  // and perhaps a second mask are added, so that no sum becomes infinite: a row of nothing but
  // -infinity gives NaN.
  double replacement = 0;
  std::vector<const Node*> readers;  // on the way, the Softmax included
};

// In the graph and its bodies.
std::vector<HalfMask> find_half_masks(const Model& model);

}  // namespace mcompress
