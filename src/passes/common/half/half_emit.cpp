#include "passes/common/half/half_emit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "ir/builder.h"
#include "ir/convert.h"
#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A constant that converted nodes and others read is there twice up to this size.
constexpr std::int64_t kSmall = 1024;

class Emitter {
 public:
  Emitter(Model& model, DataType type, const HalfPlan& plan, bool keep_io, PassContext& context)
      : model_(model), type_(type), plan_(plan), keep_io_(keep_io), context_(context) {}

  Result<HalfEmission> emit() {
    modernise_initializers(model_, context_);
    for (const HalfMask& mask : plan_.masks) MCOMPRESS_TRY(clamp(mask));
    collect();
    const auto computed = std::stable_partition(
        read_.begin(), read_.end(), [](const Value* value) { return is_constant(value); });
    for (auto it = computed; it != read_.end(); ++it) {
      if (!half_.contains((*it)->id())) give_half(**it);
    }
    read_.erase(computed, read_.end());
    for (Value* value : read_) MCOMPRESS_TRY(convert_constant(*value));
    for (Value* value : made_) MCOMPRESS_TRY(make_half(*value));
    if (!keep_io_) MCOMPRESS_TRY(convert_outputs());
    return emission_;
  }

 private:
  using UseKey = std::pair<const Node*, std::uint32_t>;

  Editor& edit() { return context_.edit(); }

  void collect() {
    std::set<std::uint32_t> seen;
    for (Node* node : plan_.nodes) {
      const HalfForm& form = plan_.forms.at(node->id());
      for (std::size_t i = 0; i < form.inputs.size(); ++i) {
        if (!form.inputs[i]) continue;
        half_uses_.emplace(node, static_cast<std::uint32_t>(i));
        if (seen.insert(node->input(i)->id()).second) read_.push_back(node->input(i));
      }
      for (std::size_t i = 0; i < form.outputs.size(); ++i) {
        if (!form.outputs[i]) continue;
        half_.insert(node->output(i)->id());
        made_.push_back(node->output(i));
      }
    }
    if (keep_io_) return;
    for (Value* value : model_.graph().inputs()) {
      if (value->is_initializer() || element_type(*value) != DataType::kFloat) continue;
      half_.insert(value->id());
      made_.push_back(value);
    }
  }

  bool is_half_use(const Use& use) const {
    return use.node != nullptr && half_uses_.contains({use.node, use.slot});
  }
  // Reads the value in whatever type it has.
  bool reads_either(const Use& use) const {
    return is_half_use(use) || (use.node != nullptr && takes_any_type(*use.node));
  }

  void set_element(Value& value, DataType element) {
    TypeInfo type = value.type() != nullptr ? *value.type() : TypeInfo{};
    type.element = element;
    edit().set_type(value, std::move(type), IrInternals::type_origin(value) != nullptr);
  }

  Value& add_cast(Value& source, Value& place, DataType to) {
    NewNode spec{.op_type = "Cast",
                 .inputs = {&source},
                 .base_name = std::string(place.name()) + "_" + dtype_name(to)};
    Node& cast = place.producer() != nullptr
                     ? edit().insert_after(*place.producer(), std::move(spec))
                     : edit().insert_before(*place.graph().first(), std::move(spec));
    edit().set_attribute(cast, attribute("to", static_cast<std::int64_t>(to)));
    ++emission_.casts;
    Value& result = *cast.output(0);
    if (place.type() != nullptr) {
      TypeInfo type = *place.type();
      type.element = to;
      edit().set_type(result, std::move(type), false);
    }
    return result;
  }

  // A float32 value that converted nodes read.
  void give_half(Value& value) {
    const std::vector<Use> uses(value.uses().begin(), value.uses().end());
    const bool all = std::ranges::all_of(uses, [&](const Use& use) { return reads_either(use); });
    Node* maker = value.producer();
    Value* twin = nullptr;
    if (maker != nullptr && maker->is("Cast") && maker->input(0) != nullptr) {
      Value& source = *maker->input(0);
      if (element_type(source) == type_) {
        twin = &source;
      } else if (all) {
        edit().set_attribute(*maker, attribute("to", static_cast<std::int64_t>(type_)));
        set_element(value, type_);
        ++emission_.retyped;
        return;
      } else {
        twin = &add_cast(source, value, type_);
      }
    } else if (maker != nullptr && maker->is("ConstantOfShape") && all) {
      if (retype(*maker)) {
        set_element(value, type_);
        ++emission_.retyped;
        return;
      }
    }
    if (twin == nullptr) twin = &add_cast(value, value, type_);
    for (const Use& use : uses) {
      if (is_half_use(use)) edit().redirect(use, *twin);
    }
  }

  bool retype(Node& node) {
    float number = 0;
    if (const AttributeValue* held = node.attribute("value")) {
      const Tensor* tensor = std::get_if<Tensor>(held);
      auto numbers = tensor != nullptr ? read_floats(*tensor)
                                       : Result<std::vector<float>>(std::vector<float>{});
      if (!numbers.ok() || numbers->size() != 1) return false;
      number = numbers->front();
    }
    std::vector<std::byte> bytes(2);
    encode_from_float(type_, {&number, 1}, bytes, {});
    edit().set_attribute(node, {"value", make_bytes_tensor(type_, {1}, std::move(bytes))});
    return true;
  }

  // A value that a converted node makes, or an input that changes its type.
  Status make_half(Value& value) {
    const std::vector<Use> uses(value.uses().begin(), value.uses().end());
    const auto is_output = [&](const Use& use) {
      return use.node == nullptr && use.graph == &model_.graph();
    };
    const auto needs_float = [&](const Use& use) {
      return is_output(use) ? keep_io_ : !reads_either(use);
    };
    if (std::ranges::none_of(uses, needs_float)) {
      set_element(value, type_);
      return ok_status();
    }
    const bool named = std::ranges::any_of(
        uses, [&](const Use& use) { return is_output(use) && needs_float(use); });
    Value& twin = add_cast(value, value, DataType::kFloat);
    if (named) {
      // The result takes over the name of the model's output; the readers come back.
      MCOMPRESS_TRY(edit().replace_all(value, twin));
      edit().set_input(*twin.producer(), 0, &value);
      for (const Use& use : uses) {
        if (!needs_float(use)) edit().redirect(use, value);
      }
    } else {
      for (const Use& use : uses) {
        if (needs_float(use)) edit().redirect(use, twin);
      }
    }
    set_element(value, type_);
    return ok_status();
  }

  // Outputs of the model that are computed in float32.
  Status convert_outputs() {
    const auto outputs = model_.graph().outputs();
    for (Value* value : std::vector<Value*>(outputs.begin(), outputs.end())) {
      if (element_type(*value) != DataType::kFloat || value->producer() == nullptr) continue;
      const std::vector<Use> uses(value->uses().begin(), value->uses().end());
      Value& twin = add_cast(*value, *value, type_);
      MCOMPRESS_TRY(edit().replace_all(*value, twin));
      edit().set_input(*twin.producer(), 0, value);
      for (const Use& use : uses) {
        if (use.node != nullptr) edit().redirect(use, *value);
      }
      TypeInfo type = *value->type();
      type.element = type_;
      edit().set_type(twin, std::move(type), true);
    }
    return ok_status();
  }

  Status convert_constant(Value& value) {
    const Tensor tensor = *constant_of(&value);
    if (value.producer() != nullptr) edit().replace_by_constant(*value.producer(), tensor);
    MCOMPRESS_ASSIGN(const StoredFloat half,
                     store_floats(tensor, type_, FloatScales::kNone, nullptr, context_.tensors(),
                                  context_.executor()));
    const std::vector<Use> uses(value.uses().begin(), value.uses().end());
    const bool all = std::ranges::all_of(uses, [&](const Use& use) { return is_half_use(use); });
    ++emission_.weights;
    if (all) {
      edit().set_constant(value, half.codes);
      note(value, tensor, {});
      return ok_status();
    }
    const std::string base = std::string(value.name()) + "_" + dtype_name(type_);
    Value& codes = edit().add_initializer(value.graph(), base, half.codes);
    for (const Use& use : uses) {
      if (is_half_use(use)) edit().redirect(use, codes);
    }
    if (tensor.elements() <= kSmall || value.is_graph_output()) return ok_status();
    Value& back = add_cast(codes, codes, DataType::kFloat);
    MCOMPRESS_TRY(edit().replace_all(value, back));
    note(value, tensor, "others read it as float32, restored from the same data");
    return edit().erase_initializer(value);
  }

  void note(const Value& value, const Tensor& tensor, std::string why) {
    constexpr std::int64_t kWorthATale = 256;
    if (tensor.elements() < kWorthATale) return;
    Decision decision;
    decision.subject = value.name();
    for (const Use& use : value.uses()) {
      if (use.node != nullptr) decision.op_type = use.node->op_type();
    }
    decision.what = dtype_name(type_) + " weights, computed with as such";
    decision.why = std::move(why);
    decision.bytes_before = tensor.byte_size();
    decision.bytes_after = tensor.byte_size() / 2;
    context_.explain().chose(std::move(decision));
  }

  Status clamp(const HalfMask& mask) {
    const auto limited = [&](const Tensor& tensor) -> Result<Tensor> {
      MCOMPRESS_ASSIGN(std::vector<float> numbers, read_floats(tensor));
      for (float& number : numbers) {
        if (std::isfinite(number) && number < -65504.0F) {
          number = static_cast<float>(mask.replacement);
        }
      }
      return make_float_tensor(numbers, {tensor.dims().begin(), tensor.dims().end()});
    };
    Value& value = *mask.constant;
    if (Node* maker = value.producer(); maker != nullptr && maker->is("ConstantOfShape")) {
      MCOMPRESS_ASSIGN(Tensor tensor, limited(std::get<Tensor>(*maker->attribute("value"))));
      edit().set_attribute(*maker, {"value", std::move(tensor)});
    } else {
      MCOMPRESS_ASSIGN(Tensor tensor, limited(*constant_of(&value)));
      if (maker != nullptr) {
        edit().replace_by_constant(*maker, std::move(tensor));
      } else {
        edit().set_constant(value, std::move(tensor));
      }
    }
    ++emission_.clamped;
    context_.diagnostics().note("mask-clamped",
                                "masks with " + std::to_string(mask.lowest) +
                                    ", which float16 has not; " +
                                    std::to_string(static_cast<int>(mask.replacement)) +
                                    " has the same effect on the Softmax behind it",
                                {{}, {}, std::string(value.name())});
    return ok_status();
  }

  Model& model_;
  DataType type_;
  const HalfPlan& plan_;
  bool keep_io_;
  PassContext& context_;
  HalfEmission emission_;
  std::set<UseKey> half_uses_;
  std::set<std::uint32_t> half_;  // values that become 16-bit
  std::vector<Value*> read_, made_;
};

}  // namespace

Result<HalfEmission> emit_half(Model& model, DataType type, const HalfPlan& plan, bool keep_io,
                               PassContext& context) {
  return Emitter(model, type, plan, keep_io, context).emit();
}

}  // namespace mcompress
