#include <limits>

#include "mcompress/io.h"
#include "onnx/proto.h"
#include "onnx/wire.h"
#include "support/files.h"
#include "support/try.h"

namespace mcompress {

Result<NamedTensor> load_tensor_file(const std::filesystem::path& path) {
  struct Parsed {
    onnx::TensorProto proto;
    Payloads payloads;
  };
  const auto load = [&]() -> Result<NamedTensor> {
    MCOMPRESS_ASSIGN(const MappedFilePtr file, map_file(real_files(), path.string()));
    // Nothing is taken out but what would be mistaken for a placeholder.
    wire::DeflateOptions options;
    options.threshold = std::numeric_limits<std::uint64_t>::max();
    MCOMPRESS_ASSIGN(const wire::Skeleton skeleton,
                     wire::deflate(file->bytes(), wire::Root::kTensor, options));
    auto parsed = std::make_shared<Parsed>();
    if (!parse(skeleton.bytes, 1, parsed->proto)) {
      return Error(Code::kInput, "not-a-tensor", "this is not a protocol buffer of an ONNX tensor");
    }
    if (is_external(parsed->proto)) {
      return Error(Code::kInput, "external-data-in-memory",
                   "a tensor file can not have external data");
    }
    for (const wire::Slice& slice : skeleton.payloads) {
      parsed->payloads.add(make_storage(file, file->bytes().subspan(slice.offset, slice.length)),
                           false);
    }
    NamedTensor result;
    result.name = parsed->proto.name();
    MCOMPRESS_ASSIGN(result.tensor, tensor_from_proto(parsed->proto, parsed, parsed->payloads));
    return result;
  };
  auto result = load();
  if (!result.ok()) return std::move(result).error().in_file(path.string());
  return result;
}

Result<std::string> tensor_file_bytes(const NamedTensor& tensor) {
  onnx::TensorProto proto;
  Payloads payloads;
  proto.set_name(tensor.name);
  MCOMPRESS_TRY(tensor_to_proto(tensor.tensor, payloads, proto));
  MCOMPRESS_ASSIGN(const std::string bytes, serialise(proto));
  MCOMPRESS_ASSIGN(const wire::Rope rope,
                   wire::inflate(bytes, wire::Root::kTensor, payloads.storages));
  return wire::flatten(rope);
}

}  // namespace mcompress
