// Pareto fronts: what nothing else beats in every respect.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mcompress {

// Places of the points that no other point dominates, in increasing order of their first number,
// then of the next; all numbers are better the smaller, a NaN is worst. A point dominates another
// when it is nowhere larger and somewhere smaller; of equal points the first stays. Points must
// have one length. O(n^2) comparisons.
std::vector<std::size_t> pareto_front(std::span<const std::vector<double>> points);

}  // namespace mcompress
