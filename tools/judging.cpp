#include "judging.h"

#include "try.h"

namespace mcompress::tools {

Schema<JudgeOptions> data_schema() {
  Schema<JudgeOptions> schema;
  schema.field("data", &JudgeOptions::data, "data: " + std::string(kDataKinds))
      .unit("DATA")
      .field("samples", &JudgeOptions::samples, "use the first N samples; 0: all")
      .range(0, 1e9)
      .field("threads", &JudgeOptions::threads, "of the runtime")
      .range(1, 1024)
      .field("json", &JudgeOptions::json, "the result as JSON");
  add_data_fields(schema);
  return schema;
}

void Judging::declare(CLI::App& app, Flags& flags) {
  flags_ = &flags;
  declare_arguments(app);
  flags.add(schema().specs(), "Data and work");
}

Status Judging::start(bool needs_data) {
  Diagnostics diagnostics;
  MCOMPRESS_ASSIGN(options_, schema().parse(flags_->given(schema().specs()), diagnostics));
  if (needs_data && options_.data.empty() && options_.input.empty()) {
    return Error(Code::kUsage, "no-data", "data are missing", {{}, "--data", {}},
                 "give --data DATA");
  }
  return ok_status();
}

Result<JudgedPair> Judging::open_models(Runtime& runtime, const std::string& model,
                                        const std::string& reference, Console& console) const {
  const int threads = static_cast<int>(options_.threads);
  JudgedPair pair;
  MCOMPRESS_ASSIGN(pair.loaded, load(model, console));
  pair.candidate.emplace(runtime, *pair.loaded.model, model, threads);
  if (reference.empty()) return pair;
  MCOMPRESS_ASSIGN(pair.reference, load(reference, console));
  pair.against.emplace(runtime, *pair.reference.model, reference, threads);
  return pair;
}

Result<std::unique_ptr<DataSource>> Judging::samples(const Model& model, Console& console) const {
  return open_samples(options_.data, model, options_, options_.samples, console);
}

}  // namespace mcompress::tools
