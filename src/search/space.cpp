#include "search/space.h"

#include <algorithm>
#include <map>
#include <set>

#include "ir/walk.h"
#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "mcompress/io.h"
#include "passes/common/integer/precision_units.h"
#include "search/places.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Initializers of all graphs, by name; nested graphs may have equal names.
std::map<std::string, std::vector<const Value*>, std::less<>> constants_of(const Model& model) {
  std::map<std::string, std::vector<const Value*>, std::less<>> found;
  for_each_graph(const_cast<Model&>(model).graph(), [&found](Graph& graph) {
    for (const Value* value : graph.initializers()) {
      found[std::string(value->name())].push_back(value);
    }
  });
  return found;
}

std::int64_t quantizes_of(const Model& model) {
  std::int64_t count = 0;
  for_each_node(const_cast<Model&>(model).graph(),
                [&count](const Node& node) { count += node.is("QuantizeLinear") ? 1 : 0; });
  return count;
}

}  // namespace

std::vector<RecipeStep> steps_of_choice(const std::vector<SearchForm>& forms,
                                        const std::vector<SearchLayer>& layers,
                                        std::span<const std::size_t> choice) {
  std::vector<RecipeStep> steps;
  for (std::size_t form = 0; form < forms.size(); ++form) {
    Datum include = Datum::list();
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      if (choice[layer] != form) continue;
      for (const std::string& pattern : layers[layer].patterns) {
        include.push(Datum::string(pattern));
      }
    }
    if (include.as_list()->empty()) continue;
    for (RecipeStep step : forms[form].steps) {
      step.options.set("include", include);
      steps.push_back(std::move(step));
    }
  }
  return steps;
}

Recipe search_recipe(const SearchOptions& options, const SearchOutcome& outcome,
                     std::span<const std::size_t> choice) {
  Recipe recipe = options.before;
  recipe.name = "search";
  const std::vector<RecipeStep>& cuts = outcome.width.steps;
  recipe.steps.insert(recipe.steps.end(), cuts.begin(), cuts.end());
  for (RecipeStep& step : steps_of_choice(options.forms, outcome.layers, choice)) {
    recipe.steps.push_back(std::move(step));
  }
  recipe.steps.insert(recipe.steps.end(), options.after.begin(), options.after.end());
  return recipe;
}

Result<std::unique_ptr<SearchSpace>> SearchSpace::open(const Model& original,
                                                       const SearchOptions& options,
                                                       const SearchServices& services) {
  std::unique_ptr<SearchSpace> space(new SearchSpace(options, services));
  MCOMPRESS_TRY(space->prepare(original));
  MCOMPRESS_TRY(space->find_layers());
  return space;
}

Status SearchSpace::prepare(const Model& original) {
  prepared_ = original.clone();
  Explain explain;
  Report report;
  return run_pipeline(*prepared_, options_.before, builtin_passes(), services_.services,
                      options_.pipeline, explain, report);
}

Status SearchSpace::run(Model& model, std::vector<RecipeStep> steps, const Services& services,
                        Explain& explain) const {
  Recipe recipe;
  recipe.name = "search";
  recipe.steps = std::move(steps);
  recipe.steps.insert(recipe.steps.end(), options_.after.begin(), options_.after.end());
  recipe.target = options_.before.target;
  recipe.seed = options_.before.seed;
  recipe.converge = options_.before.converge;
  return run_unheard(model, recipe, services, explain);
}

// What a recipe can call the nodes of a weight: the weight's own name where the file has it, else
// their names or those of what they make.
std::vector<std::string> SearchSpace::patterns_of(std::string_view weight,
                                                  const Constants& constants,
                                                  OnlyPatterns& nodes) const {
  const auto known = [this](const std::string& pattern) {
    return services_.known_pattern == nullptr || services_.known_pattern(pattern);
  };
  const std::string own = literal_pattern(weight);
  if (known(own)) return {own};
  std::set<std::string> patterns;
  const auto found = constants.find(weight);
  if (found == constants.end()) return {};
  for (const Value* value : found->second) {
    for (const Use& use : value->uses()) {
      if (use.node == nullptr) return {};
      const std::string pattern = nodes.of(*use.node, nullptr);
      if (pattern.empty() || !known(pattern)) return {};
      patterns.insert(pattern);
    }
  }
  return {patterns.begin(), patterns.end()};
}

// A bias that a pass has made has no name in the file, only its node has: what is done to that node
// is done to its other weights too.
void SearchSpace::join_overlapping(const Constants& constants) {
  std::map<std::string_view, std::size_t> layer_of;
  for (std::size_t i = 0; i < layers_.size(); ++i) layer_of.emplace(layers_[i].name, i);
  std::vector<std::pair<std::size_t, std::size_t>> same;
  for (const auto& [name, layer] : layer_of) {
    const auto& patterns = layers_[layer].patterns;
    if (patterns.size() == 1 && patterns.front() == literal_pattern(name)) continue;
    for (const Value* value : constants.find(name)->second) {
      for (const Use& use : value->uses()) {
        for (const Value* input : use.node->inputs()) {
          if (input == nullptr) continue;
          const auto found = layer_of.find(input->name());
          if (found != layer_of.end()) same.emplace_back(layer, found->second);
        }
      }
    }
  }
  join_layers(layers_, same);
}

Status SearchSpace::find_layers() {
  const auto constants = constants_of(*prepared_);
  const std::unique_ptr<Model> plain = prepared_->clone();
  Explain ignored;
  MCOMPRESS_TRY(run(*plain, {}, building_, ignored));
  MCOMPRESS_ASSIGN(const std::string bytes, save_model_bytes(*plain));
  base_bytes_ = bytes.size();
  quantizes_ = quantizes_of(*prepared_);
  // Whatever some form's last pass takes.
  std::set<std::string, std::less<>> weights;
  for (const SearchForm& form : options_.forms) {
    if (form.steps.empty() || form.integers) continue;
    const std::unique_ptr<Model> trial = prepared_->clone();
    Explain explain;
    MCOMPRESS_TRY(run(*trial, form.steps, services_without_data(), explain));
    for (const Decision& decision : explain.all()) {
      if (decision.applied && decision.pass == form.steps.back().pass &&
          decision.bytes_before > 0 && constants.contains(decision.subject)) {
        weights.insert(decision.subject);
      }
    }
  }
  // In the order of the graph, which has neighbours side by side.
  std::map<std::vector<std::string>, std::size_t> places;
  std::set<std::string, std::less<>> seen;
  OnlyPatterns only;
  for_each_node(prepared_->graph(), [&](Node& node) {
    for (const Value* input : node.inputs()) {
      if (input == nullptr || !weights.contains(input->name())) continue;
      if (!seen.emplace(input->name()).second) continue;
      std::vector<std::string> patterns = patterns_of(input->name(), constants, only);
      if (patterns.empty()) {
        left_out_.emplace_back(input->name());
        continue;
      }
      const auto [place, fresh] = places.emplace(patterns, layers_.size());
      if (fresh) {
        SearchLayer layer;
        layer.name = input->name();
        layer.op_type = node.op_type();
        layer.patterns = std::move(patterns);
        layers_.push_back(std::move(layer));
      }
      for (const Value* value : constants.find(input->name())->second) {
        if (const Tensor* tensor = value->initializer()) {
          layers_[place->second].weight_bytes += tensor->byte_size();
        }
      }
    }
  });
  join_overlapping(constants);
  for (const auto& [left, right] : places_of_layers(*prepared_, layers_).neighbours) {
    borders_.push_back({left, right, 0, 0});
  }
  if (!layers_.empty()) return ok_status();
  return Error(
      Code::kUnsupported, "nothing-to-search",
      left_out_.empty()
          ? std::string("none of the forms applies to any weight of this model")
          : "no weight has a name that a recipe could use; first: '" + left_out_.front() + "'");
}

Services SearchSpace::services_without_data() const {
  Services services = building_;
  services.calibration_data = nullptr;
  return services;
}

Result<SearchSpace::Built> SearchSpace::build(std::span<const std::size_t> choice) const {
  return build_with(choice, building_);
}

Result<SearchSpace::Built> SearchSpace::build_for_bytes(std::span<const std::size_t> choice) const {
  const bool integers = std::any_of(choice.begin(), choice.end(), [this](std::size_t form) {
    return options_.forms[form].integers;
  });
  const bool coded =
      std::any_of(options_.after.begin(), options_.after.end(),
                  [](const RecipeStep& step) { return step.pass == "pack-weights"; });
  if (integers || coded || building_.calibration_data == nullptr) return build(choice);
  MCOMPRESS_ASSIGN(Built built, build_with(choice, services_without_data()));
  built.as_written = false;
  return built;
}

Result<SearchSpace::Built> SearchSpace::build_with(std::span<const std::size_t> choice,
                                                   const Services& services) const {
  Built built;
  built.model = prepared_->clone();
  Explain explain;
  MCOMPRESS_TRY(
      run(*built.model, steps_of_choice(options_.forms, layers_, choice), services, explain));
  MCOMPRESS_ASSIGN(const std::string bytes, save_model_bytes(*built.model));
  built.bytes = bytes.size();
  built.in_integers = quantizes_of(*built.model) > quantizes_;
  return built;
}

Result<std::unique_ptr<Session>> SearchSpace::open_session(const Model& model) const {
  SessionOptions session;
  session.threads = services_.session_threads;
  return services_.services.runtime->open(model, session);
}

std::string SearchSpace::key(std::span<const std::size_t> choice, std::string_view what) const {
  Recipe recipe = options_.before;
  for (RecipeStep& step : steps_of_choice(options_.forms, layers_, choice)) {
    recipe.steps.push_back(std::move(step));
  }
  recipe.steps.insert(recipe.steps.end(), options_.after.begin(), options_.after.end());
  return digest_text(text_digest(services_.identity + "\n" + std::string(what) + "\n" +
                                 digest_text(recipe_digest(recipe, builtin_passes()))));
}

}  // namespace mcompress
