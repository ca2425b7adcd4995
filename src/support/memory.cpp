#include "mcompress/memory.h"

#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mcompress {

void give_memory_back_at_once() {
#ifdef __GLIBC__
  constexpr int kOwnPages = 128 << 10;
  ::mallopt(M_MMAP_THRESHOLD, kOwnPages);
  ::mallopt(M_TRIM_THRESHOLD, kOwnPages);
#endif
}

}  // namespace mcompress
