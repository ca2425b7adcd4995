#include "passes/common/list_operands.h"

#include <utility>

#include "passes/common/rewrite.h"

namespace mcompress {

Value& add_list(PassContext& context, Graph& graph, std::string_view base_name,
                std::span<const std::int64_t> numbers) {
  return add_constant(context, graph, base_name,
                      make_int64_tensor(numbers, {static_cast<std::int64_t>(numbers.size())}));
}

NewNode split_of(PassContext& context, Graph& graph, Value& source, std::int64_t axis,
                 const std::vector<std::int64_t>& sizes, std::vector<std::string> output_names) {
  constexpr std::int64_t kSizesAreInput = 13;
  NewNode spec{.op_type = "Split", .inputs = {&source}, .outputs = sizes.size()};
  spec.base_name = std::string(source.name()) + "_split";
  spec.attributes.push_back(attribute("axis", axis));
  spec.output_names = std::move(output_names);
  if (graph.model().opset("") >= kSizesAreInput) {
    spec.inputs.push_back(&add_list(context, graph, spec.base_name + "_sizes", sizes));
  } else {
    spec.attributes.push_back(attribute("split", sizes));
  }
  return spec;
}

}  // namespace mcompress
