#include "runtime/counting.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace mcompress {
namespace {

constexpr std::size_t kHeader = 64;  // holds the size, keeps what follows aligned for any kernel

// Blocks from this size on have pages of their own: free() would keep most of them in store, so
// that the process would hold a multiple of what is counted here.
constexpr std::size_t kOwnPages = 256 << 10;

void* take(std::size_t whole) {
  if (whole < kOwnPages) return std::aligned_alloc(kHeader, whole);
  void* pages = ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? nullptr : pages;
}
void give(void* block, std::size_t whole) {
  if (whole < kOwnPages) return std::free(block);
  ::munmap(block, whole);
}
// With the header, in multiples of it.
std::size_t whole_size(std::size_t size) { return (size + 2 * kHeader - 1) / kHeader * kHeader; }

struct Counts {
  std::atomic<std::uint64_t> held{0}, peak{0}, allocations{0}, at_start{0};
};
Counts g_counts;

void* allocate(OrtAllocator*, std::size_t size) {
  if (size > SIZE_MAX - 2 * kHeader) return nullptr;
  void* block = take(whole_size(size));
  if (block == nullptr) return nullptr;
  std::memcpy(block, &size, sizeof size);
  const std::uint64_t held = g_counts.held.fetch_add(size) + size;
  std::uint64_t peak = g_counts.peak.load();
  while (held > peak && !g_counts.peak.compare_exchange_weak(peak, held)) {
  }
  g_counts.allocations.fetch_add(1);
  return static_cast<std::byte*>(block) + kHeader;
}

void release(OrtAllocator*, void* bytes) {
  if (bytes == nullptr) return;
  void* block = static_cast<std::byte*>(bytes) - kHeader;
  std::size_t size = 0;
  std::memcpy(&size, block, sizeof size);
  g_counts.held.fetch_sub(size);
  give(block, whole_size(size));
}

const OrtMemoryInfo* g_memory = nullptr;

const OrtMemoryInfo* info(const OrtAllocator*) { return g_memory; }

}  // namespace

Status register_counting_allocator(const Engine& engine) {
  // Never destroyed: the environment is not, either.
  static const Status status = [&engine] {
    auto* allocator = new OrtAllocator{};
    allocator->version = ORT_API_VERSION;
    allocator->Alloc = allocate;
    allocator->Free = release;
    allocator->Info = info;
    allocator->Reserve = allocate;
    g_memory = engine.memory;
    return check(g_api->RegisterAllocator(engine.environment, allocator));
  }();
  return status;
}

void start_counting() {
  g_counts.at_start.store(g_counts.held.load());
  g_counts.peak.store(g_counts.held.load());
  g_counts.allocations.store(0);
}

MemoryUse counted_memory() {
  const std::uint64_t before = g_counts.at_start.load();
  const std::uint64_t peak = std::max(g_counts.peak.load(), before);
  return {peak - before, g_counts.allocations.load(), before};
}

}  // namespace mcompress
