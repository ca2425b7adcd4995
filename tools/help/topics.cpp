#include "help/topics.h"

#include <algorithm>
#include <array>

#include "help/schemas.h"
#include "mcompress/host.h"
#include "mcompress/target.h"
#include "recipe_files.h"

namespace mcompress::tools {
namespace {

std::string line(std::string_view name, std::string_view text, std::size_t column = 22) {
  std::string first = "  " + std::string(name);
  first.resize(std::max(first.size() + 2, column + 2), ' ');
  constexpr std::size_t kWidth = 100;
  return first + wrap_text(text, kWidth, first.size()).substr(first.size()) + "\n";
}

std::string data_text() {
  return "What --calib, --eval and --data take; names, types and shapes are checked before "
         "anything runs.\n\n" +
         line(".npz", "arrays named like the inputs, first axis = samples; labels in `labels`") +
         line("", "integer x with x_scale and x_bias is read as x * scale + bias") +
         line(".npy", "one input; token ids of a language model") +
         line("folder", "of .npy or raw files, of images, of a folder of images per class,") +
         line("", "or of ONNX test sets (test_data_set_*/input_*.pb)") +
         line(".bin .raw .dat", "little-endian elements, a sample after another (--raw)") +
         line(".txt .csv .tsv .lst", "a line per sample: a file per input, then a label") +
         "\nSeveral inputs from several places: --input NAME=PATH. Images: --preprocess "
         "resize=256,crop=224,...\nHow many: --samples N or auto. docs/data.md has the rest.\n";
}

std::string recipes_text() {
  std::string text =
      "Recipes that `mcompress run NAME MODEL -o OUT` knows by name; `--print-recipe` shows what "
      "one\ndoes to a model, `mcompress schema recipe` describes the form to editors.\n\n";
  for (const bool preset : {true, false}) {
    for (const BuiltinRecipe& recipe : builtin_recipes()) {
      if (recipe.preset != preset) continue;
      text += line(recipe.name, preset ? recipe.summary : "as the command of that name");
    }
  }
  return text +
         "\ndocs/pipelines.md describes the form of a recipe of your own, for one model or, with\n"
         "'parts', for several of one product.\n";
}

std::string targets_text() {
  std::string text = "Runtimes that --target compresses for:\n\n";
  for (const Target* target : all_targets()) text += line(target->name, target->description, 24);
  return text +
         "\n`mcompress targets NAME` shows what one executes in integers, slowly or not at all. A\n"
         "file that ends in .json or .yaml describes one of your own: `mcompress targets --check "
         "FILE`,\ndocs/targets.md.\n";
}

std::string formats_text() {
  return "What is read and written.\n\n" +
         line("model.onnx", "ONNX, weights inside or in files beside it; every command reads it") +
         line("model.mca", "an archive of `mcompress pack`; every command reads it too") +
         line("- (of -o)", "the model on standard output") +
         line("table.json",
              "calibration table of `mcompress calibrate` (docs/calibration-table.md)") +
         line("recipe.yaml, .json", "passes, options, data and gates (docs/pipelines.md)") +
         line("target.yaml, .json", "a runtime of your own (docs/targets.md)") +
         line("report.json", "what a run did (`help reports`)") +
         line("graph.dot, graph.svg", "drawings of `inspect` and `diff`") +
         "\nWeights go to a file beside the model where they were there before, or beyond 2 GB;\n"
         "--external-data always or never decides otherwise. docs/format.md has the archive's "
         "bytes.\n";
}

std::string exit_codes_text() {
  return "Exit status of every command.\n\n" + line("0", "done", 6) +
         line("1", "wrong command line or recipe", 6) +
         line("2", "an input that can not be read or is not valid", 6) +
         line("3", "not supported by this build, target or model; or nothing to do", 6) +
         line("4", "the output could not be written", 6) +
         line("5", "a gate was missed: the result is worse than was allowed", 6) +
         line("70", "a mistake of this program; please report it", 6) +
         line("130", "interrupted", 6) +
         "\nUnless the status is 0 nothing is written, and files that were there are as they "
         "were.\nOne line on standard error says why: `mcompress: error: ...`; --log-format json "
         "makes it JSON.\n";
}

std::string reports_text() {
  return "--report FILE of a command that writes a model tells what was done, as JSON; --json "
         "prints the\nsame on standard output. It lists sizes, passes in order with what each "
         "changed and left alone,\nand why; warnings; and the errors measured on data. Times are "
         "in it with --times only: the same\nwork gives the same bytes.\n\n"
         "`mcompress schema report` has its JSON Schema, docs/json.md explains the keys.\n";
}

std::string json_topic_text() {
  std::string text =
      "--json prints the result on standard output as one JSON document (batch: a line per "
      "model);\nmessages stay on standard error. JSON Schemas (draft 2020-12), by `mcompress "
      "schema "
      "NAME`:\n\n";
  std::string names;
  for (const std::string& name : schema_names()) names += (names.empty() ? "" : ", ") + name;
  return text + wrap_text(names, 96, 2) +
         "\n\nKeys are only added within a version; docs/json.md says what is promised.\n";
}

std::string batch_text() {
  return "A recipe over many models: `mcompress batch MODELS RECIPE -o FOLDER`.\n\n" +
         line("what is finished", "stands in FOLDER/.mcompress-batch and is not done again") +
         line("what changed", "model, recipe, data or program: done again") +
         line("what fails", "stops no other; the exit status is the worst one") +
         line("memory", "--memory-budget for all jobs; each one's need is estimated") +
         line("several machines", "--shard I/N does one share, --merge sums all up") +
         line("schedulers", "--print-job slurm, parallel or kubernetes with --shards N") +
         line("several recipes", "a rules file in the place of the recipe") +
         "\ndocs/pipelines.md has rules and examples.\n";
}

std::string environment_text() {
  return "Variables that are read; nothing is written to the home folder.\n\n" +
         line("NO_COLOR", "no colours on a terminal, when it is not empty") +
         line("TMPDIR", "where temporary files go that are in no output's folder") +
         "\nTemporary files of an output lie beside it and are gone after a failure or a signal.\n"
         "Shell completions: `mcompress completions bash|zsh|fish`; manual pages: `mcompress "
         "man`.\n";
}

std::string gates_text() {
  return "What a result has to satisfy, else the exit status is 5 and nothing is written.\n\n" +
         line("--max-drop X", "points of the metric on --eval data (percent of a perplexity)") +
         line("--min-sqnr X", "dB of the worst float output against the original") +
         line("max-size-ratio", "of the input's bytes; in a recipe's `gates`") +
         line("max-bytes", "of the result; in a recipe's `gates`") +
         "\nPasses that have such an option look for a choice within it first. --write-missed "
         "writes the best\nthere is all the same; the status stays 5. A result larger than the "
         "input needs --allow-larger.\n";
}

constexpr auto kTopics = std::to_array<HelpTopic>({
    {"data", "what --calib, --eval and --data take", data_text},
    {"recipes", "recipes that are built in", recipes_text},
    {"targets", "runtimes to compress for", targets_text},
    {"formats", "files that are read and written", formats_text},
    {"gates", "what a result has to satisfy", gates_text},
    {"batch", "many models, many machines, several recipes", batch_text},
    {"reports", "what was done, as a file", reports_text},
    {"json", "results for scripts, and their schemas", json_topic_text},
    {"exit-codes", "what the exit status says", exit_codes_text},
    {"environment", "variables, completions, manual pages", environment_text},
});

}  // namespace

std::span<const HelpTopic> help_topics() { return kTopics; }

const HelpTopic* find_topic(std::string_view name) {
  const auto* found = std::find_if(kTopics.begin(), kTopics.end(),
                                   [&](const HelpTopic& topic) { return topic.name == name; });
  return found == kTopics.end() ? nullptr : found;
}

std::string topics_text() {
  std::string text;
  for (const HelpTopic& topic : kTopics) text += line(topic.name, topic.summary, 16);
  return text;
}

}  // namespace mcompress::tools
