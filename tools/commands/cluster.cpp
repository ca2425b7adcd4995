// cluster: codebooks for weights.
#include "gates.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

constexpr std::string_view kRecipe = "cluster";
constexpr std::string_view kPass = "cluster-weights";

class Cluster final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    specs_ = options_of_recipes({&kRecipe, 1});
    const auto [own, cleaning] = group_options(specs_, {&kPass, 1});
    flags.add(own, "What to cluster, and how");
    flags.add(cleaning, "Options of cleaning passes");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("cluster"));
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(read_pattern_files(wanted.pass_flags));
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe(kRecipe));
    MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    wanted.must_compress = true;
    wanted.choose_recipe = always(std::move(recipe));
    return compress(std::move(wanted), console);
  }

 private:
  std::vector<OptionSpec> specs_;
};

}  // namespace

std::unique_ptr<Command> make_cluster() { return std::make_unique<Cluster>(); }

}  // namespace mcompress::tools
