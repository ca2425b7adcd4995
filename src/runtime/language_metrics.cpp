#include "runtime/language_metrics.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/feeds.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Fewer classes than that are no vocabulary: taggers have outputs of the same rank.
constexpr std::int64_t kLeastVocabulary = 1000;

bool is_float(const PortInfo& port) {
  const DTypeInfo* info = find_dtype(port.type.element);
  return info != nullptr && info->floating;
}

const PortInfo* find_logits(const Session& session, const std::vector<LanguageInput>& roles) {
  const PortInfo* first = nullptr;
  for (const PortInfo& port : session.outputs()) {
    if (!is_float(port)) continue;
    if (port.type.shape && port.type.shape->size() != 3) continue;
    if (lower(port.name) == "logits") return &port;
    const bool present = std::ranges::any_of(
        roles, [&](const LanguageInput& input) { return input.present == port.name; });
    if (port.type.shape && !present && first == nullptr) first = &port;
  }
  return first;
}

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

}  // namespace

bool is_share(Metric metric) { return metric != Metric::kPerplexity; }

double drop_between(const Evaluation& before, const Evaluation& after) {
  if (is_share(after.metric)) return (before.value - after.value) * 100;
  return (after.value / before.value - 1) * 100;
}

Metric settled_metric(const Session& session, const DataSource& data,
                      const EvaluateOptions& options) {
  if (options.metric != Metric::kAuto) return options.metric;
  if (data.labels().numbers || !data.labels().texts.empty()) return Metric::kAuto;
  const std::vector<LanguageInput> roles = session_roles(session, options.language);
  const LanguageInput* ids = find_role(roles, InputRole::kTokenIds);
  if (ids == nullptr || roles.size() != session.inputs().size()) return Metric::kAuto;
  const PortInfo* logits = find_logits(session, roles);
  if (logits == nullptr || (!options.output.empty() && options.output != logits->name)) {
    return Metric::kAuto;
  }
  if (find_role(roles, InputRole::kPast) != nullptr) return Metric::kPerplexity;
  if (find_role(roles, InputRole::kTokenTypeIds) != nullptr) return Metric::kAuto;  // an encoder
  const std::optional<std::int64_t> classes =
      logits->type.shape ? logits->type.shape->back().size : std::nullopt;
  return classes.value_or(0) >= kLeastVocabulary ? Metric::kPerplexity : Metric::kAuto;
}

std::vector<LanguageInput> session_roles(const Session& session,
                                         const std::vector<LanguageInput>& given) {
  const auto inputs = session.inputs();
  const bool all = !given.empty() && std::ranges::all_of(inputs, [&](const PortInfo& port) {
    return std::ranges::find(given, port.name, &LanguageInput::name) != given.end();
  });
  return all || inputs.empty() ? given : language_inputs(inputs, session.outputs());
}

Result<std::string> pick_logits(const Session& session, const std::vector<LanguageInput>& roles,
                                const std::string& wanted) {
  if (!wanted.empty()) {
    MCOMPRESS_TRY(check_fetch(session.outputs(), {&wanted, 1}));
    return wanted;
  }
  const PortInfo* logits = find_logits(session, roles);
  if (logits != nullptr) return logits->name;
  return Error(Code::kUsage, "no-logits",
               "no output has the form [batch, length, vocabulary] of a language model", {},
               "name the output");
}

Result<TokenRows> token_rows(std::span<const NamedTensor> feeds,
                             const std::vector<LanguageInput>& roles, std::int64_t pad_id) {
  TokenRows tokens;
  const auto feed_of = [&](InputRole role) -> const NamedTensor* {
    const LanguageInput* input = find_role(roles, role);
    if (input == nullptr) return nullptr;
    const auto found = std::ranges::find(feeds, input->name, &NamedTensor::name);
    return found == feeds.end() ? nullptr : &*found;
  };
  const NamedTensor* ids = feed_of(InputRole::kTokenIds);
  if (ids == nullptr || ids->tensor.dims().size() != 2) {
    return Error(Code::kUsage, "no-token-ids",
                 "the model has no input of token ids [batch, length]", {},
                 "this metric is for language models");
  }
  tokens.rows = ids->tensor.dims()[0];
  tokens.length = ids->tensor.dims()[1];
  MCOMPRESS_ASSIGN(tokens.ids, read_ints(ids->tensor));
  tokens.real.resize(tokens.ids.size());
  for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
    tokens.real[i] = tokens.ids[i] >= 0 && (pad_id < 0 || tokens.ids[i] != pad_id) ? 1 : 0;
  }
  const NamedTensor* mask = feed_of(InputRole::kAttentionMask);
  if (mask == nullptr) return tokens;
  const auto dims = mask->tensor.dims();
  if (dims.size() != 2 || dims[0] != tokens.rows || dims[1] < tokens.length) {
    return Error(Code::kInput, "mask-shape", "the mask has another shape than the token ids",
                 at(mask->name));
  }
  MCOMPRESS_ASSIGN(const std::vector<float> values, read_floats(mask->tensor));
  const auto length = static_cast<std::size_t>(tokens.length);
  const auto width = static_cast<std::size_t>(dims[1]);
  for (std::size_t i = 0; i < tokens.real.size(); ++i) {
    const std::size_t column = i % length + width - length;
    if (values[i / length * width + column] == 0.0F) tokens.real[i] = 0;
  }
  return tokens;
}

Result<std::vector<NamedTensor>> fitted_feeds(const Session& session,
                                              std::span<const NamedTensor> feeds,
                                              const TokenRows& tokens) {
  std::vector<NamedTensor> fitted;
  if (session.inputs().empty()) {
    fitted.assign(feeds.begin(), feeds.end());
    return fitted;
  }
  const std::vector<LanguageInput> roles = language_inputs(session.inputs(), session.outputs());
  std::vector<std::uint8_t> padding(tokens.real.size());
  for (std::size_t i = 0; i < padding.size(); ++i) padding[i] = tokens.real[i] == 0 ? 1 : 0;
  for (const PortInfo& port : session.inputs()) {
    const auto feed = std::ranges::find(feeds, port.name, &NamedTensor::name);
    const auto role = std::ranges::find(roles, port.name, &LanguageInput::name);
    if (feed != feeds.end()) {
      fitted.push_back(*feed);
    } else if (role != roles.end() && role->role != InputRole::kTokenIds) {
      MCOMPRESS_ASSIGN(Tensor tensor, derive_input(*role, tokens.rows, tokens.length, 0, padding));
      fitted.push_back({port.name, std::move(tensor)});
    }  // else the session says what it misses
  }
  return fitted;
}

std::vector<RunRange> run_ranges(const DataSource& data, std::int64_t samples, std::int64_t batch) {
  const std::int64_t fixed = data.fixed_batch();
  if (fixed > 0) {
    batch = fixed;
  } else if (!data.can_batch()) {
    batch = 1;
  }
  std::vector<RunRange> ranges;
  for (std::int64_t first = 0; first < samples;) {
    // A fixed batch that passes the end reaches back.
    const std::int64_t count = fixed > 1 ? batch : std::min(batch, samples - first);
    const std::int64_t start = std::max<std::int64_t>(std::min(first, samples - count), 0);
    ranges.push_back({start, count, first - start});
    first = start + count;
  }
  return ranges;
}

}  // namespace mcompress
