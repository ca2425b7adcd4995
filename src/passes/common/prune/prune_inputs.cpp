#include "passes/common/prune/prune_inputs.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "ir/prefix.h"
#include "passes/common/blocks/input_grams.h"
#include "passes/common/sample_split.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostColumns = 8192, kMostCross = 4096;
constexpr std::size_t kHeldRows = 1024;
constexpr std::size_t kRowsAtOnce = 512;

using Lists = std::vector<std::vector<float>>;

class LayerObserver {
 public:
  LayerObserver(const std::vector<PruneLayer>& layers, std::size_t begin, std::size_t end,
                PassContext& context)
      : layers_(layers), context_(context) {
    for (std::size_t i = begin; i < end; ++i) {
      if (!is_observable(layers[i])) continue;
      auto known = std::ranges::find_if(inputs_, [&](const PruneInput& input) {
        const PruneLayer& first = layers[input.layers.front()];
        return first.input == layers[i].input && first.rows->same(*layers[i].rows);
      });
      if (known == inputs_.end()) {
        PruneInput input;
        input.groups.resize(layers[i].groups());
        for (PruneInputGroup& group : input.groups) {
          group.gram = std::make_unique<GramMatrix>(layers[i].columns());
          if (layers[i].columns() <= kMostCross) {
            group.cross = std::make_unique<CrossGram>(layers[i].columns());
          }
        }
        inputs_.push_back(std::move(input));
        waiting_.emplace_back(Lists(layers[i].groups()), Lists(layers[i].groups()));
        known = inputs_.end() - 1;
      }
      known->layers.push_back(i);
    }
  }

  Status run(const Model& original, const Model& pruned, const PruneObservation& how) {
    if (inputs_.empty()) return ok_status();
    SessionOptions options;
    std::vector<std::vector<std::size_t>> readers;  // of each observed value
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::string& name = first(i).input;
      const auto known = std::ranges::find(options.observed, name);
      if (known != options.observed.end()) {
        readers[static_cast<std::size_t>(known - options.observed.begin())].push_back(i);
      } else {
        options.observed.push_back(name);
        readers.push_back({i});
      }
    }
    MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
    // What comes behind the last of them need not run.
    MCOMPRESS_ASSIGN(const auto before,
                     runtime->open(*prefix_of(original, options.observed), options));
    std::unique_ptr<Session> after;  // null: the same model
    if (&original != &pruned) {
      MCOMPRESS_ASSIGN(after, runtime->open(*prefix_of(pruned, options.observed), options));
    }
    DataSource& data = *context_.calibration_data();
    const SampleSplit split(data, how.samples);
    const std::int64_t count = split.count();
    for (std::int64_t s = 0; s < count; ++s) {
      if (context_.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while inputs were observed");
      }
      MCOMPRESS_ASSIGN(const auto feeds, split.read(data, s));
      std::vector<Lists> y(inputs_.size()), x(inputs_.size());
      const auto read_into = [&](std::vector<Lists>& lists) {
        return [&, count](std::size_t slot, const TensorView& view) {
          for (const std::size_t i : readers[slot]) {
            const std::int64_t wanted = gram_rows(first(i).columns());
            lists[i].resize(inputs_[i].groups.size());
            first(i).rows->read(view, (wanted + count - 1) / count, s, lists[i]);
          }
          return ok_status();
        };
      };
      MCOMPRESS_TRY(before->observe(feeds, read_into(y)));
      if (after != nullptr) {
        MCOMPRESS_TRY(after->observe(feeds, read_into(x)));
      } else {
        x = y;
      }
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
        take(i, split.judges(s), how.judged, y[i], x[i]);
      }
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      for (std::size_t g = 0; g < inputs_[i].groups.size(); ++g) flush(i, g, 1);
    }
    std::erase_if(inputs_,
                  [](const PruneInput& input) { return input.groups.front().gram->rows() == 0; });
    return ok_status();
  }

  std::vector<PruneInput> take_inputs() { return std::move(inputs_); }

 private:
  const PruneLayer& first(std::size_t input) const {
    return layers_[inputs_[input].layers.front()];
  }

  void take(std::size_t i, bool hold, bool judged, const Lists& y, const Lists& x) {
    // A value that does not exist on this way through the graph, or is not finite.
    if (x.empty() || y.size() != x.size()) return;
    for (std::size_t g = 0; g < x.size(); ++g) {
      if (x[g].empty() || y[g].size() != x[g].size()) continue;
      PruneInputGroup& group = inputs_[i].groups[g];
      const std::size_t columns = first(i).columns();
      if (hold && group.held_x.size() / columns < kHeldRows) {
        group.held_y.insert(group.held_y.end(), y[g].begin(), y[g].end());
        group.held_x.insert(group.held_x.end(), x[g].begin(), x[g].end());
        continue;
      }
      if (hold && judged) continue;
      auto& [wait_y, wait_x] = waiting_[i];
      wait_y[g].insert(wait_y[g].end(), y[g].begin(), y[g].end());
      wait_x[g].insert(wait_x[g].end(), x[g].begin(), x[g].end());
      flush(i, g, kRowsAtOnce);
    }
  }

  void flush(std::size_t i, std::size_t g, std::size_t at_least) {
    auto& [wait_y, wait_x] = waiting_[i];
    if (wait_x[g].size() < at_least * first(i).columns()) return;
    PruneInputGroup& group = inputs_[i].groups[g];
    group.gram->add(wait_x[g], context_.executor());
    if (group.cross != nullptr) group.cross->add(wait_y[g], wait_x[g], context_.executor());
    wait_y[g].clear();
    wait_x[g].clear();
  }

  const std::vector<PruneLayer>& layers_;
  PassContext& context_;
  std::vector<PruneInput> inputs_;
  std::vector<std::pair<Lists, Lists>> waiting_;
};

}  // namespace

bool is_observable(const PruneLayer& layer) {
  return layer.rows.has_value() && layer.columns() <= kMostColumns;
}

std::uint64_t observation_bytes(const PruneLayer& layer) {
  if (!is_observable(layer)) return 0;
  const std::uint64_t columns = layer.columns();
  const std::uint64_t matrices = columns <= kMostCross ? 2 : 1;
  return layer.groups() * columns * columns * sizeof(double) * matrices;
}

Result<std::vector<PruneInput>> observe_layers(const Model& original, const Model& pruned,
                                               const std::vector<PruneLayer>& layers,
                                               std::size_t begin, std::size_t end,
                                               const PruneObservation& how, PassContext& context) {
  LayerObserver observer(layers, begin, end, context);
  MCOMPRESS_TRY(observer.run(original, pruned, how));
  return observer.take_inputs();
}

}  // namespace mcompress
