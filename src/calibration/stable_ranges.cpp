#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "calibration/chosen_samples.h"
#include "mcompress/sampling.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Any beginning of this order is spread evenly over 0 .. count - 1: the numbers with their bits
// turned round.
std::vector<std::int64_t> spread_order(std::int64_t count) {
  const auto bits = static_cast<int>(
      std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(count - 1, 1))));
  std::vector<std::int64_t> order;
  order.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < std::int64_t{1} << bits; ++i) {
    std::int64_t turned = 0;
    for (int bit = 0; bit < bits; ++bit) turned |= (i >> bit & 1) << (bits - 1 - bit);
    if (turned < count) order.push_back(turned);
  }
  return order;
}

double change_of(const ValueStats& before, const ValueStats& after) {
  const ValueRange old_range = choose_range(before, RangeMethod::kMse, 100, 256, false);
  const ValueRange new_range = choose_range(after, RangeMethod::kMse, 100, 256, false);
  const double moved = std::max(std::abs(old_range.minimum - new_range.minimum),
                                std::abs(old_range.maximum - new_range.maximum));
  const double width = new_range.maximum - new_range.minimum;
  return width > 0 ? moved / width : moved > 0 ? 1.0 : 0.0;
}

}  // namespace

RangeStep range_step(const CalibrationTable& before, const CalibrationTable& after) {
  RangeStep step;
  step.samples = after.samples;
  std::vector<double> changes;
  for (const auto& [name, stats] : after.all()) {
    const ValueStats* old_stats = before.find(name);
    const double change = old_stats == nullptr ? 1.0 : change_of(*old_stats, stats);
    if (changes.empty() || change > step.largest) {
      step.largest = change;
      step.value = name;
    }
    changes.push_back(change);
  }
  if (changes.empty()) return step;
  std::ranges::sort(changes);
  const auto rank = [&](double share) {
    const double place = std::ceil(share * static_cast<double>(changes.size()));
    return changes[static_cast<std::size_t>(std::max(place, 1.0)) - 1];
  };
  step.median = rank(0.5);
  step.p95 = rank(0.95);
  return step;
}

Result<StableCalibration> calibrate_until_stable(
    DataSource& data, const std::function<Result<CalibrationTable>(DataSource&)>& observe,
    const StableOptions& options) {
  const std::int64_t batch = std::max<std::int64_t>(data.fixed_batch(), 1);
  const std::int64_t available = data.count() < batch ? data.count() : data.count() / batch * batch;
  const std::vector<std::int64_t> order = spread_order(data.count());
  StableCalibration result;
  std::int64_t done = 0;
  std::int64_t wanted = (std::max<std::int64_t>(options.first, 1) + batch - 1) / batch * batch;
  while (done < available && !result.stable) {
    wanted = std::min(wanted, available);
    std::vector<std::int64_t> part(order.begin() + done, order.begin() + wanted);
    std::ranges::sort(part);
    const auto samples = choose_samples(data, std::move(part));
    MCOMPRESS_ASSIGN(CalibrationTable table, observe(*samples));
    if (done == 0) {
      result.table = std::move(table);
    } else {
      const CalibrationTable before = result.table;
      MCOMPRESS_TRY(result.table.merge(table));
      result.steps.push_back(range_step(before, result.table));
      result.stable = result.steps.back().p95 <= options.change;
    }
    done = wanted;
    wanted *= 2;
  }
  const std::uint64_t digest = data.digest();
  if (digest == 0) {
    return Error(Code::kInput, "data-unreadable",
                 "the calibration data could not be read again for its digest");
  }
  result.table.data_digests = {digest};
  return result;
}

}  // namespace mcompress
