#include "mcompress/pass.h"
#include "support/try.h"

namespace mcompress {

const Target& PassContext::target() const {
  return services_.target != nullptr ? *services_.target : default_target();
}

Progress& PassContext::progress() {
  return services_.progress != nullptr ? *services_.progress : silent_progress();
}

Result<Runtime*> PassContext::runtime() {
  if (services_.runtime == nullptr) {
    return Error(Code::kUnsupported, "no-runtime", "this needs a runtime, and none is available");
  }
  return services_.runtime.get();
}

Session* PassContext::reference() {
  if (!services_.reference) return nullptr;
  auto session = services_.reference();
  return session.ok() ? *session : nullptr;
}

Result<CalibrationTable> PassContext::calibration(const Model& model,
                                                  const CalibrationRequest& request) {
  if (services_.table != nullptr) {
    const std::uint64_t digest = fingerprint(model);
    if (services_.table->model_digest != digest) {
      return Error(Code::kUsage, "table-of-another-model",
                   "the calibration table was made from another model (or with other graph "
                   "options) than the one to be quantized",
                   {}, "run `mcompress calibrate` on this model again");
    }
    for (const std::string& value : request.values) {
      if (services_.table->find(value) == nullptr) {
        return Error(Code::kUsage, "table-incomplete",
                     "the calibration table has no statistics of this value", {{}, {}, value},
                     "run `mcompress calibrate` on this model again");
      }
    }
    return *services_.table;
  }
  if (services_.calibration_data == nullptr) {
    return Error(Code::kUsage, "no-calibration-data", "static quantization needs calibration data",
                 {}, "give --calib DATA or --table TABLE, or use --mode dynamic");
  }
  MCOMPRESS_ASSIGN(Runtime * engine, runtime());
  CalibratorOptions options;
  options.memory_budget = services_.memory_budget;
  options.threads = services_.threads;
  return calibrate(*engine, model, *services_.calibration_data, request, options, diagnostics(),
                   progress());
}

}  // namespace mcompress
