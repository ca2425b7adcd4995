#include "outcome.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "judge.h"
#include "mcompress/host.h"

namespace mcompress::tools {

std::string reason_key(const std::string& why) {
  std::string key;
  bool quoted = false;
  for (std::size_t i = 0; i < why.size(); ++i) {
    const char c = why[i];
    if (c == '\'') {
      quoted = !quoted;
      key += c;
    } else if (!quoted) {
      if (std::isdigit(static_cast<unsigned char>(c)) == 0) {
        key += c;
      } else if (key.empty() || key.back() != '#') {
        key += '#';
      }
    }
  }
  return key;
}

namespace {

std::vector<Coverage::Group> grouped_by_reason(const std::vector<const Decision*>& decisions) {
  std::vector<Coverage::Group> groups;
  std::map<std::string, std::size_t> places;
  for (const Decision* decision : decisions) {
    const auto [place, added] = places.try_emplace(reason_key(decision->why), groups.size());
    if (added) groups.push_back({decision->why, decision->subject, 0, 0});
    Coverage::Group& group = groups[place->second];
    ++group.count;
    group.bytes += decision->bytes_before;
  }
  std::stable_sort(groups.begin(), groups.end(), [](const auto& left, const auto& right) {
    return left.bytes != right.bytes ? left.bytes > right.bytes : left.count > right.count;
  });
  return groups;
}

bool compresses(const Decision& decision) { return compresses_weights(decision.pass); }

std::string_view last_compressing_pass(const Explain& explain) {
  std::string_view pass;
  for (const Decision& decision : explain.all()) {
    if (compresses(decision)) pass = decision.pass;
  }
  return pass;
}

// The decision that counts, per tensor, in the order the tensors were first met. What one pass
// leaves to the next is not skipped yet: the last pass has the last word.
std::vector<const Decision*> last_words(const Explain& explain) {
  std::vector<const Decision*> last;
  std::map<std::string_view, std::size_t> places;
  const std::string_view last_pass = last_compressing_pass(explain);
  for (const Decision& decision : explain.all()) {
    if (decision.bytes_before == 0 || !compresses(decision)) continue;
    if (!decision.applied && decision.pass != last_pass) continue;
    const auto [place, added] = places.try_emplace(decision.subject, last.size());
    if (added) {
      last.push_back(&decision);
    } else if (const Decision*& known = last[place->second]; decision.applied || !known->applied) {
      known = &decision;
    }
  }
  return last;
}

std::string nothing_eligible(const Recipe& recipe) {
  bool structured = false, weights = false, tables = false, packs = false;
  for (const RecipeStep& step : recipe.steps) {
    const std::string_view pass = step.pass;
    structured = structured || pass == "prune-channels" || pass == "prune-blocks";
    tables = tables || pass == "compress-tables";
    packs = packs || pass == "pack-weights";
    weights = weights || pass.starts_with("quantize-") || pass == "cluster-weights" ||
              pass == "prune-weights" || pass == "factorize-weights" || pass == "cast-float16";
  }
  if (structured) return "nothing in the top graph has channels, heads or blocks that can go";
  if (tables && !weights) return "no constant is a table that a Gather looks up row by row";
  if (packs && !weights) {
    return "no weight is stored in integers or as indices of a codebook, whose bits could be "
           "packed: quantize or cluster the model first";
  }
  return "the model has no float weights that are large enough";
}

}  // namespace

bool compresses_weights(std::string_view pass) {
  constexpr std::string_view kFamilies[] = {"quantize-", "cast-", "factorize-", "prune-",
                                            "cluster-",  "pack-", "compress-",  "rdoq-"};
  return std::any_of(std::begin(kFamilies), std::end(kFamilies),
                     [&](std::string_view family) { return pass.starts_with(family); });
}

Coverage coverage_of(const Explain& explain) {
  Coverage coverage;
  std::vector<const Decision*> skipped;
  for (const Decision* decision : last_words(explain)) {
    ++coverage.of_weights;
    coverage.of_bytes += decision->bytes_before;
    if (decision->applied) {
      ++coverage.weights;
      coverage.bytes += decision->bytes_before;
    } else {
      skipped.push_back(decision);
    }
  }
  coverage.skipped = grouped_by_reason(skipped);
  return coverage;
}

std::vector<Coverage::Group> kept_in_float(const Explain& explain) {
  std::vector<const Decision*> kept;
  const std::string_view last_pass = last_compressing_pass(explain);
  for (const Decision& decision : explain.all()) {
    if (!decision.applied && compresses(decision) &&
        (decision.bytes_before == 0 || decision.pass != last_pass)) {
      kept.push_back(&decision);
    }
  }
  return grouped_by_reason(kept);
}

std::string applied_text(const Explain& explain) {
  std::vector<std::pair<std::string, std::uint64_t>> passes;
  for (const Decision& decision : explain.all()) {
    if (!decision.applied || compresses(decision)) continue;
    const auto known = std::find_if(passes.begin(), passes.end(), [&](const auto& entry) {
      return entry.first == decision.pass;
    });
    if (known == passes.end()) {
      passes.emplace_back(decision.pass, 1);
    } else {
      ++known->second;
    }
  }
  std::string text;
  for (const auto& [pass, count] : passes) {
    text += (text.empty() ? "" : ", ") + pass + " " + grouped(count);
  }
  return text;
}

std::string reasons_text(const std::vector<Coverage::Group>& groups, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < groups.size() && i < most; ++i) {
    const Coverage::Group& group = groups[i];
    text += "  " + grouped(group.count);
    if (group.bytes > 0) text += " (" + bytes_text(group.bytes) + ")";
    text += ": " + group.why;
    text += group.count > 1 ? " [first: " : " [";
    text += group.example + "]\n";
  }
  if (groups.size() > most) {
    text += "  and " + counted(groups.size() - most, "other reason") + "; --verbose lists them\n";
  }
  return text;
}

Error larger_than_input(std::uint64_t result_bytes, std::uint64_t input_bytes) {
  return Error(Code::kOutput, "output-larger",
               "the result has " + std::to_string(result_bytes) + " bytes, the input " +
                   std::to_string(input_bytes),
               {}, "nothing was written; --allow-larger writes it anyway");
}

std::string nothing_compressed(const Coverage& coverage, const Recipe& recipe) {
  std::string text = "nothing was compressed: ";
  if (coverage.of_weights == 0) return text + nothing_eligible(recipe);
  return text + "0 of " + counted(coverage.of_weights, "weight") +
         " eligible; first reason: " + coverage.skipped.front().why;
}

std::string coverage_text(const Coverage& coverage, bool all_reasons) {
  std::string text = "compressed " + grouped(coverage.weights) + " of " +
                     counted(coverage.of_weights, "weight") + ", " + bytes_text(coverage.bytes) +
                     " of " + bytes_text(coverage.of_bytes) + '\n';
  if (!coverage.skipped.empty()) {
    text += "left as they were:\n";
    constexpr std::size_t kFew = 4;
    text += reasons_text(coverage.skipped, all_reasons ? coverage.skipped.size() : kFew);
  }
  return text;
}

void add_coverage(const Coverage& coverage, ReportScope& scope) {
  const auto count = [&scope](std::string_view key, std::uint64_t value) {
    scope.count(key, static_cast<std::int64_t>(value));
  };
  count("weights", coverage.weights);
  count("of_weights", coverage.of_weights);
  count("bytes", coverage.bytes);
  count("of_bytes", coverage.of_bytes);
  for (const Coverage::Group& group : coverage.skipped) {
    Datum entry = Datum::map();
    entry.set("why", Datum::string(group.why));
    entry.set("example", Datum::string(group.example));
    entry.set("weights", Datum::integer(static_cast<std::int64_t>(group.count)));
    entry.set("bytes", Datum::integer(static_cast<std::int64_t>(group.bytes)));
    scope.append("skipped", std::move(entry));
  }
}

void add_decisions(const Explain& explain, ReportScope& scope) {
  for (const Decision& decision : explain.all()) {
    Datum entry = Datum::map();
    entry.set("pass", Datum::string(decision.pass));
    entry.set("subject", Datum::string(decision.subject));
    if (!decision.op_type.empty()) entry.set("op_type", Datum::string(decision.op_type));
    entry.set("applied", Datum::boolean(decision.applied));
    if (!decision.what.empty()) entry.set("what", Datum::string(decision.what));
    if (!decision.why.empty()) entry.set("why", Datum::string(decision.why));
    if (decision.bytes_before > 0) {
      entry.set("bytes_before", Datum::integer(static_cast<std::int64_t>(decision.bytes_before)));
      entry.set("bytes_after", Datum::integer(static_cast<std::int64_t>(decision.bytes_after)));
    }
    if (decision.sqnr_db) entry.set("sqnr_db", Datum::real(*decision.sqnr_db));
    scope.append("decisions", std::move(entry));
  }
}

std::string kernels_text(const IntegerKernels& kernels, bool all) {
  std::string text = grouped(static_cast<std::uint64_t>(kernels.integer)) + " of " +
                     counted(static_cast<std::uint64_t>(kernels.planned), "planned node") +
                     " run in integers";
  for (std::size_t i = 0; i < kernels.kernels.size(); ++i) {
    const auto& [name, count] = kernels.kernels[i];
    text += (i == 0 ? ": " : ", ") + name.substr(name.find(':') + 1) + " " +
            grouped(static_cast<std::uint64_t>(count));
  }
  text += '\n';
  constexpr std::size_t kFew = 4;
  const std::size_t shown =
      all ? kernels.stayed_float.size() : std::min(kFew, kernels.stayed_float.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const FloatIsland& island = kernels.stayed_float[i];
    text += "  in float32 all the same: " + island.op_type + " '" + island.node + "' as " +
            island.kernel + ": " + island.why + "\n";
  }
  if (shown < kernels.stayed_float.size()) {
    text +=
        "  and " + grouped(kernels.stayed_float.size() - shown) + " more; --verbose lists them\n";
  }
  return text;
}

void add_latency(std::span<const BenchTimes> times, ReportScope& report) {
  for (std::size_t i = 0; i < times.size(); ++i) {
    ReportScope& scope = report.child("latency").child(i == 0 ? "before" : "after");
    scope.seconds("p50", times[i].p50_ms / 1e3);
    scope.seconds("p90", times[i].p90_ms / 1e3);
    scope.seconds("load", times[i].load_ms / 1e3);
  }
}

void add_kernels(const IntegerKernels& kernels, ReportScope& scope) {
  scope.count("planned", kernels.planned);
  scope.count("integer", kernels.integer);
  scope.count("quantizes", kernels.quantizes);
  scope.count("dequantizes", kernels.dequantizes);
  Datum counts = Datum::map();
  for (const auto& [name, count] : kernels.kernels) counts.set(name, Datum::integer(count));
  scope.set("kernels", std::move(counts));
  for (const FloatIsland& island : kernels.stayed_float) {
    Datum entry = Datum::map();
    entry.set("node", Datum::string(island.node));
    entry.set("op_type", Datum::string(island.op_type));
    entry.set("kernel", Datum::string(island.kernel));
    entry.set("why", Datum::string(island.why));
    scope.append("stayed_float", std::move(entry));
  }
}

Table decision_table(const Explain& explain) {
  Table table;
  for (const Decision* decision : last_words(explain)) {
    if (table.empty()) table.row({"tensor", "before", "after", "SQNR", "form"});
    table.row({decision->subject, bytes_text(decision->bytes_before),
               bytes_text(decision->bytes_after),
               decision->sqnr_db ? decimal_text(*decision->sqnr_db, 1) + " dB" : "-",
               decision->applied ? decision->what : "float: " + decision->why});
  }
  return table;
}

Table steps_table(const ReportScope& root) {
  Table table;
  std::map<std::string, double> seconds;
  const Datum times = root.times();
  for (const Datum& time : *times.as_list()) {
    const Datum* took = time.find("seconds");
    const auto* number = took != nullptr ? std::get_if<double>(&took->value()) : nullptr;
    const Datum* path = time.find("path");
    if (number != nullptr && path != nullptr) seconds[option_text(*path)] = *number;
  }
  const Datum facts = root.facts();
  const Datum* passes = facts.find("passes");
  const Datum::List none;
  const auto list_of = [&](const Datum* datum) -> const Datum::List& {
    return datum != nullptr && datum->as_list() != nullptr ? *datum->as_list() : none;
  };
  const auto text_of = [](const Datum& map, std::string_view key) {
    const Datum* value = map.find(key);
    if (value == nullptr) return std::string();
    const auto* real = std::get_if<double>(&value->value());
    return real != nullptr ? decibel_text(*real) : option_text(*value);
  };
  const Datum::List& ran = list_of(passes);
  for (std::size_t i = 0; i < ran.size(); ++i) {
    const Datum::List& steps = list_of(ran[i].find("steps"));
    for (std::size_t j = 0; j < steps.size(); ++j) {
      if (table.empty()) table.row({"step", "runs", "seconds", "SQNR before", "after"});
      const std::string path = "passes[" + std::to_string(i) + "].steps[" + std::to_string(j) + "]";
      table.row({text_of(steps[j], "name"), text_of(steps[j], "runs"),
                 decimal_text(seconds[path], 3), text_of(steps[j], "sqnr_db_before"),
                 text_of(steps[j], "sqnr_db_after")});
    }
  }
  return table;
}

std::size_t passes_that_changed(const Datum& facts) {
  const Datum* passes = facts.find("passes");
  if (passes == nullptr || passes->as_list() == nullptr) return 0;
  return static_cast<std::size_t>(
      std::count_if(passes->as_list()->begin(), passes->as_list()->end(), [](const Datum& pass) {
        const Datum* changed = pass.find("changed");
        const Datum* name = pass.find("name");
        return changed != nullptr && changed->value() == Datum::Value(true) && name != nullptr &&
               *name->as_string() != "infer-shapes";
      }));
}

Error not_known_to_runtime(Error error) {
  error.code = Code::kUnsupported;
  error.diagnostic.hint =
      "nothing was written; the runtime here may be older than the operators of the result: "
      "--no-verify writes it without having run it";
  return error;
}

Status sound_or_ours(Status status) {
  if (status.ok()) return status;
  Error error = std::move(status).error();
  error.code = Code::kInternal;
  error.diagnostic.message = "the result is not sound: " + error.diagnostic.message;
  error.diagnostic.hint = "nothing was written; please report this with the model";
  return error;
}

Diagnostics warnings_about(const Comparison& comparison) {
  constexpr double kPoor = 10;
  Diagnostics found;
  for (const OutputError& output : comparison.outputs) {
    if (output.differing_non_finite > 0) {
      found.warn("non-finite-differs",
                 std::to_string(output.differing_non_finite) +
                     " values are finite in one model and not in the other",
                 {{}, {}, output.output});
    } else if (output.sqnr_db < kPoor && output.values > 0) {
      found.warn("far-from-original",
                 "its signal is only " + decibel_text(output.sqnr_db) + " above its error",
                 {{}, {}, output.output}, "--exclude its worst layers, or give more data");
    }
  }
  return found;
}

}  // namespace mcompress::tools
