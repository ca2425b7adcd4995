// Which input of a language model is what, and the values that the tokens imply.
#include "mcompress/language.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "ir/convert.h"
#include "mcompress/dtype.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ports = std::span<const PortInfo>;

bool is_integer(DataType type) { return type == DataType::kInt64 || type == DataType::kInt32; }

bool is_floating(DataType type) {
  const DTypeInfo* info = find_dtype(type);
  return info != nullptr && info->floating;
}

std::size_t rank_of(const PortInfo& port) { return port.type.shape ? port.type.shape->size() : 0; }

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// What names of keys and values are called by.
bool names_past(const std::string& name) {
  constexpr std::array<std::string_view, 7> kWords = {
      "past_key", "past_value", "kv_cache", "key_cache", "value_cache", "cache_k", "cache_v"};
  return name.starts_with("past") ||
         std::ranges::any_of(kWords, [&](std::string_view word) { return holds(name, word); });
}

std::optional<InputRole> role_by_name(const PortInfo& port) {
  const std::string name = lower(port.name);
  const DataType type = port.type.element;
  const std::size_t rank = rank_of(port);
  if (!port.type.shape) return std::nullopt;
  if (is_floating(type) || type == DataType::kInt8 || type == DataType::kUint8) {
    if (rank >= 3 && rank <= 5 && names_past(name)) return InputRole::kPast;
  }
  if (type == DataType::kBool && rank <= 1 && holds(name, "use_cache")) {
    return InputRole::kCacheBranch;
  }
  const bool mask_type = is_integer(type) || type == DataType::kBool || is_floating(type);
  if (holds(name, "mask")) {
    const bool attention = holds(name, "attention_mask") || holds(name, "input_mask");
    if (rank == 2 && mask_type && attention) return InputRole::kAttentionMask;
    return std::nullopt;
  }
  if (!is_integer(type)) return std::nullopt;
  if (holds(name, "token_type") || holds(name, "segment_ids")) {
    return rank == 2 ? std::optional(InputRole::kTokenTypeIds) : std::nullopt;
  }
  if (holds(name, "position_ids") || holds(name, "cache_position")) {
    return rank == 1 || rank == 2 ? std::optional(InputRole::kPositionIds) : std::nullopt;
  }
  constexpr std::array<std::string_view, 4> kIds = {"ids", "tokens", "token_ids", "input_tokens"};
  if (rank == 2 && (name.ends_with("input_ids") || std::ranges::find(kIds, name) != kIds.end())) {
    return InputRole::kTokenIds;
  }
  return std::nullopt;
}

// The name without what tells a past from a present.
std::string bare_name(std::string_view name) {
  std::string text = lower(name);
  for (const std::string_view word : {"past_key_values", "present_key_values", "past", "present",
                                      "new_", "_out", "_in", "updated"}) {
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
      text.erase(at, word.size());
    }
  }
  std::erase_if(text, [](char c) { return c == '.' || c == '_' || c == '/'; });
  return text;
}

// `taken`: outputs that are paired already.
void pair_presents(std::vector<LanguageInput>& inputs, Ports outputs,
                   const std::map<std::string, std::string>& known) {
  std::vector<std::string> taken;
  for (LanguageInput& input : inputs) {
    const auto found = known.find(input.name);
    if (found == known.end()) continue;
    input.present = found->second;
    taken.push_back(input.present);
  }
  const auto candidates = [&](const LanguageInput& input) {
    std::vector<const PortInfo*> list;
    for (const PortInfo& port : outputs) {
      if (port.type.element == input.dtype && rank_of(port) == input.dims.size() &&
          std::ranges::find(taken, port.name) == taken.end()) {
        list.push_back(&port);
      }
    }
    return list;
  };
  std::vector<LanguageInput*> open;
  for (LanguageInput& input : inputs) {
    if (input.role != InputRole::kPast || !input.present.empty()) continue;
    const PortInfo* match = nullptr;
    int matches = 0;
    for (const PortInfo* port : candidates(input)) {
      if (bare_name(port->name) != bare_name(input.name)) continue;
      match = port;
      ++matches;
    }
    if (matches == 1) {
      input.present = match->name;
      taken.push_back(match->name);
    } else {
      open.push_back(&input);
    }
  }
  if (open.empty()) return;
  const auto left = candidates(*open.front());
  if (left.size() != open.size()) return;
  for (std::size_t i = 0; i < open.size(); ++i) {
    if (open[i]->dims.size() != open.front()->dims.size()) return;
    open[i]->present = left[i]->name;
  }
}

// Sizes of a past: the batch is the first axis that is open (or the first of all), the earlier
// tokens the axis whose symbol says so, or else the next open one. Heads and head size that are
// open too are those of other pasts or of the present.
void find_past_dims(LanguageInput& input, const PortInfo& port, Ports inputs, Ports outputs) {
  const std::vector<Dim>& shape = *port.type.shape;
  std::optional<std::size_t> length;
  for (std::size_t axis = 1; axis < shape.size() && !length; ++axis) {
    const std::string symbol = lower(shape[axis].symbol);
    if (shape[axis].size || symbol.empty()) continue;
    for (const std::string_view word : {"past", "seq", "len", "time", "kv"}) {
      if (holds(symbol, word)) length = axis;
    }
  }
  std::optional<std::size_t> batch;
  for (std::size_t axis = 0; axis < shape.size() && !batch; ++axis) {
    if (!shape[axis].size && length != axis) batch = axis;
    if (shape[axis].size && axis == 0 && shape.size() < 5) break;  // a fixed batch
  }
  for (std::size_t axis = batch ? *batch + 1 : 1; axis < shape.size() && !length; ++axis) {
    if (!shape[axis].size) length = axis;
  }
  input.dims.clear();
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    std::int64_t size = shape[axis].size.value_or(LanguageInput::kUnknown);
    if (!shape[axis].size && batch == axis) size = LanguageInput::kBatch;
    if (!shape[axis].size && length == axis) size = LanguageInput::kLength;
    const auto look = [&](const PortInfo& other) {
      if (size != LanguageInput::kUnknown || rank_of(other) != shape.size()) return;
      if ((*other.type.shape)[axis].size) size = *(*other.type.shape)[axis].size;
    };
    for (const PortInfo& other : outputs) {
      if (other.name == input.present) look(other);
    }
    for (const PortInfo& other : inputs) {
      if (role_by_name(other) == InputRole::kPast) look(other);
    }
    input.dims.push_back(size);
  }
}

LanguageInput described(const PortInfo& port, InputRole role) {
  LanguageInput input{port.name, role, port.type.element, {}, {}};
  const std::vector<Dim>& shape = *port.type.shape;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const bool last = axis + 1 == shape.size();
    const std::int64_t open = last ? LanguageInput::kLength : LanguageInput::kBatch;
    input.dims.push_back(shape[axis].size.value_or(open));
  }
  if (role == InputRole::kCacheBranch) input.dims.assign(shape.size(), 1);
  return input;
}

// What the graph tells: roles by input, and the presents of pasts.
struct Usage {
  std::map<std::string, InputRole> roles;
  std::map<std::string, std::string> presents;
};

std::vector<LanguageInput> with_usage(Ports inputs, Ports outputs, const Usage& usage) {
  std::vector<LanguageInput> found;
  std::vector<const PortInfo*> unnamed;
  for (const PortInfo& port : inputs) {
    std::optional<InputRole> role = role_by_name(port);
    const auto used = usage.roles.find(port.name);
    if (!role && used != usage.roles.end() && port.type.shape) role = used->second;
    if (role) {
      found.push_back(described(port, *role));
    } else if (is_integer(port.type.element) && rank_of(port) == 2) {
      unnamed.push_back(&port);
    }
  }
  if (find_role(found, InputRole::kTokenIds) == nullptr) {
    if (unnamed.size() != 1) return {};
    found.push_back(described(*unnamed.front(), InputRole::kTokenIds));
    const auto place = [&](const LanguageInput& input) {
      return std::ranges::find(inputs, input.name, &PortInfo::name) - inputs.begin();
    };
    std::ranges::sort(found, {}, place);
  }
  pair_presents(found, outputs, usage.presents);
  for (LanguageInput& input : found) {
    if (input.role != InputRole::kPast) continue;
    find_past_dims(input, *std::ranges::find(inputs, input.name, &PortInfo::name), inputs, outputs);
  }
  return found;
}

// Rows of the table that the tokens look up; 0: none does.
std::int64_t looked_up_rows(const Value& value, int depth) {
  std::int64_t rows = 0;
  for (const Use& use : value.uses()) {
    if (use.node == nullptr) continue;
    const bool gather =
        use.node->op_type() == "Gather" || use.node->op_type() == "GatherBlockQuantized";
    if (gather && use.slot == 1) {
      const Value* table = use.node->input(0);
      if (table == nullptr || table->initializer() == nullptr) continue;
      const auto dims = table->initializer()->dims();
      if (dims.size() == 2) rows = std::max(rows, dims[0]);
    } else if (depth > 0 && (use.node->is("Cast") || use.node->is("Identity")) &&
               use.node->output(0) != nullptr) {
      rows = std::max(rows, looked_up_rows(*use.node->output(0), depth - 1));
    }
  }
  return rows;
}

// The output into which a node lengthens the value; null: none.
const Value* lengthened(const Value& value) {
  for (const Use& use : value.uses()) {
    if (use.node == nullptr) continue;
    const std::string_view type = use.node->op_type();
    if (type != "Concat" && !type.ends_with("Attention")) continue;
    // The attention operators take past key and value in this order and give presents so.
    std::size_t earlier = 0;
    for (std::size_t slot = 0; slot < use.slot; ++slot) {
      const Value* input = use.node->input(slot);
      if (input != nullptr && input->is_graph_input() && input->type() != nullptr &&
          value.type() != nullptr && input->type()->shape &&
          input->type()->shape->size() == value.type()->shape->size() &&
          is_floating(input->type()->element)) {
        ++earlier;
      }
    }
    std::size_t seen = 0;
    for (const Value* output : use.node->outputs()) {
      if (output == nullptr || !output->is_graph_output()) continue;
      if (output->type() == nullptr || !output->type()->shape ||
          output->type()->shape->size() != value.type()->shape->size()) {
        continue;
      }
      if (seen++ == (type == "Concat" ? 0 : earlier)) return output;
    }
  }
  return nullptr;
}

std::vector<PortInfo> ports(std::span<Value* const> values, bool inputs) {
  std::vector<PortInfo> list;
  for (const Value* value : values) {
    if (inputs && value->is_initializer()) continue;
    list.push_back({std::string(value->name()), value->type() ? *value->type() : TypeInfo()});
  }
  return list;
}

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

}  // namespace

std::string_view role_name(InputRole role) {
  switch (role) {
    case InputRole::kTokenIds:
      return "token ids";
    case InputRole::kAttentionMask:
      return "attention mask";
    case InputRole::kPositionIds:
      return "positions";
    case InputRole::kTokenTypeIds:
      return "token types";
    case InputRole::kPast:
      return "keys and values of earlier tokens";
    case InputRole::kCacheBranch:
      return "use of earlier tokens";
  }
  return {};
}

std::vector<LanguageInput> language_inputs(std::span<const PortInfo> inputs,
                                           std::span<const PortInfo> outputs) {
  return with_usage(inputs, outputs, {});
}

std::vector<LanguageInput> language_inputs(const Model& model) {
  const std::vector<PortInfo> inputs = ports(model.graph().inputs(), true);
  const std::vector<PortInfo> outputs = ports(model.graph().outputs(), false);
  Usage usage;
  std::int64_t most = 0;
  std::string ids;
  bool named = false;
  for (const PortInfo& port : inputs) {
    named = named || role_by_name(port) == InputRole::kTokenIds;
  }
  for (const Value* value : model.graph().inputs()) {
    if (value->is_initializer() || value->type() == nullptr || !value->type()->shape) continue;
    const PortInfo port{std::string(value->name()), *value->type()};
    if (role_by_name(port)) {
      if (role_by_name(port) != InputRole::kPast) continue;
    }
    const std::size_t rank = rank_of(port);
    if (is_integer(port.type.element) && rank == 2 && !named) {
      const std::int64_t rows = looked_up_rows(*value, 3);
      if (rows > most) {
        most = rows;
        ids = port.name;
      }
    } else if (is_floating(port.type.element) && rank >= 3 && rank <= 5) {
      const Value* present = lengthened(*value);
      if (present == nullptr) continue;
      usage.roles.emplace(port.name, InputRole::kPast);
      usage.presents.emplace(port.name, present->name());
    }
  }
  if (!ids.empty()) usage.roles.emplace(ids, InputRole::kTokenIds);
  std::vector<LanguageInput> found = with_usage(inputs, outputs, usage);
  for (LanguageInput& input : found) {
    if (input.role != InputRole::kTokenIds && input.role != InputRole::kPositionIds) continue;
    const Value* value = *std::ranges::find_if(
        model.graph().inputs(), [&](const Value* one) { return one->name() == input.name; });
    input.table_rows = looked_up_rows(*value, 3);
  }
  return found;
}

const LanguageInput* find_role(std::span<const LanguageInput> inputs, InputRole role) {
  const auto found = std::ranges::find(inputs, role, &LanguageInput::role);
  return found == inputs.end() ? nullptr : &*found;
}

Result<Tensor> derive_input(const LanguageInput& input, std::int64_t batch, std::int64_t length,
                            std::int64_t past, std::span<const std::uint8_t> padding) {
  std::vector<std::int64_t> dims = input.dims;
  for (std::int64_t& size : dims) {
    if (size == LanguageInput::kUnknown) {
      return Error(Code::kInput, "past-size-unknown",
                   "neither this input nor its output says how many heads there are and how large",
                   at(input.name), "give it as an array: an empty one of the right shape");
    }
    if (size == LanguageInput::kBatch) size = batch;
    if (size == LanguageInput::kLength) {
      size = input.role == InputRole::kPast            ? past
             : input.role == InputRole::kAttentionMask ? past + length
                                                       : length;
    }
  }
  const std::optional<std::int64_t> count = element_count(dims);
  const std::optional<std::uint64_t> bytes =
      count ? packed_bytes(input.dtype, *count) : std::nullopt;
  constexpr std::uint64_t kMostBytes = std::uint64_t{8} << 30;
  if (!bytes || *bytes > kMostBytes) {
    return Error(Code::kInput, "derived-size", "so large a value is not made up", at(input.name));
  }
  std::vector<std::byte> content(static_cast<std::size_t>(*bytes));
  const auto elements = static_cast<std::size_t>(*count);
  const std::size_t width = dims.empty() ? 1 : static_cast<std::size_t>(dims.back());
  // Row-wise integers; the last `length` columns are those of the tokens.
  std::vector<std::int64_t> values(elements, 0);
  const auto columns = static_cast<std::size_t>(length);
  const auto padded = [&](std::size_t row, std::size_t column) {
    const std::size_t index = row * columns + column;
    return index < padding.size() && padding[index] != 0;
  };
  const std::size_t rows = width == 0 ? 0 : elements / width;
  if (input.role == InputRole::kAttentionMask) {
    const std::size_t real = std::min(width, columns + static_cast<std::size_t>(past));
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t i = width - real; i < width; ++i) {
        const bool token = i + columns >= width;
        values[row * width + i] = token && padded(row, i + columns - width) ? 0 : 1;
      }
    }
  } else if (input.role == InputRole::kPositionIds) {
    for (std::size_t row = 0; row < rows; ++row) {
      std::int64_t next = past;
      bool begun = false;
      for (std::size_t i = 0; i < width; ++i) {
        begun = begun || !padded(row, i);
        values[row * width + i] = next;
        if (begun) ++next;
      }
    }
  } else if (input.role == InputRole::kCacheBranch) {
    std::ranges::fill(values, past > 0 ? 1 : 0);
  } else if (input.role == InputRole::kTokenIds) {
    return Error(Code::kInternal, "ids-derived", "token ids are given, not derived");
  }
  if (input.role == InputRole::kPast || input.role == InputRole::kTokenTypeIds) {
    return make_bytes_tensor(input.dtype, std::move(dims), std::move(content));
  }
  if (input.dtype == DataType::kInt64) return make_int64_tensor(values, std::move(dims));
  if (input.dtype == DataType::kInt32) {
    for (std::size_t i = 0; i < elements; ++i) {
      const auto value = static_cast<std::int32_t>(values[i]);
      std::memcpy(content.data() + i * sizeof(value), &value, sizeof(value));
    }
  } else if (input.dtype == DataType::kBool) {
    for (std::size_t i = 0; i < elements; ++i) content[i] = static_cast<std::byte>(values[i]);
  } else {
    const std::vector<float> floats(values.begin(), values.end());
    if (!can_encode(input.dtype)) {
      return Error(Code::kUnsupported, "derived-type",
                   "values of type " + dtype_name(input.dtype) + " are not made up",
                   at(input.name));
    }
    encode_from_float(input.dtype, floats, content, {});
  }
  return make_bytes_tensor(input.dtype, std::move(dims), std::move(content));
}

}  // namespace mcompress
