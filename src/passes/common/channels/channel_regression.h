// Products fitted to what they made before channels went.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "mcompress/pass.h"
#include "passes/common/channels/channel_cut.h"

namespace mcompress {

struct ChannelRepairOptions {
  std::int64_t samples = 256;
  std::int64_t levels = 12;  // parts of the network, each fitted to what the parts before it make
  double damping = 1e-3;
  // Products, by the names of their results, that are fitted although they lost no input where
  // something is added to what they make, so that the sum is what it was.
  std::set<std::string, std::less<>> before_sums;
  Editor* editor = nullptr;  // of `model`; null: the context's
};

struct ChannelRepair {
  std::int64_t layers = 0;
  std::int64_t left = 0;  // what they read was not seen, or could not be solved for
  double error_before = 0, error_after = 0;  // means over the layers, as shares of energy
};

// Fits each Conv (one group), Gemm and MatMul with a constant matrix that lost inputs, and what an
// LSTM, GRU or RNN multiplies such inputs by (not what it multiplies its state by): its weights
// and, where it has or can have one, its bias; where a residual is added to what it makes, to the
// sum. `dense`: the model before any cut, whose values have the
// same names; `kept`: what is left of its constants. Fails as the data and the runtime do.
Result<ChannelRepair> repair_channels(const Model& dense, Model& model, const KeptByName& kept,
                                      const ChannelRepairOptions& options, PassContext& context);

}  // namespace mcompress
