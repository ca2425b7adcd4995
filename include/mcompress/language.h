// Language models: what each of their inputs is, and text generation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// ------------------------------------------------------------------------------------ inputs

// kTokenIds: integers [batch, length]. kAttentionMask: 1 for tokens, 0 for padding,
// [batch, past + length]. kPositionIds: [batch, length] or [length]. kTokenTypeIds: [batch,
// length]. kPast: keys or values of earlier tokens, three to five axes. kCacheBranch: whether the
// pasts are to be used, one boolean.
enum class InputRole : std::uint8_t {
  kTokenIds,
  kAttentionMask,
  kPositionIds,
  kTokenTypeIds,
  kPast,
  kCacheBranch
};
std::string_view role_name(InputRole role);  // "token ids"

struct LanguageInput {
  std::string name;
  InputRole role = InputRole::kTokenIds;
  DataType dtype = DataType::kUndefined;
  // Sizes as far as the model fixes them; kBatch and kLength stand for what the tokens decide,
  // kUnknown for what nothing says. For kPast, kLength is the number of earlier tokens.
  static constexpr std::int64_t kBatch = -1, kLength = -2, kUnknown = -3;
  std::vector<std::int64_t> dims;
  std::string present;  // kPast: the output that becomes this input one step later; may be empty
  // kTokenIds, kPositionIds: rows of the table that they look up, which is the vocabulary, and the
  // longest sequence; 0: not known.
  std::int64_t table_rows = 0;
};

// Inputs whose role is plain from their names, types and ranks (the names that exporters of
// transformers give), in the order of `inputs`; others are left out. A model without an input of
// that kind has no roles at all, but for a single integer input of rank 2 beside them, which is the
// token ids. Pasts and presents are paired by their names without the words for "past" and
// "present", else by order where there are as many outputs of that rank.
std::vector<LanguageInput> language_inputs(std::span<const PortInfo> inputs,
                                           std::span<const PortInfo> outputs);
// The same with what the graph tells where names do not: integers of rank 2 that a Gather looks up
// in a float table of rank 2 are token ids (the largest table's), floats that a Concat or an
// attention operator lengthens into an output of the same rank are pasts, paired with it.
std::vector<LanguageInput> language_inputs(const Model& model);

const LanguageInput* find_role(std::span<const LanguageInput> inputs, InputRole role);

// The values of an input that tokens of `ids` [batch, length] imply, `past` earlier tokens in front
// of them. `padding` (batch * length values, or empty: none) is 1 where a token is no real one.
// Masks are 1 but for padding (and for a past of fixed length that holds nothing), positions count
// from `past` over real tokens where padding comes first, token types and pasts are 0. Fails with
// kInput where a size is kUnknown.
Result<Tensor> derive_input(const LanguageInput& input, std::int64_t batch, std::int64_t length,
                            std::int64_t past, std::span<const std::uint8_t> padding);

// -------------------------------------------------------------------------------- generation

// The most likely continuation of a prompt, token by token.
struct Generated {
  std::vector<std::int64_t> tokens;
  double first_ms = 0;           // until the first token: the whole prompt
  std::vector<double> steps_ms;  // of every further token
};

class Generator {
 public:
  // Roles as language_inputs gives them; empty: by the session's names. `logits` names the output
  // [batch, length, vocabulary]; empty: found by its shape. Fails with kUsage where the model is no
  // decoder: no token ids, no such output, or inputs that no role fills.
  static Result<Generator> make(Session& session, std::vector<LanguageInput> roles,
                                std::string logits);

  // Whether the model takes keys and values of earlier tokens: then each step feeds one token, else
  // the whole sequence again (padded on the right where its length is fixed).
  bool cached() const { return cached_; }
  // `prompt` holds at least one token, `count` > 0. Ties go to the lower token. Fails with kInput
  // where a fixed length is too short, with kCancelled on request.
  Result<Generated> run(std::span<const std::int64_t> prompt, std::int64_t count,
                        Progress& progress);

 private:
  explicit Generator(Session& session) : session_(&session) {}
  Result<std::int64_t> step(std::span<const std::int64_t> tokens, std::int64_t past);
  Result<std::vector<NamedTensor>> feeds_for(std::span<const std::int64_t> tokens,
                                             std::int64_t past) const;

  Session* session_;
  std::vector<LanguageInput> roles_;
  std::vector<std::string> fetch_;  // logits, then the presents of the pasts in order
  std::int64_t fixed_length_ = 0;   // of the token ids; 0: any
  bool cached_ = false;
  std::vector<Tensor> pasts_;  // in the order of the pasts among the roles
};

// Prompts of a data source: the real tokens of each sample, padding left out. `roles` as above.
Result<std::vector<std::vector<std::int64_t>>> prompts_of(DataSource& data,
                                                          std::span<const LanguageInput> roles,
                                                          std::int64_t limit);

struct GenerationTarget {
  std::string name;
  std::function<Result<std::unique_ptr<Session>>()> open;
  std::vector<LanguageInput> roles;
};
struct GenerationTimes {
  std::string name;
  bool cached = false;
  std::int64_t rounds = 0, prompt_tokens = 0;  // prompt tokens of all rounds
  double first_ms = 0;                         // median time to the first token
  double step_ms = 0, step_p99_ms = 0;         // of a further one: median, 99th percentile
  double prefill_per_second = 0;               // prompt tokens per second, over all rounds
  double decode_per_second = 0;                // further tokens per second, over all rounds
};
struct GenerationOptions {
  std::int64_t tokens = 32;  // at least 2
  std::int64_t warm_up = 1;  // rounds that do not count
  std::int64_t rounds = 0;   // 0: as many as `seconds` allow, 3 at least
  double seconds = 1;        // of each target
};
// All targets generate from the same prompt in turn, round by round. One copy of the keys and
// values per token is part of the times.
Result<std::vector<GenerationTimes>> bench_generation(
    std::span<const GenerationTarget> targets, std::span<const std::vector<std::int64_t>> prompts,
    const GenerationOptions& options, Progress& progress);

}  // namespace mcompress
