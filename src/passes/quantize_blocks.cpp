// quantize-blocks: weights of 2, 4 or 8 bits with a scale for each block of neighbours, arithmetic
// on activations in float32 (or as the target's operators for such weights have it).
//
//   x ── MatMul(W)          becomes   x ── MatMulNBits(codes, scales, zero points)
//   T ── Gather(rows)       becomes   codes ── GatherBlockQuantized(rows, scales, zero points)
//   W ── Conv               becomes   codes ── unpack ── Sub ── Mul(scales) ── Reshape ── Conv
//
// or DequantizeLinear by blocks in their place: the target says which. Weights that are one
// another's transposed copies, tied embeddings above all, are rounded and stored once.
#include <algorithm>
#include <memory>

#include "mcompress/version.h"
#include "passes/common/blocks/block_bits.h"
#include "passes/common/blocks/block_calibration.h"
#include "passes/common/blocks/block_emit.h"
#include "passes/common/blocks/block_gptq.h"
#include "passes/common/blocks/block_journal.h"
#include "passes/common/blocks/block_plan.h"
#include "passes/common/blocks/block_rows.h"
#include "passes/common/integer/mixed_precision.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/hash.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

class QuantizeBlocks final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string weights = "uint4";
    std::int64_t block_size = -1;
    std::string scales = "auto";
    std::string embeddings = "same";
    std::string block_form = "auto";
    std::string weight_method = "rtn";
    double avg_bits = 0;
    std::int64_t max_bytes = 0;
    std::int64_t samples = 64;
    std::int64_t levels = 12;
    double damping = 0.01;
    std::int64_t min_elements = 1024;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("weights", &Options::weights,
                   "bits of a weight: int symmetric, uint with a zero point in each block")
            .choices({"uint4", "int4", "uint2", "int2", "uint8", "int8"})
            .field("block-size", &Options::block_size,
                   "neighbouring weights that share a scale: 16 to 256, a power of two; 0: whole "
                   "rows; -1: 32, or what the target takes")
            .range(-1, 256)
            .field("scales", &Options::scales,
                   "what scales are stored in; auto: float16 where constants are folded at load")
            .choices({"auto", "float32", "float16", "bfloat16"})
            .field("embeddings", &Options::embeddings,
                   "bits of tables that are looked up row by row, and of a head that shares them")
            .choices({"same", "uint8", "int8", "uint4", "int4"})
            .field("block-form", &Options::block_form,
                   "how weights are written; auto: as the target runs them best")
            .choices({"auto", "matmul-nbits", "dequantize", "fold"})
            .field(
                "weight-method", &Options::weight_method,
                "rtn: the grid of each block with the least error, weighted by the inputs where "
                "there are data; gptq: by layers' outputs; awq: channels scaled first; hqq; range")
            .choices({"rtn", "gptq", "awq", "awq-gptq", "hqq", "range"})
            .field("avg-bits", &Options::avg_bits,
                   "8 bits for the weights whose errors cost most, up to so many bits of all, "
                   "scales included; 0: none")
            .range(0, 16)
            .field("max-bytes", &Options::max_bytes,
                   "the same up to a size of the whole model; 0: none")
            .unit("bytes")
            .range(0, 9e15)
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9)
            .field("levels", &Options::levels,
                   "gptq: parts of the network, each rounded on what the parts before it make")
            .range(1, 4096)
            .level(OptionSpec::Level::kAdvanced)
            .field("damping", &Options::damping,
                   "gptq: added to the energy of each input, as a share of the mean one")
            .range(1e-6, 1)
            .level(OptionSpec::Level::kAdvanced)
            .field("min-elements", &Options::min_elements,
                   "smaller tensors stay float32: they save less than the nodes around them cost")
            .range(1, 1e12)
            .unit("elements");
    return kSchema;
  }
  explicit QuantizeBlocks(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    BlockRequest request;
    MCOMPRESS_ASSIGN(request.format, format_of(options_.weights, context.target()));
    if (options_.embeddings != "same") {
      MCOMPRESS_ASSIGN(request.table_format, format_of(options_.embeddings, context.target()));
    }
    if (options_.block_form == "matmul-nbits") request.form = BlockRule::Form::kMatMulNBits;
    if (options_.block_form == "dequantize") request.form = BlockRule::Form::kDequantize;
    if (options_.block_form == "fold") request.form = BlockRule::Form::kFold;
    request.min_elements = options_.min_elements;
    request.include = options_.include;
    request.exclude = options_.exclude;
    MCOMPRESS_TRY(raise_opset_for(model, request, context));
    MCOMPRESS_ASSIGN(std::vector<BlockUnit> units, plan_blocks(model, request, context));
    const BlockRounding how = options_.weight_method == "hqq"     ? BlockRounding::kHalfQuadratic
                              : options_.weight_method == "range" ? BlockRounding::kRange
                                                                  : BlockRounding::kSearch;
    std::vector<std::vector<float>> energies(units.size());
    const bool has_data = context.calibration_data() != nullptr;
    const bool by_layers = options_.weight_method.ends_with("gptq");
    if (by_layers && !has_data) {
      return Error(Code::kUsage, "no-calibration-data", "GPTQ needs calibration data",
                   {{}, "weight-method", {}}, "give --calib DATA, or take rtn");
    }
    if (has_data && how == BlockRounding::kSearch) {
      MCOMPRESS_ASSIGN(energies, column_energies(model, units, options_.samples, context));
    }
    MCOMPRESS_TRY(raise_bits(model, units, energies, context));
    const auto emit = [&](std::size_t unit, const BlockRows& rows, const std::string& method) {
      return emit_blocks(units[unit], rows, method, context);
    };
    if (by_layers) return by_gptq(model, units, energies, context, emit);
    for (std::size_t i = 0; i < units.size(); ++i) {
      context.progress().update("round weights", i, units.size(), "tensors");
      MCOMPRESS_ASSIGN(const BlockRows rows,
                       round_unit(units[i], energies[i], how, context.executor()));
      MCOMPRESS_TRY(emit(i, rows, options_.weight_method));
    }
    return ok_status();
  }

 private:
  // DequantizeLinear by blocks is newer than most models. One that can not move gets the form that
  // is computed at load.
  static Status raise_opset_for(Model& model, const BlockRequest& request, PassContext& context) {
    const BlockRule::Form form = request.form ? *request.form : context.target().blocks.products;
    const std::int64_t needed = dequantize_opset(request.format);
    if (form != BlockRule::Form::kDequantize || model.opset("") >= needed) return ok_status();
    ModelMigration migration(model, context, needed);
    if (migration.obstacles().empty()) {
      MCOMPRESS_ASSIGN(const std::size_t rewritten, migration.apply());
      context.report().count("rewritten", static_cast<std::int64_t>(rewritten));
      return ok_status();
    }
    const auto& first = migration.obstacles().front();
    context.diagnostics().warn("blocks-without-dequantize",
                               "DequantizeLinear by blocks needs opset " + std::to_string(needed) +
                                   ", and the model has " + std::to_string(model.opset("")) +
                                   " and can not move: " + first.why +
                                   "; weights are unpacked by older operators",
                               {{}, {}, first.subject});
    return ok_status();
  }

  Status raise_bits(Model& model, std::vector<BlockUnit>& units,
                    const std::vector<std::vector<float>>& energies, PassContext& context) const {
    BitsRequest request;
    request.average_bits = options_.avg_bits;
    request.max_bytes = static_cast<std::uint64_t>(options_.max_bytes);
    if (!request.any()) return ok_status();
    MCOMPRESS_ASSIGN(const BitsChoice choice,
                     choose_bits(model, units, energies, request, context));
    ReportScope& scope = context.report().child("bits");
    scope.count("raised", choice.raised);
    scope.flag("measured", choice.measured);
    scope.number("average", choice.average_bits);
    scope.count("bytes", static_cast<std::int64_t>(choice.bytes));
    context.diagnostics().note(
        "bits", std::to_string(choice.raised) + " of " + std::to_string(units.size()) +
                    " weights get 8 bits, " + fixed(choice.average_bits, 2) +
                    " bits a weight in all; judged by " +
                    (choice.measured ? "the outputs of the model" : "the outputs of their layers"));
    return ok_status();
  }

  template <class Emit>
  Status by_gptq(Model& model, const std::vector<BlockUnit>& units,
                 const std::vector<std::vector<float>>& energies, PassContext& context,
                 const Emit& emit) {
    BlockGptqOptions gptq;
    gptq.samples = options_.samples;
    gptq.levels = options_.levels;
    gptq.damping = options_.damping;
    std::unique_ptr<BlockJournal> journal;
    const PrecisionServices* services = precision_services(context);
    if (services != nullptr && !services->journal.empty()) {
      MCOMPRESS_ASSIGN(journal, BlockJournal::open(real_files(), services->journal,
                                                   digest_of_run(model, units, context)));
    }
    MCOMPRESS_ASSIGN(
        const BlockGptqResult result,
        round_blocks_by_gptq(model, units, energies, gptq, context, journal.get(), emit));
    if (result.resumed > 0) {
      context.diagnostics().note("resumed", std::to_string(result.resumed) + " of " +
                                                std::to_string(result.layers) +
                                                " layers were rounded before the interruption");
    }
    ReportScope& scope = context.report().child("gptq");
    scope.count("layers", result.layers);
    scope.count("left", result.left);
    scope.count("damped", result.damped);
    scope.count("levels", result.levels);
    scope.number("layer_gain_db", result.gain_db);
    context.diagnostics().note("gptq", "GPTQ rounded " + std::to_string(result.layers) +
                                           " layers: the errors of their outputs went down by " +
                                           fixed(result.gain_db, 1) +
                                           " dB on the calibration data");
    if (result.left > 0) {
      context.diagnostics().note(
          "gptq-left", std::to_string(result.left) +
                           " layers keep weights rounded to nearest: what they read on the "
                           "calibration data is not finite, or too alike to tell errors apart");
    }
    if (result.damped > 0) {
      context.diagnostics().note(
          "gptq-damped", "the inputs of " + std::to_string(result.damped) +
                             " layers are nearly dependent: their Gram matrices were damped more");
    }
    return ok_status();
  }

  // Of all that the codes depend on.
  std::uint64_t digest_of_run(const Model& model, const std::vector<BlockUnit>& units,
                              PassContext& context) const {
    Hasher hasher;
    hasher.text(kVersion).integer(fingerprint(model));
    hasher.integer(context.calibration_data()->digest());
    hasher.text(print_json_line(schema().print(options_)));
    for (const BlockUnit& unit : units) {
      hasher.text(unit.holders.front().value->name());
      hasher.integer(static_cast<std::uint64_t>(unit.format.bits)).integer(unit.format.block);
      hasher.integer(static_cast<std::uint64_t>(unit.format.scales));
    }
    return hasher.digest();
  }

  Result<BlockFormat> format_of(const std::string& type, const Target& target) const {
    MCOMPRESS_ASSIGN(BlockFormat format, block_format(type, options_.block_size, target.blocks));
    if (options_.scales == "float32") format.scales = DataType::kFloat;
    if (options_.scales == "bfloat16") format.scales = DataType::kBfloat16;
    return format;
  }

  Options options_;
};

}  // namespace

PassInfo quantize_blocks_info() {
  PassInfo info = pass_info<QuantizeBlocks>(
      "quantize-blocks", "store weights in 2, 4 or 8 bits with a scale per block",
      Reach::kNestedGraphs, false, {"lift-constants", "awq"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
