// spoil_model IN OUT KIND NUMBER: a model with one mistake in it, for the tests of `gate`.
//   scale N    the scale of the weight of the Nth DequantizeLinear with one is 10 % too large
//   gain N     and that of the bias beside it: the whole layer is 10 % too large
//   class N    class N of the first output is 1000 lower, and is never decided for
//   bytes P    tensors that nobody reads make the file P percent larger
//   weights    prints how many N there are for `scale`
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "mcompress/edit.h"
#include "mcompress/io.h"

namespace mcompress::testing {
namespace {

std::vector<Node*> weight_nodes(Graph& graph) {
  std::vector<Node*> nodes;
  for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    if (!node->is("DequantizeLinear")) continue;
    const Tensor* weight = node->input(0)->constant();
    if (weight != nullptr && weight->dims().size() >= 2 && node->input(1)->constant() != nullptr) {
      nodes.push_back(node);
    }
  }
  return nodes;
}

// A new tensor: others may read the old one.
bool enlarge_scale(Editor& editor, Node& node) {
  const Tensor* scale = node.is("DequantizeLinear") ? node.input(1)->constant() : nullptr;
  if (scale == nullptr) return false;
  auto values = read_floats(*scale);
  if (!values.ok()) return false;
  for (float& value : *values) value *= 1.1F;
  Tensor larger = make_float_tensor(*values, {scale->dims().begin(), scale->dims().end()});
  Graph& graph = editor.model().graph();
  Value& old = *node.input(1);
  editor.set_input(node, 1, &editor.add_initializer(graph, "spoilt", std::move(larger)));
  return !old.uses().empty() || editor.erase_initializer(old).ok();
}

bool spoil_scale(Model& model, std::size_t number, bool bias_too) {
  Editor editor(model, &onnx_catalog());
  const std::vector<Node*> nodes = weight_nodes(model.graph());
  if (number >= nodes.size() || !enlarge_scale(editor, *nodes[number])) return false;
  if (!bias_too) return true;
  for (const Use& use : nodes[number]->output(0)->uses()) {
    Value* bias =
        use.node != nullptr && use.node->inputs().size() > 2 ? use.node->input(2) : nullptr;
    Node* maker = bias != nullptr ? bias->producer() : nullptr;
    if (maker != nullptr && !enlarge_scale(editor, *maker)) return false;
  }
  return true;
}

bool spoil_class(Model& model, std::size_t number) {
  Editor editor(model, &onnx_catalog());
  Graph& graph = model.graph();
  Value& output = *graph.outputs()[0];
  const TypeInfo* type = output.type();
  if (type == nullptr || !type->shape || type->shape->empty() || !type->shape->back().size) {
    return false;
  }
  std::vector<float> less(static_cast<std::size_t>(*type->shape->back().size), 0.0F);
  if (number >= less.size()) return false;
  less[number] = -1000.0F;
  const auto width = static_cast<std::int64_t>(less.size());
  Value& bias = editor.add_initializer(graph, "spoilt", make_float_tensor(less, {width}));
  Node& add = editor.append(graph, {.op_type = "Add", .inputs = {&output, &bias}});
  Value& sum = *add.output(0);
  editor.set_type(sum, *type, true);
  if (!editor.replace_all(output, sum).ok()) return false;
  editor.set_input(add, 0, &output);
  return true;
}

bool spoil_bytes(Model& model, std::size_t percent) {
  const auto size = model_size_on_disk(model);
  if (!size.ok()) return false;
  std::uint64_t more = size->total() * percent / 100;
  Editor editor(model, &onnx_catalog());
  // In pieces that the graph itself holds: a runtime may want larger ones to be read.
  for (std::uint64_t piece = 0; more > 0; more -= piece) {
    piece = std::min<std::uint64_t>(more, 512);
    editor.add_initializer(
        model.graph(), "spoilt",
        make_bytes_tensor(DataType::kUint8, {static_cast<std::int64_t>(piece)},
                          std::vector<std::byte>(static_cast<std::size_t>(piece))));
  }
  return true;
}

int fail(const std::string& why) {
  std::cerr << why << '\n';
  return 1;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) return fail("usage: spoil_model IN OUT KIND NUMBER");
  Diagnostics diagnostics;
  auto model = load_model(arguments[0], {}, diagnostics);
  if (!model.ok()) return fail(to_string(model.error().diagnostic));
  if (arguments[1] == "weights") {
    std::cout << weight_nodes((*model)->graph()).size() << '\n';
    return 0;
  }
  if (arguments.size() != 4) return fail("usage: spoil_model IN OUT KIND NUMBER");
  const std::size_t number = std::stoul(arguments[3]);
  const std::string& kind = arguments[2];
  const bool done = kind == "scale"   ? spoil_scale(**model, number, false)
                    : kind == "gain"  ? spoil_scale(**model, number, true)
                    : kind == "class" ? spoil_class(**model, number)
                    : kind == "bytes" ? spoil_bytes(**model, number)
                                      : false;
  if (!done) return fail("no " + kind + " " + arguments[3] + " in " + arguments[0]);
  const auto saved = save_model(**model, arguments[1], {}, silent_progress());
  return saved.ok() ? 0 : fail(to_string(saved.error().diagnostic));
}

}  // namespace
}  // namespace mcompress::testing

int main(int argc, char** argv) { return mcompress::testing::run({argv + 1, argv + argc}); }
