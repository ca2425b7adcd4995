#include "numeric/pareto.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mcompress {
namespace {

double key(double number) {
  return std::isnan(number) ? std::numeric_limits<double>::infinity() : number;
}

bool dominates(const std::vector<double>& a, const std::vector<double>& b) {
  bool smaller = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (key(a[i]) > key(b[i])) return false;
    smaller = smaller || key(a[i]) < key(b[i]);
  }
  return smaller;
}

}  // namespace

std::vector<std::size_t> pareto_front(std::span<const std::vector<double>> points) {
  std::vector<std::size_t> front;
  for (std::size_t i = 0; i < points.size(); ++i) {
    bool stays = true;
    for (std::size_t j = 0; j < points.size() && stays; ++j) {
      if (j == i) continue;
      if (dominates(points[j], points[i])) stays = false;
      if (j < i && std::ranges::equal(points[j], points[i], {}, key, key)) stays = false;
    }
    if (stays) front.push_back(i);
  }
  std::stable_sort(front.begin(), front.end(), [&](std::size_t a, std::size_t b) {
    return std::ranges::lexicographical_compare(points[a], points[b], {}, key, key);
  });
  return front;
}

}  // namespace mcompress
