/* Reads the archives of `mcompress pack` into what ONNX Runtime needs, without a file: the graph
 * for CreateSessionFromArray and the weights for AddExternalInitializers. Plain C, in the library
 * libmcompress_archive; docs/packing.md has examples in C++ and Python.
 *
 * An open archive never changes: any number of threads may use it at the same time, each with an
 * index of its own choice. Only mca_close must come after everything else. No exception leaves a
 * function. Each function that returns a status sets the message of mca_last_error when it fails
 * and leaves its results as they were, unless said otherwise.
 */
#ifndef MCOMPRESS_ARCHIVE_C_H
#define MCOMPRESS_ARCHIVE_C_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MCA_API __attribute__((visibility("default")))
#else
#define MCA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions below are: grows with each addition, never changes otherwise. */
#define MCA_API_VERSION 1

typedef enum mca_status {
  MCA_OK = 0,
  MCA_USAGE = 1,       /* a null pointer, an index or a size that does not fit */
  MCA_INPUT = 2,       /* no such file, no archive, or a damaged one */
  MCA_UNSUPPORTED = 3, /* another version of the format, no graph, more than one message holds */
  MCA_INTERNAL = 70,   /* a defect of this library */
  MCA_NO_MEMORY = 71
} mca_status;

typedef struct mca_archive mca_archive;

/* A weight. Pointers are valid until mca_close. */
typedef struct mca_tensor {
  const char* name;    /* UTF-8 */
  const int64_t* dims; /* `rank` of them, each >= 0; not null */
  size_t rank;         /* 0: a scalar */
  uint64_t bytes;      /* of mca_tensor_read: what type and dimensions need, little-endian; types
                          below a byte are packed, the first element lowest */
  int32_t dtype;       /* TensorProto.DataType of ONNX, which ONNXTensorElementDataType of ONNX
                          Runtime agrees with: 1 float, 10 float16, 3 int8, ... */
} mca_tensor;

/* MCA_API_VERSION of the library at hand. */
MCA_API int mca_api_version(void);

/* Why the last call of this thread failed, as one line; "" when none has. Never null; valid until
 * the next failure in this thread. */
MCA_API const char* mca_last_error(void);

/* Opens an archive. The index and everything of the graph is checked and decoded now, weights are
 * when they are read. The file stays mapped until mca_close and must not be cut short meanwhile.
 * On failure *archive is null. */
MCA_API mca_status mca_open(const char* path, mca_archive** archive);

/* The same for an archive in memory. The bytes are not copied: they must stay, unchanged, until
 * mca_close. */
MCA_API mca_status mca_open_memory(const void* bytes, size_t size, mca_archive** archive);

/* Ends everything that was obtained from the archive. Null is fine. */
MCA_API void mca_close(mca_archive* archive);

/* The ONNX model, as a runtime takes it from memory: the weights that mca_tensor_* lists are
 * external data in a file that does not exist and must be handed over by name; all else is inside.
 * Valid until mca_close. MCA_UNSUPPORTED for an archive of weights alone (`pack --only-weights`):
 * there the application has the graph. */
MCA_API mca_status mca_model_bytes(const mca_archive* archive, const void** bytes, size_t* size);

/* Of a whole model: the initializers of the main graph of 1 KiB and more, as far as their type is
 * known here. Of weights alone: all. 0 for a null archive. */
MCA_API size_t mca_tensor_count(const mca_archive* archive);

/* Describes a weight; index < mca_tensor_count. */
MCA_API mca_status mca_tensor_info(const mca_archive* archive, size_t index, mca_tensor* tensor);

/* The index of the weight of that name; MCA_INPUT when there is none. */
MCA_API mca_status mca_tensor_find(const mca_archive* archive, const char* name, size_t* index);

/* Decodes a weight into `out`; `size` must be its number of bytes. Uses the calling thread alone:
 * read several weights in as many threads. Checksums are verified; after a failure the contents of
 * `out` are undefined. `out` may be null when `size` is 0. */
MCA_API mca_status mca_tensor_read(const mca_archive* archive, size_t index, void* out,
                                   size_t size);

#ifdef __cplusplus
}
#endif

#endif
