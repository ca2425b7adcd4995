// Reshapes and transpositions in a row become the fewest that move elements to the same places:
//
//   Reshape(Transpose(Reshape(Transpose(x, p))))   =>   Transpose(x, q), or less
//   Transpose(Reshape(Transpose(x, p)), q)         =>   Transpose(Reshape(x), r)
//   Reshape(Transpose(Reshape(Transpose(x, p))))   =>   Reshape(Transpose(x, r))
//   any row of four or more                        =>   Reshape(Transpose(Reshape(x), s))
//
// Exporters write the transposed key of an attention layer like the first, and windows of windows
// like the last. What a row does is decided by where it moves the axes of x to, so that is followed
// as numbers and symbols, both from its end (an axis that is split is a sum of what it becomes) and
// from its start (an axis that is joined is a sum of what it was), and else by the factors of axes
// that stay whole. Only the last result of the row may have other readers.
#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <optional>

#include "ir/builder.h"
#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/axis_factors.h"
#include "passes/common/fusion/axis_layout.h"
#include "passes/common/fusion/layout_moves.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/list_operands.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::size_t kLongest = 12;  // nodes in a row

constexpr std::array<std::string_view, 5> kMovers = {"Flatten", "Reshape", "Squeeze", "Transpose",
                                                     "Unsqueeze"};

bool is_mover(const Node& node) {
  return node.domain().empty() && node.input(0) != nullptr && node.output(0) != nullptr &&
         std::ranges::find(kMovers, node.op_type()) != kMovers.end();
}

// Reshape, Transpose, Reshape, in this order; steps that do nothing are left out.
struct Moves {
  std::optional<Ints> before, perm, after;
  std::size_t count() const {
    return static_cast<std::size_t>(before.has_value()) +
           static_cast<std::size_t>(perm.has_value()) + static_cast<std::size_t>(after.has_value());
  }
};

// The atoms in the order in which the axes count them, slowest first. Empty: an axis does not count
// all of its own and nothing else, or an atom is missing or there twice.
std::optional<std::vector<std::size_t>> counted_atoms(const AxisLayout& layout, const Terms& atoms,
                                                      const Terms& dims) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    std::vector<AxisPart> parts = layout[i].parts;
    if (layout[i].offset != 0) return std::nullopt;
    std::ranges::sort(parts, std::ranges::greater{}, &AxisPart::stride);
    std::int64_t stride = 1;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      if (part->stride != stride || !(atoms[part->atom] == part->size)) return std::nullopt;
      const bool slowest = std::next(part) == parts.rend();
      if (!slowest && !part->size.known()) return std::nullopt;
      if (!slowest && __builtin_mul_overflow(stride, part->size.number, &stride))
        return std::nullopt;
    }
    if (parts.size() == 1 && !(parts[0].size == dims[i])) return std::nullopt;
    for (const AxisPart& part : parts) order.push_back(part.atom);
  }
  std::vector<bool> seen(atoms.size(), false);
  for (const std::size_t atom : order) {
    if (seen[atom]) return std::nullopt;
    seen[atom] = true;
  }
  for (std::size_t i = 0; i < atoms.size(); ++i) {
    if (!seen[i] && !atoms[i].is(1)) return std::nullopt;
  }
  return order;
}

// `order` with the atoms that it lacks, all of one element, each behind its neighbour on the left.
std::vector<std::size_t> with_ones(std::vector<std::size_t> order, std::size_t atoms) {
  for (std::size_t i = 0; i < atoms; ++i) {
    if (std::ranges::find(order, i) != order.end()) continue;
    const auto left =
        i == 0 ? order.end() : std::ranges::find(order, i - 1);  // it is there: atoms come in order
    order.insert(left == order.end() ? order.begin() : std::next(left), i);
  }
  return order;
}

Terms picked(const Terms& dims, const std::vector<std::size_t>& axes) {
  Terms result;
  for (const std::size_t axis : axes) result.push_back(dims[axis]);
  return result;
}

// Elements that stay in their order need a Reshape at most.
std::optional<Moves> reshape_only(const Terms& x, const Terms& y) {
  Moves moves;
  if (x == y) return moves;
  moves.before = reshape_entries(x, y);
  return moves.before ? std::optional(moves) : std::nullopt;
}

// From x to y, whose axes are the atoms: the axes of x count them as `layout` tells.
std::optional<Moves> split_moves(const AxisLayout& layout, const Terms& x, const Terms& y) {
  const auto order = counted_atoms(layout, y, x);
  if (!order) return std::nullopt;
  if (std::ranges::is_sorted(*order)) return reshape_only(x, y);
  Moves moves;
  std::vector<std::size_t> full = with_ones(*order, y.size());
  // Where x has as many dimensions of 1, each may be any of those of y.
  if (x.size() == y.size() && order->size() == static_cast<std::size_t>(std::ranges::count_if(
                                                   x, [](const Term& t) { return !t.is(1); }))) {
    std::vector<std::size_t> ones;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (std::ranges::find(*order, i) == order->end()) ones.push_back(i);
    }
    full.clear();
    std::size_t one = 0, other = 0;
    for (const Term& term : x) full.push_back(term.is(1) ? ones[one++] : (*order)[other++]);
  }
  const Terms middle = picked(y, full);
  if (middle != x) {
    moves.before = reshape_entries(x, middle);
    if (!moves.before) return std::nullopt;
  }
  Ints perm(full.size());
  for (std::size_t i = 0; i < full.size(); ++i) perm[full[i]] = static_cast<std::int64_t>(i);
  moves.perm = std::move(perm);
  return moves;
}

// The same where the axes of x are the atoms, and those of y count them.
std::optional<Moves> join_moves(const AxisLayout& layout, const Terms& x, const Terms& y) {
  const auto order = counted_atoms(layout, x, y);
  if (!order) return std::nullopt;
  if (std::ranges::is_sorted(*order)) return reshape_only(x, y);
  const std::vector<std::size_t> full = with_ones(*order, x.size());
  Moves moves;
  moves.perm.emplace(full.begin(), full.end());
  const Terms middle = picked(x, full);
  if (middle != y) {
    moves.after = reshape_entries(middle, y);
    if (!moves.after) return std::nullopt;
  }
  return moves;
}

// From x to y, which both count factors of their axes.
std::optional<Moves> factor_moves(const AxisFactors& found, const Terms& x, const Terms& y) {
  if (std::ranges::is_sorted(found.perm)) return reshape_only(x, y);
  Moves moves;
  if (found.factors != x) {
    moves.before = reshape_entries(x, found.factors);
    if (!moves.before) return std::nullopt;
  }
  Terms turned;
  for (const std::int64_t i : found.perm) {
    turned.push_back(found.factors[static_cast<std::size_t>(i)]);
  }
  moves.perm = found.perm;
  if (turned != y) {
    moves.after = reshape_entries(turned, y);
    if (!moves.after) return std::nullopt;
  }
  return moves;
}

class MergeTransposes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit MergeTransposes(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> ends = find_nodes(context, model, kMovers);
    std::erase_if(ends, [](const Node* node) {
      const Node* before = is_mover(*node) ? node->input(0)->producer() : nullptr;
      return before == nullptr || !is_mover(*before);
    });
    // Longer rows first: they hold the shorter ones.
    if (!ends.empty()) shapes_ = context.facts().of<SymbolicShapes>(model);
    for (auto node = ends.rbegin(); node != ends.rend(); ++node) {
      if (!context.edit().erased(**node)) MCOMPRESS_TRY(merge(**node, context));
    }
    context.report().count("rows", rows_);
    context.report().count("removed", removed_);
    return ok_status();
  }

 private:
  Status merge(Node& end, PassContext& context) {
    std::vector<Node*> row{&end};  // from its end
    while (row.size() < kLongest) {
      Value& between = *row.back()->input(0);
      Node* before = between.producer();
      if (before == nullptr || !is_mover(*before) || only_user(between) != row.back()) break;
      row.push_back(before);
    }
    std::optional<Moves> best;
    std::size_t length = 0;
    for (std::size_t k = row.size(); k > 1; --k) {
      const std::span<Node* const> part(row.data(), k);
      const auto transposes =
          std::ranges::count_if(part, [](const Node* node) { return node->is("Transpose"); });
      if (transposes == 0) continue;
      auto moves = moves_of(part);
      if (!moves || moves->count() >= k) continue;
      // As good with a shorter row: what is in front of it stays as it is.
      if (!best || k - moves->count() >= length - best->count()) {
        best = std::move(moves);
        length = k;
      }
    }
    return best ? write(end, *row[length - 1]->input(0), length, *best, context) : ok_status();
  }

  std::optional<Moves> moves_of(std::span<Node* const> row) const {
    const Terms* x = shapes_->dims(*row.back()->input(0));
    const Terms* y = shapes_->dims(*row.front()->output(0));
    if (x == nullptr || y == nullptr) return std::nullopt;
    const auto atoms = [](const Terms& dims) {
      std::vector<std::size_t> result(dims.size());
      std::iota(result.begin(), result.end(), std::size_t{0});
      return result;
    };
    std::optional<AxisLayout> layout = own_layout(*y, atoms(*y));
    for (const Node* node : row) {
      if (layout) layout = layout_before(*node, 0, *layout, *shapes_);
    }
    auto split = layout ? split_moves(*layout, *x, *y) : std::nullopt;
    if (split && split->count() <= 1) return split;
    Terms dims = *x;
    layout = own_layout(*x, atoms(*x));
    for (auto node = row.rbegin(); node != row.rend(); ++node) {
      if (layout) layout = layout_behind(**node, *layout, dims, *shapes_);
    }
    auto join = layout ? join_moves(*layout, *x, *y) : std::nullopt;
    if (!split || (join && join->count() < split->count())) split = std::move(join);
    if (split) return split;
    const std::vector<Node*> forward(row.rbegin(), row.rend());
    const auto factors = axis_factors(forward, *shapes_);
    return factors ? factor_moves(*factors, *x, *y) : std::nullopt;
  }

  // The end of the row makes its result in other steps, of `x`.
  Status write(Node& end, Value& x, std::size_t length, const Moves& moves, PassContext& context) {
    if (moves.count() == 0) {
      if (std::string why = why_not_bypass(context, end, x); !why.empty()) {
        context.explain().skipped(end, std::move(why));
        return ok_status();
      }
    }
    chose(context, end,
          std::to_string(length) + " moves in a row are " + std::to_string(moves.count()));
    ++rows_;
    removed_ += static_cast<std::int64_t>(length - moves.count());
    Editor& editor = context.edit();
    std::vector<Value*> unread(end.inputs().begin(), end.inputs().end());
    if (moves.count() == 0) {
      MCOMPRESS_ASSIGN(std::string why, bypass(context, end, x));
      if (!why.empty()) return Error(Code::kInternal, "row-not-replaced", std::move(why));
    } else {
      Value* source = &x;
      const std::optional<Ints>& entries = moves.perm || moves.after ? moves.after : moves.before;
      if (moves.before && moves.count() > 1) {
        source = &reshape_before(end, x, *moves.before, context);
      }
      if (moves.perm && moves.after) {
        NewNode turned{"Transpose", {source}, 1, std::string(end.output(0)->name())};
        turned.attributes.push_back(attribute("perm", *moves.perm));
        source = editor.insert_before(end, std::move(turned)).output(0);
      }
      for (std::string_view name : {"axis", "axes", "allowzero", "perm"}) {
        editor.remove_attribute(end, name);
      }
      while (end.inputs().size() > 1) editor.remove_trailing_input(end);
      editor.set_input(end, 0, source);
      if (entries) {
        editor.set_op_type(end, "", "Reshape");
        editor.set_input(end, 1, &shape_input(end, *entries, context));
      } else {
        editor.set_op_type(end, "", "Transpose");
        editor.set_attribute(end, attribute("perm", *moves.perm));
      }
    }
    for (Value* value : unread) MCOMPRESS_TRY(erase_unused(context, *value));
    return ok_status();
  }

  static Value& shape_input(Node& end, const Ints& entries, PassContext& context) {
    return add_list(context, end.graph(), std::string(end.output(0)->name()) + "_shape", entries);
  }

  static Value& reshape_before(Node& end, Value& x, const Ints& entries, PassContext& context) {
    NewNode first{"Reshape",
                  {&x, &shape_input(end, entries, context)},
                  1,
                  std::string(end.output(0)->name())};
    return *context.edit().insert_before(end, std::move(first)).output(0);
  }

  std::shared_ptr<const SymbolicShapes> shapes_;
  std::int64_t rows_ = 0, removed_ = 0;
};

}  // namespace

PassInfo merge_transposes_info() {
  return pass_info<MergeTransposes>(
      "merge-transposes", "make reshapes and transpositions in a row the fewest that do the same",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
