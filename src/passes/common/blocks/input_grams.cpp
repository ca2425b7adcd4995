#include "passes/common/blocks/input_grams.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kFewestRows = 4096;
constexpr std::int64_t kMostRows = 32768;
constexpr std::size_t kRowsAtOnce = 512;

bool same_input(const UnitInput& a, const UnitInput& b) {
  return a.value == b.value && a.group == b.group && a.rows.same(b.rows);
}

}  // namespace

std::uint64_t gram_bytes(std::size_t columns) {
  return std::uint64_t{columns} * columns * sizeof(double);
}

std::int64_t gram_rows(std::size_t columns) {
  return std::clamp(4 * static_cast<std::int64_t>(columns), kFewestRows, kMostRows);
}

std::vector<double> in_order_of_unit(const GramMatrix& gram, const UnitInput& input) {
  std::vector<double> moments = gram.moments();
  if (input.column.empty()) return moments;
  const std::size_t n = input.column.size();
  std::vector<double> turned(moments.size());
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      turned[i * n + j] = moments[input.column[i] * n + input.column[j]];
    }
  }
  return turned;
}

Result<InputGrams> collect_grams(const Model& model, const std::vector<UnitInput>& inputs,
                                 std::int64_t samples, PassContext& context) {
  InputGrams found;
  found.grams.resize(inputs.size());
  found.first = shared_with(inputs);
  std::vector<std::vector<float>> waiting(inputs.size());
  const auto add = [&](std::size_t i, std::size_t at_least) {
    const std::size_t columns = inputs[i].rows.columns();
    if (waiting[i].size() < at_least * columns || waiting[i].empty()) return;
    if (found.grams[i] == nullptr) found.grams[i] = std::make_unique<GramMatrix>(columns);
    found.grams[i]->add(waiting[i], context.executor());
    waiting[i].clear();
  };
  ObservedRows how;
  how.samples = samples;
  how.wanted = gram_rows;
  MCOMPRESS_TRY(
      observe_rows(model, inputs, how, context, [&](std::size_t i, std::vector<float>& rows) {
        waiting[i].insert(waiting[i].end(), rows.begin(), rows.end());
        add(i, kRowsAtOnce);
      }));
  for (std::size_t i = 0; i < inputs.size(); ++i) add(i, 0);
  return found;
}

std::size_t inputs_within(const std::vector<UnitInput>& inputs, std::size_t begin, std::size_t most,
                          std::uint64_t bytes) {
  std::size_t end = begin;
  std::uint64_t taken = 0;
  while (end < inputs.size()) {
    const bool again = end > begin && same_input(inputs[end - 1], inputs[end]);
    const std::uint64_t more = again ? 0 : gram_bytes(inputs[end].rows.columns());
    if (end > begin && !again && (end - begin >= most || taken + more > bytes)) break;
    taken += more;
    ++end;
  }
  return end;
}

void order_inputs(const Graph& graph, std::vector<UnitInput>& inputs) {
  std::map<std::string, std::size_t, std::less<>> made;
  std::size_t place = 0;
  for (const Node* node : graph.nodes()) {
    ++place;
    for (const Value* output : node->outputs()) {
      if (output != nullptr) made.emplace(output->name(), place);
    }
  }
  const auto at = [&](const UnitInput& input) {
    const auto found = made.find(input.value);
    return found != made.end() ? found->second : 0;
  };
  std::ranges::stable_sort(inputs, [&](const UnitInput& a, const UnitInput& b) {
    return std::pair(at(a), a.value) < std::pair(at(b), b.value);
  });
  const std::vector<std::size_t> first = shared_with(inputs);
  std::vector<std::size_t> order(inputs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return first[i]; });
  std::vector<UnitInput> sorted;
  sorted.reserve(inputs.size());
  for (const std::size_t i : order) sorted.push_back(std::move(inputs[i]));
  inputs = std::move(sorted);
}

}  // namespace mcompress
