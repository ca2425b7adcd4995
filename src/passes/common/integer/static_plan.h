// Which nodes run in integers, and which tensors have to be quantized for that.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/pass.h"
#include "mcompress/target.h"
#include "passes/common/selection.h"
#include "passes/common/weights.h"

namespace mcompress {

struct IntegerNode {
  Node* node = nullptr;
  OperatorRule::Kind kind = OperatorRule::Kind::kWeighted;
  // An activation behind the node that the range of its output makes redundant: Relu, or Clip
  // from 0. Its output is then the node's.
  Node* absorbed = nullptr;
  Value* output = nullptr;          // after the absorbed activation
  std::vector<std::size_t> inputs;  // slots that read activations
  Value* weight = nullptr;          // kWeighted only
  Value* bias = nullptr;            // constant or null
  WeightView layout;
  bool per_tensor = false;    // one scale for the whole weight
  bool float_output = false;  // Gemm and MatMul can leave the integers by themselves
};

struct StaticPlan {
  std::vector<IntegerNode> nodes;  // in graph order
  std::vector<Value*> tensors;     // activations to be quantized, in graph order
  // Tensors that must share scale and zero point, by value id; a tensor may stand for itself.
  std::map<std::uint32_t, std::uint32_t> same_scale;
  std::size_t eligible = 0;  // weighted nodes that were looked at

  std::uint32_t root(std::uint32_t id) const;
  const IntegerNode* producer_of(const Value& value) const;  // null: made in float
};

struct PlanOptions {
  std::set<std::uint32_t> keep_float;  // node ids
  std::map<std::uint32_t, std::string> keep_reason;
  // Sizes of the activations, for the target's cost model; null: everything that can run in
  // integers does.
  const CalibrationTable* table = nullptr;
  bool explain = true;
};

// Looks at the top graph only: activations inside bodies can not be observed from outside. Every
// weighted node left out is explained, and the rule of the target that left it out is named. With
// Target::quantize_inputs_only a node leaves in float32 unless a planned node reads its result.
StaticPlan plan_static(Graph& graph, const Target& target, const Selection& selection,
                       const PlanOptions& options, Explain& explain);

// What has to be observed for a plan: its tensors, and the means of what its weights multiply.
// `samples` 0: all.
CalibrationRequest static_calibration_request(const StaticPlan& plan, std::int64_t samples);

}  // namespace mcompress
