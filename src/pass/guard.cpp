#include "pass/guard.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>

#include "ir/builder.h"
#include "ir/convert.h"
#include "ir/facts.h"
#include "ir/part.h"
#include "ir/walk.h"
#include "mcompress/evaluate.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Sizes for dimensions that the model leaves open, tried in this order: some models refuse a size
// of one, some have no room for a large one.
constexpr std::array<std::int64_t, 5> kOpenSizes = {2, 1, 64, 7, 224};
constexpr std::uint64_t kMostSiteBytes = std::uint64_t{64} << 20;  // of constants in one site
constexpr std::uint64_t kLargeFeed = std::uint64_t{256} << 10;
constexpr std::uint64_t kMostFeed = std::uint64_t{4} << 20;  // of a further try
constexpr std::size_t kMostSingleSites = 64;  // run one by one when all at once can not be run

// Rounding of a type against that of float32, which the tolerance is meant for.
double coarseness(DataType type) {
  switch (type) {
    case DataType::kFloat16:
      return 100;
    case DataType::kBfloat16:
      return 800;
    default:
      return 1;
  }
}

bool is_real(DataType type) {
  return type == DataType::kFloat || type == DataType::kDouble || type == DataType::kFloat16 ||
         type == DataType::kBfloat16;
}

bool draws_random_numbers(const Model& model) {
  bool random = false;
  for_each_node(const_cast<Model&>(model).graph(), [&](Node& node) {
    if (node.domain().empty() && node.bodies().empty() && !is_deterministic(node)) random = true;
  });
  return random;
}

// It quantizes what it computes, and computes with what it restores.
bool restores_codes(const Model& model) {
  bool quantizes = false, restores = false;
  for_each_node(const_cast<Model&>(model).graph(), [&](Node& node) {
    quantizes = quantizes || node.is("QuantizeLinear");
    restores = restores || node.is("DequantizeLinear");
  });
  return quantizes && restores;
}

bool computes_on_codes(const Model& model) {
  bool found = false;
  for_each_node(const_cast<Model&>(model).graph(), [&](Node& node) {
    const std::string_view op_type = node.op_type();
    found = found || op_type.starts_with("QLinear") || op_type == "QGemm" ||
            op_type == "MatMulIntegerToFloat";
  });
  return found;
}

std::string number_text(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", static_cast<double>(value));
  return text;
}

std::string shape_text(std::span<const std::int64_t> dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    text += (i != 0 ? "," : "") + std::to_string(dims[i]);
  }
  return text + "]";
}

std::vector<std::string> names_of(std::span<const PortInfo> ports) {
  std::vector<std::string> names;
  for (const PortInfo& port : ports) names.push_back(port.name);
  return names;
}

// The type where it has a shape.
const TypeInfo* shape_of(const Value* value) {
  const TypeInfo* type = value != nullptr ? value->type() : nullptr;
  return type != nullptr && type->shape ? type : nullptr;
}

std::uint64_t bytes_of(const std::vector<NamedTensor>& feeds) {
  std::uint64_t bytes = 0;
  for (const NamedTensor& feed : feeds) bytes += feed.tensor.byte_size();
  return bytes;
}

std::uint64_t constant_bytes(const Change& change) {
  std::uint64_t bytes = 0;
  for (const auto* nodes : {&change.before, &change.after}) {
    for (const Node* node : *nodes) {
      for (const Value* value : node->inputs()) {
        if (value == nullptr) continue;
        if (const auto data = constant_of(value)) bytes += data->byte_size();
      }
    }
  }
  return bytes;
}

}  // namespace

Result<std::string> difference_between(const Tensor& expected, const TensorView& actual,
                                       double tolerance) {
  if (expected.dtype() != actual.dtype) {
    return dtype_name(actual.dtype) + " instead of " + dtype_name(expected.dtype());
  }
  if (!std::ranges::equal(expected.dims(), actual.dims)) {
    return "the shape " + shape_text(actual.dims) + " instead of " + shape_text(expected.dims());
  }
  MCOMPRESS_ASSIGN(const Pinned pinned, expected.storage()->pin(0, expected.byte_size()));
  if (!is_real(expected.dtype())) {
    return std::string(std::ranges::equal(pinned.bytes(), actual.bytes) ? "" : "another value");
  }
  MCOMPRESS_ASSIGN(const std::vector<float> wanted, read_floats(expected));
  std::vector<float> got(wanted.size());
  if (!decode_to_float(actual.dtype, actual.bytes, got)) return std::string("undecodable values");
  float largest = 0;
  for (const float value : wanted) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  const double allowed =
      tolerance * coarseness(expected.dtype()) * std::max(static_cast<double>(largest), 1e-9);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const bool both = std::isfinite(wanted[i]) && std::isfinite(got[i]);
    const double error = std::abs(static_cast<double>(wanted[i]) - static_cast<double>(got[i]));
    if (both ? error <= allowed
             : (std::isnan(wanted[i]) ? std::isnan(got[i]) : wanted[i] == got[i])) {
      continue;
    }
    return number_text(got[i]) + " instead of " + number_text(wanted[i]) + " at element " +
           std::to_string(i) + ", where the largest is " + number_text(largest);
  }
  return std::string();
}

Result<std::unique_ptr<Session>> NumericGuard::open(const Model& model, bool fused) const {
  SessionOptions options;
  options.threads = threads_;
  // The graph as it is, not what becomes of it.
  options.optimisation = fused ? Optimisation::kExtended : Optimisation::kNone;
  options.prepack = false;
  options.memory_arena = false;
  return runtime_.open(model, options);
}

Result<NumericGuard::Run> NumericGuard::run_once(Session& session,
                                                 std::span<const std::string> outputs,
                                                 std::vector<NamedTensor> feeds) {
  MCOMPRESS_ASSIGN(auto results, session.run(feeds, outputs));
  return Run{std::move(feeds), std::move(results)};
}

// With the first size of open dimensions that the session takes.
Result<NumericGuard::Run> NumericGuard::run_made_up(Session& session,
                                                    std::span<const std::string> outputs) {
  std::optional<Error> first;
  FeedOptions made_up;
  made_up.seed = seed_;
  for (std::size_t i = 0; i < kOpenSizes.size(); ++i) {
    made_up.free_size = kOpenSizes[i];
    auto feeds = make_feeds(session.inputs(), made_up);
    if (!feeds.ok()) return std::move(feeds).error();
    // Two of a large input show no more than one, and take twice the time.
    if (i == 0 && bytes_of(*feeds) > kLargeFeed) continue;
    // What fails at one size may take minutes to fail at a larger one.
    if (first && bytes_of(*feeds) > kMostFeed) continue;
    auto run = run_once(session, outputs, std::move(feeds).value());
    if (run.ok()) return run;
    if (!first) first = std::move(run).error();
  }
  return std::move(*first);
}

Result<std::string> NumericGuard::difference(Session& candidate, std::span<const std::string> fetch,
                                             std::span<const std::string> labels,
                                             const Run& run) const {
  std::string found;
  MCOMPRESS_TRY(
      candidate.run(run.feeds, fetch, [&](std::size_t i, const TensorView& view) -> Status {
        if (!found.empty()) return ok_status();
        MCOMPRESS_ASSIGN(std::string text, difference_between(run.results[i], view, tolerance_));
        if (!text.empty()) found = "'" + labels[i] + "' becomes " + text;
        return ok_status();
      }));
  return found;
}

void NumericGuard::remember(const Model& model) {
  outputs_.clear();
  reference_.clear();
  fused_reference_.clear();
  fused_model_.reset();
  why_no_reference_.clear();
  opens_ = false;
  if (draws_random_numbers(model)) {
    why_no_reference_ = "the model draws random numbers";
    return;
  }
  auto session = open(model);
  if (!session.ok()) {
    why_no_reference_ = "the runtime does not open it: " + session.error().diagnostic.message;
    return;
  }
  opens_ = true;
  outputs_ = names_of((*session)->outputs());
  auto run = run_made_up(**session, outputs_);
  if (run.ok()) {
    reference_.push_back(std::move(run).value());
  } else {
    why_no_reference_ = "it does not run on made-up inputs: " + run.error().diagnostic.message;
  }
  if (data_ != nullptr && data_->count() > 0) {
    auto sample = data_->sample(0);
    if (!sample.ok()) {
      unreadable_ = std::move(sample).error();
      return;
    }
    auto measured = run_once(**session, outputs_, std::move(sample).value());
    if (measured.ok()) reference_.push_back(std::move(measured).value());
  }
  if (restores_codes(model)) fused_model_ = model.clone();
}

void NumericGuard::remember_fused() {
  if (fused_model_ == nullptr) return;
  const std::unique_ptr<Model> model = std::move(fused_model_);
  auto session = open(*model, true);
  if (!session.ok()) return;
  for (const Run& run : reference_) {
    auto fused = run_once(**session, outputs_, run.feeds);
    if (!fused.ok()) return fused_reference_.clear();
    fused_reference_.push_back(std::move(fused).value());
  }
}

std::string NumericGuard::broken_by(Session& candidate, const std::vector<Run>& runs) const {
  for (const Run& run : runs) {
    auto found = difference(candidate, outputs_, outputs_, run);
    if (!found.ok()) return "it does not run any more: " + found.error().diagnostic.message;
    if (!found->empty()) return std::move(found).value();
  }
  return {};
}

Verdict NumericGuard::compare(const Model& candidate, const std::function<void()>& remembered) {
  Verdict verdict;
  verdict.sites = 1;
  const bool possible = remembered || opens_ || !reference_.empty();
  auto session = possible ? open(candidate) : std::unique_ptr<Session>();
  if (remembered) remembered();
  if (!opens_ && reference_.empty()) {
    verdict.why_not = why_no_reference_;
    return verdict;
  }
  if (!session.ok()) {
    verdict.broken = "the runtime refuses it: " + session.error().diagnostic.message;
    return verdict;
  }
  if (reference_.empty()) {
    verdict.why_not = why_no_reference_;
    return verdict;
  }
  verdict.checked = 1;
  verdict.broken = broken_by(**session, reference_);
  if (verdict.holds() || !computes_on_codes(candidate)) return verdict;
  remember_fused();
  if (fused_reference_.empty()) return verdict;
  auto fused = open(candidate, true);
  if (fused.ok()) verdict.broken = broken_by(**fused, fused_reference_);
  return verdict;
}

// Types that passes have left unknown, inferred when the first one is asked for.
class NumericGuard::Types {
 public:
  explicit Types(const Model& model) : model_(model) {}

  const TypeInfo* find(const Value& value) {
    if (!typed_) {
      typed_ = model_.clone();
      Editor editor(*typed_, &onnx_catalog());
      Diagnostics ignored;
      // What inference found before it failed is as good.
      static_cast<void>(infer_shapes(*typed_, editor, ignored));
    }
    return shape_of(&IrInternals::values(*typed_)[value.id()]);
  }

 private:
  const Model& model_;
  std::unique_ptr<Model> typed_;
};

// Text: what differs. Error: not run.
Result<std::string> NumericGuard::compare_change(const Model& before, const Model& after,
                                                 const Change& change, Types& types) {
  const auto unknown = [](std::string why) {
    return Error(Code::kUnsupported, "guard-site", std::move(why));
  };
  if (constant_bytes(change) > kMostSiteBytes) return unknown("its constants are too large");
  std::map<std::string, std::int64_t> symbols;
  std::vector<PartInput> inputs_before, inputs_after;
  FeedOptions shapes;
  shapes.seed = seed_;
  for (const auto& [then, now] : change.inputs) {
    const std::string name = "'" + std::string(then->name()) + "'";
    const TypeInfo* newer = shape_of(now);
    const TypeInfo* type = shape_of(then);
    if (type == nullptr) type = newer;
    if (type == nullptr) type = types.find(*then);
    if (type == nullptr) return unknown("the shape of " + name + " is unknown");
    if (newer == nullptr) newer = type;
    std::vector<std::int64_t> dims;
    for (std::size_t i = 0; i < type->shape->size(); ++i) {
      const Dim* dim = &(*type->shape)[i];
      if (!dim->size && newer->shape->size() == type->shape->size()) dim = &(*newer->shape)[i];
      // Sizes that differ between symbols, so that one taken for the other shows.
      const auto known =
          symbols.try_emplace(dim->symbol, 2 + static_cast<std::int64_t>(symbols.size()));
      dims.push_back(dim->size ? *dim->size : known.first->second);
    }
    inputs_before.push_back({then, type->element, dims});
    if (now != nullptr) inputs_after.push_back({now, type->element, dims});
    shapes.shapes.emplace(part_name(*then), std::move(dims));
  }
  std::vector<const Value*> wanted_before, wanted_after;
  std::vector<std::string> labels;
  for (const auto& [then, now] : change.outputs) {
    wanted_before.push_back(then);
    wanted_after.push_back(now);
    labels.emplace_back(then->name());
  }
  const auto part_before = part_of(before, change.before, inputs_before, wanted_before);
  const auto part_after = part_of(after, change.after, inputs_after, wanted_after);
  MCOMPRESS_ASSIGN(const auto first, open(*part_before));
  MCOMPRESS_ASSIGN(auto feeds, make_feeds(first->inputs(), shapes));
  const std::vector<NamedTensor> all_feeds = feeds;
  MCOMPRESS_ASSIGN(Run run, run_once(*first, names_of(first->outputs()), std::move(feeds)));
  auto second = open(*part_after);
  if (!second.ok()) return "the runtime refuses it: " + second.error().diagnostic.message;
  // Some inputs may not be read any more.
  std::erase_if(run.feeds, [&](const NamedTensor& feed) {
    return std::ranges::find((*second)->inputs(), feed.name, &PortInfo::name) ==
           (*second)->inputs().end();
  });
  auto found = difference(**second, names_of((*second)->outputs()), labels, run);
  if (!found.ok()) return "it does not run any more: " + found.error().diagnostic.message;
  if (!found->empty() && restores_codes(*part_before) && computes_on_codes(*part_after)) {
    const auto fused_first = open(*part_before, true), fused_second = open(*part_after, true);
    if (!fused_first.ok() || !fused_second.ok()) return found;
    auto fused = run_once(**fused_first, names_of((*fused_first)->outputs()), all_feeds);
    if (!fused.ok()) return found;
    fused->feeds = std::move(run.feeds);
    return difference(**fused_second, names_of((*fused_second)->outputs()), labels, *fused);
  }
  return found;
}

Verdict NumericGuard::compare_sites(const Model& before, const Model& after) {
  Types types(before);
  // Independent values at the border may show a difference where real ones can not: only what
  // stands with more of the graph around it counts.
  Verdict verdict;
  for (const std::size_t depth : {std::size_t{0}, std::size_t{4}, std::size_t{16}}) {
    verdict = compare_sites(before, after, depth, types);
    if (verdict.holds()) break;
  }
  return verdict;
}

Verdict NumericGuard::compare_sites(const Model& before, const Model& after, std::size_t depth,
                                    Types& types) {
  const Changes changes = changes_between(before, after, depth);
  Verdict verdict;
  std::vector<const Change*> possible;
  for (const Change& change : changes.each) {
    if (change.outputs.empty()) continue;  // only what nobody reads is gone
    ++verdict.sites;
    if (change.why_not.empty()) {
      possible.push_back(&change);
    } else if (verdict.why_not.empty()) {
      verdict.why_not = change.why_not;
    }
  }
  if (possible.empty()) return verdict;
  if (possible.size() > 1) {
    auto together = compare_change(before, after, changes.all, types);
    if (together.ok() && together->empty()) {
      verdict.checked = static_cast<std::int64_t>(possible.size());
      return verdict;
    }
  }
  for (std::size_t i = 0; i < possible.size() && i < kMostSingleSites; ++i) {
    auto found = compare_change(before, after, *possible[i], types);
    if (!found.ok()) {
      if (verdict.why_not.empty()) verdict.why_not = found.error().diagnostic.message;
      continue;
    }
    ++verdict.checked;
    if (!found->empty()) {
      verdict.broken = std::move(found).value();
      break;
    }
  }
  return verdict;
}

}  // namespace mcompress
