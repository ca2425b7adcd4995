#include "passes/common/channels/channel_regression.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>

#include "ir/facts.h"
#include "ir/prefix.h"
#include "numeric/regression.h"
#include "passes/common/bias_add.h"
#include "passes/common/layer_rows.h"
#include "passes/common/padding.h"
#include "passes/common/weights.h"
#include "support/try.h"

namespace mcompress {
namespace {

struct FittedLayer {
  Node* node = nullptr;
  const Node* dense = nullptr;
  WeightView view, dense_view;
  LayerRows rows, dense_rows;
  std::vector<std::int64_t> outputs;  // of the dense layer, that are left
  Node* add = nullptr;                // holds the bias of a MatMul
  std::size_t bias_slot = 2;
  Value* bias = nullptr;  // null: none yet, or none possible
  bool can_have_bias = false;
  // What an Add joins with what the layer makes: the fit makes up for what has become of it, too.
  const Value* residual = nullptr;  // null: none
  const Value* dense_residual = nullptr;
  // Rows of the gates of one direction, of a recurrent layer: its biases are [directions, 2 *
  // rows], those of the inputs first. 0: it is another layer.
  std::size_t gate_rows = 0, dense_gate_rows = 0;
};

// Where the bias of an output is among the biases of the layer.
std::size_t bias_place(std::size_t output, std::size_t gate_rows) {
  return gate_rows == 0 ? output : output / gate_rows * 2 * gate_rows + output % gate_rows;
}

// The rows of positions that count, where there is a row for each.
void keep_counted(const std::vector<bool>& counted, std::size_t columns, std::vector<float>& rows) {
  if (counted.empty() || rows.size() != counted.size() * columns) return;
  std::size_t to = 0;
  for (std::size_t i = 0; i < counted.size(); ++i) {
    if (!counted[i]) continue;
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(i * columns), columns,
                rows.begin() + static_cast<std::ptrdiff_t>(to));
    to += columns;
  }
  rows.resize(to);
}

bool only_reader(const Value& value) { return value.uses().size() == 1; }

// Where a layer has its bias.
void find_bias_of(FittedLayer& layer, std::int64_t outputs) {
  Node& node = *layer.node;
  const auto fits = [&](Value* value) { return is_bias(value, outputs) && only_reader(*value); };
  if (!node.is("MatMul")) {
    layer.bias = fits(node.input(2)) ? node.input(2) : nullptr;
    layer.can_have_bias = layer.bias != nullptr || node.input(2) == nullptr;
    return;
  }
  const auto found = find_bias_add(node, outputs);
  if (!found || !fits(found->add->input(found->slot))) return;
  layer.add = found->add;
  layer.bias_slot = found->slot;
  layer.bias = found->add->input(found->slot);
  layer.can_have_bias = true;
}

// The other side of the Add that alone reads a value; null: there is none.
const Value* joined_with(const Value& value) {
  const Node* const add = only_user(value);
  if (add == nullptr || !add->is("Add")) return nullptr;
  const Value* const other = add->input(add->input(0) == &value ? 1 : 0);
  if (other == nullptr || other == &value || is_constant(other)) return nullptr;
  return other;
}

class Repair {
 public:
  Repair(const Model& dense, Model& model, const KeptByName& kept,
         const ChannelRepairOptions& options, PassContext& context)
      : dense_(dense), model_(model), kept_(kept), options_(options), context_(context) {}

  Result<ChannelRepair> run() {
    find_layers();
    const std::size_t count = layers_.size();
    const std::size_t levels =
        std::min(count, static_cast<std::size_t>(std::max<std::int64_t>(options_.levels, 1)));
    for (std::size_t level = 0; level < levels; ++level) {
      MCOMPRESS_TRY(fit(count * level / levels, count * (level + 1) / levels));
    }
    if (result_.layers > 0) {
      result_.error_before /= static_cast<double>(result_.layers);
      result_.error_after /= static_cast<double>(result_.layers);
    }
    return result_;
  }

 private:
  void find_layers() {
    std::map<std::string_view, const Node*> makers;
    const Graph& old = dense_.graph();
    for (const Node* node = old.first(); node != nullptr; node = old.next(*node)) {
      if (node->output(0) != nullptr) makers[node->output(0)->name()] = node;
    }
    std::set<const Value*> changed;
    Graph& graph = model_.graph();
    for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const bool asked =
          node->output(0) != nullptr && options_.before_sums.contains(node->output(0)->name());
      const bool behind =
          asked || std::ranges::any_of(node->inputs(), [&](const Value* input) {
            return input != nullptr && (changed.contains(input) || kept_.contains(input->name()));
          });
      if (!behind) continue;
      const bool reads_changed =
          asked || (node->input(0) != nullptr && changed.contains(node->input(0)));
      for (const Value* output : node->outputs()) {
        if (output != nullptr) changed.insert(output);
      }
      if (!reads_changed || node->output(0) == nullptr) continue;
      const auto maker = makers.find(node->output(0)->name());
      if (maker != makers.end()) consider(*node, *maker->second);
    }
  }

  void consider(Node& node, const Node& dense) {
    constexpr std::size_t kMostColumns = 6144;
    Value* weight = node.input(1);
    if (node.is("LSTM") || node.is("GRU") || node.is("RNN")) return consider_recurrent(node, dense);
    if (!node.is("Conv") && !node.is("Gemm") && !node.is("MatMul")) return;
    if (weight == nullptr || weight->constant() == nullptr || dense.input(1) == nullptr ||
        dense.input(1)->constant() == nullptr || dense.op_type() != node.op_type()) {
      return;
    }
    if (node.float_attribute("alpha", 1) != 1 || node.float_attribute("beta", 1) != 1 ||
        weight->constant()->dtype() != DataType::kFloat || !only_reader(*weight)) {
      ++result_.left;
      return;
    }
    const auto view = weight_view(node, 1, weight->constant()->dims());
    const auto dense_view = weight_view(dense, 1, dense.input(1)->constant()->dims());
    if (!view || !dense_view) return;
    auto rows = LayerRows::of(node, *view), dense_rows = LayerRows::of(dense, *dense_view);
    if (!rows || !dense_rows || rows->groups() != 1 || dense_rows->groups() != 1) return;
    // Layers that lost no input only see small errors; fitting them, too, fits noise: MiniLM with a
    // fifth of its hidden units gone has a cosine of 0.981 without that, and of 0.928 with it.
    const bool whole = rows->columns() == dense_rows->columns();
    if (whole && !options_.before_sums.contains(node.output(0)->name())) return;
    if (dense_rows->columns() > kMostColumns) {
      ++result_.left;
      return;
    }
    FittedLayer layer;
    layer.node = &node;
    layer.dense = &dense;
    layer.view = *view;
    layer.dense_view = *dense_view;
    layer.rows = std::move(*rows);
    layer.dense_rows = std::move(*dense_rows);
    const auto kept = kept_.find(weight->name());
    for (std::int64_t i = 0; i < view->channels; ++i) {
      layer.outputs.push_back(
          kept != kept_.end()
              ? kept->second[static_cast<std::size_t>(view->axis)][static_cast<std::size_t>(i)]
              : i);
    }
    find_bias_of(layer, view->channels);
    find_residual_of(layer);
    if (whole && layer.residual == nullptr) return;
    layers_.push_back(std::move(layer));
  }

  // Gates take W x + R h + b: W is fitted when inputs went, over the gates of all directions.
  void consider_recurrent(Node& node, const Node& dense) {
    Value* const weight = node.input(1);
    const Value* const dense_weight = dense.input(1);
    if (weight == nullptr || weight->constant() == nullptr || dense_weight == nullptr ||
        dense_weight->constant() == nullptr || dense.op_type() != node.op_type()) {
      return;
    }
    const auto dims = weight->constant()->dims(), old_dims = dense_weight->constant()->dims();
    if (dims.size() != 3 || old_dims.size() != 3 || dims[2] == old_dims[2]) return;
    if (weight->constant()->dtype() != DataType::kFloat || !only_reader(*weight)) {
      ++result_.left;
      return;
    }
    const auto stacked = [](std::span<const std::int64_t> sizes) {
      WeightView view;
      view.channels = sizes[0] * sizes[1];
      view.inner = sizes[2];
      return view;
    };
    FittedLayer layer;
    layer.node = &node;
    layer.dense = &dense;
    layer.view = stacked(dims);
    layer.dense_view = stacked(old_dims);
    layer.rows = LayerRows::of_vectors(static_cast<std::size_t>(dims[2]));
    layer.dense_rows = LayerRows::of_vectors(static_cast<std::size_t>(old_dims[2]));
    layer.gate_rows = static_cast<std::size_t>(dims[1]);
    layer.dense_gate_rows = static_cast<std::size_t>(old_dims[1]);
    const auto kept = kept_.find(weight->name());
    for (std::int64_t i = 0; i < layer.view.channels; ++i) {
      const std::int64_t row = i % dims[1];
      layer.outputs.push_back(
          i / dims[1] * old_dims[1] +
          (kept != kept_.end() ? kept->second[1][static_cast<std::size_t>(row)] : row));
    }
    Value* const bias = node.input(3);
    const Tensor* const tensor = bias != nullptr ? bias->constant() : nullptr;
    layer.can_have_bias = tensor != nullptr && tensor->dtype() == DataType::kFloat &&
                          only_reader(*bias) && tensor->elements() == 2 * layer.view.channels;
    if (layer.can_have_bias) layer.bias = bias;
    layers_.push_back(std::move(layer));
  }

  //   target = W x + b + (r - r')      r, r': what the dense and the cut model add to it
  static void find_residual_of(FittedLayer& layer) {
    const Node* const dense_add =
        layer.add != nullptr ? only_user(*layer.dense->output(0)) : nullptr;
    if (layer.add != nullptr && dense_add == nullptr) return;
    const Value* const now = (layer.add != nullptr ? layer.add : layer.node)->output(0);
    const Value* const was = (dense_add != nullptr ? dense_add : layer.dense)->output(0);
    layer.residual = joined_with(*now);
    layer.dense_residual = joined_with(*was);
    if (layer.dense_residual == nullptr) layer.residual = nullptr;
  }

  // Weights [kept outputs, columns] and bias of the dense layer.
  Status dense_product(const FittedLayer& layer, std::vector<float>& weights,
                       std::vector<float>& bias) const {
    MCOMPRESS_ASSIGN(const std::vector<float> all,
                     channel_vectors(*layer.dense->input(1)->constant(), layer.dense_view));
    const auto columns = static_cast<std::ptrdiff_t>(layer.dense_rows.columns());
    for (const std::int64_t output : layer.outputs) {
      const auto from = all.begin() + output * columns;
      weights.insert(weights.end(), from, from + columns);
    }
    if (!layer.can_have_bias) return ok_status();
    const Value* value = layer.dense->input(layer.gate_rows > 0 ? 3 : 2);
    if (layer.add != nullptr) {
      const Node* add = only_user(*layer.dense->output(0));
      value = add != nullptr ? add->input(layer.bias_slot) : nullptr;
    }
    if (value == nullptr || value->initializer() == nullptr) return ok_status();
    MCOMPRESS_ASSIGN(const std::vector<float> numbers, read_floats(*value->initializer()));
    for (const std::int64_t output : layer.outputs) {
      bias.push_back(numbers[bias_place(static_cast<std::size_t>(output), layer.dense_gate_rows)]);
    }
    return ok_status();
  }

  Status fit(std::size_t first, std::size_t last) {
    MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
    DataSource& data = *context_.calibration_data();
    struct State {
      std::vector<float> weights, bias;
      std::unique_ptr<CrossMoments> moments, others;  // of every second sample
      // Of one sample.
      std::vector<float> targets, rows, residual, dense_residual;
      void begin() {
        for (auto* list : {&targets, &rows, &residual, &dense_residual}) list->clear();
      }
    };
    std::vector<State> states(last - first);
    SessionOptions before, after;
    for (std::size_t i = first; i < last; ++i) {
      State& state = states[i - first];
      MCOMPRESS_TRY(dense_product(layers_[i], state.weights, state.bias));
      state.moments =
          std::make_unique<CrossMoments>(layers_[i].outputs.size(), layers_[i].rows.columns());
      state.others =
          std::make_unique<CrossMoments>(layers_[i].outputs.size(), layers_[i].rows.columns());
      before.observed.emplace_back(layers_[i].dense->input(0)->name());
      after.observed.emplace_back(layers_[i].node->input(0)->name());
      if (layers_[i].residual == nullptr) continue;
      before.observed.emplace_back(layers_[i].dense_residual->name());
      after.observed.emplace_back(layers_[i].residual->name());
    }
    unique_names(before.observed), unique_names(after.observed);
    MCOMPRESS_ASSIGN(const auto old_session,
                     runtime->open(*prefix_of(dense_, before.observed), before));
    MCOMPRESS_ASSIGN(const auto new_session,
                     runtime->open(*prefix_of(model_, after.observed), after));
    const std::int64_t total = data.count(), count = std::min(options_.samples, total);
    std::vector<std::vector<float>> rows(1);
    for (std::int64_t s = 0; s < count; ++s) {
      if (context_.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while layers were fitted");
      }
      MCOMPRESS_ASSIGN(const auto feeds, data.sample(s * total / count));
      const std::vector<bool> counted = counted_positions(feeds);
      const auto wanted = [&](const FittedLayer& layer) {
        const auto columns = static_cast<std::int64_t>(layer.dense_rows.columns());
        if (!counted.empty()) return static_cast<std::int64_t>(counted.size());
        return (std::max<std::int64_t>(8 * columns, 8192) + count - 1) / count;
      };
      const auto read = [&](const LayerRows& how, const FittedLayer& layer,
                            const TensorView& view) {
        rows[0].clear();
        how.read(view, wanted(layer), s, rows);
        keep_counted(counted, how.columns(), rows[0]);
        return rows[0];
      };
      for (State& state : states) state.begin();
      MCOMPRESS_TRY(old_session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
        for (std::size_t i = first; i < last; ++i) {
          const FittedLayer& layer = layers_[i];
          State& state = states[i - first];
          if (layer.dense->input(0)->name() == before.observed[slot]) {
            state.targets =
                product_rows(read(layer.dense_rows, layer, view), state.weights, state.bias,
                             layer.dense_rows.columns(), layer.outputs.size());
          }
          if (layer.residual != nullptr && layer.dense_residual->name() == before.observed[slot]) {
            const auto channels = static_cast<std::size_t>(layer.dense_view.channels);
            state.dense_residual =
                read(LayerRows::made_by(layer.dense_rows, channels), layer, view);
          }
        }
        return ok_status();
      }));
      MCOMPRESS_TRY(new_session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
        for (std::size_t i = first; i < last; ++i) {
          const FittedLayer& layer = layers_[i];
          State& state = states[i - first];
          if (layer.node->input(0)->name() == after.observed[slot]) {
            state.rows = read(layer.rows, layer, view);
          }
          if (layer.residual != nullptr && layer.residual->name() == after.observed[slot]) {
            state.residual =
                read(LayerRows::made_by(layer.rows, layer.outputs.size()), layer, view);
          }
        }
        return ok_status();
      }));
      for (std::size_t i = first; i < last; ++i) {
        const FittedLayer& layer = layers_[i];
        State& state = states[i - first];
        const std::size_t n = state.rows.size() / layer.rows.columns();
        if (n == 0 || state.targets.size() != n * layer.outputs.size()) continue;
        make_up_for_residual(layer, state.residual, state.dense_residual, state.targets);
        (s % 2 == 0 ? state.moments : state.others)->add(state.targets, state.rows);
      }
    }
    for (std::size_t i = first; i < last; ++i) {
      MCOMPRESS_TRY(apply(layers_[i], *states[i - first].moments, *states[i - first].others));
    }
    return ok_status();
  }

  static void make_up_for_residual(const FittedLayer& layer, const std::vector<float>& now,
                                   const std::vector<float>& was, std::vector<float>& targets) {
    const std::size_t outputs = layer.outputs.size(), n = targets.size() / outputs;
    const auto all = static_cast<std::size_t>(layer.dense_view.channels);
    // Not there, or broadcast: the target is the layer's own.
    if (now.size() != targets.size() || was.size() != n * all) return;
    for (std::size_t r = 0; r < n; ++r) {
      for (std::size_t o = 0; o < outputs; ++o) {
        targets[r * outputs + o] +=
            was[r * all + static_cast<std::size_t>(layer.outputs[o])] - now[r * outputs + o];
      }
    }
  }

  static void unique_names(std::vector<std::string>& names) {
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
  }

  // The damping under which a fit to one half of the samples does best on the other half.
  double best_damping(const FittedLayer& layer, const CrossMoments& half, const CrossMoments& other,
                      std::span<const float> prior, std::span<const float> prior_bias) const {
    double best = options_.damping;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 6; ++i) {
      const double damping = options_.damping * std::pow(10.0, i);
      const auto fit = half.fit(prior, prior_bias, layer.can_have_bias, damping);
      if (!fit) continue;
      const double error = other.error(fit->weights, fit->bias);
      if (error < least) least = error, best = damping;
    }
    return best;
  }

  Status apply(FittedLayer& layer, CrossMoments& moments, const CrossMoments& other) {
    Value& weight = *layer.node->input(1);
    MCOMPRESS_ASSIGN(const std::vector<float> prior,
                     channel_vectors(*weight.constant(), layer.view));
    std::vector<float> prior_bias(layer.outputs.size());
    std::vector<float> biases;  // as they are stored
    if (layer.bias != nullptr) {
      MCOMPRESS_ASSIGN(biases, read_floats(*layer.bias->constant()));
      for (std::size_t i = 0; i < prior_bias.size(); ++i) {
        prior_bias[i] = biases[bias_place(i, layer.gate_rows)];
      }
    }
    const double damping = moments.rows() > 0 && other.rows() > 0
                               ? best_damping(layer, moments, other, prior, prior_bias)
                               : options_.damping;
    moments.add(other);
    const auto fit = moments.fit(prior, prior_bias, layer.can_have_bias, damping);
    if (!fit || !(fit->error_after <= fit->error_before)) {
      ++result_.left;
      return ok_status();
    }
    ++result_.layers;
    result_.error_before += fit->error_before;
    result_.error_after += fit->error_after;
    const auto dims = weight.constant()->dims();
    std::vector<float> values(fit->weights.size());
    // Back from vectors of channels, taps before inputs, to the layout of the tensor.
    const WeightView& view = layer.view;
    const auto channels = static_cast<std::size_t>(view.channels);
    const auto inner = static_cast<std::size_t>(view.inner),
               outer = static_cast<std::size_t>(view.outer);
    const auto taps = static_cast<std::size_t>(view.taps);
    const std::size_t depth = inner / taps;
    for (std::size_t c = 0; c < channels; ++c) {
      for (std::size_t o = 0; o < outer; ++o) {
        for (std::size_t t = 0; t < taps; ++t) {
          for (std::size_t d = 0; d < depth; ++d) {
            values[(o * channels + c) * inner + d * taps + t] =
                fit->weights[c * outer * inner + o * inner + t * depth + d];
          }
        }
      }
    }
    Editor& edit = options_.editor != nullptr ? *options_.editor : context_.edit();
    edit.set_constant(weight, make_float_tensor(values, {dims.begin(), dims.end()}));
    if (!layer.can_have_bias) return ok_status();
    if (layer.bias != nullptr) {
      const auto bias_dims = layer.bias->constant()->dims();
      for (std::size_t i = 0; i < fit->bias.size(); ++i) {
        biases[bias_place(i, layer.gate_rows)] = fit->bias[i];
      }
      edit.set_constant(*layer.bias,
                        make_float_tensor(biases, {bias_dims.begin(), bias_dims.end()}));
    } else {
      Tensor bias = make_float_tensor(fit->bias, {static_cast<std::int64_t>(fit->bias.size())});
      layer.bias = &edit.add_initializer(model_.graph(), std::string(weight.name()) + "_bias",
                                         std::move(bias));
      edit.set_input(*layer.node, 2, layer.bias);
    }
    return ok_status();
  }

  const Model& dense_;
  Model& model_;
  const KeptByName& kept_;
  const ChannelRepairOptions& options_;
  PassContext& context_;
  std::vector<FittedLayer> layers_;
  ChannelRepair result_;
};

}  // namespace

Result<ChannelRepair> repair_channels(const Model& dense, Model& model, const KeptByName& kept,
                                      const ChannelRepairOptions& options, PassContext& context) {
  return Repair(dense, model, kept, options, context).run();
}

}  // namespace mcompress
