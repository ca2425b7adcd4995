// Zeroed memory of which only the pages that are touched are there.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace mcompress {

class SparseBuffer {
 public:
  // Null when the system has no room for so many addresses. `size` > 0.
  static std::shared_ptr<SparseBuffer> make(std::size_t size);
  ~SparseBuffer();
  SparseBuffer(const SparseBuffer&) = delete;
  SparseBuffer& operator=(const SparseBuffer&) = delete;

  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(place_), size_}; }

 private:
  SparseBuffer(void* place, std::size_t size) : place_(place), size_(size) {}
  void* place_;
  std::size_t size_;
};

}  // namespace mcompress
