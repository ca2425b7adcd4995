#include "runtime/feeds.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/convert.h"
#include "mcompress/dtype.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

const PortInfo* find_port(std::span<const PortInfo> ports, std::string_view name) {
  for (const PortInfo& port : ports) {
    if (port.name == name) return &port;
  }
  return nullptr;
}

std::vector<std::string> names_of(std::span<const PortInfo> ports) {
  std::vector<std::string> names;
  names.reserve(ports.size());
  for (const PortInfo& port : ports) names.push_back(port.name);
  return names;
}

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

std::string tensor_text(const Tensor& tensor) {
  TypeInfo type;
  type.element = tensor.dtype();
  type.shape.emplace();
  for (const std::int64_t size : tensor.dims()) type.shape->push_back({size, {}});
  return port_type_text(type);
}

bool fits(const std::vector<Dim>& wanted, std::span<const std::int64_t> given) {
  if (wanted.size() != given.size()) return false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].size.has_value() && *wanted[i].size != given[i]) return false;
  }
  return true;
}

Status check_tensor(const PortInfo& port, const Tensor& tensor) {
  if (tensor.is_opaque()) {
    return Error(Code::kUnsupported, "feed-not-numeric",
                 "a " + dtype_name(tensor.dtype()) + " tensor can not be fed", at(port.name));
  }
  const bool type_known = port.type.element != DataType::kUndefined;
  const bool type_wrong = type_known && port.type.element != tensor.dtype();
  const bool shape_wrong = port.type.shape.has_value() && !fits(*port.type.shape, tensor.dims());
  if (type_wrong || shape_wrong) {
    return Error(
        Code::kInput, type_wrong ? "feed-type-differs" : "feed-shape-differs",
        "the model wants " + port_type_text(port.type) + " and the data are " + tensor_text(tensor),
        at(port.name));
  }
  return ok_status();
}

}  // namespace

std::string port_type_text(const TypeInfo& type) {
  std::string text = type.element == DataType::kUndefined ? "any type" : dtype_name(type.element);
  if (!type.shape) return text;
  std::vector<std::string> dims;
  for (const Dim& dim : *type.shape) {
    if (dim.size) {
      dims.push_back(std::to_string(*dim.size));
    } else {
      dims.push_back(dim.symbol.empty() ? "?" : dim.symbol);
    }
  }
  return text + "[" + join(dims, ",") + "]";
}

Result<std::vector<NamedTensor>> narrowed_feeds(std::span<const PortInfo> inputs,
                                                std::span<const NamedTensor> feeds) {
  std::vector<NamedTensor> result;
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    const PortInfo* port = find_port(inputs, feeds[i].name);
    const Tensor& tensor = feeds[i].tensor;
    const DataType wanted = port != nullptr ? port->type.element : DataType::kUndefined;
    const bool narrow = wanted == DataType::kFloat16 || wanted == DataType::kBfloat16;
    if (!narrow || tensor.dtype() != DataType::kFloat || tensor.is_opaque()) continue;
    if (result.empty()) result.assign(feeds.begin(), feeds.end());
    MCOMPRESS_ASSIGN(const std::vector<float> numbers, read_floats(tensor));
    std::vector<std::byte> bytes(numbers.size() * 2);
    encode_from_float(wanted, numbers, bytes, {});
    result[i].tensor =
        make_bytes_tensor(wanted, {tensor.dims().begin(), tensor.dims().end()}, std::move(bytes));
  }
  return result;
}

Status check_feeds(std::span<const PortInfo> inputs, std::span<const PortInfo> overridable,
                   std::span<const NamedTensor> feeds) {
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    const NamedTensor& feed = feeds[i];
    const PortInfo* port = find_port(inputs, feed.name);
    if (port == nullptr) port = find_port(overridable, feed.name);
    if (port == nullptr) {
      const std::vector<std::string> names = names_of(inputs);
      std::string hint = did_you_mean(feed.name, names);
      if (hint.empty()) hint = "its inputs are " + join(names, ", ");
      return Error(Code::kInput, "feed-unknown", "the model has no input of this name",
                   at(feed.name), std::move(hint));
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (feeds[j].name == feed.name) {
        return Error(Code::kInput, "feed-twice", "the input is fed twice", at(feed.name));
      }
    }
    MCOMPRESS_TRY(check_tensor(*port, feed.tensor));
  }
  for (const PortInfo& port : inputs) {
    bool fed = false;
    for (const NamedTensor& feed : feeds) fed = fed || feed.name == port.name;
    if (!fed) {
      return Error(Code::kInput, "feed-missing",
                   "the model needs this input (" + port_type_text(port.type) +
                       ") and the data do not hold it",
                   at(port.name));
    }
  }
  return ok_status();
}

Status check_fetch(std::span<const PortInfo> outputs, std::span<const std::string> fetch) {
  for (const std::string& name : fetch) {
    if (find_port(outputs, name) == nullptr) {
      return Error(Code::kInput, "fetch-unknown", "the model has no output of this name", at(name),
                   did_you_mean(name, names_of(outputs)));
    }
  }
  return ok_status();
}

}  // namespace mcompress
