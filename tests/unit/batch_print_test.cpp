// Jobs for schedulers: texts that a shell, and a reader of YAML, take apart as they were meant.
#include "batch/batch_print.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "mcompress/host.h"
#include "support/models.h"

namespace mcompress::tools {
namespace {

using mcompress::testing::TempFolder;

// Names that mean something to shells, YAML or Kubernetes.
const std::vector<std::string> kNames = {
    "plain",       "with blank", "it's",  "a\"b", "$(HOME)",  "$HOME", "`date`",
    "back\\slash", "a;b&c|d",    "#hash", "{}",   "{folder}", "star*", "- dash",
    "key: value",  "%s",         "!bang", "~",    "\xC3\xA4"};

BatchPlan plan_of(const std::string& name) {
  BatchPlan plan;
  plan.program = "/opt/" + name + "/mcompress";
  plan.models = "/data/zoo/" + name;
  plan.recipe = "/data/recipes/" + name + ".yaml";
  plan.recipe_is_file = true;
  plan.output = "/data/out/" + name;
  plan.shares = 3;
  plan.jobs = 2;
  plan.memory_budget = (std::int64_t{5} << 30) + 1;
  return plan;
}

std::string output_of(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  std::string text;
  char buffer[4096];
  std::size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0) text.append(buffer, got);
  ::pclose(pipe);
  return text;
}

TEST(ShellWord, IsOneWordOfAShell) {
  for (const std::string& name : kNames) {
    EXPECT_EQ(output_of("printf '<%s>' " + shell_word(name) + " " + shell_word("")),
              "<" + name + "><>");
  }
}

// The script with `exec PROGRAM` replaced by printing its arguments.
TEST(Slurm, TheScriptRunsItsShare) {
  for (const std::string& name : kNames) {
    const BatchPlan plan = plan_of(name);
    auto text = print_batch_job("slurm", plan);
    ASSERT_TRUE(text.ok());
    EXPECT_NE(text->find("#SBATCH --array=1-3\n"), std::string::npos);
    EXPECT_NE(text->find("#SBATCH --cpus-per-task=2\n"), std::string::npos);
    EXPECT_NE(text->find("#SBATCH --mem=5121M\n"), std::string::npos);  // rounded up
    const std::string exec = "exec " + shell_word(plan.program);
    const std::size_t at = text->find(exec);
    ASSERT_NE(at, std::string::npos);
    const TempFolder folder;
    ASSERT_TRUE(
        write_file(folder / "job", std::string(*text).replace(at, exec.size(), "printf '%s\\n'"))
            .ok());
    EXPECT_EQ(output_of("SLURM_ARRAY_TASK_ID=2 SLURM_CPUS_PER_TASK=2 sh " +
                        shell_word((folder / "job").string())),
              "batch\n" + plan.models + "\n" + plan.recipe + "\n-o\n" + plan.output +
                  "\n--memory-budget\n5368709121\n--shard\n2/3\n--jobs\n2\n");
  }
}

TEST(Parallel, EachLineIsAShare) {
  for (const std::string& name : kNames) {
    const BatchPlan plan = plan_of(name);
    const auto text = print_batch_job("parallel", plan);
    ASSERT_TRUE(text.ok());
    const std::string mark = "<<'MCOMPRESS_SHARES'\n";
    std::string rest = text->substr(text->find(mark) + mark.size());
    for (int share = 1; share <= 3; ++share) {
      std::string line = rest.substr(0, rest.find('\n'));
      rest.erase(0, line.size() + 1);
      line.replace(0, shell_word(plan.program).size(), "printf '%s\\n'");
      EXPECT_EQ(output_of(line), "batch\n" + plan.models + "\n" + plan.recipe + "\n-o\n" +
                                     plan.output + "\n--memory-budget\n5368709121\n--shard\n" +
                                     std::to_string(share) + "/3\n--jobs\n2\n");
    }
    EXPECT_EQ(rest, "MCOMPRESS_SHARES\n");
  }
}

const Datum& at(const Datum& datum, std::initializer_list<std::string_view> keys) {
  const Datum* found = &datum;
  for (const std::string_view key : keys) {
    found = found->as_list() != nullptr ? &found->as_list()->front() : found->find(key);
    if (found == nullptr) {
      ADD_FAILURE() << "no " << key;
      return datum;
    }
  }
  return *found;
}

// Kubernetes turns "$$" in arguments into "$", and would expand "$(NAME)".
std::string as_kubernetes_reads(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : ' ';
    EXPECT_FALSE(text[i] == '$' && next == '(') << text;
    if (text[i] == '$' && next == '$') ++i;
    result += text[i];
  }
  return result;
}

TEST(Kubernetes, TheManifestIsAnIndexedJob) {
  for (const std::string& name : kNames) {
    const BatchPlan plan = plan_of(name);
    const auto text = print_batch_job("kubernetes", plan);
    ASSERT_TRUE(text.ok());
    const TempFolder folder;
    ASSERT_TRUE(write_file(folder / "job.yaml", *text).ok());
    const auto job = read_datum_file(folder / "job.yaml");
    ASSERT_TRUE(job.ok()) << *text;
    EXPECT_EQ(option_text(at(*job, {"apiVersion"})), "batch/v1");
    EXPECT_EQ(option_text(at(*job, {"kind"})), "Job");
    EXPECT_EQ(option_text(at(*job, {"spec", "completionMode"})), "Indexed");
    EXPECT_EQ(option_text(at(*job, {"spec", "completions"})), "3");
    const Datum& pod = at(*job, {"spec", "template", "spec"});
    EXPECT_EQ(option_text(at(pod, {"restartPolicy"})), "Never");
    const Datum& container = at(pod, {"containers", ""});
    EXPECT_EQ(option_text(at(container, {"resources", "limits", "memory"})), "5121Mi");
    EXPECT_EQ(option_text(at(container, {"volumeMounts", "", "mountPath"})), "/data");
    EXPECT_EQ(option_text(at(container, {"volumeMounts", "", "name"})),
              option_text(at(pod, {"volumes", "", "name"})));
    // The command, as the container would run it in its second pod.
    std::string command = "JOB_COMPLETION_INDEX=1";
    for (const std::string_view list : {"command", "args"}) {
      for (const Datum& word : *at(container, {list}).as_list()) {
        std::string one = as_kubernetes_reads(*word.as_string());
        const std::string exec = "exec mcompress ";
        if (one.starts_with(exec)) one.replace(0, exec.size(), "printf '%s\\n' ");
        command += " " + shell_word(one);
      }
    }
    EXPECT_EQ(output_of(command), "batch\n" + plan.models + "\n" + plan.recipe + "\n-o\n" +
                                      plan.output +
                                      "\n--memory-budget\n5368709121\n--shard\n2/3\n"
                                      "--jobs\n2\n");
  }
}

TEST(Kubernetes, FilesHaveToLieBelowOneFolder) {
  BatchPlan plan = plan_of("a");
  plan.output = "/elsewhere/out";
  const auto text = print_batch_job("kubernetes", plan);
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, Code::kUsage);
  plan = plan_of("a");
  plan.recipe = "server-int8";
  plan.recipe_is_file = false;
  EXPECT_TRUE(print_batch_job("kubernetes", plan).ok());
}

TEST(Jobs, ALineBreakInAPathIsRefused) {
  for (const char* kind : {"slurm", "parallel", "kubernetes"}) {
    BatchPlan plan = plan_of("a");
    plan.models = "/data/zoo\n#SBATCH --array=1-9";
    EXPECT_FALSE(print_batch_job(kind, plan).ok());
  }
}

}  // namespace
}  // namespace mcompress::tools
