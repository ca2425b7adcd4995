// factorize and tables: a recipe each, whose last pass does the work.
#include "gates.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

class OneRecipe final : public Writing {
 public:
  OneRecipe(std::string_view command, std::string_view pass, std::string_view title)
      : command_(command), pass_(pass), title_(title) {}

  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    specs_ = options_of_recipes({&command_, 1});
    const auto [own, cleaning] = group_options(specs_, {&pass_, 1});
    flags.add(own, title_);
    flags.add(cleaning, "Options of cleaning passes");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job(command_));
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe(command_));
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(read_pattern_files(wanted.pass_flags));
    wanted.must_compress = true;
    MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    wanted.choose_recipe = always(std::move(recipe));
    return compress(std::move(wanted), console);
  }

 private:
  std::string_view command_;  // and the name of the recipe
  std::string_view pass_, title_;
  std::vector<OptionSpec> specs_;
};

}  // namespace

std::unique_ptr<Command> make_factorize() {
  return std::make_unique<OneRecipe>("factorize", "factorize-weights", "What to split");
}
std::unique_ptr<Command> make_tables() {
  return std::make_unique<OneRecipe>("tables", "compress-tables", "Which tables, and how");
}

}  // namespace mcompress::tools
