// Initializers of equal type, dimensions and bytes become one:
//
//   w1 = T, w2 = T          w1 = T
//   MatMul(x, w1)      =>   MatMul(x, w1)
//   MatMul(y, w2)           MatMul(y, w1)
//
// Inner graphs may read the copy of an outer one; equal tensors of sibling graphs (two branches of
// an If) move to the graph that holds both. Digests find candidates, bytes decide; only tensors
// that share type, dimensions and a few bytes with another one are read at all.
#include <algorithm>
#include <map>
#include <span>
#include <tuple>
#include <unordered_map>

#include "ir/sweep.h"
#include "ir/walk.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Smaller tensors of sibling graphs stay where they are: a captured value costs a little on every
// run of the body.
constexpr std::uint64_t kWorthMoving = 1024;

// The innermost graph that holds both; null when there is none (bodies of functions).
Graph* common_graph(Graph& left, const Graph& right) {
  for (Graph* graph = &left; graph != nullptr;
       graph = graph->owner() != nullptr ? &graph->owner()->graph() : nullptr) {
    if (right.is_within(*graph)) return graph;
  }
  return nullptr;
}

// Of the first and the middle bytes: all that tells large tensors apart in most models.
Result<std::uint64_t> sample_of(const Tensor& tensor) {
  constexpr std::uint64_t kSample = 4096, kLarge = std::uint64_t{1} << 20;
  if (tensor.byte_size() < kLarge) return 0;
  Hasher hasher;
  for (const std::uint64_t at : {std::uint64_t{0}, tensor.byte_size() / 2}) {
    MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(at, kSample));
    hasher.bytes(pinned.bytes());
  }
  return hasher.digest();
}

// Those whose mark another one has as well, in their order. Most marks are there once: sorting
// finds that out without a place in memory for each.
std::vector<Value*> shared_by_several(const std::vector<Value*>& values,
                                      std::span<const std::uint64_t> marks) {
  std::vector<std::uint64_t> sorted(marks.begin(), marks.end());
  std::ranges::sort(sorted);
  std::vector<std::uint64_t> several;
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const bool again = sorted[i] == sorted[i - 1];
    if (again && (several.empty() || several.back() != sorted[i])) several.push_back(sorted[i]);
  }
  std::vector<Value*> result;
  if (several.empty()) return result;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::ranges::binary_search(several, marks[i])) result.push_back(values[i]);
  }
  return result;
}

class DedupInitializers final : public Pass {
 public:
  struct Options {
    std::int64_t min_bytes = 0;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("min-bytes", &Options::min_bytes, "leave smaller tensors alone")
            .range(0, 1e15)
            .unit("bytes")
            .level(OptionSpec::Level::kAdvanced);
    return schema;
  }
  explicit DedupInitializers(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    // Type and dimensions first: most tensors are alone with theirs and need not be read.
    using Shape = std::pair<DataType, std::vector<std::int64_t>>;
    std::map<Shape, std::vector<Value*>> by_shape;
    for_each_graph(model.graph(), [&](Graph& graph) {
      for (Value* value : graph.initializers()) {
        const Tensor* tensor = value->constant();
        if (tensor == nullptr || tensor->is_opaque() || value->is_graph_input()) continue;
        if (tensor->byte_size() < static_cast<std::uint64_t>(options_.min_bytes)) continue;
        by_shape[{tensor->dtype(), {tensor->dims().begin(), tensor->dims().end()}}].push_back(
            value);
      }
    });
    for (const auto& [shape, values] : by_shape) {
      if (values.size() < 2) continue;
      std::vector<std::uint64_t> marks;
      for (const Value* value : values) {
        MCOMPRESS_ASSIGN(const std::uint64_t found, sample_of(*value->initializer()));
        marks.push_back(found);
      }
      std::vector<Value*> alike = shared_by_several(values, marks);
      marks.clear();
      for (const Value* value : alike) {
        if (context.progress().cancelled()) {
          return Error(Code::kCancelled, "cancelled", "interrupted while comparing initializers");
        }
        marks.push_back(value->initializer()->storage()->digest());
      }
      const std::vector<Value*> equal = shared_by_several(alike, marks);
      std::unordered_map<std::uint64_t, std::vector<Value*>> by_digest;
      for (Value* value : equal) {
        auto& kept = by_digest[value->initializer()->storage()->digest()];
        MCOMPRESS_ASSIGN(const bool merged, merge(*value, kept, context));
        if (!merged) kept.push_back(value);
      }
    }
    MCOMPRESS_TRY(erase_initializers(context.edit(), gone_));
    context.report().count("merged", merged_);
    context.report().count("bytes", static_cast<std::int64_t>(bytes_));
    return ok_status();
  }

 private:
  // Lets the readers of `value` read one of `kept`, which came first, if any is equal and visible.
  Result<bool> merge(Value& value, std::vector<Value*>& kept, PassContext& context) {
    for (Value*& other : kept) {
      const bool visible = value.graph().is_within(other->graph());
      Graph* shared = visible ? nullptr : common_graph(value.graph(), other->graph());
      if (!visible && (shared == nullptr || value.is_graph_output() || other->is_graph_output() ||
                       value.initializer()->byte_size() < kWorthMoving)) {
        continue;
      }
      MCOMPRESS_ASSIGN(const bool same, same_content(*value.initializer(), *other->initializer()));
      if (!same) continue;
      if (!visible) {
        Value& moved = add_constant(context, *shared, other->name(), *other->initializer());
        if (!forward(context, *other, moved).empty()) {
          MCOMPRESS_TRY(context.edit().erase_initializer(moved));
          continue;
        }
        MCOMPRESS_TRY(context.edit().erase_initializer(*other));
        other = &moved;
      }
      Decision decision;
      decision.subject = value.name();
      decision.bytes_before = decision.bytes_after = value.initializer()->byte_size();
      if (value.is_graph_output()) {
        decision.why = "it equals '" + std::string(other->name()) + "' but is a graph output";
        context.explain().skipped(std::move(decision));
        return false;
      }
      if (std::string why = forward(context, value, *other); !why.empty()) {
        decision.why = std::move(why);
        context.explain().skipped(std::move(decision));
        return false;
      }
      decision.what = "same bytes as '" + std::string(other->name()) + "'";
      decision.bytes_after = 0;
      bytes_ += decision.bytes_before;
      ++merged_;
      context.explain().chose(std::move(decision));
      gone_.push_back(&value);
      return true;
    }
    return false;
  }

  Options options_;
  std::vector<Value*> gone_;  // erased at the end
  std::int64_t merged_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

PassInfo dedup_initializers_info() {
  return pass_info<DedupInitializers>("dedup-initializers",
                                      "keep one copy of initializers with equal bytes",
                                      Reach::kNestedGraphs, true, {"lift-constants"});
}

}  // namespace mcompress
