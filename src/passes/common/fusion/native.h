// Whether a merged operator may stand in the model: what the target has, and the opset for it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mcompress/pass.h"

namespace mcompress {

// Makes sure that an operator of the default domain which the target runs natively can be used. A
// model of an older opset moves only where the target says that this pays, where every operator
// keeps its meaning, and where that adds fewer nodes than `saved`. Empty: it can be used; else the
// reason.
Result<std::string> admit_native(Model& model, PassContext& context, std::string_view op_type,
                                 std::int64_t saved);
// The same without moving the model.
std::string why_not_native(const Model& model, const PassContext& context,
                           std::string_view op_type);

}  // namespace mcompress
