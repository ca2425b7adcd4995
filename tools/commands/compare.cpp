// compare: the error of one model against another.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "judging.h"
#include "layer_forms.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

class Compare final : public Judging {
 public:
  void declare_arguments(CLI::App& app) override {
    app.add_option("REF", reference_, "the model to compare with")->required()->type_name("");
    app.add_option("MODEL", model_, "the model that is compared")->required()->type_name("");
  }

  const Schema<JudgeOptions>& schema() const override {
    static const Schema<JudgeOptions> kSchema =
        data_schema()
            .field("outputs", &JudgeOptions::outputs, "these outputs only")
            .unit("NAME,...")
            .field("layers", &JudgeOptions::layers,
                   "the error of each layer, by itself and with all in front of it")
            .field("layer-samples", &JudgeOptions::layer_samples,
                   "samples for the layers by themselves")
            .range(0, 1e9)
            .field("top", &JudgeOptions::top, "so many layers, the worst by themselves first")
            .range(0, 1e6)
            .field("memory-budget", &JudgeOptions::memory_budget,
                   "bytes of activations held at a time, for --layers; 0: 256 MiB")
            .unit("bytes")
            .range(0, 9e15);
    return kSchema;
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start(true));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel reference, load(reference_, console));
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    MCOMPRESS_ASSIGN(const auto data, samples(*reference.model, console));
    const int threads = static_cast<int>(options_.threads);
    Judged against(*runtime, *reference.model, reference_, threads);
    Judged candidate(*runtime, *loaded.model, model_, threads);
    MCOMPRESS_ASSIGN(Session * left, against.session());
    MCOMPRESS_ASSIGN(Session * right, candidate.session());
    CompareOptions compare;
    compare.outputs = options_.outputs;
    MCOMPRESS_ASSIGN(const Comparison comparison,
                     compare_outputs(*left, *right, *data, compare, console));
    std::optional<LayerComparison> layers;
    if (options_.layers) {
      LayerOptions options;
      options.limit = options_.samples;
      options.own_limit = options_.layer_samples;
      options.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
      options.threads = threads;
      MCOMPRESS_ASSIGN(layers,
                       layer_errors(runtime, reference, *loaded.model, *data, options, console));
    }
    if (options_.json) {
      Datum map = Datum::map();
      map.set("reference", sizes(reference));
      map.set("model", sizes(loaded));
      map.set("data", Datum::string(file_name(options_.data)));
      map.set("comparison", to_datum(comparison));
      if (layers) map.set("layers", layers_datum(*layers));
      return console.print(result_json(map));
    }
    std::string text = file_name(model_) + " (" + bytes_text(loaded.size.total()) + ") against " +
                       file_name(reference_) + " (" + bytes_text(reference.size.total()) + "), " +
                       counted(static_cast<std::uint64_t>(comparison.samples), "sample") + "\n";
    text += comparison_table(comparison).text();
    for (const OutputError& output : comparison.outputs) {
      if (output.differing_non_finite > 0) {
        text += output.output + ": " + std::to_string(output.differing_non_finite) +
                " values are finite in one model only\n";
      }
      if (output.differing_shapes > 0) {
        text += output.output + ": shapes differ in " + std::to_string(output.differing_shapes) +
                " samples\n";
      }
    }
    if (layers) text += layers_text(*layers);
    return console.print(text);
  }

 private:
  std::string layers_text(const LayerComparison& comparison) const {
    std::vector<std::size_t> order(comparison.layers.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto own = [&](std::size_t i) {
      return comparison.layers[i].own_db.value_or(std::numeric_limits<double>::infinity());
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return own(a) < own(b); });
    if (order.size() > static_cast<std::size_t>(options_.top)) {
      order.resize(static_cast<std::size_t>(options_.top));
    }
    Table table;
    table.row({"#", "layer", "operator", "by itself", "accumulated", "cosine"});
    for (const std::size_t i : order) {
      const LayerError& layer = comparison.layers[i];
      table.row({std::to_string(i + 1), layer.layer, layer.op_type,
                 layer.own_db ? decibel_text(*layer.own_db) : "-",
                 decibel_text(layer.accumulated_db), decimal_text(layer.cosine, 6)});
    }
    std::string text = counted(comparison.layers.size(), "layer") +
                       ", the worst by themselves first (" +
                       counted(static_cast<std::uint64_t>(comparison.own_samples), "sample") +
                       ")\n" + table.text();
    const auto name = [&](std::size_t i) {
      return std::to_string(i + 1) + " '" + comparison.layers[i].layer + "'";
    };
    text += comparison.first_differing
                ? "the error first appears at layer " + name(*comparison.first_differing) + "\n"
                : "no layer differs\n";
    std::map<std::string, std::uint64_t> reasons;
    for (const LayerError& layer : comparison.layers) {
      if (!layer.own_db) ++reasons[layer.why_no_own];
    }
    for (const auto& [reason, count] : reasons) {
      text += counted(count, "layer") + " not by itself: " + reason + "\n";
    }
    if (comparison.differing_shapes > 0) {
      text += counted(static_cast<std::uint64_t>(comparison.differing_shapes), "value") +
              " left out: the shapes differ\n";
    }
    return text;
  }

  static Datum layers_datum(const LayerComparison& comparison) {
    Datum map = Datum::map();
    map.set("samples", Datum::integer(comparison.samples));
    map.set("own_samples", Datum::integer(comparison.own_samples));
    const auto index = [&map](std::string_view key, const std::optional<std::size_t>& value) {
      if (value) map.set(key, Datum::integer(static_cast<std::int64_t>(*value)));
    };
    index("first_differing", comparison.first_differing);
    index("worst_own", comparison.worst_own);
    map.set("differing_shapes", Datum::integer(comparison.differing_shapes));
    Datum list = Datum::list();
    for (const LayerError& layer : comparison.layers) {
      Datum entry = Datum::map();
      entry.set("value", Datum::string(layer.value));
      entry.set("layer", Datum::string(layer.layer));
      entry.set("op_type", Datum::string(layer.op_type));
      entry.set("accumulated_db", Datum::real(layer.accumulated_db));
      if (layer.own_db) {
        entry.set("own_db", Datum::real(*layer.own_db));
      } else {
        entry.set("why_no_own", Datum::string(layer.why_no_own));
      }
      entry.set("cosine", Datum::real(layer.cosine));
      entry.set("max_abs_error", Datum::real(layer.max_abs_error));
      entry.set("nodes", Datum::integer(layer.nodes));
      list.push(std::move(entry));
    }
    map.set("list", std::move(list));
    return map;
  }

  static Datum sizes(const LoadedModel& model) {
    Datum map = Datum::map();
    map.set("file", Datum::string(file_name(model.path)));
    map.set("bytes", Datum::integer(static_cast<std::int64_t>(model.size.total())));
    return map;
  }

  std::string reference_, model_;
};

}  // namespace

std::unique_ptr<Command> make_compare() { return std::make_unique<Compare>(); }

}  // namespace mcompress::tools
