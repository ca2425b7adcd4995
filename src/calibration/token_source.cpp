// Token ids, and what they imply for the other inputs of a language model.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "calibration/sources.h"
#include "support/hash.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kSequenceLength = 128;

class DerivedSource final : public DataSource {
 public:
  DerivedSource(std::unique_ptr<DataSource> source, std::vector<LanguageInput> missing,
                const SampleOptions& options, std::string file)
      : source_(std::move(source)),
        missing_(std::move(missing)),
        roles_(options.language),
        pad_id_(options.pad_id),
        file_(std::move(file)) {}

  std::int64_t count() const override { return source_->count(); }
  std::string description() const override { return source_->description(); }
  bool can_batch() const override { return source_->can_batch(); }
  std::int64_t fixed_batch() const override { return source_->fixed_batch(); }
  const Labels& labels() const override { return source_->labels(); }

  std::uint64_t digest() const override {
    const std::uint64_t digest = source_->digest();
    if (digest == 0 || pad_id_ < 0) return digest;
    return Hasher().integer(digest).integer(static_cast<std::uint64_t>(pad_id_)).digest();
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    MCOMPRESS_ASSIGN(std::vector<NamedTensor> feeds, source_->batch(first, count));
    std::int64_t rows = 0, length = 0;
    std::vector<std::uint8_t> padding;
    MCOMPRESS_TRY(find_tokens(feeds, rows, length, padding));
    for (const LanguageInput& input : missing_) {
      auto tensor = derive_input(input, rows, length, 0, padding);
      if (!tensor.ok()) return std::move(tensor).error().in_file(file_);
      feeds.push_back({input.name, std::move(tensor).value()});
    }
    return feeds;
  }

 private:
  const LanguageInput* role_of(const NamedTensor& feed) const {
    const auto found = std::ranges::find(roles_, feed.name, &LanguageInput::name);
    return found == roles_.end() ? nullptr : &*found;
  }

  // How many sequences of what length there are, and which tokens are padding. Negative ids become
  // 0 where a mask is derived that hides them.
  Status find_tokens(std::vector<NamedTensor>& feeds, std::int64_t& rows, std::int64_t& length,
                     std::vector<std::uint8_t>& padding) const {
    NamedTensor* ids = nullptr;
    const NamedTensor* mask = nullptr;
    const NamedTensor* any = nullptr;
    for (NamedTensor& feed : feeds) {
      const LanguageInput* input = role_of(feed);
      if (input == nullptr || feed.tensor.dims().size() != 2) continue;
      if (input->role == InputRole::kTokenIds && ids == nullptr) ids = &feed;
      if (input->role == InputRole::kAttentionMask) mask = &feed;
      if (any == nullptr) any = &feed;
    }
    if (ids != nullptr) any = ids;
    if (any == nullptr) {
      return Error(Code::kInput, "tokens-missing",
                   "nothing says how many tokens there are: no input has the shape of the ids",
                   {file_, {}, {}});
    }
    rows = any->tensor.dims()[0];
    length = any->tensor.dims()[1];
    const auto count = static_cast<std::size_t>(any->tensor.elements());
    if (mask != nullptr && mask->tensor.elements() == any->tensor.elements()) {
      MCOMPRESS_ASSIGN(const std::vector<float> values, read_floats(mask->tensor));
      padding.resize(count);
      for (std::size_t i = 0; i < count; ++i) padding[i] = values[i] == 0.0F ? 1 : 0;
      return ok_status();
    }
    if (ids == nullptr) return ok_status();
    MCOMPRESS_ASSIGN(std::vector<std::int64_t> values, read_ints(ids->tensor));
    bool negative = false;
    for (std::size_t i = 0; i < count; ++i) {
      if (values[i] >= 0 && (pad_id_ < 0 || values[i] != pad_id_)) continue;
      padding.resize(count);
      padding[i] = 1;
      negative = negative || values[i] < 0;
    }
    const bool hides = find_role(missing_, InputRole::kAttentionMask) != nullptr;
    if (!negative || !hides) return ok_status();
    for (std::int64_t& value : values) value = std::max<std::int64_t>(value, 0);
    std::vector<std::int64_t> dims(ids->tensor.dims().begin(), ids->tensor.dims().end());
    if (ids->tensor.dtype() == DataType::kInt64) {
      ids->tensor = make_int64_tensor(values, std::move(dims));
      return ok_status();
    }
    std::vector<std::int32_t> narrow(values.begin(), values.end());
    const auto bytes = std::as_bytes(std::span(narrow));
    ids->tensor =
        make_bytes_tensor(ids->tensor.dtype(), std::move(dims), {bytes.begin(), bytes.end()});
    return ok_status();
  }

  std::unique_ptr<DataSource> source_;
  std::vector<LanguageInput> missing_, roles_;
  std::int64_t pad_id_;
  std::string file_;
};

bool sees_rows(const LanguageInput& role) {
  return role.role != InputRole::kPast && role.role != InputRole::kCacheBranch &&
         role.dims.size() == 2;
}

// The first of other names under which the ids are often kept.
void rename_ids(ArraySet& set, const PortInfo& port, std::span<const PortInfo> inputs,
                Diagnostics& diagnostics) {
  if (set.arrays.contains(port.name)) return;
  constexpr std::array<std::string_view, 6> kNames = {"input_ids", "ids",          "tokens",
                                                      "token_ids", "input_tokens", "arr_0"};
  for (const std::string_view name : kNames) {
    auto found = set.arrays.find(name);
    if (found == set.arrays.end()) continue;
    if (std::ranges::find(inputs, name, &PortInfo::name) != inputs.end()) continue;
    diagnostics.note("data-token-ids",
                     "the array '" + std::string(name) + "' is taken for the token ids",
                     {set.file, {}, port.name});
    set.arrays.emplace(port.name, std::move(found->second));
    set.arrays.erase(found);
    return;
  }
}

// Arrays of tokens that are to be cut: each becomes [sequences, `length`].
void cut(ArraySet& set, const std::vector<LanguageInput>& roles, std::int64_t held,
         std::int64_t length) {
  for (const LanguageInput& role : roles) {
    const auto found = set.arrays.find(role.name);
    if (found == set.arrays.end() || !sees_rows(role)) continue;
    found->second = [open = std::move(found->second), held, length]() -> Result<NpyArray> {
      MCOMPRESS_ASSIGN(NpyArray array, open());
      std::int64_t elements = 1;
      for (const std::int64_t size : array.header().shape) elements *= size;
      if (elements == held) array.reshape({held / length, length});
      return array;
    };
  }
}

// One row of tokens, or rows that are to be shorter.
Status cut_sequences(ArraySet& set, const LanguageInput& ids,
                     const std::vector<LanguageInput>& roles, const SampleOptions& options,
                     Diagnostics& diagnostics) {
  if (options.feeding == Feeding::kIndex || ids.dims.size() != 2) return ok_status();
  MCOMPRESS_ASSIGN(const NpyArray array, set.arrays.find(ids.name)->second());
  const std::vector<std::int64_t>& shape = array.header().shape;
  const Location where{set.file, {}, ids.name};
  if (shape.empty() || shape.size() > 2) return ok_status();
  const bool row = shape.size() == 1 || shape[0] == 1;
  const std::int64_t held = shape.size() == 1 ? shape[0] : shape[0] * shape[1];
  const std::int64_t fixed = std::max<std::int64_t>(ids.dims[1], 0);
  if (options.sequence_length > 0 && fixed > 0 && options.sequence_length != fixed) {
    return Error(Code::kUsage, "sequence-length",
                 "the model takes sequences of " + std::to_string(fixed) + " tokens, not of " +
                     std::to_string(options.sequence_length),
                 where);
  }
  std::int64_t length = options.sequence_length > 0 ? options.sequence_length : fixed;
  if (shape.size() == 2) {
    if (options.sequence_length == 0 || shape[1] == length || held == 0) return ok_status();
    if (shape[1] < length) return ok_status();  // shorter than asked for
    if (!row && shape[1] % length != 0) {
      return Error(Code::kUsage, "sequence-length",
                   "rows of " + std::to_string(shape[1]) +
                       " tokens do not divide into sequences of " + std::to_string(length),
                   where, "save all tokens as one row");
    }
  }
  if (length == 0) {
    length = std::min(kSequenceLength, held);
    const LanguageInput* positions = find_role(roles, InputRole::kPositionIds);
    if (positions != nullptr && positions->table_rows > 0) {
      length = std::min(length, positions->table_rows);
    }
  }
  if (held < length || length == 0) {
    if (held > 0 && fixed == 0) {
      length = held;
    } else {
      return Error(Code::kInput, "data-empty",
                   "there are " + std::to_string(held) + " tokens, fewer than one sequence of " +
                       std::to_string(length),
                   where);
    }
  }
  cut(set, roles, held, length);
  std::string note = std::to_string(held) + " tokens are cut into " +
                     std::to_string(held / length) + " sequences of " + std::to_string(length);
  if (held % length != 0) note += "; the last " + std::to_string(held % length) + " are left out";
  diagnostics.note("data-sequences", std::move(note), where);
  return ok_status();
}

}  // namespace

std::vector<LanguageInput> roles_of(std::span<const PortInfo> inputs,
                                    const SampleOptions& options) {
  return options.language.empty() ? language_inputs(inputs, {}) : options.language;
}

const PortInfo* token_ids_port(std::span<const PortInfo> inputs, const SampleOptions& options) {
  const std::vector<LanguageInput> roles = roles_of(inputs, options);
  const PortInfo* ids = nullptr;
  for (const PortInfo& port : inputs) {
    const auto role = std::ranges::find(roles, port.name, &LanguageInput::name);
    if (role == roles.end()) return nullptr;
    if (role->role != InputRole::kTokenIds) continue;
    if (ids != nullptr) return nullptr;
    ids = &port;
  }
  return ids;
}

bool tokens_suffice(std::span<const PortInfo> inputs, const SampleOptions& options,
                    const std::function<bool(const std::string&)>& has) {
  const std::vector<LanguageInput> roles = roles_of(inputs, options);
  bool any = false;
  for (const PortInfo& port : inputs) {
    if (has(port.name)) {
      any = true;
      continue;
    }
    const auto role = std::ranges::find(roles, port.name, &LanguageInput::name);
    if (role == roles.end() || role->role == InputRole::kTokenIds) return false;
  }
  return any;
}

std::unique_ptr<DataSource> derive_missing(std::unique_ptr<DataSource> source,
                                           std::vector<LanguageInput> missing,
                                           const SampleOptions& options, const std::string& file,
                                           Diagnostics& diagnostics) {
  std::size_t pasts = 0;
  std::string first;
  for (const LanguageInput& input : missing) {
    std::string what;
    switch (input.role) {
      case InputRole::kAttentionMask:
        what = "1, and 0 on padding";
        break;
      case InputRole::kPositionIds:
        what = "0, 1, 2 and so on";
        break;
      case InputRole::kTokenTypeIds:
        what = "0";
        break;
      case InputRole::kCacheBranch:
        what = "false";
        break;
      case InputRole::kPast:
        if (pasts++ == 0) first = input.name;
        continue;
      case InputRole::kTokenIds:
        continue;
    }
    diagnostics.note("data-derived",
                     std::string(role_name(input.role)) + ": derived from the token ids, " + what,
                     {file, {}, input.name});
  }
  if (pasts > 0) {
    std::string note(role_name(InputRole::kPast));
    note += ": derived, of no token";
    if (pasts > 1) note += " (and " + std::to_string(pasts - 1) + " more)";
    diagnostics.note("data-derived", std::move(note), {file, {}, first});
  }
  return std::make_unique<DerivedSource>(std::move(source), std::move(missing), options, file);
}

Result<std::unique_ptr<DataSource>> open_token_arrays(ArraySet set,
                                                      std::span<const PortInfo> inputs,
                                                      const SampleOptions& options,
                                                      Diagnostics& diagnostics) {
  SampleOptions own = options;
  own.language = roles_of(inputs, options);
  std::vector<PortInfo> present;
  std::vector<LanguageInput> missing, here;
  for (const PortInfo& port : inputs) {
    const auto role = std::ranges::find(own.language, port.name, &LanguageInput::name);
    if (role != own.language.end()) {
      here.push_back(*role);
      if (role->role == InputRole::kTokenIds) rename_ids(set, port, inputs, diagnostics);
    }
    if (set.arrays.contains(port.name)) {
      present.push_back(port);
    } else if (role != own.language.end() && role->role != InputRole::kTokenIds) {
      missing.push_back(*role);
    } else {
      return open_arrays(set, {&port, 1}, options, diagnostics);  // which says what is missing
    }
  }
  if (here.empty() || present.empty()) return open_arrays(set, inputs, options, diagnostics);
  if (const LanguageInput* ids = find_role(here, InputRole::kTokenIds); ids != nullptr) {
    Status ready = cut_sequences(set, *ids, here, options, diagnostics);
    if (!ready.ok()) return std::move(ready).error().in_file(set.file);
  }
  const std::string file = set.file;
  MCOMPRESS_ASSIGN(auto source, open_arrays(set, present, options, diagnostics));
  if (missing.empty()) return source;
  return derive_missing(std::move(source), std::move(missing), own, file, diagnostics);
}

}  // namespace mcompress
