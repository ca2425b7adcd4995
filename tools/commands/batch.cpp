// batch: a recipe over many models, each in a process of its own.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "app.h"
#include "batch/batch_figures.h"
#include "batch/batch_models.h"
#include "batch/batch_print.h"
#include "batch/batch_rules.h"
#include "batch/journal.h"
#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "recipe_files.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

struct BatchOptions {
  std::string output;
  std::int64_t jobs = 0;
  std::int64_t memory_budget = 0;
  std::string shard = "1/1";
  std::string print_job;
  std::int64_t shards = 4;
  bool merge = false, restart = false, dry_run = false, json = false;

  static const Schema<BatchOptions>& schema() {
    static const Schema<BatchOptions> kSchema =
        Schema<BatchOptions>()
            .field("output", &BatchOptions::output, "the folder for the results")
            .unit("FOLDER")
            .field("jobs", &BatchOptions::jobs, "models at the same time; 0: one per processor")
            .range(0, 1024)
            .field("memory-budget", &BatchOptions::memory_budget,
                   "for all jobs together, each of which is estimated; 0: three quarters of the "
                   "memory")
            .unit("bytes")
            .range(0, 9e15)
            .field("shard", &BatchOptions::shard, "do one of N equal shares: 2/4")
            .unit("I/N")
            .field("print-job", &BatchOptions::print_job,
                   "run nothing: print --shards tasks for a scheduler")
            .choices({"slurm", "parallel", "kubernetes"})
            .field("shards", &BatchOptions::shards, "tasks of --print-job")
            .range(1, 100000)
            .field("merge", &BatchOptions::merge, "run nothing: sum up what all shares have done")
            .field("restart", &BatchOptions::restart, "do finished models again")
            .field("dry-run", &BatchOptions::dry_run,
                   "run nothing and write nothing: print each model with its recipe, the memory it "
                   "may take, and whether it is done")
            .field("json", &BatchOptions::json, "a JSON line per model on standard output");
    return kSchema;
  }
};

struct BatchJob {
  std::string model, name;  // the file; its place below the folder of results
  std::string key;
  std::uint64_t cost = 0;
  const BatchRule* rule = nullptr;  // null: none fits
};

Error failed_call(const std::string& what, const std::string& path) {
  return Error(Code::kOutput, "batch-folder", what + ": " + std::strerror(errno), {path, {}, {}});
}

class Batch final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODELS", source_, "folder, pattern in quotes, or .txt file with a model a line")
        ->required()
        ->type_name("");
    app.add_option("RECIPE", recipe_, "file or name of a recipe, or a file of rules")
        ->required()
        ->type_name("");
    flags.add(BatchOptions::schema().specs(), "Output and work");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = BatchOptions::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    if (options_.output.empty()) {
      return Error(Code::kUsage, "no-output", "the folder for results is missing",
                   {{}, "--output", {}}, "give -o FOLDER");
    }
    MCOMPRESS_ASSIGN(shard_, parse_shard(options_.shard));
    MCOMPRESS_ASSIGN(rules_, read_rules(recipe_, console));
    if (!options_.print_job.empty()) return print_job(console);
    MCOMPRESS_TRY(collect());
    state_ = fs::path(options_.output) / ".mcompress-batch";
    if (options_.dry_run) return foretell(console);
    std::error_code error;
    fs::create_directories(state_, error);
    if (error) {
      return Error(Code::kOutput, "batch-folder", "can not be made: " + error.message(),
                   {state_.string(), {}, {}});
    }
    if (!options_.merge) {
      MCOMPRESS_TRY(lock());
      MCOMPRESS_TRY(list_models());
    }
    MCOMPRESS_TRY(read_journals());
    std::vector<std::size_t> todo;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      if (jobs_[i].rule == nullptr) continue;
      if (done(jobs_[i])) {
        ++kept;
      } else {
        todo.push_back(i);
      }
    }
    if (kept > 0 && !options_.merge) console.say(counted(kept, "model") + " done before");
    if (!options_.merge) MCOMPRESS_TRY(work(todo, console));
    return sum_up(console);
  }

 private:
  Status foretell(Console& console) {
    std::error_code error;
    if (fs::is_directory(state_, error)) MCOMPRESS_TRY(read_journals());
    Table table;
    table.row({"model", "bytes", "memory", "recipe", ""});
    for (const BatchJob& job : jobs_) {
      table.row({job.name, bytes_text(model_bytes(job.model)), bytes_text(need_of(job)),
                 job.rule != nullptr ? job.rule->recipe : "-",
                 job.rule == nullptr ? "no rule fits"
                 : done(job)         ? "done before"
                                     : "to do"});
    }
    return console.print(table.text());
  }

  // Every model once, sorted, with its place in the results; of the shard only, dearest first.
  Status collect() {
    MCOMPRESS_ASSIGN(const std::vector<BatchModel> models,
                     find_batch_models(source_, options_.output));
    std::vector<std::uint64_t> costs;
    for (std::size_t i = 0; i < models.size(); ++i) {
      // A floor for what every job costs, whatever its size.
      constexpr std::uint64_t kFloor = 1 << 20;
      costs.push_back(kFloor + model_bytes(models[i].file));
    }
    const std::vector<std::size_t> shares = share_jobs(costs, shard_.count);
    for (std::size_t i = 0; i < models.size(); ++i) {
      if (!options_.merge && shares[i] != shard_.index) continue;
      const BatchRule* rule = choose_rule(rules_, models[i].file, models[i].place);
      if (rule != nullptr && rule->skip) continue;
      jobs_.push_back({models[i].file, models[i].place, {}, costs[i], rule});
    }
    std::stable_sort(jobs_.begin(), jobs_.end(),
                     [](const BatchJob& a, const BatchJob& b) { return a.cost > b.cost; });
    for (BatchJob& job : jobs_) {
      if (job.rule != nullptr) job.key = key_of(job);
    }
    return ok_status();
  }

  Status print_job(Console& console) const {
    if (options_.merge || options_.restart || flags_->has("shard")) {
      return Error(Code::kUsage, "print-job-alone",
                   "goes with neither --shard, --merge nor --restart", {{}, "--print-job", {}});
    }
    const auto absolute = [](const std::string& path) {
      std::error_code error;
      return fs::absolute(path, error).lexically_normal().string();
    };
    BatchPlan plan;
    std::error_code error;
    plan.program = fs::read_symlink("/proc/self/exe", error).string();
    if (error) plan.program = "mcompress";
    plan.models = absolute(source_);
    // What is no name of a built-in recipe was read from a file.
    plan.recipe_is_file = rules_.size() > 1 || !rules_[0].found.file.empty();
    plan.recipe = plan.recipe_is_file ? absolute(recipe_) : recipe_;
    plan.output = absolute(options_.output);
    plan.shares = options_.shards;
    plan.jobs = options_.jobs;
    plan.memory_budget = options_.memory_budget;
    MCOMPRESS_ASSIGN(const std::string text, print_batch_job(options_.print_job, plan));
    return console.print(text);
  }

  // Changes with the model, the recipe, the data or the program.
  std::string key_of(const BatchJob& job) const {
    std::string text = std::string(kVersion) + "\n" +
                       json_line(print_recipe(job.rule->found.recipe, builtin_passes())) + "\n";
    std::vector<std::string> files = model_files(job.model);
    const Datum data = place_data(job.rule->found.recipe.data, job.rule->found.file, job.model);
    for (const auto& [key, value] : *data.as_map()) {
      if (value.as_string() == nullptr) continue;
      std::error_code error;
      if (fs::is_regular_file(*value.as_string(), error)) files.push_back(*value.as_string());
      if (!fs::is_directory(*value.as_string(), error)) continue;
      std::set<std::string> inside;
      for (const auto& entry : fs::recursive_directory_iterator(*value.as_string(), error)) {
        if (entry.is_regular_file(error)) inside.insert(entry.path().string());
      }
      files.insert(files.end(), inside.begin(), inside.end());
    }
    for (const std::string& file : files) {
      const auto digest = file_digest(file);
      text += fs::path(file).filename().string() + " " +
              (digest.ok() ? digest_text(*digest) : std::string("unreadable")) + "\n";
    }
    return digest_text(text_digest(text));
  }

  // For reports of a batch that did not come to its end.
  Status list_models() const {
    std::string names;
    for (const BatchJob& job : jobs_) names += job.name + "\n";
    return write_file(fs::path(journal_of(shard_)).replace_extension(kListExtension).string(),
                      names);
  }

  std::string journal_of(const Shard& shard) const {
    return (state_ / ("journal-" + std::to_string(shard.index + 1) + "-of-" +
                      std::to_string(shard.count) + ".jsonl"))
        .string();
  }
  std::string output_of(const BatchJob& job) const {
    return (fs::path(options_.output) / job.name).string();
  }

  // Held until the process ends, by it alone.
  Status lock() {
    const std::string path = journal_of(shard_);
    const int flags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC;
    journal_ = ::open(path.c_str(), flags, 0666);
    if (journal_ < 0) return failed_call("can not be opened", path);
    // Jobs of a batch that was killed hold it until they have ended too.
    bool locked = ::flock(journal_, LOCK_EX | LOCK_NB) == 0;
    for (int tries = 0; tries < 20 && !locked; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      locked = ::flock(journal_, LOCK_EX | LOCK_NB) == 0;
    }
    if (!locked) {
      return Error(Code::kUsage, "batch-running", "another batch works on this share",
                   {options_.output, {}, {}}, "wait for it, or take another folder");
    }
    if (options_.restart && ::ftruncate(journal_, 0) != 0) {
      return failed_call("can not be emptied", path);
    }
    return ok_status();
  }

  Status read_journals() {
    std::vector<std::string> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(state_, error)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("journal-") && name.ends_with(".jsonl")) {
        files.push_back(entry.path().string());
      }
    }
    std::sort(files.begin(), files.end());
    const bool only_reads = options_.merge || options_.dry_run;
    if (!only_reads) files = {journal_of(shard_)};
    for (const std::string& file : files) {
      constexpr std::uint64_t kMostBytes = 1ULL << 30;
      MCOMPRESS_ASSIGN(const std::string text, read_file(file, kMostBytes));
      // What was being written when the program died must not run into what comes next.
      const std::size_t whole = text.rfind('\n') + 1;  // 0 where there is none
      if (!only_reads && whole < text.size() &&
          ::ftruncate(journal_, static_cast<off_t>(whole)) != 0) {
        return failed_call("can not be cut", file);
      }
      MCOMPRESS_ASSIGN(auto entries, parse_journal(text, file));
      for (auto& [name, entry] : entries) entries_[name] = std::move(entry);
    }
    return ok_status();
  }

  bool done(const BatchJob& job) const {
    const auto found = entries_.find(job.name);
    if (found == entries_.end() || found->second.status != 0 || found->second.key != job.key) {
      return false;
    }
    const auto digest = file_digest(output_of(job));
    return digest.ok() && digest_text(*digest) == found->second.output_digest;
  }

  // The job's process: the command line of one model, and its line in the journal.
  [[noreturn]] void child(const BatchJob& job, const std::string& log, const std::string& report,
                          pid_t parent) const {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(70);  // it ended before that call
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (out >= 0) {
      ::dup2(out, STDOUT_FILENO);
      ::dup2(out, STDERR_FILENO);
      ::close(out);
    }
    int status = 70;
    try {
      Console console;
      const std::vector<std::string> arguments = {
          "run", job.rule->recipe, job.model, "-o",     output_of(job), "--jobs",
          "1",   "--report",       report,    "--times"};
      status = run_command_line(arguments, console);
    } catch (...) {
      status = 70;
    }
    JournalEntry entry = entry_of(job, status, log);
    if (status == 0) add_figures(report, entry);
    struct rusage usage = {};
    if (::getrusage(RUSAGE_SELF, &usage) == 0) {
      entry.peak_bytes = static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
    }
    append(entry);
    ::_exit(status);
  }

  JournalEntry entry_of(const BatchJob& job, int status, const std::string& log) const {
    JournalEntry entry;
    entry.job = job.name;
    entry.key = job.key;
    entry.status = status;
    if (rules_.size() > 1) entry.recipe = job.rule->recipe;
    entry.bytes_before = static_cast<std::int64_t>(model_bytes(job.model));
    if (status == 0) {
      entry.bytes_after = static_cast<std::int64_t>(model_bytes(output_of(job)));
      if (const auto digest = file_digest(output_of(job)); digest.ok()) {
        entry.output_digest = digest_text(*digest);
      }
      return entry;
    }
    constexpr std::uint64_t kMostBytes = 1 << 20;
    entry.message = status > 128 ? "ended by signal " + std::to_string(status - 128)
                                 : "exit status " + std::to_string(status);
    if (const auto text = read_file(log, kMostBytes); text.ok()) {
      const std::string mark = "mcompress: error: ";
      const std::size_t at = text->rfind(mark);
      if (at != std::string::npos) {
        const std::size_t start = at + mark.size();
        entry.message = text->substr(start, text->find('\n', start) - start);
      }
    }
    return entry;
  }

  // One write: lines of several processes do not mix.
  void append(const JournalEntry& entry) const {
    const std::string line = journal_line(entry);
    if (::write(journal_, line.data(), line.size()) < 0) return;  // then the job is done again
    ::fdatasync(journal_);
  }

  // What a job may take, from what small and large models were seen to take.
  static std::uint64_t need_of(const BatchJob& job) {
    constexpr std::uint64_t kProgram = 128ULL << 20;
    return kProgram + 5 * job.cost;
  }

  Status work(const std::vector<std::size_t>& todo, Console& console) {
    const std::size_t slots = options_.jobs > 0 ? static_cast<std::size_t>(options_.jobs)
                                                : std::max(1U, std::thread::hardware_concurrency());
    const auto memory = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t budget = options_.memory_budget > 0
                                     ? static_cast<std::uint64_t>(options_.memory_budget)
                                     : memory / 4 * 3;
    for (const std::size_t i : todo) {
      if (need_of(jobs_[i]) <= budget) continue;
      console.say(jobs_[i].name + " may take " + bytes_text(need_of(jobs_[i])) +
                  " of memory, more than the budget of " + bytes_text(budget) +
                  ": it runs with nothing beside it");
    }
    std::map<pid_t, std::size_t> running;
    std::uint64_t used = 0;
    std::size_t finished = 0;
    std::vector<std::size_t> waiting = todo;
    std::vector<std::uint64_t> needs;
    needs.reserve(waiting.size());
    for (const std::size_t i : waiting) needs.push_back(need_of(jobs_[i]));
    while (!waiting.empty() || !running.empty()) {
      const std::size_t next = pick_job(needs, used, budget, running.empty());
      if (running.size() < slots && next < waiting.size()) {
        const std::size_t index = waiting[next];
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(next));
        needs.erase(needs.begin() + static_cast<std::ptrdiff_t>(next));
        const BatchJob& job = jobs_[index];
        std::error_code error;
        fs::create_directories(fs::path(output_of(job)).parent_path(), error);
        const std::string number = std::to_string(index);
        const std::string log = (state_ / ("log-" + number + ".txt")).string();
        const std::string report = (state_ / ("report-" + number + ".json")).string();
        logs_[index] = log;
        const pid_t parent = ::getpid();
        const pid_t child_id = ::fork();
        if (child_id == 0) child(job, log, report, parent);
        if (child_id < 0) return failed_call("no process can be started", job.model);
        running[child_id] = index;
        used += need_of(job);
        continue;
      }
      int status = 0;
      const pid_t ended = ::waitpid(-1, &status, 0);
      if (ended < 0 && errno == EINTR) continue;
      if (ended < 0) return failed_call("a process was lost", options_.output);
      const auto found = running.find(ended);
      if (found == running.end()) continue;
      const BatchJob& job = jobs_[found->second];
      used -= need_of(job);
      if (WIFSIGNALED(status)) {
        append(entry_of(job, 128 + WTERMSIG(status), logs_[found->second]));
      }
      running.erase(found);
      console.update("models", ++finished, todo.size(), "samples");
    }
    return read_journals();
  }

  Status sum_up(Console& console) {
    Table table;
    table.row({"model", "before", "after", "ratio"});
    std::uint64_t failed = 0, not_run = 0;
    std::int64_t worst = 0, before = 0, after = 0;
    std::string reasons;  // below the table, whose columns they would push apart
    std::vector<BatchJob> sorted = jobs_;
    std::sort(sorted.begin(), sorted.end(),
              [](const BatchJob& a, const BatchJob& b) { return a.name < b.name; });
    for (const BatchJob& job : sorted) {
      const auto found = entries_.find(job.name);
      JournalEntry entry;
      bool was_run = true;
      if (job.rule != nullptr && found != entries_.end() && found->second.key == job.key) {
        entry = found->second;
      } else {
        entry.job = job.name;
        // Shares that are still to come; without shares every model has an entry by now.
        const Code missing = options_.merge ? Code::kInput : Code::kInternal;
        entry.status = exit_status(job.rule != nullptr ? missing : Code::kUnsupported);
        entry.message = job.rule != nullptr ? "was not run" : "no rule fits";
        was_run = job.rule == nullptr;
      }
      if (options_.json) MCOMPRESS_TRY(console.print(result_line(entry)));
      if (entry.status != 0) {
        ++failed;
        worst = std::max(worst, entry.status > 128 ? exit_status(Code::kInternal) : entry.status);
        if (!was_run) ++not_run;
        table.row({entry.job, was_run ? "failed" : "not run", "", ""});
        if (was_run) reasons += "\n" + entry.job + ": " + entry.message;
        continue;
      }
      before += entry.bytes_before;
      after += entry.bytes_after;
      table.row({entry.job, bytes_text(static_cast<std::uint64_t>(entry.bytes_before)),
                 bytes_text(static_cast<std::uint64_t>(entry.bytes_after)),
                 ratio(entry.bytes_before, entry.bytes_after)});
    }
    table.row({"all", bytes_text(static_cast<std::uint64_t>(before)),
               bytes_text(static_cast<std::uint64_t>(after)), ratio(before, after)});
    console.say(table.text() + reasons);
    if (failed == 0) return ok_status();
    Code code = Code::kInternal;
    for (const Code one :
         {Code::kUsage, Code::kInput, Code::kUnsupported, Code::kOutput, Code::kGateMissed}) {
      if (exit_status(one) == worst) code = one;
    }
    const std::string all = " of " + counted(jobs_.size(), "model");
    std::string text = failed > not_run ? std::to_string(failed - not_run) + all + " failed" : "";
    if (not_run > 0) {
      text += (text.empty() ? std::to_string(not_run) + all : ", " + std::to_string(not_run)) +
              (not_run == 1 ? " was" : " were") + " not run";
    }
    const std::string again = options_.merge ? "running their shares again does these"
                                             : "running it again tries these again";
    return Error(code, "batch-failures", text, {options_.output, {}, {}},
                 failed == jobs_.size() ? again : "the others are done; " + again);
  }

  static std::string ratio(std::int64_t before, std::int64_t after) {
    if (after <= 0) return "-";
    return decimal_text(static_cast<double>(before) / static_cast<double>(after), 2) + " x";
  }

  Flags* flags_ = nullptr;
  std::string source_, recipe_;
  BatchOptions options_;
  Shard shard_;
  std::vector<BatchRule> rules_;
  std::vector<BatchJob> jobs_;
  fs::path state_;
  int journal_ = -1;
  std::map<std::string, JournalEntry> entries_;
  std::map<std::size_t, std::string> logs_;
};

}  // namespace

std::unique_ptr<Command> make_batch() { return std::make_unique<Batch>(); }

}  // namespace mcompress::tools
