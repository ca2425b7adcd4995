#include "batch/batch_print.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "mcompress/host.h"
#include "mcompress/version.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

// Whole MiB, rounded up.
std::int64_t mebibytes(std::int64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

std::vector<std::string> words_of(const BatchPlan& plan) {
  std::vector<std::string> words = {"batch", plan.models, plan.recipe, "-o", plan.output};
  if (plan.memory_budget > 0) {
    words.insert(words.end(), {"--memory-budget", std::to_string(plan.memory_budget)});
  }
  return words;
}

std::string command(const BatchPlan& plan) {
  std::string text = shell_word(plan.program);
  for (const std::string& word : words_of(plan)) text += " " + shell_word(word);
  return text;
}

std::string slurm(const BatchPlan& plan) {
  const std::string shares = std::to_string(plan.shares);
  std::string text =
      "#!/bin/bash\n"
      "# A task of the array for each share. When all have ended, also after a failure:\n"
      "#   " +
      command(plan) +
      " --merge\n"
      "# Submitting it again does what is missing.\n"
      "#SBATCH --job-name=mcompress\n"
      "#SBATCH --array=1-" +
      shares +
      "\n"
      "#SBATCH --ntasks=1\n"
      "#SBATCH --cpus-per-task=" +
      std::to_string(std::max<std::int64_t>(plan.jobs, 1)) + "\n";
  if (plan.memory_budget > 0) {
    text += "#SBATCH --mem=" + std::to_string(mebibytes(plan.memory_budget)) + "M\n";
  }
  return text + "exec " + command(plan) + " --shard \"$SLURM_ARRAY_TASK_ID/" + shares +
         "\" --jobs \"${SLURM_CPUS_PER_TASK:-1}\"\n";
}

// Whole command lines on standard input: parallel leaves what is in them alone.
std::string parallel(const BatchPlan& plan) {
  std::string text = "#!/bin/sh\n# A line for each share. Afterwards: " + command(plan) +
                     " --merge\nparallel <<'MCOMPRESS_SHARES'\n";
  for (std::int64_t share = 1; share <= plan.shares; ++share) {
    text += command(plan) + " --shard " + std::to_string(share) + "/" +
            std::to_string(plan.shares) + " --jobs " +
            std::to_string(std::max<std::int64_t>(plan.jobs, 1)) + "\n";
  }
  return text + "MCOMPRESS_SHARES\n";
}

// The deepest folder all of them are in.
std::string common_folder(const std::vector<std::string>& paths) {
  fs::path common = fs::path(paths.front());
  for (const std::string& path : paths) {
    fs::path shared;
    const fs::path other(path);
    auto a = common.begin(), b = other.begin();
    for (; a != common.end() && b != other.end() && *a == *b; ++a, ++b) shared /= *a;
    common = shared;
  }
  return common.string();
}

// JSON is YAML, and says what a text is beyond doubt. "$(NAME)" in arguments is Kubernetes' own:
// a doubled dollar is one.
std::string yaml_text(std::string_view text) { return json_line(Datum::string(text)); }
std::string argument_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped += c == '$' ? std::string("$$") : std::string(1, c);
  return yaml_text(escaped);
}

Result<std::string> kubernetes(const BatchPlan& plan) {
  const std::size_t special = plan.models.find_first_of("*?[");
  const std::string fixed = plan.models.substr(0, special);
  // The folder of a file or of a pattern; the folder itself.
  std::error_code error;
  std::vector<std::string> paths = {
      fs::is_directory(fixed, error) ? fixed : fs::path(fixed).parent_path().string(), plan.output};
  if (plan.recipe_is_file) paths.push_back(fs::path(plan.recipe).parent_path().string());
  const std::string mount = common_folder(paths);
  if (mount.size() < 2) {
    return Error(Code::kUsage, "no-common-folder",
                 "models, recipe and results lie in no folder that could be mounted",
                 {plan.output, {}, {}}, "put them below one folder that is not /");
  }
  const std::string shares = std::to_string(plan.shares);
  const std::int64_t jobs = std::max<std::int64_t>(plan.jobs, 1);
  std::string text =
      "# A pod for each share. The image and the claim that holds the files are yours to name.\n"
      "# When the Job has ended: " +
      command(plan) +
      " --merge\n"
      "apiVersion: batch/v1\n"
      "kind: Job\n"
      "metadata:\n"
      "  name: mcompress-batch\n"
      "spec:\n"
      "  completionMode: Indexed\n"
      "  completions: " +
      shares + "\n  parallelism: " + shares +
      "\n"
      "  backoffLimit: " +
      shares +
      "\n"
      "  template:\n"
      "    spec:\n"
      "      restartPolicy: Never\n"
      "      containers:\n"
      "        - name: mcompress\n"
      "          image: " +
      yaml_text("mcompress:" + std::string(kVersion)) +
      "\n"
      "          command:\n"
      "            - /bin/sh\n"
      "            - -c\n"
      // Indexes begin at 0, shares at 1.
      "            - " +
      yaml_text("exec mcompress \"$@\" --shard \"`expr $JOB_COMPLETION_INDEX + 1`/" + shares +
                "\" --jobs " + std::to_string(jobs)) +
      "\n"
      "            - mcompress\n"
      "          args:\n";
  for (const std::string& word : words_of(plan))
    text += "            - " + argument_text(word) + "\n";
  text += "          resources:\n            requests:\n              cpu: " +
          yaml_text(std::to_string(jobs)) + "\n";
  if (plan.memory_budget > 0) {
    const std::string memory = yaml_text(std::to_string(mebibytes(plan.memory_budget)) + "Mi");
    text += "              memory: " + memory +
            "\n            limits:\n              memory: " + memory + "\n";
  }
  return text + "          volumeMounts:\n            - name: files\n              mountPath: " +
         yaml_text(mount) +
         "\n      volumes:\n        - name: files\n          persistentVolumeClaim:\n"
         "            claimName: mcompress\n";
}

}  // namespace

std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_./:,+@%=").find(c) != std::string_view::npos;
  });
  if (plain) return text;
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

Result<std::string> print_batch_job(const std::string& kind, const BatchPlan& plan) {
  for (const std::string* path : {&plan.program, &plan.models, &plan.recipe, &plan.output}) {
    // Comments and parallel's lines end at a line break.
    if (path->find_first_of("\n\r") == std::string::npos) continue;
    return Error(Code::kUsage, "path-with-line-break",
                 "a path with a line break can not stand in a job", {*path, {}, {}});
  }
  if (kind == "slurm") return slurm(plan);
  if (kind == "parallel") return parallel(plan);
  return kubernetes(plan);
}

}  // namespace mcompress::tools
