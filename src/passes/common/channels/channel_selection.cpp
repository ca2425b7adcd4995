#include "passes/common/channels/channel_selection.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "ir/facts.h"
#include "passes/common/channels/channel_cut.h"

namespace mcompress {
namespace {

// Units of a group that lie in the same axes: whatever goes, these axes keep fitting widths only
// when each such set does.
struct Stratum {
  std::size_t group = 0;
  std::vector<std::uint32_t> units;
};

std::uint64_t mix(std::uint64_t state, std::uint64_t value) {
  state ^= value + 0x9e3779b97f4a7c15ULL + (state << 6U) + (state >> 2U);
  return state * 0xff51afd7ed558ccdULL;
}

std::vector<Stratum> strata_of(const ChannelTrace& trace) {
  std::vector<std::uint64_t> signature(trace.units());
  std::vector<std::uint64_t> last(trace.units());
  std::set<const void*> seen;
  std::uint64_t number = 0;
  const auto sign = [&](const Value& value) {
    for (const AxisCells& cells : trace.axes(value)) {
      if (cells == nullptr || !seen.insert(cells.get()).second) continue;
      ++number;
      for (const std::uint32_t cell : *cells) {
        if (cell == kFixedCell) continue;
        const std::uint32_t unit = trace.unit_of(cell);
        signature[unit] = mix(signature[unit], number);
      }
    }
  };
  Graph& graph = trace.model().graph();
  for (const Value* value : graph.initializers()) sign(*value);
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Value* value : node->outputs()) {
      if (value != nullptr) sign(*value);
    }
  }
  std::vector<Stratum> strata;
  for (std::size_t g = 0; g < trace.groups().size(); ++g) {
    std::map<std::uint64_t, std::size_t> place;
    for (const std::uint32_t unit : trace.groups()[g].units) {
      const auto [found, added] = place.try_emplace(signature[unit], strata.size());
      if (added) strata.push_back({g, {}});
      strata[found->second].units.push_back(unit);
    }
  }
  return strata;
}

std::int64_t granule_of(std::int64_t width, std::int64_t wanted) {
  if (wanted > 0) return wanted;
  if (width >= 64) return 16;
  if (width >= 16) return 8;
  return width % 4 == 0 ? 4 : 1;
}

struct Chunk {
  std::size_t group = 0;
  std::vector<std::uint32_t> units;
  double loss = 0, price = 0;
};

// What one unit of a group saves, to first order, as a share of all that has to go: so costs of
// several kinds (multiplications, time) add up. `costs`: by id of the node; `most`: of their sum
// that may stay.
void add_savings(const ChannelTrace& trace, const std::vector<double>& costs, double most,
                 std::vector<double>& saves) {
  const double all = std::accumulate(costs.begin(), costs.end(), 0.0);
  const double excess = std::max(1 - most, 1e-6) * std::max(all, 1e-30);
  const auto& groups = trace.groups();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (const std::size_t place : groups[g].slices) {
      const ChannelSlices& slices = trace.slices()[place];
      const double own = costs[slices.node->id()];
      if (slices.role == ChannelMember::Role::kParameter && own == 0) continue;
      saves[g] += own / excess / static_cast<double>(groups[g].units.size());
    }
  }
}

// Prices become the share of the units of their kind that is gone once a chunk and all cheaper ones
// of the kind are.
void share_among_kinds(const ChannelTrace& trace, std::vector<Chunk>& chunks) {
  std::map<ChannelKind, double> units, gone;
  const auto kind = [&](const Chunk& chunk) { return trace.groups()[chunk.group].facts.kind; };
  for (const Chunk& chunk : chunks) units[kind(chunk)] += static_cast<double>(chunk.units.size());
  for (Chunk& chunk : chunks) {
    double& sum = gone[kind(chunk)];
    sum += static_cast<double>(chunk.units.size());
    chunk.price = sum / units[kind(chunk)];
  }
  std::stable_sort(chunks.begin(), chunks.end(),
                   [](const Chunk& a, const Chunk& b) { return a.price < b.price; });
}

}  // namespace

std::vector<double> product_macs(const Model& model) {
  std::vector<double> macs(model.node_limit());
  const Graph& graph = model.graph();
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    const bool conv = node->is("Conv"), back = node->is("ConvTranspose");
    if (!conv && !back && !node->is("Gemm") && !node->is("MatMul")) continue;
    if (node->input(0) == nullptr || node->input(1) == nullptr || node->output(0) == nullptr)
      continue;
    const auto elements = [](const Value& value) {
      double count = 1;
      if (const Tensor* tensor = value.initializer())
        return static_cast<double>(tensor->elements());
      if (value.type() != nullptr && value.type()->shape) {
        for (const Dim& dim : *value.type()->shape)
          count *= static_cast<double>(dim.size.value_or(1));
      }
      return count;
    };
    const auto depth = [&](const Value& value, std::int64_t axis) {
      return static_cast<double>(dim_of(value, axis).value_or(1));
    };
    if (conv) {
      macs[node->id()] = elements(*node->output(0)) * elements(*node->input(1)) /
                         std::max(depth(*node->input(1), 0), 1.0);
    } else if (back) {
      macs[node->id()] = elements(*node->input(0)) * elements(*node->input(1)) /
                         std::max(depth(*node->input(1), 0), 1.0);
    } else {
      const bool turned = node->is("Gemm") && node->int_attribute("transA", 0) != 0;
      macs[node->id()] = elements(*node->output(0)) * depth(*node->input(0), turned ? 0 : -1);
    }
  }
  return macs;
}

double macs_left(const ChannelTrace& trace, const std::vector<double>& macs,
                 const std::vector<bool>& cut) {
  double before = 0, after = 0;
  const Graph& graph = trace.model().graph();
  const auto ratio = [&](const AxisCells& cells) {
    return cells == nullptr ? 1.0
                            : static_cast<double>(kept_count(trace, cells, cut)) /
                                  static_cast<double>(cells->size());
  };
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    const double own = macs[node->id()];
    if (own == 0) continue;
    double left = own;
    const bool matmul = node->is("MatMul");
    const auto& first = trace.axes(*node->input(0));
    const auto& second = trace.axes(*node->input(1));
    if (node->input(1)->initializer() != nullptr && !matmul) {
      for (const AxisCells& cells : second) left *= ratio(cells);
    } else {
      for (const AxisCells& cells : first) left *= ratio(cells);
      if (!second.empty()) left *= ratio(second.back());
    }
    before += own;
    after += left;
  }
  return before > 0 ? after / before : 1;
}

ChannelChoice choose_channels(const ChannelTrace& trace, const std::vector<double>& scores,
                              const std::vector<std::string>& eligible_why,
                              const std::vector<double>& macs, const ChannelGoal& goal) {
  const auto& groups = trace.groups();
  ChannelChoice choice;
  choice.cut.resize(trace.units());
  choice.eligible.resize(groups.size());
  choice.why = eligible_why;
  std::vector<Chunk> chunks;
  std::vector<std::size_t> free_units(groups.size());
  const bool priced = goal.macs > 0 || goal.time > 0;
  std::vector<double> saves(groups.size());
  if (goal.macs > 0) add_savings(trace, macs, goal.macs, saves);
  if (goal.time > 0) add_savings(trace, goal.times, goal.time, saves);
  for (Stratum& stratum : strata_of(trace)) {
    const std::size_t g = stratum.group;
    if (!choice.why[g].empty()) continue;
    std::vector<std::uint32_t> free;
    for (const std::uint32_t unit : stratum.units) {
      if (!trace.is_frozen(unit)) free.push_back(unit);
    }
    if (free.empty()) {
      if (choice.why[g].empty() && groups[g].facts.free_units == 0)
        choice.why[g] = groups[g].facts.frozen;
      continue;
    }
    const auto total = static_cast<std::int64_t>(stratum.units.size());
    const std::int64_t unit_width = std::max<std::int64_t>(groups[g].facts.unit_width, 1);
    const std::int64_t granule = granule_of(total * unit_width, goal.granularity);
    // Units per step, so that widths stay multiples.
    const std::int64_t step = granule / std::gcd(granule, unit_width);
    std::stable_sort(free.begin(), free.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return scores[a] < scores[b]; });
    const auto most =
        static_cast<std::int64_t>(std::floor(goal.most[g] * static_cast<double>(total)));
    // The first step makes a width that is no multiple one.
    std::int64_t next = total % step != 0 && total > step ? total % step : step;
    std::int64_t done = 0;
    double worst = 0;
    while (done + next <= std::min<std::int64_t>(most, static_cast<std::int64_t>(free.size())) &&
           done + next < total) {
      Chunk chunk;
      chunk.group = g;
      for (std::int64_t i = done; i < done + next; ++i) {
        chunk.units.push_back(free[static_cast<std::size_t>(i)]);
        chunk.loss += scores[free[static_cast<std::size_t>(i)]];
      }
      const double gain = saves[g] * static_cast<double>(next);
      worst = std::max(worst, priced ? chunk.loss / std::max(gain, 1e-30)
                                     : chunk.loss / static_cast<double>(next));
      chunk.price = worst;
      // Each group gives the same share first.
      if (goal.scope == ChannelScope::kUniform)
        chunk.price = static_cast<double>(done + next) / static_cast<double>(total);
      done += next;
      next = step;
      chunks.push_back(std::move(chunk));
    }
    if (done == 0) continue;
    choice.eligible[g] = true;
    free_units[g] += free.size();
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (!choice.eligible[g] && choice.why[g].empty()) {
      choice.why[g] = std::to_string(groups[g].facts.units * groups[g].facts.unit_width) +
                      " channels are too few to leave a width that kernels like";
    }
  }
  std::stable_sort(chunks.begin(), chunks.end(),
                   [](const Chunk& a, const Chunk& b) { return a.price < b.price; });
  if (goal.scope == ChannelScope::kKind) share_among_kinds(trace, chunks);
  const double total =
      static_cast<double>(std::accumulate(free_units.begin(), free_units.end(), std::size_t{0}));
  const auto take = [&](std::size_t count) {
    std::fill(choice.cut.begin(), choice.cut.end(), false);
    std::size_t units = 0;
    for (std::size_t i = 0; i < count; ++i) {
      for (const std::uint32_t unit : chunks[i].units) choice.cut[unit] = true, ++units;
    }
    choice.share = total > 0 ? static_cast<double>(units) / total : 0;
    choice.macs = macs_left(trace, macs, choice.cut);
    if (goal.time > 0) choice.time = macs_left(trace, goal.times, choice.cut);
  };
  // The shortest run of chunks that is enough.
  std::size_t low = 0, high = chunks.size();
  const auto enough = [&] {
    return (goal.macs <= 0 || choice.macs <= goal.macs) &&
           (goal.time <= 0 || choice.time <= goal.time) &&
           (goal.share <= 0 || choice.share >= goal.share - 1e-9);
  };
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    take(middle);
    if (enough()) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  take(low);
  // A share is not passed when that misses it by less than staying below.
  if (goal.share > 0 && !priced && low > 1) {
    const double above = choice.share - goal.share;
    take(low - 1);
    if (goal.share - choice.share > above) take(low);
  }
  return choice;
}

}  // namespace mcompress
