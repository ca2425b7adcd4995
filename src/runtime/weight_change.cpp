// What nodes read as weights, found from the stored constants forwards:
//
//   w_quantized ── DequantizeLinear ── Reshape ── Conv      before: w ── Conv
//   '────────── run alone, no feeds ─────────'
#include "mcompress/weight_change.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "ir/part.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr int kMostDepth = 64;
constexpr std::size_t kChunk = 1 << 16;
// A decoded weight is held whole.
constexpr std::int64_t kMostElements = std::int64_t{1} << 30;

bool is_floating(const Tensor& tensor) {
  const DTypeInfo* info = find_dtype(tensor.dtype());
  return info != nullptr && info->floating;
}

// The nodes that make `value` from constants alone, in topological order.
class ConstantPart {
 public:
  // False: it depends on an input, or a node on the way can not be taken out.
  bool add(const Value* value, int depth = 0) {
    if (value == nullptr || value->constant() != nullptr) {
      if (value != nullptr) roots_.push_back(value);
      return true;
    }
    const Node* node = value->producer();
    if (node == nullptr || depth > kMostDepth || node->op_type().starts_with("Random")) {
      return false;
    }
    if (!seen_.insert(node).second) return true;
    if (!why_no_part(*node).empty()) return false;
    for (const Value* input : node->inputs()) {
      if (!add(input, depth + 1)) return false;
    }
    nodes_.push_back(node);
    return true;
  }
  const std::vector<const Node*>& nodes() const { return nodes_; }
  const std::vector<const Value*>& roots() const { return roots_; }

 private:
  std::unordered_set<const Node*> seen_;
  std::vector<const Node*> nodes_;
  std::vector<const Value*> roots_;
};

// Where the candidate reads a weight of the reference.
struct Reading {
  const Value* weight = nullptr;  // in the reference
  const Node* reader = nullptr;   // in the candidate
  const Value* read = nullptr;
  std::vector<const Node*> nodes;
};

class WeightReader {
 public:
  WeightReader(Runtime& runtime, const Model& model) : runtime_(runtime), model_(model) {}

  Result<Tensor> decoded(const Reading& reading) const {
    if (reading.reader->op_type() == "MatMulNBits") return packed(reading, reading.reader, 2, 3);
    if (reading.reader->op_type() == "GatherBlockQuantized") {
      return packed(reading, reading.reader, 2, 3);
    }
    return computed(reading.read, reading.nodes);
  }

 private:
  Result<Tensor> computed(const Value* value, std::span<const Node* const> nodes) const {
    if (const Tensor* tensor = value->constant(); tensor != nullptr) return *tensor;
    const auto part = part_of(model_, nodes, {}, std::array{value});
    SessionOptions options;
    options.optimisation = Optimisation::kBasic;
    MCOMPRESS_ASSIGN(const auto session, runtime_.open(*part, options));
    const std::array fetch = {session->outputs().front().name};
    MCOMPRESS_ASSIGN(std::vector<Tensor> results, session->run({}, fetch));
    if (results.empty()) return Error(Code::kUnsupported, "no-result", "the part has no result");
    return std::move(results.front());
  }

  Result<std::vector<float>> numbers(const Value* value) const {
    ConstantPart part;
    if (value == nullptr || !part.add(value)) return std::vector<float>();
    MCOMPRESS_ASSIGN(const Tensor tensor, computed(value, part.nodes()));
    return read_floats(tensor);
  }

  // Rows of blocks: value = (code - zero) scale, codes of `bits` packed from the lowest bit up,
  // each row in whole bytes; zero points packed the same way, 2^(bits-1) where there are none
  // (com.microsoft.MatMulNBits and GatherBlockQuantized, uint8 storage).
  Result<Tensor> packed(const Reading& reading, const Node* node, std::size_t scale_slot,
                        std::size_t zero_slot) const {
    const auto unsupported = [](std::string why) {
      return Error(Code::kUnsupported, "packed-weight", std::move(why));
    };
    const Tensor* codes = reading.read->constant();
    const std::int64_t bits = node->int_attribute("bits", 4);
    const std::int64_t block = node->int_attribute("block_size", 32);
    if (codes == nullptr || codes->dtype() != DataType::kUint8 || block < 1 ||
        (bits != 2 && bits != 4 && bits != 8) || codes->dims().size() < 2) {
      return unsupported("its packed form is not known here");
    }
    std::int64_t columns = node->int_attribute("K", 0);
    if (columns == 0) columns = codes->dims().back() * (8 / bits);
    if (columns < 1) return unsupported("its packed form is not known here");
    const std::int64_t rows = codes->dims().front();
    const std::int64_t blocks = (columns + block - 1) / block;
    MCOMPRESS_ASSIGN(const std::vector<float> scales, numbers(node->input(scale_slot)));
    if (rows < 1 || static_cast<std::int64_t>(scales.size()) != rows * blocks) {
      return unsupported("it has another number of scales than blocks");
    }
    std::vector<float> zeros;
    const Value* zero = node->input(zero_slot);
    MCOMPRESS_ASSIGN(zeros, numbers(zero));
    const std::int64_t per_byte = 8 / bits;
    const std::int64_t zero_row = (blocks + per_byte - 1) / per_byte;
    const bool zeros_packed = static_cast<std::int64_t>(zeros.size()) == rows * zero_row;
    if (!zeros.empty() && !zeros_packed) {
      return unsupported("its zero points are stored another way");
    }
    const std::int64_t row_bytes = codes->elements() / rows;
    MCOMPRESS_ASSIGN(const Pinned pinned, codes->storage()->pin(0, codes->byte_size()));
    const int mask = (1 << bits) - 1;
    const auto code = [&](auto byte, std::int64_t i) {
      return (static_cast<int>(byte) >> (i % per_byte * bits)) & mask;
    };
    if (row_bytes * per_byte < columns) return unsupported("it has fewer codes than columns");
    std::vector<std::byte> bytes(static_cast<std::size_t>(rows * columns) * sizeof(float));
    auto* out = reinterpret_cast<float*>(bytes.data());
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = 0; i < columns; ++i) {
        const std::int64_t b = i / block;
        const int q =
            code(pinned.bytes()[static_cast<std::size_t>(row * row_bytes + i / per_byte)], i);
        const int z = zeros.empty()
                          ? 1 << (bits - 1)
                          : code(zeros[static_cast<std::size_t>(row * zero_row + b / per_byte)], b);
        *out++ = static_cast<float>(q - z) * scales[static_cast<std::size_t>(row * blocks + b)];
      }
    }
    return make_bytes_tensor(DataType::kFloat, {rows, columns}, std::move(bytes));
  }

  Runtime& runtime_;
  const Model& model_;
};

class Changes {
 public:
  Changes(Runtime& runtime, const Model& before, const Model& after,
          const WeightChangeOptions& options)
      : before_(before), after_(after), options_(options), reader_(runtime, after) {}

  Result<std::vector<WeightChange>> run(Progress& progress) {
    find_weights();
    find_readings(after_.graph());
    std::stable_sort(readings_.begin(), readings_.end(), [](const Reading& a, const Reading& b) {
      return a.weight->constant()->elements() > b.weight->constant()->elements();
    });
    if (readings_.size() > options_.most) readings_.resize(options_.most);
    std::vector<WeightChange> list;
    for (const Reading& reading : readings_) {
      if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
      MCOMPRESS_ASSIGN(WeightChange change, compare(reading));
      list.push_back(std::move(change));
      progress.update("weights", list.size(), readings_.size(), "samples");
    }
    return list;
  }

 private:
  void find_weights() {
    for (const Value* value : before_.graph().initializers()) {
      const Tensor* tensor = value->constant();
      if (tensor == nullptr || tensor->is_opaque() || !is_floating(*tensor)) continue;
      if (tensor->elements() < options_.min_elements || tensor->elements() > kMostElements) {
        continue;
      }
      weights_.emplace(value->name(), value);
    }
  }

  // "layer.w_quantized" is "layer.w": the longest name that a '_' ends.
  const Value* weight_named(std::string_view name) const {
    for (;;) {
      if (const auto found = weights_.find(name); found != weights_.end()) return found->second;
      const std::size_t cut = name.rfind('_');
      if (cut == std::string_view::npos || cut == 0) return nullptr;
      name = name.substr(0, cut);
    }
  }

  void find_readings(const Graph& graph) {
    // What only leads to weights reads none itself.
    std::unordered_set<const Node*> leading;
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const bool constant =
          std::all_of(node->inputs().begin(), node->inputs().end(), [&](const Value* value) {
            return value == nullptr || value->constant() != nullptr ||
                   leading.contains(value->producer());
          });
      if (constant) {
        leading.insert(node);
        continue;
      }
      for (const Value* value : node->inputs()) {
        if (value == nullptr) continue;
        if (value->constant() == nullptr && !leading.contains(value->producer())) continue;
        add_reading(*node, *value);
      }
    }
  }

  void add_reading(const Node& node, const Value& value) {
    ConstantPart part;
    if (!part.add(&value)) return;
    for (const Value* root : part.roots()) {
      const Value* weight = weight_named(root->name());
      if (weight == nullptr) continue;
      if (!taken_.insert(weight).second) continue;
      readings_.push_back({weight, &node, &value, part.nodes()});
      return;
    }
  }

  Result<WeightChange> compare(const Reading& reading) const {
    const Tensor& before = *reading.weight->constant();
    WeightChange change;
    change.name = reading.weight->name();
    change.layer = reading.reader->label();
    change.op_type = reading.reader->op_type();
    change.elements_before = before.elements();
    auto decoded = reader_.decoded(reading);
    if (!decoded.ok()) {
      if (decoded.error().code == Code::kCancelled) return std::move(decoded).error();
      change.why_not = decoded.error().diagnostic.message;
      return change;
    }
    const Tensor& after = *decoded;
    if (!is_floating(after)) {
      change.why_not = "its integers are scaled behind '" + change.layer + "'";
      return change;
    }
    change.elements_after = after.elements();
    const std::size_t bins = std::clamp<std::size_t>(options_.bins, 1, 4096);
    change.histogram.before.assign(bins, 0);
    change.histogram.after.assign(bins, 0);
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (const Tensor* tensor : {&before, &after}) {
      MCOMPRESS_TRY(read_as_float(*tensor, kChunk, [&](std::int64_t, std::span<const float> part) {
        for (const float value : part) {
          if (!std::isfinite(value)) continue;
          low = std::min<double>(low, value);
          high = std::max<double>(high, value);
        }
      }));
    }
    if (low > high) low = high = 0;
    change.histogram.low = low;
    change.histogram.high = high;
    MCOMPRESS_TRY(count(before, change.histogram, change.histogram.before, change.zeros_before));
    MCOMPRESS_TRY(count(after, change.histogram, change.histogram.after, change.zeros_after));
    MCOMPRESS_ASSIGN(change.sqnr_db, error_between(before, after));
    return change;
  }

  static Status count(const Tensor& tensor, const ValueHistogram& histogram,
                      std::vector<std::uint64_t>& counts, std::uint64_t& zeros) {
    const double width = histogram.high - histogram.low;
    const double per_bin = width > 0 ? static_cast<double>(counts.size()) / width : 0;
    return read_as_float(tensor, kChunk, [&](std::int64_t, std::span<const float> part) {
      for (const float value : part) {
        if (!std::isfinite(value)) continue;
        zeros += value == 0 ? 1 : 0;
        const double place = (static_cast<double>(value) - histogram.low) * per_bin;
        ++counts[std::min(static_cast<std::size_t>(place), counts.size() - 1)];
      }
    });
  }

  // Of tensors with the same dimensions, or with those of a matrix the other way round (packed
  // weights are stored so).
  static Result<std::optional<double>> error_between(const Tensor& before, const Tensor& after) {
    using Found = std::optional<double>;
    const auto &a = before.dims(), &b = after.dims();
    const bool same = std::ranges::equal(a, b);
    const bool turned = !same && a.size() == 2 && b.size() == 2 && a[0] == b[1] && a[1] == b[0];
    if (!same && !turned) return Found();
    MCOMPRESS_ASSIGN(const std::vector<float> right, read_floats(after));
    double signal = 0, noise = 0;
    MCOMPRESS_TRY(
        read_as_float(before, kChunk, [&](std::int64_t first, std::span<const float> part) {
          for (std::size_t i = 0; i < part.size(); ++i) {
            std::int64_t at = first + static_cast<std::int64_t>(i);
            if (turned) at = at % a[1] * a[0] + at / a[1];
            const double x = part[i], y = right[static_cast<std::size_t>(at)];
            if (!std::isfinite(x) || !std::isfinite(y)) continue;
            signal += x * x;
            noise += (x - y) * (x - y);
          }
        }));
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (noise == 0) return Found(kInfinity);
    return Found(signal == 0 ? -kInfinity : 10 * std::log10(signal / noise));
  }

  const Model& before_;
  const Model& after_;
  const WeightChangeOptions& options_;
  WeightReader reader_;
  std::unordered_map<std::string_view, const Value*> weights_;
  std::unordered_set<const Value*> taken_;
  std::vector<Reading> readings_;
};

}  // namespace

Result<std::vector<WeightChange>> weight_changes(Runtime& runtime, const Model& before,
                                                 const Model& after,
                                                 const WeightChangeOptions& options,
                                                 Progress& progress) {
  return Changes(runtime, before, after, options).run(progress);
}

}  // namespace mcompress
