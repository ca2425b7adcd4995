// Recipes by rules: which of several recipes a batch runs on a model.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "mcompress/recipe.h"
#include "recipe_files.h"

namespace mcompress::tools {

// Everything that is given has to fit.
struct BatchRule {
  std::string path;  // pattern over the model's place below the folder; empty: any
  std::optional<StepCondition> content;
  bool skip = false;  // the model is left out
  std::string recipe;
  NamedRecipe found;
};

// A rules file, or one rule without conditions for a recipe. All recipes are read and checked.
// Fails with kUsage at line and column; where nothing can ever fit because of a rule before, too.
Result<std::vector<BatchRule>> read_rules(const std::string& recipe, Console& console);

// The first rule that fits, null: none does. What a model holds is looked at in a process of its
// own, so that no model can take the batch down; of one that can not be read, only the path counts.
const BatchRule* choose_rule(const std::vector<BatchRule>& rules, const std::string& model,
                             const std::string& place);

}  // namespace mcompress::tools
