/* The header is C: this file compiles it as such and calls what a program in C would. */
#include "mcompress/archive_c.h"

mca_status archive_c_total(const char* path, uint64_t* total);

mca_status archive_c_total(const char* path, uint64_t* total) {
  mca_archive* archive = NULL;
  mca_status status = mca_open(path, &archive);
  size_t i;
  *total = 0;
  for (i = 0; status == MCA_OK && i < mca_tensor_count(archive); ++i) {
    mca_tensor tensor;
    status = mca_tensor_info(archive, i, &tensor);
    if (status == MCA_OK) *total += tensor.bytes;
  }
  mca_close(archive);
  return status;
}
