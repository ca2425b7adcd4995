// Notes: what exporters leave on the parts of a model for those who debug them, such as stack
// traces and the source of a node. ONNX has doc_string for them everywhere, and metadata_props from
// IR version 10 on. No runtime computes with them.
#pragma once

#include <cstdint>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// Bytes of the notes on graphs, nodes, attributes, values, tensors and functions. What stands at
// the model itself (its doc_string and metadata_props, in which class lists and licences are) does
// not count. SaveOptions::strip_notes leaves them out.
Result<std::uint64_t> note_bytes(const Model& model);

}  // namespace mcompress
