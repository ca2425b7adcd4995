#include "ir/prefix.h"

#include <string_view>
#include <unordered_set>
#include <vector>

#include "ir/sweep.h"
#include "ir/walk.h"
#include "mcompress/edit.h"

namespace mcompress {
namespace {

// Everything a node reads, in its bodies too.
template <class Visit>
void for_each_read(const Node& node, const Visit& visit) {
  for (const Value* input : node.inputs()) {
    if (input != nullptr) visit(*input);
  }
  for (const Graph* body : node.bodies()) {
    for (const Value* output : body->outputs()) visit(*output);
    for (const Node* inner : body->nodes()) for_each_read(*inner, visit);
  }
}

}  // namespace

std::unique_ptr<Model> prefix_of(const Model& model, std::span<const std::string> names) {
  std::unique_ptr<Model> copy = model.clone();
  Graph& graph = copy->graph();
  const std::unordered_set<std::string_view> wanted(names.begin(), names.end());
  std::unordered_set<const Node*> needed;
  std::vector<const Node*> open;
  Value* last = nullptr;
  for (Node* node : graph.nodes()) {
    for (Value* output : node->outputs()) {
      if (output == nullptr || !wanted.contains(output->name())) continue;
      if (needed.insert(node).second) open.push_back(node);
      last = output;
    }
  }
  if (last == nullptr) return copy;
  while (!open.empty()) {
    const Node* const node = open.back();
    open.pop_back();
    for_each_read(*node, [&](const Value& value) {
      const Node* const maker = value.producer();
      if (maker != nullptr && &value.graph() == &graph && needed.insert(maker).second) {
        open.push_back(maker);
      }
    });
  }
  Editor editor(*copy);
  std::size_t kept = 0;
  for (std::size_t slot = graph.outputs().size(); slot-- > 0;) {
    const Value* const output = graph.outputs()[slot];
    if (output->producer() != nullptr && needed.contains(output->producer())) {
      ++kept;
    } else {
      editor.erase_output(graph, slot);
    }
  }
  if (kept == 0) editor.add_output(graph, *last);
  const std::vector<Node*> nodes = graph.nodes();
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    if (needed.contains(*node)) continue;
    // Its readers are gone already: what needs none of the values feeds none of them.
    if (!editor.erase(**node).ok()) return model.clone();
  }
  std::vector<Value*> unread;
  for (Value* value : graph.initializers()) {
    if (value->uses().empty() && !value->is_graph_input()) unread.push_back(value);
  }
  if (!erase_initializers(editor, unread).ok()) return model.clone();
  return copy;
}

}  // namespace mcompress
