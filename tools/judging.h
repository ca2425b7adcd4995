// What the commands that judge models by running them have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app.h"
#include "judge.h"
#include "models.h"

namespace mcompress::tools {

struct JudgeOptions : DataFlags {
  std::string data;
  std::string against;
  std::string metric = "auto";
  std::string characters;
  std::string output_name;
  std::vector<std::string> outputs;
  std::int64_t k = 5;
  std::int64_t context_tokens = 0;
  std::int64_t tokens = 32;
  std::int64_t generate = 0;
  std::int64_t samples = 0;
  std::int64_t threads = 1;
  std::int64_t runs = 0;
  std::int64_t loads = 3;
  std::int64_t seed = 0;
  double seconds = 1;
  bool json = false;
  std::int64_t warm_up = -1;
  bool profile = false;
  bool energy = false;
  std::string trace;
  std::string boxes, scores, classes;
  std::string box_form = "auto";
  double min_score = 0.25;
  std::int64_t background = -1;
  bool layers = false;
  std::int64_t top = 20;
  std::int64_t layer_samples = 16;
  std::int64_t memory_budget = 0;
};

// Data, how much of it, and threads.
Schema<JudgeOptions> data_schema();

// A model to judge and, perhaps, one to judge it by.
struct JudgedPair {
  LoadedModel loaded, reference;
  std::optional<Judged> candidate, against;  // of these models
  Judged* other() { return against ? &*against : nullptr; }
};

// What eval, compare and bench share: a schema, data, checked options.
class Judging : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override;

 protected:
  virtual void declare_arguments(CLI::App& app) = 0;
  virtual const Schema<JudgeOptions>& schema() const = 0;

  Status start(bool needs_data);

  // `reference` empty: none.
  Result<JudgedPair> open_models(Runtime& runtime, const std::string& model,
                                 const std::string& reference, Console& console) const;

  Result<std::unique_ptr<DataSource>> samples(const Model& model, Console& console) const;

  Flags* flags_ = nullptr;
  JudgeOptions options_;
};

}  // namespace mcompress::tools
