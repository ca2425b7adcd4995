#include "product/product_data.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "mcompress/runtime.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

Error unfit(std::string message, const std::string& part, const std::string& input,
            std::string hint = {}) {
  return Error(
      Code::kInput, "part-samples", std::move(message), {{}, {}, input},
      hint.empty() ? "the samples are those that part '" + part + "' makes" : std::move(hint));
}

std::string dims_text(std::span<const std::int64_t> dims) {
  std::string text = "[";
  for (const std::int64_t dim : dims) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  }
  return text + "]";
}

// The first dimension that the model fixes; 0: none, or no shape is known.
std::int64_t fixed_first(const PortInfo& port) {
  if (!port.type.shape || port.type.shape->empty()) return 0;
  const Dim& first = port.type.shape->front();
  return std::max<std::int64_t>(0, first.size.value_or(0));
}

class MadeSource final : public DataSource {
 public:
  MadeSource(MadeSamples made, std::unique_ptr<Session> session,
             std::map<std::string, std::string> inputs)
      : made_(std::move(made)), session_(std::move(session)), inputs_(std::move(inputs)) {
    for (const auto& [output, input] : inputs_) fetch_.push_back(output);
  }

  // Runs the maker on the first sample, and on two where that may be.
  Status probe(std::span<const PortInfo> ports) {
    if (count() < 1) return unfit("there are no samples", made_.part, {});
    if (made_.rest != nullptr && made_.rest->count() != count()) {
      return unfit("the other inputs have " +
                       counted(static_cast<std::size_t>(made_.rest->count()), "sample") +
                       ", and part '" + made_.part + "' makes " + std::to_string(count()),
                   made_.part, {}, "a sample of each belongs together");
    }
    std::int64_t fixed = std::max(made_.samples->fixed_batch(), rest_batch());
    for (const PortInfo& port : ports) {
      if (made_here(port.name)) fixed = std::max(fixed, fixed_first(port));
    }
    // A first axis that is no batch axis is fixed as well: then one sample at a time fits.
    if (fixed <= count() && takes(fixed)) fixed_ = fixed;
    MCOMPRESS_ASSIGN(const std::vector<NamedTensor> first,
                     make(0, std::max<std::int64_t>(1, fixed_)));
    for (const NamedTensor& tensor : first) MCOMPRESS_TRY(check(tensor, ports));
    batches_ = fixed == 0 && takes(2) && count() > 1;
    if (!batches_) return ok_status();
    MCOMPRESS_ASSIGN(const std::vector<NamedTensor> two, make(0, 2));
    for (std::size_t i = 0; i < two.size(); ++i) {
      const auto one = first[i].tensor.dims(), both = two[i].tensor.dims();
      batches_ = batches_ && !one.empty() && !both.empty() && both[0] == 2 * one[0];
    }
    return ok_status();
  }

  std::int64_t count() const override { return made_.samples->count(); }
  std::string description() const override {
    return "what part '" + made_.part + "' makes of " + made_.samples->description();
  }
  bool can_batch() const override { return batches_; }
  std::int64_t fixed_batch() const override { return fixed_; }
  const Labels& labels() const override { return labels_; }

  std::uint64_t digest() const override {
    if (digest_ == 0) {
      auto found = const_cast<MadeSource*>(this)->digest_of_all();
      digest_ = found.ok() ? *found : 0;
    }
    return digest_;
  }

  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    const auto kept = kept_.find({first, count});
    if (kept != kept_.end()) return kept->second;
    MCOMPRESS_ASSIGN(std::vector<NamedTensor> feeds, make(first, count));
    if (made_.rest != nullptr) {
      MCOMPRESS_ASSIGN(std::vector<NamedTensor> others, made_.rest->batch(first, count));
      std::move(others.begin(), others.end(), std::back_inserter(feeds));
    }
    constexpr std::uint64_t kMostKept = std::uint64_t{256} << 20;
    std::uint64_t bytes = 0;
    for (const NamedTensor& feed : feeds) bytes += feed.tensor.byte_size();
    if (kept_bytes_ + bytes <= kMostKept) {
      kept_bytes_ += bytes;
      kept_.emplace(std::pair(first, count), feeds);
    }
    return feeds;
  }

 private:
  std::int64_t rest_batch() const { return made_.rest != nullptr ? made_.rest->fixed_batch() : 0; }

  bool made_here(const std::string& input) const {
    return std::ranges::any_of(inputs_, [&](const auto& pair) { return pair.second == input; });
  }

  // Whether all there is gives so many samples at once.
  bool takes(std::int64_t at_once) const {
    const auto one = [at_once](const DataSource& data) {
      return data.fixed_batch() > 0 ? data.fixed_batch() == at_once
                                    : at_once <= 1 || data.can_batch();
    };
    return one(*made_.samples) && (made_.rest == nullptr || one(*made_.rest));
  }

  Result<std::vector<NamedTensor>> make(std::int64_t first, std::int64_t count) {
    MCOMPRESS_ASSIGN(const auto feeds, made_.samples->batch(first, count));
    MCOMPRESS_ASSIGN(std::vector<Tensor> results, session_->run(feeds, fetch_));
    std::vector<NamedTensor> named;
    for (std::size_t i = 0; i < results.size(); ++i) {
      named.push_back({inputs_.at(fetch_[i]), std::move(results[i])});
    }
    return named;
  }

  Status check(const NamedTensor& tensor, std::span<const PortInfo> ports) const {
    const auto port = std::ranges::find(ports, tensor.name, &PortInfo::name);
    const std::span<const std::int64_t> dims = tensor.tensor.dims();
    if (port->type.element != tensor.tensor.dtype()) {
      return unfit("takes " + std::string(dtype_name(port->type.element)) + ", and part '" +
                       made_.part + "' makes " + std::string(dtype_name(tensor.tensor.dtype())),
                   made_.part, tensor.name);
    }
    if (!port->type.shape) return ok_status();
    const auto& shape = *port->type.shape;
    bool fits = shape.size() == dims.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i) {
      fits = !shape[i].size || *shape[i].size == dims[i];
    }
    if (fits) return ok_status();
    return unfit(
        "does not take the shape " + dims_text(dims) + " that part '" + made_.part + "' makes",
        made_.part, tensor.name);
  }

  Result<std::uint64_t> digest_of_all() {
    const std::int64_t step = std::max<std::int64_t>(1, fixed_);
    std::string digests;
    for (std::int64_t at = 0; at + step <= count(); at += step) {
      MCOMPRESS_ASSIGN(const auto feeds, batch(at, step));
      for (const NamedTensor& feed : feeds) {
        const std::uint64_t content =
            feed.tensor.storage() != nullptr ? feed.tensor.storage()->digest() : 0;
        digests += feed.name + dims_text(feed.tensor.dims()) + std::to_string(content);
      }
    }
    return text_digest(digests);
  }

  MadeSamples made_;
  std::unique_ptr<Session> session_;
  std::map<std::string, std::string> inputs_;  // output -> input
  std::vector<std::string> fetch_;
  std::int64_t fixed_ = 0;
  bool batches_ = false;
  Labels labels_;  // none
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<NamedTensor>> kept_;
  std::uint64_t kept_bytes_ = 0;
  mutable std::uint64_t digest_ = 0;
};

}  // namespace

Result<std::map<std::string, std::string>> results_for(
    const Model& maker, const Model& reader, const std::map<std::string, std::string>& named,
    const std::string& part) {
  std::vector<std::string> outputs, inputs;
  for (const Value* value : maker.graph().outputs()) outputs.emplace_back(value->name());
  for (const PortInfo& port : ports_of(reader)) inputs.push_back(port.name);
  const auto there = [](const std::vector<std::string>& names, const std::string& name) {
    return std::ranges::find(names, name) != names.end();
  };
  std::map<std::string, std::string> found;
  std::vector<std::string> taken;
  for (const auto& [output, input] : named) {
    for (const auto& [name, names, what] :
         {std::tuple(&output, &outputs, "output of part '" + part + "'"),
          std::tuple(&input, &inputs, std::string("input of this part"))}) {
      if (there(*names, *name)) continue;
      const std::string close = nearest_name(*name, *names);
      return Error(Code::kUsage, "part-results", "'" + *name + "' is no " + what, {},
                   close.empty() ? "" : "did you mean '" + close + "'?");
    }
    found.emplace(output, input);
    taken.push_back(input);
  }
  for (const std::string& output : outputs) {
    if (found.contains(output) || !there(inputs, output) || there(taken, output)) continue;
    found.emplace(output, output);
    taken.push_back(output);
  }
  if (found.empty() && outputs.size() == 1 && inputs.size() == 1) {
    found.emplace(outputs.front(), inputs.front());
  }
  if (!found.empty()) return found;
  return Error(Code::kInput, "part-samples",
               "no output of part '" + part + "' has the name of an input of this part", {},
               "say which is which: from: {part: " + part + ", results: {OUTPUT: INPUT}}");
}

Result<std::unique_ptr<DataSource>> open_made_samples(MadeSamples made, const Model& reader) {
  MCOMPRESS_ASSIGN(auto inputs, results_for(*made.maker, reader, made.results, made.part));
  const std::vector<PortInfo> ports = ports_of(reader);
  for (const PortInfo& port : ports) {
    const bool here =
        std::ranges::any_of(inputs, [&](const auto& pair) { return pair.second == port.name; });
    if (here || made.rest != nullptr) continue;
    return unfit("has no samples: part '" + made.part + "' makes nothing of that name", made.part,
                 port.name, "give 'results', or 'calib' with what it does not make");
  }
  MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
  SessionOptions options;
  options.threads = made.threads;
  MCOMPRESS_ASSIGN(auto session, runtime->open(*made.maker, options));
  auto source = std::make_unique<MadeSource>(std::move(made), std::move(session), inputs);
  MCOMPRESS_TRY(source->probe(ports));
  return std::unique_ptr<DataSource>(std::move(source));
}

}  // namespace mcompress::tools
