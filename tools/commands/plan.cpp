// plan: what a recipe would do to each tensor, as a file to edit. apply: what such a file says.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "gates.h"
#include "mcompress/host.h"
#include "planning.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

class MakePlan final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    app.add_option("RECIPE", recipe_, "JSON or YAML file, or the name of a built-in recipe")
        ->required()
        ->type_name("");
    declare_model(app);
    specs_ = options_of_recipes(kRecipes);
    // What is written on the way belongs to a run.
    std::erase_if(specs_, [](const OptionSpec& spec) {
      return spec.name == "save-mask" || spec.name == "curve";
    });
    flags.add(specs_, "Options of the recipe's passes");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(NamedRecipe found, find_recipe(recipe_, console));
    MCOMPRESS_ASSIGN(Job wanted, job_of_recipe("plan", std::move(found)));
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(read_pattern_files(wanted.pass_flags));
    if (wanted.options.samples == "auto") {
      std::erase_if(std::get<Datum::Map>(wanted.pass_flags.value()),
                    [](const auto& entry) { return entry.first == "samples"; });
    }
    const std::string output = wanted.options.output;
    const bool writes = !wanted.options.dry_run && !wanted.options.print_recipe;
    const bool to_file = !output.empty() && output != "-";
    MCOMPRESS_TRY(check_output(wanted, output, to_file));
    const bool json = to_file ? output.ends_with(".json") : wanted.options.json;
    wanted.options.output.clear();
    wanted.options.json = false;
    wanted.options.dry_run = true;
    Plan plan;
    note_decisions(wanted, plan);
    MCOMPRESS_TRY(compress(std::move(wanted), console));
    if (!writes) return ok_status();
    const std::string text =
        plan_text(plan, builtin_passes(), json ? PlanText::kJson : PlanText::kYaml);
    return to_file ? write_file(output, text) : console.print(text);
  }

 private:
  Status check_output(const Job& wanted, const std::string& output, bool to_file) const {
    if (!to_file && wanted.options.report == "-") {
      return Error(Code::kUsage, "two-outputs",
                   "of the plan and --report one can go to standard output, not two",
                   {{}, "--report", {}}, "give -o FILE for the plan");
    }
    if (!to_file) return ok_status();
    const std::vector<std::string> others = {model_,
                                             wanted.recipe_file,
                                             wanted.options.report,
                                             wanted.options.calib,
                                             wanted.options.table,
                                             wanted.options.eval,
                                             wanted.options.characters};
    MCOMPRESS_TRY(check_overwrites(output, "output", others));
    return wanted.options.dry_run ? ok_status() : check_writable(output);
  }

  static constexpr std::string_view kRecipes[] = {
      "quantize-static", "quantize-dynamic", "quantize-weight-only",
      "quantize-blocks", "quantize-float16", "cluster",
      "prune-weights",   "prune-channels",   "factorize",
      "tables",          "pack-onnx"};
  std::string recipe_;
  std::vector<OptionSpec> specs_;
};

struct ApplyOptions {
  bool other_model = false;

  static const Schema<ApplyOptions>& schema() {
    static const Schema<ApplyOptions> kSchema = Schema<ApplyOptions>().field(
        "other-model", &ApplyOptions::other_model,
        "the plan was made for another model: apply it if this one has the same tensors");
    return kSchema;
  }
};

class ApplyPlan final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    app.add_option("PLAN", plan_, "what `mcompress plan` wrote, edited or not")
        ->required()
        ->type_name("");
    declare_model(app);
    flags.add(ApplyOptions::schema().specs(), "Plan");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("apply"));
    const auto& schema = ApplyOptions::schema();
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(const ApplyOptions given,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    MCOMPRESS_ASSIGN(Plan plan, read_plan(plan_, console));
    wanted.recipe_file = plan_;
    if (!flags_->has("target")) wanted.options.target = plan.recipe.target;
    if (!flags_->has("seed")) wanted.options.seed = static_cast<std::int64_t>(plan.recipe.seed);
    const bool has_data = has_calibration_data(wanted.options) || !wanted.options.table.empty();
    if (!plan.data_digests.empty() && !has_data && !wanted.options.print_recipe) {
      return Error(Code::kUsage, "no-calibration-data", "the plan was made with calibration data",
                   {plan_, {}, {}}, "give the same with --calib DATA or --table TABLE");
    }
    carry_out(wanted, std::move(plan), plan_,
              given.other_model ? PlanModel::kOther : PlanModel::kSame, console);
    return compress(std::move(wanted), console);
  }

 private:
  std::string plan_;
};

}  // namespace

std::unique_ptr<Command> make_plan() { return std::make_unique<MakePlan>(); }
std::unique_ptr<Command> make_apply() { return std::make_unique<ApplyPlan>(); }

}  // namespace mcompress::tools
