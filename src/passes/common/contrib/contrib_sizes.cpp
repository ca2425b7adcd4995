#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kSinceStart = 15;  // Shape<start, end>

struct Sizes {
  Node* shape = nullptr;
  std::int64_t start = 0, count = 1;
  bool is_list = false;  // one dimension, not none
};

// Dimensions that follow each other, gathered from a Shape that nothing else reads.
std::optional<Sizes> sizes_of(const Node& gather) {
  Sizes sizes;
  sizes.shape = made_by(gather.input(0), "Shape");
  const Value* numbers = gather.input(1);
  if (!gather.is("Gather") || sizes.shape == nullptr || gather.int_attribute("axis", 0) != 0 ||
      only_user(*gather.input(0)) != &gather || !sizes.shape->attributes().empty() ||
      sizes.shape->input(0) == nullptr) {
    return std::nullopt;
  }
  const auto rank = rank_of(*sizes.shape->input(0));
  auto indices = constant_ints(numbers, 8);
  const auto dims = numbers != nullptr ? static_shape(*numbers) : std::nullopt;
  if (!rank || !indices || indices->empty() || !dims || dims->size() > 1) return std::nullopt;
  for (std::int64_t& index : *indices) {
    if (index < 0) index += static_cast<std::int64_t>(*rank);
  }
  for (std::size_t i = 0; i < indices->size(); ++i) {
    const std::int64_t wanted = indices->front() + static_cast<std::int64_t>(i);
    if ((*indices)[i] != wanted || wanted < 0 || wanted >= static_cast<std::int64_t>(*rank)) {
      return std::nullopt;
    }
  }
  sizes.start = indices->front();
  sizes.count = static_cast<std::int64_t>(indices->size());
  sizes.is_list = dims->size() == 1;
  return sizes;
}

// The node that makes a list of the gathered dimensions; null: the number is used as one.
Node* list_of(Node& gather, const Sizes& sizes) {
  if (sizes.is_list) return &gather;
  Node* reader = only_user(*gather.output(0));
  if (reader == nullptr || !reader->is("Unsqueeze") || reader->output(0) == nullptr) return nullptr;
  const IntsParameter axes = ints_parameter(*reader, "axes", 1);
  const bool adds_one = axes.known && axes.values && axes.values->size() == 1 &&
                        (axes.values->front() == 0 || axes.values->front() == -1);
  return adds_one ? reader : nullptr;
}

}  // namespace

Status write_contrib_sizes(ContribWriter& writer) {
  if (writer.model().opset("") < kSinceStart) return ok_status();
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Gather") && node.output(0) != nullptr) found.push_back(&node);
  });
  for (Node* gather : found) {
    const auto sizes = sizes_of(*gather);
    Node* list = sizes ? list_of(*gather, *sizes) : nullptr;
    if (list == nullptr || &list->graph() != &sizes->shape->graph()) continue;
    chose(writer.context(), *list, "is a part of Shape '" + sizes->shape->label() + "'");
    NewNode form;
    form.op_type = "Shape";
    form.inputs = {sizes->shape->input(0)};
    form.attributes.push_back(attribute("start", sizes->start));
    form.attributes.push_back(attribute("end", sizes->start + sizes->count));
    const Node& subject = *list;
    MCOMPRESS_TRY(become(writer.context(), *list, std::move(form)));
    writer.saw(subject, "Shape", {});
  }
  return ok_status();
}

}  // namespace mcompress
