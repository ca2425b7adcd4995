/* Prints the number of weights of the archive named on the command line, and of their bytes. */
#include <mcompress/archive_c.h>
#include <stdio.h>

int main(int argc, char** argv) {
  mca_archive* archive = NULL;
  unsigned long long bytes = 0;
  size_t i;
  if (argc != 2 || mca_open(argv[1], &archive) != MCA_OK) {
    fprintf(stderr, "%s\n", mca_last_error());
    return 1;
  }
  for (i = 0; i < mca_tensor_count(archive); ++i) {
    mca_tensor tensor;
    if (mca_tensor_info(archive, i, &tensor) != MCA_OK) return 1;
    bytes += tensor.bytes;
  }
  printf("%u weights, %llu bytes\n", (unsigned)mca_tensor_count(archive), bytes);
  mca_close(archive);
  return 0;
}
