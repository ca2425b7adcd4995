#include "mcompress/archive_c.h"

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "mcompress/status.h"
#include "onnx/loadable.h"
#include "support/files.h"

struct mca_archive {
  mcompress::MappedFilePtr file;  // null: the caller's memory
  mcompress::LoadableArchive loadable;
};

namespace {

using mcompress::Code;
using mcompress::Error;

thread_local std::string last_message;
// Takes no memory, for when there is none.
thread_local const char* last_text = "";

mca_status fail(mca_status status, const char* text) {
  last_text = text;
  return status;
}

mca_status fail(const Error& error) {
  last_message = mcompress::to_string(error.diagnostic);
  last_text = last_message.c_str();
  switch (error.code) {
    case Code::kUsage:
      return MCA_USAGE;
    case Code::kInput:
      return MCA_INPUT;
    case Code::kUnsupported:
      return MCA_UNSUPPORTED;
    default:
      return MCA_INTERNAL;
  }
}

template <class Work>
mca_status guarded(Work&& work) noexcept {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return fail(MCA_NO_MEMORY, "there is not enough memory");
  } catch (...) {
    return fail(MCA_INTERNAL, "an unexpected exception");
  }
}

mca_status open_bytes(std::span<const std::byte> bytes, mcompress::MappedFilePtr file,
                      mca_archive** archive) {
  auto loadable = mcompress::LoadableArchive::open(bytes);
  if (!loadable.ok()) {
    Error error = std::move(loadable).error();
    return file == nullptr ? fail(error) : fail(std::move(error).in_file(file->path()));
  }
  *archive = new mca_archive{std::move(file), std::move(loadable).value()};
  return MCA_OK;
}

}  // namespace

int mca_api_version(void) { return MCA_API_VERSION; }

const char* mca_last_error(void) { return last_text; }

mca_status mca_open(const char* path, mca_archive** archive) {
  if (archive == nullptr) return fail(MCA_USAGE, "mca_open: archive is null");
  *archive = nullptr;
  if (path == nullptr) return fail(MCA_USAGE, "mca_open: path is null");
  return guarded([&] {
    auto file = mcompress::map_file(mcompress::real_files(), path);
    if (!file.ok()) return fail(file.error());
    const std::span<const std::byte> bytes = (*file)->bytes();
    return open_bytes(bytes, std::move(file).value(), archive);
  });
}

mca_status mca_open_memory(const void* bytes, size_t size, mca_archive** archive) {
  if (archive == nullptr) return fail(MCA_USAGE, "mca_open_memory: archive is null");
  *archive = nullptr;
  if (bytes == nullptr) return fail(MCA_USAGE, "mca_open_memory: bytes is null");
  return guarded([&] {
    return open_bytes({static_cast<const std::byte*>(bytes), size}, nullptr, archive);
  });
}

void mca_close(mca_archive* archive) { delete archive; }

mca_status mca_model_bytes(const mca_archive* archive, const void** bytes, size_t* size) {
  if (archive == nullptr || bytes == nullptr || size == nullptr) {
    return fail(MCA_USAGE, "mca_model_bytes: an argument is null");
  }
  const auto& model = archive->loadable.model();
  if (!model) return fail(MCA_UNSUPPORTED, "the archive holds weights and no graph");
  *bytes = model->data();
  *size = model->size();
  return MCA_OK;
}

size_t mca_tensor_count(const mca_archive* archive) {
  return archive == nullptr ? 0 : archive->loadable.tensors().size();
}

mca_status mca_tensor_info(const mca_archive* archive, size_t index, mca_tensor* tensor) {
  if (archive == nullptr || tensor == nullptr) {
    return fail(MCA_USAGE, "mca_tensor_info: an argument is null");
  }
  if (index >= archive->loadable.tensors().size()) {
    return fail(MCA_USAGE, "mca_tensor_info: there is no weight of that index");
  }
  static const int64_t kNoDims = 0;
  const mcompress::LoadableTensor& found = archive->loadable.tensors()[index];
  tensor->name = found.name.c_str();
  tensor->dims = found.dims.empty() ? &kNoDims : found.dims.data();
  tensor->rank = found.dims.size();
  tensor->bytes = found.bytes;
  tensor->dtype = found.dtype;
  return MCA_OK;
}

mca_status mca_tensor_find(const mca_archive* archive, const char* name, size_t* index) {
  if (archive == nullptr || name == nullptr || index == nullptr) {
    return fail(MCA_USAGE, "mca_tensor_find: an argument is null");
  }
  return guarded([&] {
    const auto found = archive->loadable.find(name);
    if (!found) {
      return fail(Error(Code::kInput, "no-such-weight",
                        "the archive has no weight '" + std::string(name) + "'"));
    }
    *index = *found;
    return MCA_OK;
  });
}

mca_status mca_tensor_read(const mca_archive* archive, size_t index, void* out, size_t size) {
  if (archive == nullptr) return fail(MCA_USAGE, "mca_tensor_read: archive is null");
  if (index >= archive->loadable.tensors().size()) {
    return fail(MCA_USAGE, "mca_tensor_read: there is no weight of that index");
  }
  return guarded([&] {
    const mcompress::LoadableTensor& tensor = archive->loadable.tensors()[index];
    if (size != tensor.bytes) {
      return fail(Error(Code::kUsage, "wrong-size",
                        "the weight '" + tensor.name + "' has " + std::to_string(tensor.bytes) +
                            " bytes, not " + std::to_string(size)));
    }
    if (size == 0) return MCA_OK;
    if (out == nullptr) return fail(MCA_USAGE, "mca_tensor_read: out is null");
    const mcompress::Status status =
        archive->loadable.read(index, {static_cast<std::byte*>(out), size});
    return status.ok() ? MCA_OK : fail(status.error());
  });
}
