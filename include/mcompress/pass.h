// Passes and their registry.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <typeindex>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/edit.h"
#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/report.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"
#include "mcompress/target.h"

namespace mcompress {

class Executor;

// One decision of a pass about one tensor or node.
struct Decision {
  std::string pass;
  std::string subject;  // value or node name
  std::string op_type;  // of the node concerned; may be empty
  bool applied = false;
  std::string what;  // "int8 per-channel", "folded into Conv 'c1'"; empty when not applied
  std::string why;   // the reason, always given when not applied
  std::uint64_t bytes_before = 0, bytes_after = 0;  // of weights; 0 when not about weights
  std::optional<double> sqnr_db;                    // of the weight
};

// Collects decisions in the order they were made.
class Explain {
 public:
  void chose(Decision decision);
  void skipped(Decision decision);
  void skipped(const Node& node, std::string why);
  const std::vector<Decision>& all() const { return all_; }
  void set_pass(std::string_view name);
  // Drops what was decided after the first `count` decisions.
  void truncate(std::size_t count);
  // Drops what `pass` skipped after the first `count` decisions: it looks again.
  void forget_skipped(std::string_view pass, std::size_t count);

 private:
  std::string pass_;
  std::uint32_t number_ = 0;                                   // of `pass_`
  std::map<std::string, std::uint32_t, std::less<>> numbers_;  // of passes, from 1
  std::vector<Decision> all_;
  std::vector<std::uint32_t> skipped_by_;  // for each: the pass that skipped; 0: it was applied
};

// What the outside provides to a run: all optional but the runtime needs to be there for passes
// that execute graphs.
struct Services {
  std::shared_ptr<Runtime> runtime;         // null: passes that need one say so
  DataSource* calibration_data = nullptr;   // null: none given
  const CalibrationTable* table = nullptr;  // takes the place of data
  const Target* target = nullptr;           // null: the default target
  Diagnostics* diagnostics = nullptr;       // must be set
  Progress* progress = nullptr;             // null: silent
  std::uint64_t memory_budget = 0;          // 0: default
  int threads = 1;                          // of passes and of calibration; 0: processors
  // A session of the model as it was before the first pass, opened when first asked for; empty:
  // passes open what they compare with.
  std::function<Result<Session*>()> reference;
};

// What passes find out about a whole model and others ask as well: kept until the model changes.
class FactStore {
 public:
  // A T(model), which may not refer to the model itself: the one that was made in this state, else
  // a new one.
  template <class T>
  std::shared_ptr<const T> of(Model& model) {
    if (model_ != model.identity() || state_ != model.state()) held_.clear();
    model_ = model.identity();
    state_ = model.state();
    std::shared_ptr<const void>& held = held_[typeid(T)];
    if (held == nullptr) held = std::make_shared<const T>(model);
    return std::static_pointer_cast<const T>(held);
  }

 private:
  std::uint64_t model_ = 0, state_ = 0;  // identity, from 1
  std::map<std::type_index, std::shared_ptr<const void>> held_;
};

class PassContext {
 public:
  // `facts`: shared with the passes before and behind; null: of this pass alone.
  PassContext(Editor& editor, const Services& services, Explain& explain, ReportScope& report,
              TensorFactory& tensors, const Executor& executor, std::uint64_t seed,
              FactStore* facts = nullptr)
      : editor_(editor),
        services_(services),
        explain_(explain),
        report_(report),
        tensors_(tensors),
        executor_(executor),
        seed_(seed),
        facts_(facts != nullptr ? *facts : own_facts_) {}
  PassContext(const PassContext&) = delete;
  PassContext& operator=(const PassContext&) = delete;
  Editor& edit() { return editor_; }
  FactStore& facts() { return facts_; }
  const Target& target() const;
  Diagnostics& diagnostics() { return *services_.diagnostics; }
  Explain& explain() { return explain_; }
  ReportScope& report() { return report_; }
  TensorFactory& tensors() { return tensors_; }
  Progress& progress();
  // Threads for a pass's own arithmetic.
  const Executor& executor() const { return executor_; }
  std::uint64_t seed() const { return seed_; }
  // Fails with kUnsupported when this run has no runtime.
  Result<Runtime*> runtime();
  // A session to compare with: of the model before the first pass when the run offers one, else
  // null.
  Session* reference();
  // The data given for calibration; null: none.
  DataSource* calibration_data() { return services_.calibration_data; }
  // Statistics from the table when one was given (refused when it was made from another model),
  // else from running the data. Fails with kUsage when there is neither.
  Result<CalibrationTable> calibration(const Model& model, const CalibrationRequest& request);
  std::uint64_t memory_budget() const { return services_.memory_budget; }

 private:
  Editor& editor_;
  const Services& services_;
  Explain& explain_;
  ReportScope& report_;
  TensorFactory& tensors_;
  const Executor& executor_;
  std::uint64_t seed_;
  FactStore own_facts_;
  FactStore& facts_;
};

// Made for one run, owned by the pipeline.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual Status run(Model& model, PassContext& context) = 0;
};

enum class Reach : std::uint8_t { kTopGraph, kNestedGraphs };

struct PassInfo {
  std::string_view name;     // kebab-case, equal to the file name
  std::string_view summary;  // one line
  Reach reach = Reach::kTopGraph;
  bool idempotent = true;  // claim, checked by the test over the whole registry
  // The model computes the same before and after, up to the rounding of floats: such passes are
  // repeated until nothing changes, and guarded.
  bool keeps_results = true;
  std::vector<std::string_view> runs_after;  // when both are in a recipe
  std::span<const OptionSpec> options;
  std::function<Result<std::unique_ptr<Pass>>(const Datum& options, Diagnostics&)> create;
  // All options spelled out, defaults included; `options` must have passed `create`.
  std::function<Datum(const Datum& options)> print;
};

// P has Options, static const Schema<Options>& schema() and P(Options).
template <class P>
PassInfo pass_info(std::string_view name, std::string_view summary, Reach reach, bool idempotent,
                   std::vector<std::string_view> runs_after) {
  PassInfo info;
  info.name = name;
  info.summary = summary;
  info.reach = reach;
  info.idempotent = idempotent;
  info.runs_after = std::move(runs_after);
  info.options = P::schema().specs();
  info.create = [](const Datum& options,
                   Diagnostics& diagnostics) -> Result<std::unique_ptr<Pass>> {
    auto parsed = P::schema().parse(options, diagnostics);
    if (!parsed.ok()) return std::move(parsed).error();
    return std::unique_ptr<Pass>(std::make_unique<P>(std::move(parsed).value()));
  };
  info.print = [](const Datum& options) {
    Diagnostics ignored;
    auto parsed = P::schema().parse(options, ignored);
    return parsed.ok() ? P::schema().print(*parsed) : options;
  };
  return info;
}

class PassRegistry {
 public:
  Status add(PassInfo info);  // refuses a second pass of the same name
  const PassInfo* find(std::string_view name) const;
  std::string nearest(std::string_view wrong_name) const;
  // The usage error about a name that find() does not know.
  Error unknown(std::string_view wrong_name, Location where) const;
  std::vector<const PassInfo*> all() const;  // sorted by name

 private:
  std::vector<PassInfo> passes_;
};
// The passes of this library: one visible list.
const PassRegistry& builtin_passes();

}  // namespace mcompress
