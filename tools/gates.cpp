#include "gates.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "mcompress/host.h"
#include "mcompress/recipe.h"
#include "models.h"
#include "outcome.h"
#include "try.h"

namespace mcompress::tools {
namespace {

// Answers as a session did before, run by run, as long as the same runs come in the same order.
class ReplayedSession final : public Session {
 public:
  explicit ReplayedSession(Session& session, std::uint64_t most_bytes = std::uint64_t{128} << 20)
      : session_(session), most_bytes_(most_bytes) {}

  void restart() { next_ = 0; }

  std::span<const PortInfo> inputs() const override { return session_.inputs(); }
  std::span<const PortInfo> outputs() const override { return session_.outputs(); }
  Result<std::vector<Tensor>> run(std::span<const NamedTensor> feeds,
                                  std::span<const std::string> fetch) override {
    return session_.run(feeds, fetch);
  }
  Status run(std::span<const NamedTensor> feeds, std::span<const std::string> fetch,
             const ReceiveFn& receive) override {
    if (next_ < runs_.size() && runs_[next_].fits(feeds, fetch)) {
      const Run& run = runs_[next_++];
      for (std::size_t i = 0; i < run.results.size(); ++i) {
        const Kept& kept = run.results[i];
        MCOMPRESS_TRY(receive(kept.place, {kept.dtype, kept.dims, kept.bytes}));
      }
      return ok_status();
    }
    // What does not fit is not kept: the budget is for a few thousand answers.
    const bool keep = next_ == runs_.size() && bytes_ < most_bytes_;
    Run run;
    for (const NamedTensor& feed : feeds) {
      run.shapes.emplace_back(feed.tensor.dims().begin(), feed.tensor.dims().end());
    }
    run.fetch.assign(fetch.begin(), fetch.end());
    MCOMPRESS_TRY(session_.run(feeds, fetch, [&](std::size_t i, const TensorView& view) -> Status {
      if (keep) {
        run.results.push_back({i,
                               view.dtype,
                               {view.dims.begin(), view.dims.end()},
                               {view.bytes.begin(), view.bytes.end()}});
        bytes_ += view.bytes.size();
      }
      return receive(i, view);
    }));
    if (keep) {
      runs_.push_back(std::move(run));
      ++next_;
    } else {
      next_ = runs_.size() + 1;  // out of step: the rest is run
    }
    return ok_status();
  }
  Result<std::vector<ProfileEvent>> profile() override { return session_.profile(); }

 private:
  struct Kept {
    std::size_t place;
    DataType dtype;
    std::vector<std::int64_t> dims;
    std::vector<std::byte> bytes;
  };
  struct Run {
    std::vector<std::vector<std::int64_t>> shapes;
    std::vector<std::string> fetch;
    std::vector<Kept> results;

    bool fits(std::span<const NamedTensor> feeds, std::span<const std::string> wanted) const {
      return std::ranges::equal(fetch, wanted) &&
             std::ranges::equal(feeds, shapes, [](const NamedTensor& feed, const auto& shape) {
               return std::ranges::equal(feed.tensor.dims(), shape);
             });
    }
  };

  Session& session_;
  std::uint64_t most_bytes_;
  std::vector<Run> runs_;
  std::size_t next_ = 0;
  std::uint64_t bytes_ = 0;
};

std::string trimmed(std::string_view line) {
  const std::size_t first = line.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return std::string(line.substr(first, line.find_last_not_of(" \t\r") - first + 1));
}

Status add_lines(const std::string& path, std::string_view flag, Datum& list) {
  constexpr std::uint64_t kMostBytes = 16 << 20;
  auto text = read_file(path, kMostBytes);
  if (!text.ok()) return std::move(text).error().in_file(path);
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.front() == '#') continue;
    Datum item = Datum::string(line);
    item.set_where({{}, "--" + std::string(flag), {}});
    list.push(std::move(item));
  }
  return ok_status();
}

}  // namespace

Gates gates_of(const Recipe& recipe) {
  Gates gates;
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    const RecipeStep& step = recipe.steps[i];
    // What pruning may lose is no bound of the whole where weights are compressed further.
    const bool goes_on =
        std::any_of(recipe.steps.begin() + static_cast<std::ptrdiff_t>(i) + 1, recipe.steps.end(),
                    [](const RecipeStep& later) {
                      return compresses_weights(later.pass) && !later.pass.starts_with("prune-");
                    });
    if (goes_on && step.pass.starts_with("prune-")) continue;
    const Datum printed = builtin_passes().find(step.pass)->print(step.options);
    const auto number = [&printed](std::string_view key) -> std::optional<double> {
      const Datum* value = printed.find(key);
      if (value == nullptr) return std::nullopt;
      if (const auto* real = std::get_if<double>(&value->value())) return *real;
      if (const auto* whole = std::get_if<std::int64_t>(&value->value())) {
        return static_cast<double>(*whole);
      }
      return std::nullopt;
    };
    gates.min_sqnr = std::max(gates.min_sqnr, number("min-sqnr").value_or(0));
    gates.max_drop = std::min(gates.max_drop, number("max-drop").value_or(100));
  }
  if (recipe.gates.is_null()) return gates;
  Diagnostics diagnostics;
  const auto own = RecipeGates::schema().parse(recipe.gates, diagnostics);
  if (!own.ok()) return gates;  // was checked with the recipe
  gates.min_sqnr = std::max(gates.min_sqnr, own->min_sqnr);
  gates.max_drop = std::min(gates.max_drop, own->max_drop);
  gates.max_size_ratio = own->max_size_ratio;
  if (!own->max_bytes.empty()) {
    if (const auto bytes = parse_size(own->max_bytes, {}); bytes.ok()) gates.max_bytes = *bytes;
  }
  return gates;
}

Status check_gates(const Gates& gates, const GateFigures& figures) {
  // As far as the figures are shown.
  constexpr double kShownDb = 0.05, kShownPoints = 0.005;
  std::string missed;
  if (gates.min_sqnr > 0 && !(figures.sqnr_db.value_or(-1) >= gates.min_sqnr - kShownDb)) {
    missed = "the best that was found has " +
             (figures.sqnr_db ? decimal_text(*figures.sqnr_db, 1) + " dB" : "no known SQNR") +
             ", and --min-sqnr asks for " + decimal_text(gates.min_sqnr, 1) + " dB";
  }
  if (gates.wants_drop() && !(figures.drop.value_or(100) <= gates.max_drop + kShownPoints)) {
    missed += missed.empty() ? "the best that was found " : "; it ";
    missed += figures.drop ? "is one whose " + drop_text(figures.metric, *figures.drop)
                           : std::string("has no known drop");
    missed += ", and --max-drop allows " + decimal_text(gates.max_drop, 2);
  }
  if (missed.empty()) return ok_status();
  return Error(Code::kGateMissed, "gate-missed", std::move(missed), {},
               "nothing was written; --write-missed writes the best there is");
}

Status check_size_gates(const Gates& gates, std::uint64_t bytes, std::uint64_t of_input) {
  std::string allowed;
  if (gates.max_bytes > 0 && bytes > gates.max_bytes) {
    allowed = "max-bytes allows " + std::to_string(gates.max_bytes);
  } else if (gates.max_size_ratio > 0 &&
             static_cast<double>(bytes) > gates.max_size_ratio * static_cast<double>(of_input)) {
    allowed = "max-size-ratio allows " + decimal_text(gates.max_size_ratio, 3) + " of " +
              std::to_string(of_input);
  }
  if (allowed.empty()) return ok_status();
  return Error(Code::kGateMissed, "gate-missed",
               "the result has " + std::to_string(bytes) + " bytes, and " + allowed, {},
               "nothing was written; --write-missed writes it");
}

std::string drop_text(const std::string& metric, double drop) {
  const auto known = parse_metric(metric);
  if (known && !is_share(*known)) return metric + " rises by " + decimal_text(drop, 2) + " %";
  return metric + " drops by " + decimal_text(drop, 2) + " points";
}

void add_gates(const Gates& gates, const GateFigures& figures, bool met, ReportScope& scope) {
  if (gates.min_sqnr > 0) scope.number("min_sqnr_db", gates.min_sqnr);
  if (gates.wants_drop()) scope.number("max_drop", gates.max_drop);
  if (figures.sqnr_db) scope.number("sqnr_db", *figures.sqnr_db);
  if (figures.drop) {
    scope.text("metric", figures.metric);
    scope.number("drop", *figures.drop);
  }
  scope.flag("met", met);
}

std::string mixed_precision_text(const Datum& facts) {
  const Datum* passes = facts.find("passes");
  if (passes == nullptr || passes->as_list() == nullptr) return {};
  for (const Datum& pass : *passes->as_list()) {
    const Datum* mixed = pass.find("mixed_precision");
    if (mixed == nullptr) continue;
    const auto number = [mixed](std::string_view key) {
      const Datum* value = mixed->find(key);
      return value != nullptr ? option_text(*value) : std::string("0");
    };
    const std::string layers = number("layers") + " layers";
    if (number("samples") == "0") return "mixed precision: none of " + layers + " had to go back";
    const Datum* runs = mixed->find("ranking_passes");
    const double* cost = runs != nullptr ? std::get_if<double>(&runs->value()) : nullptr;
    return "mixed precision: " + number("restored_layers") + " of " + layers +
           " back in float32; ranked on " + number("samples") + " samples in " +
           decimal_text(cost != nullptr ? *cost : 0, 1) + " runs of the model each, " +
           number("choices_run") + " choices tried";
  }
  return {};
}

KeptAnswers::KeptAnswers(Session& session, std::uint64_t most_bytes)
    : replayed_(std::make_unique<ReplayedSession>(session, most_bytes)) {}
KeptAnswers::~KeptAnswers() = default;
Session& KeptAnswers::from_the_start() {
  static_cast<ReplayedSession&>(*replayed_).restart();
  return *replayed_;
}

Result<double> DropMeter::drop(Session& candidate) {
  MCOMPRESS_ASSIGN(EvaluateOptions options, evaluate_options(settings_, original_.model()));
  const bool labelled = !data_.labels().texts.empty() || data_.labels().numbers.has_value();
  options.metric = settled_metric(candidate, data_, options);
  const bool by_itself =
      options.metric == Metric::kPerplexity || options.metric == Metric::kRetrieval;
  if (by_itself || (labelled && options.metric != Metric::kAgreement)) {
    if (!reference_) {
      MCOMPRESS_ASSIGN(Session * session, original_.session());
      MCOMPRESS_ASSIGN(reference_, evaluate(*session, data_, options, progress_));
    }
    MCOMPRESS_ASSIGN(const Evaluation after, evaluate(candidate, data_, options, progress_));
    metric_ = metric_name(after.metric);
    return drop_between(*reference_, after);
  }
  if (kept_ == nullptr) {
    MCOMPRESS_ASSIGN(Session * session, original_.session());
    kept_ = std::make_unique<ReplayedSession>(*session);
  }
  static_cast<ReplayedSession&>(*kept_).restart();
  options.reference = kept_.get();
  MCOMPRESS_ASSIGN(const Evaluation after, evaluate(candidate, data_, options, progress_));
  metric_ = metric_name(after.metric);
  return (1 - after.value) * 100;
}

std::string_view choosing_pass(const Recipe& recipe) {
  const bool dynamic =
      std::any_of(recipe.steps.begin(), recipe.steps.end(),
                  [](const RecipeStep& step) { return step.pass == "quantize-dynamic"; });
  return dynamic ? "quantize-dynamic" : "quantize-static";
}

Status run_rest(Model& trial, const Recipe& recipe, std::string_view pass,
                const std::vector<std::string>& excluded, const Target& target,
                const std::shared_ptr<Runtime>& runtime) {
  Recipe rest = recipe;
  const auto found = std::find_if(rest.steps.begin(), rest.steps.end(),
                                  [&](const RecipeStep& step) { return step.pass == pass; });
  if (found == rest.steps.end()) return ok_status();
  rest.steps.erase(rest.steps.begin(), found + 1);
  rest.converge = false;
  for (RecipeStep& step : rest.steps) {
    const Datum printed = builtin_passes().find(step.pass)->print(step.options);
    const Datum* given = printed.find("exclude");
    if (given == nullptr || excluded.empty()) continue;
    Datum list = *given;
    for (const std::string& pattern : excluded) list.push(Datum::string(pattern));
    step.options.set("exclude", std::move(list));
  }
  Services services;
  services.runtime = runtime;
  services.target = &target;
  Explain explain;
  return run_unheard(trial, rest, services, explain);
}

Result<GateFigures> gate_figures(const Gates& gates, const Comparison* comparison,
                                 const Quality* quality, DropMeter* meter, Judged& result) {
  GateFigures figures;
  if (comparison != nullptr) {
    for (const OutputError& output : comparison->outputs) {
      if (output.values == 0) continue;
      figures.sqnr_db = std::min(figures.sqnr_db.value_or(output.sqnr_db), output.sqnr_db);
    }
  }
  if (!gates.wants_drop() || (quality == nullptr && meter == nullptr)) return figures;
  if (quality != nullptr) {
    figures.drop = quality->reference ? drop_between(*quality->reference, quality->candidate)
                                      : (1 - quality->candidate.value) * 100;
    figures.metric = metric_name(quality->candidate.metric);
  } else {
    MCOMPRESS_ASSIGN(Session * session, result.session());
    MCOMPRESS_ASSIGN(figures.drop, meter->drop(*session));
    figures.metric = meter->metric();
  }
  return figures;
}

Status read_pattern_files(Datum& flags) {
  for (const std::string_view key : {"include", "exclude"}) {
    const Datum* given = flags.find(key);
    if (given == nullptr || given->as_list() == nullptr) continue;
    Datum list(Datum::Value(Datum::List{}), given->where());
    for (const Datum& item : *given->as_list()) {
      const auto* typed = std::get_if<Datum::Text>(&item.value());
      if (typed != nullptr && typed->text.starts_with('@')) {
        MCOMPRESS_TRY(add_lines(typed->text.substr(1), key, list));
      } else {
        list.push(item);
      }
    }
    flags.set(key, std::move(list));
  }
  return ok_status();
}

}  // namespace mcompress::tools
