#include "generation.h"

#include <algorithm>
#include <random>

#include "mcompress/host.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

constexpr std::int64_t kPromptTokens = 32;
constexpr std::int64_t kPrompts = 8;

// Tokens that any vocabulary has where the model does not say how many there are.
std::vector<std::int64_t> made_up_prompt(const Model& model, const GenerationRequest& request) {
  std::int64_t vocabulary = 2;
  const std::vector<LanguageInput> roles = language_inputs(model);
  const LanguageInput* ids = find_role(roles, InputRole::kTokenIds);
  if (ids != nullptr) vocabulary = std::max(vocabulary, ids->table_rows);
  std::mt19937_64 random(request.seed);
  const std::int64_t count = request.prompt_tokens > 0 ? request.prompt_tokens : kPromptTokens;
  std::vector<std::int64_t> prompt(static_cast<std::size_t>(count));
  for (std::int64_t& token : prompt)
    token = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(vocabulary));
  return prompt;
}

Datum datum_of(const GenerationTimes& times) {
  Datum map = Datum::map();
  map.set("model", Datum::string(file_name(times.name)));
  map.set("cached", Datum::boolean(times.cached));
  map.set("rounds", Datum::integer(times.rounds));
  map.set("prompt_tokens", Datum::integer(times.prompt_tokens));
  map.set("first_token_ms", Datum::real(times.first_ms));
  map.set("step_p50_ms", Datum::real(times.step_ms));
  map.set("step_p99_ms", Datum::real(times.step_p99_ms));
  map.set("prefill_tokens_per_second", Datum::real(times.prefill_per_second));
  map.set("decode_tokens_per_second", Datum::real(times.decode_per_second));
  return map;
}

}  // namespace

Result<std::vector<GenerationTimes>> measure_generation(Judged* reference, Judged& candidate,
                                                        DataSource* data,
                                                        const GenerationRequest& request,
                                                        Progress& progress) {
  std::vector<GenerationTarget> targets;
  for (Judged* judged : {reference, &candidate}) {
    if (judged == nullptr) continue;
    targets.push_back({judged->file(), [judged] { return judged->open_another(); },
                       language_inputs(judged->model())});
  }
  std::vector<std::vector<std::int64_t>> prompts;
  if (data != nullptr) {
    const std::int64_t most = request.prompts > 0 ? request.prompts : kPrompts;
    MCOMPRESS_ASSIGN(prompts, prompts_of(*data, language_inputs(candidate.model()), most));
  } else {
    prompts.push_back(made_up_prompt(candidate.model(), request));
  }
  return bench_generation(targets, prompts, request.options, progress);
}

std::string generation_text(const std::vector<GenerationTimes>& times) {
  Table table;
  table.row({"model", "decode tokens/s", "prefill tokens/s", "first token", "step p50", "p99",
             "keys and values", "rounds"});
  for (const GenerationTimes& entry : times) {
    table.row({file_name(entry.name), decimal_text(entry.decode_per_second, 1),
               decimal_text(entry.prefill_per_second, 1), milliseconds_text(entry.first_ms),
               milliseconds_text(entry.step_ms), milliseconds_text(entry.step_p99_ms),
               entry.cached ? "kept" : "none: all tokens again", std::to_string(entry.rounds)});
  }
  std::string text = table.text();
  if (times.size() == 2 && times[0].decode_per_second > 0 && times[0].prefill_per_second > 0) {
    text += "decode " + decimal_text(times[1].decode_per_second / times[0].decode_per_second, 2) +
            " x faster, prefill " +
            decimal_text(times[1].prefill_per_second / times[0].prefill_per_second, 2) +
            " x faster\n";
  }
  return text;
}

Datum generation_datum(const std::vector<GenerationTimes>& times) {
  Datum map = Datum::map();
  if (times.size() == 2) {
    map.set("reference", datum_of(times[0]));
    const double before = times[0].decode_per_second;
    if (before > 0) {
      map.set("speedup_decode", Datum::real(times[1].decode_per_second / before));
    }
  }
  map.set("model", datum_of(times.back()));
  return map;
}

}  // namespace mcompress::tools
