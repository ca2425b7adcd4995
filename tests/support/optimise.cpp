#include "support/optimise.h"

#include <algorithm>

#include "compress.h"
#include "mcompress/runtime.h"

namespace mcompress::testing {

std::vector<std::string> Optimised::undone() const {
  std::vector<std::string> passes;
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    if (diagnostic.id == "pass-undone") passes.push_back(diagnostic.message);
  }
  return passes;
}

Optimised optimise(Model& model, GuardMode guard) {
  static const std::shared_ptr<Runtime> runtime = find_runtime("onnxruntime").value();
  static const Recipe recipe = tools::builtin_recipe("optimize").value();
  Optimised run;
  Services services;
  services.runtime = runtime;
  services.diagnostics = &run.diagnostics;
  PipelineOptions options;
  options.guard = guard;
  Report report;
  const std::uint64_t revision = model.revision();
  run.status =
      run_pipeline(model, recipe, builtin_passes(), services, options, run.explain, report);
  run.changed = model.revision() != revision;
  return run;
}

}  // namespace mcompress::testing
