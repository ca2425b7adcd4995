#include "calibration/chosen_samples.h"

#include <cstring>
#include <utility>

#include "calibration/sources.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Rows of labels at `indices`.
Labels labels_at(const Labels& labels, const std::vector<std::int64_t>& indices) {
  Labels chosen;
  if (!labels.texts.empty()) {
    for (const std::int64_t i : indices) {
      chosen.texts.push_back(labels.texts[static_cast<std::size_t>(i)]);
    }
  }
  if (!labels.numbers) return chosen;
  const Tensor& all = *labels.numbers;
  auto pin = all.storage()->pin(0, all.byte_size());
  if (!pin.ok() || all.dims().empty() || all.dims()[0] == 0) return chosen;
  const std::size_t row = pin->bytes().size() / static_cast<std::size_t>(all.dims()[0]);
  std::vector<std::byte> bytes(row * indices.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    std::memcpy(bytes.data() + i * row,
                pin->bytes().data() + static_cast<std::size_t>(indices[i]) * row, row);
  }
  std::vector<std::int64_t> dims(all.dims().begin(), all.dims().end());
  dims[0] = static_cast<std::int64_t>(indices.size());
  chosen.numbers = make_bytes_tensor(all.dtype(), std::move(dims), std::move(bytes));
  return chosen;
}

Error out_of_range(std::int64_t first, std::int64_t count, std::int64_t available) {
  return {Code::kInternal, "sample-range",
          "samples " + std::to_string(first) + "+" + std::to_string(count) + " of " +
              std::to_string(available)};
}

// Samples of another source, in its order.
class ChosenSamples final : public DataSource {
 public:
  ChosenSamples(DataSource& source, std::unique_ptr<DataSource> owner,
                std::vector<std::int64_t> indices, std::string description)
      : owner_(std::move(owner)),
        source_(&source),
        indices_(std::move(indices)),
        description_(std::move(description)),
        labels_(labels_at(source_->labels(), indices_)) {}

  std::int64_t count() const override { return static_cast<std::int64_t>(indices_.size()); }
  std::string description() const override { return description_; }
  bool can_batch() const override { return source_->can_batch(); }
  std::int64_t fixed_batch() const override { return source_->fixed_batch(); }
  const Labels& labels() const override { return labels_; }

  std::uint64_t digest() const override {
    const std::uint64_t all = source_->digest();
    if (all == 0) return 0;
    Hasher hasher;
    hasher.integer(all);
    for (const std::int64_t index : indices_) hasher.integer(static_cast<std::uint64_t>(index));
    return hasher.digest();
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    if (first < 0 || count < 1 || first > this->count() - count || (count > 1 && !can_batch())) {
      return out_of_range(first, count, this->count());
    }
    std::vector<std::vector<NamedTensor>> parts;
    const std::int64_t end = first + count;
    while (first < end) {
      const auto at = static_cast<std::size_t>(first);
      std::int64_t run = 1;  // samples that are neighbours in the source too
      while (first + run < end &&
             indices_[at + static_cast<std::size_t>(run)] == indices_[at] + run) {
        ++run;
      }
      MCOMPRESS_ASSIGN(auto part, source_->batch(indices_[at], run));
      parts.push_back(std::move(part));
      first += run;
    }
    return parts.size() == 1 ? std::move(parts.front()) : joined(parts);
  }

 private:
  static Result<std::vector<NamedTensor>> joined(
      const std::vector<std::vector<NamedTensor>>& parts) {
    std::vector<NamedTensor> feeds = parts.front();
    for (std::size_t i = 0; i < feeds.size(); ++i) {
      const Tensor& first = feeds[i].tensor;
      if (first.dims().empty()) continue;  // a scalar that belongs to every sample
      std::vector<std::int64_t> dims(first.dims().begin(), first.dims().end());
      dims[0] = 0;
      std::vector<std::byte> bytes;
      for (const auto& part : parts) {
        const Tensor& tensor = part[i].tensor;
        dims[0] += tensor.dims()[0];
        MCOMPRESS_ASSIGN(const Pinned pin, tensor.storage()->pin(0, tensor.byte_size()));
        bytes.insert(bytes.end(), pin.bytes().begin(), pin.bytes().end());
      }
      feeds[i].tensor = make_bytes_tensor(first.dtype(), std::move(dims), std::move(bytes));
    }
    return feeds;
  }

  std::unique_ptr<DataSource> owner_;  // may be null
  DataSource* source_;
  std::vector<std::int64_t> indices_;
  std::string description_;
  Labels labels_;
};

}  // namespace

std::unique_ptr<DataSource> choose_samples(DataSource& source, std::vector<std::int64_t> indices) {
  std::string description = std::to_string(indices.size()) + " of " + source.description();
  return std::make_unique<ChosenSamples>(source, nullptr, std::move(indices),
                                         std::move(description));
}

std::unique_ptr<DataSource> choose_samples(std::unique_ptr<DataSource> source,
                                           std::vector<std::int64_t> indices,
                                           const std::string& file) {
  DataSource& held = *source;
  std::string description = describe_source(static_cast<std::int64_t>(indices.size()), file);
  return std::make_unique<ChosenSamples>(held, std::move(source), std::move(indices),
                                         std::move(description));
}

}  // namespace mcompress
