// Traversals.
#pragma once

#include "mcompress/ir.h"

namespace mcompress {

// Calls visit(Graph&) for `graph` and everything nested below it, outer graphs first, in node
// order. Graphs added during the walk are not promised a visit.
template <class Visit>
void for_each_graph(Graph& graph, Visit&& visit) {
  visit(graph);
  for (Node* node = graph.first(); node != nullptr;) {
    Node* next = graph.next(*node);
    for (Graph* body : node->bodies()) for_each_graph(*body, visit);
    node = next;
  }
}

// Calls visit(Node&) for every node of `graph` and below; the node visited may be erased.
template <class Visit>
void for_each_node(Graph& graph, Visit&& visit) {
  for (Node* node = graph.first(); node != nullptr;) {
    Node* next = graph.next(*node);
    for (Graph* body : node->bodies()) for_each_node(*body, visit);
    visit(*node);
    node = next;
  }
}

}  // namespace mcompress
