// What the linked ONNX schemas know.
#pragma once

#include "mcompress/edit.h"

namespace mcompress {

// The newest opset of the default domain that this build knows.
std::int64_t newest_opset();

}  // namespace mcompress
