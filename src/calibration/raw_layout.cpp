#include "calibration/raw_layout.h"

#include <algorithm>
#include <array>
#include <utility>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::array<std::pair<std::string_view, DataType>, 13> kShortNames = {{
    {"f32", DataType::kFloat},
    {"f64", DataType::kDouble},
    {"f16", DataType::kFloat16},
    {"bf16", DataType::kBfloat16},
    {"i8", DataType::kInt8},
    {"u8", DataType::kUint8},
    {"i16", DataType::kInt16},
    {"u16", DataType::kUint16},
    {"i32", DataType::kInt32},
    {"u32", DataType::kUint32},
    {"i64", DataType::kInt64},
    {"u64", DataType::kUint64},
    {"bool", DataType::kBool},
}};

Error bad_layout(std::string message, std::string hint = {}) {
  if (hint.empty()) hint = "write NAME=TYPE[SHAPE] as in x=f32[1,3,224,224]";
  return {Code::kUsage, "raw-layout", std::move(message), {{}, "--raw", {}}, std::move(hint)};
}

DataType type_named(std::string_view name) {
  for (const auto& [known, type] : kShortNames) {
    if (name == known || name == dtype_name(type)) return type;
  }
  return name == "float" ? DataType::kFloat : DataType::kUndefined;
}

// "f32[1,3,224,224]"; "f32[]" and "f32" are scalars.
Result<RawLayout> layout_in(std::string_view text) {
  RawLayout layout;
  layout.given = true;
  const std::size_t open = text.find('[');
  const std::string name = lower(text.substr(0, open));
  layout.dtype = type_named(name);
  if (layout.dtype == DataType::kUndefined) {
    std::vector<std::string> known;
    known.reserve(kShortNames.size());
    for (const auto& entry : kShortNames) known.emplace_back(entry.first);
    return bad_layout("'" + name + "' is no element type", "known are " + join(known, ", "));
  }
  if (open == std::string_view::npos) return layout;
  if (!text.ends_with(']')) return bad_layout("'" + std::string(text) + "' has no ']' at its end");
  std::string_view rest = text.substr(open + 1, text.size() - open - 2);
  while (!rest.empty()) {
    const std::size_t end = rest.find(',');
    std::string digits(rest.substr(0, end));
    std::erase(digits, ' ');
    const std::optional<std::int64_t> size = parse_int(digits);
    if (!size || *size < 1 || layout.dims.size() == 16) {
      return bad_layout("'" + std::string(text) + "' has no shape of sizes from 1 on");
    }
    layout.dims.push_back(*size);
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  if (!packed_bytes(layout.dtype, element_count(layout.dims).value_or(-1))) {
    return bad_layout("'" + std::string(text) + "' is too large");
  }
  return layout;
}

// A list of names is split at commas, which shapes have too.
std::vector<std::string> rejoined(const std::vector<std::string>& pieces) {
  std::vector<std::string> whole;
  bool open = false;
  for (const std::string& piece : pieces) {
    if (open) {
      whole.back() += "," + piece;
    } else {
      whole.push_back(piece);
    }
    const std::string& last = whole.back();
    open = last.rfind('[') != std::string::npos && last.rfind(']') == std::string::npos;
  }
  return whole;
}

}  // namespace

bool is_raw_name(std::string_view name) {
  const std::string text = lower(name);
  return text.ends_with(".bin") || text.ends_with(".raw") || text.ends_with(".dat");
}

Result<RawLayouts> raw_layouts(const std::vector<std::string>& specifications,
                               std::span<const PortInfo> inputs) {
  RawLayouts layouts;
  for (const std::string& text : rejoined(specifications)) {
    const std::size_t equals = text.rfind('=');
    std::string name = equals == std::string::npos ? std::string() : text.substr(0, equals);
    if (name.empty() && inputs.size() == 1) name = inputs[0].name;
    if (std::ranges::find(inputs, name, &PortInfo::name) == inputs.end()) {
      std::vector<std::string> names;
      for (const PortInfo& port : inputs) names.push_back(port.name);
      const std::string close = did_you_mean(name, names);
      return bad_layout("'" + name + "' is no input of the model",
                        close.empty() ? "the inputs are '" + join(names, "', '") + "'" : close);
    }
    MCOMPRESS_ASSIGN(
        RawLayout layout,
        layout_in(std::string_view(text).substr(equals == std::string::npos ? 0 : equals + 1)));
    layouts.insert_or_assign(name, std::move(layout));
  }
  for (const PortInfo& port : inputs) {
    if (layouts.contains(port.name) || !port.type.shape) continue;
    RawLayout layout;
    layout.dtype = port.type.element;
    for (const Dim& dim : *port.type.shape) {
      const bool batch = layout.dims.empty();
      layout.dims.push_back(dim.size.value_or(batch ? 1 : 0));
    }
    const std::int64_t elements = element_count(layout.dims).value_or(-1);
    if (elements > 0 && packed_bytes(layout.dtype, elements)) {
      layouts.emplace(port.name, std::move(layout));
    }
  }
  return layouts;
}

std::vector<std::string> raw_for(const std::vector<std::string>& specifications,
                                 std::span<const PortInfo> inputs) {
  std::vector<std::string> own;
  for (std::string& text : rejoined(specifications)) {
    const std::size_t equals = text.rfind('=');
    const bool unnamed = equals == std::string::npos && inputs.size() == 1;
    if (unnamed ||
        std::ranges::find(inputs, text.substr(0, equals), &PortInfo::name) != inputs.end()) {
      own.push_back(std::move(text));
    }
  }
  return own;
}

Result<NpyArray> open_raw(std::unique_ptr<ByteSource> bytes, const RawLayout& layout,
                          const PortInfo& port, bool one_sample, std::uint64_t max_bytes) {
  const std::uint64_t size = bytes->size();
  const std::uint64_t wanted =
      packed_bytes(layout.dtype, element_count(layout.dims).value_or(-1)).value_or(0);
  if (wanted == 0 || size == 0 || size % wanted != 0 || (one_sample && size != wanted)) {
    return Error(Code::kInput, "raw-size",
                 "the file has " + std::to_string(size) + " bytes, a sample of " +
                     dtype_name(layout.dtype) + " " + shape_text(layout.dims) + " has " +
                     std::to_string(wanted),
                 {{}, {}, port.name}, "--raw NAME=TYPE[SHAPE] says what a sample is");
  }
  if (size > max_bytes) {
    return Error(Code::kInput, "raw-size",
                 human_bytes(size) + " of elements pass the limit of " + human_bytes(max_bytes),
                 {{}, {}, port.name});
  }
  NpyHeader header;
  header.dtype = layout.dtype;
  header.item_bytes = find_dtype(layout.dtype)->bits / 8;
  header.shape = layout.dims;
  header.data_bytes = size;
  if (!one_sample) {
    const auto samples = static_cast<std::int64_t>(size / wanted);
    const bool has_batch_axis =
        port.type.shape && !header.shape.empty() &&
        header.shape.size() == port.type.shape->size() &&
        (!port.type.shape->front().size || *port.type.shape->front().size == header.shape[0]);
    if (has_batch_axis) {
      header.shape[0] *= samples;
    } else {
      header.shape.insert(header.shape.begin(), samples);
    }
  }
  return NpyArray::over(std::move(bytes), std::move(header));
}

}  // namespace mcompress
