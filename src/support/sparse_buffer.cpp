// The system's header defines names that others use for their own, MAP_TYPE among them.
#include "support/sparse_buffer.h"

#include <sys/mman.h>

namespace mcompress {

std::shared_ptr<SparseBuffer> SparseBuffer::make(std::size_t size) {
  void* place = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return nullptr;
  return std::shared_ptr<SparseBuffer>(new SparseBuffer(place, size));
}

SparseBuffer::~SparseBuffer() { ::munmap(place_, size_); }

}  // namespace mcompress
