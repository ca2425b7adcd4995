// An explicit Pad on spatial axes becomes the padding of the operator behind it:
//
//   y = Conv<pads = q>(Pad<pads = p>(x))   =>   y = Conv<pads = p + q>(x)
//
// Conv and AveragePool with count_include_pad pad with 0, MaxPool with the lowest number, so only a
// Pad with that value may go. Pools must keep every window on at least one real element.
#include <algorithm>
#include <limits>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

struct Padding {
  Ints spatial;  // begins, then ends, of the axes from 2 on
  double value = 0.0;
  std::string why_not;  // empty: the above holds
};

Padding read_pad(const Node& pad) {
  Padding padding;
  const auto refuse = [&](std::string why) {
    padding.why_not = std::move(why);
    return padding;
  };
  const std::string_view mode = pad.string_attribute("mode", "constant");
  if (mode != "constant") return refuse("its mode is " + std::string(mode));
  const IntsParameter pads = ints_parameter(pad, "pads", 1);
  const IntsParameter axes = ints_parameter(pad, "axes", 3);
  if (!pads.values || !axes.known) return refuse("its pads are no constant");
  if (pad.input(2) != nullptr) {
    const auto value = constant_scalar(pad.input(2));
    if (!value) return refuse("its value is no constant");
    padding.value = *value;
  } else {
    padding.value = static_cast<double>(pad.float_attribute("value", 0.0f));
  }

  const Ints& list = *pads.values;
  std::size_t rank = list.size() / 2;
  Ints full = list;
  if (axes.values) {
    if (list.size() != 2 * axes.values->size()) return refuse("it has other axes than pads");
    const auto known = rank_of(*pad.input(0));
    if (!known) return refuse("the rank of its input is unknown");
    rank = *known;
    full.assign(2 * rank, 0);
    for (std::size_t i = 0; i < axes.values->size(); ++i) {
      std::int64_t axis = (*axes.values)[i];
      if (axis < 0) axis += static_cast<std::int64_t>(rank);
      if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return refuse("an axis is wrong");
      full[static_cast<std::size_t>(axis)] = list[i];
      full[rank + static_cast<std::size_t>(axis)] = list[axes.values->size() + i];
    }
  }
  if (rank < 3) return refuse("it pads no spatial axes");
  for (std::size_t i = 0; i < 2 * rank; ++i) {
    if (full[i] < 0) return refuse("it cuts elements off");
    const bool spatial = i % rank >= 2;
    if (!spatial && full[i] != 0) return refuse("it pads the batch or channel axis");
    if (spatial) padding.spatial.push_back(full[i]);
  }
  return padding;
}

class FusePad final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FusePad(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"Pad"});
    std::int64_t fused = 0;
    for (Node* node : found) {
      MCOMPRESS_ASSIGN(std::string why, fuse(*node, context));
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", static_cast<std::int64_t>(found.size()));
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  static Result<std::string> fuse(Node& pad, PassContext& context) {
    Value& padded = *pad.output(0);
    if (padded.uses().empty()) return std::string("nothing reads it");
    const Padding padding = read_pad(pad);
    if (!padding.why_not.empty()) return padding.why_not;
    // Every reader has to take the padding over, else the Pad stays and nothing is won.
    const std::vector<Use> uses(padded.uses().begin(), padded.uses().end());
    for (const Use& use : uses) {
      if (use.graph != &padded.graph() || use.node == nullptr) {
        return use.node == nullptr
                   ? "'" + std::string(padded.name()) + "' is a graph output"
                   : "'" + std::string(padded.name()) + "' is read inside a nested graph";
      }
      if (std::string why = why_not_into(*use.node, use.slot, padding); !why.empty()) return why;
    }
    chose(context, pad,
          "moved into " + std::string(uses.front().node->op_type()) + " '" +
              uses.front().node->label() + "'" + (uses.size() > 1 ? " and others" : ""));
    for (const Use& use : uses) {
      Node& reader = *use.node;
      Ints pads = padding.spatial;
      if (const auto own = own_pads(reader)) {
        for (std::size_t i = 0; i < pads.size(); ++i) pads[i] += (*own)[i];
      }
      context.edit().set_attribute(reader, attribute("pads", std::move(pads)));
      context.edit().remove_attribute(reader, "auto_pad");
      if (reader.is("AveragePool")) {
        context.edit().set_attribute(reader, attribute("count_include_pad", std::int64_t{1}));
      }
      context.edit().set_input(reader, 0, pad.input(0));
    }
    MCOMPRESS_TRY(erase_unused(context, padded));
    return std::string();
  }

  // auto_pad VALID overrides the list.
  static std::optional<Ints> own_pads(const Node& reader) {
    if (reader.string_attribute("auto_pad", "NOTSET") == "VALID") return std::nullopt;
    return reader.ints_attribute("pads");
  }

  static std::string why_not_into(const Node& reader, std::size_t slot, const Padding& padding) {
    const std::string name = std::string(reader.op_type()) + " '" + reader.label() + "'";
    const bool conv = reader.is("Conv");
    const bool average = reader.is("AveragePool");
    const bool maximum = reader.is("MaxPool");
    if (slot != 0 || !(conv || average || maximum)) return "it is read by " + name;
    const std::string_view auto_pad = reader.string_attribute("auto_pad", "NOTSET");
    if (auto_pad != "NOTSET" && auto_pad != "VALID") return name + " pads by auto_pad";
    const auto own = own_pads(reader);
    if (own && own->size() != padding.spatial.size()) return name + " has another rank";
    const double lowest = -static_cast<double>(std::numeric_limits<float>::max());
    if (maximum ? !(padding.value <= lowest) : padding.value != 0.0) {
      return "it pads with another number than " + name;
    }
    if (conv) return {};

    if (reader.int_attribute("ceil_mode", 0) != 0) return name + " rounds its size up";
    if (maximum && reader.output(1) != nullptr) return name + " counts positions of its input";
    const bool own_padding =
        own && std::ranges::any_of(*own, [](std::int64_t p) { return p != 0; });
    constexpr std::int64_t kCountIncludePad = 7;
    if (average && reader.graph().model().opset("") < kCountIncludePad) {
      return name + " counts no padding before opset 7";
    }
    if (average && own_padding && reader.int_attribute("count_include_pad", 0) == 0) {
      return name + " does not count its own padding";
    }
    const auto kernel = reader.ints_attribute("kernel_shape");
    if (!kernel || 2 * kernel->size() != padding.spatial.size()) return name + " has no kernel";
    for (std::size_t i = 0; i < padding.spatial.size(); ++i) {
      const std::int64_t total = padding.spatial[i] + (own ? (*own)[i] : 0);
      if (total >= (*kernel)[i % kernel->size()]) return "the padding is as large as the window";
    }
    return {};
  }
};

}  // namespace

PassInfo fuse_pad_info() {
  return pass_info<FusePad>("fuse-pad", "move explicit zero padding into Conv and pooling",
                            Reach::kNestedGraphs, true, {"lift-constants", "fold-constants"});
}

}  // namespace mcompress
