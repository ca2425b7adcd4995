#include "gate/gate_limits.h"

#include <charconv>
#include <cmath>
#include <vector>

#include "mcompress/host.h"
#include "mcompress/recipe.h"
#include "try.h"

namespace mcompress::tools {
namespace {

using Unit = GateLimitInfo::Unit;

constexpr auto kInfos = std::to_array<GateLimitInfo>({
    {GateLimit::kBytesGrowth, "max-bytes-growth", Unit::kShare, "2%",
     "of the file and of its weights, over the baseline"},
    {GateLimit::kMaxBytes, "max-bytes", Unit::kBytes, "off", "of the file, whatever it was", true},
    {GateLimit::kDrop, "max-drop", Unit::kPoints, "0.5",
     "points of the metric below the baseline; of a perplexity percent above it"},
    {GateLimit::kClassDrop, "max-class-drop", Unit::kPoints, "10",
     "points that the accuracy of one class may fall; two decisions at least"},
    {GateLimit::kAgreementDrop, "max-agreement-drop", Unit::kPoints, "1",
     "points of agreement with the reference below the baseline"},
    {GateLimit::kMinSqnr, "min-sqnr", Unit::kDecibels, "off",
     "dB of every output against the reference", true},
    {GateLimit::kSqnrDrop, "max-sqnr-drop", Unit::kDecibels, "1",
     "dB of an output against the reference, below the baseline"},
    {GateLimit::kLikeness, "min-likeness", Unit::kDecibels, "40",
     "dB of each output's recorded values over what they differ by now"},
    {GateLimit::kLayerDrop, "max-layer-drop", Unit::kDecibels, "2",
     "dB of a layer by itself against the reference's, below the baseline"},
    {GateLimit::kIntegerLoss, "max-integer-loss", Unit::kCount, "0",
     "nodes that no longer run in integers"},
    {GateLimit::kMemoryGrowth, "max-memory-growth", Unit::kShare, "2%",
     "of the peak of activations, over the baseline"},
    {GateLimit::kLatencyGrowth, "max-latency-growth", Unit::kShare, "off",
     "of the latency ratio to the reference, over the baseline; 20% with --latency"},
    {GateLimit::kLatencyRatio, "max-latency-ratio", Unit::kRatio, "off",
     "latency by that of the reference, both in turn in one run", true},
});
static_assert(kInfos.size() == kGateLimits);

std::optional<double> number(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || next != end || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::string_view wanted(Unit unit) {
  switch (unit) {
    case Unit::kShare:
      return "a share such as 2% or 0.02, or off";
    case Unit::kPoints:
      return "points such as 0.5, or off";
    case Unit::kDecibels:
      return "decibels such as 30, or off";
    case Unit::kCount:
      return "a whole number, or off";
    case Unit::kBytes:
      return "a size such as 4MB, or off";
    case Unit::kRatio:
      break;
  }
  return "a ratio such as 0.8, or off";
}

// Shortest text that reads back.
std::string plain(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(std::begin(buffer), std::end(buffer), value);
  return error == std::errc() ? std::string(std::begin(buffer), end) : std::string("0");
}

double percent_of(double share) {
  constexpr double kExact = 1e10;  // 0.07 * 100 is 7.000000000000001
  return std::round(share * 100 * kExact) / kExact;
}

}  // namespace

std::span<const GateLimitInfo> gate_limits() { return kInfos; }

const GateLimitInfo& gate_limit(GateLimit limit) { return kInfos[static_cast<std::size_t>(limit)]; }

Result<std::optional<double>> parse_gate_limit(const GateLimitInfo& info, std::string_view text,
                                               Location where) {
  if (text == "off") return std::optional<double>();
  std::optional<double> value;
  if (info.unit == Unit::kBytes) {
    const auto bytes = parse_size(text, where);
    if (bytes.ok()) value = static_cast<double>(*bytes);
  } else if (info.unit == Unit::kShare && text.ends_with('%')) {
    if (const auto percent = number(text.substr(0, text.size() - 1))) value = *percent / 100;
  } else {
    value = number(text);
  }
  const bool whole = !value || info.unit != Unit::kCount || *value == std::floor(*value);
  if (!value || *value < 0 || !whole) {
    return Error(Code::kUsage, "bad-limit",
                 "expects " + std::string(wanted(info.unit)) + ", not '" + std::string(text) + "'",
                 std::move(where));
  }
  return value;
}

GateLimits::GateLimits() {
  for (const GateLimitInfo& info : kInfos) {
    if (auto value = parse_gate_limit(info, info.usual, {}); value.ok()) set(info.limit, *value);
  }
}

Status GateLimits::read(const Datum& map, bool flags) {
  if (map.is_null()) return ok_status();
  const auto refuse = [&](std::string message, const Datum& at, std::string_view name,
                          std::string hint = {}) {
    Location where = at.where();
    if (!flags) where.path = "limits." + std::string(name);
    return Error(flags ? Code::kUsage : Code::kInput, "bad-limit", std::move(message),
                 std::move(where), std::move(hint));
  };
  if (map.as_map() == nullptr) return refuse("a map of limits is wanted", map, "");
  for (const auto& [name, value] : *map.as_map()) {
    const GateLimitInfo* found = nullptr;
    std::vector<std::string> names;
    for (const GateLimitInfo& info : kInfos) {
      if (info.flag == name) found = &info;
      names.emplace_back(info.flag);
    }
    if (found == nullptr) {
      const std::string close = nearest_name(name, names);
      return refuse("there is no limit of that name", value, name,
                    close.empty() ? std::string() : "did you mean '" + close + "'?");
    }
    const auto* typed = std::get_if<Datum::Text>(&value.value());
    const bool scalar = value.as_map() == nullptr && value.as_list() == nullptr && !value.is_null();
    if (!scalar) return refuse("expects " + std::string(wanted(found->unit)), value, name);
    auto parsed = parse_gate_limit(*found, typed != nullptr ? typed->text : option_text(value), {});
    if (!parsed.ok()) return refuse(parsed.error().diagnostic.message, value, name);
    set(found->limit, *parsed);
    if (flags) by_flag_[index(found->limit)] = true;
  }
  return ok_status();
}

std::string GateLimits::text(GateLimit limit) const {
  const std::optional<double> value = get(limit);
  if (!value) return "off";
  if (gate_limit(limit).unit == Unit::kShare) return plain(percent_of(*value)) + "%";
  if (gate_limit(limit).unit == Unit::kBytes) {
    return std::to_string(static_cast<std::uint64_t>(*value));
  }
  return plain(*value);
}

Datum GateLimits::to_datum() const {
  Datum map = Datum::map();
  for (const GateLimitInfo& info : kInfos) {
    map.set(info.flag, Datum::string(text(info.limit)));
  }
  return map;
}

std::span<const OptionSpec> gate_limit_specs() {
  static const std::vector<OptionSpec> kSpecs = [] {
    std::vector<OptionSpec> specs;
    for (const GateLimitInfo& info : kInfos) {
      OptionSpec spec;
      spec.name = info.flag;
      spec.help = info.help;
      spec.kind = OptionSpec::Kind::kString;
      spec.default_text = info.usual;
      switch (info.unit) {
        case Unit::kShare:
          spec.unit = "PERCENT";
          break;
        case Unit::kPoints:
          spec.unit = "POINTS";
          break;
        case Unit::kDecibels:
          spec.unit = "DB";
          break;
        case Unit::kCount:
          spec.unit = "N";
          break;
        case Unit::kBytes:
          spec.unit = "SIZE";
          break;
        case Unit::kRatio:
          spec.unit = "RATIO";
          break;
      }
      specs.push_back(std::move(spec));
    }
    return specs;
  }();
  return kSpecs;
}

}  // namespace mcompress::tools
