// How operators that work along axes move to older opsets: lists that were inputs become attributes
// again, and axes count from the front before opset 11.
#include <algorithm>
#include <array>
#include <numeric>

#include "ir/facts.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"

namespace mcompress {
namespace {

std::optional<std::size_t> rank_of_input(const Node& node, std::size_t slot) {
  return node.input(slot) != nullptr ? rank_of(*node.input(slot)) : std::nullopt;
}

}  // namespace

struct OpsetMigration::Axes {
  std::string why;  // they can not be told
  std::optional<std::vector<std::int64_t>> list;
};

// Before 11 axes were not negative.
std::string OpsetMigration::count_from_front(const Node&, std::vector<std::int64_t>& axes,
                                             std::optional<std::size_t> rank) const {
  if (!drops(11)) return {};
  for (std::int64_t& axis : axes) {
    if (axis >= 0) continue;
    if (!rank) return "axis " + std::to_string(axis) + " counts from the end of an unknown rank";
    axis += static_cast<std::int64_t>(*rank);
  }
  return {};
}

// The attribute or the input `axes`, as an older form takes them.
OpsetMigration::Axes OpsetMigration::axes_of(const Node& node, std::size_t slot,
                                             bool of_output) const {
  Axes axes;
  axes.list = node.ints_attribute("axes");
  if (!axes.list && node.input(slot) != nullptr) {
    axes.list = constant_ints(node.input(slot));
    if (!axes.list) axes.why = "its axes are computed";
  }
  if (!axes.list) return axes;
  auto rank = rank_of_input(node, 0);
  if (rank && of_output) *rank += axes.list->size();
  axes.why = count_from_front(node, *axes.list, rank);
  return axes;
}

// Operators whose only change is that 11 counts axes from the end, too.
std::string OpsetMigration::lower_axis(Node& node) {
  std::vector<std::int64_t> axis = {node.int_attribute("axis", 0)};
  if (std::string why = count_from_front(node, axis, rank_of_input(node, 0)); !why.empty()) {
    return why;
  }
  if (axis.front() != node.int_attribute("axis", 0)) {
    later(node, [this, &node, axis] {
      context_.edit().set_attribute(node, attribute("axis", axis.front()));
    });
  }
  return {};
}

std::string OpsetMigration::lower_squeeze(Node& node) {
  if (!drops(13) && !drops(11)) return {};
  Axes axes = axes_of(node, 1, node.is("Unsqueeze"));
  if (!axes.why.empty()) return axes.why;
  if (!axes.list) return {};
  later(node, [this, &node, list = *axes.list] {
    drop_input(node, 1);
    context_.edit().set_attribute(node, attribute("axes", list));
  });
  return {};
}

// 18 (ReduceSum: 13) made the axes an input, and lets no axes mean nothing.
std::string OpsetMigration::lower_reduce(Node& node) {
  if (!drops(node.is("ReduceSum") ? 13 : 18) && !drops(11)) return {};
  Axes axes = axes_of(node, 1, false);
  if (!axes.why.empty()) return axes.why;
  if (axes.list && axes.list->empty()) axes.list.reset();
  const bool nothing = !axes.list && node.int_attribute("noop_with_empty_axes", 0) != 0;
  if (nothing) {
    constexpr auto kPlain = std::to_array<std::string_view>(
        {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"});
    if (std::ranges::find(kPlain, node.op_type()) == kPlain.end()) {
      return "without axes it works on single elements";
    }
  }
  later(node, [this, &node, nothing, list = std::move(axes.list)] {
    Editor& editor = context_.edit();
    drop_input(node, 1);
    editor.remove_attribute(node, "noop_with_empty_axes");
    if (nothing) {
      editor.remove_attribute(node, "keepdims");
      editor.set_op_type(node, "", "Identity");
    } else if (list) {
      editor.set_attribute(node, attribute("axes", *list));
    }
  });
  return {};
}

// 10 made all lists inputs and added steps.
std::string OpsetMigration::lower_slice(Node& node) {
  if (!drops(11)) return {};
  const auto axes = node.input(3) != nullptr ? constant_ints(node.input(3)) : std::nullopt;
  if (node.input(3) != nullptr && !axes) return "its axes are computed";
  std::vector<std::int64_t> list = axes.value_or(std::vector<std::int64_t>());
  if (std::string why = count_from_front(node, list, rank_of_input(node, 0)); !why.empty()) {
    return why;
  }
  if (!drops(10)) {
    if (!axes || list == *axes) return {};
    later(node, [this, &node, list] {
      unread_.push_back(node.input(3));
      add_input(node, 3, "axes", make_int64_tensor(list, {static_cast<std::int64_t>(list.size())}));
    });
    return {};
  }
  const auto starts = constant_ints(node.input(1));
  const auto ends = constant_ints(node.input(2));
  if (!starts || !ends) return "its starts and ends are computed";
  if (node.input(4) != nullptr) {
    const auto steps = constant_ints(node.input(4));
    if (!steps) return "its steps are computed";
    if (std::ranges::any_of(*steps, [](std::int64_t step) { return step != 1; })) {
      return "it has steps other than 1";
    }
  }
  later(node, [=, this, &node] {
    for (const std::size_t slot : {4u, 3u, 2u, 1u}) drop_input(node, slot);
    context_.edit().set_attribute(node, attribute("starts", *starts));
    context_.edit().set_attribute(node, attribute("ends", *ends));
    if (axes) context_.edit().set_attribute(node, attribute("axes", list));
  });
  return {};
}

// 11 made pads and the value inputs; 18 added axes, 19 a mode.
std::string OpsetMigration::lower_pad(Node& node) {
  const std::string_view mode = node.string_attribute("mode", "constant");
  if (drops(19) && mode == "wrap") return "before opset 19 it does not wrap";
  const bool spread = drops(18) && node.input(3) != nullptr;
  if (!spread && !drops(11)) return {};
  auto pads = constant_ints(node.input(1));
  if (!pads) return "its pads are computed";
  if (spread) {
    const auto axes = constant_ints(node.input(3));
    const auto rank = rank_of_input(node, 0);
    if (!axes) return "its axes are computed";
    if (!rank) return "it pads some axes of an unknown rank";
    if (pads->size() != 2 * axes->size()) return "its pads do not fit its axes";
    std::vector<std::int64_t> all(2 * *rank);
    for (std::size_t i = 0; i < axes->size(); ++i) {
      std::int64_t axis = (*axes)[i];
      if (axis < 0) axis += static_cast<std::int64_t>(*rank);
      if (axis < 0 || axis >= static_cast<std::int64_t>(*rank)) return "it has no such axis";
      all[static_cast<std::size_t>(axis)] = (*pads)[i];
      all[static_cast<std::size_t>(axis) + *rank] = (*pads)[i + axes->size()];
    }
    pads = std::move(all);
  }
  std::optional<double> number;
  if (drops(11) && node.input(2) != nullptr) {
    number = constant_scalar(node.input(2));
    if (!number) return "the value it pads with is computed";
  }
  later(node, [this, &node, pads, number] {
    drop_input(node, 3);
    if (!drops(11)) {
      unread_.push_back(node.input(1));
      add_input(node, 1, "pads",
                make_int64_tensor(*pads, {static_cast<std::int64_t>(pads->size())}));
      return;
    }
    drop_input(node, 2);
    drop_input(node, 1);
    context_.edit().set_attribute(node, attribute("pads", *pads));
    if (number)
      context_.edit().set_attribute(node, attribute("value", static_cast<float>(*number)));
  });
  return {};
}

// Before 13 all axes from `axis` on are one. For the last axis that is the same; another one is
// moved there and back:
//
//   y = Softmax<axis = 1>(x)   =>   t = Transpose(x)   s = Softmax<axis = 3>(t)   y = Transpose(s)
std::string OpsetMigration::lower_softmax(Node& node) {
  if (!drops(13)) return {};
  const auto rank = rank_of_input(node, 0);
  std::int64_t axis = node.int_attribute("axis", -1);
  if (axis == -1 && !rank && !drops(11)) {
    later(node, [this, &node] {
      context_.edit().set_attribute(node, attribute("axis", std::int64_t{-1}));
    });
    return {};
  }
  if (!rank) return "its rank is unknown";
  const auto count = static_cast<std::int64_t>(*rank);
  if (axis < 0) axis += count;
  bool last = true;
  for (std::int64_t i = axis + 1; i < count; ++i) last = last && dim_of(*node.input(0), i) == 1;
  later(node, [this, &node, axis, count, last] {
    Editor& editor = context_.edit();
    editor.set_attribute(node, attribute("axis", last ? axis : count - 1));
    if (last) return;
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::swap(order[static_cast<std::size_t>(axis)], order.back());
    const std::string base(node.output(0)->name());
    NewNode turn{"Transpose", {node.input(0)}, 1, base + "_turned"};
    turn.attributes.push_back(attribute("perm", order));
    Node& turned = editor.insert_before(node, std::move(turn));
    NewNode twin{std::string(node.op_type()), {turned.output(0)}, 1, base + "_last"};
    twin.attributes.push_back(attribute("axis", count - 1));
    Node& inner = editor.insert_before(node, std::move(twin));
    // The node itself turns back: whatever reads its output need not change.
    editor.remove_attribute(node, "axis");
    editor.set_op_type(node, "", "Transpose");
    editor.set_attribute(node, attribute("perm", order));
    editor.set_input(node, 0, inner.output(0));
  });
  return {};
}

// 13 made sizes an input; 18 tells the number of parts, the last of which may be smaller.
std::string OpsetMigration::lower_split(Node& node) {
  std::vector<std::int64_t> axis = {node.int_attribute("axis", 0)};
  if (std::string why = count_from_front(node, axis, rank_of_input(node, 0)); !why.empty()) {
    return why;
  }
  std::optional<std::vector<std::int64_t>> sizes;
  if (drops(13) && node.input(1) != nullptr) {
    sizes = constant_ints(node.input(1));
    if (!sizes) return "its sizes are computed";
  }
  if (drops(18) && node.input(1) == nullptr) {
    const auto parts = static_cast<std::int64_t>(node.outputs().size());
    const auto whole =
        node.input(0) != nullptr ? dim_of(*node.input(0), axis.front()) : std::nullopt;
    if (!whole) return "whether its parts are equal is unknown";
    if (*whole % parts != 0) {
      const std::int64_t part = (*whole + parts - 1) / parts;
      sizes.emplace(static_cast<std::size_t>(parts), part);
      sizes->back() = *whole - part * (parts - 1);
      if (sizes->back() < 0) return "it has more parts than elements";
    }
  }
  const bool moved = axis.front() != node.int_attribute("axis", 0);
  if (!sizes && !moved && node.attribute("num_outputs") == nullptr) return {};
  later(node, [this, &node, sizes, axis = axis.front(), moved] {
    Editor& editor = context_.edit();
    if (drops(18)) editor.remove_attribute(node, "num_outputs");
    if (moved) editor.set_attribute(node, attribute("axis", axis));
    if (!sizes) return;
    drop_input(node, 1);
    if (drops(13)) {
      editor.set_attribute(node, attribute("split", *sizes));
    } else {
      add_input(node, 1, "split",
                make_int64_tensor(*sizes, {static_cast<std::int64_t>(sizes->size())}));
    }
  });
  return {};
}

// 10 made k an input; 11 also finds the smallest, in any order.
std::string OpsetMigration::lower_top_k(Node& node) {
  if (!drops(11)) return {};
  if (node.int_attribute("largest", 1) != 1) return "before opset 11 it finds the largest only";
  std::optional<std::vector<std::int64_t>> count;
  if (drops(10)) {
    count = constant_ints(node.input(1));
    if (!count || count->size() != 1) return "how many it finds is computed";
  }
  later(node, [this, &node, count] {
    context_.edit().remove_attribute(node, "largest");
    context_.edit().remove_attribute(node, "sorted");
    if (!count) return;
    drop_input(node, 1);
    context_.edit().set_attribute(node, attribute("k", count->front()));
  });
  return {};
}

}  // namespace mcompress
