// One array per input: .npz, and folders with one .npy per input.
#include <algorithm>
#include <optional>
#include <utility>

#include "calibration/sources.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// What one batch of one input may take: more is a mistake, or a file that lies.
constexpr std::uint64_t kMaxBatchBytes = std::uint64_t{8} << 30;
// Without elements a row costs no bytes in the file, so nothing else bounds their number.
constexpr std::int64_t kMaxEmptyRows = 1 << 20;
constexpr std::size_t kConversionChunk = 256 << 10;

struct Input {
  PortInfo port;
  NpyArray array;
  ElementConversion conversion;
  std::optional<Affine> affine;
  bool whole = false;  // a scalar for a scalar input: every sample gets it
  RowForm form = RowForm::kSlice;
  std::uint64_t row_elements = 0;
};

class ArraySource final : public DataSource {
 public:
  ArraySource(std::vector<Input> inputs, std::int64_t count, std::int64_t fixed_batch,
              std::string file)
      : inputs_(std::move(inputs)),
        count_(count),
        fixed_batch_(fixed_batch),
        file_(std::move(file)) {}

  void set_labels(Labels labels) { labels_ = std::move(labels); }

  std::int64_t count() const override { return count_; }
  std::string description() const override { return describe_source(count_, file_); }
  bool can_batch() const override {
    return std::ranges::all_of(
               inputs_, [](const Input& in) { return in.whole || in.form == RowForm::kSlice; }) &&
           !std::ranges::all_of(inputs_, &Input::whole);
  }
  std::int64_t fixed_batch() const override { return fixed_batch_; }
  const Labels& labels() const override { return labels_; }

  std::uint64_t digest() const override {
    Hasher hasher;
    for (Input& input : inputs_) {
      const std::uint64_t rows = input.whole ? 1 : static_cast<std::uint64_t>(count_);
      auto digest = input.array.digest(rows * input.row_elements * input.conversion.from_bytes());
      if (!digest.ok()) return 0;
      hasher.text(input.port.name).integer(*digest);
      if (input.affine) {
        hasher.bytes(std::as_bytes(std::span(&input.affine->scale, 1)));
        hasher.bytes(std::as_bytes(std::span(&input.affine->bias, 1)));
      }
    }
    return hasher.digest();
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    if (first < 0 || count < 1 || first > count_ - count || (count > 1 && !can_batch())) {
      return Error(Code::kInternal, "sample-range",
                   "samples " + std::to_string(first) + "+" + std::to_string(count) + " of " +
                       std::to_string(count_));
    }
    std::vector<NamedTensor> feeds;
    for (Input& input : inputs_) {
      auto tensor = read(input, first, count);
      if (!tensor.ok()) return locate(std::move(tensor).error(), input);
      feeds.push_back({input.port.name, std::move(tensor).value()});
    }
    return feeds;
  }

 private:
  Error locate(Error error, const Input& input) const {
    if (error.diagnostic.where.subject.empty()) error.diagnostic.where.subject = input.port.name;
    return std::move(error).in_file(file_);
  }

  static Result<Tensor> read(Input& input, std::int64_t first, std::int64_t count) {
    const std::vector<std::int64_t>& shape = input.array.header().shape;
    std::vector<std::int64_t> dims(shape.begin(), shape.end());
    if (input.whole) {
      first = 0;
      count = 1;
    } else if (input.form == RowForm::kIndex) {
      dims.erase(dims.begin());
    } else {
      dims[0] = count;
    }
    const ElementConversion& conversion = input.conversion;
    const std::uint64_t rows = static_cast<std::uint64_t>(count);
    const std::uint64_t widest = std::max(conversion.from_bytes(), conversion.to_bytes());
    if (input.row_elements > kMaxBatchBytes / widest / rows) {
      return Error(Code::kInput, "sample-size",
                   std::to_string(count) + " sample(s) of " + std::to_string(input.row_elements) +
                       " elements pass the limit of " + human_bytes(kMaxBatchBytes));
    }
    const std::uint64_t elements = rows * input.row_elements;
    std::uint64_t offset =
        static_cast<std::uint64_t>(first) * input.row_elements * conversion.from_bytes();
    std::vector<std::byte> bytes(static_cast<std::size_t>(elements * conversion.to_bytes()));
    if (conversion.is_copy()) {
      MCOMPRESS_TRY(input.array.read(offset, bytes));
    } else {
      std::vector<std::byte> raw(static_cast<std::size_t>(
          std::min<std::uint64_t>(elements * conversion.from_bytes(), kConversionChunk)));
      std::span<std::byte> rest(bytes);
      while (!rest.empty()) {
        const std::size_t n =
            std::min(rest.size() / conversion.to_bytes(), raw.size() / conversion.from_bytes());
        const auto in = std::span(raw).first(n * conversion.from_bytes());
        MCOMPRESS_TRY(input.array.read(offset, in));
        MCOMPRESS_TRY(conversion.convert(in, rest.first(n * conversion.to_bytes())));
        rest = rest.subspan(n * conversion.to_bytes());
        offset += in.size();
      }
    }
    return make_bytes_tensor(input.port.type.element, std::move(dims), std::move(bytes));
  }

  mutable std::vector<Input> inputs_;  // a digest reads what no sample has read yet
  std::int64_t count_;
  std::int64_t fixed_batch_;
  std::string file_;
  Labels labels_;
};

std::vector<std::string> names_of(const ArraySet& set) {
  std::vector<std::string> names;
  for (const auto& [name, open] : set.arrays) names.push_back(name);
  return names;
}

bool is_port(std::span<const PortInfo> inputs, const std::string& name) {
  return std::ranges::find(inputs, name, &PortInfo::name) != inputs.end();
}

Error missing_array(const ArraySet& set, const PortInfo& port) {
  const std::vector<std::string> names = names_of(set);
  std::string message = "there is no array for this input of the model; ";
  if (names.empty()) {
    message += "the data holds none";
  } else {
    const bool many = names.size() > 8;
    message += "the data holds '" + join(std::span(names).first(many ? 8 : names.size()), "', '");
    message += many ? "' and more" : "'";
  }
  std::string hint = did_you_mean(port.name, names);
  if (hint.empty()) hint = "name the arrays like the inputs: np.savez(file, **{name: array})";
  return {Code::kInput,
          "data-input-missing",
          std::move(message),
          {set.file, {}, port.name},
          std::move(hint)};
}

// The form that inputs of known rank ask for; inputs of unknown rank follow.
RowForm common_form(std::span<const PortInfo> inputs, std::span<const NpyArray> arrays) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].type.shape) continue;
    if (arrays[i].header().shape.size() == inputs[i].type.shape->size() + 1) return RowForm::kIndex;
  }
  return RowForm::kSlice;
}

Status prepare(Input& input, const std::optional<Affine>& affine, Feeding feeding, RowForm fallback,
               Diagnostics& diagnostics, const std::string& file) {
  const NpyHeader& header = input.array.header();
  const PortInfo& port = input.port;
  if (header.kind != NpyHeader::Kind::kNumber) {
    return Error(Code::kInput, "data-type",
                 "the data is text, the model's input " + dtype_name(port.type.element));
  }
  std::string note;
  MCOMPRESS_ASSIGN(input.conversion,
                   ElementConversion::make(header.dtype, port.type.element, affine, &note));
  if (!note.empty()) diagnostics.note("data-rounded", note, {file, {}, port.name});
  input.affine = affine;
  input.whole = header.shape.empty() && (!port.type.shape || port.type.shape->empty());
  if (input.whole) {
    input.row_elements = 1;
    return ok_status();
  }
  MCOMPRESS_ASSIGN(input.form, choose_form(port, header.shape, feeding, fallback));
  std::span<const std::int64_t> sample(header.shape);
  if (sample.empty()) {
    return Error(Code::kInput, "data-shape", "a scalar does not hold samples");
  }
  if (input.form == RowForm::kIndex) sample = sample.subspan(1);
  MCOMPRESS_TRY(check_shape(port, sample, input.form == RowForm::kSlice));
  input.row_elements = static_cast<std::uint64_t>(header.row_elements());
  if (input.row_elements == 0 && header.shape[0] > kMaxEmptyRows) {
    return Error(Code::kInput, "data-shape",
                 std::to_string(header.shape[0]) + " samples without elements");
  }
  return ok_status();
}

// Axis 0 of the inputs, where all sliced ones that fix it agree; 0: free.
Result<std::int64_t> find_fixed_batch(std::span<const Input> inputs) {
  std::int64_t fixed = 0;
  for (const Input& input : inputs) {
    const PortInfo& port = input.port;
    if (input.whole || input.form != RowForm::kSlice || !port.type.shape) continue;
    const std::optional<std::int64_t> size = port.type.shape->front().size;
    if (!size) continue;
    if (*size < 1 || (fixed != 0 && fixed != *size)) {
      return Error(Code::kInput, "data-shape",
                   "the model's inputs fix their batch axis to " + std::to_string(fixed) +
                       " and to " + std::to_string(*size),
                   {{}, {}, port.name}, "feeding 'index' gives each sample as it stands");
    }
    fixed = *size;
  }
  return fixed;
}

}  // namespace

Result<std::optional<Affine>> find_affine(const ArraySet& set, const std::string& input,
                                          std::span<const PortInfo> inputs) {
  std::optional<Affine> affine;
  for (const bool is_scale : {true, false}) {
    const std::string name = input + (is_scale ? "_scale" : "_bias");
    const auto found = set.arrays.find(name);
    if (found == set.arrays.end() || is_port(inputs, name)) continue;
    auto array = found->second();
    if (!array.ok()) return std::move(array).error();
    auto value = read_number(*array);
    if (!value.ok()) {
      Error error = std::move(value).error();
      error.diagnostic.where = {set.file, {}, name};
      return error;
    }
    if (!affine) affine.emplace();
    (is_scale ? affine->scale : affine->bias) = static_cast<float>(*value);
  }
  return affine;
}

Result<Labels> find_labels(const ArraySet& set, std::span<const PortInfo> inputs,
                           std::int64_t available, std::int64_t count) {
  Labels labels;
  const auto found = set.arrays.find("labels");
  if (found == set.arrays.end() || is_port(inputs, "labels")) return labels;
  MCOMPRESS_ASSIGN(NpyArray array, found->second());
  const Location where{set.file, {}, "labels"};
  const std::vector<std::int64_t>& shape = array.header().shape;
  if (shape.empty() || shape[0] != available) {
    return Error(Code::kInput, "labels-count",
                 "the labels are " + array.type_text() + ", there are " +
                     std::to_string(available) + " samples",
                 where);
  }
  const bool text = array.header().kind != NpyHeader::Kind::kNumber;
  if (text && shape.size() > 1) {
    return Error(Code::kInput, "labels-shape",
                 "one text per sample is wanted, the labels are " + array.type_text(), where);
  }
  Status status = ok_status();
  if (text) {
    auto texts = read_texts(array, count);
    if (texts.ok())
      labels.texts = std::move(texts).value();
    else
      status = std::move(texts).error();
  } else {
    auto numbers = read_rows(array, count);
    if (numbers.ok())
      labels.numbers = std::move(numbers).value();
    else
      status = std::move(numbers).error();
  }
  if (status.ok()) return labels;
  Error error = std::move(status).error();
  error.diagnostic.where = where;
  return error;
}

Result<std::unique_ptr<DataSource>> open_arrays(const ArraySet& set,
                                                std::span<const PortInfo> inputs,
                                                const DataOptions& options,
                                                Diagnostics& diagnostics) {
  std::vector<std::string> ignored;
  for (const std::string& name : names_of(set)) {
    const auto serves = [&](const PortInfo& port) {
      return name == port.name || name == port.name + "_scale" || name == port.name + "_bias";
    };
    if (name != "labels" && std::ranges::none_of(inputs, serves)) ignored.push_back(name);
  }
  std::vector<NpyArray> arrays;
  for (const PortInfo& port : inputs) {
    MCOMPRESS_TRY(check_port(port));
    const auto found = set.arrays.find(port.name);
    if (found == set.arrays.end()) return missing_array(set, port);
    MCOMPRESS_ASSIGN(NpyArray array, found->second());
    arrays.push_back(std::move(array));
  }
  const RowForm fallback = common_form(inputs, arrays);
  std::vector<Input> rows(inputs.size());
  std::optional<std::size_t> counted;  // the first input that has an axis of samples
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    rows[i].port = inputs[i];
    rows[i].array = std::move(arrays[i]);
    MCOMPRESS_ASSIGN(const auto affine, find_affine(set, inputs[i].name, inputs));
    Status ready = prepare(rows[i], affine, options.feeding, fallback, diagnostics, set.file);
    if (!ready.ok()) {
      Error error = std::move(ready).error();
      error.diagnostic.where.subject = inputs[i].name;
      return std::move(error).in_file(set.file);
    }
    if (rows[i].whole) continue;
    if (!counted) counted = i;
    const std::int64_t count = rows[i].array.header().shape[0];
    const std::int64_t expected = rows[*counted].array.header().shape[0];
    if (count != expected) {
      return Error(Code::kInput, "data-count",
                   "there are " + std::to_string(count) + " samples, but " +
                       std::to_string(expected) + " of '" + inputs[*counted].name + "'",
                   {set.file, {}, inputs[i].name});
    }
  }
  const std::int64_t available = counted ? rows[*counted].array.header().shape[0] : 1;
  if (available == 0) {
    return Error(Code::kInput, "data-empty", "the arrays hold no samples", {set.file, {}, {}});
  }
  const std::int64_t count = options.limit > 0 ? std::min(options.limit, available) : available;
  auto fixed = find_fixed_batch(rows);
  if (!fixed.ok()) return std::move(fixed).error().in_file(set.file);
  MCOMPRESS_ASSIGN(Labels labels, find_labels(set, inputs, available, count));
  if (!ignored.empty()) {
    diagnostics.note(
        "data-ignored",
        "arrays that are no input of the model are ignored: '" + join(ignored, "', '") + "'",
        {set.file, {}, {}});
  }
  auto source = std::make_unique<ArraySource>(std::move(rows), count, *fixed, set.file);
  source->set_labels(std::move(labels));
  return std::unique_ptr<DataSource>(std::move(source));
}

}  // namespace mcompress
