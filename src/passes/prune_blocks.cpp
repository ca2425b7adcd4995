// prune-blocks: depth pruning. A residual branch that the outputs hardly notice goes, and the mean
// of what it made takes its place:
//
//   x ─┬─ Conv ── Relu ── Conv ─┬─ Add ── y        =>   x ── Add mean ── y
//      └────────────────────────┘
//
// Which blocks go is measured: each is left out of a copy of the model, alone, and the outputs are
// compared on calibration data; then again without the one that went (after ShortGPT, Men et al.,
// 2024, but judged at the outputs).
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "ir/facts.h"
#include "mcompress/edit.h"
#include "mcompress/precision.h"
#include "passes/common/channels/channel_regression.h"
#include "passes/common/channels/channel_selection.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/guard.h"
#include "passes/common/padding.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A branch that one Add joins with another value.
struct ResidualBlock {
  std::uint32_t add = 0;             // id of the node
  std::size_t slot = 0;              // of the Add: what goes
  std::string label;                 // of the Add
  std::string joined;                // name of what goes
  std::vector<std::uint32_t> nodes;  // that nothing else reads, last first
  std::vector<const Node*> products;
  double macs = 0;
  std::uint64_t bytes = 0;  // of their constants
  std::string why;          // why it stays; empty: it may go
};

// An open first dimension counts samples. Others have to be known, or to have one name.
bool same_shape(const Value& left, const Value& right) {
  const TypeInfo *a = left.type(), *b = right.type();
  if (a == nullptr || b == nullptr || a->element != b->element || !a->shape || !b->shape ||
      a->shape->size() != b->shape->size()) {
    return false;
  }
  for (std::size_t i = 0; i < a->shape->size(); ++i) {
    const Dim &m = (*a->shape)[i], &n = (*b->shape)[i];
    if (i == 0 && !m.size && !n.size) continue;
    if (m != n || (!m.size && m.symbol.empty())) return false;
  }
  return true;
}

class BlockFinder {
 public:
  explicit BlockFinder(Model& model) : macs_(product_macs(model)), shapes_(model) {
    const Graph& graph = model.graph();
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      order_.push_back(node);
    }
  }

  std::vector<ResidualBlock> find() {
    std::vector<ResidualBlock> blocks;
    for (std::size_t i = 0; i < order_.size(); ++i) {
      const Node& add = *order_[i];
      if (!add.is("Add") || is_constant(add.input(0)) || is_constant(add.input(1)) ||
          add.input(0) == add.input(1)) {
        continue;
      }
      ResidualBlock left = branch(i, 0), right = branch(i, 1);
      // The longer way round goes: the other is the shortcut.
      ResidualBlock& block = left.macs > right.macs ? left : right;
      if (block.macs > 0) blocks.push_back(std::move(block));
    }
    return blocks;
  }

 private:
  ResidualBlock branch(std::size_t place, std::size_t slot) const {
    const Node& add = *order_[place];
    ResidualBlock block;
    block.add = add.id();
    block.slot = slot;
    block.label = add.label();
    block.joined = add.input(slot)->name();
    std::set<const Node*> gone = {&add};
    std::set<const Value*> read;
    std::set<const Value*> constants;
    const auto only_gone = [&](const Value& value) {
      return std::ranges::all_of(value.uses(), [&](const Use& use) {
        return use.node != nullptr && gone.contains(use.node) &&
               (use.node != &add || use.slot == slot);
      });
    };
    for (std::size_t i = place; i-- > 0;) {
      const Node& node = *order_[i];
      const bool used = std::ranges::any_of(node.outputs(), [](const Value* value) {
        return value != nullptr && !value->uses().empty();
      });
      if (!used || !node.bodies().empty() || !std::ranges::all_of(node.outputs(), [&](auto* value) {
            return value == nullptr || only_gone(*value);
          })) {
        continue;
      }
      gone.insert(&node);
      block.nodes.push_back(node.id());
      block.macs += macs_[node.id()];
      if (macs_[node.id()] > 0) block.products.push_back(&node);
      for (const Value* input : node.inputs()) {
        if (input == nullptr) continue;
        if (input->initializer() == nullptr) {
          read.insert(input);
        } else if (constants.insert(input).second) {
          block.bytes += input->initializer()->byte_size();
        }
      }
    }
    const Value& kept = *add.input(1 - slot);
    const Node* const maker = kept.producer();
    const bool around = read.contains(&kept) ||
                        (maker != nullptr && std::ranges::any_of(maker->inputs(), [&](auto* input) {
                           return input != nullptr && !is_constant(input) && read.contains(input);
                         }));
    if (!around) {
      block.why = "joins two ways that do not begin at one value";
    } else if (!same_shape(kept, *add.output(0)) && !same_terms(kept, *add.output(0))) {
      block.why = "the shape of what would be left is not known to be that of the sum";
    }
    return block;
  }

  // Sizes that are open, but come from the same ones.
  bool same_terms(const Value& left, const Value& right) const {
    const Terms *a = shapes_.dims(left), *b = shapes_.dims(right);
    return a != nullptr && b != nullptr && *a == *b && element_type(left) == element_type(right);
  }

  std::vector<const Node*> order_;
  std::vector<double> macs_;
  SymbolicShapes shapes_;
};

class PruneBlocks final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t count = 0;
    double flops = 0, max_drop = 100;
    bool repair = true, refit = true;
    std::int64_t samples = 64;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("count", &Options::count,
                   "residual branches that go; 0: what the other goals need, and 1 when there is "
                   "none")
            .range(0, 1e6)
            .field("flops", &Options::flops,
                   "multiplications of convolutions and matrix products that stay, as a share; 0: "
                   "not asked for")
            .range(0, 1)
            .field("max-drop", &Options::max_drop,
                   "points of the metric on the evaluation data that may be lost: a block that "
                   "loses more stays, and so do those behind it in rank; 100: not asked for")
            .range(0, 100)
            .unit("points")
            .field("keep-mean", &Options::repair,
                   "the mean of what a branch made, per channel, takes its place where that is "
                   "better")
            .field("refit", &Options::refit,
                   "fit the last product of the block behind one that went, so that their sum is "
                   "what it was, by least squares on the calibration data")
            .field(
                "samples", &Options::samples,
                "of the calibration data to compare outputs on, spread evenly; four times as many "
                "to fit on")
            .range(1, 1e9);
    return kSchema;
  }
  explicit PruneBlocks(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (context.calibration_data() == nullptr) {
      return Error(Code::kUsage, "no-calibration-data",
                   "blocks are chosen by what the model makes without them",
                   {{}, "prune-blocks", {}}, "give --calib DATA");
    }
    judged_ = dynamic_cast<const JudgedData*>(context.calibration_data());
    if (options_.max_drop < 100 && (judged_ == nullptr || !judged_->services().drop)) {
      return Error(Code::kUsage, "no-evaluation-data", "max-drop needs labelled evaluation data",
                   {{}, "max-drop", {}}, "give --eval DATA");
    }
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    Guard guard(*runtime, *context.calibration_data(), options_.samples);
    guard.leave_padding_out();
    const auto original = model.clone();
    MCOMPRESS_TRY(guard.open_reference(nullptr, model, &context.executor()));
    const double all = total_macs(model);
    std::map<std::string, ResidualBlock> stays;
    std::int64_t gone = 0;
    std::size_t found = 0;
    while (!enough(gone, total_macs(model) / all)) {
      std::vector<ResidualBlock> blocks = candidates(model);
      if (gone == 0) found = blocks.size();
      stays.clear();
      MCOMPRESS_ASSIGN(const Choice choice, best(*original, model, blocks, guard, context));
      for (ResidualBlock& block : blocks) stays.emplace(block.label, block);
      if (choice.block == blocks.size()) break;
      const ResidualBlock& block = blocks[choice.block];
      const auto saved = model.clone();
      const ProductNames next = products_behind(blocks, choice.block);
      MCOMPRESS_TRY(leave_out(model, block, choice.means, context.edit()));
      bool fitted = false;
      if (options_.refit && !next.empty()) {
        MCOMPRESS_ASSIGN(double sqnr, guard_of(guard, model, context));
        MCOMPRESS_ASSIGN(fitted, refit(*original, model, next, guard, sqnr, context));
      }
      ReportScope& curve = context.report().item("curve", block.label);
      curve.number("flops", total_macs(model) / all);
      curve.number("sqnr_db", choice.sqnr);
      curve.flag("fitted", fitted);
      curve.flag("mean", !choice.means.empty());
      if (options_.max_drop < 100) {
        MCOMPRESS_ASSIGN(const auto session, runtime->open(model, SessionOptions{}));
        MCOMPRESS_ASSIGN(const double drop, judged_->services().drop(*session));
        curve.number("drop", drop);
        if (drop > options_.max_drop) {
          curve.flag("undone", true);
          stays.at(block.label).why = "without it " + fixed(drop, 2) + " points are lost";
          model.swap(*saved);
          break;
        }
      }
      ++gone;
      stays.erase(block.label);
      Decision line;
      line.subject = block.label;
      line.op_type = "Add";
      line.applied = true;
      line.what = "left out" + std::string(choice.means.empty() ? "" : ", its mean stays");
      line.why = "cheapest at the outputs: " + fixed(choice.sqnr, 1) + " dB without it";
      line.bytes_before = block.bytes;
      context.explain().chose(std::move(line));
    }
    for (auto& [label, block] : stays) {
      Decision line;
      line.subject = label;
      line.op_type = "Add";
      line.bytes_before = line.bytes_after = block.bytes;
      line.why = block.why.empty() ? "others cost the outputs less" : std::move(block.why);
      context.explain().skipped(std::move(line));
    }
    context.report().count("blocks", static_cast<std::int64_t>(found));
    context.report().count("cut_blocks", gone);
    context.report().number("flops", total_macs(model) / all);
    if (options_.flops > 0 && total_macs(model) > options_.flops * all &&
        options_.max_drop >= 100) {
      context.diagnostics().warn("flops-missed",
                                 "without all blocks that can go " +
                                     fixed(total_macs(model) / all, 2) +
                                     " of the multiplications are left",
                                 {{}, "flops", {}}, "prune-channels can take more");
    }
    return ok_status();
  }

 private:
  using Means = std::vector<double>;
  struct Choice {
    std::size_t block = 0;
    double sqnr = 0;
    Means means;
  };

  static double total_macs(const Model& model) {
    double sum = 0;
    for (const double macs : product_macs(model)) sum += macs;
    return std::max(sum, 1.0);
  }

  bool enough(std::int64_t gone, double flops) const {
    if (options_.count > 0) return gone >= options_.count;
    if (options_.flops > 0) return flops <= options_.flops;
    return options_.max_drop >= 100 && gone >= 1;
  }

  std::vector<ResidualBlock> candidates(Model& model) const {
    std::vector<ResidualBlock> blocks = BlockFinder(model).find();
    const Selection selection(options_.include, options_.exclude);
    for (ResidualBlock& block : blocks) {
      for (const Node* node : block.products) {
        if (!block.why.empty()) break;
        block.why = selection.why_not(*node, node->input(1));
      }
    }
    return blocks;
  }

  using ProductNames = std::set<std::string, std::less<>>;

  // What the block behind this one multiplies, by the names of the results; empty: there is none.
  static ProductNames products_behind(const std::vector<ResidualBlock>& blocks, std::size_t place) {
    ProductNames names;
    const auto next = std::find_if(
        blocks.begin() + static_cast<std::ptrdiff_t>(place) + 1, blocks.end(),
        [](const ResidualBlock& block) { return block.why.empty() && !block.products.empty(); });
    if (next == blocks.end()) return names;
    for (const Node* product : next->products) names.emplace(product->output(0)->name());
    return names;
  }

  // True when the fit made the outputs better: `sqnr` then is theirs. Else nothing has changed.
  Result<bool> refit(const Model& original, Model& model, const ProductNames& products,
                     const Guard& guard, double& sqnr, PassContext& context) const {
    const auto trial = model.clone();
    Editor edit(*trial, &onnx_catalog());
    ChannelRepairOptions how;
    how.samples = 4 * options_.samples;  // more than comparing takes: there is much to fit
    how.before_sums = products;
    how.editor = &edit;
    MCOMPRESS_ASSIGN(const ChannelRepair repair,
                     repair_channels(original, *trial, {}, how, context));
    if (repair.layers == 0) return false;
    MCOMPRESS_ASSIGN(const double fitted, guard_of(guard, *trial, context));
    if (!(fitted > sqnr)) return false;
    sqnr = fitted;
    model.swap(*trial);
    return true;
  }

  // The block without which the outputs change least for what it saves; their number: none may go.
  Result<Choice> best(const Model& original, const Model& model, std::vector<ResidualBlock>& blocks,
                      const Guard& guard, PassContext& context) const {
    Choice choice;
    choice.block = blocks.size();
    std::map<std::string, Means> means;
    if (options_.repair) {
      MCOMPRESS_ASSIGN(means, mean_values(model, blocks, context));
    }
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (context.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while blocks were tried");
      }
      context.progress().update("try blocks", i, blocks.size(), "blocks");
      if (!blocks[i].why.empty()) continue;
      const auto known = means.find(blocks[i].joined);
      MCOMPRESS_ASSIGN(Choice without, without_block(original, model, blocks, i,
                                                     known != means.end() ? known->second : Means{},
                                                     guard, context));
      if (!blocks[i].why.empty()) continue;
      // By count every block saves the same.
      const double saves = options_.flops > 0 ? blocks[i].macs : 1;
      const double price = std::pow(10, -without.sqnr / 10) / saves;
      if (!(price < least)) continue;
      least = price;
      choice = std::move(without);
    }
    return choice;
  }

  // What the outputs are without one block, with nothing or its mean in its place, whatever is
  // better, and what is behind it fitted. A block that can not go gets its reason.
  Result<Choice> without_block(const Model& original, const Model& model,
                               std::vector<ResidualBlock>& blocks, std::size_t place,
                               const Means& mean, const Guard& guard, PassContext& context) const {
    Choice choice;
    choice.block = place;
    std::unique_ptr<Model> best;
    std::vector<Means> tries = {{}};
    if (!mean.empty()) tries.push_back(mean);
    for (Means& stands_in : tries) {
      auto trial = model.clone();
      Editor edit(*trial, &onnx_catalog());
      if (const Status left = leave_out(*trial, blocks[place], stands_in, edit); !left.ok()) {
        blocks[place].why = left.error().diagnostic.message;
        return choice;
      }
      MCOMPRESS_ASSIGN(const double sqnr, guard_of(guard, *trial, context));
      if (best != nullptr && sqnr <= choice.sqnr) continue;
      best = std::move(trial);
      choice.sqnr = sqnr;
      choice.means = std::move(stands_in);
    }
    const ProductNames next = products_behind(blocks, place);
    if (options_.refit && !next.empty()) {
      MCOMPRESS_TRY(refit(original, *best, next, guard, choice.sqnr, context));
    }
    return choice;
  }

  static Result<double> guard_of(const Guard& guard, const Model& trial, PassContext& context) {
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    SessionOptions options;
    options.optimisation = Optimisation::kAll;
    MCOMPRESS_ASSIGN(const auto session, runtime->open(trial, options));
    return guard.sqnr_db(*session);
  }

  // Of images channels come second, else last.
  static std::int64_t channel_axis(std::size_t rank) { return rank >= 4 ? 1 : -1; }

  // Per channel, of what the branches make, by name.
  Result<std::map<std::string, Means>> mean_values(const Model& model,
                                                   const std::vector<ResidualBlock>& blocks,
                                                   PassContext& context) const {
    std::map<std::string, Means> means;
    SessionOptions options;
    for (const ResidualBlock& block : blocks) {
      if (!block.why.empty()) continue;
      const Value* value = model.graph().find(block.joined);
      const auto rank = rank_of(*value);
      if (!rank || *rank < 2 || !dim_of(*value, channel_axis(*rank))) continue;
      if (element_type(*value) != DataType::kFloat) continue;
      options.observed.push_back(block.joined);
    }
    if (options.observed.empty()) return means;
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    MCOMPRESS_ASSIGN(const auto session, runtime->open(model, options));
    DataSource& data = *context.calibration_data();
    std::vector<double> rows(options.observed.size());
    const std::int64_t total = data.count(), count = std::min(options_.samples, total);
    for (std::int64_t s = 0; s < count; ++s) {
      MCOMPRESS_ASSIGN(const auto feeds, data.sample(s * total / count));
      const std::vector<bool> counted = counted_positions(feeds);
      MCOMPRESS_TRY(session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
        return add_means(view, counted, means[options.observed[slot]], rows[slot]);
      }));
    }
    for (std::size_t i = 0; i < options.observed.size(); ++i) {
      for (double& sum : means[options.observed[i]]) sum /= std::max(rows[i], 1.0);
    }
    return means;
  }

  // `counted`: positions that are no padding, where there are such.
  static Status add_means(const TensorView& view, const std::vector<bool>& counted, Means& sums,
                          double& rows) {
    const auto dims = view.dims;
    const std::size_t rank = dims.size();
    const std::size_t axis = channel_axis(rank) < 0 ? rank - 1 : 1;
    std::size_t inner = 1;
    for (std::size_t i = axis + 1; i < rank; ++i) inner *= static_cast<std::size_t>(dims[i]);
    const auto channels = static_cast<std::size_t>(dims[axis]);
    sums.resize(channels);
    const std::span<const float> values(reinterpret_cast<const float*>(view.bytes.data()),
                                        view.bytes.size() / sizeof(float));
    const std::size_t positions = channels > 0 ? values.size() / channels : 0;
    const bool padded = axis == rank - 1 && counted.size() == positions;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (padded && !counted[i / channels]) continue;
      sums[i / inner % channels] += static_cast<double>(values[i]);
    }
    rows += static_cast<double>(padded ? std::ranges::count(counted, true)
                                       : static_cast<std::ptrdiff_t>(positions));
    return ok_status();
  }

  // Fails (kUnsupported) when both ends have a name that has to stay.
  static Status leave_out(Model& model, const ResidualBlock& block, const Means& means,
                          Editor& edit) {
    std::map<std::uint32_t, Node*> nodes;
    for (Node* node : model.graph().nodes()) nodes.emplace(node->id(), node);
    Node& add = *nodes.at(block.add);
    Value& kept = *add.input(1 - block.slot);
    if (!means.empty()) {
      const auto rank = rank_of(*add.output(0));
      std::vector<std::int64_t> dims = {static_cast<std::int64_t>(means.size())};
      if (rank && channel_axis(*rank) == 1) dims.resize(*rank - 1, 1);
      std::vector<float> numbers(means.size());
      std::ranges::transform(means, numbers.begin(),
                             [](double x) { return static_cast<float>(x); });
      Value& mean = edit.add_initializer(model.graph(), block.joined + "_mean",
                                         make_float_tensor(numbers, std::move(dims)));
      edit.set_input(add, block.slot, &mean);
    } else {
      MCOMPRESS_TRY(edit.replace_all(*add.output(0), kept));
      MCOMPRESS_TRY(edit.erase(add));
    }
    for (const std::uint32_t id : block.nodes) {
      Node& node = *nodes.at(id);
      const std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
      MCOMPRESS_TRY(edit.erase(node));
      std::set<Value*> unread(inputs.begin(), inputs.end());
      for (Value* value : unread) {
        if (value == nullptr || value->constant() == nullptr || !value->is_initializer()) continue;
        if (value->uses().empty()) MCOMPRESS_TRY(edit.erase_initializer(*value));
      }
    }
    return ok_status();
  }

  Options options_;
  const JudgedData* judged_ = nullptr;
};

}  // namespace

PassInfo prune_blocks_info() {
  PassInfo info = pass_info<PruneBlocks>(
      "prune-blocks", "leave out residual branches that the outputs hardly notice",
      Reach::kTopGraph, false, {"lift-constants", "infer-shapes", "fuse-batchnorm"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
