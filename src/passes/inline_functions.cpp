// Writes out calls of model-local functions where they stand, so that other passes reach what is
// in them, the weights too:
//
//   y = f<k = 2>(x)   with   f (a) => (b) { t = Op<n = @k>(a)  b = Neg(t) }
//
//   =>  t = Op<n = 2>(x)   y = Neg(t)
//
// Runtimes do the same when they load a model.
#include <algorithm>
#include <numeric>

#include "ir/walk.h"
#include "passes/common/opset/functions.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

class InlineFunctions final : public Pass {
 public:
  struct Options {
    std::vector<std::string> functions;
    std::int64_t inline_growth = -1;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("functions", &Options::functions,
                   "only the functions of these names, with or without domain; * and ? are globs")
            .unit("NAME,...")
            .field("inline-growth", &Options::inline_growth,
                   "bytes of nodes, about, that functions with several calls may add; -1: a "
                   "sixteenth of the model's constants and 1 KiB")
            .range(-1, 1e15)
            .unit("bytes");
    return schema;
  }
  explicit InlineFunctions(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (model.functions().empty()) return ok_status();
    FunctionCalls calls(model, context);
    std::vector<bool> chosen(calls.count(), false);
    if (!options_.functions.empty()) {
      for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i] = is_named(model.functions()[i]);
    } else {
      choose(model, calls, context, chosen);
    }
    MCOMPRESS_ASSIGN(const std::int64_t written, calls.write_out(chosen));
    context.report().count("calls", written);
    return ok_status();
  }

 private:
  bool is_named(const Function& function) const {
    const std::string full_name = function.domain + "." + function.name;
    return std::ranges::any_of(options_.functions, [&](const std::string& pattern) {
      return glob_match(pattern, function.name) || glob_match(pattern, full_name);
    });
  }

  std::uint64_t allowed_growth(Model& model) const {
    if (options_.inline_growth >= 0) return static_cast<std::uint64_t>(options_.inline_growth);
    std::uint64_t constants = 0;
    const auto add = [&](const Graph& graph) {
      for (const Value* value : graph.initializers()) {
        constants += value->initializer()->byte_size();
      }
      for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
        const AttributeValue* held = node->is("Constant") ? node->attribute("value") : nullptr;
        if (held == nullptr) continue;
        if (const auto* tensor = std::get_if<Tensor>(held)) constants += tensor->byte_size();
      }
    };
    for_each_graph(model.graph(), add);
    for (const Function& function : model.functions()) for_each_graph(*function.body, add);
    constexpr std::uint64_t kShare = 16, kSmall = 1 << 10;
    return kSmall + constants / kShare;
  }

  // What costs least first.
  void choose(Model& model, const FunctionCalls& calls, PassContext& context,
              std::vector<bool>& chosen) const {
    const std::uint64_t allowed = allowed_growth(model);
    std::vector<std::size_t> order(chosen.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return calls.growth(i); });
    std::uint64_t grown = 0;
    for (const std::size_t i : order) {
      const auto growth = static_cast<std::uint64_t>(std::max<std::int64_t>(calls.growth(i), 0));
      if (growth <= allowed - std::min(grown, allowed)) {
        grown += growth;
        chosen[i] = true;
        continue;
      }
      Decision decision;
      decision.subject = model.functions()[i].name;
      decision.why = "its " + std::to_string(calls.calls(i)) + " calls would add about " +
                     std::to_string(growth) + " bytes of nodes, more than --inline-growth allows";
      context.explain().skipped(std::move(decision));
    }
  }

  Options options_;
};

}  // namespace

PassInfo inline_functions_info() {
  return pass_info<InlineFunctions>("inline-functions",
                                    "write out calls of model-local functions in place",
                                    Reach::kNestedGraphs, true, {});
}

}  // namespace mcompress
