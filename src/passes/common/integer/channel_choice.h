// Which factors per channel make the integer model most like the original: from what was seen of
// the activations and from the weights that read them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/integer/channel_scales.h"
#include "support/executor.h"

namespace mcompress {

// Of one float value, along its channel axis. Ranges come from every other sample and rows from the
// samples between, so that factors are judged on data whose largest values they do not know.
struct ChannelStats {
  std::vector<double> minimum, maximum, mean_square;  // by channel
  std::vector<float> rows;                            // some positions: [n, channels]
};
using ChannelStatsMap = std::map<std::string, ChannelStats, std::less<>>;

// Runs the model on `samples` of the calibration data, spread evenly, and looks at values of the
// top graph, named with their channel axis counted from the end. Values whose number of channels
// varies, or that are not finite, are missing from the result. Fails as the runtime and data do.
Result<ChannelStatsMap> observe_channels(
    const Model& model, PassContext& context,
    const std::vector<std::pair<std::string, std::size_t>>& values, std::int64_t samples);

// What reads channels: columns of weights.
struct ColumnReader {
  std::int64_t outputs = 0, groups = 1, taps = 1;
  std::vector<float> peaks;    // [outputs, inputs of the group]: largest |W| over the taps
  std::vector<double> energy;  // by input channel: sum of W^2 over outputs and taps
};
Result<ColumnReader> column_reader(const LinearOp& op);

struct ScaleChoice {
  std::vector<double> scales;  // empty: no factors are better
  double gain_db = 0;          // predicted, of the noise that reaches what reads
  std::string rule;            // "activations^0.5 / weights^0.5"
};
// Factors s for values that are quantized per tensor to 8 bits as x / s, read by weights that are
// quantized per output channel as s W. Candidates are
//   s_i = a_i^p / w_i^q,   a: largest magnitude or root mean square of the channel, w: largest
//   weight that reads it,
// with (p, q) from a small grid that holds SmoothQuant (p + q = 1; Xiao et al., 2023) and pure
// equalization of activations (q = 0), and, for `maker_peaks`, cross-layer equalization of weights,
// s_i = sqrt(r1_i / r2_i) (Nagel et al., 2019). Each is judged by
//   sum over quantized values of sum_i s_i^2 n_i energy_i  +  the noise of the weights,
// where n_i is the squared error of really rounding the rows seen, at the best of some ranges.
// `limits`: smallest factor per channel, 0: none; `fixed`: channels whose factor has to stay 1.
struct ChoiceInput {
  std::int64_t channels = 0;
  std::vector<const ChannelStats*> quantized;
  std::vector<ColumnReader> readers;
  std::vector<double> maker_peaks;  // largest weight per channel of what makes it, or empty
  std::vector<double> limits;       // or empty
  std::vector<bool> fixed;          // or empty
  double weight_steps = 127;        // codes on one side of zero
};
ScaleChoice choose_scales(const ChoiceInput& input, const Executor& executor);

// Largest |W| per output channel.
Result<std::vector<double>> output_peaks(const LinearOp& op);

}  // namespace mcompress
