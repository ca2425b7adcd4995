#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "mcompress/evaluate.h"
#include "runtime/decisions.h"
#include "runtime/feeds.h"
#include "support/try.h"

namespace mcompress {
namespace {

struct Detection {
  std::array<double, 4> corners{};
  double score = 0;
  std::int64_t label = 0;
};

double area(const std::array<double, 4>& box) {
  return std::max(0.0, box[2] - box[0]) * std::max(0.0, box[3] - box[1]);
}

double overlap(const std::array<double, 4>& a, const std::array<double, 4>& b) {
  const std::array<double, 4> both = {std::max(a[0], b[0]), std::max(a[1], b[1]),
                                      std::min(a[2], b[2]), std::min(a[3], b[3])};
  const double shared = area(both), any = area(a) + area(b) - shared;
  return any > 0 ? shared / any : 0;
}

struct DetectionOutput {
  std::vector<std::int64_t> dims;
  std::vector<float> values;
  std::int64_t last() const { return dims.empty() ? 1 : dims.back(); }
  std::int64_t elements() const { return static_cast<std::int64_t>(values.size()); }
};

enum class Form : std::uint8_t { kSeparate, kSix, kSeven, kClassesFirst, kObjectness };

struct Layout {
  Form form = Form::kSeparate;
  std::string boxes, scores, classes;
};

Location at(std::string_view output) {
  Location where;
  where.subject = output;
  return where;
}

class Detector {
 public:
  explicit Detector(const DetectionOptions& options) : options_(options) {}

  // Settles which outputs are read, from one run of all.
  Status recognise(Session& session, std::span<const NamedTensor> feeds) {
    std::vector<std::string> names;
    for (const PortInfo& port : session.outputs()) names.push_back(port.name);
    MCOMPRESS_ASSIGN(const auto outputs, read(session, feeds, names));
    const auto index = [&](const std::string& name) {
      return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    };
    for (const std::string* name : {&options_.boxes, &options_.scores, &options_.classes}) {
      if (!name->empty()) MCOMPRESS_TRY(check_fetch(session.outputs(), {name, 1}));
    }
    layout_.boxes = options_.boxes;
    for (std::size_t i = 0; layout_.boxes.empty() && i < names.size(); ++i) {
      if (outputs[i].last() == 4 && outputs[i].dims.size() >= 2) layout_.boxes = names[i];
    }
    if (layout_.boxes.empty() && names.size() == 1) layout_.boxes = names[0];
    if (layout_.boxes.empty()) return unknown("no output ends in an axis of 4");
    const DetectionOutput& boxes = outputs[index(layout_.boxes)];
    if (boxes.last() != 4) return all_in_one(boxes);
    const std::int64_t count = boxes.elements() / 4;
    layout_.scores = options_.scores;
    layout_.classes = options_.classes;
    const auto floating = [&](std::size_t i) {
      const DTypeInfo* info = find_dtype(session.outputs()[i].type.element);
      return info != nullptr && info->floating;
    };
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == layout_.boxes) continue;
      const bool flat = outputs[i].elements() == count && outputs[i].dims == flat_dims(boxes.dims);
      const bool wide = outputs[i].dims.size() == boxes.dims.size() && outputs[i].last() > 0 &&
                        outputs[i].elements() == count * outputs[i].last();
      // Scores are fractions; numbers of classes are whole.
      const bool fractions =
          floating(i) && std::any_of(outputs[i].values.begin(), outputs[i].values.end(),
                                     [](float v) { return v != std::nearbyint(v); });
      if (layout_.scores.empty() && (wide || (flat && fractions))) {
        layout_.scores = names[i];
      } else if (layout_.classes.empty() && flat && !fractions) {
        layout_.classes = names[i];
      }
    }
    if (layout_.scores.empty()) return unknown("no output has a score for each box");
    return ok_status();
  }

  Result<std::vector<Detection>> detect(Session& session,
                                        std::span<const NamedTensor> feeds) const {
    std::vector<std::string> names;
    for (const std::string& name : {layout_.boxes, layout_.scores, layout_.classes}) {
      if (!name.empty()) names.push_back(name);
    }
    MCOMPRESS_ASSIGN(const auto outputs, read(session, feeds, names));
    std::vector<Detection> found;
    MCOMPRESS_TRY(decode(outputs, found));
    return suppress(std::move(found));
  }

  const Layout& layout() const { return layout_; }

 private:
  static Error unknown(const std::string& why) {
    return Error(Code::kUsage, "no-detections",
                 "the outputs are no detections that are known: " + why, {},
                 "name them: --boxes NAME --scores NAME [--classes NAME]");
  }

  static std::vector<std::int64_t> flat_dims(std::vector<std::int64_t> dims) {
    dims.pop_back();
    return dims;
  }

  static Result<std::vector<DetectionOutput>> read(Session& session,
                                                   std::span<const NamedTensor> feeds,
                                                   std::span<const std::string> names) {
    std::vector<DetectionOutput> outputs(names.size());
    MCOMPRESS_TRY(session.run(feeds, names, [&](std::size_t i, const TensorView& view) -> Status {
      outputs[i].dims.assign(view.dims.begin(), view.dims.end());
      MCOMPRESS_ASSIGN(outputs[i].values, view_values(view, names[i]));
      return ok_status();
    }));
    return outputs;
  }

  Status all_in_one(const DetectionOutput& output) {
    const std::size_t rank = output.dims.size();
    if (rank >= 2 && output.last() == 6) {
      layout_.form = Form::kSix;
    } else if (rank == 2 && output.last() == 7) {
      layout_.form = Form::kSeven;
    } else if (rank == 3 && output.dims[1] > 4 && output.dims[2] > output.dims[1]) {
      layout_.form = Form::kClassesFirst;
    } else if (rank == 3 && output.last() > 5) {
      layout_.form = Form::kObjectness;
    } else {
      return unknown("'" + layout_.boxes + "' has none of the known shapes");
    }
    return ok_status();
  }

  void keep(std::array<double, 4> box, bool centre, double score, std::int64_t label,
            std::vector<Detection>& found) const {
    // NaN compares false.
    if (!(score >= options_.min_score) || label == options_.background) return;
    if (options_.form != DetectionOptions::BoxForm::kAuto) {
      centre = options_.form == DetectionOptions::BoxForm::kCentre;
    }
    if (centre) {
      box = {box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2};
    }
    if (std::any_of(box.begin(), box.end(), [](double v) { return !std::isfinite(v); })) return;
    found.push_back({box, score, label});
  }

  // Class of the highest of `count` scores, `stride` apart, the background left out.
  std::pair<std::int64_t, double> best(const float* scores, std::int64_t count,
                                       std::int64_t stride) const {
    std::pair<std::int64_t, double> result{-1, -1.0};
    for (std::int64_t c = 0; c < count; ++c) {
      const double score = scores[c * stride];
      if (c != options_.background && score > result.second) result = {c, score};
    }
    return result;
  }

  Status decode(const std::vector<DetectionOutput>& outputs, std::vector<Detection>& found) const {
    const DetectionOutput& first = outputs.front();
    const float* values = first.values.data();
    const std::int64_t width = std::max<std::int64_t>(first.last(), 1);
    const auto box = [&](std::int64_t start, std::int64_t stride) {
      return std::array<double, 4>{values[start], values[start + stride],
                                   values[start + 2 * stride], values[start + 3 * stride]};
    };
    const std::int64_t rows = first.elements() / width;
    switch (layout_.form) {
      case Form::kSeparate:
        return decode_separate(outputs, found);
      case Form::kSix:
      case Form::kSeven:
        if (width != (layout_.form == Form::kSix ? 6 : 7)) return changed();
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t s = r * width;
          const bool six = layout_.form == Form::kSix;
          keep(box(six ? s : s + 1, 1), false, values[six ? s + 4 : s + 6],
               std::llround(values[s + 5]), found);
        }
        return ok_status();
      case Form::kClassesFirst: {
        if (first.dims.size() != 3 || first.dims[0] != 1 || first.dims[1] <= 4) return changed();
        for (std::int64_t n = 0; n < width; ++n) {
          const auto [label, score] = best(values + 4 * width + n, first.dims[1] - 4, width);
          keep(box(n, width), true, score, label, found);
        }
        return ok_status();
      }
      case Form::kObjectness:
        if (width <= 5) return changed();
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t s = r * width;
          const auto [label, score] = best(values + s + 5, width - 5, 1);
          keep(box(s, 1), true, score * values[s + 4], label, found);
        }
        return ok_status();
    }
    return ok_status();
  }

  Error changed() const {
    return Error(Code::kInput, "detections-shape", "the output has another shape than before",
                 at(layout_.boxes));
  }

  Status decode_separate(const std::vector<DetectionOutput>& outputs,
                         std::vector<Detection>& found) const {
    const DetectionOutput &boxes = outputs[0], &scores = outputs[1];
    const std::int64_t count = boxes.elements() / 4;
    const bool fits = boxes.elements() % 4 == 0 &&
                      (count == 0 ? scores.elements() == 0 : scores.elements() % count == 0) &&
                      (layout_.classes.empty() || outputs[2].elements() == count);
    if (!fits) {
      return Error(Code::kInput, "detections-shape",
                   std::to_string(count) + " boxes and " + std::to_string(scores.elements()) +
                       " scores do not fit together",
                   at(layout_.scores));
    }
    const std::int64_t classes = count > 0 ? scores.elements() / count : 1;
    for (std::int64_t n = 0; n < count; ++n) {
      const float* b = boxes.values.data() + 4 * n;
      const auto [label, score] = best(scores.values.data() + n * classes, classes, 1);
      const bool named = !layout_.classes.empty();
      keep({b[0], b[1], b[2], b[3]}, false,
           classes == 1 ? double{scores.values[static_cast<std::size_t>(n)]} : score,
           named ? std::llround(outputs[2].values[static_cast<std::size_t>(n)]) : label, found);
    }
    return ok_status();
  }

  std::vector<Detection> suppress(std::vector<Detection> found) const {
    std::stable_sort(found.begin(), found.end(),
                     [](const Detection& a, const Detection& b) { return a.score > b.score; });
    std::vector<Detection> kept;
    for (const Detection& one : found) {
      if (static_cast<std::int64_t>(kept.size()) >= options_.most) break;
      const bool twice = std::any_of(kept.begin(), kept.end(), [&](const Detection& other) {
        return other.label == one.label &&
               overlap(other.corners, one.corners) > options_.min_overlap;
      });
      if (!twice) kept.push_back(one);
    }
    return kept;
  }

  const DetectionOptions& options_;
  Layout layout_;
};

}  // namespace

Result<DetectionAgreement> detection_agreement(Session& reference, Session& candidate,
                                               DataSource& data, const DetectionOptions& options,
                                               Progress& progress) {
  DetectionAgreement result;
  const std::int64_t samples =
      options.limit > 0 ? std::min(options.limit, data.count()) : data.count();
  if (data.fixed_batch() > 1) {
    return Error(Code::kUnsupported, "detections-batch",
                 "detections are judged one sample at a time and the model takes " +
                     std::to_string(data.fixed_batch()));
  }
  Detector detector(options);
  double overlaps = 0, changes = 0;
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
    progress.update("evaluate", static_cast<std::uint64_t>(sample),
                    static_cast<std::uint64_t>(samples), "samples");
    MCOMPRESS_ASSIGN(const auto feeds, data.sample(sample));
    if (sample == 0) MCOMPRESS_TRY(detector.recognise(reference, feeds));
    MCOMPRESS_ASSIGN(const auto truth, detector.detect(reference, feeds));
    MCOMPRESS_ASSIGN(const auto found, detector.detect(candidate, feeds));
    std::vector<bool> taken(truth.size(), false);
    for (const Detection& one : found) {
      std::size_t match = truth.size();
      double most = options.min_overlap;
      for (std::size_t i = 0; i < truth.size(); ++i) {
        if (taken[i] || truth[i].label != one.label) continue;
        const double shared = overlap(truth[i].corners, one.corners);
        if (shared >= most && (match == truth.size() || shared > most)) {
          most = shared;
          match = i;
        }
      }
      if (match == truth.size()) continue;
      taken[match] = true;
      ++result.matched;
      overlaps += most;
      changes += one.score - truth[match].score;
    }
    result.in_reference += static_cast<std::int64_t>(truth.size());
    result.in_candidate += static_cast<std::int64_t>(found.size());
    ++result.samples;
  }
  const auto part = [&](std::int64_t whole) {
    return whole > 0 ? static_cast<double>(result.matched) / static_cast<double>(whole) : 1.0;
  };
  result.boxes = detector.layout().boxes;
  result.scores = detector.layout().scores;
  result.classes = detector.layout().classes;
  result.precision = part(result.in_candidate);
  result.recall = part(result.in_reference);
  const std::int64_t both = result.in_reference + result.in_candidate;
  result.f1 =
      both > 0 ? 2.0 * static_cast<double>(result.matched) / static_cast<double>(both) : 1.0;
  if (result.matched > 0) {
    result.mean_overlap = overlaps / static_cast<double>(result.matched);
    result.mean_score_change = changes / static_cast<double>(result.matched);
  }
  return result;
}

}  // namespace mcompress
