#include "gate/gate_baseline.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

constexpr std::string_view kSchemaName = "mcompress-baseline";
constexpr std::int64_t kMostCount = std::int64_t{1} << 53;
constexpr std::size_t kSumsPerLine = 8;

// Scrambles the bits of a counter (splitmix64's finaliser by Stafford, variant 13).
std::uint64_t scrambled(std::uint64_t number) {
  number += 0x9E3779B97F4A7C15U;
  number = (number ^ (number >> 30U)) * 0xBF58476D1CE4E5B9U;
  number = (number ^ (number >> 27U)) * 0x94D049BB133111EBU;
  return number ^ (number >> 31U);
}

// ------------------------------------------------------------------------------------- writing

double rounded(double value, int digits) {
  char buffer[64];
  const auto end =
      std::to_chars(std::begin(buffer), std::end(buffer), value, std::chars_format::general, digits)
          .ptr;
  double result = value;
  std::from_chars(std::begin(buffer), end, result);
  return result;
}

double decibels(double db) { return std::round(std::min(db, kEqualDb) * 100) / 100; }

Datum count(std::uint64_t number) {
  return Datum::integer(
      static_cast<std::int64_t>(std::min(number, static_cast<std::uint64_t>(kMostCount))));
}

Datum file_datum(const BaselineFile& file) {
  Datum map = Datum::map();
  map.set("file", Datum::string(file.file));
  map.set("digest", Datum::string(file.digest));
  return map;
}

Datum counts_datum(const std::map<std::string, std::int64_t>& counts) {
  Datum map = Datum::map();
  for (const auto& [name, number] : counts) map.set(name, Datum::integer(number));
  return map;
}

Datum quality_datum(const Evaluation& quality) {
  Datum map = Datum::map();
  map.set("metric", Datum::string(metric_name(quality.metric)));
  map.set("output", Datum::string(quality.output));
  map.set("value", Datum::real(rounded(quality.value, 9)));
  map.set("samples", Datum::integer(quality.samples));
  map.set("decisions", Datum::integer(quality.decisions));
  map.set("correct", Datum::integer(quality.correct));
  if (quality.agreement) map.set("agreement", Datum::real(rounded(*quality.agreement, 9)));
  if (quality.classes.empty()) return map;
  Datum classes = Datum::map();
  for (const ClassScore& score : quality.classes) {
    classes.set(std::to_string(score.label),
                Datum::string(std::to_string(score.correct) + "/" + std::to_string(score.count)));
  }
  map.set("classes", std::move(classes));
  return map;
}

Datum output_datum(const BaselineOutput& output) {
  Datum map = Datum::map();
  map.set("name", Datum::string(output.name));
  if (output.sqnr_db) map.set("sqnr_db", Datum::real(decibels(*output.sqnr_db)));
  map.set("values", Datum::integer(output.sketch.values));
  map.set("non_finite", Datum::integer(output.sketch.non_finite));
  map.set("energy", Datum::real(rounded(output.sketch.energy, 7)));
  Datum lines = Datum::list();
  std::string line;
  for (std::size_t i = 0; i < output.sketch.sums.size(); ++i) {
    line += option_text(Datum::real(rounded(output.sketch.sums[i], 7)));
    if ((i + 1) % kSumsPerLine == 0) {
      lines.push(Datum::string(line));
      line.clear();
    } else {
      line += ' ';
    }
  }
  map.set("sketch", std::move(lines));
  return map;
}

Datum integers_datum(const Baseline::Integers& integers) {
  Datum map = Datum::map();
  map.set("planned", Datum::integer(integers.planned));
  map.set("integer", Datum::integer(integers.integer));
  map.set("conversions", Datum::integer(integers.conversions));
  map.set("kernels", counts_datum(integers.kernels));
  Datum nodes = Datum::list();
  for (const std::string& node : integers.in_float) nodes.push(Datum::string(node));
  map.set("in_float", std::move(nodes));
  return map;
}

// ------------------------------------------------------------------------------------- reading

Error bad(const Datum& datum, std::string_view path, std::string message) {
  Location where = datum.where();
  where.path = path;
  return Error(Code::kInput, "baseline-invalid", std::move(message), std::move(where),
               "`--update` writes a baseline anew where the old one is taken away");
}

// A map of the file with its place in it.
class Section {
 public:
  Section(const Datum& datum, std::string path) : datum_(datum), path_(std::move(path)) {}

  std::string path(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }
  const Datum* find(std::string_view key) const { return datum_.find(key); }

  // Refuses what is no map, and keys that are not among `known`.
  Status check(std::initializer_list<std::string_view> known) const {
    if (datum_.as_map() == nullptr) return bad(datum_, path_, "an object is wanted");
    for (const auto& [key, value] : *datum_.as_map()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::vector<std::string> names(known.begin(), known.end());
      const std::string close = nearest_name(key, names);
      return bad(value, path(key),
                 "unknown key" + (close.empty() ? std::string() : "; nearest: '" + close + "'"));
    }
    return ok_status();
  }
  Result<Section> section(std::string_view key) const {
    MCOMPRESS_ASSIGN(const Datum* found, need(key));
    if (found->as_map() == nullptr) return bad(*found, path(key), "an object is wanted");
    return Section(*found, path(key));
  }
  Result<std::string> text(std::string_view key) const {
    MCOMPRESS_ASSIGN(const Datum* found, need(key));
    if (found->as_string() == nullptr) return bad(*found, path(key), "a text is wanted");
    return *found->as_string();
  }
  Result<std::string> digest(std::string_view key) const {
    MCOMPRESS_ASSIGN(const std::string value, text(key));
    if (value.find_first_not_of("0123456789abcdef,") != std::string::npos) {
      return bad(*find(key), path(key), "a digest in hexadecimal digits is wanted");
    }
    return value;
  }
  Result<std::int64_t> count(std::string_view key) const {
    MCOMPRESS_ASSIGN(const Datum* found, need(key));
    const auto* number = std::get_if<std::int64_t>(&found->value());
    if (number == nullptr || *number < 0 || *number > kMostCount) {
      return bad(*found, path(key), "a whole number from 0 to 2^53 is wanted");
    }
    return *number;
  }
  Result<double> real(std::string_view key, double least, double most) const {
    MCOMPRESS_ASSIGN(const Datum* found, need(key));
    std::optional<double> value;
    if (const auto* real = std::get_if<double>(&found->value())) value = *real;
    if (const auto* whole = std::get_if<std::int64_t>(&found->value())) {
      value = static_cast<double>(*whole);
    }
    if (!value || !(*value >= least && *value <= most)) {
      return bad(*found, path(key),
                 "a number from " + option_text(Datum::real(least)) + " to " +
                     option_text(Datum::real(most)) + " is wanted");
    }
    return *value;
  }
  Result<std::map<std::string, std::int64_t>> counts(std::string_view key) const {
    MCOMPRESS_ASSIGN(const Section inner, section(key));
    std::map<std::string, std::int64_t> counts;
    for (const auto& [name, value] : *inner.datum_.as_map()) {
      MCOMPRESS_ASSIGN(counts[name], inner.count(name));
    }
    return counts;
  }
  Result<const Datum::List*> list(std::string_view key) const {
    MCOMPRESS_ASSIGN(const Datum* found, need(key));
    if (found->as_list() == nullptr) return bad(*found, path(key), "a list is wanted");
    return found->as_list();
  }
  const Datum::Map& entries() const { return *datum_.as_map(); }

 private:
  Result<const Datum*> need(std::string_view key) const {
    const Datum* found = datum_.find(key);
    if (found == nullptr) return bad(datum_, path_, "'" + std::string(key) + "' is missing");
    return found;
  }

  const Datum& datum_;
  std::string path_;
};

constexpr double kHuge = 1e300;

Result<BaselineFile> read_file_entry(const Section& parent, std::string_view key) {
  MCOMPRESS_ASSIGN(const Section section, parent.section(key));
  MCOMPRESS_TRY(section.check({"file", "digest"}));
  BaselineFile file;
  MCOMPRESS_ASSIGN(file.file, section.text("file"));
  MCOMPRESS_ASSIGN(file.digest, section.digest("digest"));
  return file;
}

// "975/980".
std::optional<ClassScore> parse_class(std::string_view label, std::string_view text) {
  ClassScore score;
  const auto read = [](std::string_view digits, std::int64_t& value) {
    const char* const end = digits.data() + digits.size();
    const auto [next, error] = std::from_chars(digits.data(), end, value);
    return !digits.empty() && error == std::errc() && next == end;
  };
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || !read(label, score.label) ||
      !read(text.substr(0, slash), score.correct) || !read(text.substr(slash + 1), score.count) ||
      score.correct < 0 || score.correct > score.count || score.count > kMostCount) {
    return std::nullopt;
  }
  return score;
}

Result<Evaluation> read_quality(const Section& section) {
  MCOMPRESS_TRY(section.check(
      {"metric", "output", "value", "samples", "decisions", "correct", "agreement", "classes"}));
  Evaluation quality;
  MCOMPRESS_ASSIGN(const std::string metric, section.text("metric"));
  const auto known = parse_metric(metric);
  if (!known || *known == Metric::kAuto) {
    return bad(*section.find("metric"), section.path("metric"), "unknown metric '" + metric + "'");
  }
  quality.metric = *known;
  MCOMPRESS_ASSIGN(quality.output, section.text("output"));
  MCOMPRESS_ASSIGN(quality.value, section.real("value", 0, is_share(*known) ? 1 : kHuge));
  MCOMPRESS_ASSIGN(quality.samples, section.count("samples"));
  MCOMPRESS_ASSIGN(quality.decisions, section.count("decisions"));
  MCOMPRESS_ASSIGN(quality.correct, section.count("correct"));
  if (section.find("agreement") != nullptr) {
    MCOMPRESS_ASSIGN(quality.agreement, section.real("agreement", 0, 1));
  }
  if (section.find("classes") == nullptr) return quality;
  MCOMPRESS_ASSIGN(const Section classes, section.section("classes"));
  for (const auto& [label, value] : classes.entries()) {
    MCOMPRESS_ASSIGN(const std::string text, classes.text(label));
    const auto score = parse_class(label, text);
    if (!score) return bad(value, classes.path(label), "\"RIGHT/ALL\" of a class is wanted");
    quality.classes.push_back(*score);
  }
  return quality;
}

Status read_sums(const Section& section, OutputSketch& sketch) {
  MCOMPRESS_ASSIGN(const Datum::List* lines, section.list("sketch"));
  std::size_t got = 0;
  for (const Datum& line : *lines) {
    const std::string* text = line.as_string();
    const char* at = text != nullptr ? text->data() : nullptr;
    const char* const end = text != nullptr ? at + text->size() : nullptr;
    while (at != end) {
      double value = 0;
      const auto [next, error] = std::from_chars(at, end, value);
      if (error != std::errc() || !std::isfinite(value) || (next != end && *next != ' ') ||
          got == OutputSketch::kSums) {
        got = OutputSketch::kSums + 1;
        break;
      }
      sketch.sums[got++] = value;
      at = next == end ? end : next + 1;
    }
    if (text == nullptr || got > OutputSketch::kSums) {
      return bad(line, section.path("sketch"), "numbers separated by spaces are wanted");
    }
  }
  if (got != OutputSketch::kSums) {
    return bad(
        *section.find("sketch"), section.path("sketch"),
        std::to_string(OutputSketch::kSums) + " numbers are wanted, not " + std::to_string(got));
  }
  return ok_status();
}

Result<BaselineOutput> read_output(const Datum& datum, const std::string& path) {
  const Section section(datum, path);
  MCOMPRESS_TRY(section.check({"name", "sqnr_db", "values", "non_finite", "energy", "sketch"}));
  BaselineOutput output;
  MCOMPRESS_ASSIGN(output.name, section.text("name"));
  if (section.find("sqnr_db") != nullptr) {
    MCOMPRESS_ASSIGN(output.sqnr_db, section.real("sqnr_db", -kHuge, kHuge));
  }
  MCOMPRESS_ASSIGN(output.sketch.values, section.count("values"));
  MCOMPRESS_ASSIGN(output.sketch.non_finite, section.count("non_finite"));
  MCOMPRESS_ASSIGN(output.sketch.energy, section.real("energy", 0, kHuge));
  MCOMPRESS_TRY(read_sums(section, output.sketch));
  return output;
}

Result<Baseline::Integers> read_integers(const Section& section) {
  MCOMPRESS_TRY(section.check({"planned", "integer", "conversions", "kernels", "in_float"}));
  Baseline::Integers integers;
  MCOMPRESS_ASSIGN(integers.planned, section.count("planned"));
  MCOMPRESS_ASSIGN(integers.integer, section.count("integer"));
  MCOMPRESS_ASSIGN(integers.conversions, section.count("conversions"));
  MCOMPRESS_ASSIGN(integers.kernels, section.counts("kernels"));
  MCOMPRESS_ASSIGN(const Datum::List* nodes, section.list("in_float"));
  for (const Datum& node : *nodes) {
    if (node.as_string() == nullptr) {
      return bad(node, section.path("in_float"), "names of nodes are wanted");
    }
    integers.in_float.push_back(*node.as_string());
  }
  return integers;
}

Status read_provenance(const Section& root, Baseline& baseline) {
  MCOMPRESS_ASSIGN(baseline.made_by, root.text("made_by"));
  MCOMPRESS_ASSIGN(baseline.runtime, root.text("runtime"));
  MCOMPRESS_ASSIGN(baseline.target, root.text("target"));
  MCOMPRESS_ASSIGN(baseline.model, read_file_entry(root, "model"));
  if (root.find("reference") != nullptr) {
    MCOMPRESS_ASSIGN(baseline.reference, read_file_entry(root, "reference"));
  }
  MCOMPRESS_ASSIGN(const Section data, root.section("data"));
  MCOMPRESS_TRY(data.check({"file", "digest", "samples", "seed"}));
  MCOMPRESS_ASSIGN(baseline.data.file, data.text("file"));
  MCOMPRESS_ASSIGN(baseline.data.digest, data.digest("digest"));
  MCOMPRESS_ASSIGN(baseline.samples, data.count("samples"));
  MCOMPRESS_ASSIGN(baseline.seed, data.count("seed"));
  MCOMPRESS_ASSIGN(const Section recipe, root.section("recipe"));
  MCOMPRESS_TRY(recipe.check({"run", "calibration", "file", "digest"}));
  MCOMPRESS_ASSIGN(baseline.recipe_digest, recipe.digest("run"));
  MCOMPRESS_ASSIGN(baseline.calibration_digest, recipe.digest("calibration"));
  MCOMPRESS_ASSIGN(baseline.recipe.file, recipe.text("file"));
  MCOMPRESS_ASSIGN(baseline.recipe.digest, recipe.digest("digest"));
  return ok_status();
}

Status read_size(const Section& root, Baseline& baseline) {
  const auto bytes = [](const Section& section, std::string_view key) -> Result<std::uint64_t> {
    MCOMPRESS_ASSIGN(const std::int64_t number, section.count(key));
    return static_cast<std::uint64_t>(number);
  };
  MCOMPRESS_ASSIGN(const Section size, root.section("size"));
  MCOMPRESS_TRY(size.check({"file_bytes", "weight_bytes"}));
  MCOMPRESS_ASSIGN(baseline.file_bytes, bytes(size, "file_bytes"));
  MCOMPRESS_ASSIGN(baseline.weight_bytes, bytes(size, "weight_bytes"));
  MCOMPRESS_ASSIGN(const Section memory, root.section("memory"));
  MCOMPRESS_TRY(memory.check({"planned_bytes", "measured_bytes"}));
  MCOMPRESS_ASSIGN(baseline.planned_bytes, bytes(memory, "planned_bytes"));
  if (memory.find("measured_bytes") != nullptr) {
    MCOMPRESS_ASSIGN(baseline.measured_bytes, bytes(memory, "measured_bytes"));
  }
  return ok_status();
}

Status read_outputs(const Section& root, Baseline& baseline) {
  MCOMPRESS_ASSIGN(const Section outputs, root.section("outputs"));
  MCOMPRESS_TRY(outputs.check({"samples", "list"}));
  MCOMPRESS_ASSIGN(baseline.output_samples, outputs.count("samples"));
  MCOMPRESS_ASSIGN(const Datum::List* list, outputs.list("list"));
  for (std::size_t i = 0; i < list->size(); ++i) {
    MCOMPRESS_ASSIGN(BaselineOutput output,
                     read_output((*list)[i], "outputs.list[" + std::to_string(i) + "]"));
    baseline.outputs.push_back(std::move(output));
  }
  if (root.find("layers") == nullptr) return ok_status();
  MCOMPRESS_ASSIGN(const Section layers, root.section("layers"));
  MCOMPRESS_TRY(layers.check({"samples", "own_db"}));
  MCOMPRESS_ASSIGN(baseline.layer_samples, layers.count("samples"));
  MCOMPRESS_ASSIGN(const Section own, layers.section("own_db"));
  for (const auto& [name, value] : own.entries()) {
    BaselineLayer layer{name, 0};
    MCOMPRESS_ASSIGN(layer.own_db, own.real(name, -kHuge, kHuge));
    baseline.layers.push_back(std::move(layer));
  }
  return ok_status();
}

}  // namespace

void OutputSketch::add(std::span<const float> added) {
  for (const float value : added) {
    std::uint64_t signs = scrambled(static_cast<std::uint64_t>(values++));
    if (!std::isfinite(value)) {
      ++non_finite;
      continue;
    }
    const double number = value;
    energy += number * number;
    for (std::size_t i = 0; i < kSums; ++i) {
      // Flips the sign bit.
      const std::uint64_t sign = (signs >> i) << 63U;
      sums[i] += std::bit_cast<double>(std::bit_cast<std::uint64_t>(number) ^ sign);
    }
  }
}

double likeness_db(const OutputSketch& recorded, const OutputSketch& now) {
  if (recorded.values != now.values || recorded.non_finite != now.non_finite) return 0;
  double noise = 0;
  for (std::size_t i = 0; i < OutputSketch::kSums; ++i) {
    const double difference = recorded.sums[i] - now.sums[i];
    noise += difference * difference;
  }
  noise /= static_cast<double>(OutputSketch::kSums);
  if (noise <= recorded.energy * std::pow(10.0, -kEqualDb / 10)) return kEqualDb;
  return std::max(0.0, 10 * std::log10(recorded.energy / noise));
}

Datum to_datum(const Baseline& baseline) {
  Datum map = Datum::map();
  map.set("schema", Datum::string(kSchemaName));
  map.set("version", Datum::integer(Baseline::kVersion));
  map.set("made_by", Datum::string(baseline.made_by));
  map.set("runtime", Datum::string(baseline.runtime));
  map.set("target", Datum::string(baseline.target));
  map.set("model", file_datum(baseline.model));
  if (!baseline.reference.digest.empty()) map.set("reference", file_datum(baseline.reference));
  Datum data = file_datum(baseline.data);
  data.set("samples", Datum::integer(baseline.samples));
  data.set("seed", Datum::integer(baseline.seed));
  map.set("data", std::move(data));
  Datum recipe = Datum::map();
  recipe.set("run", Datum::string(baseline.recipe_digest));
  recipe.set("calibration", Datum::string(baseline.calibration_digest));
  recipe.set("file", Datum::string(baseline.recipe.file));
  recipe.set("digest", Datum::string(baseline.recipe.digest));
  map.set("recipe", std::move(recipe));
  map.set("limits", baseline.limits.to_datum());
  Datum size = Datum::map();
  size.set("file_bytes", count(baseline.file_bytes));
  size.set("weight_bytes", count(baseline.weight_bytes));
  map.set("size", std::move(size));
  Datum memory = Datum::map();
  memory.set("planned_bytes", count(baseline.planned_bytes));
  if (baseline.measured_bytes) memory.set("measured_bytes", count(*baseline.measured_bytes));
  map.set("memory", std::move(memory));
  map.set("operators", counts_datum(baseline.operators));
  if (baseline.integers) map.set("integers", integers_datum(*baseline.integers));
  if (baseline.quality) map.set("quality", quality_datum(*baseline.quality));
  Datum outputs = Datum::map();
  outputs.set("samples", Datum::integer(baseline.output_samples));
  Datum list = Datum::list();
  for (const BaselineOutput& output : baseline.outputs) list.push(output_datum(output));
  outputs.set("list", std::move(list));
  map.set("outputs", std::move(outputs));
  if (!baseline.layers.empty()) {
    Datum own = Datum::map();
    for (const BaselineLayer& layer : baseline.layers) {
      own.set(layer.name, Datum::real(decibels(layer.own_db)));
    }
    Datum layers = Datum::map();
    layers.set("samples", Datum::integer(baseline.layer_samples));
    layers.set("own_db", std::move(own));
    map.set("layers", std::move(layers));
  }
  if (baseline.latency_ratio) {
    map.set("latency_ratio", Datum::real(rounded(*baseline.latency_ratio, 3)));
  }
  return map;
}

Result<Baseline> baseline_of(const Datum& datum) {
  const Section root(datum, "");
  const Datum* schema = datum.find("schema");
  if (schema == nullptr || schema->as_string() == nullptr || *schema->as_string() != kSchemaName) {
    return bad(
        datum, "",
        "this is no baseline of mcompress: \"schema\" is not \"" + std::string(kSchemaName) + "\"");
  }
  MCOMPRESS_ASSIGN(const std::int64_t version, root.count("version"));
  if (version != Baseline::kVersion) {
    return bad(*datum.find("version"), "version",
               "version " + std::to_string(version) + " is not known; this program reads " +
                   std::to_string(Baseline::kVersion));
  }
  MCOMPRESS_TRY(root.check({"schema", "version", "made_by", "runtime", "target", "model",
                            "reference", "data", "recipe", "limits", "size", "memory", "operators",
                            "integers", "quality", "outputs", "layers", "latency_ratio"}));
  Baseline baseline;
  MCOMPRESS_TRY(read_provenance(root, baseline));
  MCOMPRESS_TRY(read_size(root, baseline));
  MCOMPRESS_ASSIGN(baseline.operators, root.counts("operators"));
  if (root.find("integers") != nullptr) {
    MCOMPRESS_ASSIGN(const Section integers, root.section("integers"));
    MCOMPRESS_ASSIGN(baseline.integers, read_integers(integers));
  }
  if (root.find("quality") != nullptr) {
    MCOMPRESS_ASSIGN(const Section quality, root.section("quality"));
    MCOMPRESS_ASSIGN(baseline.quality, read_quality(quality));
  }
  MCOMPRESS_TRY(read_outputs(root, baseline));
  if (root.find("latency_ratio") != nullptr) {
    MCOMPRESS_ASSIGN(baseline.latency_ratio, root.real("latency_ratio", 0, kHuge));
  }
  MCOMPRESS_ASSIGN(const Section limits, root.section("limits"));
  MCOMPRESS_TRY(baseline.limits.read(*root.find("limits"), false));
  return baseline;
}

Result<Baseline> read_baseline(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return Error(Code::kInput, "no-baseline", "there is no such file", {path.string(), {}, {}},
                 "`--update` writes the baseline");
  }
  constexpr std::uint64_t kMostBytes = 64 << 20;
  auto text = read_file(path, kMostBytes);
  if (!text.ok()) return std::move(text).error().in_file(path.string());
  MCOMPRESS_ASSIGN(const Datum datum, datum_from_json(*text, path.string()));
  auto baseline = baseline_of(datum);
  if (!baseline.ok()) return std::move(baseline).error().in_file(path.string());
  return baseline;
}

}  // namespace mcompress::tools
