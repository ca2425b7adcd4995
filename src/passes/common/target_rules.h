// Whether the rules of a target take a node.
#pragma once

#include <string>
#include <string_view>

#include "mcompress/ir.h"
#include "mcompress/target.h"

namespace mcompress {

// The first case of the target that holds for the node, as the reason it stays float32:
// "has few input channels: slower in integers than in float32 (slow: rule Conv/few-input-channels
// of onnxruntime-cpu)". Empty: none holds.
std::string why_excepted(const Target& target, const std::vector<TargetCase>& cases,
                         const Node& node);

// "rule Conv/few-input-channels of onnxruntime-cpu".
std::string rule_name(const Target& target, std::string_view op_type, std::string_view id = {});

// Why weights of the type may not be stored for the target; empty: they may.
std::string why_not_stored(const Target& target, DataType type);

}  // namespace mcompress
