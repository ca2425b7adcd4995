// compare: the error of one model against another.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "compress.h"
#include "judging.h"
#include "mcompress/analysis.h"
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
      MCOMPRESS_ASSIGN(layers, layer_errors(runtime, reference, *loaded.model, *data, console));
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
  // Names survive fusion with another meaning: the output of a Conv may by now be that of the
  // BatchNormalization behind it. So the model is compared with the reference as it stands and as
  // `quantize` fuses it, and the form whose values are nearer is taken.
  Result<LayerComparison> layer_errors(const std::shared_ptr<Runtime>& runtime,
                                       const LoadedModel& reference, const Model& candidate,
                                       DataSource& data, Console& console) const {
    LoadedModel fused;
    fused.path = reference.path;
    fused.model = reference.model->clone();
    const Model* best = reference.model.get();
    MCOMPRESS_ASSIGN(std::vector<ValuePair> pairs, value_pairs(*best, candidate));
    const auto layers_of = [&](const Model& form, std::span<const ValuePair> paired,
                               std::int64_t limit, std::int64_t own_limit) {
      LayerOptions options;
      options.limit = limit;
      options.own_limit = own_limit;
      options.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
      options.threads = static_cast<int>(options_.threads);
      return compare_layers(*runtime, form, candidate, paired, data, options, console);
    };
    if (prepare_for_calibration(fused, default_target().name, runtime, console).ok()) {
      MCOMPRESS_ASSIGN(std::vector<ValuePair> fused_pairs, value_pairs(*fused.model, candidate));
      const auto nearness = [&](const Model& form,
                                std::span<const ValuePair> paired) -> Result<double> {
        const std::int64_t one_run = std::max<std::int64_t>(data.fixed_batch(), 1);
        MCOMPRESS_ASSIGN(const LayerComparison found, layers_of(form, paired, one_run, 0));
        std::vector<double> all;
        for (const LayerError& layer : found.layers) all.push_back(layer.accumulated_db);
        std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2),
                         all.end());
        return all[all.size() / 2];
      };
      const auto plain = nearness(*reference.model, pairs);
      const auto other = nearness(*fused.model, fused_pairs);
      if (other.ok() && (!plain.ok() || *other > *plain)) {
        best = fused.model.get();
        pairs = std::move(fused_pairs);
      }
    }
    return layers_of(*best, pairs, options_.samples, options_.layer_samples);
  }

  static Result<std::vector<ValuePair>> value_pairs(const Model& reference,
                                                    const Model& candidate) {
    std::vector<ValuePair> pairs = shared_values(reference, candidate);
    // What other tools renamed is found by its place in the graph.
    MCOMPRESS_ASSIGN(const ModelDiff diff, diff_models(reference, candidate));
    for (const NodePair& pair : diff.pairs) {
      if (pair.before == nullptr || pair.after == nullptr ||
          pair.before->op_type() != pair.after->op_type()) {
        continue;
      }
      const std::size_t count =
          std::min(pair.before->outputs().size(), pair.after->outputs().size());
      for (std::size_t i = 0; i < count; ++i) {
        const Value *before = pair.before->output(i), *after = pair.after->output(i);
        if (before == nullptr || after == nullptr) continue;
        pairs.push_back({std::string(before->name()), std::string(after->name())});
      }
    }
    return pairs;
  }

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
