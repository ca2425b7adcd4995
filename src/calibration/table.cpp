// The calibration table and its file (docs/calibration-table.md).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "calibration/observers.h"
#include "support/files.h"
#include "support/hash.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kFormat = "mcompress-calibration-table";
constexpr std::int64_t kVersion = 1;
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;
constexpr std::size_t kMaxBins = Histogram::kBins;
// Every JSON reader knows integers up to here, and sums of counts can not overflow.
constexpr std::int64_t kMaxCount = std::int64_t{1} << 53;

// ---- writing

// "12 3 0*40 1": counts separated by spaces, `count*times` for a run of equal ones.
std::string bins_text(std::span<const std::uint64_t> bins) {
  std::string text;
  for (std::size_t i = 0; i < bins.size();) {
    std::size_t end = i + 1;
    while (end < bins.size() && bins[end] == bins[i]) ++end;
    if (!text.empty()) text += ' ';
    text += std::to_string(bins[i]);
    if (end - i > 1) text += '*' + std::to_string(end - i);
    i = end;
  }
  return text;
}

bool is_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned char lead = byte(i);
    const std::size_t tail = lead < 0x80   ? 0
                             : lead < 0xC2 ? 4
                             : lead < 0xE0 ? 1
                             : lead < 0xF0 ? 2
                             : lead < 0xF5 ? 3
                                           : 4;
    if (tail == 4 || tail >= text.size() - i) return false;
    for (std::size_t j = 1; j <= tail; ++j) {
      if ((byte(i + j) & 0xC0) != 0x80) return false;
    }
    if ((lead == 0xE0 && byte(i + 1) < 0xA0) || (lead == 0xED && byte(i + 1) > 0x9F) ||
        (lead == 0xF0 && byte(i + 1) < 0x90) || (lead == 0xF4 && byte(i + 1) > 0x8F)) {
      return false;
    }
    i += tail + 1;
  }
  return true;
}

Datum stats_datum(const ValueStats& stats) {
  Datum datum = Datum::map();
  datum.set("min", Datum::real(stats.minimum));
  datum.set("max", Datum::real(stats.maximum));
  datum.set("average-min", Datum::real(stats.average_minimum));
  datum.set("average-max", Datum::real(stats.average_maximum));
  datum.set("mean", Datum::real(stats.mean));
  datum.set("mean-square", Datum::real(stats.mean_square));
  datum.set("count", Datum::integer(stats.count));
  datum.set("nan", Datum::integer(stats.nan_count));
  datum.set("infinite", Datum::integer(stats.infinity_count));
  datum.set("zeros", Datum::integer(stats.zero_count));
  datum.set("bin-exponent", Datum::integer(stats.exponent));
  datum.set("first-bin", Datum::integer(stats.first_bin));
  datum.set("bins", Datum::string(bins_text(stats.bins)));
  if (!stats.channel_means.empty()) {
    Datum means = Datum::list();
    for (const double mean : stats.channel_means) means.push(Datum::real(mean));
    datum.set("channel-means", std::move(means));
  }
  return datum;
}

// ---- reading

Error bad(const Datum& datum, std::string message) {
  return {Code::kInput, "table-invalid", std::move(message), datum.where()};
}

Result<const Datum*> need(const Datum& map, std::string_view key) {
  const Datum* found = map.find(key);
  if (found == nullptr) return bad(map, std::string("'").append(key) + "' is missing");
  return found;
}

Result<std::int64_t> read_count(const Datum& map, std::string_view key) {
  MCOMPRESS_ASSIGN(const Datum* datum, need(map, key));
  const auto* number = std::get_if<std::int64_t>(&datum->value());
  if (number == nullptr || *number < 0 || *number > kMaxCount) {
    return bad(*datum, "a whole number from 0 to 2^53 is wanted");
  }
  return *number;
}

Result<std::int64_t> read_integer(const Datum& map, std::string_view key, std::int64_t limit) {
  MCOMPRESS_ASSIGN(const Datum* datum, need(map, key));
  const auto* number = std::get_if<std::int64_t>(&datum->value());
  if (number == nullptr || *number < -limit || *number > limit) {
    return bad(*datum, "a whole number between " + std::to_string(-limit) + " and " +
                           std::to_string(limit) + " is wanted");
  }
  return *number;
}

Result<double> as_real(const Datum& datum) {
  if (const auto* real = std::get_if<double>(&datum.value()); real && std::isfinite(*real)) {
    return *real;
  }
  if (const auto* whole = std::get_if<std::int64_t>(&datum.value())) {
    return static_cast<double>(*whole);
  }
  return bad(datum, "a finite number is wanted");
}

Result<double> read_real(const Datum& map, std::string_view key) {
  MCOMPRESS_ASSIGN(const Datum* datum, need(map, key));
  return as_real(*datum);
}

Result<std::string> as_text(const Datum& datum) {
  if (datum.as_string() == nullptr) return bad(datum, "a text is wanted");
  return *datum.as_string();
}

Result<std::uint64_t> as_digest(const Datum& datum) {
  MCOMPRESS_ASSIGN(const std::string text, as_text(datum));
  std::uint64_t digest = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, digest, 16);
  if (text.size() != 16 || error != std::errc() || next != end) {
    return bad(datum, "a digest of 16 hexadecimal digits is wanted");
  }
  return digest;
}

Result<std::vector<std::uint64_t>> read_bins(const Datum& map) {
  MCOMPRESS_ASSIGN(const Datum* datum, need(map, "bins"));
  MCOMPRESS_ASSIGN(const std::string text, as_text(*datum));
  std::vector<std::uint64_t> bins;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    std::uint64_t count = 0, times = 1;
    auto [next, error] = std::from_chars(at, end, count);
    if (error == std::errc() && next != end && *next == '*') {
      const auto run = std::from_chars(next + 1, end, times);
      next = run.ptr;
      error = run.ec;
    }
    if (error != std::errc() || (next != end && *next != ' ') || times == 0) {
      return bad(*datum, "counts separated by spaces are wanted, as in \"12 3 0*40 1\"");
    }
    if (times > kMaxBins - bins.size()) {
      return bad(*datum, "there are more than " + std::to_string(kMaxBins) + " bins");
    }
    bins.insert(bins.end(), static_cast<std::size_t>(times), count);
    at = next == end ? end : next + 1;
  }
  return bins;
}

Result<ValueStats> read_stats(const Datum& datum) {
  if (datum.as_map() == nullptr) return bad(datum, "an object is wanted");
  ValueStats stats;
  MCOMPRESS_ASSIGN(stats.minimum, read_real(datum, "min"));
  MCOMPRESS_ASSIGN(stats.maximum, read_real(datum, "max"));
  // Tables of earlier releases lack these two.
  const Datum* const average = datum.find("average-min");
  stats.average_minimum = stats.minimum;
  stats.average_maximum = stats.maximum;
  if (average != nullptr) {
    MCOMPRESS_ASSIGN(stats.average_minimum, as_real(*average));
    MCOMPRESS_ASSIGN(stats.average_maximum, read_real(datum, "average-max"));
  }
  MCOMPRESS_ASSIGN(stats.mean, read_real(datum, "mean"));
  MCOMPRESS_ASSIGN(stats.mean_square, read_real(datum, "mean-square"));
  MCOMPRESS_ASSIGN(stats.count, read_count(datum, "count"));
  MCOMPRESS_ASSIGN(stats.nan_count, read_count(datum, "nan"));
  MCOMPRESS_ASSIGN(stats.infinity_count, read_count(datum, "infinite"));
  MCOMPRESS_ASSIGN(stats.zero_count, read_count(datum, "zeros"));
  MCOMPRESS_ASSIGN(const std::int64_t exponent, read_integer(datum, "bin-exponent", 1 << 10));
  MCOMPRESS_ASSIGN(stats.first_bin, read_integer(datum, "first-bin", 1 << 20));
  MCOMPRESS_ASSIGN(stats.bins, read_bins(datum));
  stats.exponent = static_cast<int>(exponent);
  if (const Datum* means = datum.find("channel-means")) {
    if (means->as_list() == nullptr) return bad(*means, "a list of numbers is wanted");
    for (const Datum& mean : *means->as_list()) {
      MCOMPRESS_ASSIGN(const double number, as_real(mean));
      stats.channel_means.push_back(number);
    }
  }
  if (stats.minimum > stats.maximum) return bad(datum, "'min' is above 'max'");
  if (average != nullptr &&
      (stats.average_minimum < stats.minimum || stats.average_maximum > stats.maximum ||
       stats.average_minimum > stats.average_maximum)) {
    return bad(*average, "'average-min' to 'average-max' is no part of 'min' to 'max'");
  }
  std::uint64_t total = 0;
  for (const std::uint64_t count : stats.bins) {
    if (count > static_cast<std::uint64_t>(stats.count) - total) {
      return bad(datum, "the bins hold more than 'count' " + std::to_string(stats.count));
    }
    total += count;
  }
  if (total != static_cast<std::uint64_t>(stats.count)) {
    return bad(datum, "the bins hold " + std::to_string(total) + ", 'count' is " +
                          std::to_string(stats.count));
  }
  if (!to_histogram(stats)) return bad(datum, "the bins do not fit 'min' and 'max'");
  return stats;
}

// `sample_share`: of the samples of the right table among those of both.
Result<ValueStats> merged(const ValueStats& left, const ValueStats& right, double sample_share) {
  std::optional<Histogram> a = to_histogram(left);
  const std::optional<Histogram> b = to_histogram(right);
  if (!a || !b) {
    return Error(Code::kInput, "table-invalid", "the statistics can not be added up");
  }
  a->merge(*b);
  ValueStats stats = to_value_stats(*a);
  const auto total = static_cast<double>(left.count) + static_cast<double>(right.count);
  const double share = total > 0 ? static_cast<double>(right.count) / total : 0.0;
  const auto blend = [share](double x, double y) { return x + (y - x) * share; };
  const auto average = [&](double x, double y) {
    return std::clamp(x + (y - x) * sample_share, stats.minimum, stats.maximum);
  };
  stats.average_minimum = average(left.average_minimum, right.average_minimum);
  stats.average_maximum = average(left.average_maximum, right.average_maximum);
  if (left.channel_means.size() == right.channel_means.size()) {
    for (std::size_t c = 0; c < left.channel_means.size(); ++c) {
      stats.channel_means.push_back(blend(left.channel_means[c], right.channel_means[c]));
    }
  }
  return stats;
}

}  // namespace

const ValueStats* CalibrationTable::find(std::string_view value) const {
  const auto found = values_.find(value);
  return found == values_.end() ? nullptr : &found->second;
}

void CalibrationTable::set(std::string_view value, ValueStats stats) {
  values_.insert_or_assign(std::string(value), std::move(stats));
}

Result<std::string> CalibrationTable::to_json() const {
  Datum datum = Datum::map();
  datum.set("format", Datum::string(kFormat));
  datum.set("version", Datum::integer(kVersion));
  datum.set("model", Datum::string(hex_digest(model_digest)));
  Datum data = Datum::list();
  for (const std::uint64_t digest : data_digests) data.push(Datum::string(hex_digest(digest)));
  datum.set("data", std::move(data));
  datum.set("samples", Datum::integer(samples));
  datum.set("runtime", Datum::string(runtime));
  Datum::Map values;
  for (const auto& [name, stats] : values_) {
    if (!is_utf8(name)) {
      return Error(Code::kUnsupported, "table-name",
                   "a value's name is no valid UTF-8 and can not be written to a table",
                   {{}, {}, name});
    }
    values.emplace_back(name, stats_datum(stats));
  }
  datum.set("values", Datum(Datum::Value(std::move(values))));
  return print_json(datum);
}

Result<CalibrationTable> CalibrationTable::from_json(std::string_view text, std::string_view file) {
  ParseLimits limits;
  limits.bytes = kMaxFileBytes;
  limits.depth = 8;
  MCOMPRESS_ASSIGN(const Datum datum, parse_json(text, file, limits));
  const Datum* format = datum.find("format");
  if (format == nullptr || format->as_string() == nullptr || *format->as_string() != kFormat) {
    return Error(Code::kInput, "table-format", "this is no calibration table", datum.where(),
                 "`mcompress calibrate` writes one");
  }
  MCOMPRESS_ASSIGN(const std::int64_t version, read_count(datum, "version"));
  if (version != kVersion) {
    return bad(*datum.find("version"), "version " + std::to_string(version) + " is not known (" +
                                           std::to_string(kVersion) + " is)");
  }
  CalibrationTable table;
  MCOMPRESS_ASSIGN(const Datum* model, need(datum, "model"));
  MCOMPRESS_ASSIGN(table.model_digest, as_digest(*model));
  MCOMPRESS_ASSIGN(const Datum* data, need(datum, "data"));
  if (data->as_list() == nullptr) return bad(*data, "a list of digests is wanted");
  for (const Datum& item : *data->as_list()) {
    MCOMPRESS_ASSIGN(const std::uint64_t digest, as_digest(item));
    table.data_digests.push_back(digest);
  }
  MCOMPRESS_ASSIGN(table.samples, read_count(datum, "samples"));
  if (const Datum* runtime = datum.find("runtime")) {
    MCOMPRESS_ASSIGN(table.runtime, as_text(*runtime));
  }
  MCOMPRESS_ASSIGN(const Datum* values, need(datum, "values"));
  if (values->as_map() == nullptr) return bad(*values, "an object is wanted");
  for (const auto& [name, stats] : *values->as_map()) {
    auto read = read_stats(stats);
    if (!read.ok()) {
      Error error = std::move(read).error();
      if (error.diagnostic.where.subject.empty()) error.diagnostic.where.subject = name;
      return error;
    }
    table.set(name, std::move(read).value());
  }
  return table;
}

Result<CalibrationTable> CalibrationTable::load(const std::filesystem::path& path) {
  MCOMPRESS_ASSIGN(const std::string text,
                   read_text_file(real_files(), path.string(), kMaxFileBytes));
  return from_json(text, path.string());
}

Status CalibrationTable::save(const std::filesystem::path& path) const {
  MCOMPRESS_ASSIGN(const std::string text, to_json());
  AtomicOutput output(real_files());
  MCOMPRESS_ASSIGN(OutputFile* const file, output.add(path.string()));
  MCOMPRESS_TRY(file->write(text));
  return output.commit();
}

Status CalibrationTable::merge(const CalibrationTable& other) {
  if (model_digest != other.model_digest) {
    return Error(Code::kInput, "table-of-another-model",
                 "the tables are of different models: " + hex_digest(model_digest) + " and " +
                     hex_digest(other.model_digest));
  }
  for (const std::uint64_t digest : other.data_digests) {
    if (std::ranges::find(data_digests, digest) != data_digests.end()) {
      return Error(Code::kInput, "table-same-data",
                   "both tables have seen the data " + hex_digest(digest), {},
                   "its samples would count twice");
    }
  }
  for (const auto& [mine, theirs] :
       {std::pair<const CalibrationTable*, const CalibrationTable*>(this, &other),
        {&other, this}}) {
    for (const auto& [name, stats] : mine->values_) {
      if (theirs->find(name) != nullptr) continue;
      return Error(Code::kInput, "table-values-differ",
                   "only one of the tables has statistics of this value", {{}, {}, name},
                   "calibrate both data sets with the same options");
    }
  }
  std::map<std::string, ValueStats, std::less<>> values;
  const auto all = static_cast<double>(samples) + static_cast<double>(other.samples);
  const double share = all > 0 ? static_cast<double>(other.samples) / all : 0;
  for (const auto& [name, stats] : values_) {
    auto sum = merged(stats, *other.find(name), share);
    if (!sum.ok()) {
      Error error = std::move(sum).error();
      error.diagnostic.where.subject = name;
      return error;
    }
    values.emplace(name, std::move(sum).value());
  }
  values_ = std::move(values);
  data_digests.insert(data_digests.end(), other.data_digests.begin(), other.data_digests.end());
  samples += other.samples;
  observed.clear();  // of two data sets: the numbers say nothing any more
  return ok_status();
}

}  // namespace mcompress
