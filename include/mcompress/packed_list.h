// Lists for the many small parts of a model.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <type_traits>

namespace mcompress {

// A list of at most 2^32 - 1 trivial elements, in memory that goes with the model as a whole: half
// as large as a vector, and what is read together lies together. Who makes it grow says from where;
// that memory must outlive it.
template <class T>
class PackedList {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](std::size_t at) { return data_[at]; }
  const T& operator[](std::size_t at) const { return data_[at]; }
  T& front() { return *data_; }
  const T& front() const { return *data_; }
  operator std::span<const T>() const { return {data_, size_}; }  // NOLINT: as of a vector

  void reserve(std::size_t count, std::pmr::memory_resource& memory) {
    if (count <= capacity_) return;
    T* const room = static_cast<T*>(memory.allocate(count * sizeof(T), alignof(T)));
    std::uninitialized_copy_n(data_, size_, room);
    release(memory);
    data_ = room;
    capacity_ = static_cast<std::uint32_t>(count);
  }
  // `element` may be one of this list.
  void push_back(T element, std::pmr::memory_resource& memory) {
    if (size_ == capacity_) reserve(std::max<std::size_t>(1, 2 * std::size_t{size_}), memory);
    std::construct_at(data_ + size_++, element);
  }
  void resize(std::size_t count, T element, std::pmr::memory_resource& memory) {
    reserve(count, memory);
    while (size_ < count) std::construct_at(data_ + size_++, element);
    size_ = static_cast<std::uint32_t>(count);
  }
  void erase(T* place) {
    std::move(place + 1, end(), place);
    --size_;
  }
  void pop_back() { --size_; }
  void clear() { size_ = 0; }

 private:
  void release(std::pmr::memory_resource& memory) {
    if (data_ != nullptr) memory.deallocate(data_, capacity_ * sizeof(T), alignof(T));
  }
  T* data_ = nullptr;
  std::uint32_t size_ = 0, capacity_ = 0;
};

}  // namespace mcompress
