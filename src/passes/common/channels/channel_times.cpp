#include "passes/common/channels/channel_times.h"

#include <algorithm>
#include <map>

#include "mcompress/evaluate.h"
#include "passes/common/channels/channel_selection.h"
#include "passes/common/kernel_names.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Ids of products by the names of what belongs to them.
std::map<std::string, std::size_t, std::less<>> owners_by_name(const Model& model) {
  const std::vector<double> macs = product_macs(model);
  std::map<std::string, std::size_t, std::less<>> names;
  std::map<const Value*, std::pair<std::size_t, std::size_t>> maker;  // order, id of the product
  std::size_t order = 0;
  const Graph& graph = model.graph();
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    std::pair<std::size_t, std::size_t> owner{0, 0};
    if (macs[node->id()] > 0) {
      owner = {++order, node->id()};
    } else {
      for (const Value* input : node->inputs()) {
        const auto found = maker.find(input);
        if (found != maker.end()) owner = std::max(owner, found->second);
      }
    }
    if (owner.first == 0) continue;
    if (!node->name().empty()) names.emplace(node->name(), owner.second);
    for (const Value* output : node->outputs()) {
      if (output == nullptr) continue;
      maker[output] = owner;
      names.emplace(output->name(), owner.second);
    }
  }
  return names;
}

Result<std::vector<ProfileEvent>> profile_once(const Model& model,
                                               const std::vector<NamedTensor>& feeds,
                                               PassContext& context) {
  constexpr int kRuns = 10;
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  SessionOptions options;
  options.profile = true;
  MCOMPRESS_ASSIGN(const auto session, runtime->open(model, options));
  std::vector<std::string> fetch;
  for (const PortInfo& port : session->outputs()) fetch.push_back(port.name);
  const auto ignore = [](std::size_t, const TensorView&) { return ok_status(); };
  for (int run = 0; run < kRuns; ++run) MCOMPRESS_TRY(session->run(feeds, fetch, ignore));
  return session->profile();
}

}  // namespace

Result<std::vector<double>> product_times(const Model& model, PassContext& context) {
  constexpr int kSessions = 8;
  MCOMPRESS_ASSIGN(const auto feeds, context.calibration_data()->sample(0));
  // What else the machine does only ever adds: of each kernel the least of several sessions.
  std::map<std::string, double> least;
  for (int session = 0; session < kSessions; ++session) {
    MCOMPRESS_ASSIGN(const auto events, profile_once(model, feeds, context));
    for (const ProfileEvent& event : events) {
      if (holds_kernels(event.op_type)) continue;
      const auto [known, added] = least.try_emplace(event.node, event.microseconds);
      if (!added) known->second = std::min(known->second, event.microseconds);
    }
  }
  const auto owners = owners_by_name(model);
  std::vector<double> times(model.node_limit());
  for (const auto& [kernel, microseconds] : least) {
    const auto owner = place_of_kernel(owners, kernel);
    if (owner) times[*owner] += microseconds;
  }
  return times;
}

Result<double> run_time_left(const Model& dense, const Model& model, PassContext& context) {
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  std::vector<std::vector<NamedTensor>> feeds(1);
  MCOMPRESS_ASSIGN(feeds[0], context.calibration_data()->sample(0));
  const auto target = [&](const Model& one, const char* name) {
    return BenchTarget{name, [runtime, &one] { return runtime->open(one, SessionOptions{}); }};
  };
  const std::vector<BenchTarget> targets = {target(dense, "original"), target(model, "cut")};
  BenchOptions options;
  options.loads = 1;
  options.warm_up = BenchOptions::kUntilStable;
  options.seconds = 0.5;
  MCOMPRESS_ASSIGN(const auto times, bench_sessions(targets, feeds, options, context.progress()));
  return times[0].p50_ms > 0 ? times[1].p50_ms / times[0].p50_ms : 1.0;
}

}  // namespace mcompress
