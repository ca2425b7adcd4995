// cast-float16: weights, or the whole arithmetic, in floats of 16 bits (weights of 8, too).
//
//   W (float32) ── Conv      becomes   W (float16) ── Cast ── Conv                 --form storage
//                                      W (float8) ── Cast ── Mul(scale) ── Conv
//
// A runtime that folds constants computes Cast and Mul once, when it loads the model, and then runs
// the very kernels it ran before.
//
//   x ── MatMul ── Add ── y  becomes   x ── Cast ── MatMul ── Add ── Cast ── y     --form compute
//
// where an operator has a 16-bit form at the model's opset, the target a kernel for it, and its
// numbers fit. Casts stand where 16-bit and float32 parts meet, one per value and direction; bodies
// of control flow and model-local functions hand float32 in and out.
#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/constants.h"
#include "passes/common/half/float_storage.h"
#include "passes/common/half/half_emit.h"
#include "passes/common/half/half_plan.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/target_rules.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Bytes that one more initializer or node costs in the file, names included.
constexpr std::uint64_t kNodeBytes = 90;
// Tables from this many elements on are looked up as they are stored.
constexpr std::int64_t kLookupElements = std::int64_t{1} << 18;

DataType type_named(std::string_view name) {
  if (name == "float8") return DataType::kFloat8E4M3FN;
  for (const DataType type :
       {DataType::kBfloat16, DataType::kFloat8E4M3FN, DataType::kFloat8E5M2}) {
    if (dtype_name(type) == name) return type;
  }
  return DataType::kFloat16;
}

class CastFloat16 final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string weights = "float16";
    std::string form = "auto";
    std::string float_scales = "auto";
    bool keep_io = true;
    double safety = 4;
    std::int64_t longest_sum = 256;
    std::int64_t min_elements = 256;
    std::int64_t samples = 0;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("weights", &Options::weights,
                   "floats of fewer bits, for weights and, in 16 bits, for arithmetic; float8 is "
                   "float8e4m3fn")
            .choices({"float16", "bfloat16", "float8", "float8e4m3fn", "float8e5m2"})
            .field("form", &Options::form,
                   "storage: weights are stored in it and computed with in float32; compute: "
                   "arithmetic too; auto: compute where the target gains by it")
            .choices({"auto", "storage", "compute"})
            .field(
                "float-scales", &Options::float_scales,
                "of stored 8-bit floats: one per channel or one per tensor; auto is channel, and "
                "for float16 a power of two where numbers would be lost")
            .choices({"auto", "channel", "tensor", "none"})
            .field("keep-io", &Options::keep_io,
                   "compute: the model's inputs and outputs stay float32")
            .field("safety", &Options::safety,
                   "compute: values seen beyond 65504 divided by this keep their nodes in float32")
            .range(1, 1024)
            .field("longest-sum", &Options::longest_sum,
                   "compute: reductions of more terms stay in float32")
            .range(1, 1e9)
            .unit("terms")
            .field("samples", &Options::samples,
                   "compute: calibrate on the first N samples; 0: as many as make 64 MiB of values")
            .range(0, 1e9)
            .unit("N")
            .field("min-elements", &Options::min_elements,
                   "storage: smaller tensors stay float32: they save less than the nodes around "
                   "them cost")
            .range(1, 1e12)
            .unit("elements")
            .rule([](const Options& options) -> Status {
              if (options.form != "compute" || !options.weights.starts_with("float8")) {
                return ok_status();
              }
              return Error(Code::kUsage, "float8-compute",
                           "8-bit floats are for storage: no operator computes in them",
                           {{}, "form", {}}, "use --form storage, or weights in float16");
            });
    return kSchema;
  }
  explicit CastFloat16(Options options)
      : options_(std::move(options)), type_(type_named(options_.weights)) {}

  Status run(Model& model, PassContext& context) override {
    const LowFloatRule& rule = context.target().low_float;
    const bool fast = rule.compute == LowFloatRule::Compute::kFast;
    const bool small = options_.weights.starts_with("float8");
    const bool compute = options_.form == "compute" || (options_.form == "auto" && fast && !small);
    if (options_.form == "auto" && !compute && !small) {
      context.diagnostics().warn(
          "stored-only",
          "the arithmetic stays float32: " + context.target().name + ' ' +
              (rule.why.empty() ? std::string("does not compute in 16-bit floats") : rule.why),
          {}, "--form compute converts it nevertheless");
    } else if (compute && !fast) {
      context.diagnostics().warn(
          "slow-low-float",
          context.target().name + ' ' +
              (rule.why.empty() ? std::string("does not compute in 16-bit floats") : rule.why),
          {}, "--form storage keeps the arithmetic as it was");
    }
    context.report().text("form", compute ? "compute" : "storage");
    return compute ? convert(model, context) : store(model, context);
  }

 private:
  // ------------------------------------------------------------------------------------ storage

  struct Candidate {
    Value* value = nullptr;
    const Node* user = nullptr;
    std::optional<WeightView> layout;
  };

  static std::vector<Value*> float_constants(Model& model) {
    std::vector<Value*> values = constants_of(model.graph());
    std::erase_if(values, [](const Value* value) {
      const auto tensor =
          value->is_initializer() ? std::optional(*value->initializer()) : constant_of(value);
      return !tensor || tensor->dtype() != DataType::kFloat || tensor->is_opaque();
    });
    return values;
  }

  Status store(Model& model, PassContext& context) {
    std::vector<Candidate> candidates;
    for (Value* value : float_constants(model)) {
      if (auto candidate = candidate_of(*value, context)) candidates.push_back(*candidate);
    }
    if (candidates.empty()) return ok_status();
    MCOMPRESS_ASSIGN(const std::string why, why_not_typed(model, context));
    for (const Candidate& candidate : candidates) {
      if (why.empty()) {
        MCOMPRESS_TRY(store_one(candidate, context));
      } else {
        explain_kept(context, *candidate.value, *constant_of(candidate.value), candidate.user, why);
      }
    }
    report_scan(context);
    return ok_status();
  }

  std::optional<Candidate> candidate_of(Value& value, PassContext& context) const {
    const Tensor tensor = value.is_initializer() ? *value.initializer() : *constant_of(&value);
    if (value.uses().empty() || tensor.elements() <= 16) return std::nullopt;
    const auto decline = [&](const Node* user, std::string why) {
      explain_kept(context, value, tensor, user, std::move(why));
      return std::optional<Candidate>();
    };
    if (tensor.elements() < options_.min_elements) {
      return decline(nullptr, "has " + std::to_string(tensor.elements()) + " elements, below " +
                                  std::to_string(options_.min_elements));
    }
    if (value.is_initializer() && value.constant() == nullptr) {
      return decline(nullptr, "a caller of the model may override it");
    }
    const Selection selection(options_.include, options_.exclude);
    Candidate candidate{&value, nullptr, std::nullopt};
    for (const Use& use : value.uses()) {
      if (use.node == nullptr) return decline(nullptr, "is an output of the graph");
      if (std::string why = selection.why_not(*use.node, &value); !why.empty()) {
        return decline(use.node, std::move(why));
      }
      if (needs_exact(*use.node, use.slot)) {
        return decline(use.node, "decides what " + use.node->label() + " does, not only how much");
      }
      if (candidate.user == nullptr || !candidate.layout) {
        candidate.user = use.node;
        candidate.layout = weight_view(*use.node, use.slot, tensor.dims());
      }
    }
    const std::uint64_t bits = find_dtype(type_)->bits;
    const std::uint64_t saved = tensor.byte_size() / 32 * (32 - bits);
    if (saved <= 2 * kNodeBytes) return decline(candidate.user, "would not get smaller");
    if (!context.target().low_float.stores(type_)) {
      return decline(candidate.user, "would be stored as " + dtype_name(type_) +
                                         ", which is not computed back at load (" +
                                         rule_name(context.target(), "low-float/storage") + ")");
    }
    return candidate;
  }

  // Scales of integers, sizes, positions and thresholds.
  static bool needs_exact(const Node& node, std::uint32_t slot) {
    static constexpr std::array<std::string_view, 8> kOperators = {
        "DequantizeLinear", "NonMaxSuppression", "QuantizeLinear", "Range",
        "Resize",           "RoiAlign",          "Upsample",       "GridSample"};
    if (!node.domain().empty()) {
      // QAttention, MatMulNBits, DynamicQuantizeLSTM...: among their floats are scales.
      const std::string_view name = node.op_type();
      const auto holds = [name](std::string_view part) {
        return name.find(part) != std::string_view::npos;
      };
      return name.starts_with("Q") || holds("Quant") || holds("NBits") || holds("Integer") ||
             holds("Bnb4");
    }
    if (std::ranges::find(kOperators, node.op_type()) != kOperators.end()) {
      return slot > 0 || node.is("Range") || node.is("NonMaxSuppression") || node.is("RoiAlign");
    }
    if (!node.is("Mul")) return false;
    // The scale of stored integers.
    const Node* other =
        node.input(1 - slot) != nullptr ? node.input(1 - slot)->producer() : nullptr;
    for (int steps = 0; other != nullptr && steps < 2; ++steps) {
      if (other->is("Cast")) {
        const DTypeInfo* from = find_dtype(element_type(*other->input(0)));
        return from != nullptr && !from->floating && is_constant(other->input(0));
      }
      if (!other->is("Sub") || other->input(0) == nullptr) return false;
      other = other->input(0)->producer();
    }
    return false;
  }

  // Brings the model to the opset that has the type; the reason why not.
  Result<std::string> why_not_typed(Model& model, PassContext& context) const {
    const std::int64_t needed = type_ == DataType::kFloat16    ? 6
                                : type_ == DataType::kBfloat16 ? 13
                                                               : 19;
    const std::int64_t opset = model.opset("");
    if (opset < needed) {
      const std::string wish = dtype_name(type_) + " needs opset " + std::to_string(needed) + ": ";
      if (needed == 6) return wish + "the model has " + std::to_string(opset);
      ModelMigration migration(model, context, needed);
      if (!migration.obstacles().empty()) {
        const auto& [node, subject, why] = migration.obstacles().front();
        return wish + (subject.empty() ? std::string() : "'" + subject + "' ") + why;
      }
      MCOMPRESS_ASSIGN([[maybe_unused]] const std::size_t rewritten, migration.apply());
      context.report().count("opset", needed);
    }
    context.edit().require_ir_version(ir_version_of_opset(needed));
    return std::string();
  }

  // With which scales a tensor is stored; empty: `why` it is not.
  std::optional<FloatScales> scales_for(const FloatScan& scan, const Candidate& candidate,
                                        std::string& why) {
    const bool specials = scan.nan_count + scan.infinity_count > 0;
    if (type_ == DataType::kBfloat16) {
      if (scan.beyond == 0) return FloatScales::kNone;
      why = "has numbers that bfloat16 rounds to infinity";
      return std::nullopt;
    }
    if (type_ != DataType::kFloat16) {
      why = "holds NaN or infinity";
      if (specials) return std::nullopt;
      if (options_.float_scales == "none") {
        why = "has numbers beyond " + std::to_string(static_cast<int>(largest_number(type_)));
        return scan.beyond > 0 ? std::nullopt : std::optional(FloatScales::kNone);
      }
      // Of channels of a few weights a scale would be the larger part.
      constexpr std::int64_t kShort = 16;
      const bool channels =
          options_.float_scales != "tensor" && candidate.layout &&
          (options_.float_scales == "channel" || candidate.layout->length() >= kShort);
      return channels ? FloatScales::kChannel : FloatScales::kTensor;
    }
    // 11 bits give 70 dB and more; below this, numbers fall out at the lower end.
    constexpr double kGood = 60;
    if (scan.beyond == 0 && (scan.vanishing == 0 || scan.sqnr_db >= kGood)) {
      return FloatScales::kNone;
    }
    if (options_.float_scales == "none" && scan.beyond == 0) return FloatScales::kNone;
    if (options_.float_scales != "none" && !specials) return FloatScales::kPower;
    why = std::to_string(scan.beyond) + " of its numbers are beyond 65504";
    return std::nullopt;
  }

  Status store_one(const Candidate& candidate, PassContext& context) {
    Value& value = *candidate.value;
    const Tensor tensor = *constant_of(&value);
    MCOMPRESS_ASSIGN(const FloatScan scan, scan_floats(tensor, type_, context.executor()));
    std::string why;
    const auto scales = scales_for(scan, candidate, why);
    if (!scales) {
      explain_kept(context, value, tensor, candidate.user, std::move(why));
      return ok_status();
    }
    MCOMPRESS_ASSIGN(
        const StoredFloat stored,
        store_floats(tensor, type_, *scales, candidate.layout ? &*candidate.layout : nullptr,
                     context.tensors(), context.executor()));
    const std::uint64_t after =
        stored.codes.byte_size() + (stored.scale ? stored.scale->byte_size() : 0);
    if (after + 3 * kNodeBytes >= tensor.byte_size()) {
      explain_kept(context, value, tensor, candidate.user, "would not get smaller");
      return ok_status();
    }
    if (*scales == FloatScales::kNone) vanishing_ += scan.vanishing;
    if (value.producer() != nullptr) context.edit().replace_by_constant(*value.producer(), tensor);
    modernise_initializers(value.graph().model(), context);
    Decision decision;
    decision.subject = value.name();
    decision.op_type = candidate.user->op_type();
    decision.what = dtype_name(type_) + " weights" +
                    (*scales == FloatScales::kChannel  ? ", a scale per channel"
                     : *scales == FloatScales::kTensor ? ", one scale"
                     : *scales == FloatScales::kPower  ? ", times a power of two"
                                                       : "");
    decision.why = "restored to float32 when the model is loaded";
    decision.bytes_before = tensor.byte_size();
    decision.bytes_after = after;
    decision.sqnr_db = stored.scale ? stored.sqnr_db : scan.sqnr_db;
    if (!stored.scale && is_looked_up(value, tensor, context.target())) {
      decision.why = "the rows that are looked up are restored to float32";
      MCOMPRESS_TRY(look_up(value, stored.codes, context));
    } else {
      MCOMPRESS_TRY(restore(value, stored, context));
    }
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  static Value* add_cast(Editor& edit, Node& anchor, Value& codes, const std::string& base) {
    Node& cast = edit.insert_before(
        anchor, {.op_type = "Cast", .inputs = {&codes}, .base_name = base + "_cast"});
    edit.set_attribute(cast, attribute("to", std::int64_t{1}));
    return cast.output(0);
  }

  Status restore(Value& value, const StoredFloat& stored, PassContext& context) const {
    Editor& edit = context.edit();
    Graph& graph = value.graph();
    const std::string base(value.name());
    Node& anchor = *graph.first();
    Value& codes = edit.add_initializer(graph, base + "_" + dtype_name(type_), stored.codes);
    Value* real = add_cast(edit, anchor, codes, base);
    if (stored.scale) {
      Value& scale = edit.add_initializer(graph, base + "_scale", *stored.scale);
      real = edit.insert_before(
                     anchor,
                     {.op_type = "Mul", .inputs = {real, &scale}, .base_name = base + "_restored"})
                 .output(0);
    }
    MCOMPRESS_TRY(edit.replace_all(value, *real));
    return edit.erase_initializer(value);
  }

  // A large table that nothing but Gather reads, where rows are restored one by one.
  static bool is_looked_up(const Value& value, const Tensor& tensor, const Target& target) {
    return target.weight_only.embeddings == WeightOnlyRule::Form::kLookup &&
           tensor.elements() >= kLookupElements &&
           std::all_of(value.uses().begin(), value.uses().end(), [](const Use& use) {
             return use.node != nullptr && use.node->is("Gather") && use.slot == 0;
           });
  }

  Status look_up(Value& value, const Tensor& tensor, PassContext& context) const {
    Editor& edit = context.edit();
    const std::string base(value.name());
    Value& codes = edit.add_initializer(value.graph(), base + "_" + dtype_name(type_), tensor);
    const std::vector<Use> uses(value.uses().begin(), value.uses().end());
    for (const Use& use : uses) {
      Node& gather = *use.node;
      Node& rows = edit.insert_before(
          gather,
          {.op_type = "Gather", .inputs = {&codes, gather.input(1)}, .base_name = base + "_rows"});
      edit.set_attribute(rows, attribute("axis", gather.int_attribute("axis", 0)));
      Value* real = add_cast(edit, gather, *rows.output(0), base);
      MCOMPRESS_TRY(edit.replace_all(*gather.output(0), *real));
      MCOMPRESS_TRY(edit.erase(gather));
    }
    return edit.erase_initializer(value);
  }

  void report_scan(PassContext& context) const {
    context.report().count("vanishing", vanishing_);
    if (vanishing_ == 0) return;
    context.diagnostics().note("weights-vanish", std::to_string(vanishing_) +
                                                     " weights are too small for " +
                                                     dtype_name(type_) + " and become 0");
  }

  // ------------------------------------------------------------------------------------ compute

  Status convert(Model& model, PassContext& context) {
    if (type_ == DataType::kBfloat16 && model.opset("") < 13) {
      MCOMPRESS_ASSIGN(const std::string why, why_not_typed(model, context));
      if (!why.empty()) {
        context.diagnostics().note("opset-not-raised", "nothing is converted: " + why);
        return ok_status();
      }
    }
    const LowFloatRule& rule = context.target().low_float;
    const Selection selection(options_.include, options_.exclude);
    HalfChoice choice;
    choice.type = type_;
    choice.limit = largest_number(type_) / (type_ == DataType::kFloat16 ? options_.safety : 1);
    choice.longest_sum = options_.longest_sum;
    choice.any_kernel = rule.casts_by_itself && type_ == DataType::kFloat16;
    std::optional<CalibrationTable> table;
    if (type_ == DataType::kFloat16 && context.calibration_data() != nullptr) {
      MCOMPRESS_ASSIGN(table, context.calibration(model, request_for(model)));
      choice.table = &*table;
    }
    HalfRules rules(model, choice, context.target(), selection, context.executor());
    MCOMPRESS_ASSIGN(const HalfPlan plan, plan_half(model, type_, rules));
    for (const auto& [node, why] : plan.kept) context.explain().skipped(*node, why);
    context.report().count("converted", static_cast<std::int64_t>(plan.nodes.size()));
    context.report().count("kept", static_cast<std::int64_t>(plan.kept.size()));
    if (!plan.nodes.empty()) {
      context.edit().require_ir_version(
          ir_version_of_opset(type_ == DataType::kBfloat16 ? std::int64_t{13} : std::int64_t{7}));
      MCOMPRESS_ASSIGN(const HalfEmission done,
                       emit_half(model, type_, plan, options_.keep_io, context));
      context.report().count("casts", done.casts);
      context.report().count("retyped", done.retyped);
      context.report().count("masks", done.clamped);
    }
    note_left(model, plan, context);
    return ok_status();
  }

  CalibrationRequest request_for(const Model& model) const {
    constexpr std::uint64_t kEnoughBytes = std::uint64_t{64} << 20;
    CalibrationRequest request;
    request.samples = options_.samples;
    if (options_.samples == 0) request.enough_bytes = kEnoughBytes;
    for (const Node* node : model.graph().nodes()) {
      if (node->is("Constant")) continue;
      for (const Value* value : node->outputs()) {
        if (value != nullptr && element_type(*value) == DataType::kFloat) {
          request.values.emplace_back(value->name());
        }
      }
    }
    for (const Value* value : model.graph().inputs()) {
      if (!value->is_initializer() && element_type(*value) == DataType::kFloat) {
        request.values.emplace_back(value->name());
      }
    }
    return request;
  }

  // Weights that stayed float32, with the reason of their reader.
  void note_left(Model& model, const HalfPlan& plan, PassContext& context) const {
    std::map<const Node*, std::string_view> reasons;
    for (const auto& [node, why] : plan.kept) reasons.emplace(node, why);
    for (const Value* value : float_constants(model)) {
      const auto tensor =
          value->is_initializer() ? std::optional(*value->initializer()) : constant_of(value);
      if (tensor->elements() < options_.min_elements || value->uses().empty()) continue;
      const Node* user = value->uses().front().node;
      const auto found = reasons.find(user);
      explain_kept(context, *value, *tensor, user,
                   found != reasons.end() ? std::string(found->second)
                                          : std::string("is read where float32 is needed"));
    }
  }

  Options options_;
  DataType type_;
  std::int64_t vanishing_ = 0;
};

}  // namespace

PassInfo cast_float16_info() {
  PassInfo info = pass_info<CastFloat16>(
      "cast-float16", "weights or arithmetic in floats of 16 bits, or weights in 8-bit floats",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fuse-batchnorm"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
