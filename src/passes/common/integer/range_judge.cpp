#include "passes/common/integer/range_judge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>

#include "ir/facts.h"
#include "ir/part.h"
#include "numeric/error.h"
#include "passes/common/memory_share.h"
#include "support/executor.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kDefaultBudget = std::uint64_t{256} << 20;
constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};
constexpr std::size_t kRoundedAtOnce = 8192;

// How an error of the tensor reaches a reader's output.
enum class Effect : std::uint8_t { kItself, kProbabilities, kPart };

struct Reader {
  Effect effect = Effect::kItself;
  std::vector<const Node*> nodes;  // kPart, in topological order
  const Value* output = nullptr;   // kPart
  std::int64_t axis = -1;          // kProbabilities: of the classes; counted from the end below 0
  std::uint64_t weight_bytes = 0;
  std::unique_ptr<Session> session;
  std::string fetch;
};

bool is_softmax(const Node& node) {
  return node.domain().empty() && (node.op_type() == "Softmax" || node.op_type() == "LogSoftmax");
}

// All inputs but the one in `slot` are constants.
bool reads_only(const Node& node, std::size_t slot) {
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    if (i != slot && node.input(i) != nullptr && !constant_of(node.input(i))) return false;
  }
  return true;
}

class ReaderSearch {
 public:
  ReaderSearch(const StaticPlan& plan, const Graph& graph) : graph_(graph) {
    for (const IntegerNode& node : plan.nodes) integer_.emplace(node.node, &node);
  }

  std::vector<Reader> of(const Value& root) {
    readers_.clear();
    itself_ = probabilities_ = false;
    follow(root, {});
    return std::move(readers_);
  }

 private:
  void follow(const Value& value, const std::vector<const Node*>& path) {
    for (const Use& use : value.uses()) {
      if (use.node == nullptr) {
        if (is_class_scores(value)) {
          add_probabilities(-1);
        } else {
          add_itself();
        }
      } else {
        read(*use.node, use.slot, path);
      }
    }
  }

  void read(const Node& node, std::size_t slot, std::vector<const Node*> path) {
    if (&node.graph() != &graph_ || !why_no_part(node).empty()) return add_itself();
    if (is_softmax(node)) return add_softmax(node, path.empty());
    if (!reads_only(node, slot) || node.outputs().empty()) return add_itself();
    const auto found = integer_.find(&node);
    path.push_back(&node);
    if (found == integer_.end()) return add_part(std::move(path), *node.output(0));
    const IntegerNode& integer = *found->second;
    if (integer.absorbed != nullptr) path.push_back(integer.absorbed);
    if (integer.kind == OperatorRule::Kind::kSameScale) return follow(*integer.output, path);
    add_part(std::move(path), *integer.output);
  }

  // [batch, classes] at the end of a model is taken for scores that a softmax or argmax will read.
  static bool is_class_scores(const Value& value) {
    constexpr std::int64_t kFewestClasses = 3;
    const TypeInfo* type = value.type();
    if (type == nullptr || !type->shape || type->shape->size() != 2) return false;
    return type->shape->back().size.value_or(0) >= kFewestClasses;
  }

  void add_itself() {
    if (std::exchange(itself_, true)) return;
    readers_.emplace_back();
  }
  // The axis is that of the tensor itself only when nothing was moved on the way.
  void add_softmax(const Node& softmax, bool directly) {
    constexpr std::int64_t kOneAxisOpset = 13;  // before, all axes from `axis` on were one
    if (!directly || softmax.graph().model().opset("") < kOneAxisOpset) return add_itself();
    add_probabilities(softmax.int_attribute("axis", -1));
  }
  void add_probabilities(std::int64_t axis) {
    if (std::exchange(probabilities_, true)) return;
    Reader& reader = readers_.emplace_back();
    reader.effect = Effect::kProbabilities;
    reader.axis = axis;
  }
  void add_part(std::vector<const Node*> nodes, const Value& output) {
    Reader& reader = readers_.emplace_back();
    reader.effect = Effect::kPart;
    for (const Node* node : nodes) {
      for (const Value* input : node->inputs()) {
        if (const auto tensor = constant_of(input)) reader.weight_bytes += tensor->byte_size();
      }
    }
    reader.nodes = std::move(nodes);
    reader.output = &output;
  }

  const Graph& graph_;
  std::unordered_map<const Node*, const IntegerNode*> integer_;
  std::vector<Reader> readers_;
  bool itself_ = false, probabilities_ = false;
};

struct Ratio {
  double noise = 0, signal = 0;
};

// Sum over rows of KL(softmax(x) || softmax(y)) along an axis, and the number of rows.
Ratio divergence(std::span<const float> x, std::span<const float> y,
                 std::span<const std::int64_t> dims, std::int64_t axis) {
  Ratio total;
  const auto rank = static_cast<std::int64_t>(dims.size());
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return total;
  const auto classes = static_cast<std::size_t>(dims[static_cast<std::size_t>(axis)]);
  std::size_t stride = 1;
  for (auto i = static_cast<std::size_t>(axis) + 1; i < dims.size(); ++i) {
    stride *= static_cast<std::size_t>(dims[i]);
  }
  if (classes < 2 || stride == 0) return total;
  for (std::size_t row = 0; row < x.size() / classes; ++row) {
    const std::size_t first = row / stride * stride * classes + row % stride;
    const auto log_sum = [&](std::span<const float> values) {
      double top = -HUGE_VAL, sum = 0;
      for (std::size_t i = 0; i < classes; ++i) {
        top = std::max(top, double{values[first + i * stride]});
      }
      for (std::size_t i = 0; i < classes; ++i) {
        sum += std::exp(double{values[first + i * stride]} - top);
      }
      return top + std::log(sum);
    };
    const double sum_x = log_sum(x), sum_y = log_sum(y);
    double sum = 0;
    for (std::size_t i = 0; i < classes; ++i) {
      const double log_p = double{x[first + i * stride]} - sum_x;
      const double log_q = double{y[first + i * stride]} - sum_y;
      sum += std::exp(log_p) * (log_p - log_q);
    }
    if (!std::isfinite(sum)) continue;
    total.noise += std::max(sum, 0.0);
    total.signal += 1;
  }
  return total;
}

Ratio squares(std::span<const float> x, std::span<const float> y) {
  ErrorAccumulator sums;
  sums.add(x, y);
  const ErrorStats stats = sums.stats();
  return {stats.noise, stats.signal};
}

std::span<const float> floats_of(const TensorView& view) {
  return {reinterpret_cast<const float*>(view.bytes.data()), view.bytes.size() / sizeof(float)};
}

class RangeJudge {
 public:
  RangeJudge(const Model& model, const StaticPlan& plan, std::vector<JudgedTensor>& tensors,
             QuantType type, const std::vector<std::int64_t>& samples, std::int64_t at_once,
             PassContext& context)
      : model_(model),
        plan_(plan),
        tensors_(tensors),
        type_(type),
        samples_(samples),
        at_once_(static_cast<std::size_t>(std::max<std::int64_t>(at_once, 1))),
        context_(context) {}

  Result<std::int64_t> run() {
    MCOMPRESS_ASSIGN(runtime_, context_.runtime());
    limited_ = context_.memory_budget() > 0;
    ReaderSearch search(plan_, model_.graph());
    readers_.reserve(tensors_.size());
    for (const JudgedTensor& tensor : tensors_) readers_.push_back(search.of(*tensor.root));
    // Under a budget a quarter is for weights, which stay as long as their group is judged.
    const std::uint64_t budget = limited_ ? context_.memory_budget() / 4 : kDefaultBudget;
    std::int64_t runs = 0;
    for (std::size_t first = 0; first < tensors_.size();) {
      std::size_t last = first;
      for (std::uint64_t bytes = 0; last < tensors_.size(); ++last) {
        for (const Reader& reader : readers_[last]) bytes += reader.weight_bytes;
        if (last > first && bytes > budget) break;
      }
      MCOMPRESS_TRY(judge_group(first, last));
      runs += static_cast<std::int64_t>(samples_.size());
      first = last;
      ++groups_;
    }
    if (limited_) {
      tell_memory(context_, "the choice of ranges",
                  std::to_string(samples_.size()) + " samples in " + std::to_string(groups_) +
                      (groups_ == 1 ? " pass" : " passes") + ", " + std::to_string(in_flight_) +
                      " at once; a run takes " + memory_text(largest_run_) +
                      ", the layers that are tried " + memory_text(largest_held_),
                  largest_run_ + largest_held_);
    }
    return runs;
  }

 private:
  // Of one sample: [candidate * readers + reader].
  using Ratios = std::vector<Ratio>;
  // Kept from tensor to tensor, since the allocator gives back little of what a thread frees.
  struct Scratch {
    std::vector<float> rounded;
    std::vector<std::vector<float>> expected;  // by reader
  };

  Status judge_group(std::size_t first, std::size_t last) {
    SessionOptions observing;
    std::vector<std::pair<const Value*, Reader*>> parts;
    for (std::size_t i = first; i < last; ++i) {
      observing.observed.emplace_back(tensors_[i].root->name());
      for (Reader& reader : readers_[i]) {
        if (reader.effect == Effect::kPart) parts.emplace_back(tensors_[i].root, &reader);
      }
    }
    observing.count_memory = limited_;
    std::unique_ptr<Session> session;
    MCOMPRESS_TRY(context_.executor().try_parallel_for(
        parts.size() + 1, 1, [&](std::size_t i, std::size_t) -> Status {
          if (i > 0) return open(*parts[i - 1].first, *parts[i - 1].second);
          MCOMPRESS_ASSIGN(session, runtime_->open(model_, observing));
          return ok_status();
        }));
    std::vector<std::vector<Ratios>> found(samples_.size());  // [sample][tensor of the group]
    std::size_t alone = 0;
    if (limited_ && !samples_.empty()) {
      MCOMPRESS_TRY(measure_run(*session, first, last, found[0]));
      alone = 1;
    }
    MemoryGate gate(limited_ ? rest_of(context_.memory_budget(), held_by(first, last)) : kNoLimit);
    const std::size_t rest = samples_.size() - alone;
    // Not more threads than runs fit: each keeps some of what it has freed.
    const std::size_t at_once = limited_ ? fitting_ : at_once_;
    MCOMPRESS_TRY(context_.executor().try_parallel_for(
        rest, (rest + at_once - 1) / at_once, [&](std::size_t begin, std::size_t end) -> Status {
          Scratch scratch;
          for (std::size_t s = begin + alone; s < end + alone; ++s) {
            MCOMPRESS_TRY(judge_sample(*session, gate, first, last, s, scratch, found[s]));
          }
          return ok_status();
        }));
    for (std::size_t i = first; i < last; ++i) {
      sum_up(i, i - first, found);
      for (Reader& reader : readers_[i]) reader.session.reset();
    }
    return ok_status();
  }

  // What is kept while a group is judged: weights of its parts, and the ratios.
  std::uint64_t held_by(std::size_t first, std::size_t last) const {
    std::uint64_t bytes = 0;
    for (std::size_t i = first; i < last; ++i) {
      bytes += samples_.size() * tensors_[i].candidates.size() * readers_[i].size() * sizeof(Ratio);
      for (const Reader& reader : readers_[i]) bytes += reader.weight_bytes;
    }
    return bytes;
  }

  // Judges the first sample alone and finds what a run takes: that of the model, and the most that
  // trying one tensor takes beside it.
  Status measure_run(Session& session, std::size_t first, std::size_t last,
                     std::vector<Ratios>& ratios) {
    MCOMPRESS_ASSIGN(const std::vector<NamedTensor> feeds, read_sample(0));
    MCOMPRESS_TRY(
        session.observe(feeds, [](std::size_t, const TensorView&) { return ok_status(); }));
    MCOMPRESS_ASSIGN(const MemoryUse use, session.memory_use());
    input_bytes_ = 0;
    for (const NamedTensor& feed : feeds) input_bytes_ += feed.tensor.byte_size();
    trial_bytes_ = 0;
    measuring_ = true;
    Scratch scratch;
    Status status = judge_feeds(session, feeds, first, last, scratch, ratios);
    measuring_ = false;
    MCOMPRESS_TRY(std::move(status));
    run_bytes_ = use.peak_bytes + 2 * input_bytes_ + trial_bytes_;
    largest_run_ = std::max(largest_run_, run_bytes_);
    const std::uint64_t held = held_by(first, last);
    largest_held_ = std::max(largest_held_, held);
    const std::uint64_t fitting =
        rest_of(context_.memory_budget(), held) / std::max<std::uint64_t>(run_bytes_, 1);
    fitting_ = static_cast<std::size_t>(std::clamp<std::uint64_t>(
        fitting, 1, static_cast<std::uint64_t>(std::max(context_.executor().threads(), 1))));
    in_flight_ = in_flight_ == 0 ? fitting_ : std::min<std::uint64_t>(in_flight_, fitting_);
    return ok_status();
  }

  // Samples of other sizes are taken to need memory in proportion.
  std::uint64_t bytes_of_run(std::span<const NamedTensor> feeds) const {
    if (input_bytes_ == 0) return run_bytes_;
    std::uint64_t bytes = 0;
    for (const NamedTensor& feed : feeds) bytes += feed.tensor.byte_size();
    return static_cast<std::uint64_t>(static_cast<double>(run_bytes_) * static_cast<double>(bytes) /
                                      static_cast<double>(input_bytes_));
  }

  Result<std::vector<NamedTensor>> read_sample(std::size_t s) {
    if (context_.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "the choice of ranges was interrupted");
    }
    DataSource& data = *context_.calibration_data();
    const std::int64_t at_once = std::max<std::int64_t>(data.fixed_batch(), 1);
    context_.progress().update("ranges", ++read_, samples_.size(), "samples");
    return data.batch(samples_[s], at_once);
  }

  Status judge_sample(Session& session, MemoryGate& gate, std::size_t first, std::size_t last,
                      std::size_t s, Scratch& scratch, std::vector<Ratios>& ratios) {
    std::optional<MemoryGate::Entry> entry;
    std::vector<NamedTensor> feeds;
    {
      const std::lock_guard lock(reading_);  // one sample at most waits for room
      MCOMPRESS_ASSIGN(feeds, read_sample(s));
      if (limited_) entry.emplace(gate, bytes_of_run(feeds));
    }
    return judge_feeds(session, feeds, first, last, scratch, ratios);
  }

  Status judge_feeds(Session& session, std::span<const NamedTensor> feeds, std::size_t first,
                     std::size_t last, Scratch& scratch, std::vector<Ratios>& ratios) {
    ratios.resize(last - first);
    return session.observe(feeds, [&](std::size_t i, const TensorView& view) {
      if (view.dtype != DataType::kFloat || i >= ratios.size() || !ratios[i].empty()) {
        return ok_status();
      }
      return judge_tensor(first + i, view, scratch, ratios[i]);
    });
  }

  Status open(const Value& root, Reader& reader) {
    PartInput input{&root, DataType::kFloat, {}};
    input.any_shape = true;
    const auto part =
        part_of(model_, reader.nodes, std::span(&input, 1), std::span(&reader.output, 1));
    SessionOptions options;
    options.memory_arena = false;  // dozens of sessions would each keep what they once needed
    options.count_memory = limited_;
    MCOMPRESS_ASSIGN(reader.session, runtime_->open(*part, options));
    reader.fetch = reader.session->outputs()[0].name;
    return ok_status();
  }

  Status judge_tensor(std::size_t index, const TensorView& view, Scratch& scratch, Ratios& ratios) {
    const JudgedTensor& tensor = tensors_[index];
    std::vector<Reader>& readers = readers_[index];
    const std::span<const float> real = floats_of(view);
    const std::vector<std::int64_t> dims(view.dims.begin(), view.dims.end());
    ratios.resize(tensor.candidates.size() * readers.size());
    std::vector<std::vector<float>>& expected = scratch.expected;
    if (expected.size() < readers.size()) expected.resize(readers.size());
    for (std::vector<float>& values : expected) values.clear();
    std::uint64_t most = 0;  // bytes of a part's run
    // `values` outlive the call; nothing is copied.
    const auto each_part = [&](std::span<const float> values, auto&& receive) -> Status {
      std::vector<NamedTensor> feeds;
      for (std::size_t r = 0; r < readers.size(); ++r) {
        if (readers[r].effect != Effect::kPart) continue;
        if (feeds.empty()) {
          feeds.push_back(
              {part_name(*tensor.root),
               Tensor(DataType::kFloat, dims, make_storage(nullptr, std::as_bytes(values)))});
        }
        MCOMPRESS_TRY(readers[r].session->run(feeds, std::span(&readers[r].fetch, 1),
                                              [&](std::size_t, const TensorView& result) {
                                                if (result.dtype == DataType::kFloat) {
                                                  receive(r, floats_of(result));
                                                }
                                                return ok_status();
                                              }));
        if (measuring_) {
          MCOMPRESS_ASSIGN(const MemoryUse use, readers[r].session->memory_use());
          most = std::max(most, use.peak_bytes);
        }
      }
      return ok_status();
    };
    MCOMPRESS_TRY(each_part(real, [&](std::size_t r, std::span<const float> values) {
      expected[r].assign(values.begin(), values.end());
    }));
    if (scratch.rounded.size() < real.size()) scratch.rounded.resize(real.size());
    const std::span<float> rounded = std::span(scratch.rounded).first(real.size());
    for (std::size_t c = 0; c < tensor.candidates.size(); ++c) {
      round(real, tensor.candidates[c].params, rounded);
      for (std::size_t r = 0; r < readers.size(); ++r) {
        Ratio& ratio = ratios[c * readers.size() + r];
        if (readers[r].effect == Effect::kItself) ratio = squares(real, rounded);
        if (readers[r].effect == Effect::kProbabilities) {
          ratio = divergence(real, rounded, dims, readers[r].axis);
        }
      }
      MCOMPRESS_TRY(each_part(rounded, [&](std::size_t r, std::span<const float> values) {
        if (values.size() != expected[r].size()) return;
        ratios[c * readers.size() + r] = squares(expected[r], values);
      }));
    }
    if (measuring_) {
      most += view.bytes.size();
      for (const std::vector<float>& values : expected) most += values.capacity() * sizeof(float);
      trial_bytes_ = std::max(trial_bytes_, most);
    }
    return ok_status();
  }

  void round(std::span<const float> values, QuantParams params, std::span<float> out) const {
    const CodeRange codes = code_range(type_, CodeSpan::kFull);
    const auto through = [&](auto code) {
      using T = decltype(code);
      std::array<T, kRoundedAtOnce> rounded;
      for (std::size_t at = 0; at < values.size(); at += kRoundedAtOnce) {
        const std::size_t n = std::min(kRoundedAtOnce, values.size() - at);
        const std::span<T> some = std::span(rounded).first(n);
        quantize_span<T>(values.subspan(at, n), params, codes, some);
        dequantize_span<T>(some, params, out.subspan(at, n));
      }
    };
    if (type_.is_signed) {
      through(std::int8_t{});
    } else {
      through(std::uint8_t{});
    }
  }

  // In the order of samples and readers, so that threads change no bit.
  void sum_up(std::size_t index, std::size_t in_group,
              const std::vector<std::vector<Ratios>>& found) {
    JudgedTensor& tensor = tensors_[index];
    const std::size_t readers = readers_[index].size();
    for (std::size_t c = 0; c < tensor.candidates.size(); ++c) {
      double noise = 0;
      bool judged = false;
      for (std::size_t r = 0; r < readers; ++r) {
        Ratio total;
        for (const std::vector<Ratios>& sample : found) {
          if (sample[in_group].empty()) continue;
          total.noise += sample[in_group][c * readers + r].noise;
          total.signal += sample[in_group][c * readers + r].signal;
        }
        if (!(total.signal > 0)) continue;
        judged = true;
        noise += total.noise / total.signal;
      }
      if (judged && std::isfinite(noise)) tensor.candidates[c].noise = noise;
    }
  }

  const Model& model_;
  const StaticPlan& plan_;
  std::vector<JudgedTensor>& tensors_;
  QuantType type_;
  const std::vector<std::int64_t>& samples_;
  std::size_t at_once_;
  PassContext& context_;
  Runtime* runtime_ = nullptr;
  std::vector<std::vector<Reader>> readers_;  // [tensor]
  std::mutex reading_;
  std::uint64_t read_ = 0;
  // Under a memory budget: bytes of the first sample, of a run with what is tried in it, and of
  // what is tried.
  bool limited_ = false, measuring_ = false;
  std::size_t fitting_ = 1;  // runs at once
  std::uint64_t input_bytes_ = 0, run_bytes_ = 0, trial_bytes_ = 0;
  std::uint64_t largest_run_ = 0, largest_held_ = 0, in_flight_ = 0;
  std::int64_t groups_ = 0;
};

}  // namespace

Result<std::int64_t> judge_ranges(const Model& model, const StaticPlan& plan,
                                  std::vector<JudgedTensor>& tensors, QuantType type,
                                  const std::vector<std::int64_t>& samples, std::int64_t at_once,
                                  PassContext& context) {
  return RangeJudge(model, plan, tensors, type, samples, at_once, context).run();
}

}  // namespace mcompress
