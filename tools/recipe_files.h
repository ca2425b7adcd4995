// Recipes of the user's own and built-in ones, by name: what `run` and `batch` take.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "compress.h"
#include "console.h"
#include "mcompress/pipeline.h"

namespace mcompress::tools {

struct BuiltinRecipe {
  std::string_view name;
  std::string summary;
  bool preset = false;  // meant to be used by name; the others are the commands' own
};
std::vector<BuiltinRecipe> builtin_recipes();

struct NamedRecipe {
  Recipe recipe;
  std::string file;  // empty: built in
};

// What was read, once: a recipe may come through a pipe.
struct RecipeText {
  Datum datum;
  std::string file;   // empty: built in
  std::string label;  // of messages
};
// Of a file, or of the built-in recipe of that name where there is no such file. Fails with kUsage,
// with kInput where the disk does.
Result<RecipeText> read_recipe(const std::string& name);

// A file, or the name of a built-in recipe where there is no such file. An entry of `passes`
// {"recipe": NAME, "when": .., option..} stands for all passes of a built-in recipe: the options
// are set in every one that has them, the condition holds for all. Gates become the options of
// passes of the same name. Fails with kUsage at line and column.
Result<NamedRecipe> find_recipe(const std::string& name, Console& console);
Result<NamedRecipe> recipe_of(RecipeText text, Console& console);

// The same of what was read already; `label` is its file in messages. Fails with kUsage for a
// recipe of several parts, too.
Result<Recipe> recipe_of_datum(Datum datum, const std::string& label, Console& console);
// Passes that look for a choice within the gates have options of the same names: set where they
// are not, or where they are looser.
void give_gates_to_passes(Recipe& recipe);

// Reads "{folder}" and "{stem}" of the model, and relative paths from the recipe's folder.
Datum place_data(const Datum& data, const std::string& recipe_file, const std::string& model);

// What of the options is data, as RecipeData with absolute paths; null: nothing.
Datum data_of(const CompressOptions& options);

// Does a recipe compress, so that nothing compressed is an error? Steps with a condition do not
// count.
bool must_compress(const Recipe& recipe);
// Nothing but another operator set.
bool only_translates(const Recipe& recipe);

}  // namespace mcompress::tools
