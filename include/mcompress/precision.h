// Which layers run in integers: what has to hold for the choice, and what each layer alone does to
// the model's outputs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/forwarding_data.h"
#include "mcompress/ir.h"
#include "mcompress/pipeline.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// What layers are ranked by, at the model's outputs.
enum class EffectMetric : std::uint8_t {
  kSqnr,       // signal to quantization noise ratio of the worst float output
  kKl,         // mean Kullback-Leibler divergence of the rows of the first float output
  kAgreement,  // share of these rows whose highest value stays the highest
};

// One layer alone in integers, or a group of nodes that can only change together.
struct LayerEffect {
  std::string pattern;  // that `exclude` accepts and no other node matches; empty: there is none
  std::string name;     // for people: the node's name, else "Conv node that makes 'x'"
  std::string op_type;
  std::vector<std::string> members;   // other nodes of the group
  double sqnr_db = 0;                 // 200: no difference
  double kl = 0;                      // nats
  double agreement = 1;               // 0 to 1
  std::optional<double> own_sqnr_db;  // of what the layer itself makes
  std::uint64_t weight_bytes = 0;     // in float32
  bool measured = true;               // else ranked by an estimate from ranges and weights
};

// Layers ranked worst first, and which of them have to stay float32.
struct LayerEffects {
  EffectMetric metric = EffectMetric::kSqnr;
  std::vector<LayerEffect> layers;
  std::int64_t samples = 0;
  std::int64_t cuts = 0;         // places from which the rest of the model was run alone
  double passes = 0;             // cost of measuring, in runs of the whole model per sample
  std::int64_t trials = 0;       // whole choices that were run to find the cut
  double quantized_sqnr_db = 0;  // everything in integers
  std::optional<double> quantized_drop;
  std::vector<std::size_t> keep;  // places in `layers`: in float32 they satisfy what was asked
  bool holds = true;              // they do; false: the best there is
  double kept_sqnr_db = 0;
  std::optional<double> kept_drop;
};

struct EffectRequest {
  EffectMetric metric = EffectMetric::kSqnr;
  std::int64_t samples = 8;
};

struct PrecisionServices {
  DataSource* data = nullptr;  // samples to judge on; null: the calibration data
  // Points (hundredths) of the metric that a candidate loses against the model before the first
  // pass, on the evaluation data; empty: there are none.
  std::function<Result<double>(Session& candidate)> drop;
  std::string drop_metric;  // "top1", for messages
  // Does to a copy of the model what follows the pass, so that what is judged is what will be
  // written; empty: nothing follows. `restored`: patterns of the layers that the choice keeps in
  // float32 and whose weights what follows has to leave alone.
  std::function<Status(Model& trial, const std::vector<std::string>& restored)> finish;
  // Set: layers that go back to float32 may have their weights stored in integers by what follows,
  // as long as that is good enough; where it is not, their patterns are left here, and the passes
  // that follow leave their weights alone. Null: weights of restored layers stay float32 always.
  std::vector<std::string>* whole = nullptr;
  // A file in which a pass that takes long keeps what it has done, and from which it goes on when
  // it was interrupted; empty: none. It changes no result.
  std::string journal;
  // The pass measures its layers, leaves the result in `effects` and changes nothing.
  const EffectRequest* measure = nullptr;
  LayerEffects* effects = nullptr;  // set together with `measure`
};

// What a choice of layers has to hold.
struct PrecisionGoal {
  double min_sqnr = 0;    // dB of the worst float output; 0: not asked for
  double max_drop = 100;  // points of PrecisionServices::drop; 100: not asked for
};

// The layers that a step of quantize-dynamic or quantize-weights quantizes in `prepared`, each run
// alone as PrecisionServices::measure asks (which must be set; the results are returned), and which
// of them would have to be excluded for `goal`. Needs a runtime, and samples:
// PrecisionServices::data or Services::calibration_data. No layer: an empty list. Fails as the pass
// and the runtime do.
Result<LayerEffects> measure_layers(const Model& prepared, const RecipeStep& step,
                                    const std::string& target, const PrecisionServices& precision,
                                    const PrecisionGoal& goal, const Services& services);

// Calibration data together with what results are judged by: the way of PrecisionServices to a
// pass.
class JudgedData final : public ForwardingData {
 public:
  JudgedData(DataSource& data, const PrecisionServices& services)
      : ForwardingData(data), services_(services) {}
  const PrecisionServices& services() const { return services_; }

 private:
  const PrecisionServices& services_;
};

}  // namespace mcompress
