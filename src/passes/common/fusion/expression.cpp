#include "passes/common/fusion/expression.h"

#include <algorithm>
#include <cmath>

#include "ir/facts.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostTerms = 12;
constexpr int kMostSteps = 64;
constexpr int kMostDepth = 16;
constexpr std::size_t kMostCandidates = 16;

bool is_arithmetic(const Node& node) {
  return node.is("Add") || node.is("Sub") || node.is("Mul") || node.is("Div") || node.is("Neg") ||
         node.is("Reciprocal") || node.is("Pow");
}

bool same_product(const ScaledTerm& a, const ScaledTerm& b) {
  return a.powers == b.powers && a.constants == b.constants;
}

ScaledTerm times(const ScaledTerm& a, const ScaledTerm& b) {
  ScaledTerm product = a;
  product.coefficient *= b.coefficient;
  for (std::size_t i = 0; i < product.powers.size(); ++i) product.powers[i] += b.powers[i];
  product.constants.insert(product.constants.end(), b.constants.begin(), b.constants.end());
  std::ranges::sort(product.constants, {}, &Value::id);
  return product;
}

std::optional<Expression> times(const Expression& a, const Expression& b) {
  if (a.terms().size() * b.terms().size() > kMostTerms) return std::nullopt;
  std::vector<ScaledTerm> terms;
  for (const ScaledTerm& left : a.terms()) {
    for (const ScaledTerm& right : b.terms()) terms.push_back(times(left, right));
  }
  return Expression(std::move(terms));
}

std::optional<Expression> plus(const Expression& a, const Expression& b, double factor) {
  std::vector<ScaledTerm> terms = a.terms();
  for (ScaledTerm term : b.terms()) {
    term.coefficient *= factor;
    terms.push_back(std::move(term));
  }
  Expression sum(std::move(terms));
  if (sum.terms().size() > kMostTerms) return std::nullopt;
  return sum;
}

// 1 / a, of one product of symbols.
std::optional<Expression> inverse(const Expression& a) {
  if (a.terms().size() != 1) return std::nullopt;
  ScaledTerm term = a.terms().front();
  if (!term.constants.empty() || term.coefficient == 0.0) return std::nullopt;
  term.coefficient = 1.0 / term.coefficient;
  for (int& power : term.powers) power = -power;
  return Expression({std::move(term)});
}

}  // namespace

bool nearly(double a, double b) {
  constexpr double kRounding = 1e-6;
  return std::abs(a - b) <= kRounding * std::max(std::abs(a), std::abs(b));
}

Expression::Expression(std::vector<ScaledTerm> terms) {
  std::vector<double> magnitudes;  // what was added up, to tell what cancelled out
  for (ScaledTerm& term : terms) {
    const auto same = std::ranges::find_if(
        terms_, [&](const ScaledTerm& other) { return same_product(term, other); });
    if (same == terms_.end()) {
      magnitudes.push_back(std::abs(term.coefficient));
      terms_.push_back(std::move(term));
    } else {
      magnitudes[static_cast<std::size_t>(same - terms_.begin())] += std::abs(term.coefficient);
      same->coefficient += term.coefficient;
    }
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < terms_.size(); ++i) {
    if (std::abs(terms_[i].coefficient) <= 1e-7 * magnitudes[i]) continue;
    if (kept != i) terms_[kept] = std::move(terms_[i]);
    ++kept;
  }
  terms_.resize(kept);
}

double Expression::of(const std::vector<int>& powers) const {
  for (const ScaledTerm& term : terms_) {
    if (term.constants.empty() && term.powers == powers) return term.coefficient;
  }
  return 0.0;
}

bool Expression::is(const std::vector<std::pair<std::vector<int>, double>>& wanted) const {
  if (terms_.size() != wanted.size()) return false;
  return std::ranges::all_of(
      wanted, [&](const auto& entry) { return nearly(of(entry.first), entry.second); });
}

std::optional<Expression> Expander::expand(const Value& value) {
  nodes_.clear();
  budget_ = kMostSteps;
  return visit(value, 0);
}

Expression Expander::number(double coefficient) const {
  return Expression({ScaledTerm{coefficient, std::vector<int>(options_.symbols, 0), {}}});
}

std::optional<Expression> Expander::visit(const Value& value, int depth) {
  if (depth > kMostDepth || --budget_ < 0) return std::nullopt;
  for (const Symbol& symbol : symbols_) {
    if (symbol.value != &value) continue;
    ScaledTerm term{symbol.scale, std::vector<int>(options_.symbols, 0), {}};
    term.powers[symbol.index] = symbol.power;
    return Expression({std::move(term)});
  }
  if (is_constant(&value)) {
    const auto rank = rank_of(value);
    if (!rank || *rank > options_.rank) return std::nullopt;
    const auto dims = static_shape(value);
    const bool single = dims && std::ranges::all_of(*dims, [](auto dim) { return dim == 1; });
    if (single) {
      const auto scalar = constant_scalar(&value);
      if (!scalar || !std::isfinite(*scalar)) return std::nullopt;
      return number(*scalar);
    }
    if (!options_.constants) return std::nullopt;
    return Expression({ScaledTerm{1.0, std::vector<int>(options_.symbols, 0), {&value}}});
  }
  if (value.producer() == nullptr) return std::nullopt;
  auto result = node(*value.producer(), depth);
  if (result && std::ranges::find(nodes_, value.producer()) == nodes_.end()) {
    nodes_.push_back(value.producer());
  }
  return result;
}

std::optional<Expression> Expander::node(const Node& node, int depth) {
  const auto operand = [&](std::size_t slot) -> std::optional<Expression> {
    const Value* input = node.input(slot);
    return input != nullptr ? visit(*input, depth + 1) : std::nullopt;
  };
  if (node.is("Max") && options_.drops_max_zero && node.inputs().size() == 2) {
    for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      if (constant_scalar(node.input(slot)) == 0.0) return operand(1 - slot);
    }
    return std::nullopt;
  }
  if (!is_arithmetic(node)) return std::nullopt;
  const auto a = operand(0);
  if (!a) return std::nullopt;
  if (node.is("Neg")) return times(*a, number(-1));
  if (node.is("Reciprocal")) return inverse(*a);
  if (node.is("Pow")) {
    const auto exponent = constant_scalar(node.input(1));
    const auto rank = node.input(1) != nullptr ? rank_of(*node.input(1)) : std::nullopt;
    if (!exponent || !rank || *rank > options_.rank) return std::nullopt;
    if (exponent == -1.0) return inverse(*a);
    if (exponent == 2.0) return times(*a, *a);
    if (exponent != 3.0) return std::nullopt;
    const auto square = times(*a, *a);
    return square ? times(*square, *a) : std::nullopt;
  }
  const auto b = operand(1);
  if (!b) return std::nullopt;
  if (node.is("Add")) return plus(*a, *b, 1);
  if (node.is("Sub")) return plus(*a, *b, -1);
  if (node.is("Mul")) return times(*a, *b);
  const auto reciprocal = inverse(*b);
  return reciprocal ? times(*a, *reciprocal) : std::nullopt;
}

std::vector<Value*> operands_below(Value& value) {
  std::vector<Value*> found{&value};
  for (std::size_t i = 0; i < found.size() && found.size() < kMostCandidates; ++i) {
    Node* node = found[i]->producer();
    if (node == nullptr || !is_arithmetic(*node)) continue;
    for (Value* input : node->inputs()) {
      if (input == nullptr || is_constant(input)) continue;
      if (std::ranges::find(found, input) == found.end()) found.push_back(input);
    }
  }
  return found;
}

std::vector<Node*> arithmetic_above(const Value& value) {
  std::vector<Node*> found;
  std::vector<const Value*> work{&value};
  constexpr std::size_t kMostReaders = 8;  // a value with more is no inner part of one function
  for (std::size_t i = 0; i < work.size() && found.size() < kMostCandidates; ++i) {
    if (work[i]->uses().size() > kMostReaders) continue;
    for (const Use& use : work[i]->uses()) {
      if (use.node == nullptr || use.graph != &value.graph() || !is_arithmetic(*use.node)) continue;
      if (std::ranges::find(found, use.node) != found.end()) continue;
      found.push_back(use.node);
      if (use.node->output(0) != nullptr) work.push_back(use.node->output(0));
    }
  }
  return found;
}

std::string why_not_closed(const std::vector<Node*>& nodes, const Node& root) {
  for (const Node* node : nodes) {
    if (node == &root) continue;
    for (const Value* output : node->outputs()) {
      if (output == nullptr) continue;
      for (const Use& use : output->uses()) {
        const bool inside = use.node != nullptr && use.graph == &root.graph() &&
                            &output->graph() == &root.graph() &&
                            std::ranges::find(nodes, use.node) != nodes.end();
        if (inside) continue;
        std::string why = why_not_only_user(*output);
        return !why.empty() ? why : "'" + std::string(output->name()) + "' is read elsewhere";
      }
    }
  }
  return {};
}

std::optional<Gate> find_gate(Value& input, Value& output, const std::vector<Node*>& function,
                              const GateRules& rules) {
  std::optional<Gate> best, refused;
  std::vector<Node*> above = arithmetic_above(output);
  if (output.producer() != nullptr) above.push_back(output.producer());
  for (Value* x : operands_below(input)) {
    const std::size_t rank = rank_of(*x).value_or(0);
    Expander below({{x, 0, 1, 1}}, {1, rank, false, false});
    const auto inner = below.expand(input);
    if (!inner || !rules.inner(*inner)) continue;
    Expander whole({{x, 0, 1, 1}, {&output, 1, 1, 1}}, {2, rank, false, false});
    for (Node* root : above) {
      if (root->output(0) == nullptr) continue;
      const auto outer = whole.expand(*root->output(0));
      if (!outer || !rules.outer(*inner, *outer)) continue;
      Gate gate{root, x, *outer, *inner, whole.nodes(), {}};
      for (const std::vector<Node*>* more : {&below.nodes(), &function}) {
        for (Node* node : *more) {
          if (std::ranges::find(gate.nodes, node) == gate.nodes.end()) gate.nodes.push_back(node);
        }
      }
      gate.why_not = why_not_closed(gate.nodes, *root);
      std::optional<Gate>& place = gate.why_not.empty() ? best : refused;
      if (!place || gate.nodes.size() > place->nodes.size()) place = std::move(gate);
    }
  }
  return best ? best : refused;
}

}  // namespace mcompress
