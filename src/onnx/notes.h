// Notes in messages; see mcompress/notes.h.
#pragma once

#include <cstdint>

#include "onnx/proto.h"

namespace mcompress {

// Bytes of the notes in a model, without those of the model itself. `strip`: takes them out.
std::uint64_t notes_of(onnx::ModelProto& proto, bool strip);

}  // namespace mcompress
