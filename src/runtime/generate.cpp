// Greedy generation, with keys and values of earlier tokens or without, and the metric made of it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <utility>

#include "runtime/decisions.h"
#include "runtime/language_metrics.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

Tensor ids_tensor(DataType dtype, std::span<const std::int64_t> ids) {
  std::vector<std::int64_t> dims = {1, static_cast<std::int64_t>(ids.size())};
  if (dtype == DataType::kInt64) return make_int64_tensor(ids, std::move(dims));
  const std::vector<std::int32_t> narrow(ids.begin(), ids.end());
  const auto bytes = std::as_bytes(std::span(narrow));
  return make_bytes_tensor(dtype, std::move(dims), {bytes.begin(), bytes.end()});
}

}  // namespace

Result<Generator> Generator::make(Session& session, std::vector<LanguageInput> roles,
                                  std::string logits) {
  Generator generator(session);
  generator.roles_ = session_roles(session, roles);
  const LanguageInput* ids = find_role(generator.roles_, InputRole::kTokenIds);
  if (ids == nullptr) {
    return Error(Code::kUsage, "no-token-ids", "the model has no input of token ids", {},
                 "only language models generate tokens");
  }
  for (const PortInfo& port : session.inputs()) {
    const auto role = std::ranges::find(generator.roles_, port.name, &LanguageInput::name);
    if (role != generator.roles_.end()) continue;
    return Error(Code::kUsage, "input-without-role",
                 "nothing says what this input of the model is while tokens are generated",
                 at(port.name), "only decoders of token ids generate");
  }
  if (!ids->dims.empty() && ids->dims.front() > 1) {
    return Error(Code::kUnsupported, "fixed-batch",
                 "the model takes " + std::to_string(ids->dims.front()) + " sequences at a time",
                 at(ids->name), "make the batch axis 1 or open");
  }
  if (ids->dims.size() == 2 && ids->dims[1] > 0) generator.fixed_length_ = ids->dims[1];
  MCOMPRESS_ASSIGN(std::string output, pick_logits(session, generator.roles_, logits));
  generator.fetch_.push_back(std::move(output));
  bool all = true;
  std::size_t pasts = 0;
  for (const LanguageInput& role : generator.roles_) {
    if (role.role != InputRole::kPast) continue;
    ++pasts;
    all =
        all && !role.present.empty() && std::ranges::count(role.dims, LanguageInput::kLength) == 1;
  }
  generator.cached_ = pasts > 0 && all && generator.fixed_length_ <= 1;
  if (!generator.cached_) return generator;
  for (const LanguageInput& role : generator.roles_) {
    if (role.role == InputRole::kPast) generator.fetch_.push_back(role.present);
  }
  return generator;
}

Result<std::vector<NamedTensor>> Generator::feeds_for(std::span<const std::int64_t> tokens,
                                                      std::int64_t past) const {
  std::vector<std::int64_t> ids(tokens.begin(), tokens.end());
  std::vector<std::uint8_t> padding;
  if (fixed_length_ > static_cast<std::int64_t>(ids.size())) {
    padding.resize(static_cast<std::size_t>(fixed_length_), 1);
    std::fill_n(padding.begin(), ids.size(), std::uint8_t{0});
    ids.resize(static_cast<std::size_t>(fixed_length_), 0);
  } else if (fixed_length_ > 0 && fixed_length_ < static_cast<std::int64_t>(ids.size())) {
    return Error(Code::kInput, "sequence-too-long",
                 "the model takes " + std::to_string(fixed_length_) + " tokens, and there are " +
                     std::to_string(ids.size()) + " with those generated",
                 {}, "give shorter prompts, or generate fewer tokens");
  }
  const auto length = static_cast<std::int64_t>(ids.size());
  std::vector<NamedTensor> feeds;
  std::size_t next = 0;
  for (const LanguageInput& role : roles_) {
    if (role.role == InputRole::kTokenIds) {
      feeds.push_back({role.name, ids_tensor(role.dtype, ids)});
    } else if (role.role == InputRole::kPast && past > 0) {
      feeds.push_back({role.name, pasts_[next++]});
    } else {
      MCOMPRESS_ASSIGN(Tensor tensor, derive_input(role, 1, length, past, padding));
      feeds.push_back({role.name, std::move(tensor)});
    }
  }
  return feeds;
}

Result<std::int64_t> Generator::step(std::span<const std::int64_t> tokens, std::int64_t past) {
  MCOMPRESS_ASSIGN(const auto feeds, feeds_for(tokens, past));
  std::vector<Tensor> presents(fetch_.size() - 1);
  std::int64_t token = -1;
  MCOMPRESS_TRY(session_->run(feeds, fetch_, [&](std::size_t i, const TensorView& view) -> Status {
    if (i > 0) {
      presents[i - 1] =
          make_bytes_tensor(view.dtype, {view.dims.begin(), view.dims.end()},
                            std::vector<std::byte>(view.bytes.begin(), view.bytes.end()));
      return ok_status();
    }
    const auto& dims = view.dims;
    const auto width = dims.empty() ? 0 : static_cast<std::size_t>(dims.back());
    if (dims.size() != 3 || dims[0] != 1 || dims[1] < 1 || width == 0) {
      return Error(Code::kInput, "logits-shape", "the output is not [1, length, vocabulary]",
                   at(fetch_.front()), "name the output with the logits");
    }
    // Only the row of the last real token; models that give no other have it alone.
    const auto rows = static_cast<std::size_t>(dims[1]);
    const std::size_t row = std::min(tokens.size(), rows) - 1;
    const std::size_t bytes = view.bytes.size() / rows;
    const std::vector<std::int64_t> last = {static_cast<std::int64_t>(width)};
    const TensorView part{view.dtype, last, view.bytes.subspan(row * bytes, bytes)};
    MCOMPRESS_ASSIGN(const std::vector<float> values, view_values(part, fetch_.front()));
    token = argmax(values);
    return ok_status();
  }));
  if (token < 0) {
    return Error(Code::kInput, "logits-not-numbers", "every logit of the next token is NaN",
                 at(fetch_.front()));
  }
  pasts_ = std::move(presents);
  return token;
}

Result<Generated> Generator::run(std::span<const std::int64_t> prompt, std::int64_t count,
                                 Progress& progress) {
  if (prompt.empty() || count < 1) {
    return Error(Code::kUsage, "no-prompt", "a prompt of one token and one to generate are wanted");
  }
  pasts_.clear();
  Generated result;
  std::vector<std::int64_t> sequence(prompt.begin(), prompt.end());
  for (std::int64_t i = 0; i < count; ++i) {
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
    const Clock::time_point start = Clock::now();
    std::int64_t token = 0;
    const auto length = static_cast<std::int64_t>(sequence.size());
    if (!cached_) {
      MCOMPRESS_ASSIGN(token, step(sequence, 0));
    } else if (i > 0) {
      MCOMPRESS_ASSIGN(token, step(std::span(sequence).last(1), length - 1));
    } else if (fixed_length_ == 0) {
      MCOMPRESS_ASSIGN(token, step(sequence, 0));
    } else {  // one token at a time, from the start
      for (std::int64_t past = 0; past < length; ++past) {
        MCOMPRESS_ASSIGN(
            token, step(std::span(sequence).subspan(static_cast<std::size_t>(past), 1), past));
      }
    }
    const double time = milliseconds_since(start);
    if (i == 0) {
      result.first_ms = time;
    } else {
      result.steps_ms.push_back(time);
    }
    result.tokens.push_back(token);
    sequence.push_back(token);
  }
  return result;
}

Result<std::vector<std::vector<std::int64_t>>> prompts_of(DataSource& data,
                                                          std::span<const LanguageInput> roles,
                                                          std::int64_t limit) {
  const std::int64_t samples = limit > 0 ? std::min(limit, data.count()) : data.count();
  const std::vector<LanguageInput> known(roles.begin(), roles.end());
  std::vector<std::vector<std::int64_t>> prompts;
  for (const RunRange& range : run_ranges(data, samples, 1)) {
    MCOMPRESS_ASSIGN(const auto feeds, data.batch(range.start, range.count));
    MCOMPRESS_ASSIGN(const TokenRows tokens, token_rows(feeds, known, -1));
    const auto length = static_cast<std::size_t>(tokens.length);
    for (auto row = static_cast<std::size_t>(range.seen);
         row < static_cast<std::size_t>(tokens.rows); ++row) {
      std::vector<std::int64_t> prompt;
      for (std::size_t i = row * length; i < (row + 1) * length; ++i) {
        if (tokens.real[i] != 0) prompt.push_back(tokens.ids[i]);
      }
      if (!prompt.empty()) prompts.push_back(std::move(prompt));
    }
  }
  if (prompts.empty()) {
    return Error(Code::kInput, "no-prompt", "the data hold no prompt: every token is padding");
  }
  return prompts;
}

Result<Evaluation> evaluate_generation(Session& session, DataSource& data,
                                       const EvaluateOptions& options, Progress& progress) {
  if (options.reference == nullptr) {
    return Error(Code::kUsage, "metric-no-reference",
                 "what is generated is compared with a reference model's");
  }
  MCOMPRESS_ASSIGN(Generator own, Generator::make(session, options.language, options.output));
  MCOMPRESS_ASSIGN(Generator other,
                   Generator::make(*options.reference, options.language, options.output));
  MCOMPRESS_ASSIGN(const auto prompts,
                   prompts_of(data, session_roles(session, options.language), options.limit));
  Evaluation result;
  result.metric = Metric::kGeneration;
  result.samples = static_cast<std::int64_t>(prompts.size());
  double first_difference = 0, whole = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    progress.update("generate", i, prompts.size(), "samples");
    MCOMPRESS_ASSIGN(const Generated one, own.run(prompts[i], options.tokens, progress));
    MCOMPRESS_ASSIGN(const Generated two, other.run(prompts[i], options.tokens, progress));
    const auto differ = std::ranges::mismatch(one.tokens, two.tokens).in1 - one.tokens.begin();
    first_difference += static_cast<double>(differ);
    if (static_cast<std::size_t>(differ) == one.tokens.size()) whole += 1;
    for (std::size_t t = 0; t < one.tokens.size(); ++t) {
      ++result.decisions;
      if (one.tokens[t] == two.tokens[t]) ++result.correct;
    }
  }
  const auto count = static_cast<double>(prompts.size());
  result.value = static_cast<double>(result.correct) / static_cast<double>(result.decisions);
  result.figures["first_difference"] = first_difference / count;
  result.figures["equal_sequences"] = whole / count;
  return result;
}

}  // namespace mcompress
