// Removes what no output of the model depends on: nodes whose results nobody reads, in all graphs,
// and initializers without a reader. Operators of unknown domains stay, and with them the If or
// call that they are inside of: they may have effects.
#include <algorithm>

#include "ir/sweep.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class EliminateDead final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit EliminateDead(Options) {}

  Status run(Model& model, PassContext& context) override {
    MCOMPRESS_TRY(sweep(model.graph(), context));
    context.report().count("nodes", nodes_);
    context.report().count("initializers", initializers_);
    context.report().count("bytes", static_cast<std::int64_t>(bytes_));
    return ok_status();
  }

 private:
  // Backwards, readers before what they read, and a node's bodies before what they capture: one
  // visit of each node is enough. Initializers come last.
  Status sweep(Graph& graph, PassContext& context) {
    for (Node* node = graph.last(); node != nullptr;) {
      Node* previous = graph.previous(*node);
      const bool unread = std::ranges::all_of(node->outputs(), [](const Value* value) {
        return value == nullptr || value->uses().empty();
      });
      if (may_be_erased(*node)) {
        chose(context, *node, "removed, nothing reads it");
        MCOMPRESS_TRY(context.edit().erase(*node));
        ++nodes_;
      } else {
        if (unread) {
          context.explain().skipped(*node, "nothing reads it, but an operator of domain '" +
                                               unknown_domain_in(*node).value_or("") +
                                               "' may have effects");
        }
        for (Graph* body : node->bodies()) MCOMPRESS_TRY(sweep(*body, context));
      }
      node = previous;
    }
    std::vector<Value*> unread;
    for (Value* value : graph.initializers()) {
      if (!value->uses().empty() || value->is_graph_input()) continue;
      Decision decision;
      decision.subject = value->name();
      decision.what = "removed, nothing reads it";
      decision.bytes_before = value->initializer()->byte_size();
      bytes_ += decision.bytes_before;
      ++initializers_;
      context.explain().chose(std::move(decision));
      unread.push_back(value);
    }
    return erase_initializers(context.edit(), unread);
  }

  std::int64_t nodes_ = 0, initializers_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

PassInfo eliminate_dead_info() {
  return pass_info<EliminateDead>("eliminate-dead",
                                  "remove nodes and initializers that nothing reads",
                                  Reach::kNestedGraphs, true, {});
}

}  // namespace mcompress
