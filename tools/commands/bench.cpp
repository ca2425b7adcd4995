// bench: latency, memory and energy of a model, interleaved with a reference.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "generation.h"
#include "judging.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

class Bench final : public Judging {
 public:
  void declare_arguments(CLI::App& app) override {
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
  }

  const Schema<JudgeOptions>& schema() const override {
    static const Schema<JudgeOptions> kSchema =
        data_schema()
            .field("against", &JudgeOptions::against, "run this model in turn with MODEL")
            .unit("REF")
            .field("runs", &JudgeOptions::runs, "rounds; 0: as many as --seconds allow")
            .range(0, 1e9)
            .field("seconds", &JudgeOptions::seconds, "of running each model")
            .range(0.001, 3600)
            .unit("seconds")
            .field("loads", &JudgeOptions::loads, "how often each model is opened")
            .range(1, 1000)
            .field("warm-up", &JudgeOptions::warm_up,
                   "rounds that do not count; -1: until the times are stable")
            .range(-1, 1e6)
            .field("profile", &JudgeOptions::profile, "time per operator and per node")
            .field("top", &JudgeOptions::top, "so many of the slowest nodes, for --profile")
            .range(0, 1e6)
            .field("trace", &JudgeOptions::trace,
                   "write every kernel of the profiled runs for chrome://tracing or Perfetto")
            .unit("FILE")
            .field("energy", &JudgeOptions::energy,
                   "energy per run of the processor packages, from the kernel's RAPL counters")
            .field("generate", &JudgeOptions::generate,
                   "tokens per second instead: so many tokens are generated after each prompt of "
                   "--data (or a made-up one), with keys and values kept where the model has them; "
                   "0: not asked for")
            .range(0, 1e6)
            .field("seed", &JudgeOptions::seed, "of made-up inputs")
            .range(0, 9e15);
    return kSchema;
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start(false));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(JudgedPair pair, open_models(*runtime, model_, options_.against, console));
    Judged& candidate = *pair.candidate;
    Judged* const against = pair.other();
    std::unique_ptr<DataSource> data;
    if (!options_.data.empty() || !options_.input.empty()) {
      MCOMPRESS_ASSIGN(data, samples(*pair.loaded.model, console));
    }
    if (options_.generate > 0) return generate(*runtime, pair, data.get(), console);
    BenchOptions bench;
    bench.loads = options_.loads;
    bench.seconds = options_.seconds;
    bench.warm_up = options_.warm_up;
    if (options_.runs > 0) bench.min_rounds = bench.max_rounds = options_.runs;
    EnergyMeter meter;
    if (options_.energy) {
      if (!meter.works()) {
        return Error(Code::kUnsupported, "no-energy-counter",
                     "the kernel shows no RAPL counter in /sys/class/powercap, or not to this user",
                     {{}, "--energy", {}}, "run as root on a machine that has them");
      }
      bench.energy = &meter;
    }
    MCOMPRESS_ASSIGN(const auto feeds, bench_feeds(data.get(), candidate.model(),
                                                   static_cast<std::uint64_t>(options_.seed)));
    MCOMPRESS_ASSIGN(const auto times, judge_latency(against, candidate, feeds, bench, console));
    std::vector<Seen> seen;
    for (Judged* judged : {against, &candidate}) {
      if (judged == nullptr) continue;
      MCOMPRESS_ASSIGN(Seen one, look(*runtime, *judged, feeds, judged == &candidate));
      seen.push_back(std::move(one));
    }
    if (!options_.trace.empty()) MCOMPRESS_TRY(write_file(options_.trace, seen.back().trace));
    const bool both = times.size() == 2;
    const double ratio = both && times[1].p50_ms > 0 ? times[0].p50_ms / times[1].p50_ms : 0;
    if (options_.json) {
      Datum map = Datum::map();
      map.set("runtime", Datum::string(runtime->name()));
      map.set("threads", Datum::integer(options_.threads));
      if (both) map.set("reference", model_datum(times[0], seen[0]));
      map.set("model", model_datum(times.back(), seen.back()));
      if (both) map.set("speedup_p50", Datum::real(ratio));
      return console.print(result_json(map));
    }
    std::string text = std::string(runtime->name()) + ", " +
                       counted(static_cast<std::uint64_t>(options_.threads), "thread") + ", " +
                       counted(static_cast<std::uint64_t>(times[0].warm_up), "round") +
                       " to warm up\n";
    text += latency_table(times).text();
    if (both) text += "p50 " + decimal_text(ratio, 2) + " x faster\n";
    Table memory;
    memory.row({"memory", "at rest", "more while it runs"});
    for (std::size_t i = 0; i < times.size(); ++i) {
      memory.row({file_name(times[i].name), bytes_text(seen[i].memory.session_bytes),
                  bytes_text(seen[i].memory.peak_bytes)});
    }
    text += memory.text();
    for (const BenchTimes& entry : times) {
      if (!entry.joules_per_run) continue;
      text += file_name(entry.name) + ": " + decimal_text(*entry.joules_per_run * 1000, 3) +
              " mJ per run (processor packages)\n";
    }
    if (options_.profile) text += operator_table(seen) + node_table(seen.back());
    return console.print(text);
  }

 private:
  Status generate(Runtime& runtime, JudgedPair& pair, DataSource* data, Console& console) const {
    for (const auto& [given, flag] : {std::pair(options_.profile, "--profile"),
                                      {!options_.trace.empty(), "--trace"},
                                      {options_.energy, "--energy"}}) {
      if (!given) continue;
      return Error(Code::kUsage, "generate-alone",
                   "this is not measured while tokens are generated", {{}, flag, {}},
                   "leave out --generate");
    }
    GenerationRequest request;
    request.options.tokens = std::max<std::int64_t>(options_.generate, 2);
    request.options.rounds = options_.runs;
    request.options.seconds = options_.seconds;
    if (options_.warm_up >= 0) request.options.warm_up = options_.warm_up;
    request.seed = static_cast<std::uint64_t>(options_.seed);
    request.prompt_tokens = options_.sequence_length;
    request.prompts = options_.samples;
    MCOMPRESS_ASSIGN(const auto times,
                     measure_generation(pair.other(), *pair.candidate, data, request, console));
    if (options_.json) {
      Datum map = generation_datum(times);
      map.set("runtime", Datum::string(runtime.name()));
      map.set("threads", Datum::integer(options_.threads));
      map.set("tokens", Datum::integer(request.options.tokens));
      return console.print(result_json(map));
    }
    return console.print(std::string(runtime.name()) + ", " +
                         counted(static_cast<std::uint64_t>(options_.threads), "thread") + ", " +
                         std::to_string(request.options.tokens) + " tokens after each prompt\n" +
                         generation_text(times));
  }

  // What is not told by time alone.
  struct Seen {
    std::string file;
    MemoryUse memory;
    std::vector<ProfileEvent> nodes;
    std::string trace;
    std::int64_t runs = 0;  // that were profiled
  };

  Result<Seen> look(Runtime& runtime, Judged& judged,
                    const std::vector<std::vector<NamedTensor>>& feeds, bool traced) const {
    const auto ignore = [](std::size_t, const TensorView&) { return ok_status(); };
    Seen seen;
    seen.file = file_name(judged.file());
    SessionOptions session;
    session.threads = static_cast<int>(options_.threads);
    session.count_memory = true;
    {
      MCOMPRESS_ASSIGN(const auto counting, runtime.open(judged.model(), session));
      MCOMPRESS_TRY(counting->run(feeds.front(), {}, ignore));
      MCOMPRESS_ASSIGN(seen.memory, counting->memory_use());
    }
    if (!options_.profile && options_.trace.empty()) return seen;
    session.count_memory = false;
    session.profile = true;
    MCOMPRESS_ASSIGN(const auto profiled, runtime.open(judged.model(), session));
    constexpr std::int64_t kProfiledRuns = 20;
    seen.runs = options_.runs > 0 ? options_.runs : kProfiledRuns;
    for (std::int64_t run = 0; run < seen.runs; ++run) {
      MCOMPRESS_TRY(profiled->run(feeds[static_cast<std::size_t>(run) % feeds.size()], {}, ignore));
    }
    MCOMPRESS_ASSIGN(std::string trace, profiled->trace());
    MCOMPRESS_ASSIGN(seen.nodes, parse_profile(trace, "the runtime's trace"));
    if (traced) seen.trace = std::move(trace);
    return seen;
  }

  static double per_run(const Seen& seen, double microseconds) {
    return seen.runs > 0 ? microseconds / 1000 / static_cast<double>(seen.runs) : 0;
  }

  struct OperatorTime {
    double microseconds = 0;
    std::int64_t nodes = 0;
  };
  static std::map<std::string, OperatorTime> by_operator(const Seen& seen) {
    std::map<std::string, OperatorTime> operators;
    for (const ProfileEvent& event : seen.nodes) {
      OperatorTime& total = operators[event.op_type];
      total.microseconds += event.microseconds;
      ++total.nodes;
    }
    return operators;
  }

  // Most expensive first, in either model.
  static std::string operator_table(const std::vector<Seen>& seen) {
    std::vector<std::map<std::string, OperatorTime>> columns;
    std::map<std::string, double> dearest;
    std::vector<std::string> head = {"operator"};
    for (const Seen& one : seen) {
      columns.push_back(by_operator(one));
      for (const auto& [name, time] : columns.back()) {
        dearest[name] = std::max(dearest[name], per_run(one, time.microseconds));
      }
      head.insert(head.end(), {one.file, "share", "nodes"});
    }
    std::vector<std::pair<double, std::string>> order;
    order.reserve(dearest.size());
    for (const auto& [name, time] : dearest) order.emplace_back(-time, name);
    std::sort(order.begin(), order.end());
    Table table;
    table.row(head);
    for (const auto& [time, name] : order) {
      std::vector<std::string> row = {name};
      for (std::size_t i = 0; i < seen.size(); ++i) {
        double sum = 0;
        for (const ProfileEvent& event : seen[i].nodes) sum += event.microseconds;
        const auto found = columns[i].find(name);
        if (found == columns[i].end()) {
          row.insert(row.end(), {"-", "-", "-"});
          continue;
        }
        row.insert(row.end(), {milliseconds_text(per_run(seen[i], found->second.microseconds)),
                               percent_text(sum > 0 ? found->second.microseconds / sum : 0),
                               std::to_string(found->second.nodes)});
      }
      table.row(std::move(row));
    }
    return "time in kernels per run\n" + table.text();
  }

  std::string node_table(const Seen& seen) const {
    Table table;
    table.row({"node", "operator", "time"});
    std::int64_t left = options_.top;
    for (const ProfileEvent& event : seen.nodes) {
      if (left-- <= 0) break;
      table.row({event.node, event.op_type, milliseconds_text(per_run(seen, event.microseconds))});
    }
    return "slowest nodes of " + seen.file + " per run\n" + table.text();
  }

  static Datum model_datum(const BenchTimes& times, const Seen& seen) {
    Datum map = to_datum(times);
    map.set("session_bytes", Datum::integer(static_cast<std::int64_t>(seen.memory.session_bytes)));
    map.set("peak_bytes", Datum::integer(static_cast<std::int64_t>(seen.memory.peak_bytes)));
    if (seen.nodes.empty()) return map;
    Datum operators = Datum::list();
    for (const auto& [name, time] : by_operator(seen)) {
      Datum entry = Datum::map();
      entry.set("op_type", Datum::string(name));
      entry.set("nodes", Datum::integer(time.nodes));
      entry.set("ms_per_run", Datum::real(per_run(seen, time.microseconds)));
      operators.push(std::move(entry));
    }
    map.set("operators", std::move(operators));
    Datum nodes = Datum::list();
    for (const ProfileEvent& event : seen.nodes) {
      Datum entry = Datum::map();
      entry.set("node", Datum::string(event.node));
      entry.set("op_type", Datum::string(event.op_type));
      entry.set("ms_per_run", Datum::real(per_run(seen, event.microseconds)));
      nodes.push(std::move(entry));
    }
    map.set("nodes", std::move(nodes));
    return map;
  }

  std::string model_;
};

}  // namespace

std::unique_ptr<Command> make_bench() { return std::make_unique<Bench>(); }

}  // namespace mcompress::tools
