// What is common to the commands that write a model.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "app.h"
#include "compress.h"
#include "recipe_files.h"

namespace mcompress::tools {

// A command with a model, flags of its own, and those of CompressOptions.
class Writing : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override;

 protected:
  // The arguments and the command's own flags. Called once, before any run().
  virtual void declare_arguments(CLI::App& app, Flags& flags) = 0;
  virtual bool takes_data() const { return true; }

  void declare_model(CLI::App& app);

  // The job with input and CompressOptions as they were given; the recipe is still to be chosen.
  // `defaults`: a map of options that the flags go before.
  Result<Job> job(std::string_view command, Datum defaults = Datum::map()) const;
  // The job of a recipe that the user names: a file or a built-in one, with its data.
  Result<Job> job_of_recipe(std::string_view command, NamedRecipe found) const;

  Flags* flags_ = nullptr;
  std::string model_;
};

// A recipe chosen before the model is known.
std::function<Result<Recipe>(const Model&, ReportScope&)> always(Recipe recipe);

// The options of all passes of built-in recipes, each once; names of no recipe are left out.
std::vector<OptionSpec> options_of_recipes(std::span<const std::string_view> names);

// Those of one of the passes, and the rest.
struct OptionGroups {
  std::vector<OptionSpec> own, rest;
};
OptionGroups group_options(const std::vector<OptionSpec>& specs,
                           std::span<const std::string_view> passes);

}  // namespace mcompress::tools
