// eval: accuracy on labelled data, agreement with a reference.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "judging.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

class Eval final : public Judging {
 public:
  void declare_arguments(CLI::App& app) override {
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
  }

  const Schema<JudgeOptions>& schema() const override {
    static const Schema<JudgeOptions> kSchema =
        data_schema()
            .field("against", &JudgeOptions::against,
                   "judge this model too, and how often both agree")
            .unit("REF")
            .field(
                "metric", &JudgeOptions::metric,
                "auto: what the labels suggest; without labels, perplexity for a decoder of tokens")
            .choices({"auto", "top1", "topk", "text", "agreement", "mask", "perplexity",
                      "retrieval", "generation", "detections"})
            .field("context-tokens", &JudgeOptions::context_tokens,
                   "for --metric perplexity: so many tokens of each sequence are context alone")
            .range(0, 1e9)
            .field("tokens", &JudgeOptions::tokens, "for --metric generation: so many per prompt")
            .range(1, 1e6)
            .field("k", &JudgeOptions::k, "for --metric topk")
            .range(1, 1e6)
            .field("characters", &JudgeOptions::characters,
                   "class list of a text recogniser, one per line")
            .unit("FILE")
            .field("output-name", &JudgeOptions::output_name,
                   "the output to judge; the first float output when not given")
            .unit("NAME")
            .field("boxes", &JudgeOptions::boxes,
                   "output with the boxes, for --metric detections; found by its shape")
            .unit("NAME")
            .field("scores", &JudgeOptions::scores, "output with the scores of the boxes")
            .unit("NAME")
            .field("classes", &JudgeOptions::classes, "output with the classes of the boxes")
            .unit("NAME")
            .field("box-form", &JudgeOptions::box_form,
                   "corners: x1 y1 x2 y2; centre: x y width height; auto: by the outputs' shapes")
            .choices({"auto", "corners", "centre"})
            .field("min-score", &JudgeOptions::min_score, "of a detection that counts")
            .range(0, 1)
            .field("background", &JudgeOptions::background, "the class that is no object; -1: none")
            .range(-1, 1e9)
            .field("top", &JudgeOptions::top, "so many classes, those that lost most first")
            .range(0, 1e6);
    return kSchema;
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start(true));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(JudgedPair pair, open_models(*runtime, model_, options_.against, console));
    Judged& candidate = *pair.candidate;
    Judged* const against = pair.other();
    MCOMPRESS_ASSIGN(const auto data, samples(*pair.loaded.model, console));
    if (options_.metric == "detections") {
      return detections(against, candidate, *data, console);
    }
    const EvalSettings settings{options_.metric, options_.characters, options_.output_name,
                                options_.k,      options_.pad_id,     options_.context_tokens,
                                options_.tokens};
    MCOMPRESS_ASSIGN(const Quality quality,
                     judge_quality(against, candidate, *data, settings, console));
    if (options_.json) {
      Datum map = Datum::map();
      map.set("model", Datum::string(file_name(model_)));
      map.set("data", Datum::string(file_name(options_.data)));
      map.set("result", to_datum(quality.candidate, true));
      if (quality.reference) {
        map.set("reference", to_datum(*quality.reference, true));
        const auto found = disparity_of(*quality.reference, quality.candidate);
        if (found) map.set("classes", to_datum(*found));
      }
      return console.print(result_json(map));
    }
    return console.print(text(quality));
  }

 private:
  Status detections(Judged* against, Judged& candidate, DataSource& data, Console& console) const {
    if (against == nullptr) {
      return Error(Code::kUsage, "no-reference", "detections are compared with a reference's",
                   {{}, "--metric detections", {}}, "give --against REF");
    }
    DetectionOptions options;
    options.boxes = options_.boxes;
    options.scores = options_.scores;
    options.classes = options_.classes;
    options.min_score = options_.min_score;
    if (options_.box_form == "corners") options.form = DetectionOptions::BoxForm::kCorners;
    if (options_.box_form == "centre") options.form = DetectionOptions::BoxForm::kCentre;
    if (options_.background >= 0) options.background = options_.background;
    MCOMPRESS_ASSIGN(Session * left, against->session());
    MCOMPRESS_ASSIGN(Session * right, candidate.session());
    MCOMPRESS_ASSIGN(const DetectionAgreement found,
                     detection_agreement(*left, *right, data, options, console));
    if (options_.json) {
      Datum map = Datum::map();
      map.set("model", Datum::string(file_name(model_)));
      map.set("data", Datum::string(file_name(options_.data)));
      Datum result = Datum::map();
      result.set("metric", Datum::string("detections"));
      result.set("value", Datum::real(found.f1));
      result.set("precision", Datum::real(found.precision));
      result.set("recall", Datum::real(found.recall));
      result.set("mean_overlap", Datum::real(found.mean_overlap));
      result.set("mean_score_change", Datum::real(found.mean_score_change));
      result.set("samples", Datum::integer(found.samples));
      result.set("in_reference", Datum::integer(found.in_reference));
      result.set("in_model", Datum::integer(found.in_candidate));
      result.set("matched", Datum::integer(found.matched));
      result.set("boxes", Datum::string(found.boxes));
      result.set("scores", Datum::string(found.scores));
      result.set("classes", Datum::string(found.classes));
      map.set("result", std::move(result));
      return console.print(result_json(map));
    }
    std::string text = "detections F1 " + percent_text(found.f1) + " (precision " +
                       percent_text(found.precision) + ", recall " + percent_text(found.recall) +
                       "), " + counted(static_cast<std::uint64_t>(found.samples), "sample") + "\n";
    text += std::to_string(found.matched) + " matched of " + std::to_string(found.in_reference) +
            " in " + file_name(options_.against) + " and " + std::to_string(found.in_candidate) +
            " in " + file_name(model_) + ", mean overlap " + decimal_text(found.mean_overlap, 4) +
            ", mean score change " + decimal_text(found.mean_score_change, 4) + "\n";
    return console.print(text);
  }

  std::string text(const Quality& quality) const {
    const Evaluation& result = quality.candidate;
    std::string text = std::string(metric_name(result.metric)) + " " + value_text(result);
    if (!is_share(result.metric)) {
      text += " (" + counted(static_cast<std::uint64_t>(result.decisions), "token") + ")";
    } else if (result.decisions > 0) {
      text += " (" + grouped(static_cast<std::uint64_t>(result.correct)) + " of " +
              grouped(static_cast<std::uint64_t>(result.decisions)) + ")";
    }
    text += ", " + counted(static_cast<std::uint64_t>(result.samples), "sample") + "\n";
    if (result.top5) text += "top5 " + percent_text(*result.top5) + "\n";
    if (result.character_error_rate) {
      text += "character errors " + percent_text(*result.character_error_rate) + "\n";
    }
    if (quality.reference) {
      text += file_name(options_.against) + ": " + value_text(*quality.reference) +
              ", difference " + change_text(*quality.reference, result) + "\n";
    }
    if (result.agreement && result.metric != Metric::kAgreement) {
      text += "agreement " + percent_text(*result.agreement) + "\n";
    }
    text += figures_text(result);
    if (result.sqnr_db) text += "SQNR " + decibel_text(*result.sqnr_db) + "\n";
    if (quality.reference) text += losses(*quality.reference, result);
    if (quality.reference == std::nullopt && !result.classes.empty()) text += weakest(result);
    return text + confusions(result);
  }

  static double accuracy(const ClassScore& score) {
    return score.count > 0 ? static_cast<double>(score.correct) / static_cast<double>(score.count)
                           : 0;
  }

  std::string losses(const Evaluation& before, const Evaluation& after) const {
    const std::optional<Disparity> found = disparity_of(before, after);
    if (!found) return {};
    const auto points = [](double share) {
      return (share >= 0 ? "+" : "") + decimal_text(share * 100, 2) + " points";
    };
    std::string text = "classes: " + points(found->mean_change) + " on average, disparity " +
                       decimal_text(found->disparity * 100, 2) + " points, worst class " +
                       percent_text(found->worst_before) + " -> " +
                       percent_text(found->worst_after) + "\n";
    Table table;
    table.row({"class", "of", "before", "after", ""});
    std::int64_t left = options_.top;
    for (const ClassChange& change : found->classes) {
      if (left-- <= 0) break;
      table.row({std::to_string(change.label), std::to_string(change.count),
                 percent_text(change.before), percent_text(change.after),
                 points(change.after - change.before)});
    }
    return text + table.text();
  }

  std::string weakest(const Evaluation& result) const {
    std::vector<ClassScore> classes = result.classes;
    std::stable_sort(classes.begin(), classes.end(), [](const ClassScore& a, const ClassScore& b) {
      return accuracy(a) < accuracy(b);
    });
    Table table;
    table.row({"class", "right", "of", ""});
    std::int64_t left = options_.top;
    for (const ClassScore& score : classes) {
      if (left-- <= 0) break;
      table.row({std::to_string(score.label), std::to_string(score.correct),
                 std::to_string(score.count), percent_text(accuracy(score))});
    }
    return table.text();
  }

  // The most frequent mistakes.
  std::string confusions(const Evaluation& result) const {
    if (result.confusion.empty() || result.classes.size() < 2) return {};
    std::vector<std::pair<std::int64_t, std::pair<std::int64_t, std::int64_t>>> order;
    for (const auto& [pair, count] : result.confusion) order.emplace_back(-count, pair);
    std::sort(order.begin(), order.end());
    Table table;
    table.row({"class", "taken for", "times"});
    std::int64_t left = std::min<std::int64_t>(options_.top, 10);
    for (const auto& [count, pair] : order) {
      if (left-- <= 0) break;
      table.row({std::to_string(pair.first), std::to_string(pair.second), std::to_string(-count)});
    }
    return table.text();
  }

  std::string model_;
};

}  // namespace

std::unique_ptr<Command> make_eval() { return std::make_unique<Eval>(); }

}  // namespace mcompress::tools
