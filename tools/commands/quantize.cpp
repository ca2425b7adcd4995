// quantize: the mode and what --weights asks for choose the recipe.
#include "gates.h"
#include "mcompress/host.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

struct ModeOptions {
  std::string mode = "auto";

  static const Schema<ModeOptions>& schema() {
    static const Schema<ModeOptions> kSchema =
        Schema<ModeOptions>()
            .field("mode", &ModeOptions::mode,
                   "static: integer kernels, ranges from data; dynamic: integer matrix products, "
                   "ranges found on every run; weight-only: small file, float kernels; float16, "
                   "bfloat16: arithmetic in them where the target gains by it, else weights alone; "
                   "auto: static with data, else dynamic where it pays")
            .choices({"auto", "static", "dynamic", "weight-only", "float16", "bfloat16"});
    return kSchema;
  }
};

bool is_constant_weight(const Value* value, std::size_t rank, std::int64_t min_elements) {
  if (value == nullptr) return false;
  const Tensor* tensor = value->initializer();
  if (tensor == nullptr && value->producer() != nullptr && value->producer()->is("Constant")) {
    const AttributeValue* held = value->producer()->attribute("value");
    tensor = held != nullptr ? std::get_if<Tensor>(held) : nullptr;
  }
  return tensor != nullptr && tensor->dims().size() == rank &&
         tensor->dtype() == DataType::kFloat && tensor->elements() >= min_elements;
}

// LSTMs with constant weights that are large enough for dynamic quantization, in nested graphs too.
std::uint64_t large_lstms(const Graph& graph) {
  constexpr std::int64_t kMinElements = 16384;  // of one of the two weights
  std::uint64_t count = 0;
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    if (node->is("LSTM") && is_constant_weight(node->input(2), 3, kMinElements)) ++count;
    for (const Graph* body : node->bodies()) count += large_lstms(*body);
  }
  return count;
}

// Matrix products of the top graph, and of functions, whose weights are large enough for dynamic
// quantization, and LSTMs.
std::uint64_t dynamic_products(const Model& model) {
  constexpr std::int64_t kMinElements = 8192;
  std::uint64_t count = large_lstms(model.graph());
  const auto look = [&count](const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (!node->is("MatMul") && !node->is("Gemm")) continue;
      if (is_constant_weight(node->input(1), 2, kMinElements)) ++count;
    }
  };
  look(model.graph());
  for (const Function& function : model.functions()) look(*function.body);
  return count;
}

class Quantize final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    flags.add(ModeOptions::schema().specs(), "What to quantize, and how");
    specs_ = options_of_recipes(kRecipes);
    // What belongs to quantization first, the rest apart.
    const auto [own, cleaning] = group_options(specs_, kPasses);
    flags.add(own, "What to quantize, and how");
    flags.add(cleaning, "Options of cleaning passes");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("quantize"));
    const auto& schema = ModeOptions::schema();
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(const ModeOptions given,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    const bool has_table = !wanted.options.table.empty();
    const bool has_ranges = has_table || has_calibration_data(wanted.options);
    if (given.mode == "static" && !has_ranges) {
      return Error(Code::kUsage, "no-calibration-data",
                   "static quantization needs calibration data", {{}, "--mode", {}},
                   "give --calib DATA or --table TABLE, or use --mode dynamic");
    }
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(read_pattern_files(wanted.pass_flags));
    // No number that a pass could take: the samples are found before it runs.
    if (wanted.options.samples == "auto") {
      std::erase_if(std::get<Datum::Map>(wanted.pass_flags.value()),
                    [](const auto& entry) { return entry.first == "samples"; });
    }
    wanted.must_compress = true;
    std::string mode = given.mode;
    MCOMPRESS_ASSIGN(const bool floats, wants_floats(mode, wanted.pass_flags));
    if (!floats) take_bytes(mode, wanted.pass_flags);
    const bool blocks =
        !floats && (mode == "auto" || mode == "weight-only") && wants_blocks(wanted.pass_flags);
    const std::string label = (floats || blocks) && mode == "auto" ? "weight-only" : mode;
    if (floats) mode = "float16";
    if (blocks) mode = "blocks";
    if (mode == "auto" && has_ranges) mode = "static";
    // What can be known before the model is there is refused before.
    if (mode != "auto") {
      MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("quantize-" + mode));
      MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    }
    const bool named = floats || blocks;
    const bool automatic = given.mode == "auto" && !named && mode != "weight-only";
    wanted.choose_recipe = [mode, label, named, automatic, has_table, &console](
                               const Model& model, ReportScope& report) -> Result<Recipe> {
      std::string chosen = mode;
      std::string why = "asked for";
      if (automatic && chosen == "static") why = has_table ? "--table given" : "--calib given";
      if (chosen == "auto") {
        const std::uint64_t products = dynamic_products(model);
        chosen = products > 0 ? "dynamic" : "weight-only";
        why = products > 0 ? "no calibration data, and " + std::to_string(products) +
                                 (products == 1 ? " matrix product that gains"
                                                : " matrix products that gain")
                           : "no calibration data, and no large matrix products";
      }
      report.text("mode", named ? label : chosen);
      report.text("mode_reason", why);
      if (automatic) console.say("mode " + chosen + ": " + why);
      return builtin_recipe("quantize-" + chosen);
    };
    return compress(std::move(wanted), console);
  }

 private:
  // Weights below 8 bits, or with a scale per block, are the matter of one pass.
  static bool wants_blocks(const Datum& pass_flags) {
    for (const OptionSpec& spec : builtin_passes().find("quantize-blocks")->options) {
      const bool shared = spec.name == "include" || spec.name == "exclude" ||
                          spec.name == "min-elements" || spec.name == "samples";
      if (!shared && pass_flags.find(spec.name) != nullptr) return true;
    }
    return false;
  }

  // Eight bits without a word of blocks: a scale per channel, as quantize-weights has it.
  static void take_bytes(std::string& mode, Datum& pass_flags) {
    const Datum* given = pass_flags.find("weights");
    const std::string weights = given != nullptr ? option_text(*given) : std::string();
    if ((weights != "int8" && weights != "uint8") || (mode != "auto" && mode != "weight-only")) {
      return;
    }
    Datum::Map& flags = std::get<Datum::Map>(pass_flags.value());
    std::erase_if(flags, [](const auto& entry) { return entry.first == "weights"; });
    if (wants_blocks(pass_flags)) {
      pass_flags.set("weights", Datum::string(weights));
      // Float kernels, a scale per channel: what the mode means also where a method is named.
      if (mode == "weight-only" && pass_flags.find("block-size") == nullptr) {
        pass_flags.set("block-size", Datum::integer(0));
        if (pass_flags.find("block-form") == nullptr) {
          pass_flags.set("block-form", Datum::string("fold"));
        }
      }
      return;
    }
    mode = "weight-only";
    if (pass_flags.find("scheme") == nullptr) {
      pass_flags.set("scheme", Datum::string(weights == "int8" ? "symmetric" : "affine"));
    }
  }

  // Floats of fewer bits are the matter of one pass. Says which, and in which form.
  static Result<bool> wants_floats(const std::string& mode, Datum& pass_flags) {
    const Datum* given = pass_flags.find("weights");
    const std::string weights = given != nullptr ? option_text(*given) : std::string();
    if (mode == "float16" || mode == "bfloat16") {
      if (!weights.empty() && weights != mode) {
        return Error(Code::kUsage, "two-types",
                     "mode " + mode + " computes with weights of that type, not " + weights,
                     {{}, "--weights", {}}, "leave --mode out to store weights alone");
      }
      pass_flags.set("weights", Datum::string(mode));
      return true;
    }
    const bool floats = weights.starts_with("float") || weights.starts_with("bfloat");
    if (!floats || mode == "static" || mode == "dynamic") return false;
    if (pass_flags.find("form") == nullptr) pass_flags.set("form", Datum::string("storage"));
    return true;
  }

  static constexpr std::string_view kRecipes[] = {"quantize-static", "quantize-dynamic",
                                                  "quantize-weight-only", "quantize-blocks",
                                                  "quantize-float16"};
  static constexpr std::string_view kPasses[] = {
      "quantize-static", "quantize-dynamic", "quantize-weights", "quantize-blocks", "cast-float16"};
  std::vector<OptionSpec> specs_;
};

}  // namespace

std::unique_ptr<Command> make_quantize() { return std::make_unique<Quantize>(); }

}  // namespace mcompress::tools
