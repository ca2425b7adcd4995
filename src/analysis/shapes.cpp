#include "analysis/shapes.h"

#include <algorithm>

#include "ir/facts.h"
#include "support/text.h"

namespace mcompress {
namespace {

Error bad_pin(std::string_view input, std::string message, std::string hint = {}) {
  return Error(Code::kUsage, "input-shape", std::move(message),
               {{}, "--input-shape", std::string(input)}, std::move(hint));
}

std::string shape_text(const TypeInfo& type) {
  if (!type.shape) return "a shape of any rank";
  std::string text = "[";
  for (const Dim& dim : *type.shape) {
    if (text.size() > 1) text += ", ";
    text += dim.size ? std::to_string(*dim.size) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

Status apply_pin(const Value& input, const std::vector<std::int64_t>& sizes, PinnedShapes& pinned) {
  for (const std::int64_t size : sizes) {
    if (size >= 0) continue;
    return bad_pin(input.name(), "a size can not be " + std::to_string(size));
  }
  const TypeInfo* type = input.type();
  if (type == nullptr) return bad_pin(input.name(), "is no tensor");
  if (!type->shape) return ok_status();
  if (type->shape->size() != sizes.size()) {
    return bad_pin(input.name(), std::to_string(sizes.size()) + " sizes given, the model has " +
                                     shape_text(*type));
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Dim& dim = (*type->shape)[i];
    const std::string axis = "axis " + std::to_string(i) + " given as " + std::to_string(sizes[i]);
    if (dim.size && *dim.size != sizes[i]) {
      return bad_pin(input.name(), axis + ", the model has " + shape_text(*type));
    }
    if (dim.size || dim.symbol.empty()) continue;
    const auto [place, fresh] = pinned.symbols.emplace(dim.symbol, sizes[i]);
    if (!fresh && place->second != sizes[i]) {
      return bad_pin(input.name(), axis + ", but '" + dim.symbol + "' is " +
                                       std::to_string(place->second) + " elsewhere");
    }
  }
  return ok_status();
}

}  // namespace

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  if (a == 0 || b == 0) return 0;
  return a > kCountLimit / b ? kCountLimit : a * b;
}

std::uint64_t plus(std::uint64_t a, std::uint64_t b) {
  return a > kCountLimit - std::min(b, kCountLimit) ? kCountLimit : a + b;
}

std::uint64_t product(const Sizes& sizes) {
  std::uint64_t result = 1;
  for (const std::uint64_t size : sizes) {
    if (size == 0) return 0;  // even behind a product that has saturated
    result = times(result, size);
  }
  return result;
}

std::optional<Sizes> ShapeReader::sizes(const Value* value) {
  if (value == nullptr) return std::nullopt;
  if (const auto tensor = constant_of(value))
    return Sizes(tensor->dims().begin(), tensor->dims().end());
  if (value->type() == nullptr || !value->type()->shape) return std::nullopt;
  Sizes sizes;
  for (const Dim& dim : *value->type()->shape) {
    if (dim.size && *dim.size >= 0) {
      sizes.push_back(static_cast<std::uint64_t>(*dim.size));
      continue;
    }
    const auto known = shapes_.symbols.find(dim.symbol);
    if (!dim.symbol.empty() && known != shapes_.symbols.end()) {
      sizes.push_back(static_cast<std::uint64_t>(known->second));
    } else {
      assumed_ = true;
      sizes.push_back(1);
    }
  }
  return sizes;
}

std::optional<std::uint64_t> ShapeReader::elements(const Value* value) {
  const auto found = sizes(value);
  return found ? std::optional(product(*found)) : std::nullopt;
}

std::optional<std::uint64_t> ShapeReader::bytes(const Value* value) {
  const auto count = elements(value);
  if (!count) return std::nullopt;
  const DTypeInfo* type = find_dtype(element_type(*value));
  if (type == nullptr || type->bits == 0) return std::nullopt;
  return type->bits >= 8 ? times(*count, type->bits / 8U) : plus(times(*count, type->bits), 7) / 8;
}

bool ShapeReader::take_assumed() { return std::exchange(assumed_, false); }

std::string graph_path(const Graph& graph) {
  std::vector<std::string> parts;
  for (const Graph* at = &graph; at->owner() != nullptr; at = &at->owner()->graph()) {
    const Node& owner = *at->owner();
    std::string attribute = "body";
    for (const Attribute& entry : owner.attributes()) {
      const auto* held = std::get_if<std::unique_ptr<Graph>>(&entry.value);
      if (held != nullptr && held->get() == at) attribute = entry.name;
    }
    parts.push_back(attribute);
    parts.push_back(owner.label());
  }
  std::reverse(parts.begin(), parts.end());
  return join(parts, "/");
}

Result<PinnedShapes> pin_input_shapes(Editor& editor, const ShapePins& pins) {
  const Graph& graph = editor.model().graph();
  std::vector<Value*> inputs;
  std::vector<std::string> names;
  for (Value* value : graph.inputs()) {
    if (value->is_initializer()) continue;
    inputs.push_back(value);
    names.emplace_back(value->name());
  }
  for (const auto& [name, sizes] : pins) {
    if (std::ranges::find(names, name) != names.end()) continue;
    const std::string hint = did_you_mean(name, names);
    return bad_pin(name, "is no input of the model",
                   hint.empty() ? "its inputs: " + join(names, ", ") : hint);
  }
  PinnedShapes pinned;
  for (const Value* input : inputs) {
    const auto pin = pins.find(input->name());
    if (pin == pins.end()) continue;
    Status fits = apply_pin(*input, pin->second, pinned);
    if (!fits.ok()) return std::move(fits).error();
  }
  for (Value* input : inputs) {
    if (input->type() == nullptr) continue;
    TypeInfo type = *input->type();
    const auto pin = pins.find(input->name());
    if (pin != pins.end()) {
      type.shape.emplace();
      for (const std::int64_t size : pin->second) type.shape->push_back({size, {}});
    } else if (type.shape) {
      for (std::size_t i = 0; i < type.shape->size(); ++i) {
        Dim& dim = (*type.shape)[i];
        if (dim.size && *dim.size >= 0) continue;
        if (dim.symbol.empty()) {
          pinned.assumed.push_back("input '" + std::string(input->name()) + "' axis " +
                                   std::to_string(i));
          dim = {1, {}};
          continue;
        }
        const auto [place, fresh] = pinned.symbols.emplace(dim.symbol, 1);
        if (fresh) pinned.assumed.push_back(dim.symbol);
        dim = {place->second, {}};
      }
    }
    if (type != *input->type()) editor.set_type(*input, std::move(type), true);
  }
  return pinned;
}

}  // namespace mcompress
