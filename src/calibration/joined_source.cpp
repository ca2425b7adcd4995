// open_data: several inputs side by side, and balancing.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "calibration/chosen_samples.h"
#include "calibration/sources.h"
#include "support/hash.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

class JoinedSource final : public DataSource {
 public:
  JoinedSource(std::vector<SourcePart> parts, std::string file)
      : parts_(std::move(parts)), file_(std::move(file)) {
    for (const SourcePart& part : parts_) {
      const Labels& labels = part.source->labels();
      if (!labels.numbers && labels.texts.empty()) continue;
      labels_ = labels;
      break;
    }
  }

  void set_labels(Labels labels) { labels_ = std::move(labels); }

  // Equal numbers of samples, and batches that fit together.
  Status check() const {
    for (const SourcePart& part : parts_) {
      const SourcePart& first = parts_.front();
      if (part.source->count() != count()) {
        return Error(Code::kInput, "data-count",
                     "there are " + std::to_string(part.source->count()) + " samples, but " +
                         std::to_string(count()) + " of '" + first.name + "'",
                     {file_, {}, part.name});
      }
      const std::int64_t fixed = part.source->fixed_batch();
      if (fixed == 0 || fixed == fixed_batch()) continue;
      return Error(Code::kInput, "data-shape",
                   "the model's inputs fix their batch axis to " + std::to_string(fixed) +
                       " and to " + std::to_string(fixed_batch()),
                   {file_, {}, part.name});
    }
    return ok_status();
  }

  std::int64_t count() const override { return parts_.front().source->count(); }
  std::string description() const override { return describe_source(count(), file_); }
  bool can_batch() const override {
    return std::ranges::all_of(parts_, [](const auto& part) { return part.source->can_batch(); });
  }
  std::int64_t fixed_batch() const override {
    std::int64_t fixed = 0;
    for (const SourcePart& part : parts_) fixed = std::max(fixed, part.source->fixed_batch());
    return fixed;
  }
  const Labels& labels() const override { return labels_; }

  std::uint64_t digest() const override {
    if (parts_.size() == 1) return parts_.front().source->digest();
    Hasher hasher;
    for (const SourcePart& part : parts_) {
      const std::uint64_t digest = part.source->digest();
      if (digest == 0) return 0;
      hasher.text(part.name).integer(digest);
    }
    return hasher.digest();
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    std::vector<NamedTensor> feeds;
    for (const SourcePart& part : parts_) {
      MCOMPRESS_ASSIGN(std::vector<NamedTensor> own, part.source->batch(first, count));
      std::ranges::move(own, std::back_inserter(feeds));
    }
    return feeds;
  }

 private:
  std::vector<SourcePart> parts_;
  std::string file_;
  Labels labels_;
};

// Samples by label, as text; empty: there is not one label per sample.
Result<std::map<std::string, std::vector<std::int64_t>>> samples_by_label(
    const DataSource& source) {
  std::map<std::string, std::vector<std::int64_t>> groups;
  const Labels& labels = source.labels();
  const auto count = static_cast<std::size_t>(source.count());
  for (std::size_t i = 0; i < std::min(labels.texts.size(), count); ++i) {
    groups[labels.texts[i]].push_back(static_cast<std::int64_t>(i));
  }
  if (!labels.numbers || labels.numbers->elements() != source.count()) return groups;
  MCOMPRESS_ASSIGN(const std::vector<std::int64_t> numbers, read_ints(*labels.numbers));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] == -1) continue;  // stands for no label
    groups[std::to_string(numbers[i])].push_back(static_cast<std::int64_t>(i));
  }
  return groups;
}

Status check_data_paths(std::span<const DataPath> paths, std::span<const PortInfo> inputs) {
  std::vector<std::string> names, seen;
  for (const PortInfo& port : inputs) names.push_back(port.name);
  for (const DataPath& path : paths) {
    const Location where{path.path.string(), {}, path.input};
    if (std::ranges::find(seen, path.input) != seen.end()) {
      return Error(Code::kUsage, "data-input-twice",
                   path.input.empty() ? "two sources are given for the same inputs"
                                      : "two sources are given for this input",
                   where);
    }
    seen.push_back(path.input);
    if (path.input.empty() || std::ranges::find(names, path.input) != names.end()) continue;
    const std::string close = did_you_mean(path.input, names);
    return Error(Code::kUsage, "data-input-unknown", "the model has no input of this name", where,
                 close.empty() ? "its inputs are '" + join(names, "', '") + "'" : close);
  }
  return ok_status();
}

// One part per path, each for its inputs.
Result<std::vector<SourcePart>> open_parts(std::span<const DataPath> paths,
                                           std::span<const PortInfo> inputs,
                                           const SampleOptions& options, Diagnostics& diagnostics,
                                           std::vector<LanguageInput>& derived) {
  std::vector<std::vector<PortInfo>> served(paths.size());
  const std::vector<LanguageInput> roles = roles_of(inputs, options);
  const auto others = std::ranges::find(paths, std::string(), &DataPath::input);
  for (const PortInfo& port : inputs) {
    auto path = std::ranges::find(paths, port.name, &DataPath::input);
    if (path == paths.end()) path = others;
    if (path == paths.end()) {
      const auto role = std::ranges::find(roles, port.name, &LanguageInput::name);
      if (role != roles.end() && role->role != InputRole::kTokenIds) {
        derived.push_back(*role);
        continue;
      }
      return Error(Code::kInput, "data-input-missing",
                   "nothing is given for this input of the model", {{}, {}, port.name},
                   "--input NAME=PATH gives it data");
    }
    served[static_cast<std::size_t>(path - paths.begin())].push_back(port);
  }
  std::vector<SourcePart> parts;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (served[i].empty()) {
      return Error(Code::kUsage, "data-unused", "every input has data of its own already",
                   {paths[i].path.string(), {}, {}}, "leave it out");
    }
    SampleOptions own = options;
    own.raw = raw_for(options.raw, served[i]);
    SourcePart part;
    part.name = served[i].front().name;
    auto source = open_path(paths[i].path, served[i], own, diagnostics);
    if (!source.ok()) return std::move(source).error().in_file(paths[i].path.string());
    part.source = std::move(source).value();
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

Result<std::unique_ptr<DataSource>> join_sources(std::vector<SourcePart> parts,
                                                 std::optional<Labels> labels,
                                                 const std::string& file) {
  auto source = std::make_unique<JoinedSource>(std::move(parts), file);
  MCOMPRESS_TRY(source->check());
  if (labels) source->set_labels(*std::move(labels));
  return std::unique_ptr<DataSource>(std::move(source));
}

Result<std::unique_ptr<DataSource>> balance_labels(std::unique_ptr<DataSource> source,
                                                   std::int64_t limit, const std::string& file,
                                                   Diagnostics& diagnostics) {
  MCOMPRESS_ASSIGN(const auto groups, samples_by_label(*source));
  if (groups.empty()) {
    return Error(Code::kUsage, "balance-without-labels",
                 "balancing needs a label for each sample, these data have none", {file, {}, {}},
                 "labels are folders of images, a column of a list, or an array 'labels'");
  }
  std::size_t rarest = SIZE_MAX, most = 0;
  for (const auto& [label, members] : groups) {
    rarest = std::min(rarest, members.size());
    most = std::max(most, members.size());
  }
  // In turns: the labels that still have samples give one each. Within a label, samples are taken
  // evenly from all of them, since neighbours are often alike.
  const std::size_t turns = limit > 0 ? most : rarest;
  const auto wanted = static_cast<std::size_t>(limit > 0 ? limit : source->count());
  std::map<std::string, std::size_t> taken;
  std::size_t total = 0;
  for (std::size_t turn = 0; turn < turns && total < wanted; ++turn) {
    for (const auto& [label, members] : groups) {
      if (turn >= members.size() || total == wanted) continue;
      ++taken[label];
      ++total;
    }
  }
  std::vector<std::int64_t> indices;
  std::size_t least = SIZE_MAX, largest = 0;
  for (const auto& [label, members] : groups) {
    const std::size_t count = taken[label];
    least = std::min(least, count);
    largest = std::max(largest, count);
    for (std::size_t i = 0; i < count; ++i) indices.push_back(members[i * members.size() / count]);
  }
  std::ranges::sort(indices);
  std::string note = std::to_string(total) + " of " + std::to_string(source->count()) +
                     " samples are taken: " + std::to_string(least);
  if (largest > least) note += " to " + std::to_string(largest);
  note += " of each of " + std::to_string(groups.size()) + " labels";
  diagnostics.note("data-balanced", std::move(note), {file, {}, {}});
  return choose_samples(std::move(source), std::move(indices), file);
}

Result<std::unique_ptr<DataSource>> open_data(std::span<const DataPath> paths,
                                              std::span<const PortInfo> inputs,
                                              const SampleOptions& options,
                                              Diagnostics& diagnostics) {
  const std::string file = paths.empty() ? std::string() : paths.front().path.string();
  if (inputs.empty()) {
    return Error(Code::kInput, "model-without-inputs",
                 "the model has no inputs: there is nothing to feed", {file, {}, {}});
  }
  MCOMPRESS_TRY(check_data_paths(paths, inputs));
  MCOMPRESS_TRY(raw_layouts(options.raw, inputs));
  SampleOptions all = options;
  all.language = roles_of(inputs, options);
  if (options.balance) all.limit = 0;
  std::vector<LanguageInput> derived;
  MCOMPRESS_ASSIGN(std::vector<SourcePart> parts,
                   open_parts(paths, inputs, all, diagnostics, derived));
  std::unique_ptr<DataSource> source;
  if (parts.size() == 1) {
    source = std::move(parts.front().source);
  } else {
    MCOMPRESS_ASSIGN(source, join_sources(std::move(parts), std::nullopt, file));
  }
  if (!derived.empty()) {
    source = derive_missing(std::move(source), std::move(derived), all, file, diagnostics);
  }
  if (!options.balance) return source;
  return balance_labels(std::move(source), options.limit, file, diagnostics);
}

Result<std::unique_ptr<DataSource>> open_data(const std::filesystem::path& path,
                                              std::span<const PortInfo> inputs,
                                              const DataOptions& options,
                                              Diagnostics& diagnostics) {
  const DataPath only{{}, path};
  SampleOptions all;
  static_cast<DataOptions&>(all) = options;
  return open_data(std::span(&only, 1), inputs, all, diagnostics);
}

}  // namespace mcompress
