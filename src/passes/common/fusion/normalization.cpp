#include "passes/common/fusion/normalization.h"

#include <algorithm>
#include <cmath>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/expression.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/fusion/native.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A mean or a sum over some axes that keeps them, with length 1.
struct Reduction {
  Node* node = nullptr;
  Value* input = nullptr;
  bool sum = false;
  bool of_squares = false;         // ReduceSumSquare
  std::vector<std::int64_t> axes;  // counted from the end, sorted
};

std::optional<Reduction> reduction_of(Node* node) {
  if (node == nullptr || node->input(0) == nullptr || node->output(0) == nullptr) {
    return std::nullopt;
  }
  Reduction reduction;
  reduction.node = node;
  reduction.input = node->input(0);
  reduction.of_squares = node->is("ReduceSumSquare");
  reduction.sum = reduction.of_squares || node->is("ReduceSum");
  if (!reduction.sum && !node->is("ReduceMean")) return std::nullopt;
  if (node->int_attribute("keepdims", 1) == 0) return std::nullopt;
  const IntsParameter axes = ints_parameter(*node, "axes", 1);
  if (!axes.known || !axes.values || axes.values->empty()) return std::nullopt;
  const auto rank = rank_of(*reduction.input);
  for (std::int64_t axis : *axes.values) {
    if (axis >= 0) {
      if (!rank) return std::nullopt;
      axis -= static_cast<std::int64_t>(*rank);
    }
    if (axis >= 0) return std::nullopt;
    reduction.axes.push_back(axis);
  }
  std::ranges::sort(reduction.axes);
  return reduction;
}

bool are_last(const std::vector<std::int64_t>& axes) {
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] != static_cast<std::int64_t>(i) - static_cast<std::int64_t>(axes.size())) {
      return false;
    }
  }
  return true;
}

// The sizes of the last `count` axes; empty when one is unknown.
std::vector<std::int64_t> last_dims(const Value& value, std::size_t count) {
  std::vector<std::int64_t> dims;
  for (std::size_t i = count; i > 0; --i) {
    const auto dim = dim_of(value, -static_cast<std::int64_t>(i));
    if (!dim || *dim <= 0) return {};
    dims.push_back(*dim);
  }
  return dims;
}

std::int64_t product(const std::vector<std::int64_t>& dims) {
  std::int64_t count = 1;
  for (std::int64_t dim : dims) count *= dim;
  return count;
}

// The reductions that a variance is made of, below the Sqrt.
std::vector<Reduction> reductions_below(Value& value) {
  std::vector<Reduction> found;
  std::vector<Value*> work{&value};
  constexpr std::size_t kMost = 24;
  for (std::size_t i = 0; i < work.size() && work.size() < kMost; ++i) {
    Node* node = work[i]->producer();
    if (node == nullptr) continue;
    if (auto reduction = reduction_of(node)) {
      if (std::ranges::find(found, node, &Reduction::node) == found.end()) {
        found.push_back(std::move(*reduction));
      }
      continue;
    }
    if (!node->is("Add") && !node->is("Sub") && !node->is("Mul") && !node->is("Div") &&
        !node->is("Max") && !node->is("Pow")) {
      continue;
    }
    for (Value* input : node->inputs()) {
      if (input != nullptr && !is_constant(input)) work.push_back(input);
    }
  }
  return found;
}

// Symbols: 0 is x, 1 its mean, 2 the standard deviation; 3 the mean of squares inside the variance.
constexpr std::size_t kSymbols = 4;
using Powers = std::vector<int>;

class Finder {
 public:
  explicit Finder(Node& node) : node_(node) {}

  std::optional<Normalization> find() {
    Value* radicand = node_.input(0);
    if (radicand == nullptr || node_.output(0) == nullptr) return std::nullopt;
    const auto below = reductions_below(*radicand);
    if (below.empty() || below.size() > 3) return std::nullopt;
    for (const Reduction& moment : below) {
      for (Value* x : bases_of(moment)) {
        if (auto found = try_with(*x, moment)) return found;
      }
    }
    return std::nullopt;
  }

 private:
  // What a second moment may be the moment of: the squared value, or what its mean is taken from.
  static std::vector<Value*> bases_of(const Reduction& moment) {
    Value* inside = moment.input;
    Value* base = nullptr;
    if (moment.of_squares) {
      base = inside;
    } else if (Node* square = inside->producer()) {
      if (square->is("Pow") || (square->is("Mul") && square->input(0) == square->input(1))) {
        base = square->input(0);
      }
    }
    if (base == nullptr) return {};
    std::vector<Value*> bases;
    if (Node* difference = made_by(base, "Sub")) {
      for (Value* input : difference->inputs()) {
        if (input != nullptr && !is_constant(input)) bases.push_back(input);
      }
    }
    bases.push_back(base);
    return bases;
  }

  std::optional<Normalization> try_with(Value& x, const Reduction& moment) {
    found_ = {};
    found_.x = &x;
    rank_ = rank_of(x).value_or(moment.axes.size());
    found_.axis = moment.axes.front();
    found_.dims = last_dims(x, moment.axes.size());
    const auto count = static_cast<double>(product(found_.dims));
    const bool counted = !found_.dims.empty();
    if (moment.sum && !counted) return std::nullopt;

    symbols_ = {{&x, 0, 1, 1}};
    std::vector<Node*> means;
    constexpr std::size_t kMostReaders = 64;
    if (x.uses().size() > kMostReaders) return std::nullopt;
    for (const Use& use : x.uses()) {
      const auto mean = use.graph == &node_.graph() ? reduction_of(use.node) : std::nullopt;
      if (!mean || mean->of_squares || mean->axes != moment.axes || (mean->sum && !counted)) {
        continue;
      }
      symbols_.push_back({mean->node->output(0), 1, 1, mean->sum ? count : 1.0});
      means.push_back(mean->node);
    }
    if (!fits_variance(moment, count)) return std::nullopt;
    if (!are_last(moment.axes)) {
      found_.root = &node_;
      found_.why_not =
          "'" + std::string(x.name()) + "' is normalised over other axes than the last";
      return found_;
    }
    const int power = node_.is("Sqrt") ? 1 : -1;
    symbols_.push_back({node_.output(0), 2, power, 1});
    return widest(means);
  }

  // variance + epsilon, over x, its mean and the moment.
  bool fits_variance(const Reduction& moment, double count) {
    std::vector<Symbol> symbols = symbols_;
    symbols.push_back({moment.node->output(0), 3, 1, moment.sum ? count : 1.0});
    Expander radicand(symbols, {kSymbols, rank_, false, true});
    const auto sum = radicand.expand(*node_.input(0));
    if (!sum) return false;
    found_.epsilon = sum->of({0, 0, 0, 0});
    const std::pair<Powers, double> second{{0, 0, 0, 1}, 1.0};
    const std::pair<Powers, double> epsilon{{0, 0, 0, 0}, found_.epsilon};
    const std::pair<Powers, double> mean_square{{0, 2, 0, 0}, -1.0};
    if (!(found_.epsilon > 0)) return false;
    const bool plain = sum->is({second, epsilon});
    const bool less_mean = sum->is({second, epsilon, mean_square});
    if (!plain && !less_mean) return false;
    nodes_ = radicand.nodes();
    nodes_.push_back(&node_);
    nodes_.push_back(moment.node);
    // What is squared: x, or x - mean.
    Expander square(symbols_, {kSymbols, rank_, false, false});
    const auto inside = square.expand(*moment.input);
    if (!inside) return false;
    const auto of_x = [&] {
      return moment.of_squares ? inside->is({{{1, 0, 0, 0}, 1.0}})
                               : inside->is({{{2, 0, 0, 0}, 1.0}});
    };
    const auto of_difference = [&] {
      if (moment.of_squares) {
        return inside->is({{{1, 0, 0, 0}, 1.0}, {{0, 1, 0, 0}, -1.0}}) ||
               inside->is({{{1, 0, 0, 0}, -1.0}, {{0, 1, 0, 0}, 1.0}});
      }
      return inside->is({{{2, 0, 0, 0}, 1.0}, {{1, 1, 0, 0}, -2.0}, {{0, 2, 0, 0}, 1.0}});
    };
    found_.centred = less_mean || !of_x();
    if (found_.centred && (less_mean ? !of_x() : !of_difference())) return false;
    add(square.nodes());
    return true;
  }

  void add(const std::vector<Node*>& nodes) {
    for (Node* node : nodes) {
      if (std::ranges::find(nodes_, node) == nodes_.end()) nodes_.push_back(node);
    }
  }

  // The widest expression above the Sqrt that is a normalisation and that nothing else reads parts
  // of.
  std::optional<Normalization> widest(const std::vector<Node*>& means) {
    std::optional<Normalization> best, refused;
    const std::vector<Node*> variance = nodes_;
    for (Node* root : arithmetic_above(*node_.output(0))) {
      if (root->output(0) == nullptr) continue;
      Expander whole(symbols_, {kSymbols, rank_, true, false});
      const auto sum = whole.expand(*root->output(0));
      Normalization candidate = found_;
      if (!sum || !reads_as_normalization(*sum, candidate)) continue;
      nodes_ = variance;
      add(whole.nodes());
      for (Node* mean : means) {
        // Only those that are a part of it: others stay.
        const bool read = std::ranges::any_of(mean->output(0)->uses(), [&](const Use& use) {
          return std::ranges::find(nodes_, use.node) != nodes_.end();
        });
        if (read) add({mean});
      }
      candidate.root = root;
      candidate.nodes = nodes_;
      candidate.why_not = why_not_closed(nodes_, *root);
      auto& place = candidate.why_not.empty() ? best : refused;
      if (!place || candidate.nodes.size() > place->nodes.size()) place = std::move(candidate);
    }
    return best ? best : refused;
  }

  bool reads_as_normalization(const Expression& sum, Normalization& candidate) const {
    const ScaledTerm* scaled = nullptr;
    const ScaledTerm* shifted = nullptr;
    const ScaledTerm* constant = nullptr;
    for (const ScaledTerm& term : sum.terms()) {
      const ScaledTerm** place = nullptr;
      if (term.powers == Powers{1, 0, -1, 0}) place = &scaled;
      if (term.powers == Powers{0, 1, -1, 0}) place = &shifted;
      if (term.powers == Powers{0, 0, 0, 0}) place = &constant;
      if (place == nullptr || *place != nullptr || term.constants.size() > 1) return false;
      *place = &term;
    }
    if (scaled == nullptr || (shifted != nullptr) != candidate.centred) return false;
    if (shifted != nullptr && (shifted->constants != scaled->constants ||
                               !nearly(shifted->coefficient, -scaled->coefficient))) {
      return false;
    }
    if (constant != nullptr && !candidate.centred) return false;
    candidate.gamma_factor = scaled->coefficient;
    if (!scaled->constants.empty()) candidate.gamma = scaled->constants.front();
    if (constant != nullptr) {
      candidate.beta_factor = constant->coefficient;
      if (!constant->constants.empty()) candidate.beta = constant->constants.front();
    }
    return fits(candidate.gamma, candidate) && fits(candidate.beta, candidate);
  }

  // One number per element of the last axes.
  static bool fits(const Value* constant, const Normalization& candidate) {
    if (constant == nullptr) return true;
    auto shape = static_shape(*constant).value_or(std::vector<std::int64_t>());
    while (shape.size() > candidate.dims.size() && shape.front() == 1) shape.erase(shape.begin());
    return !candidate.dims.empty() && shape == candidate.dims;
  }

  Node& node_;
  Normalization found_;
  std::size_t rank_ = 0;
  std::vector<Symbol> symbols_;
  std::vector<Node*> nodes_;
};

}  // namespace

std::optional<Normalization> find_normalization(Node& node) {
  const bool inverse = node.is("Pow") && constant_scalar(node.input(1)) == -0.5;
  if (!node.is("Sqrt") && !inverse) return std::nullopt;
  return Finder(node).find();
}

Value* parameter_of(PassContext& context, Graph& graph, std::string_view name,
                    const Value* constant, double factor, const std::vector<std::int64_t>& dims) {
  std::vector<float> numbers(static_cast<std::size_t>(product(dims)), static_cast<float>(factor));
  if (constant != nullptr) {
    const auto data = constant_of(constant);
    const auto values = data ? constant_reals(constant, product(dims)) : std::nullopt;
    if (!values || values->size() != numbers.size()) return nullptr;
    const bool as_it_is =
        factor == 1.0 && constant->is_initializer() && data->dims().size() == dims.size();
    if (as_it_is) return const_cast<Value*>(constant);
    std::ranges::transform(*values, numbers.begin(),
                           [&](double value) { return static_cast<float>(value * factor); });
  }
  return &add_constant(context, graph, name, make_float_tensor(numbers, dims));
}

Status merge_normalizations(Model& model, PassContext& context, std::string_view op_type,
                            bool centred) {
  std::vector<Normalization> sites;
  std::int64_t eligible = 0, saved = 0;
  for (Node* node : find_nodes(context, model, {"Pow", "Sqrt"})) {
    auto site = find_normalization(*node);
    if (!site || site->centred != centred) continue;
    ++eligible;
    std::string why = site->why_not;
    if (why.empty()) why = why_not_float(*site->x);
    if (why.empty() && site->dims.empty()) {
      why = "the size of the last axes of '" + std::string(site->x->name()) + "' is unknown";
    }
    if (!why.empty()) {
      context.explain().skipped(*site->root, std::move(why));
      continue;
    }
    saved += static_cast<std::int64_t>(site->nodes.size()) - 1;
    sites.push_back(std::move(*site));
  }
  context.report().count("eligible", eligible);
  std::string why;
  if (!sites.empty()) {
    MCOMPRESS_ASSIGN(why, admit_native(model, context, op_type, saved));
  }
  if (!why.empty()) {
    for (const Normalization& site : sites) context.explain().skipped(*site.root, why);
    sites.clear();
  }
  for (const Normalization& site : sites) {
    const std::string base(site.root->output(0)->name());
    Graph& graph = site.root->graph();
    NewNode form;
    form.op_type = op_type;
    form.inputs = {site.x, parameter_of(context, graph, base + "_scale", site.gamma,
                                        site.gamma_factor, site.dims)};
    if (site.beta != nullptr || site.beta_factor != 0.0) {
      form.inputs.push_back(
          parameter_of(context, graph, base + "_bias", site.beta, site.beta_factor, site.dims));
    }
    if (std::ranges::find(form.inputs, nullptr) != form.inputs.end()) {
      context.explain().skipped(*site.root, "its constants can not be read");
      continue;
    }
    form.attributes.push_back(attribute("axis", site.axis));
    form.attributes.push_back(attribute("epsilon", static_cast<float>(site.epsilon)));
    chose(context, *site.root,
          std::string(op_type) + " instead of " + std::to_string(site.nodes.size()) + " nodes");
    MCOMPRESS_TRY(become(context, *site.root, std::move(form)));
  }
  context.report().count("fused", static_cast<std::int64_t>(sites.size()));
  return ok_status();
}

}  // namespace mcompress
