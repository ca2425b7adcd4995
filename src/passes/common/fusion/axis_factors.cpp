#include "passes/common/fusion/axis_factors.h"

#include <algorithm>
#include <cstddef>

#include "passes/common/fusion/layout_moves.h"

namespace mcompress {
namespace {

using Factors = std::vector<std::size_t>;  // numbers of factors

class Row {
 public:
  explicit Row(const Terms& dims) {
    for (const Term dim : dims) {
      groups_.emplace_back();
      if (dim.is(1)) continue;
      groups_.back().push_back(sizes_.size());
      sizes_.push_back(dim);
    }
    origin_ = flat();
  }

  bool transpose(const Permutation& perm) {
    if (perm.size() != groups_.size()) return false;
    std::vector<Factors> moved;
    for (const std::int64_t axis : perm) moved.push_back(groups_[static_cast<std::size_t>(axis)]);
    groups_ = std::move(moved);
    return true;
  }

  // The elements stay in their order: axes take factors from both ends, and at most one, of a size
  // that is not known, takes what is left between.
  bool reshape(const Terms& to) {
    rest_ = flat();
    left_ = 0;
    right_ = rest_.size();
    std::vector<Factors> made(to.size());
    std::size_t i = 0;
    for (; i < to.size(); ++i) {
      if (!take(to[i], true, made[i])) {
        if (to[i].known()) return false;
        break;
      }
    }
    for (std::size_t j = to.size(); i < to.size() && j > i + 1; --j) {
      if (!take(to[j - 1], false, made[j - 1])) return false;
    }
    if (i < to.size()) {
      made[i].assign(rest_.begin() + static_cast<std::ptrdiff_t>(left_),
                     rest_.begin() + static_cast<std::ptrdiff_t>(right_));
    } else if (left_ != right_) {
      return false;
    }
    groups_ = std::move(made);
    return true;
  }

  AxisFactors result() const {
    const Factors end = flat();
    std::vector<std::size_t> place(sizes_.size());  // in the end, of each factor
    for (std::size_t i = 0; i < end.size(); ++i) place[end[i]] = i;
    AxisFactors result;
    std::vector<std::size_t> piece(sizes_.size());  // that the factor belongs to
    for (std::size_t i = 0; i < origin_.size(); ++i) {
      const std::size_t factor = origin_[i];
      const Term size = sizes_[factor];
      const bool joined = i > 0 && place[factor] == place[origin_[i - 1]] + 1 && size.known() &&
                          sizes_[origin_[i - 1]].known();
      if (joined) {
        result.factors.back().number *= size.number;
      } else {
        result.factors.push_back(size);
      }
      piece[factor] = result.factors.size() - 1;
    }
    for (const std::size_t factor : end) {
      const auto number = static_cast<std::int64_t>(piece[factor]);
      if (result.perm.empty() || result.perm.back() != number) result.perm.push_back(number);
    }
    return result;
  }

 private:
  Factors flat() const {
    Factors result;
    for (const Factors& group : groups_) result.insert(result.end(), group.begin(), group.end());
    return result;
  }

  // Takes the factors of an axis of this size from one end of the rest; cuts the last one.
  bool take(Term size, bool from_left, Factors& group) {
    if (!size.known()) {
      if (left_ == right_ || !(sizes_[end(from_left)] == size)) return false;
      move(from_left, group);
      return true;
    }
    if (size.number <= 0) return false;
    for (std::int64_t need = size.number; need > 1;) {
      if (left_ == right_) return false;
      const Term last = sizes_[end(from_left)];
      if (!last.known() || last.number <= 1) return false;
      if (need % last.number == 0) {
        need /= last.number;
      } else if (last.number % need == 0) {
        cut(end(from_left), from_left ? need : last.number / need);
        need = 1;
      } else {
        return false;
      }
      move(from_left, group);
    }
    return true;
  }

  std::size_t end(bool from_left) const { return from_left ? rest_[left_] : rest_[right_ - 1]; }

  void move(bool from_left, Factors& group) {
    if (from_left) {
      group.push_back(rest_[left_++]);
    } else {
      group.insert(group.begin(), rest_[--right_]);
    }
  }

  // The factor becomes two, of which the slower one has `slow` elements.
  void cut(std::size_t factor, std::int64_t slow) {
    const std::size_t fast = sizes_.size();
    sizes_.push_back({sizes_[factor].number / slow});
    sizes_[factor].number = slow;
    for (Factors* list : {&origin_, &rest_}) {
      list->insert(std::next(std::ranges::find(*list, factor)), fast);
    }
    ++right_;
  }

  Terms sizes_;                  // of the factors
  Factors origin_;               // in the order of what went in
  std::vector<Factors> groups_;  // of each axis now
  Factors rest_;                 // while axes take them: those from left_ to right_
  std::size_t left_ = 0, right_ = 0;
};

}  // namespace

std::optional<AxisFactors> axis_factors(std::span<Node* const> nodes,
                                        const SymbolicShapes& shapes) {
  const Terms* dims = nodes.empty() ? nullptr : shapes.dims(*nodes.front()->input(0));
  if (dims == nullptr) return std::nullopt;
  Row row(*dims);
  for (const Node* node : nodes) {
    if (node->is("Transpose")) {
      const auto perm = permutation_of(*node);
      if (!perm || !row.transpose(*perm)) return std::nullopt;
      continue;
    }
    const Terms* to = shapes.dims(*node->output(0));
    if (to == nullptr || !row.reshape(*to)) return std::nullopt;
  }
  return row.result();
}

}  // namespace mcompress
