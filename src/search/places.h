// Where layers stand: which follow each other, and to which layer a kernel of the runtime belongs.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/search.h"

namespace mcompress {

struct LayerPlaces {
  // Data of the first reach the second with no layer between; by the second, at most one each.
  std::vector<std::pair<std::size_t, std::size_t>> neighbours;
  // Names of nodes and of what they make. A node belongs to the last layer in front of it in the
  // order of the graph; what stands before all layers, to the first.
  std::map<std::string, std::size_t, std::less<>> layer_of;
};
LayerPlaces places_of_layers(const Model& prepared, std::span<const SearchLayer> layers);

// The layer of the longest known name within that of a kernel; empty: none is.
std::optional<std::size_t> layer_of_kernel(const LayerPlaces& places, std::string_view kernel);

// Makes one layer of those that a recipe can't tell apart: pairs of places, in any order. It stands
// where the first of them stood, has the name and operator of the largest, the patterns of all, and
// their bytes together.
void join_layers(std::vector<SearchLayer>& layers,
                 std::span<const std::pair<std::size_t, std::size_t>> same);

struct KernelTime {
  std::string name;
  double microseconds = 0;  // per run
};
// Kernels out of what Session::trace returned for so many runs, in the order of their first
// execution: the median of a call times the calls per run. What only holds other graphs is left
// out. Fails with kInput for text that is no such trace.
Result<std::vector<KernelTime>> kernel_times(std::string_view trace, int runs);

// Sums by layer. A kernel without a layer of its own (the runtime's moves) belongs to that of the
// kernel before it.
std::vector<double> times_of_layers(const LayerPlaces& places, std::span<const KernelTime> kernels,
                                    std::size_t layers);

}  // namespace mcompress
