// inspect: what a model holds, computes and keeps in memory. Nothing is run unless that is asked
// for.
#include <CLI/CLI.hpp>

#include "app.h"
#include "drawing.h"
#include "groups.h"
#include "holdings.h"
#include "mcompress/evaluate.h"
#include "mcompress/host.h"
#include "models.h"
#include "try.h"
#include "workload.h"

namespace mcompress::tools {
namespace {

struct Options : DataFlags {
  bool json = false;
  bool dump = false;
  bool passes = false;
  bool measure = false;
  bool groups = false;
  std::int64_t top = 10;
  std::int64_t seed = 0;
  std::vector<std::string> input_shape;
  std::string data;
  std::string dot, svg;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema = make_schema();
    return kSchema;
  }

 private:
  static Schema<Options> make_schema() {
    Schema<Options> schema =
        Schema<Options>()
            .field("json", &Options::json, "as JSON")
            .field("dump", &Options::dump, "the whole graph as text")
            .field("top", &Options::top, "how many entries the longest lists have")
            .range(0, 1e6)
            .field("input-shape", &Options::input_shape,
                   "shape of an input that the model leaves open; may be given more than once")
            .unit("NAME:1,3,...")
            .field("passes", &Options::passes,
                   "run the passes of `optimize` on a copy, and say what each would do")
            .field("groups", &Options::groups,
                   "channels that can only be cut together: who makes and reads them, and why not; "
                   "--dot and --svg draw them")
            .field("measure", &Options::measure,
                   "run the model, and print the memory that the runtime asked for")
            .field("data", &Options::data,
                   "inputs for --measure: the first sample; made up when not given")
            .unit("DATA")
            .field("seed", &Options::seed, "of made-up inputs")
            .range(0, 9e15)
            .field("dot", &Options::dot, "write the graph for Graphviz; - is standard output")
            .unit("FILE")
            .field("svg", &Options::svg, "write the graph as a picture (needs Graphviz's `dot`)")
            .unit("FILE");
    add_data_fields(schema);
    return schema;
  }
};

class Inspect final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", path_, "ONNX model")->required()->type_name("");
    flags.add(Options::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    const DrawingFiles drawings{options_.dot, options_.svg};
    if (int{options_.json} + int{options_.dump} + int{options_.dot == "-"} > 1) {
      return Error(Code::kUsage, "two-outputs", "--json, --dump and --dot - exclude each other");
    }
    if (has_data() && !options_.measure) {
      return Error(Code::kUsage, "data-without-measure", "data are for --measure only",
                   {{}, "--data", {}});
    }
    MCOMPRESS_TRY(check_drawings(drawings));
    for (const std::string* file : {&options_.dot, &options_.svg}) {
      MCOMPRESS_TRY(check_overwrites(*file, file == &options_.dot ? "dot" : "svg", {&path_, 1}));
    }
    MCOMPRESS_ASSIGN(ShapePins pins, parse_shapes(options_.input_shape));
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(path_, console));
    if (options_.dump) return console.print(dump(*loaded.model));
    if (options_.groups) return print_groups(*loaded.model, drawings, console);
    std::vector<NamedTensor> feeds;
    if (has_data()) MCOMPRESS_TRY(read_sample(loaded, pins, feeds, console));
    MCOMPRESS_ASSIGN(Workload workload, workload_of(*loaded.model, pins, console));
    if (options_.measure) {
      if (!has_data()) {
        FeedOptions made;
        made.seed = static_cast<std::uint64_t>(options_.seed);
        MCOMPRESS_ASSIGN(feeds, make_feeds(ports_of(*workload.model), made));
      }
      MCOMPRESS_ASSIGN(
          workload.measured,
          measure(*loaded.model, feeds,
                  has_data() ? "the first of " + file_name(options_.data) : "made up"));
    }
    std::optional<std::vector<PassChances>> chances;
    if (options_.passes) {
      MCOMPRESS_ASSIGN(chances, pass_chances(*loaded.model, console));
    }
    if (drawings.any()) {
      MCOMPRESS_TRY(check_picture_size(workload.cost.nodes.size(), drawings));
      MCOMPRESS_TRY(
          write_drawings(draw_model(*workload.model, &workload.cost, {}), drawings, console));
      if (options_.dot == "-") return ok_status();
    }
    const Holdings holdings = holdings_of(*loaded.model, options_.top);
    if (options_.json) {
      Datum map = Datum::map();
      add_holdings(loaded, holdings, map);
      add_workload(workload, map);
      if (chances) map.set("passes", to_datum(*chances));
      return console.print(result_json(map));
    }
    std::string text = head_text(loaded, holdings) + "\n" + workload_text(workload, options_.top);
    if (!holdings.weights.empty()) text += "\n" + largest_text(holdings);
    text += "\n" + chances_text(holdings);
    if (chances) text += "\n" + chances_text(*chances);
    return console.print(text);
  }

 private:
  bool has_data() const { return !options_.data.empty() || !options_.input.empty(); }

  Status print_groups(const Model& model, const DrawingFiles& drawings, Console& console) const {
    MCOMPRESS_ASSIGN(const std::vector<ChannelGroup> groups, prepared_groups(model, console));
    if (drawings.any()) {
      MCOMPRESS_TRY(check_picture_size(groups.size(), drawings));
      MCOMPRESS_TRY(write_drawings(draw_groups(groups), drawings, console));
      if (options_.dot == "-") return ok_status();
    }
    if (!options_.json) return console.print(groups_text(groups));
    Datum map = Datum::map();
    map.set("groups", to_datum(groups));
    return console.print(result_json(map));
  }

  // Shapes of the sample hold for the analysis too, where none were given.
  Status read_sample(const LoadedModel& loaded, ShapePins& pins, std::vector<NamedTensor>& feeds,
                     Console& console) const {
    MCOMPRESS_ASSIGN(const auto data,
                     open_samples(options_.data, *loaded.model, options_, 0, console));
    const std::int64_t samples = std::max<std::int64_t>(data->fixed_batch(), 1);
    if (data->count() < samples) {
      return Error(Code::kInput, "too-few-samples",
                   std::to_string(data->count()) + " samples, the model wants " +
                       std::to_string(samples) + " at once",
                   {options_.data, {}, {}});
    }
    MCOMPRESS_ASSIGN(feeds, data->batch(0, samples));
    for (const NamedTensor& feed : feeds) {
      const auto dims = feed.tensor.dims();
      pins.emplace(feed.name, std::vector<std::int64_t>(dims.begin(), dims.end()));
    }
    return ok_status();
  }

  Flags* flags_ = nullptr;
  Options options_;
  std::string path_;
};

}  // namespace

std::unique_ptr<Command> make_inspect() { return std::make_unique<Inspect>(); }

}  // namespace mcompress::tools
