#include "onnx/proto.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <bit>
#include <limits>

#include "onnx/wire.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::string dims_text(const onnx::TensorProto& proto) {
  std::string text = "[";
  for (int i = 0; i < proto.dims_size(); ++i) {
    if (i == 8) return text + ", ...]";
    text += (i == 0 ? "" : ", ") + std::to_string(proto.dims(i));
  }
  return text + "]";
}

Error bad_tensor(const onnx::TensorProto& proto, std::string_view id, std::string message) {
  return Error(Code::kInput, id, std::move(message), {{}, {}, proto.name()},
               "the model is damaged or was written by a faulty exporter");
}

int value_fields(const onnx::TensorProto& proto) {
  return int{!proto.raw_data().empty()} + int{proto.float_data_size() > 0} +
         int{proto.int32_data_size() > 0} + int{proto.int64_data_size() > 0} +
         int{proto.double_data_size() > 0} + int{proto.uint64_data_size() > 0} +
         int{proto.string_data_size() > 0};
}

template <class Wide>
StoragePtr alias(const google::protobuf::RepeatedField<Wide>& field,
                 const std::shared_ptr<const void>& keep) {
  return make_storage(
      keep, std::as_bytes(std::span(field.data(), static_cast<std::size_t>(field.size()))));
}

// The low bytes of each entry, which is how ONNX widens small types.
template <class Wide>
StoragePtr narrow(const google::protobuf::RepeatedField<Wide>& field, std::size_t width) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(field.size()) * width);
  std::size_t at = 0;
  for (Wide entry : field) {
    auto bits = static_cast<std::uint64_t>(entry);
    for (std::size_t i = 0; i < width; ++i, bits >>= 8) {
      bytes[at++] = static_cast<std::byte>(bits & 0xff);
    }
  }
  return make_storage(std::move(bytes));
}

// Data held in the field made for its type, as the bytes raw_data would hold; null when that
// field is empty.
StoragePtr typed_data(const onnx::TensorProto& proto, DataType dtype,
                      const std::shared_ptr<const void>& keep) {
  static_assert(std::endian::native == std::endian::little, "typed data is aliased as it stands");
  switch (dtype) {
    case DataType::kFloat:
    case DataType::kComplex64:
      return alias(proto.float_data(), keep);
    case DataType::kDouble:
    case DataType::kComplex128:
      return alias(proto.double_data(), keep);
    case DataType::kInt64:
      return alias(proto.int64_data(), keep);
    case DataType::kUint64:
      return alias(proto.uint64_data(), keep);
    case DataType::kUint32:
      return narrow(proto.uint64_data(), 4);
    case DataType::kInt32:
      return alias(proto.int32_data(), keep);
    case DataType::kInt16:
    case DataType::kUint16:
    case DataType::kFloat16:
    case DataType::kBfloat16:
      return narrow(proto.int32_data(), 2);
    default:  // one byte per entry, sub-byte types packed in it
      return narrow(proto.int32_data(), 1);
  }
}

std::uint64_t stored_size(const onnx::TensorProto& proto, const Payloads& payloads) {
  if (const auto payload = wire::placeholder_payload(proto.raw_data())) {
    return *payload < payloads.storages.size() ? payloads.storages[*payload]->size() : 0;
  }
  std::uint64_t size = proto.raw_data().size();
  size += 4 * static_cast<std::uint64_t>(proto.float_data_size() + proto.int32_data_size());
  size += 8 * static_cast<std::uint64_t>(proto.int64_data_size() + proto.double_data_size() +
                                         proto.uint64_data_size());
  for (const std::string& text : proto.string_data()) size += text.size();
  return size;
}

}  // namespace

Result<Tensor> tensor_from_proto(const onnx::TensorProto& proto,
                                 const std::shared_ptr<const void>& keep,
                                 const Payloads& payloads) {
  std::vector<std::int64_t> dims(proto.dims().begin(), proto.dims().end());
  const auto dtype = static_cast<DataType>(proto.data_type());
  const auto elements = element_count(dims);
  if (!elements) {
    return bad_tensor(proto, "tensor-dims",
                      "dimensions " + dims_text(proto) + " are negative or too large");
  }
  if (value_fields(proto) > 1) {
    return bad_tensor(proto, "tensor-data-twice", "the data is stored in more than one field");
  }
  const DTypeInfo* info = find_dtype(dtype);
  if (info == nullptr || info->bits == 0 || proto.has_segment()) {
    return Tensor::opaque_tensor(dtype, std::move(dims), {keep, &proto},
                                 stored_size(proto, payloads));
  }
  const auto expected = packed_bytes(dtype, *elements);
  if (!expected) {
    return bad_tensor(
        proto, "tensor-dims",
        "dimensions " + dims_text(proto) + " of " + std::string(info->name) + " are too large");
  }
  StoragePtr storage;
  if (const auto payload = wire::placeholder_payload(proto.raw_data())) {
    if (*payload >= payloads.storages.size()) {
      return Error(Code::kInternal, "payload-unknown", "a payload is missing",
                   {{}, {}, proto.name()});
    }
    storage = payloads.storages[*payload];
  } else if (!proto.raw_data().empty()) {
    storage = make_storage(keep, std::as_bytes(std::span(proto.raw_data())));
  } else {
    storage = typed_data(proto, dtype, keep);
  }
  if (storage->size() != *expected) {
    return bad_tensor(proto, "tensor-size",
                      "dimensions " + dims_text(proto) + " of " + std::string(info->name) +
                          " need " + std::to_string(*expected) + " bytes, but " +
                          std::to_string(storage->size()) + " are stored");
  }
  return Tensor(dtype, std::move(dims), std::move(storage));
}

void clear_data(onnx::TensorProto& proto) {
  proto.clear_segment();
  proto.clear_float_data();
  proto.clear_int32_data();
  proto.clear_int64_data();
  proto.clear_double_data();
  proto.clear_uint64_data();
  proto.clear_string_data();
  proto.clear_raw_data();
  proto.clear_external_data();
  proto.clear_data_location();
}

bool is_external(const onnx::TensorProto& proto) {
  return proto.has_data_location() && proto.data_location() == onnx::TensorProto::EXTERNAL;
}

Status set_raw_data(const StoragePtr& storage, Payloads& payloads, onnx::TensorProto& proto) {
  if (storage->size() >= kPayloadThreshold) {
    proto.set_raw_data(wire::make_placeholder(payloads.add(storage, false)));
    return ok_status();
  }
  MCOMPRESS_ASSIGN(const Pinned pinned, storage->pin(0, storage->size()));
  std::string bytes(reinterpret_cast<const char*>(pinned.bytes().data()), pinned.bytes().size());
  if (wire::placeholder_payload(bytes)) {
    bytes = wire::make_placeholder(payloads.add(storage, false));
  }
  proto.set_raw_data(std::move(bytes));
  return ok_status();
}

Status tensor_to_proto(const Tensor& tensor, Payloads& payloads, onnx::TensorProto& proto) {
  clear_data(proto);
  if (tensor.is_opaque()) {
    const auto* origin = static_cast<const onnx::TensorProto*>(tensor.opaque().get());
    if (origin == nullptr) {
      return Error(Code::kInternal, "tensor-without-data",
                   "a tensor of " + dtype_name(tensor.dtype()) + " has neither data nor an origin",
                   {{}, {}, proto.name()});
    }
    const std::string name = proto.name();
    proto = *origin;
    proto.set_name(name);
    return ok_status();
  }
  proto.set_data_type(static_cast<std::int32_t>(tensor.dtype()));
  proto.clear_dims();
  for (const std::int64_t size : tensor.dims()) proto.add_dims(size);
  return set_raw_data(tensor.storage(), payloads, proto);
}

template <class Message>
Result<std::string> serialise(const Message& message) {
  const std::size_t size = message.ByteSizeLong();
  if (size > wire::kMaxMessageBytes) {
    return Error(Code::kUnsupported, "message-too-large",
                 "the model without its large tensors has " + std::to_string(size) +
                     " bytes; at most " + std::to_string(wire::kMaxMessageBytes) + " are possible");
  }
  std::string bytes;
  bytes.reserve(size);
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeWithCachedSizes(&coded);
  }
  return bytes;
}

template <class Message>
bool parse(std::string_view bytes, int graph_depth, Message& message) {
  if (bytes.size() > wire::kMaxMessageBytes) return false;
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  // Each graph is three messages deep; types and the like nest on their own.
  stream.SetRecursionLimit(3 * graph_depth + 100);
  return message.ParsePartialFromCodedStream(&stream) && stream.ConsumedEntireMessage();
}

template Result<std::string> serialise(const onnx::ModelProto&);
template Result<std::string> serialise(const onnx::TensorProto&);
template bool parse(std::string_view, int, onnx::ModelProto&);
template bool parse(std::string_view, int, onnx::TensorProto&);

}  // namespace mcompress
