// awq: scales channels of activations such that the weights that meet the large ones are rounded
// more finely by a block format.
//
//   before:  LayerNormalization(g, b) ──┬── MatMul(Wq)
//                                       └── MatMul(Wk)
//   after:   LayerNormalization(g / s, b / s) ──┬── MatMul(s Wq)
//                                               └── MatMul(s Wk)
//
// Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
// 2024: s_k = a_k^alpha, a_k the magnitude of channel k, here its root mean square; alpha is the
// one of 0, 0.05 ... 1 for which
//   sum over readers W and channels k of mean(x_k^2) (Q(W s)_k / s_k - W_k)^2
// is least, Q the rounding of quantize-blocks. What makes the channels takes 1 / s. Where it can
// not, as where a residual reads the same value or behind a Gelu, a Mul by 1 / s stays in front of
// the readers, if that is worth it:
//
//   x ──┬── Add                   x ──┬── Add
//       └── MatMul(W)                 └── Mul(1 / s) ── MatMul(s W)
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "ir/facts.h"
#include "mcompress/version.h"
#include "numeric/block_kernels.h"
#include "numeric/block_quantize.h"
#include "passes/common/blocks/block_plan.h"
#include "passes/common/blocks/block_rows.h"
#include "passes/common/integer/channel_choice.h"
#include "passes/common/integer/channel_scales.h"
#include "passes/common/integer/mixed_precision.h"
#include "passes/common/integer/scale_journal.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/hash.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

using kernel::kTileRows;

constexpr std::size_t kRowsLookedAt = 512;  // of each weight
constexpr int kSteps = 20;
constexpr double kLeastGain = 0.1;    // dB
constexpr double kLeastInsert = 0.3;  // for a Mul more in the graph

class Awq final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string weights = "uint4";
    std::int64_t block_size = -1;
    std::string weight_method = "rtn";
    bool awq_insert = true;
    std::int64_t samples = 64;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("weights", &Options::weights, "as quantize-blocks has it")
            .choices({"uint4", "int4", "uint2", "int2", "uint8", "int8"})
            .field("block-size", &Options::block_size, "as quantize-blocks has it")
            .range(-1, 256)
            .field("weight-method", &Options::weight_method,
                   "awq and awq-gptq scale channels first; the others leave them alone")
            .choices({"rtn", "gptq", "awq", "awq-gptq", "hqq", "range"})
            .field("awq-insert", &Options::awq_insert,
                   "scale channels also where that leaves a Mul in the graph")
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9);
    return kSchema;
  }
  explicit Awq(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (!options_.weight_method.starts_with("awq")) return ok_status();
    if (context.calibration_data() == nullptr) {
      return Error(Code::kUsage, "no-calibration-data", "AWQ needs calibration data",
                   {{}, "weight-method", {}}, "give --calib DATA, or take rtn");
    }
    MCOMPRESS_ASSIGN(format_,
                     block_format(options_.weights, options_.block_size, context.target().blocks));
    const Selection selection(options_.include, options_.exclude);
    MCOMPRESS_ASSIGN(const std::set<const Value*> tied, tied_weights(model, context));
    std::vector<ScaleGroup> groups;
    for (ScaleGroup& group : find_scale_groups(model.graph()).found) {
      if (is_wanted(group, selection, tied)) groups.push_back(std::move(group));
    }
    std::vector<std::pair<std::string, std::size_t>> values;
    for (const ScaleGroup& group : groups) {
      const LinearOp& reader = group.readers.front();
      values.emplace_back(reader.node->input(0)->name(), reader.in.from_end);
    }
    std::vector<Insertion> inserts;
    if (options_.awq_insert) inserts = find_inserts(model.graph(), groups, selection, tied);
    for (const Insertion& insertion : inserts) {
      values.emplace_back(insertion.value->name(), insertion.readers.front().in.from_end);
    }
    std::unique_ptr<ScaleJournal> journal;
    const PrecisionServices* services = precision_services(context);
    if (services != nullptr && !services->journal.empty() && !values.empty()) {
      MCOMPRESS_ASSIGN(journal, ScaleJournal::open(real_files(), services->journal,
                                                   digest_of_run(model, values, context)));
    }
    MCOMPRESS_ASSIGN(const ChannelEnergies seen_of,
                     energies_of(model, values, journal.get(), context));
    std::int64_t inserted = 0, scaled = 0, resumed = 0;
    double gain = 0;
    const std::size_t count = values.size();
    for (std::size_t i = 0; i < count; ++i) {
      context.progress().update("scale channels", i, count, "groups");
      if (context.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while channels were scaled");
      }
      const auto seen = seen_of.find(values[i].first);
      if (seen == seen_of.end()) continue;
      const bool fused = i < groups.size();
      const Bearer bearer = fused ? Bearer{nullptr, &groups[i], groups[i].readers}
                                  : Bearer{inserts[i - groups.size()].value, nullptr,
                                           inserts[i - groups.size()].readers};
      ScaleStep found;
      if (journal != nullptr && journal->holds(i)) {
        MCOMPRESS_ASSIGN(found, journal->read(i));
        ++resumed;
      } else {
        MCOMPRESS_ASSIGN(found, search(bearer, seen->second, context));
        if (journal != nullptr) MCOMPRESS_TRY(journal->add(i, found));
      }
      MCOMPRESS_ASSIGN(const double won, scale(bearer, seen->second, found, context));
      if (won <= 0) continue;
      ++scaled;
      if (!fused) ++inserted;
      gain += won;
    }
    context.report().count("groups", static_cast<std::int64_t>(count));
    context.report().count("scaled", scaled);
    context.report().count("inserted", inserted);
    if (resumed > 0) {
      context.report().count("resumed", resumed);
      context.diagnostics().note("resumed", std::to_string(resumed) + " of " +
                                                std::to_string(count) +
                                                " groups were searched before the interruption");
    }
    context.diagnostics().note(
        "awq", "AWQ scaled the channels of " + std::to_string(scaled) + " of " +
                   std::to_string(count) + " groups of values" +
                   (inserted > 0 ? ", " + std::to_string(inserted) + " by a Mul" : "") +
                   (scaled > 0 ? ": the errors of what reads them go down by " +
                                     fixed(gain / static_cast<double>(scaled), 1) + " dB"
                               : ""));
    return ok_status();
  }

 private:
  // A head that is the transposed table would be no copy of it any more.
  Result<std::set<const Value*>> tied_weights(Model& model, PassContext& context) const {
    BlockRequest request;
    request.format = format_;
    const std::size_t decisions = context.explain().all().size();
    MCOMPRESS_ASSIGN(const std::vector<BlockUnit> units, plan_blocks(model, request, context));
    context.explain().truncate(decisions);
    std::set<const Value*> tied;
    for (const BlockUnit& unit : units) {
      if (unit.holders.size() < 2) continue;
      for (const BlockUnit::Holder& holder : unit.holders) tied.insert(holder.value);
    }
    return tied;
  }

  static bool is_wanted(const ScaleGroup& group, const Selection& selection,
                        const std::set<const Value*>& tied) {
    if (!group.clips.empty()) return false;
    return std::ranges::all_of(group.readers,
                               [&](const LinearOp& op) { return is_wanted(op, selection, tied); });
  }

  static bool is_wanted(const LinearOp& op, const Selection& selection,
                        const std::set<const Value*>& tied) {
    if ((!op.is("MatMul") && !op.is("Gemm")) || !op.in_layout) return false;
    const Value* const weight = op.node->input(op.in_layout->slot);
    return weight->initializer() != nullptr && weight->initializer()->dims().size() == 2 &&
           weight->uses().size() == 1 && !tied.contains(weight) &&
           selection.why_not(*op.node, weight).empty();
  }

  // A value that nothing in front of it can bear factors for, and the weights that read it.
  struct Insertion {
    Value* value = nullptr;
    std::vector<LinearOp> readers;
  };

  static std::vector<Insertion> find_inserts(Graph& graph, const std::vector<ScaleGroup>& groups,
                                             const Selection& selection,
                                             const std::set<const Value*>& tied) {
    std::set<const Node*> taken;
    for (const ScaleGroup& group : groups) {
      for (const LinearOp& op : group.readers) taken.insert(op.node);
    }
    std::vector<Insertion> found;
    std::map<const Value*, std::size_t> places;
    for (Node* node : graph.nodes()) {
      if (taken.contains(node)) continue;
      auto op = linear_operator(*node).op;
      if (!op || !is_wanted(*op, selection, tied) || op->in_layout->slot != 1) continue;
      Value* const value = node->input(0);
      if (value == nullptr || &value->graph() != &graph || !rank_of(*value) ||
          element_type(*value) != DataType::kFloat) {
        continue;
      }
      const auto [place, added] = places.try_emplace(value, found.size());
      if (added) found.push_back({value, {}});
      Insertion& insertion = found[place->second];
      if (!added && insertion.readers.front().in.from_end != op->in.from_end) continue;
      insertion.readers.push_back(*op);
    }
    return found;
  }

  struct Reader {
    RowReader rows;
    std::size_t count;
  };

  // What takes 1 / s: what makes the value (a group), or a Mul behind it.
  struct Bearer {
    Value* value = nullptr;
    const ScaleGroup* group = nullptr;
    std::span<const LinearOp> readers;
  };

  // From the data, or from what was seen of them before an interruption.
  Result<ChannelEnergies> energies_of(
      const Model& model, const std::vector<std::pair<std::string, std::size_t>>& values,
      ScaleJournal* journal, PassContext& context) const {
    if (journal != nullptr) {
      MCOMPRESS_ASSIGN(std::optional<ChannelEnergies> kept, journal->energies());
      if (kept) return std::move(*kept);
    }
    MCOMPRESS_ASSIGN(ChannelStatsMap stats,
                     observe_channels(model, context, values, options_.samples));
    ChannelEnergies energies;
    for (auto& [name, seen] : stats) energies[name] = std::move(seen.mean_square);
    if (journal != nullptr) MCOMPRESS_TRY(journal->add_energies(energies));
    return energies;
  }

  // Of all that the scales depend on.
  std::uint64_t digest_of_run(const Model& model,
                              const std::vector<std::pair<std::string, std::size_t>>& values,
                              PassContext& context) const {
    Hasher hasher;
    hasher.text(kVersion).integer(fingerprint(model));
    hasher.integer(context.calibration_data()->digest());
    hasher.text(print_json_line(schema().print(options_)));
    hasher.integer(static_cast<std::uint64_t>(format_.bits)).integer(format_.block);
    hasher.integer(static_cast<std::uint64_t>(format_.scales));
    for (const auto& [name, axis] : values) hasher.text(name).integer(axis);
    return hasher.digest();
  }

  // The step that leaves least error; 0: nothing is worth it.
  Result<ScaleStep> search(const Bearer& bearer, const std::vector<double>& squares,
                           PassContext& context) const {
    const auto channels = static_cast<std::size_t>(bearer.readers.front().in.channels);
    if (squares.size() != channels) return ScaleStep{};
    std::vector<Reader> readers;
    for (const LinearOp& op : bearer.readers) {
      const std::size_t slot = op.in_layout->slot;
      const Tensor& tensor = *op.node->input(slot)->initializer();
      const RowView rows = row_view(*weight_view(*op.node, slot, tensor.dims()), tensor.dims());
      if (rows.columns() != channels) return ScaleStep{};
      MCOMPRESS_ASSIGN(RowReader reader, RowReader::of(tensor, rows));
      readers.push_back({std::move(reader), rows.rows});
    }
    if (!(std::ranges::max(squares) > 0)) return ScaleStep{};
    std::vector<double> errors(kSteps + 1);
    context.executor().parallel_for(errors.size(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t step = begin; step < end; ++step) {
        const std::vector<double> scales = scales_at(squares, step);
        for (const Reader& reader : readers) {
          errors[step] += error_of(reader, squares, scales);
        }
      }
    });
    const auto best = static_cast<std::size_t>(std::ranges::min_element(errors) - errors.begin());
    if (best == 0 || !(errors[best] > 0)) return ScaleStep{};
    const double gain = 10 * std::log10(errors[0] / errors[best]);
    if (gain < (bearer.group != nullptr ? kLeastGain : kLeastInsert)) return ScaleStep{};
    return ScaleStep{best, gain};
  }

  // What the gain is, in dB; 0: nothing was scaled.
  static Result<double> scale(const Bearer& bearer, const std::vector<double>& squares,
                              const ScaleStep& found, PassContext& context) {
    if (found.step == 0) return 0.0;
    const bool fused = bearer.group != nullptr;
    const std::string subject((fused ? bearer.group->values.front().first : bearer.value)->name());
    const std::vector<double> scales = scales_at(squares, found.step);
    std::string why;
    if (fused) {
      MCOMPRESS_ASSIGN(why, apply_scales(context, *bearer.group, scales));
    } else {
      MCOMPRESS_ASSIGN(why, insert_scales(context, *bearer.value, bearer.readers, scales));
    }
    Decision decision;
    decision.subject = subject;
    if (!why.empty()) {
      decision.why = std::move(why);
      context.explain().skipped(std::move(decision));
      return 0.0;
    }
    decision.what = "scaled " + std::to_string(squares.size()) + " channels by magnitude^" +
                    fixed(static_cast<double>(found.step) / kSteps, 2) +
                    (fused ? "" : ", by a Mul");
    decision.why = fixed(found.gain_db, 1) + " dB less error for what reads it in few bits";
    context.explain().chose(std::move(decision));
    return found.gain_db;
  }

  // Around 1: the middle of the largest and the smallest, by their logarithms.
  static std::vector<double> scales_at(const std::vector<double>& squares, std::size_t step) {
    constexpr double kReach = 1e-4;
    const double largest = std::sqrt(std::ranges::max(squares));
    const double alpha = static_cast<double>(step) / kSteps;
    std::vector<double> scales;
    scales.reserve(squares.size());
    double low = 1, high = 0;
    for (const double square : squares) {
      const double s = std::pow(std::max(std::sqrt(square) / largest, kReach), alpha);
      low = std::min(low, s);
      high = std::max(high, s);
      scales.push_back(s);
    }
    const double middle = std::sqrt(low * high);
    for (double& s : scales) s /= middle;
    return scales;
  }

  double error_of(const Reader& reader, const std::vector<double>& squares,
                  const std::vector<double>& scales) const {
    const std::size_t columns = scales.size();
    std::vector<float> importance(columns), factors(columns);
    for (std::size_t k = 0; k < columns; ++k) {
      factors[k] = static_cast<float>(scales[k]);
      importance[k] = static_cast<float>(squares[k] / (scales[k] * scales[k]));
    }
    BlockRows rounded = make_block_rows(kTileRows, columns, format_);
    std::vector<float> tile(columns * kTileRows), scaled(tile.size()), row(columns);
    double error = 0;
    // Tiles spread over the weight.
    const std::size_t tiles = (reader.count + kTileRows - 1) / kTileRows;
    const std::size_t looked_at = std::min(tiles, kRowsLookedAt / kTileRows);
    for (std::size_t t = 0; t < looked_at; ++t) {
      const std::size_t first = t * tiles / looked_at * kTileRows;
      const std::size_t count = std::min(kTileRows, reader.count - first);
      reader.rows.tile(first, count, tile);
      for (std::size_t k = 0; k < columns; ++k) {
        for (std::size_t r = 0; r < kTileRows; ++r) {
          scaled[k * kTileRows + r] = tile[k * kTileRows + r] * factors[k];
        }
      }
      round_tile(scaled, importance, BlockRounding::kSearch, 0, count, rounded);
      for (std::size_t r = 0; r < count; ++r) {
        restore_row(rounded, r, row);
        for (std::size_t k = 0; k < columns; ++k) {
          const double d = double{row[k]} - double{scaled[k * kTileRows + r]};
          error += double{importance[k]} * d * d;
        }
      }
    }
    return error;
  }

  Options options_;
  BlockFormat format_;
};

}  // namespace

PassInfo awq_info() {
  PassInfo info = pass_info<Awq>(
      "awq", "scale channels such that weights in few bits lose less of what they meet",
      Reach::kTopGraph, false, {"lift-constants", "infer-shapes"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
