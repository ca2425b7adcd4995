#include "search/places.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <variant>

#include "ir/walk.h"
#include "passes/common/kernel_names.h"
#include "support/json.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kKernelTime = "_kernel_time";

double real_of(const Datum* datum) {
  if (datum == nullptr) return 0;
  if (const auto* whole = std::get_if<std::int64_t>(&datum->value())) {
    return static_cast<double>(*whole);
  }
  const auto* real = std::get_if<double>(&datum->value());
  return real != nullptr ? *real : 0;
}

std::string_view text_of(const Datum* datum) {
  const std::string* text = datum != nullptr ? datum->as_string() : nullptr;
  return text != nullptr ? std::string_view(*text) : std::string_view();
}

}  // namespace

LayerPlaces places_of_layers(const Model& prepared, std::span<const SearchLayer> layers) {
  std::map<std::string, std::size_t, std::less<>> by_weight;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    by_weight.emplace(layers[layer].name, layer);
  }
  LayerPlaces places;
  std::unordered_map<const Value*, std::size_t> last;  // layer in front of a value, plus 1
  std::size_t current = 0;
  for_each_node(const_cast<Model&>(prepared).graph(), [&](Node& node) {
    std::size_t before = 0;
    std::optional<std::size_t> own;
    for (const Value* input : node.inputs()) {
      if (input == nullptr) continue;
      const auto weight = by_weight.find(input->name());
      if (weight != by_weight.end() && input->initializer() != nullptr) {
        if (!own) own = weight->second;
        continue;
      }
      const auto found = last.find(input);
      if (found != last.end()) before = std::max(before, found->second);
    }
    if (own) {
      if (before > 0 && before - 1 != *own) {
        const std::size_t left = std::min(before - 1, *own), right = std::max(before - 1, *own);
        const bool there = std::any_of(places.neighbours.begin(), places.neighbours.end(),
                                       [&](const auto& pair) { return pair.second == right; });
        if (!there) places.neighbours.emplace_back(left, right);
      }
      current = *own;
      before = *own + 1;
    }
    if (!node.name().empty()) places.layer_of.emplace(node.name(), current);
    for (const Value* output : node.outputs()) {
      if (output == nullptr) continue;
      if (before > 0) last[output] = before;
      if (!output->name().empty()) places.layer_of.emplace(output->name(), current);
    }
  });
  return places;
}

void join_layers(std::vector<SearchLayer>& layers,
                 std::span<const std::pair<std::size_t, std::size_t>> same) {
  std::vector<std::size_t> first(layers.size());  // of those a layer is one with
  std::iota(first.begin(), first.end(), 0);
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [a, b] : same) {
      const std::size_t least = std::min(first[a], first[b]);
      changed = changed || first[a] != first[b];
      first[a] = first[b] = least;
    }
  }
  std::vector<SearchLayer> joined;
  std::vector<std::size_t> place(layers.size());
  std::vector<std::uint64_t> largest;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::uint64_t bytes = layers[i].weight_bytes;
    if (first[i] == i) {
      place[i] = joined.size();
      largest.push_back(bytes);
      joined.push_back(std::move(layers[i]));
      continue;
    }
    place[i] = place[first[i]];
    SearchLayer& whole = joined[place[i]];
    whole.weight_bytes += bytes;
    for (std::string& pattern : layers[i].patterns) {
      auto& all = whole.patterns;
      if (std::find(all.begin(), all.end(), pattern) == all.end()) all.push_back(pattern);
    }
    if (bytes <= largest[place[i]]) continue;
    largest[place[i]] = bytes;
    whole.name = std::move(layers[i].name);
    whole.op_type = std::move(layers[i].op_type);
  }
  layers = std::move(joined);
}

std::optional<std::size_t> layer_of_kernel(const LayerPlaces& places, std::string_view kernel) {
  return place_of_kernel(places.layer_of, kernel);
}

Result<std::vector<KernelTime>> kernel_times(std::string_view trace, int runs) {
  ParseLimits limits;
  limits.bytes = std::uint64_t{4} << 30;
  limits.values = 40'000'000;
  MCOMPRESS_ASSIGN(const Datum root, parse_json(trace, "the runtime's trace", limits));
  const Datum::List* events = root.as_list();
  if (events == nullptr) {
    return Error(Code::kInput, "profile-unreadable", "the runtime's trace is no list");
  }
  struct Kernel {
    std::string_view name;
    double start;
    std::vector<double> durations;
  };
  std::vector<Kernel> kernels;
  std::unordered_map<std::string_view, std::size_t> places;
  for (const Datum& event : *events) {
    std::string_view name = text_of(event.find("name"));
    if (text_of(event.find("cat")) != "Node" || !name.ends_with(kKernelTime)) continue;
    name.remove_suffix(kKernelTime.size());
    const Datum* arguments = event.find("args");
    const std::string_view type =
        arguments != nullptr ? text_of(arguments->find("op_name")) : std::string_view();
    if (holds_kernels(type)) continue;
    const double start = real_of(event.find("ts"));
    const auto [place, fresh] = places.emplace(name, kernels.size());
    if (fresh) kernels.push_back({name, start, {}});
    Kernel& kernel = kernels[place->second];
    kernel.start = std::min(kernel.start, start);
    kernel.durations.push_back(real_of(event.find("dur")));
  }
  std::stable_sort(kernels.begin(), kernels.end(),
                   [](const Kernel& a, const Kernel& b) { return a.start < b.start; });
  std::vector<KernelTime> times;
  for (Kernel& kernel : kernels) {
    const auto middle = kernel.durations.begin() + static_cast<long>(kernel.durations.size() / 2);
    std::nth_element(kernel.durations.begin(), middle, kernel.durations.end());
    const double calls = static_cast<double>(kernel.durations.size()) / std::max(runs, 1);
    times.push_back({std::string(kernel.name), *middle * calls});
  }
  return times;
}

std::vector<double> times_of_layers(const LayerPlaces& places, std::span<const KernelTime> kernels,
                                    std::size_t layers) {
  std::vector<double> sums(layers, 0);
  std::size_t current = 0;
  for (const KernelTime& kernel : kernels) {
    current = layer_of_kernel(places, kernel.name).value_or(current);
    if (current < layers) sums[current] += kernel.microseconds;
  }
  return sums;
}

}  // namespace mcompress
