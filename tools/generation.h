// Tokens per second of language models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "judge.h"
#include "mcompress/language.h"

namespace mcompress::tools {

struct GenerationRequest {
  GenerationOptions options;
  std::uint64_t seed = 0;          // of a made-up prompt
  std::int64_t prompt_tokens = 0;  // of a made-up prompt; 0: 32
  std::int64_t prompts = 0;        // the first N samples; 0: up to 8
};

// `reference` (may be null) first, then `candidate`, in turn. `data` null: a made-up prompt of
// tokens that the model knows.
Result<std::vector<GenerationTimes>> measure_generation(Judged* reference, Judged& candidate,
                                                        DataSource* data,
                                                        const GenerationRequest& request,
                                                        Progress& progress);
std::string generation_text(const std::vector<GenerationTimes>& times);
Datum generation_datum(const std::vector<GenerationTimes>& times);

}  // namespace mcompress::tools
