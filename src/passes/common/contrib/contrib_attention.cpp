#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>

#include "ir/deferred.h"
#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/attention.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/fusion/linear.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kPacked = "Attention", kSeparate = "MultiHeadAttention";

// The product that makes the columns of heads, for `Attention`.
struct Projection {
  LinearOp op;
  const HeadsView* view = nullptr;
};
using Projections = std::array<Projection, 3>;  // of queries, keys and values

// `length` columns of one weight that become neighbours in the new one.
struct ColumnRun {
  std::size_t source = 0;  // which of the projections
  std::int64_t from = 0, to = 0, length = 0;
};

// The columns of queries, keys and values side by side, head by head.
std::vector<ColumnRun> column_runs(const AttentionSite& site, const Projections& projections) {
  std::vector<ColumnRun> runs;
  const std::array<const HeadsOperand*, 3> operands = {&site.q, &site.k, &site.v};
  std::int64_t at = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    std::size_t source = i;  // the first one with the same weight
    while (source > 0 && projections[source - 1].op.node == projections[i].op.node) --source;
    const HeadsView& view = *projections[i].view;
    for (std::int64_t n = 0; n < operands[i]->heads; ++n) {
      for (std::int64_t h = 0; h < operands[i]->size; ++h, ++at) {
        const std::int64_t from = view.offset + n * view.head_stride + h * view.element_stride;
        if (!runs.empty() && runs.back().source == source &&
            runs.back().from + runs.back().length == from) {
          ++runs.back().length;
        } else {
          runs.push_back({source, from, at, 1});
        }
      }
    }
  }
  return runs;
}

// The columns of several float32 matrices of as many rows, side by side.
Result<Tensor> joined_columns(PassContext& context, std::array<Tensor, 3> sources,
                              std::vector<ColumnRun> runs) {
  const std::int64_t rows = sources[0].dims()[0];
  const std::int64_t columns = runs.back().to + runs.back().length;
  const auto fill = [sources = std::move(sources), runs = std::move(runs), columns](
                        std::uint64_t offset, std::span<std::byte> out) -> Status {
    auto element = static_cast<std::int64_t>(offset / sizeof(float));
    while (!out.empty()) {
      const std::int64_t row = element / columns, column = element % columns;
      const auto behind = std::ranges::upper_bound(runs, column, {}, &ColumnRun::to);
      const ColumnRun& run = *std::prev(behind);
      const Tensor& source = sources[run.source];
      const std::int64_t skipped = column - run.to;
      const auto count = std::min<std::int64_t>(
          run.length - skipped, static_cast<std::int64_t>(out.size() / sizeof(float)));
      const std::int64_t first = row * source.dims()[1] + run.from + skipped;
      const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
      MCOMPRESS_ASSIGN(
          const Pinned pinned,
          source.storage()->pin(static_cast<std::uint64_t>(first) * sizeof(float), bytes));
      std::memcpy(out.data(), pinned.bytes().data(), bytes);
      out = out.subspan(bytes);
      element += count;
    }
    return ok_status();
  };
  return defer_tensor(context.tensors(), context.executor(), DataType::kFloat, {rows, columns},
                      fill);
}

class AttentionWriter {
 public:
  AttentionWriter(ContribWriter& writer, const SymbolicShapes& shapes)
      : writer_(writer), context_(writer.context()), shapes_(shapes) {}

  Status write(const AttentionSite& site) {
    std::string why = site.why_not;
    if (why.empty()) why = why_not_float(*site.softmax->output(0));
    std::string_view op_type = kPacked;
    if (why.empty()) {
      Projections projections;
      why = writer_.offered(kPacked) == nullptr ? "the target has no Attention"
                                                : why_not_packed(site, projections);
      if (why.empty()) {
        MCOMPRESS_TRY(write_packed(site, projections));
      } else {
        op_type = kSeparate;
        std::array<const HeadsView*, 3> views{};
        std::string other = writer_.offered(kSeparate) == nullptr
                                ? "the target has no MultiHeadAttention"
                                : why_not_separate(site, views);
        if (other.empty()) {
          why.clear();
          MCOMPRESS_TRY(write_separate(site, views));
        } else if (other != why) {
          why = "for Attention, " + why + "; for MultiHeadAttention, " + other;
        }
      }
    }
    writer_.saw(*site.softmax, op_type, std::move(why));
    return ok_status();
  }

 private:
  using MaskKey = std::tuple<const Graph*, std::vector<std::uint32_t>, std::int64_t, std::uint32_t,
                             std::int64_t, std::uint32_t>;

  const Terms& dims(const HeadsView& view) const { return *shapes_.dims(*view.value); }

  static std::string why_not_closed_with(const AttentionSite& site,
                                         const std::vector<const HeadsView*>& views,
                                         std::vector<Node*> nodes) {
    nodes.insert(nodes.end(), site.nodes.begin(), site.nodes.end());
    for (const HeadsView* view : views) {
      nodes.insert(nodes.end(), view->nodes.begin(), view->nodes.end());
    }
    return why_not_closed(nodes, *site.root);
  }

  // Whether queries, keys and values are products of one tensor with constants, which can stand
  // side by side without growing.
  std::string why_not_packed(const AttentionSite& site, Projections& projections) const {
    std::vector<Node*> nodes;
    std::vector<const HeadsView*> views;
    std::int64_t columns = 0;
    const std::array<const HeadsOperand*, 3> operands = {&site.q, &site.k, &site.v};
    for (std::size_t i = 0; i < operands.size(); ++i) {
      Projection& projection = projections[i];
      projection.view = &operands[i]->views.back();
      const LinearSearch search = find_linear(*projection.view->value);
      const std::string name = "'" + std::string(projection.view->value->name()) + "'";
      if (!search.op || !search.op->is("MatMul")) {
        return name + " is no product with a constant" +
               (search.why.empty() ? std::string() : ": " + search.why);
      }
      projection.op = *search.op;
      const LinearOp& op = projection.op;
      const Value& weight = *op.node->input(1);
      if (element_type(weight) != DataType::kFloat) {
        return "'" + std::string(weight.name()) + "' is not float32";
      }
      if (op.add != nullptr && !linear_bias(op)) return name + " has a bias that is no vector";
      const Terms* rows = shapes_.dims(*op.node->input(0));
      if (rows == nullptr || rows->size() != 3) return "the input has not 3 dimensions";
      if (op.node->input(0) != projections[0].op.node->input(0)) {
        return "queries, keys and values are projections of different tensors";
      }
      if (i == 2 && projection.view->scale != 1.0) return "the values are scaled";
      views.push_back(projection.view);
      nodes.push_back(op.node);
      if (op.add != nullptr) nodes.push_back(op.add);
      const bool again = (i > 0 && projections[i - 1].op.node == op.node) ||
                         (i > 1 && projections[i - 2].op.node == op.node);
      if (!again) columns += op.out.channels;
    }
    if (columns != site.q.heads * (2 * site.q.size + site.v.size)) {
      return "the projections make columns that it does not read";
    }
    for (const Projection& projection : projections) {
      const Value& weight = *projection.op.node->input(1);
      if (weight.uses().size() != 1 && !is_whole(site, projections)) {
        return "'" + std::string(weight.name()) + "' has other readers and would be copied";
      }
    }
    return why_not_closed_with(site, views, std::move(nodes));
  }

  // The weight stands as it has to already.
  static bool is_whole(const AttentionSite& site, const Projections& projections) {
    const auto runs = column_runs(site, projections);
    return runs.size() == 1 && runs[0].from == 0 &&
           runs[0].length == projections[0].op.out.channels;
  }

  std::string why_not_separate(const AttentionSite& site,
                               std::array<const HeadsView*, 3>& views) const {
    const std::array<const HeadsOperand*, 3> operands = {&site.q, &site.k, &site.v};
    static constexpr std::array<std::string_view, 3> kNames = {"queries", "keys", "values"};
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const HeadsOperand& operand = *operands[i];
      for (const HeadsView& view : operand.views) {
        if (view.offset == 0 && dims(view)[2].is(operand.heads * operand.size) &&
            (operand.heads == 1 || view.head_stride == operand.size) &&
            (operand.size == 1 || view.element_stride == 1) && (i < 2 || view.scale == 1.0)) {
          views[i] = &view;
        }
      }
      if (views[i] == nullptr) return "the " + std::string(kNames[i]) + " are part of a tensor";
    }
    for (const HeadsView* view : views) {
      if (std::string why = why_not_real(view->value); !why.empty()) return why;
    }
    if (dims(*views[0])[0] != dims(*views[1])[0] || dims(*views[0])[0] != dims(*views[2])[0]) {
      return "queries, keys and values may differ in their batches";
    }
    if (dims(*views[1])[1] != dims(*views[2])[1]) return "keys and values may differ in number";
    return why_not_closed_with(site, {views.begin(), views.end()}, {});
  }

  NewNode form_of(const AttentionSite& site, std::string_view op_type, double factor) const {
    NewNode form;
    form.domain = kContribDomain;
    form.op_type = op_type;
    form.attributes.push_back(attribute("num_heads", site.q.heads));
    form.attributes.push_back(attribute("scale", static_cast<float>(site.scale * factor)));
    return form;
  }

  Status write_packed(const AttentionSite& site, const Projections& projections) {
    writer_.import();
    chose(context_, *site.softmax,
          "Attention instead of " + std::to_string(site.nodes.size()) + " nodes and more");
    const Node& first = *projections[0].op.node;
    Graph& graph = site.root->graph();
    const std::string base(site.root->output(0)->name());
    NewNode form = form_of(site, kPacked, projections[0].view->scale * projections[1].view->scale);
    form.inputs = {first.input(0), nullptr, nullptr};
    const auto runs = column_runs(site, projections);
    if (is_whole(site, projections)) {
      form.inputs[1] = first.input(1);
    } else {
      std::array<Tensor, 3> sources;
      for (std::size_t i = 0; i < sources.size(); ++i) {
        sources[i] = *constant_of(projections[i].op.node->input(1));
      }
      MCOMPRESS_ASSIGN(Tensor weight, joined_columns(context_, std::move(sources), runs));
      form.inputs[1] = &add_constant(context_, graph, base + "_weight", std::move(weight));
    }
    const bool biased = std::ranges::any_of(
        projections, [](const Projection& projection) { return projection.op.add != nullptr; });
    if (biased) {
      std::vector<float> bias;
      for (const ColumnRun& run : runs) {
        const LinearOp& op = projections[run.source].op;
        std::vector<double> own(static_cast<std::size_t>(op.out.channels), 0.0);
        if (op.add != nullptr) own = *linear_bias(op);
        for (std::int64_t i = 0; i < run.length; ++i) {
          bias.push_back(static_cast<float>(own[static_cast<std::size_t>(run.from + i)]));
        }
      }
      const auto size = static_cast<std::int64_t>(bias.size());
      form.inputs[2] =
          &add_constant(context_, graph, base + "_bias", make_float_tensor(bias, {size}));
    }
    if (site.v.size != site.q.size) {
      const std::int64_t width = site.q.heads * site.q.size;
      form.attributes.push_back(attribute(
          "qkv_hidden_sizes", std::vector<std::int64_t>{width, width, site.q.heads * site.v.size}));
    }
    add_mask(site, *projections[0].view, *projections[1].view, 5, form);
    return finish(site, std::move(form));
  }

  Status write_separate(const AttentionSite& site, const std::array<const HeadsView*, 3>& views) {
    writer_.import();
    chose(context_, *site.softmax,
          "MultiHeadAttention instead of " + std::to_string(site.nodes.size()) + " nodes and more");
    NewNode form = form_of(site, kSeparate, views[0]->scale * views[1]->scale);
    form.inputs = {views[0]->value, views[1]->value, views[2]->value};
    add_mask(site, *views[0], *views[1], 5, form);
    return finish(site, std::move(form));
  }

  Status finish(const AttentionSite& site, NewNode form) {
    while (form.inputs.back() == nullptr) form.inputs.pop_back();
    Value& result = *site.root->output(0);
    if (site.root_splits_heads) {
      TypeInfo type{DataType::kFloat, std::vector<Dim>(3)};
      type.shape->back().size = site.v.heads * site.v.size;
      context_.edit().set_type(result, std::move(type), false);
    }
    return become(context_, *site.root, std::move(form));
  }

  // ------------------------------------------------------------------------------------ masks

  Value& added(Node& anchor, std::string_view op_type, std::vector<Value*> inputs) {
    NewNode node;
    node.op_type = op_type;
    node.inputs = std::move(inputs);
    node.base_name = "attention_mask_" + std::string(op_type);
    return *context_.edit().insert_before(anchor, std::move(node)).output(0);
  }
  Value& numbers(Graph& graph, std::vector<std::int64_t> values) {
    const auto size = static_cast<std::int64_t>(values.size());
    return add_constant(context_, graph, "attention_sizes", make_int64_tensor(values, {size}));
  }

  // Layers that are masked by the same share the sum of their masks.
  void add_mask(const AttentionSite& site, const HeadsView& q, const HeadsView& k, std::size_t slot,
                NewNode& form) {
    if (site.masks.empty()) return;
    const Term rows = dims(q)[1], columns = dims(k)[1];
    std::vector<std::uint32_t> key;
    for (const AttentionMask& mask : site.masks) {
      std::uint32_t bits = 0;
      if (mask.filler) std::memcpy(&bits, &*mask.filler, sizeof(bits));
      key.insert(key.end(),
                 {mask.value->id(), mask.filler ? 1u + mask.filler_where_true : 0u, bits});
    }
    Value*& made = masks_[{&site.root->graph(), std::move(key), rows.number, rows.symbol,
                           columns.number, columns.symbol}];
    if (made == nullptr) made = &whole_mask(site, q, k, rows, columns);
    form.inputs.resize(slot + 1, nullptr);
    form.inputs[slot] = made;
  }

  // The sum of the masks as [B or 1, N or 1, rows, columns], which is what the kernels take.
  Value& whole_mask(const AttentionSite& site, const HeadsView& q, const HeadsView& k,
                    const Term& rows, const Term& columns) {
    Node& anchor = *site.softmax;  // the roots of layers side by side may stand in another order
    Graph& graph = anchor.graph();
    Value* sum = nullptr;
    std::size_t rank = 0;
    Terms known{Term{1}, Term{1}, Term{1}, Term{1}};
    for (const AttentionMask& mask : site.masks) {
      Value* value = mask.value;
      if (mask.filler) {
        Value& zero = add_constant(context_, graph, "attention_zero", make_float_scalar(0.0f));
        Value& filler =
            add_constant(context_, graph, "attention_filler", make_float_scalar(*mask.filler));
        Value* chosen = mask.filler_where_true ? &filler : &zero;
        Value* other = mask.filler_where_true ? &zero : &filler;
        value = &added(anchor, "Where", {value, chosen, other});
      }
      sum = sum != nullptr ? &added(anchor, "Add", {sum, value}) : value;
      const Terms& own = *shapes_.dims(*mask.value);
      for (std::size_t i = 0; i < own.size(); ++i) {
        Term& size = known[4 - own.size() + i];
        if (size.is(1)) size = own[i];
      }
      rank = std::max(rank, own.size());
    }
    if (rank == 4 && known[2] == rows && known[3] == columns) return *sum;
    Value* shape = nullptr;
    // Expand keeps axes in front of those it is told.
    const bool add_axes = rank < 4;
    if (rows.known() && columns.known()) {
      std::vector<std::int64_t> sizes{rows.number, columns.number};
      if (add_axes) sizes = {1, 1, rows.number, columns.number};
      shape = &numbers(graph, std::move(sizes));
    } else {
      std::vector<Value*> parts;
      if (add_axes) parts.push_back(&numbers(graph, {1, 1}));
      const auto length_of = [&](const HeadsView& view, std::vector<std::int64_t> axes) {
        Value& sizes = added(anchor, "Shape", {source_of(view)});
        parts.push_back(&added(anchor, "Gather", {&sizes, &numbers(graph, std::move(axes))}));
      };
      if (rows == columns) {
        length_of(q, {1, 1});
      } else {
        length_of(q, {1});
        length_of(k, {1});
      }
      shape = parts.front();
      if (parts.size() > 1) {
        shape = &added(anchor, "Concat", std::move(parts));
        context_.edit().set_attribute(*shape->producer(), attribute("axis", std::int64_t{0}));
      }
    }
    return added(anchor, "Expand", {sum, shape});
  }

  // A tensor of as many rows that stays: not the projection, which Attention makes itself.
  static Value* source_of(const HeadsView& view) {
    const LinearSearch search = find_linear(*view.value);
    return search.op && search.op->is("MatMul") ? search.op->node->input(0) : view.value;
  }

  ContribWriter& writer_;
  PassContext& context_;
  const SymbolicShapes& shapes_;
  std::map<MaskKey, Value*> masks_;
};

}  // namespace

Status write_contrib_attention(ContribWriter& writer) {
  if (writer.offered(kPacked) == nullptr && writer.offered(kSeparate) == nullptr) {
    return ok_status();
  }
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Softmax")) found.push_back(&node);
  });
  if (found.empty()) return ok_status();
  const auto shapes = writer.context().facts().of<SymbolicShapes>(writer.model());
  std::vector<AttentionSite> sites;
  for (Node* node : found) {
    if (auto site = find_attention(*node, *shapes)) sites.push_back(std::move(*site));
  }
  AttentionWriter attention(writer, *shapes);
  for (const AttentionSite& site : sites) MCOMPRESS_TRY(attention.write(site));
  return ok_status();
}

}  // namespace mcompress
