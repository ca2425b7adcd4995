// Dimensions as far as the graph decides them: each one is a number, or a symbol that stands for
// the same unknown number wherever it turns up. The same for the elements of the small integer
// tensors that are computed from dimensions.
//
//   x: [N, 3, 8]    s = Shape(x)             elements N, 3, 8
//                   t = Concat(s[0:1], -1)   elements N, -1
//
// Symbols follow what operators do; a name in the file only counts where it is of an input of the
// model. Facts stay true while a graph is edited, as long as the values keep their meaning.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

struct Term {
  std::int64_t number = 0;
  std::uint32_t symbol = 0;  // 0: none, it is the number
  bool known() const { return symbol == 0; }
  bool is(std::int64_t other) const { return symbol == 0 && number == other; }
  bool operator==(const Term&) const = default;
};
using Terms = std::vector<Term>;

class SymbolicShapes {
 public:
  explicit SymbolicShapes(Model& model);
  SymbolicShapes(const SymbolicShapes&) = delete;
  SymbolicShapes& operator=(const SymbolicShapes&) = delete;

  // Null: the rank is not known.
  const Terms* dims(const Value& value) const;
  // Of an integer or boolean tensor with at most one dimension; null: not known at all.
  const Terms* elements(const Value& value) const;
  // What the inputs of the model call a size that is no number; empty: they have no name for it.
  std::string_view name_of(Term term) const;
  // The symbol is a dimension: it can not be negative.
  bool is_size(Term term) const { return term.known() ? term.number >= 0 : sizes_[term.symbol]; }
  // What dimensions become when they are broadcast; empty: nobody knows.
  std::optional<Term> broadcast(Term left, Term right) const;

 private:
  friend class SymbolicElements;
  struct Product {
    std::int64_t number = 1;
    std::vector<std::uint32_t> symbols;  // sorted, none of which is a product itself
  };
  void visit(Graph& graph);
  void node(const Node& node);
  void complete(const Value& value, const Terms* found);
  const Terms* keep(const Terms& terms) { return &*kept_.insert(terms).first; }
  Term fresh(bool is_size);
  std::optional<Terms> rule(const Node& node, std::size_t output);
  std::optional<Terms> of_bodies(const Node& node, std::size_t output) const;

  std::optional<Terms> broadcast_all(const Node& node);
  std::optional<Terms> reshape(const Node& node);
  std::optional<Term> quotient(const Terms& product, const Terms& terms, std::size_t open);
  std::optional<Product> product_of(const Terms& terms) const;
  bool same_count(const Terms& input, const Terms& target) const;
  std::optional<Terms> counted(const Node& node) const;
  std::optional<Terms> expand(const Node& node);
  std::optional<Terms> moved(const Node& node) const;  // Transpose, Squeeze, Unsqueeze
  std::optional<Terms> reduced(const Node& node) const;
  std::optional<Terms> joined(const Node& node);
  std::optional<Terms> cut(const Node& node, std::size_t output);
  std::optional<Terms> gathered(const Node& node) const;
  std::optional<Terms> product(const Node& node) const;
  std::optional<Terms> window(const Node& node);

  struct TermsHash {
    std::size_t operator()(const Terms& terms) const;
  };
  // Most values have the dimensions of others: all that are the same are one.
  std::unordered_set<Terms, TermsHash> kept_;
  std::vector<const Terms*> dims_, elements_;  // by value id; null: not known
  Terms scratch_;
  std::vector<bool> sizes_{false};             // by symbol
  std::map<std::uint32_t, Product> products_;  // symbols that stand for several others
  std::map<std::pair<std::int64_t, std::vector<std::uint32_t>>, Term> made_;  // the same by product
  std::map<std::string, Term, std::less<>> named_;   // of the model's inputs
  std::map<std::uint32_t, std::string_view> names_;  // the same by symbol
};

// The constant shape with which a Reshape makes `to` of `from`: 0 copies a dimension, -1 finds one
// where nothing else can be 0. Empty: there is none.
std::optional<std::vector<std::int64_t>> reshape_entries(const Terms& from, const Terms& to);

// The places in `longer` of the dimensions of 1 that `shorter` lacks; empty: they differ by more,
// or not at all.
std::vector<std::int64_t> added_ones(const Terms& longer, const Terms& shorter);

}  // namespace mcompress
