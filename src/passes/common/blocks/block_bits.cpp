#include "passes/common/blocks/block_bits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "ir/walk.h"
#include "passes/common/blocks/block_rows.h"
#include "passes/common/guard.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr int kManyBits = 8;
constexpr std::uint64_t kNodeBytes = 160;  // of a node in a file, names included
constexpr std::uint64_t kUnitBytes = 500;  // of the names and nodes around one weight

std::uint64_t bytes_of(const BlockUnit& unit, int bits) {
  BlockFormat format = unit.format;
  format.bits = bits;
  const double weights = static_cast<double>(unit.rows()) * static_cast<double>(unit.columns());
  return static_cast<std::uint64_t>(format.bits_per_weight(unit.columns()) * weights / 8);
}

// Everything in the file but the planned weights.
std::uint64_t other_bytes(Model& model, const std::vector<BlockUnit>& units) {
  std::uint64_t bytes = kUnitBytes * units.size(), planned = 0;
  for_each_graph(model.graph(), [&](Graph& graph) {
    bytes += kNodeBytes * graph.node_count();
    for (const Value* value : graph.initializers()) bytes += value->initializer()->byte_size();
  });
  for (const BlockUnit& unit : units) {
    for (const BlockUnit::Holder& holder : unit.holders) {
      if (holder.value->is_initializer()) planned += holder.tensor.byte_size();
    }
  }
  return bytes - std::min(bytes, planned);
}

// The holder's weight as it comes back.
Result<Tensor> restored_tensor(const BlockUnit::Holder& holder, const BlockRows& rows,
                               TensorFactory& tensors) {
  const RowView& view = holder.view;
  std::vector<float> values(rows.codes.size()), row(rows.columns);
  for (std::size_t r = 0; r < rows.rows; ++r) {
    restore_row(rows, r, row);
    for (std::size_t o = 0; o < view.outer; ++o) {
      std::copy_n(row.begin() + static_cast<std::ptrdiff_t>(o * view.inner), view.inner,
                  values.begin() + static_cast<std::ptrdiff_t>((o * view.rows + r) * view.inner));
    }
  }
  const auto bytes = std::as_bytes(std::span(values));
  std::vector<std::int64_t> dims(holder.tensor.dims().begin(), holder.tensor.dims().end());
  return tensors.make(DataType::kFloat, std::move(dims),
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        std::memcpy(out.data(), bytes.data() + offset, out.size());
                        return ok_status();
                      });
}

class Effects {
 public:
  Effects(Model& model, const BitsRequest& request, PassContext& context)
      : model_(model), request_(request), context_(context) {}

  // Whether outputs can be looked at, once for each unit.
  Result<bool> open(std::size_t units, std::uint64_t bytes) {
    if (context_.calibration_data() == nullptr || bytes > request_.most_measured ||
        units > request_.most_runs) {
      return false;
    }
    MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
    guard_.emplace(*runtime, *context_.calibration_data(), request_.samples);
    MCOMPRESS_TRY(guard_->open_reference(context_.reference(), model_, &context_.executor()));
    return true;
  }

  // Noise over signal at the outputs of the model.
  Result<double> of(const BlockUnit& unit, const BlockRows& rows) {
    const std::unique_ptr<Model> trial = model_.clone();
    Editor edit(*trial, &onnx_catalog());
    for (const BlockUnit::Holder& holder : unit.holders) {
      Value* const value = holder.value->graph().owner() == nullptr
                               ? trial->graph().find(holder.value->name())
                               : nullptr;
      if (value == nullptr) return 0.0;  // in a nested graph: judged by the rest
      MCOMPRESS_ASSIGN(Tensor tensor, restored_tensor(holder, rows, context_.tensors()));
      if (value->producer() != nullptr) {
        edit.replace_by_constant(*value->producer(), std::move(tensor));
      } else {
        edit.set_constant(*value, std::move(tensor));
      }
    }
    MCOMPRESS_ASSIGN(const double db, guard_->sqnr_db(*trial));
    return std::pow(10.0, -db / 10);
  }

 private:
  Model& model_;
  const BitsRequest& request_;
  PassContext& context_;
  std::optional<Guard> guard_;
};

}  // namespace

Result<BitsChoice> choose_bits(Model& model, std::vector<BlockUnit>& units,
                               const std::vector<std::vector<float>>& energies,
                               const BitsRequest& request, PassContext& context) {
  BitsChoice choice;
  double weights = 0;
  for (const BlockUnit& unit : units) {
    choice.bytes += bytes_of(unit, unit.format.bits);
    weights += static_cast<double>(unit.rows()) * static_cast<double>(unit.columns());
  }
  if (units.empty()) return choice;
  const std::uint64_t other = other_bytes(model, units);
  std::uint64_t limit = ~std::uint64_t{0};
  if (request.average_bits > 0) {
    limit = static_cast<std::uint64_t>(request.average_bits * weights / 8);
  }
  if (request.max_bytes > 0) {
    limit = std::min(limit, request.max_bytes - std::min(request.max_bytes, other));
  }
  if (choice.bytes > limit) {
    const bool by_size = request.max_bytes > 0 && limit < request.max_bytes;
    const std::string wanted = by_size ? human_bytes(request.max_bytes)
                                       : fixed(request.average_bits, 2) + " bits a weight";
    const std::string least =
        by_size ? human_bytes(choice.bytes + other)
                : fixed(static_cast<double>(choice.bytes) * 8 / weights, 2) + " bits a weight";
    return Error(Code::kGateMissed, "few-bits-too-large",
                 wanted + " were asked for, and with no weight above " +
                     std::to_string(units.front().format.bits) + " bits it takes " + least,
                 {{}, {}, {}},
                 "larger blocks, fewer bits, or --embeddings of fewer bits are smaller");
  }
  Effects effects(model, request, context);
  MCOMPRESS_ASSIGN(choice.measured,
                   effects.open(units.size(), other + static_cast<std::uint64_t>(weights * 4)));
  std::vector<double> worth(units.size());
  for (std::size_t i = 0; i < units.size(); ++i) {
    context.progress().update("weigh errors", i, units.size(), "tensors");
    if (context.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted while errors were weighed");
    }
    const BlockUnit& unit = units[i];
    if (unit.format.bits >= kManyBits) continue;
    MCOMPRESS_ASSIGN(const BlockRows rows,
                     round_unit(unit, energies[i], BlockRounding::kSearch, context.executor()));
    double error = 0;
    if (choice.measured) {
      MCOMPRESS_ASSIGN(error, effects.of(unit, rows));
    }
    if (error <= 0) {
      MCOMPRESS_ASSIGN(const RowReader reader,
                       RowReader::of(unit.holders[0].tensor, unit.holders[0].view));
      const BlockEnergy energy = rounding_energy(reader, rows, energies[i], context.executor());
      error = energy.signal > 0 ? energy.noise / energy.signal : 0;
    }
    const std::uint64_t more = bytes_of(unit, kManyBits) - bytes_of(unit, unit.format.bits);
    worth[i] = error / static_cast<double>(std::max<std::uint64_t>(more, 1));
  }
  std::vector<std::size_t> order(units.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return worth[a] > worth[b]; });
  for (const std::size_t i : order) {
    if (worth[i] <= 0) break;
    const std::uint64_t more =
        bytes_of(units[i], kManyBits) - bytes_of(units[i], units[i].format.bits);
    // What does not fit makes room for what is smaller.
    if (choice.bytes + more > limit) continue;
    choice.bytes += more;
    units[i].format.bits = kManyBits;
    ++choice.raised;
  }
  choice.average_bits = static_cast<double>(choice.bytes) * 8 / weights;
  return choice;
}

}  // namespace mcompress
