#include "passes/common/fusion/batch_norm.h"

#include <array>

#include "ir/facts.h"
#include "numeric/fold.h"

namespace mcompress {

BatchNormStep batch_norm_step(const Node& node) {
  BatchNormStep step;
  const auto refuse = [&](std::string why) {
    step.why_not = std::move(why);
    return step;
  };
  // Before opset 7 an attribute told inference from training, whose default is training.
  constexpr std::int64_t kInferenceByDefault = 7;
  const bool training = node.graph().model().opset("") < kInferenceByDefault
                            ? node.int_attribute("is_test", 0) == 0
                            : node.int_attribute("training_mode", 0) != 0;
  if (training) return refuse("it is in training mode");
  for (std::size_t i = 1; i < node.outputs().size(); ++i) {
    if (node.output(i) != nullptr) return refuse("it has training outputs");
  }
  if (node.int_attribute("spatial", 1) == 0) return refuse("it is per element");
  std::array<std::vector<float>, 4> parameters;  // scale, bias, mean, variance
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto data = constant_of(node.input(i + 1));
    if (!data) {
      const Value* value = node.input(i + 1);
      return refuse("its parameter '" + std::string(value != nullptr ? value->name() : "") +
                    "' is no constant");
    }
    auto values = read_floats(*data);
    if (!values.ok()) return refuse(values.error().diagnostic.message);
    parameters[i] = std::move(*values);
  }
  step.a.resize(parameters[0].size());
  step.c.resize(parameters[0].size());
  const BatchNormParameters statistics{parameters[0], parameters[1], parameters[2], parameters[3],
                                       static_cast<double>(node.float_attribute("epsilon", 1e-5f))};
  if (FoldFailure failure = batch_norm_affine(statistics, step.a, step.c)) {
    return refuse(std::move(*failure));
  }
  return step;
}

}  // namespace mcompress
