// What element-wise arithmetic means, whatever its spelling: Add, Sub, Mul, Div, Neg, Reciprocal,
// Pow and constants written out as a sum of products. Two trees that differ in the order or the
// grouping of their operands, or in where a constant factor stands, have the same sum.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// A value that stands for scale * symbol^power. Several values may stand for one symbol.
struct Symbol {
  const Value* value = nullptr;
  std::size_t index = 0;
  int power = 1;
  double scale = 1;
};

struct ScaledTerm {
  double coefficient = 1;
  std::vector<int> powers;              // one per symbol
  std::vector<const Value*> constants;  // factors with more than one element, in order of id
};

class Expression {
 public:
  Expression() = default;
  explicit Expression(std::vector<ScaledTerm> terms);  // adds up equal products
  const std::vector<ScaledTerm>& terms() const { return terms_; }
  // The coefficient of a product without constant factors; 0 when there is none.
  double of(const std::vector<int>& powers) const;
  // Whether it is `wanted` (coefficient per product), up to the rounding of float constants.
  bool is(const std::vector<std::pair<std::vector<int>, double>>& wanted) const;

 private:
  std::vector<ScaledTerm> terms_;
};

// Whether two numbers are one constant, rounded differently.
bool nearly(double a, double b);

class Expander {
 public:
  struct Options {
    std::size_t symbols = 1;
    std::size_t rank = 0;         // least rank of the symbols: constants of more could add axes
    bool constants = false;       // whether constants of several elements may be factors
    bool drops_max_zero = false;  // Max(v, 0) is v: for what is known to be no negative number
  };
  Expander(std::vector<Symbol> symbols, Options options)
      : symbols_(std::move(symbols)), options_(options) {}

  // Empty: not a polynomial in the symbols (powers may be negative), or a large one.
  std::optional<Expression> expand(const Value& value);
  // The nodes seen by the last call.
  const std::vector<Node*>& nodes() const { return nodes_; }

 private:
  std::optional<Expression> visit(const Value& value, int depth);
  std::optional<Expression> node(const Node& node, int depth);
  Expression number(double coefficient) const;

  std::vector<Symbol> symbols_;
  Options options_;
  std::vector<Node*> nodes_;
  int budget_ = 0;
};

// Values that the arithmetic above `value` is made of, `value` first, as far as a few steps reach.
std::vector<Value*> operands_below(Value& value);
// Nodes of such arithmetic that `value` goes into, in the graph of the value, nearest first.
std::vector<Node*> arithmetic_above(const Value& value);

// Nothing but nodes of the set reads what the nodes of the set make, the root's result excepted.
// Empty: it is so; else the reason.
std::string why_not_closed(const std::vector<Node*>& nodes, const Node& root);

// A gate: outer(x, u), where a function makes u of inner(x).
struct Gate {
  Node* root = nullptr;  // makes outer(x, u)
  Value* x = nullptr;
  Expression outer;          // over x and u
  Expression inner;          // over x
  std::vector<Node*> nodes;  // all that goes when the gate becomes one operator, the root too
  std::string why_not;       // what else needs some of them; empty: nothing
};
struct GateRules {
  std::function<bool(const Expression& inner)> inner;
  std::function<bool(const Expression& inner, const Expression& outer)> outer;
};
// Looks for an x and for a root that fit, those with the most nodes between them. `function`: the
// nodes that make `output`, which is u, of `input`, which is inner(x).
std::optional<Gate> find_gate(Value& input, Value& output, const std::vector<Node*>& function,
                              const GateRules& rules);

}  // namespace mcompress
