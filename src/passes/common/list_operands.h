// Lists of integers that nodes read: shapes, axes, sizes of pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/edit.h"
#include "mcompress/pass.h"

namespace mcompress {

// A new int64 initializer with one dimension, in a model of any IR version.
Value& add_list(PassContext& context, Graph& graph, std::string_view base_name,
                std::span<const std::int64_t> numbers);

// A Split of `source` into outputs of these sizes and names, not in the graph yet. Sizes are an
// input from opset 13 on, an attribute before.
NewNode split_of(PassContext& context, Graph& graph, Value& source, std::int64_t axis,
                 const std::vector<std::int64_t>& sizes, std::vector<std::string> output_names);

}  // namespace mcompress
