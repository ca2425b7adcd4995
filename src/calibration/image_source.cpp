// Samples that are image files.
#include <algorithm>
#include <optional>
#include <utility>

#include "calibration/preprocess.h"
#include "calibration/sources.h"
#include "support/hash.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxBatchBytes = std::uint64_t{8} << 30;
constexpr std::size_t kMagicBytes = 12;

// Only the images of the batch that is asked for are decoded, one after the other.
class ImageFiles final : public DataSource {
 public:
  ImageFiles(std::vector<fs::path> files, ImagePlan plan, PortInfo port, std::int64_t fixed_batch,
             std::string root)
      : files_(std::move(files)),
        digests_(files_.size()),
        plan_(std::move(plan)),
        port_(std::move(port)),
        fixed_batch_(fixed_batch),
        root_(std::move(root)) {}

  void set_labels(Labels labels) { labels_ = std::move(labels); }

  std::int64_t count() const override { return static_cast<std::int64_t>(files_.size()); }
  std::string description() const override { return describe_source(count(), root_); }
  bool can_batch() const override { return plan_.fixed_size() && plan_.has_batch_axis(); }
  std::int64_t fixed_batch() const override { return fixed_batch_; }
  const Labels& labels() const override { return labels_; }

  std::uint64_t digest() const override {
    Hasher hasher;
    hasher.text(port_.name).text(plan_.describe());
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (!digests_[i] && !read(i).ok()) return 0;
      hasher.integer(*digests_[i]);
    }
    return hasher.digest();
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    if (first < 0 || count < 1 || first > this->count() - count || (count > 1 && !can_batch())) {
      return Error(Code::kInternal, "sample-range",
                   "samples " + std::to_string(first) + "+" + std::to_string(count) + " of " +
                       std::to_string(this->count()));
    }
    std::vector<std::byte> bytes;
    std::vector<std::int64_t> dims;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto index = static_cast<std::size_t>(first + i);
      auto sample = load(index);
      if (!sample.ok()) return at_file(std::move(sample).error(), index);
      const std::vector<std::byte> values = plan_.convert(*sample);
      if (i == 0) {
        dims = plan_.dims(*sample);
        if (values.size() > kMaxBatchBytes / static_cast<std::uint64_t>(count)) {
          return Error(Code::kInput, "sample-size",
                       std::to_string(count) + " images of " + human_bytes(values.size()) +
                           " pass the limit of " + human_bytes(kMaxBatchBytes),
                       {root_, {}, port_.name});
        }
        bytes.reserve(values.size() * static_cast<std::size_t>(count));
      }
      bytes.insert(bytes.end(), values.begin(), values.end());
    }
    if (plan_.has_batch_axis()) dims[0] = count;
    std::vector<NamedTensor> feeds;
    feeds.push_back(
        {port_.name, make_bytes_tensor(port_.type.element, std::move(dims), std::move(bytes))});
    return feeds;
  }

  // The first bytes of every file, and all of the first file, before anything runs.
  Status check() {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      Status status = check_magic(i);
      if (!status.ok()) return at_file(std::move(status).error(), i);
    }
    auto first = load(0);
    if (!first.ok()) return at_file(std::move(first).error(), 0);
    Status status = check_shape(port_, plan_.dims(*first), plan_.has_batch_axis());
    if (!status.ok()) return at_file(std::move(status).error(), 0);
    return ok_status();
  }

 private:
  Error at_file(Error error, std::size_t index) const {
    if (error.diagnostic.where.subject.empty()) error.diagnostic.where.subject = port_.name;
    return std::move(error).in_file(files_[index].string());
  }

  Status check_magic(std::size_t index) const {
    MCOMPRESS_ASSIGN(const auto bytes, open_bytes(files_[index].string()));
    std::vector<std::byte> magic(std::min<std::uint64_t>(kMagicBytes, bytes->size()));
    MCOMPRESS_TRY(bytes->read(0, magic));
    // Decoding says what it is instead.
    if (image_format(magic).empty()) return decode_image(magic, 3).error();
    return ok_status();
  }

  Result<std::vector<std::byte>> read(std::size_t index) const {
    MCOMPRESS_ASSIGN(const auto source, open_bytes(files_[index].string()));
    if (source->size() > kMaxImageFileBytes) {
      return Error(Code::kInput, "image-size",
                   "the file has " + human_bytes(source->size()) + ", the limit is " +
                       human_bytes(kMaxImageFileBytes));
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(source->size()));
    MCOMPRESS_TRY(source->read(0, bytes));
    digests_[index] = digest_bytes(bytes);
    return bytes;
  }

  Result<PixelImage> load(std::size_t index) const {
    MCOMPRESS_ASSIGN(const std::vector<std::byte> bytes, read(index));
    MCOMPRESS_ASSIGN(PixelImage image, decode_image(bytes, plan_.channels()));
    return plan_.fit(std::move(image));
  }

  std::vector<fs::path> files_;
  mutable std::vector<std::optional<std::uint64_t>> digests_;  // of the files that were read
  ImagePlan plan_;
  PortInfo port_;
  std::int64_t fixed_batch_;
  std::string root_;
  Labels labels_;
};

}  // namespace

Result<std::unique_ptr<DataSource>> open_images(std::vector<fs::path> files, Labels labels,
                                                const std::string& root, const PortInfo& port,
                                                const SampleOptions& options,
                                                Diagnostics& diagnostics) {
  MCOMPRESS_TRY(check_port(port));
  MCOMPRESS_ASSIGN(const PreprocessRequest request, parse_preprocess(options.preprocess));
  auto plan = ImagePlan::make(request, port);
  if (!plan.ok()) return std::move(plan).error().in_file(root);
  std::string note = "images: " + plan->describe();
  if (!plan->inferred().empty()) note += "; not asked for but inferred: " + plan->inferred();
  diagnostics.note("image-preprocessing", note, {root, {}, port.name},
                   "--preprocess resize=256,crop=224,mean=...,std=... changes it");
  std::int64_t fixed = 0;
  if (plan->has_batch_axis() && port.type.shape && port.type.shape->front().size) {
    fixed = *port.type.shape->front().size;
  }
  if (fixed > 1 && !plan->fixed_size()) {
    return Error(
        Code::kInput, "image-input",
        "the model wants " + std::to_string(fixed) + " images at once, which must have one size",
        {root, {}, port.name}, "give --preprocess resize=..,crop=.. or letterbox=..");
  }
  auto source = std::make_unique<ImageFiles>(std::move(files), *std::move(plan), port, fixed, root);
  MCOMPRESS_TRY(source->check());
  source->set_labels(std::move(labels));
  return std::unique_ptr<DataSource>(std::move(source));
}

}  // namespace mcompress
