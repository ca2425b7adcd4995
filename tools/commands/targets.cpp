// targets: what is built in, what a file of the user's own says, and whether it is sound.
#include <CLI/CLI.hpp>

#include "app.h"
#include "mcompress/host.h"
#include "mcompress/target.h"
#include "target_choice.h"
#include "try.h"

namespace mcompress::tools {
namespace {

constexpr std::size_t kWidth = 100;

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string type_names(const std::vector<DataType>& types) {
  std::vector<std::string> names;
  names.reserve(types.size());
  for (const DataType type : types) names.push_back(dtype_name(type));
  return joined(names);
}

// "name   text", the text wrapped behind its column.
std::string entry(std::size_t indent, const std::string& name, const std::string& text) {
  constexpr std::size_t kColumn = 26;
  std::string first(indent, ' ');
  first += name;
  first.resize(std::max(first.size() + 2, kColumn), ' ');
  const std::string body = wrap_text(text, kWidth, kColumn);
  return first + (body.size() > kColumn ? body.substr(kColumn) : std::string()) + "\n";
}

std::string sourced(std::string text, const std::string& source) {
  if (!source.empty()) text += " [" + source + "]";
  return text;
}

std::string case_lines(const std::vector<TargetCase>& cases) {
  std::string text;
  for (const TargetCase& one : cases) {
    std::string line = std::string(verdict_name(one.verdict)) + " where it " + one.why;
    if (!one.versions.empty()) line += ", versions " + one.versions;
    if (!one.instead.empty()) line += "; instead: " + one.instead;
    text += entry(4, "except " + one.id, sourced(line, one.source));
  }
  return text;
}

std::string_view form_text(WeightOnlyRule::Form form) {
  switch (form) {
    case WeightOnlyRule::Form::kFold:
      return "Cast and Mul, computed when the model is loaded";
    case WeightOnlyRule::Form::kDequantize:
      return "DequantizeLinear";
    case WeightOnlyRule::Form::kLookup:
      return "rows of codes are gathered, cast and multiplied by their gathered scales";
    case WeightOnlyRule::Form::kNone:
      break;
  }
  return "none";
}

std::string how_in_integers(const Target& target, const OperatorRule& rule) {
  std::string text;
  switch (rule.kind) {
    case OperatorRule::Kind::kWeighted:
      text = rule.per_channel.value_or(target.per_channel) ? "weight per channel"
                                                           : "weight per tensor";
      break;
    case OperatorRule::Kind::kBinary:
      text = rule.skip_operand_only ? "the operand that skips a weighted operator"
                                    : "all operands of one type";
      break;
    case OperatorRule::Kind::kSameScale:
      text = "moves codes: one scale for input and output";
      break;
    case OperatorRule::Kind::kUnary:
      text = "a kernel of its own";
      break;
    default:
      break;
  }
  text += ", from opset " + std::to_string(rule.since);
  if (!rule.kernels.empty()) text += "; becomes " + joined(rule.kernels);
  if (!rule.why.empty()) text += "; " + rule.why;
  if (rule.rounds_float_weights) {
    text +=
        "; left in float32 between integers, its weight is kept from being rounded by a scale "
        "per channel of its input";
  }
  return sourced(std::move(text), rule.source);
}

std::string facts(const Target& target) {
  std::string text = target.name + ": " + target.description + "\n";
  if (!target.runtime.empty()) {
    text += entry(2, "runtime",
                  target.runtime + (target.runtime_version.empty() ? ", cases of all versions hold"
                                                                   : " " + target.runtime_version));
  }
  text +=
      entry(2, "activations",
            std::string(target.signed_activations ? "int8" : "uint8") +
                (target.symmetric_activations ? ", symmetric: zero point 0" : ", any zero point") +
                ", per tensor");
  std::string weights = type_names(target.weight_types) + ", symmetric, per " +
                        (target.per_channel ? "channel" : "tensor");
  if (target.saturation_free_weights) weights += ", scaled so that 16-bit sums never saturate";
  text += entry(2, "weights", weights);
  text += entry(2, "biases",
                target.float_biases ? "float32" : "int32, scale of the input times the weight's");
  text += entry(2, "Q/DQ",
                target.quantize_inputs_only ? "in front of what runs in integers"
                                            : "at both ends of what runs in integers");
  text += entry(2, "rounding", target.rounding);
  if (!target.saturation.empty()) text += entry(2, "saturation", target.saturation);
  text += entry(2, "cost model",
                target.cost_model ? "what integers would slow down stays float32"
                                  : "none: whatever can run in integers does");
  text += entry(2, "stored weights",
                sourced(std::string(form_text(target.weight_only.form)) + "; " +
                            type_names(target.weight_only.types) + "; embedding tables: " +
                            std::string(form_text(target.weight_only.embeddings)) +
                            (target.weight_only.why.empty() ? "" : "; " + target.weight_only.why),
                        target.weight_only.source));
  for (const std::string& note : target.notes) text += entry(2, "note", note);
  if (!target.source.empty()) text += entry(2, "source", target.source);
  return text;
}

std::string page(const Target& target) {
  std::string text = facts(target);
  text += "\nin integers\n";
  for (const OperatorRule& rule : target.rules) {
    if (!rule.quantizes()) continue;
    text += entry(2, rule.op_type, how_in_integers(target, rule)) + case_lines(rule.cases);
  }
  std::string others;
  for (const OperatorRule& rule : target.rules) {
    if (rule.kind == OperatorRule::Kind::kAbsorbed) {
      others += entry(2, rule.op_type,
                      "disappears where the range of its producer's codes makes it redundant, from "
                      "opset " +
                          std::to_string(rule.since));
    } else if (rule.kind == OperatorRule::Kind::kFused) {
      others += entry(2, rule.op_type, sourced(rule.why, rule.source));
    }
  }
  if (!others.empty()) text += "\nin integers without Q/DQ of their own\n" + others;
  text += "\nin float32\n";
  for (const OperatorRule& rule : target.rules) {
    if (rule.kind != OperatorRule::Kind::kFloat) continue;
    text += entry(2, rule.op_type, sourced(rule.why, rule.source));
  }
  text += entry(2, "any other", "is not listed: nothing is known of an integer kernel");
  if (!target.dynamic.empty()) text += "\nwith activations quantized on every run\n";
  for (const DynamicRule& rule : target.dynamic) {
    const bool none = rule.form == "none";
    std::string line =
        none ? "no: " + rule.why
             : rule.form + ", from opset " + std::to_string(rule.since) +
                   (rule.per_channel ? ", weight per channel" : ", weight per tensor");
    if (!none && !rule.why.empty()) line += "; " + rule.why;
    text += entry(2, rule.op_type, sourced(std::move(line), rule.source)) + case_lines(rule.cases);
  }
  if (!target.avoided.empty()) text += "\nnever written\n";
  for (const AvoidedForm& avoided : target.avoided) {
    std::string line = avoided.what;
    if (!avoided.versions.empty()) line += " (versions " + avoided.versions + ")";
    if (!avoided.instead.empty()) line += "; instead: " + avoided.instead;
    text += entry(2, avoided.form, sourced(std::move(line), avoided.source));
  }
  if (target.natives.empty()) return text;
  text += "\nmerged operators\n";
  for (const NativeOperator& native : target.natives) {
    text += entry(2, native.domain.empty() ? native.op_type : native.domain + ":" + native.op_type,
                  "from opset " + std::to_string(native.since) +
                      (native.worth_raising ? ", worth raising the opset" : "") +
                      (native.activations.empty() ? "" : "; with " + joined(native.activations)));
  }
  return text;
}

// "unknown-version", and what the files say of themselves.
std::size_t unverified(const Target& target) {
  std::size_t count = 0;
  const auto look = [&count](const std::string& source) {
    count += source.find("not verified") != std::string::npos ? 1 : 0;
  };
  for (const OperatorRule& rule : target.rules) {
    look(rule.source);
    for (const TargetCase& one : rule.cases) look(one.source);
  }
  for (const DynamicRule& rule : target.dynamic) look(rule.source);
  look(target.weight_only.source);
  return count;
}

struct TargetsOptions {
  bool json = false;
  std::string check;

  static const Schema<TargetsOptions>& schema() {
    static const Schema<TargetsOptions> kSchema =
        Schema<TargetsOptions>()
            .field("json", &TargetsOptions::json, "as JSON")
            .field("check", &TargetsOptions::check,
                   "read a target of your own and say what is wrong with it")
            .unit("FILE");
    return kSchema;
  }
};

class Targets final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("NAME", name_, "one target, or a file of your own")->type_name("");
    flags.add(TargetsOptions::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(const TargetsOptions options,
                     TargetsOptions::schema().parse(flags_->given(TargetsOptions::schema().specs()),
                                                    diagnostics));
    if (!options.check.empty()) return check(options, console);
    if (!name_.empty()) {
      MCOMPRESS_ASSIGN(const TargetChoice choice, TargetChoice::of(name_, ""));
      const Target& target = choice.target();
      return console.print(options.json ? json_text(target.to_datum()) : page(target));
    }
    std::string text;
    Datum list = Datum::list();
    for (const Target* target : all_targets()) {
      std::string name = target->name;
      name.resize(std::max<std::size_t>(name.size() + 2, 24), ' ');
      text += name + target->description + "\n";
      list.push(target->to_datum());
    }
    return console.print(options.json ? json_text(list) : text);
  }

 private:
  Status check(const TargetsOptions& options, Console& console) const {
    if (!name_.empty()) {
      return Error(Code::kUsage, "unexpected-argument", "unexpected argument '" + name_ + "'", {},
                   "--check reads one file");
    }
    MCOMPRESS_ASSIGN(const Target target, load_target(options.check));
    if (options.json) return console.print(json_text(target.to_datum()));
    std::string text = options.check + ": target '" + target.name + "'";
    if (!target.extends.empty()) text += ", which extends " + target.extends;
    text += ": " + counted(target.rules.size(), "operator") + ", " +
            counted(target.dynamic.size(), "dynamic one") + ", " +
            counted(target.natives.size(), "merged one") + "\n";
    if (const std::size_t count = unverified(target); count > 0) {
      text += counted(count, "rule") + " marked as not verified\n";
    }
    return console.print(text);
  }

  Flags* flags_ = nullptr;
  std::string name_;
};

}  // namespace

std::unique_ptr<Command> make_targets() { return std::make_unique<Targets>(); }

}  // namespace mcompress::tools
