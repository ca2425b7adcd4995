// Metrics of language models behind `evaluate`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/evaluate.h"

namespace mcompress {

// As `evaluate` does for kPerplexity, kRetrieval and kGeneration. `reference` may be null.
Result<Evaluation> evaluate_perplexity(Session& session, DataSource& data,
                                       const EvaluateOptions& options, Progress& progress,
                                       std::optional<Evaluation>* reference);
Result<Evaluation> evaluate_retrieval(Session& session, DataSource& data,
                                      const EvaluateOptions& options, Progress& progress,
                                      std::optional<Evaluation>* reference);
Result<Evaluation> evaluate_generation(Session& session, DataSource& data,
                                       const EvaluateOptions& options, Progress& progress);

// `given` where it names every input of the session, else what the session's names tell.
std::vector<LanguageInput> session_roles(const Session& session,
                                         const std::vector<LanguageInput>& given);

// The output [batch, length, vocabulary]: `wanted` where not empty, else "logits", else the first
// float output of rank 3 that is no key or value. Fails with kUsage where there is none.
Result<std::string> pick_logits(const Session& session, const std::vector<LanguageInput>& roles,
                                const std::string& wanted);

// The tokens of a batch of samples.
struct TokenRows {
  std::int64_t rows = 0, length = 0;
  std::vector<std::int64_t> ids;   // rows * length
  std::vector<std::uint8_t> real;  // 1: a token, 0: padding
};
Result<TokenRows> token_rows(std::span<const NamedTensor> feeds,
                             const std::vector<LanguageInput>& roles, std::int64_t pad_id);

// The feeds as another model of the same tokens takes them: inputs that it lacks left out, those
// that only it has derived from the tokens.
Result<std::vector<NamedTensor>> fitted_feeds(const Session& session,
                                              std::span<const NamedTensor> feeds,
                                              const TokenRows& tokens);

// Runs of a source from the first sample on: batches of `batch` samples, or of the data's fixed
// size, of which the last reaches back to samples that `seen` were in a run before.
struct RunRange {
  std::int64_t start = 0, count = 0, seen = 0;
};
std::vector<RunRange> run_ranges(const DataSource& data, std::int64_t samples, std::int64_t batch);

}  // namespace mcompress
