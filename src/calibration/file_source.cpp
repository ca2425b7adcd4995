// Samples in files of their own: .npy or raw per input and sample, and ONNX test sets.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "calibration/sources.h"
#include "support/files.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxSampleBytes = std::uint64_t{8} << 30;

Error at_input(Error error, const fs::path& file, const std::string& input) {
  if (error.diagnostic.where.subject.empty()) error.diagnostic.where.subject = input;
  return std::move(error).in_file(file.string());
}

Error wrong_range(std::int64_t first, std::int64_t count, std::int64_t available) {
  return {Code::kInternal, "sample-range",
          "samples " + std::to_string(first) + "+" + std::to_string(count) + " of " +
              std::to_string(available) + " that can not be batched"};
}

// The dimensions of one sample as fed: with a batch axis of one where the input has one more.
Result<std::vector<std::int64_t>> sample_dims(const PortInfo& port,
                                              std::span<const std::int64_t> dims) {
  std::vector<std::int64_t> result(dims.begin(), dims.end());
  if (port.type.shape && port.type.shape->size() == dims.size() + 1) {
    result.insert(result.begin(), 1);
  }
  MCOMPRESS_TRY(check_shape(port, result, false));
  return result;
}

struct FileInput {
  PortInfo port;
  std::vector<fs::path> files;
  std::optional<Affine> affine;
};

class SampleFiles final : public DataSource {
 public:
  SampleFiles(std::vector<FileInput> inputs, std::int64_t count, ArrayOpener opener,
              std::string file)
      : inputs_(std::move(inputs)),
        count_(count),
        opener_(std::move(opener)),
        file_(std::move(file)) {
    opener_.max_bytes = std::min(opener_.max_bytes, kMaxSampleBytes);
  }

  void set_labels(Labels labels) { labels_ = std::move(labels); }

  std::int64_t count() const override { return count_; }
  std::string description() const override { return describe_source(count_, file_); }
  bool can_batch() const override { return false; }
  const Labels& labels() const override { return labels_; }

  std::uint64_t digest() const override {
    if (digest_) return *digest_;
    Hasher hasher;
    for (const FileInput& input : inputs_) {
      hasher.text(input.port.name);
      for (std::int64_t i = 0; i < count_; ++i) {
        const fs::path& file = input.files[static_cast<std::size_t>(i)];
        const auto digest = digest_of(input, file);
        if (!digest.ok()) {
          unreadable_ = at_input(digest.error(), file, input.port.name);
          return 0;
        }
        hasher.integer(*digest);
      }
      if (!input.affine) continue;
      hasher.bytes(std::as_bytes(std::span(&input.affine->scale, 1)));
      hasher.bytes(std::as_bytes(std::span(&input.affine->bias, 1)));
    }
    digest_ = hasher.digest();
    return *digest_;
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    if (first < 0 || count != 1 || first >= count_) return wrong_range(first, count, count_);
    if (unreadable_) return *unreadable_;
    std::vector<NamedTensor> feeds;
    for (const FileInput& input : inputs_) {
      const fs::path& file = input.files[static_cast<std::size_t>(first)];
      auto tensor = read(input, file);
      if (!tensor.ok()) return at_input(std::move(tensor).error(), file, input.port.name);
      feeds.push_back({input.port.name, std::move(tensor).value()});
    }
    return feeds;
  }

  // Headers only: types and shapes of every file, before anything runs.
  Status check(Diagnostics& diagnostics) const {
    for (const FileInput& input : inputs_) {
      std::string note;
      for (std::int64_t i = 0; i < count_; ++i) {
        const fs::path& file = input.files[static_cast<std::size_t>(i)];
        Status checked = check_one(input, file, &note);
        if (!checked.ok()) return at_input(std::move(checked).error(), file, input.port.name);
      }
      if (!note.empty()) diagnostics.note("data-rounded", note, {file_, {}, input.port.name});
    }
    return ok_status();
  }

 private:
  Result<NpyArray> open(const FileInput& input, const fs::path& file) const {
    return opener_.open(file.string(), input.port, true);
  }
  Result<std::uint64_t> digest_of(const FileInput& input, const fs::path& file) const {
    MCOMPRESS_ASSIGN(NpyArray array, open(input, file));
    return array.digest(array.header().data_bytes);
  }
  static Result<ElementConversion> conversion(const FileInput& input, const NpyArray& array,
                                              std::string* note) {
    if (array.header().kind != NpyHeader::Kind::kNumber) {
      return Error(Code::kInput, "data-type",
                   "the data is text, the model's input " + dtype_name(input.port.type.element));
    }
    return ElementConversion::make(array.header().dtype, input.port.type.element, input.affine,
                                   note);
  }
  Status check_one(const FileInput& input, const fs::path& file, std::string* note) const {
    MCOMPRESS_ASSIGN(const NpyArray array, open(input, file));
    MCOMPRESS_TRY(conversion(input, array, note));
    MCOMPRESS_TRY(sample_dims(input.port, array.header().shape));
    return ok_status();
  }
  Result<Tensor> read(const FileInput& input, const fs::path& file) const {
    MCOMPRESS_ASSIGN(NpyArray array, open(input, file));
    MCOMPRESS_ASSIGN(const ElementConversion convert, conversion(input, array, nullptr));
    MCOMPRESS_ASSIGN(auto dims, sample_dims(input.port, array.header().shape));
    std::vector<std::byte> raw(static_cast<std::size_t>(array.header().data_bytes));
    MCOMPRESS_TRY(array.read(0, raw));
    if (!convert.is_copy()) {
      std::vector<std::byte> fed(raw.size() / convert.from_bytes() * convert.to_bytes());
      MCOMPRESS_TRY(convert.convert(raw, fed));
      raw = std::move(fed);
    }
    return make_bytes_tensor(input.port.type.element, std::move(dims), std::move(raw));
  }

  std::vector<FileInput> inputs_;
  std::int64_t count_;
  ArrayOpener opener_;
  std::string file_;
  Labels labels_;
  mutable std::optional<std::uint64_t> digest_;
  mutable std::optional<Error> unreadable_;  // of a file that the digest needs
};

class TestSets final : public DataSource {
 public:
  TestSets(std::vector<std::vector<fs::path>> sets, std::vector<PortInfo> inputs, std::string file)
      : sets_(std::move(sets)), inputs_(std::move(inputs)), file_(std::move(file)) {}

  std::int64_t count() const override { return static_cast<std::int64_t>(sets_.size()); }
  std::uint64_t digest() const override { return digest_; }
  std::string description() const override { return describe_source(count(), file_); }
  bool can_batch() const override { return false; }
  const Labels& labels() const override { return labels_; }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    if (first < 0 || count != 1 || first >= this->count()) {
      return wrong_range(first, count, this->count());
    }
    return load(sets_[static_cast<std::size_t>(first)]);
  }

  // Loads every set once: types and shapes stand in the files, and the digest needs the bytes.
  Status check() {
    Hasher hasher;
    for (const std::vector<fs::path>& set : sets_) {
      MCOMPRESS_ASSIGN(const std::vector<NamedTensor> feeds, load(set));
      for (const NamedTensor& feed : feeds) {
        hasher.text(feed.name).integer(static_cast<std::uint64_t>(feed.tensor.dtype()));
        hasher.integer(feed.tensor.dims().size());
        for (const std::int64_t size : feed.tensor.dims()) {
          hasher.integer(static_cast<std::uint64_t>(size));
        }
        if (!feed.tensor.is_opaque()) hasher.integer(feed.tensor.storage()->digest());
      }
    }
    digest_ = hasher.digest();
    return ok_status();
  }

 private:
  // A tensor goes to the input of its name, else to that of its number.
  Result<std::vector<NamedTensor>> load(const std::vector<fs::path>& set) const {
    std::vector<std::optional<Tensor>> found(inputs_.size());
    for (std::size_t number = 0; number < set.size(); ++number) {
      MCOMPRESS_ASSIGN(NamedTensor loaded, load_tensor_file(set[number]));
      auto port = std::ranges::find(inputs_, loaded.name, &PortInfo::name);
      if (port == inputs_.end()) {
        const std::int64_t place = trailing_number(set[number].stem().string());
        if (!loaded.name.empty() || place < 0 ||
            place >= static_cast<std::int64_t>(inputs_.size())) {
          continue;  // the default of an initializer, or an input the model no longer has
        }
        port = inputs_.begin() + place;
      }
      auto fed = fit(*port, std::move(loaded.tensor));
      if (!fed.ok()) return at_input(std::move(fed).error(), set[number], port->name);
      found[static_cast<std::size_t>(port - inputs_.begin())] = std::move(fed).value();
    }
    std::vector<NamedTensor> feeds;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (!found[i]) {
        return Error(Code::kInput, "data-input-missing",
                     "the test set has no tensor for this input of the model",
                     {set.empty() ? file_ : set[0].parent_path().string(), {}, inputs_[i].name});
      }
      feeds.push_back({inputs_[i].name, std::move(*found[i])});
    }
    return feeds;
  }

  static Result<Tensor> fit(const PortInfo& port, Tensor tensor) {
    MCOMPRESS_TRY(check_shape(port, tensor.dims(), false));
    if (tensor.dtype() == port.type.element) return tensor;
    MCOMPRESS_ASSIGN(
        const ElementConversion conversion,
        ElementConversion::make(tensor.dtype(), port.type.element, std::nullopt, nullptr));
    MCOMPRESS_ASSIGN(const Pinned pin, tensor.storage()->pin(0, tensor.byte_size()));
    std::vector<std::byte> fed(static_cast<std::size_t>(tensor.elements()) * conversion.to_bytes());
    MCOMPRESS_TRY(conversion.convert(pin.bytes(), fed));
    return make_bytes_tensor(port.type.element, {tensor.dims().begin(), tensor.dims().end()},
                             std::move(fed));
  }

  std::vector<std::vector<fs::path>> sets_;
  std::vector<PortInfo> inputs_;
  std::string file_;
  std::uint64_t digest_ = 0;
  Labels labels_;
};

}  // namespace

Status check_port(const PortInfo& port) {
  if (find_dtype(port.type.element) != nullptr) return ok_status();
  return Error(Code::kUnsupported, "data-input-kind",
               "this input of the model is no tensor of a known type, data can not be given for it",
               {{}, {}, port.name});
}

std::string describe_source(std::int64_t count, const std::string& file) {
  return std::to_string(count) + (count == 1 ? " sample from " : " samples from ") +
         fs::path(file).filename().string();
}

std::int64_t trailing_number(const std::string& name) {
  std::size_t begin = name.size();
  while (begin > 0 && name[begin - 1] >= '0' && name[begin - 1] <= '9') --begin;
  std::int64_t number = -1;
  const char* const end = name.data() + name.size();
  const auto [next, error] = std::from_chars(name.data() + begin, end, number);
  return error == std::errc() && next == end ? number : -1;
}

Result<std::unique_ptr<DataSource>> open_sample_files(
    std::vector<std::vector<fs::path>> files, const ArrayOpener& opener, const ArraySet& extras,
    std::span<const PortInfo> inputs, const DataOptions& options, Diagnostics& diagnostics) {
  std::vector<FileInput> rows;
  const std::size_t available = files[0].size();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    MCOMPRESS_TRY(check_port(inputs[i]));
    if (files[i].size() != available || files[i].empty()) {
      return Error(Code::kInput, "data-count",
                   "there are " + std::to_string(files[i].size()) + " samples, but " +
                       std::to_string(available) + " of '" + inputs[0].name + "'",
                   {extras.file, {}, inputs[i].name});
    }
    MCOMPRESS_ASSIGN(const auto affine, find_affine(extras, inputs[i].name, inputs));
    rows.push_back({inputs[i], std::move(files[i]), affine});
  }
  const auto all = static_cast<std::int64_t>(available);
  const std::int64_t count = options.limit > 0 ? std::min(options.limit, all) : all;
  MCOMPRESS_ASSIGN(Labels labels, find_labels(extras, inputs, all, count));
  auto source = std::make_unique<SampleFiles>(std::move(rows), count, opener, extras.file);
  MCOMPRESS_TRY(source->check(diagnostics));
  source->set_labels(std::move(labels));
  return std::unique_ptr<DataSource>(std::move(source));
}

Result<std::unique_ptr<DataSource>> open_test_sets(std::vector<fs::path> sets,
                                                   const std::string& root,
                                                   std::span<const PortInfo> inputs,
                                                   const DataOptions& options, Diagnostics&) {
  if (options.limit > 0 && static_cast<std::uint64_t>(options.limit) < sets.size()) {
    sets.resize(static_cast<std::size_t>(options.limit));
  }
  std::vector<std::vector<fs::path>> files;
  for (const fs::path& set : sets) {
    std::vector<fs::path> tensors;
    std::vector<FileSystem::Entry> entries;
    if (const int error = real_files().list(set.string(), entries); error < 0) {
      return Error(Code::kInput, "data-unreadable", std::strerror(-error), {set.string(), {}, {}});
    }
    for (const auto& [name, is_folder] : entries) {
      if (name.starts_with("input_") && name.ends_with(".pb")) tensors.push_back(set / name);
    }
    std::ranges::sort(tensors, {}, [](const fs::path& path) {
      return std::pair(trailing_number(path.stem().string()), path.string());
    });
    files.push_back(std::move(tensors));
  }
  for (const PortInfo& port : inputs) MCOMPRESS_TRY(check_port(port));
  auto source = std::make_unique<TestSets>(
      std::move(files), std::vector<PortInfo>(inputs.begin(), inputs.end()), root);
  MCOMPRESS_TRY(source->check());
  return std::unique_ptr<DataSource>(std::move(source));
}

}  // namespace mcompress
