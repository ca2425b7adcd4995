#include <algorithm>

#include "compress.h"

namespace mcompress::tools {

GuardMode CompressOptions::guard_mode() const {
  if (guard == "off") return GuardMode::kOff;
  if (guard == "site") return GuardMode::kSite;
  return guard == "model" ? GuardMode::kModel : GuardMode::kAuto;
}

PipelineOptions CompressOptions::pipeline_options() const {
  PipelineOptions pipeline;
  pipeline.dump_folder = dump_passes;
  // Verifying after every pass is for those who look for the one that broke something.
  pipeline.verify = dump_passes.empty() ? VerifyLevel::kEnds : VerifyLevel::kEachPass;
  pipeline.guard = guard_mode();
  pipeline.guard_tolerance = guard_tolerance;
  return pipeline;
}

SaveOptions CompressOptions::save_options() const {
  SaveOptions save;
  if (external_data == "always") save.external = SaveOptions::External::kAlways;
  if (external_data == "never") save.external = SaveOptions::External::kNever;
  save.strip_notes = strip_notes;
  return save;
}

const Schema<CompressOptions>& CompressOptions::schema(bool data) {
  using Level = OptionSpec::Level;
  using Options = CompressOptions;
  const auto base = [] {
    Schema<Options> schema;
    schema.field("output", &Options::output, "the file to write; - is standard output")
        .unit("FILE")
        .field("report", &Options::report, "write what was done, tensor by tensor, as JSON")
        .unit("FILE")
        .field("json", &Options::json, "the same on standard output")
        .field("times", &Options::times, "put measured times into the report too")
        .field("dry-run", &Options::dry_run, "plan, print and write nothing")
        .field("allow-larger", &Options::allow_larger, "write a result larger than the input")
        .field("write-missed", &Options::write_missed,
               "where --min-sqnr or --max-drop is missed, write the best result there is; the exit "
               "status stays 5")
        .field(
            "strip-notes", &Options::strip_notes,
            "leave out doc strings and metadata of nodes, values, tensors and graphs, such as the "
            "stack traces that exporters note; those of the model itself stay")
        .field("provenance", &Options::provenance,
               "name version, recipe and calibration in the model's metadata")
        .field("verify", &Options::verify,
               "check the result, open it in the runtime and compare it on data")
        .field("guard", &Options::guard,
               "run the graph before and after what should change no result, and undo passes that "
               "do: each changed site, or the whole model; auto: the model up to 256 MiB")
        .choices({"auto", "off", "site", "model"})
        .field("guard-tolerance", &Options::guard_tolerance,
               "what floats may move by, as a share of the largest of a tensor")
        .range(0, 1)
        .level(Level::kAdvanced)
        .field("external-data", &Options::external_data,
               "weights in a file beside the model; auto: as in the input, or beyond 2 GB")
        .choices({"auto", "always", "never"})
        .level(Level::kAdvanced)
        .field("dump-passes", &Options::dump_passes, "write the graph as text after each pass")
        .unit("FOLDER")
        .level(Level::kAdvanced)
        .field("print-recipe", &Options::print_recipe,
               "print passes and options that would run, and stop")
        .field("target", &Options::target,
               "the runtime to compress for, or a file of your own that describes one")
        .unit("NAME|FILE")
        .field("seed", &Options::seed, "of what is random")
        .range(0, 9e15)
        .field("threads", &Options::threads, "of the runtime while it checks and measures")
        .range(1, 1024)
        .field("jobs", &Options::jobs,
               "runs of the model at the same time while calibrating, which change no result; "
               "0: one per processor")
        .range(0, 1024)
        .field("memory-budget", &Options::memory_budget,
               "for calibration, the choice of ranges and of layers, beside models and sessions: "
               "runs, samples, statistics; 0: 256 MiB of activations")
        .unit("bytes")
        .range(0, 9e15);
    return schema;
  };
  static const Schema<Options> kWithout = base();
  static const Schema<Options> kWith = [&base] {
    Schema<Options> schema = base();
    schema.field("calib", &Options::calib, "calibration data: " + std::string(kDataKinds))
        .unit("DATA")
        .field("samples", &Options::samples,
               "use the first N calibration samples; 0: as many as the ranges need, spread evenly; "
               "auto: twice as many each time until the ranges hardly move, which is printed")
        .unit("N|auto")
        .field("table", &Options::table, "statistics written by `mcompress calibrate`")
        .unit("FILE")
        .field("eval", &Options::eval,
               "labelled data: quality and latency before and after are measured")
        .unit("DATA")
        .field("metric", &Options::metric,
               "of --eval; auto: what the labels suggest; without labels, perplexity for a decoder "
               "of tokens")
        .choices({"auto", "top1", "topk", "text", "agreement", "mask", "perplexity", "retrieval"})
        .field("characters", &Options::characters, "class list of a text recogniser, one per line")
        .unit("FILE")
        .field("bench", &Options::bench, "measure latency before and after")
        .field("resume", &Options::resume,
               "gptq, awq: keep what is finished in this file, and go on from it after an "
               "interruption; it goes when the output is there")
        .unit("FILE");
    add_data_fields(schema);
    return schema;
  }();
  return data ? kWith : kWithout;
}

}  // namespace mcompress::tools
