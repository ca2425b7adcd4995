#include "mcompress/pipeline.h"

#include <cstdio>
#include <fstream>

#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

Status dump_to(const std::filesystem::path& folder, std::size_t number, std::string_view pass,
               const Model& model) {
  char prefix[32];
  std::snprintf(prefix, sizeof prefix, "%02zu-", number);
  const std::filesystem::path path = folder / (prefix + std::string(pass) + ".txt");
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  std::ofstream file(path);
  file << dump(model);
  if (!file.flush()) {
    return Error(Code::kOutput, "dump-not-written", "the dump could not be written",
                 {path.string(), {}, {}});
  }
  return ok_status();
}

Error after_passes(Error error, std::string culprit) {
  error.code = Code::kInternal;
  error.diagnostic.message = std::move(culprit) + " broke the graph: " + error.diagnostic.message;
  error.diagnostic.hint = "this is a defect of mcompress; please report it with the model";
  return error;
}

}  // namespace

Status run_pipeline(Model& model, const Recipe& recipe, const PassRegistry& registry,
                    const Services& services, const PipelineOptions& options, Explain& explain,
                    Report& report) {
  Services effective = services;
  if (effective.target == nullptr) effective.target = find_target(recipe.target);
  if (effective.target == nullptr) return unknown_target(recipe.target, {{}, "target", {}});
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    const std::string& name = recipe.steps[i].pass;
    if (registry.find(name) != nullptr) continue;
    return registry.unknown(name, {{}, "passes[" + std::to_string(i) + "]", {}});
  }
  const auto tensors = make_tensor_factory(options.tensor_heap_budget);
  const Executor executor(effective.threads);
  Editor editor(model, &onnx_catalog());
  if (options.verify != VerifyLevel::kOff) MCOMPRESS_TRY(verify(model));

  const std::uint64_t first_revision = model.revision();
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    const RecipeStep& step = recipe.steps[i];
    const PassInfo* info = registry.find(step.pass);
    if (effective.progress != nullptr) {
      effective.progress->update(step.pass, i, recipe.steps.size(), "passes");
      if (effective.progress->cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted before pass " + step.pass);
      }
    }
    MCOMPRESS_ASSIGN(auto pass, info->create(step.options, *effective.diagnostics));
    explain.set_pass(info->name);
    ReportScope& scope = report.root().item("passes", info->name);
    PassContext context(editor, effective, explain, scope, *tensors, executor, recipe.seed);
    const std::uint64_t revision = model.revision();
    Status status = pass->run(model, context);
    if (!status.ok()) {
      return std::move(status).error().at("pass " + std::string(info->name));
    }
    const bool changed = model.revision() != revision;
    scope.set("changed", Datum::boolean(changed));
    if (changed && options.verify == VerifyLevel::kEachPass) {
      Status sound = verify(model);
      if (!sound.ok()) {
        return after_passes(std::move(sound).error(), "pass " + std::string(info->name));
      }
    }
    if (!options.dump_folder.empty()) {
      MCOMPRESS_TRY(dump_to(options.dump_folder, options.dumps_before + i + 1, info->name, model));
    }
  }
  if (options.verify == VerifyLevel::kEnds && model.revision() != first_revision) {
    Status sound = verify(model);
    if (!sound.ok()) return after_passes(std::move(sound).error(), "one of the passes");
  }
  return ok_status();
}

}  // namespace mcompress
