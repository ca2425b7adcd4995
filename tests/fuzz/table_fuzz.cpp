// Calibration tables: what is accepted is written back to an equal table, gives ranges and merges.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mcompress/calibration.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mcompress;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto table = CalibrationTable::from_json(text, "fuzz.json");
  if (!table.ok()) return 0;
  auto written = table->to_json();
  if (!written.ok()) std::abort();
  auto again = CalibrationTable::from_json(*written, "again.json");
  if (!again.ok() || *again->to_json() != *written) std::abort();
  for (const auto& [name, stats] : table->all()) {
    for (const RangeMethod method : {RangeMethod::kMinMax, RangeMethod::kPercentile,
                                     RangeMethod::kEntropy, RangeMethod::kMse}) {
      const ValueRange range = choose_range(stats, method, 99.9, 256, false);
      if (!(range.minimum <= 0.0 && range.maximum >= 0.0)) std::abort();
    }
  }
  again->data_digests = {};
  if (!table->merge(*again).ok()) std::abort();
  if (!table->to_json().ok()) std::abort();
  return 0;
}
