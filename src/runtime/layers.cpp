// Layer-wise comparison: the error of each value with everything in front of it, and that of each
// layer by itself. Layers that do not read each other are run by themselves side by side, hundreds
// in one session: opening one for each would take most of the time.
//
// candidate:  x ── Q ── DQ ── Conv(DQ(W)) ── y ── Q ── DQ ── ...      x, y: paired with the
// reference own error of y:  [Q ── DQ ── Conv(DQ(W)) ── Q ── DQ] on the reference's x, against its
// y
#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "ir/facts.h"
#include "ir/part.h"
#include "mcompress/evaluate.h"
#include "numeric/error.h"
#include "runtime/decisions.h"
#include "runtime/model_facts.h"
#include "runtime/part_groups.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kLayerBudget = std::uint64_t{256} << 20;
constexpr std::size_t kMostPartNodes = 4096;

bool is_floating(DataType type) {
  const DTypeInfo* info = find_dtype(type);
  return info != nullptr && info->floating;
}

using Names = std::unordered_map<std::string_view, const Value*>;

Names made_values(const Graph& graph) {
  Names names;
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Value* value : node->outputs()) {
      if (value != nullptr) names.emplace(value->name(), value);
    }
  }
  return names;
}

// The QuantizeLinear whose codes a DequantizeLinear turns into `value`; null: it is no such value.
const Node* quantizer_behind(const Value& value) {
  const Node* node = value.producer();
  if (node == nullptr || !node->is("DequantizeLinear") || node->input(0) == nullptr) return nullptr;
  const Node* quantize = node->input(0)->producer();
  const bool found = quantize != nullptr && quantize->is("QuantizeLinear") &&
                     quantize->input(0) != nullptr && quantize->input(0)->constant() == nullptr;
  return found ? quantize : nullptr;
}

// "x_dequantized", "x_DequantizeLinear_Output": the value of the other model that it stands for.
std::string_view named_after(std::string_view name, const Names& others) {
  std::string_view stem = name;
  while (true) {
    const std::size_t cut = stem.rfind('_');
    if (cut == std::string_view::npos || cut == 0) return {};
    stem = stem.substr(0, cut);
    std::string rest(name.substr(cut));
    std::ranges::transform(rest, rest.begin(), [](unsigned char c) { return std::tolower(c); });
    if (rest.find("dequantize") != std::string::npos && others.count(stem) > 0) return stem;
  }
}

// The value that the readers of `value` get: behind a pair of quantizers where there is one.
const Value& rounded_form(const Value& value) {
  for (const Use& use : value.uses()) {
    if (use.node == nullptr || !use.node->is("QuantizeLinear") || use.slot != 0) continue;
    const Value* codes = use.node->output(0);
    if (codes == nullptr) continue;
    for (const Use& reader : codes->uses()) {
      if (reader.node != nullptr && reader.node->is("DequantizeLinear") && reader.slot == 0 &&
          reader.node->output(0) != nullptr) {
        return *reader.node->output(0);
      }
    }
  }
  return value;
}

struct Known {  // of a paired value, from one run of the reference
  DataType dtype = DataType::kUndefined;
  std::vector<std::int64_t> dims;
  std::uint64_t bytes = 0;
};

struct Layer {
  const Value* reference = nullptr;
  const Value* candidate = nullptr;  // as it is made
  const Value* rounded = nullptr;    // as it is read
  // The part that makes it, and what feeds that: values of the candidate.
  std::vector<const Node*> nodes;
  std::vector<const Value*> feeds;
  std::string why_no_own;
  std::uint64_t weight_bytes = 0;
  LayerError error;
  ErrorAccumulator accumulated, own;
};

// Layers whose parts are run together.
struct LayerGroup {
  std::vector<std::size_t> layers;
  std::vector<const Value*> feeds;  // of all of them
  std::unique_ptr<Session> session;
};

class LayerJudge {
 public:
  LayerJudge(Runtime& runtime, const Model& reference, const Model& candidate, DataSource& data,
             const LayerOptions& options, Progress& progress)
      : runtime_(runtime),
        reference_(reference),
        candidate_(candidate),
        data_(data),
        options_(options),
        progress_(progress),
        budget_(options.memory_budget > 0 ? options.memory_budget : kLayerBudget) {}

  Result<LayerComparison> run(std::span<const ValuePair> pairs) {
    step_ = std::max<std::int64_t>(data_.fixed_batch(), 1);
    result_.samples = options_.limit > 0 ? std::min(options_.limit, data_.count()) : data_.count();
    result_.samples -= result_.samples % step_;
    if (result_.samples == 0) {
      return Error(Code::kInput, "no-samples", "the data have no sample for the models' batch");
    }
    result_.own_samples = std::min(options_.own_limit, result_.samples);
    find_pairs(pairs);
    MCOMPRESS_TRY(learn_shapes());
    MCOMPRESS_TRY(plan_layers());
    for (std::size_t first = 0; first < layers_.size();) {
      MCOMPRESS_ASSIGN(first, run_chunk(first));
    }
    return finish();
  }

 private:
  void find_pairs(std::span<const ValuePair> pairs) {
    const Names left = made_values(reference_.graph()), right = made_values(candidate_.graph());
    std::unordered_set<const Value*> used;
    for (const ValuePair& pair : pairs) {
      const auto before = left.find(pair.reference);
      const auto after = right.find(pair.candidate);
      if (before == left.end() || after == right.end()) continue;
      // Where an activation is part of the quantizer's range, what stands in front of the
      // quantizer is another value than its name says; behind it they are the same.
      const Node* quantize = quantizer_behind(*after->second);
      const Value* made = quantize != nullptr ? quantize->input(0) : after->second;
      if (made->producer() == nullptr) continue;  // a rounded input
      if (used.count(made) > 0 || !used.insert(before->second).second) continue;
      used.insert(made);
      partner_.emplace(made, before->second);
    }
  }

  // Types and sizes of all paired values, which the models need not state.
  Status learn_shapes() {
    SessionOptions session;
    session.threads = options_.threads;
    std::vector<const Value*> order;
    for (const auto& [candidate, reference] : partner_) {
      if (may_be_tensor(*reference)) order.push_back(reference);
    }
    std::sort(order.begin(), order.end(),
              [](const Value* a, const Value* b) { return a->id() < b->id(); });
    for (const Value* value : order) session.observed.emplace_back(value->name());
    if (order.empty()) return ok_status();
    MCOMPRESS_ASSIGN(const auto opened, runtime_.open(reference_, session));
    MCOMPRESS_ASSIGN(const auto feeds, data_.batch(0, step_));
    MCOMPRESS_TRY(opened->observe(feeds, [&](std::size_t i, const TensorView& view) {
      known_[order[i]] = {
          view.dtype, {view.dims.begin(), view.dims.end()}, std::uint64_t{view.bytes.size()}};
      return ok_status();
    }));
    for (const NamedTensor& feed : feeds) {
      fed_[feed.name] = {feed.tensor.dtype(),
                         {feed.tensor.dims().begin(), feed.tensor.dims().end()},
                         feed.tensor.byte_size()};
    }
    return ok_status();
  }

  Status plan_layers() {
    const Graph& graph = candidate_.graph();
    std::size_t count = 0;
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      place_[node] = count++;
    }
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      for (const Value* value : node->outputs()) {
        const auto partner = value != nullptr ? partner_.find(value) : partner_.end();
        if (partner == partner_.end()) continue;
        const auto known = known_.find(partner->second);
        if (known == known_.end() || !is_floating(known->second.dtype)) continue;
        Layer layer;
        layer.reference = partner->second;
        layer.candidate = value;
        layer.rounded = &rounded_form(*value);
        layer.error.value = layer.reference->name();
        layer.error.layer = layer.reference->producer()->label();
        layer.error.op_type = layer.reference->producer()->op_type();
        cut(layer);
        layers_.push_back(std::move(layer));
      }
    }
    if (layers_.empty()) {
      return Error(Code::kInput, "no-common-layer",
                   "the two models have no float value in common that a node makes", {},
                   "compare a model with one that was made from it");
    }
    return ok_status();
  }

  // Backwards from the rounded value to the nearest paired values and inputs.
  void cut(Layer& layer) const {
    std::set<std::pair<std::size_t, const Node*>> taken;
    std::unordered_set<const Value*> seen;
    std::vector<const Value*> open = {layer.rounded};
    while (!open.empty() && layer.why_no_own.empty()) {
      const Value* value = open.back();
      open.pop_back();
      if (value == nullptr || !seen.insert(value).second) continue;
      const bool itself = value == layer.candidate || value == layer.rounded;
      const auto partner = itself ? partner_.end() : partner_.find(value);
      if (partner != partner_.end()) {
        if (known_.count(partner->second) > 0) {
          layer.feeds.push_back(value);
        } else {
          layer.why_no_own = "'" + std::string(value->name()) + "' could not be observed";
        }
        continue;
      }
      if (value->constant() != nullptr) {
        layer.weight_bytes += value->constant()->byte_size();
        continue;
      }
      const Node* node = value->producer();
      if (node == nullptr) {
        if (fed_.count(std::string(value->name())) > 0) {
          layer.feeds.push_back(value);
        } else {
          layer.why_no_own = "'" + std::string(value->name()) + "' is fed to one model only";
        }
        continue;
      }
      layer.why_no_own = why_no_part(*node);
      taken.emplace(place_.at(node), node);
      if (taken.size() > kMostPartNodes) layer.why_no_own = "too many nodes make it";
      for (const Value* input : node->inputs()) open.push_back(input);
    }
    layer.error.nodes = static_cast<std::int64_t>(taken.size());
    for (const auto& [at, node] : taken) layer.nodes.push_back(node);
  }

  const Known& known_of(const Value& feed) const {
    const auto partner = partner_.find(&feed);
    return partner != partner_.end() ? known_.at(partner->second)
                                     : fed_.at(std::string(feed.name()));
  }

  bool wants_own(const Layer& layer) const {
    return result_.own_samples > 0 && layer.why_no_own.empty();
  }

  // Layers first..end whose values and weights fit the budget together, at least one.
  std::size_t end_of_chunk(std::size_t first, std::vector<const Value*>& held) const {
    std::unordered_set<const Value*> counted;
    std::uint64_t bytes = 0;
    std::size_t end = first;
    for (; end < layers_.size(); ++end) {
      const Layer& layer = layers_[end];
      std::vector<const Value*> fresh;
      std::uint64_t more = 0;
      const auto need = [&](const Value* value) {
        if (counted.count(value) > 0) return;
        fresh.push_back(value);
        more += known_.at(value).bytes;
      };
      need(layer.reference);
      if (wants_own(layer)) {
        more += 2 * layer.weight_bytes;
        for (const Value* feed : layer.feeds) {
          const auto partner = partner_.find(feed);
          if (partner != partner_.end()) need(partner->second);
        }
      }
      if (end > first && bytes + more > budget_) break;
      bytes += more;
      for (const Value* value : fresh) {
        if (counted.insert(value).second) held.push_back(value);
      }
    }
    return end;
  }

  Result<std::unique_ptr<Session>> open_session(const LayerGroup& group) const {
    std::vector<PartInput> inputs;
    for (const Value* feed : group.feeds) {
      const Known& known = known_of(*feed);
      inputs.push_back({feed, known.dtype, known.dims});
    }
    std::map<std::size_t, const Node*> nodes;
    std::vector<const Value*> wanted;
    for (const std::size_t i : group.layers) {
      for (const Node* node : layers_[i].nodes) nodes.emplace(place_.at(node), node);
      wanted.push_back(layers_[i].rounded);
    }
    std::vector<const Node*> ordered;
    ordered.reserve(nodes.size());
    for (const auto& [at, node] : nodes) ordered.push_back(node);
    const auto part = part_of(candidate_, ordered, inputs, wanted);
    SessionOptions session;
    session.threads = options_.threads;
    return runtime_.open(*part, session);
  }

  // Adds to `open` the layers in one session, or in several without those that can not run.
  void open_group(std::span<const std::size_t> layers, std::vector<LayerGroup>& open) {
    LayerGroup group{{layers.begin(), layers.end()}, {}, nullptr};
    std::unordered_set<const Value*> seen;
    for (const std::size_t i : layers) {
      for (const Value* feed : layers_[i].feeds) {
        if (seen.insert(feed).second) group.feeds.push_back(feed);
      }
    }
    auto session = open_session(group);
    if (session.ok()) {
      group.session = std::move(session).value();
      open.push_back(std::move(group));
    } else {
      give_up(layers, session.error(), open);
    }
  }

  // One of the layers can not run: which, is found by halves.
  void give_up(std::span<const std::size_t> layers, const Error& why,
               std::vector<LayerGroup>& open) {
    if (layers.size() == 1) {
      layers_[layers.front()].why_no_own = "cannot run alone: " + why.diagnostic.message;
      return;
    }
    open_group(layers.first(layers.size() / 2), open);
    open_group(layers.subspan(layers.size() / 2), open);
  }

  std::vector<LayerGroup> open_groups(std::size_t first, std::size_t end) {
    std::vector<std::size_t> layers;
    std::vector<PartNeeds> needs;
    for (std::size_t i = first; i < end; ++i) {
      if (!wants_own(layers_[i])) continue;
      layers.push_back(i);
      needs.push_back({layers_[i].nodes, layers_[i].feeds});
    }
    std::vector<LayerGroup> open;
    for (const std::vector<std::size_t>& places : groups_of_parts(needs)) {
      std::vector<std::size_t> group;
      group.reserve(places.size());
      for (const std::size_t place : places) group.push_back(layers[place]);
      open_group(group, open);
    }
    return open;
  }

  Result<std::size_t> run_chunk(std::size_t first) {
    std::vector<const Value*> held;
    const std::size_t end = end_of_chunk(first, held);
    SessionOptions left, right;
    left.threads = right.threads = options_.threads;
    for (const Value* value : held) left.observed.emplace_back(value->name());
    for (std::size_t i = first; i < end; ++i) {
      right.observed.emplace_back(layers_[i].rounded->name());
    }
    MCOMPRESS_ASSIGN(const auto reference, runtime_.open(reference_, left));
    MCOMPRESS_ASSIGN(const auto candidate, runtime_.open(candidate_, right));
    std::vector<LayerGroup> groups = open_groups(first, end);
    std::unordered_map<const Value*, Tensor> values;
    for (std::int64_t sample = 0; sample < result_.samples; sample += step_) {
      if (progress_.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
      const auto done =
          static_cast<std::uint64_t>(first) * static_cast<std::uint64_t>(result_.samples) +
          static_cast<std::uint64_t>(sample) * (end - first);
      progress_.update("layers", done / static_cast<std::uint64_t>(result_.samples), layers_.size(),
                       "layers");
      MCOMPRESS_ASSIGN(const auto feeds, data_.batch(sample, step_));
      values.clear();
      MCOMPRESS_TRY(reference->observe(feeds, [&](std::size_t i, const TensorView& view) {
        values.insert_or_assign(held[i],
                                make_bytes_tensor(view.dtype, {view.dims.begin(), view.dims.end()},
                                                  {view.bytes.begin(), view.bytes.end()}));
        return ok_status();
      }));
      MCOMPRESS_TRY(candidate->observe(feeds, [&](std::size_t i, const TensorView& view) {
        Layer& layer = layers_[first + i];
        return add(layer, values, view, layer.accumulated);
      }));
      if (sample >= result_.own_samples) continue;
      MCOMPRESS_TRY(run_groups(groups, values, feeds));
    }
    return end;
  }

  Status add(Layer& layer, const std::unordered_map<const Value*, Tensor>& values,
             const TensorView& view, ErrorAccumulator& errors) {
    const auto expected = values.find(layer.reference);
    if (expected == values.end()) return ok_status();
    const auto dims = expected->second.dims();
    if (!std::equal(dims.begin(), dims.end(), view.dims.begin(), view.dims.end())) {
      ++result_.differing_shapes;
      return ok_status();
    }
    MCOMPRESS_ASSIGN(const std::vector<float> wanted, read_floats(expected->second));
    MCOMPRESS_ASSIGN(const std::vector<float> actual, view_values(view, layer.error.value));
    errors.add(wanted, actual);
    return ok_status();
  }

  using Values = std::unordered_map<const Value*, Tensor>;

  // What is handed to a part for a value; null: it was not made, or not in the sizes of the first
  // sample, for which the part was made.
  const Tensor* given_for(const Value& feed, const Values& values,
                          std::span<const NamedTensor> feeds) const {
    const auto partner = partner_.find(&feed);
    const Tensor* tensor = nullptr;
    if (partner != partner_.end()) {
      const auto held = values.find(partner->second);
      if (held != values.end()) tensor = &held->second;
    } else {
      for (const NamedTensor& one : feeds) {
        if (one.name == feed.name()) tensor = &one.tensor;
      }
    }
    if (tensor == nullptr) return nullptr;
    return std::ranges::equal(known_of(feed).dims, tensor->dims()) ? tensor : nullptr;
  }

  // Groups fall apart where a sample fits some of their layers only, or one can not be run.
  Status run_groups(std::vector<LayerGroup>& groups, const Values& values,
                    std::span<const NamedTensor> feeds) {
    std::vector<LayerGroup> open;
    open.swap(groups);
    while (!open.empty()) {
      if (progress_.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
      LayerGroup group = std::move(open.back());
      open.pop_back();
      const auto fits = [&](std::size_t i) {
        return std::ranges::all_of(layers_[i].feeds, [&](const Value* feed) {
          return given_for(*feed, values, feeds) != nullptr;
        });
      };
      const auto end = std::stable_partition(group.layers.begin(), group.layers.end(), fits);
      const auto fitting = static_cast<std::size_t>(end - group.layers.begin());
      if (fitting == 0) {
        groups.push_back(std::move(group));
        continue;
      }
      if (fitting < group.layers.size()) {
        const std::span<const std::size_t> all = group.layers;
        open_group(all.first(fitting), open);
        open_group(all.subspan(fitting), open);
        continue;
      }
      std::vector<NamedTensor> given;
      for (const Value* feed : group.feeds) {
        given.push_back({part_name(*feed), *given_for(*feed, values, feeds)});
      }
      Status status = group.session->run(given, {}, [&](std::size_t i, const TensorView& view) {
        Layer& layer = layers_[group.layers[i]];
        return add(layer, values, view, layer.own);
      });
      if (status.ok()) {
        groups.push_back(std::move(group));
      } else if (status.error().code == Code::kCancelled) {
        return status;
      } else {
        give_up(group.layers, status.error(), open);
      }
    }
    return ok_status();
  }

  LayerComparison finish() {
    double worst = std::numeric_limits<double>::infinity();
    for (Layer& layer : layers_) {
      const ErrorStats all = layer.accumulated.stats();
      LayerError& error = layer.error;
      error.values = static_cast<std::int64_t>(all.count);
      error.accumulated_db = all.sqnr_db();
      error.cosine = all.cosine();
      error.max_abs_error = all.max_abs_error;
      const ErrorStats own = layer.own.stats();
      if (layer.why_no_own.empty() && own.count > 0) error.own_db = own.sqnr_db();
      if (!error.own_db) {
        error.why_no_own = !layer.why_no_own.empty()  ? std::move(layer.why_no_own)
                           : result_.own_samples == 0 ? "not asked for"
                                                      : "no sample has the sizes of the first one";
      }
      const std::size_t index = result_.layers.size();
      if (!result_.first_differing && all.noise > 0) result_.first_differing = index;
      if (error.own_db && *error.own_db < worst) {
        worst = *error.own_db;
        result_.worst_own = index;
      }
      result_.layers.push_back(std::move(error));
    }
    return std::move(result_);
  }

  Runtime& runtime_;
  const Model& reference_;
  const Model& candidate_;
  DataSource& data_;
  const LayerOptions& options_;
  Progress& progress_;
  std::uint64_t budget_;
  std::int64_t step_ = 1;
  std::unordered_map<const Value*, const Value*> partner_;  // of the candidate's values
  std::unordered_map<const Value*, Known> known_;           // by the reference's value
  std::map<std::string, Known> fed_;
  std::unordered_map<const Node*, std::size_t> place_;  // of the candidate's nodes, in their order
  std::vector<Layer> layers_;
  LayerComparison result_;
};

}  // namespace

std::vector<ValuePair> shared_values(const Model& reference, const Model& candidate) {
  const Names left = made_values(reference.graph());
  std::vector<ValuePair> pairs;
  const Graph& graph = candidate.graph();
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    const Value* value = node->output(0);
    if (value == nullptr || quantizer_behind(*value) == nullptr) continue;
    const std::string_view stem =
        left.count(value->name()) > 0 ? value->name() : named_after(value->name(), left);
    if (!stem.empty()) pairs.push_back({std::string(stem), std::string(value->name())});
  }
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Value* value : node->outputs()) {
      if (value == nullptr || left.count(value->name()) == 0) continue;
      pairs.push_back({std::string(value->name()), std::string(value->name())});
    }
  }
  return pairs;
}

Result<LayerComparison> compare_layers(Runtime& runtime, const Model& reference,
                                       const Model& candidate, std::span<const ValuePair> pairs,
                                       DataSource& data, const LayerOptions& options,
                                       Progress& progress) {
  return LayerJudge(runtime, reference, candidate, data, options, progress).run(pairs);
}

}  // namespace mcompress
