#include "passes/common/fusion/symbolic_shapes.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "ir/facts.h"
#include "passes/common/fusion/symbolic_elements.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

// The operators are sorted.
template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& op_types) {
  return std::ranges::binary_search(op_types, node.op_type());
}

// The first output has the dimensions of the first input.
constexpr auto kLikeInput = std::to_array<std::string_view>({"Abs",        "BatchNormalization",
                                                             "Cast",       "Ceil",
                                                             "Celu",       "Clip",
                                                             "CumSum",     "DequantizeLinear",
                                                             "Dropout",    "DynamicQuantizeLinear",
                                                             "Elu",        "Erf",
                                                             "Exp",        "Floor",
                                                             "Gelu",       "HardSigmoid",
                                                             "HardSwish",  "Hardmax",
                                                             "Identity",   "InstanceNormalization",
                                                             "LRN",        "LayerNormalization",
                                                             "LeakyRelu",  "Log",
                                                             "LogSoftmax", "Mish",
                                                             "Neg",        "Not",
                                                             "PRelu",      "QuantizeLinear",
                                                             "Reciprocal", "Relu",
                                                             "Round",      "Selu",
                                                             "Sigmoid",    "Sign",
                                                             "Softmax",    "Softplus",
                                                             "Softsign",   "Sqrt",
                                                             "Tanh",       "ThresholdedRelu"});
static_assert(std::ranges::is_sorted(kLikeInput));
constexpr auto kBroadcast = std::to_array<std::string_view>(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
     "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"});
static_assert(std::ranges::is_sorted(kBroadcast));
constexpr auto kReduce = std::to_array<std::string_view>(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
     "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"});
static_assert(std::ranges::is_sorted(kReduce));

// Axes counted from 0; empty when one is out of range.
std::optional<Ints> resolved(Ints axes, std::size_t rank) {
  for (std::int64_t& axis : axes) {
    if (axis < 0) axis += static_cast<std::int64_t>(rank);
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  }
  return axes;
}

bool contains(const Ints& list, std::size_t number) {
  return std::ranges::find(list, static_cast<std::int64_t>(number)) != list.end();
}

}  // namespace

SymbolicShapes::SymbolicShapes(Model& model)
    : dims_(model.value_limit()), elements_(model.value_limit()) {
  for (const Value* value : model.graph().inputs()) {
    if (value->type() == nullptr || !value->type()->shape) continue;
    Terms terms;
    for (const Dim& dim : *value->type()->shape) {
      if (dim.size) {
        terms.push_back({*dim.size});
      } else if (dim.symbol.empty()) {
        terms.push_back(fresh(true));
      } else {
        auto known = named_.find(dim.symbol);
        if (known == named_.end()) {
          known = named_.emplace(dim.symbol, fresh(true)).first;
          names_.emplace(known->second.symbol, known->first);
        }
        terms.push_back(known->second);
      }
    }
    dims_[value->id()] = keep(terms);
  }
  visit(model.graph());
}

std::size_t SymbolicShapes::TermsHash::operator()(const Terms& terms) const {
  std::uint64_t hash = terms.size();
  for (const Term& term : terms) {
    hash = (hash ^ static_cast<std::uint64_t>(term.number)) * 0x9e3779b97f4a7c15U;
    hash = ((hash >> 32) ^ hash ^ term.symbol) * 0xbf58476d1ce4e5b9U;
  }
  return hash ^ (hash >> 32);
}

const Terms* SymbolicShapes::dims(const Value& value) const {
  return value.id() < dims_.size() ? dims_[value.id()] : nullptr;
}

const Terms* SymbolicShapes::elements(const Value& value) const {
  return value.id() < elements_.size() ? elements_[value.id()] : nullptr;
}

std::string_view SymbolicShapes::name_of(Term term) const {
  const auto found = names_.find(term.symbol);
  return found != names_.end() ? found->second : std::string_view();
}

Term SymbolicShapes::fresh(bool is_size) {
  sizes_.push_back(is_size);
  return {0, static_cast<std::uint32_t>(sizes_.size() - 1)};
}

std::optional<Term> SymbolicShapes::broadcast(Term left, Term right) const {
  if (left == right || right.is(1)) return left;
  if (left.is(1)) return right;
  // A number above 1 wins: the other one is 1 or the same.
  if (left.known() && left.number > 1 && !right.known()) return left;
  if (right.known() && right.number > 1 && !left.known()) return right;
  return std::nullopt;
}

void SymbolicShapes::visit(Graph& graph) {
  for (const Value* value : graph.inputs()) complete(*value, dims(*value));
  for (const Value* value : graph.initializers()) {
    complete(*value, nullptr);
    if (value->constant() == nullptr) continue;
    if (const auto found = SymbolicElements::of_constant(*value)) {
      elements_[value->id()] = keep(*found);
    }
  }
  for (Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
    for (Graph* body : entry->bodies()) visit(*body);
    node(*entry);
  }
}

// What the file or inference tells as a number, else what was found, else a symbol of its own.
void SymbolicShapes::complete(const Value& value, const Terms* found) {
  const auto rank = rank_of(value);
  if (rank && found != nullptr && found->size() != *rank) found = nullptr;
  if (!rank && found == nullptr) return;
  const bool followed = found != nullptr;
  Terms& terms = scratch_;
  if (followed) {
    terms.assign(found->begin(), found->end());
  } else {
    terms.assign(*rank, Term());
  }
  // Every value of the model comes here, over and over: most say at once what they are.
  const Tensor* data = value.constant();
  const TypeInfo* type = value.type();
  const bool typed = type != nullptr && type->shape && !value.is_initializer() &&
                     (value.producer() == nullptr || !value.producer()->is("Constant"));
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto size = data != nullptr ? std::optional(data->dims()[i])
                      : typed         ? (*type->shape)[i].size
                                      : dim_of(value, static_cast<std::int64_t>(i));
    if (size && *size >= 0) {
      terms[i] = {*size};
    } else if (!followed) {
      terms[i] = fresh(true);
    }
  }
  dims_[value.id()] = keep(terms);
}

void SymbolicShapes::node(const Node& node) {
  const bool known = node.domain().empty() && node.bodies().empty();
  for (std::size_t i = 0; i < node.outputs().size(); ++i) {
    if (node.output(i) == nullptr) continue;
    if (known && i == 0 && node.input(0) != nullptr && is_one_of(node, kLikeInput)) {
      complete(*node.output(i), dims(*node.input(0)));
      continue;
    }
    const auto found = known ? rule(node, i) : of_bodies(node, i);
    complete(*node.output(i), found ? &*found : nullptr);
  }
  if (!known || node.output(0) == nullptr) return;
  if (const auto found = SymbolicElements(*this).of(node)) {
    elements_[node.output(0)->id()] = keep(*found);
  }
}

std::optional<Terms> SymbolicShapes::rule(const Node& node, std::size_t output) {
  if (node.is("Split")) return cut(node, output);
  if (output != 0 || node.input(0) == nullptr) return std::nullopt;
  const Terms* first = dims(*node.input(0));
  if (is_one_of(node, kBroadcast)) return broadcast_all(node);
  if (is_one_of(node, kReduce)) return reduced(node);
  if (node.is("Reshape")) return reshape(node);
  if (node.is("Expand")) return expand(node);
  if (node.is("Transpose") || node.is("Squeeze") || node.is("Unsqueeze")) return moved(node);
  if (node.is("Concat")) return joined(node);
  if (node.is("Slice")) return cut(node, 0);
  if (node.is("Gather")) return gathered(node);
  if (node.is("GatherElements") && node.input(1) != nullptr) {
    const Terms* indices = dims(*node.input(1));
    return indices != nullptr ? std::optional(*indices) : std::nullopt;
  }
  if (node.is("Range")) return counted(node);
  if (node.is("MatMul") || node.is("Gemm")) return product(node);
  if (node.is("ConstantOfShape")) {
    const Terms* sizes = elements(*node.input(0));
    return sizes != nullptr ? std::optional(*sizes) : std::nullopt;
  }
  if (node.is("Flatten")) {
    if (first == nullptr || first->empty() || node.int_attribute("axis", 1) != 1) {
      return std::nullopt;
    }
    return Terms{first->front(), fresh(true)};
  }
  if (node.is("Conv") || node.is("MaxPool") || node.is("AveragePool") ||
      node.is("GlobalAveragePool") || node.is("GlobalMaxPool")) {
    return window(node);
  }
  if (node.is("Pad")) {
    const IntsParameter pads = ints_parameter(node, "pads", 1);
    if (first == nullptr || !pads.values || pads.values->size() != 2 * first->size() ||
        node.input(3) != nullptr) {
      return std::nullopt;
    }
    Terms result;
    for (std::size_t i = 0; i < first->size(); ++i) {
      const bool same = (*pads.values)[i] == 0 && (*pads.values)[i + first->size()] == 0;
      result.push_back(same ? (*first)[i] : fresh(true));
    }
    return result;
  }
  return std::nullopt;
}

// An If makes what the branch makes that is taken: a size that both have is its own. Symbols that a
// branch has for itself are never those of the other.
std::optional<Terms> SymbolicShapes::of_bodies(const Node& node, std::size_t output) const {
  if (!node.is("If")) return std::nullopt;
  const Terms* same = nullptr;
  for (const Graph* body : node.bodies()) {
    const Value* made = output < body->outputs().size() ? body->outputs()[output] : nullptr;
    const Terms* terms = made != nullptr ? dims(*made) : nullptr;
    if (terms == nullptr || (same != nullptr && *same != *terms)) return std::nullopt;
    same = terms;
  }
  return same != nullptr ? std::optional(*same) : std::nullopt;
}

std::optional<Terms> SymbolicShapes::broadcast_all(const Node& node) {
  Terms result;
  for (const Value* value : node.inputs()) {
    const Terms* terms = value != nullptr ? dims(*value) : nullptr;
    if (terms == nullptr) return std::nullopt;
    if (terms->size() > result.size()) {
      result.insert(result.begin(), terms->size() - result.size(), Term{1});
    }
    const std::size_t shift = result.size() - terms->size();
    for (std::size_t i = 0; i < terms->size(); ++i) {
      const auto both = broadcast(result[shift + i], (*terms)[i]);
      result[shift + i] = both ? *both : fresh(true);
    }
  }
  return result;
}

// The product of the terms, without those that are -1. Empty: too large.
std::optional<SymbolicShapes::Product> SymbolicShapes::product_of(const Terms& terms) const {
  Product whole;
  const auto multiply = [&](std::int64_t number) {
    return !__builtin_mul_overflow(whole.number, number, &whole.number);
  };
  for (const Term& term : terms) {
    if (term.is(-1)) continue;
    const auto known = products_.find(term.symbol);
    if (term.known()) {
      if (!multiply(term.number)) return std::nullopt;
    } else if (known == products_.end()) {
      whole.symbols.push_back(term.symbol);
    } else {
      if (!multiply(known->second.number)) return std::nullopt;
      const auto& more = known->second.symbols;
      whole.symbols.insert(whole.symbols.end(), more.begin(), more.end());
    }
  }
  std::ranges::sort(whole.symbols);
  return whole;
}

// Whether a Reshape to the terms keeps them all: there are as many elements. (Aside from tensors
// that are empty along two axes, where a 0 could copy a size that is none.)
bool SymbolicShapes::same_count(const Terms& input, const Terms& target) const {
  const auto before = product_of(input), after = product_of(target);
  if (!before || !after || before->number <= 0) return false;
  if (std::ranges::any_of(target, [](const Term& term) { return term.is(-1); })) {
    return after->number > 0 && before->number % after->number == 0 &&
           std::ranges::includes(before->symbols, after->symbols);
  }
  return before->number == after->number && before->symbols == after->symbols;
}

std::optional<Terms> SymbolicShapes::reshape(const Node& node) {
  const Terms* input = dims(*node.input(0));
  const Terms* target = node.input(1) != nullptr ? elements(*node.input(1)) : nullptr;
  if (target == nullptr) return std::nullopt;
  const bool copies = node.int_attribute("allowzero", 0) == 0;
  Terms result;
  std::optional<std::size_t> open;  // the entry that is -1
  for (std::size_t i = 0; i < target->size(); ++i) {
    const Term term = (*target)[i];
    if (term.is(-1)) open = i;
    if (term.is(0) && copies) {
      if (input == nullptr || i >= input->size()) return std::nullopt;
      result.push_back((*input)[i]);
    } else if (term.known()) {
      result.push_back(term.number >= 0 ? term : fresh(true));
    } else {
      // A size that is 0 would copy: the same only where it is the size at this place, or where 0
      // could not be, or would be all there is to copy.
      const bool same =
          input != nullptr && is_size(term) &&
          (i < input->size() ? (*input)[i] == term || same_count(*input, *target) : true);
      result.push_back(same || (!copies && is_size(term)) ? term : fresh(true));
    }
  }
  if (open && input != nullptr) {
    if (const auto rest = quotient(*input, result, *open)) result[*open] = *rest;
  }
  return result;
}

// What is left of a product when it is divided by all terms but one. Where the division has an
// answer at all, none of the divisors is 0.
std::optional<Term> SymbolicShapes::quotient(const Terms& product, const Terms& terms,
                                             std::size_t open) {
  Terms others = terms;
  others[open] = Term{1};
  const auto whole = product_of(product), divisor = product_of(others);
  if (!whole || !divisor || divisor->number <= 0 || whole->number % divisor->number != 0 ||
      !std::ranges::includes(whole->symbols, divisor->symbols)) {
    return std::nullopt;
  }
  Product rest{whole->number / divisor->number, {}};
  std::ranges::set_difference(whole->symbols, divisor->symbols, std::back_inserter(rest.symbols));
  if (rest.symbols.empty()) return Term{rest.number};
  if (rest.symbols.size() == 1 && rest.number == 1) return Term{0, rest.symbols.front()};
  const auto [place, is_new] = made_.try_emplace({rest.number, rest.symbols});
  if (is_new) {
    place->second = fresh(true);
    products_.emplace(place->second.symbol, std::move(rest));
  }
  return place->second;
}

// Range(0, n, 1)
std::optional<Terms> SymbolicShapes::counted(const Node& node) const {
  const auto number = [&](std::size_t slot) -> std::optional<Term> {
    const Terms* terms = node.input(slot) != nullptr ? elements(*node.input(slot)) : nullptr;
    return terms != nullptr && terms->size() == 1 ? std::optional(terms->front()) : std::nullopt;
  };
  const auto start = number(0), limit = number(1), step = number(2);
  if (!start || !limit || !step || !start->is(0) || !step->is(1) || !is_size(*limit)) {
    return std::nullopt;
  }
  return Terms{*limit};
}

std::optional<Terms> SymbolicShapes::expand(const Node& node) {
  const Terms* input = dims(*node.input(0));
  const Terms* target = node.input(1) != nullptr ? elements(*node.input(1)) : nullptr;
  if (input == nullptr || target == nullptr) return std::nullopt;
  Terms result(std::max(input->size(), target->size()), Term{1});
  std::copy(input->begin(), input->end(),
            result.end() - static_cast<std::ptrdiff_t>(input->size()));
  const std::size_t shift = result.size() - target->size();
  for (std::size_t i = 0; i < target->size(); ++i) {
    if (!is_size((*target)[i])) return std::nullopt;
    const auto both = broadcast(result[shift + i], (*target)[i]);
    result[shift + i] = both ? *both : fresh(true);
  }
  return result;
}

std::optional<Terms> SymbolicShapes::moved(const Node& node) const {
  const Terms* input = dims(*node.input(0));
  if (input == nullptr) return std::nullopt;
  const std::size_t rank = input->size();
  Terms result;
  if (node.is("Transpose")) {
    Ints perm;
    for (std::size_t i = rank; i > 0; --i) perm.push_back(static_cast<std::int64_t>(i) - 1);
    const auto axes = resolved(node.ints_attribute("perm").value_or(perm), rank);
    if (!axes || axes->size() != rank) return std::nullopt;
    for (std::int64_t axis : *axes) result.push_back((*input)[static_cast<std::size_t>(axis)]);
    return result;
  }
  const IntsParameter parameter = ints_parameter(node, "axes", 1);
  if (!parameter.values) return std::nullopt;
  const bool adds = node.is("Unsqueeze");
  const std::size_t larger = adds ? rank + parameter.values->size() : rank;
  const auto axes = resolved(*parameter.values, larger);
  if (!axes) return std::nullopt;
  std::size_t next = 0;
  for (std::size_t i = 0; i < larger; ++i) {
    if (!adds && !contains(*axes, i)) result.push_back((*input)[i]);
    if (!adds) continue;
    if (!contains(*axes, i) && next == rank) return std::nullopt;
    result.push_back(contains(*axes, i) ? Term{1} : (*input)[next++]);
  }
  return result;
}

std::optional<Terms> SymbolicShapes::reduced(const Node& node) const {
  const Terms* input = dims(*node.input(0));
  const IntsParameter parameter = ints_parameter(node, "axes", 1);
  if (input == nullptr || !parameter.known) return std::nullopt;
  const bool all = !parameter.values || parameter.values->empty();
  if (all && node.int_attribute("noop_with_empty_axes", 0) != 0) return *input;
  const auto axes = all ? std::optional(Ints{}) : resolved(*parameter.values, input->size());
  if (!axes) return std::nullopt;
  const bool keeps = node.int_attribute("keepdims", 1) != 0;
  Terms result;
  for (std::size_t i = 0; i < input->size(); ++i) {
    if (!all && !contains(*axes, i)) {
      result.push_back((*input)[i]);
    } else if (keeps) {
      result.push_back({1});
    }
  }
  return result;
}

std::optional<Terms> SymbolicShapes::joined(const Node& node) {
  const Terms* first = dims(*node.input(0));
  if (first == nullptr) return std::nullopt;
  const auto axis = resolved({node.int_attribute("axis", 0)}, first->size());
  if (!axis) return std::nullopt;
  const auto at = static_cast<std::size_t>(axis->front());
  Terms result = *first;
  for (const Value* value : node.inputs().subspan(1)) {
    const Terms* part = value != nullptr ? dims(*value) : nullptr;
    if (part == nullptr || part->size() != result.size()) return std::nullopt;
    for (std::size_t i = 0; i < result.size(); ++i) {
      // Away from the axis all parts are alike.
      if (i != at && !result[i].known()) result[i] = (*part)[i];
    }
    if (!result[at].known() || !(*part)[at].known()) {
      result[at] = fresh(true);
    } else {
      result[at].number += (*part)[at].number;
    }
  }
  return result;
}

std::optional<Terms> SymbolicShapes::cut(const Node& node, std::size_t /*output*/) {
  const Terms* input = node.input(0) != nullptr ? dims(*node.input(0)) : nullptr;
  if (input == nullptr) return std::nullopt;
  Ints axes;
  if (node.is("Split")) {
    axes = {node.int_attribute("axis", 0)};
  } else {
    const IntsParameter starts = ints_parameter(node, "starts", 1);
    const IntsParameter given = ints_parameter(node, "axes", 3);
    if (!given.known || (!given.values && !starts.values)) return std::nullopt;
    if (given.values) {
      axes = *given.values;
    } else {
      for (std::size_t i = 0; i < starts.values->size(); ++i) {
        axes.push_back(static_cast<std::int64_t>(i));
      }
    }
  }
  const auto cut_axes = resolved(axes, input->size());
  if (!cut_axes) return std::nullopt;
  Terms result;
  for (std::size_t i = 0; i < input->size(); ++i) {
    result.push_back(contains(*cut_axes, i) ? fresh(true) : (*input)[i]);
  }
  return result;
}

std::optional<Terms> SymbolicShapes::gathered(const Node& node) const {
  const Terms* data = dims(*node.input(0));
  const Terms* indices = node.input(1) != nullptr ? dims(*node.input(1)) : nullptr;
  if (data == nullptr || indices == nullptr) return std::nullopt;
  const auto axis = resolved({node.int_attribute("axis", 0)}, data->size());
  if (!axis) return std::nullopt;
  Terms result(data->begin(), data->begin() + axis->front());
  result.insert(result.end(), indices->begin(), indices->end());
  result.insert(result.end(), data->begin() + axis->front() + 1, data->end());
  return result;
}

std::optional<Terms> SymbolicShapes::product(const Node& node) const {
  const Terms* left = dims(*node.input(0));
  const Terms* right = node.input(1) != nullptr ? dims(*node.input(1)) : nullptr;
  if (left == nullptr || right == nullptr || left->size() < 2 || right->size() < 2) {
    return std::nullopt;
  }
  if (node.is("Gemm")) {
    return Terms{(*left)[node.int_attribute("transA", 0) != 0 ? 1 : 0],
                 (*right)[node.int_attribute("transB", 0) != 0 ? 0 : 1]};
  }
  Terms result;
  const std::size_t rank = std::max(left->size(), right->size());
  const auto at = [&](const Terms& terms, std::size_t i) {
    const std::size_t shift = rank - terms.size();
    return i < shift ? Term{1} : terms[i - shift];
  };
  for (std::size_t i = 0; i + 2 < rank; ++i) {
    const auto both = broadcast(at(*left, i), at(*right, i));
    if (!both) return std::nullopt;
    result.push_back(*both);
  }
  result.push_back((*left)[left->size() - 2]);
  result.push_back(right->back());
  return result;
}

std::optional<Terms> SymbolicShapes::window(const Node& node) {
  const Terms* input = dims(*node.input(0));
  if (input == nullptr || input->size() < 3) return std::nullopt;
  Terms result{input->front()};
  const bool convolves = node.is("Conv");
  const Terms* weight = convolves && node.input(1) != nullptr ? dims(*node.input(1)) : nullptr;
  if (convolves && (weight == nullptr || weight->size() != input->size())) return std::nullopt;
  result.push_back(convolves ? weight->front() : (*input)[1]);
  const bool global = node.op_type().starts_with("Global");
  const std::size_t spatial = input->size() - 2;
  const auto strides = node.ints_attribute("strides");
  const auto dilations = node.ints_attribute("dilations");
  const auto pads = node.ints_attribute("pads");
  auto kernel = node.ints_attribute("kernel_shape");
  const std::string_view mode = node.string_attribute("auto_pad", "NOTSET");
  if (!kernel && convolves) {
    kernel.emplace();
    for (std::size_t i = 2; i < weight->size(); ++i) {
      if (!(*weight)[i].known()) return std::nullopt;
      kernel->push_back((*weight)[i].number);
    }
  }
  for (std::size_t i = 0; i < spatial; ++i) {
    if (global) {
      result.push_back({1});
      continue;
    }
    const auto entry = [&](const std::optional<Ints>& list, std::size_t at, std::int64_t fallback) {
      return list && at < list->size() ? (*list)[at] : fallback;
    };
    const std::int64_t reach = (entry(kernel, i, 0) - 1) * entry(dilations, i, 1);
    const std::int64_t padding = entry(pads, i, 0) + entry(pads, i + spatial, 0);
    // A window that moves by 1 over what was padded for it leaves the size as it is.
    const bool padded = mode == "NOTSET" ? padding == reach : mode.starts_with("SAME");
    const bool same = kernel && entry(strides, i, 1) == 1 && padded;
    result.push_back(same ? (*input)[i + 2] : fresh(true));
  }
  return result;
}

std::optional<Ints> reshape_entries(const Terms& from, const Terms& to) {
  Ints entries;
  bool found = false, others_positive = true;
  for (std::size_t i = 0; i < to.size(); ++i) {
    const bool copies = i < from.size() && from[i] == to[i];
    if (to[i].known() && to[i].number > 0) {
      entries.push_back(to[i].number);
    } else if (copies) {
      entries.push_back(0);
      others_positive = false;
    } else if (!to[i].known() && !found) {
      entries.push_back(-1);
      found = true;
    } else {
      return std::nullopt;
    }
  }
  if (found && !others_positive) return std::nullopt;
  return entries;
}

Ints added_ones(const Terms& longer, const Terms& shorter) {
  Ints axes;
  std::size_t next = 0;
  for (std::size_t i = 0; i < longer.size(); ++i) {
    if (next < shorter.size() && longer[i] == shorter[next]) {
      ++next;
    } else if (longer[i].is(1)) {
      axes.push_back(static_cast<std::int64_t>(i));
    } else {
      return {};
    }
  }
  return next == shorter.size() ? axes : Ints{};
}

}  // namespace mcompress
