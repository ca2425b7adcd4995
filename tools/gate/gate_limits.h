// What `gate` allows: limits from flags, from the baseline, or by default.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress::tools {

enum class GateLimit : std::uint8_t {
  kBytesGrowth,
  kMaxBytes,
  kDrop,
  kClassDrop,
  kAgreementDrop,
  kMinSqnr,
  kSqnrDrop,
  kLikeness,
  kLayerDrop,
  kIntegerLoss,
  kMemoryGrowth,
  kLatencyGrowth,
  kLatencyRatio,
};
inline constexpr std::size_t kGateLimits = 13;

// One limit: how it is spelled and what it means.
struct GateLimitInfo {
  enum class Unit : std::uint8_t { kShare, kPoints, kDecibels, kCount, kBytes, kRatio };
  GateLimit limit;
  std::string_view flag;  // "max-drop"
  Unit unit;
  std::string_view usual;  // by default: "2%", "off"
  std::string_view help;
  bool absolute = false;  // holds for the model by itself, whatever the baseline was
};
std::span<const GateLimitInfo> gate_limits();
const GateLimitInfo& gate_limit(GateLimit limit);

// A share is 0.02 for "2%"; a limit that is "off" is empty.
class GateLimits {
 public:
  GateLimits();  // the usual ones
  std::optional<double> get(GateLimit limit) const { return values_[index(limit)]; }
  void set(GateLimit limit, std::optional<double> value) { values_[index(limit)] = value; }
  // Whether it was asked for on the command line.
  bool by_flag(GateLimit limit) const { return by_flag_[index(limit)]; }

  // Takes over what a map of limits says. `flags`: from the command line. Fails with kUsage, for a
  // baseline kInput, for an unknown name or a value that is none.
  Status read(const Datum& map, bool flags);
  Datum to_datum() const;
  // "2%", "0.5", "off".
  std::string text(GateLimit limit) const;

 private:
  static std::size_t index(GateLimit limit) { return static_cast<std::size_t>(limit); }
  std::array<std::optional<double>, kGateLimits> values_{};
  std::array<bool, kGateLimits> by_flag_{};
};

// Flags of all limits.
std::span<const OptionSpec> gate_limit_specs();

// A limit as it is typed: "2%", "0.5", "4MB" (kBytes alone), "off". Fails with kUsage.
Result<std::optional<double>> parse_gate_limit(const GateLimitInfo& info, std::string_view text,
                                               Location where);

}  // namespace mcompress::tools
