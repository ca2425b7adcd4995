// Names, readers and shapes of what a plan decides about.
#include <algorithm>

#include "ir/facts.h"
#include "mcompress/plan_check.h"
#include "passes/common/integer/precision_units.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool reads_samples(const PassInfo& info) {
  return std::any_of(info.options.begin(), info.options.end(),
                     [](const OptionSpec& spec) { return spec.name == "samples"; });
}

}  // namespace

Result<PlanSubjects> PlanSubjects::find(const Model& model, const Recipe& recipe,
                                        const Services& services) {
  // What needs data only moves numbers about: names stay.
  Recipe cleaning = recipe;
  const auto first =
      std::find_if(cleaning.steps.begin(), cleaning.steps.end(), [](const RecipeStep& step) {
        return decides_on_tensors(step.pass) || reads_samples(*builtin_passes().find(step.pass));
      });
  cleaning.steps.erase(first, cleaning.steps.end());
  const std::unique_ptr<Model> copy = model.clone();
  Explain explain;
  MCOMPRESS_TRY(run_unheard(*copy, cleaning, services, explain));
  PlanSubjects subjects;
  std::map<std::string, int, std::less<>> names;  // how often each is used, in every role
  OnlyPatterns only;
  subjects.add(copy->graph(), names, only);
  for (auto& [name, subject] : subjects.tensors_) {
    if (names[name] == 1) subject.pattern = pattern_of_name(name);
  }
  return subjects;
}

void PlanSubjects::add(const Graph& graph, std::map<std::string, int, std::less<>>& names,
                       OnlyPatterns& only) {
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    const std::size_t order = nodes_.size();
    const std::string label = node->label();
    PlanSubject about;
    about.node = label;
    about.op_type = node->op_type();
    about.order = order << 8;
    const Value* heaviest = nullptr;
    for (std::size_t slot = 0; slot < node->inputs().size(); ++slot) {
      const Value* value = node->input(slot);
      const std::optional<Tensor> tensor = constant_of(value);
      const Tensor* held = tensor ? &*tensor : value != nullptr ? value->initializer() : nullptr;
      if (held == nullptr) continue;
      const std::string name(value->name());
      weights_[label].push_back(name);
      if (heaviest == nullptr || about.bytes < held->byte_size()) {
        heaviest = value;
        about.bytes = held->byte_size();
      }
      const auto [place, added] = tensors_.try_emplace(name);
      if (!added) continue;
      ++names[name];
      PlanSubject& subject = place->second;
      subject.tensor = name;
      subject.node = label;
      subject.op_type = node->op_type();
      subject.shape.emplace(held->dims().begin(), held->dims().end());
      subject.bytes = held->byte_size();
      subject.order = (order << 8) + std::min<std::size_t>(slot + 1, 255);
    }
    about.pattern = only.of(*node, heaviest);
    nodes_.try_emplace(label, std::move(about));
    if (!node->name().empty()) ++names[std::string(node->name())];
    for (const Value* value : node->outputs()) {
      if (value != nullptr && !is_constant(value)) ++names[std::string(value->name())];
    }
    for (const Graph* body : node->bodies()) add(*body, names, only);
  }
}

const PlanSubject* PlanSubjects::find(std::string_view name) const {
  if (const auto tensor = tensors_.find(name); tensor != tensors_.end()) return &tensor->second;
  const auto node = nodes_.find(name);
  return node != nodes_.end() ? &node->second : nullptr;
}

const PlanSubject* PlanSubjects::weight_of(std::string_view node, std::uint64_t bytes) const {
  const auto place = weights_.find(node);
  if (place == weights_.end() || bytes == 0) return nullptr;
  for (const std::string& name : place->second) {
    if (tensors_.at(name).bytes == bytes) return &tensors_.at(name);
  }
  return nullptr;
}

const PlanSubject* PlanSubjects::made_of(std::string_view name) const {
  for (std::size_t size = name.size(); size > 1;) {
    size = name.rfind('_', size - 1);
    if (size == std::string_view::npos || size == 0) return nullptr;
    const auto tensor = tensors_.find(name.substr(0, size));
    if (tensor != tensors_.end()) return &tensor->second;
  }
  return nullptr;
}

std::string PlanSubjects::pattern_of(const PlannedDecision& decision) const {
  const PlanSubject* subject = find(decision.subject());
  return subject != nullptr ? subject->pattern : pattern_of_name(decision.subject());
}

std::vector<std::string> PlanSubjects::names() const {
  std::vector<std::string> names;
  for (const auto& [name, subject] : tensors_) names.push_back(name);
  for (const auto& [name, subject] : nodes_) names.push_back(name);
  return names;
}

}  // namespace mcompress
