#include "pass/function_run.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "ir/function_scope.h"
#include "ir/walk.h"
#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

// About the interface, the operator sets or the functions of the model; lift-constants, as bodies
// have no initializers; and operators of another domain, which runtimes find once the call is
// written out.
constexpr auto kOfTheModel = std::to_array<std::string_view>(
    {"convert-opset", "fuse-contrib", "fuse-quantized", "inline-functions", "lift-constants",
     "pin-inputs", "raise-opset"});

// What two calls know of one input.
std::optional<TypeInfo> in_common(const std::optional<TypeInfo>& left, const TypeInfo* right) {
  if (!left || right == nullptr || left->element != right->element) return std::nullopt;
  TypeInfo both = *left;
  if (!both.shape || !right->shape || both.shape->size() != right->shape->size()) {
    both.shape.reset();
    return both;
  }
  for (std::size_t i = 0; i < both.shape->size(); ++i) {
    if ((*both.shape)[i] != (*right->shape)[i]) (*both.shape)[i] = Dim();
  }
  return both;
}

bool has_own_domain(const Function& function) {
  return !function.domain.empty() && function.domain != "ai.onnx";
}

}  // namespace

struct FunctionRun::Calls {
  using Key = std::tuple<std::string_view, std::string_view, std::string_view>;

  explicit Calls(Model& model) {
    const auto functions = model.functions();
    inputs.resize(functions.size());
    std::map<Key, std::size_t> places;
    for (std::size_t i = 0; i < functions.size(); ++i) {
      const Function& function = functions[i];
      inputs[i].resize(function.body->inputs().size());
      if (has_own_domain(function)) {
        places.emplace(Key(function.domain, function.name, function.overload), i);
      }
    }
    std::vector<bool> called(functions.size(), false);
    const auto visit = [&](Node& node, bool typed) {
      if (node.domain().empty()) return;
      const auto place = places.find(Key(node.domain(), node.op_type(), node.overload()));
      if (place == places.end()) return;
      auto& known = inputs[place->second];
      for (std::size_t i = 0; i < known.size(); ++i) {
        const Value* value = typed ? node.input(i) : nullptr;
        const TypeInfo* type = value != nullptr ? value->type() : nullptr;
        if (!called[place->second] && type != nullptr) {
          known[i] = *type;
        } else {
          known[i] = in_common(known[i], type);
        }
      }
      called[place->second] = true;
    };
    for_each_node(model.graph(), [&](Node& node) { visit(node, true); });
    for (const Function& function : functions) {
      for_each_node(*function.body, [&](Node& node) { visit(node, false); });
    }
  }

  std::vector<std::vector<std::optional<TypeInfo>>> inputs;  // by function
};

FunctionRun::FunctionRun(Model& model, Editor& editor, const Recipe& recipe,
                         const PassRegistry& registry, const Services& services, Explain& explain,
                         TensorFactory& tensors, const Executor& executor)
    : model_(model),
      editor_(editor),
      recipe_(recipe),
      registry_(registry),
      explain_(explain),
      tensors_(tensors),
      executor_(executor),
      target_(*services.target),
      services_(services) {
  // A function keeps its operator sets: runtimes want them to fit the model's.
  for (NativeOperator& native : target_.natives) native.worth_raising = false;
  services_.target = &target_;
  services_.diagnostics = &unheard_;
  services_.reference = nullptr;
}

std::vector<std::size_t> FunctionRun::steps_of(const StepGroup& group) const {
  std::vector<std::size_t> steps;
  for (const std::size_t step : group.steps) {
    const PassInfo& info = *registry_.find(recipe_.steps[step].pass);
    const bool whole = std::ranges::find(kOfTheModel, info.name) != kOfTheModel.end();
    if (info.reach == Reach::kNestedGraphs && !whole) steps.push_back(step);
  }
  return steps;
}

bool FunctionRun::concerns(const StepGroup& group) const {
  return !model_.functions().empty() && !steps_of(group).empty();
}

Status FunctionRun::run(const StepGroup& group) {
  const Calls calls(model_);
  for (std::size_t i = 0; i < model_.functions().size(); ++i) {
    if (!has_own_domain(model_.functions()[i])) continue;
    MCOMPRESS_TRY(run_body(group, i, calls));
  }
  return ok_status();
}

Status FunctionRun::run_body(const StepGroup& group, std::size_t position, const Calls& calls) {
  const std::string name = model_.functions()[position].name;
  Explain explain;
  Status status = ok_status();
  {
    const Builder::FunctionScope scope(editor_, position);
    const auto inputs = model_.graph().inputs();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto& type = calls.inputs[position][i];
      if (type) editor_.set_type(*inputs[i], *type, false);
    }
    status = run_steps(group, explain);
  }
  if (!status.ok()) return std::move(status).error().at("function " + name);
  for (Decision decision : explain.all()) {
    explain_.set_pass(decision.pass);
    decision.subject = name + "/" + decision.subject;
    if (decision.applied) {
      explain_.chose(std::move(decision));
    } else {
      explain_.skipped(std::move(decision));
    }
  }
  return ok_status();
}

Status FunctionRun::run_steps(const StepGroup& group, Explain& explain) {
  const std::vector<std::size_t> steps = steps_of(group);
  Worklist worklist(steps.size());
  for (std::size_t place = 0; worklist.next(place);) {
    const RecipeStep& step = recipe_.steps[steps[place]];
    const PassInfo& info = *registry_.find(step.pass);
    if (services_.progress != nullptr && services_.progress->cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted before pass " + step.pass);
    }
    MCOMPRESS_ASSIGN(auto pass, info.create(step.options, unheard_));
    explain.set_pass(info.name);
    if (worklist.turns(place) > 0) explain.forget_skipped(info.name, 0);
    ReportScope scope;
    PassContext context(editor_, services_, explain, scope, tensors_, executor_, recipe_.seed);
    const std::uint64_t revision = model_.revision();
    Status status = pass->run(model_, context);
    if (!status.ok()) return std::move(status).error().at("pass " + step.pass);
    worklist.ran(place, group.repeat && model_.revision() != revision, info.idempotent);
    if (!group.repeat) worklist.ban(place);
  }
  return ok_status();
}

}  // namespace mcompress
