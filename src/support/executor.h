// Threads. Work is cut into chunks whose borders depend on the amount of work only, so results
// do not depend on the number of threads as long as each chunk writes to its own place.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

class Executor {
 public:
  // 0 threads: as many as the machine has processors for this process.
  explicit Executor(int threads);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  int threads() const { return threads_; }

  // Calls fn(begin, end) for [0, grain), [grain, 2 grain), ... up to n, in any order and at the
  // same time. `grain` 0 counts as 1. An exception ends the loop and reaches the caller. May be
  // called from inside `fn`.
  using RangeFn = std::function<void(std::size_t begin, std::size_t end)>;
  void parallel_for(std::size_t n, std::size_t grain, const RangeFn& fn) const;

  // As above for work that can fail: returns the failure of the first failing chunk in the order
  // of the work, whatever the threads did. Later chunks may or may not have run.
  using FallibleFn = std::function<Status(std::size_t begin, std::size_t end)>;
  Status try_parallel_for(std::size_t n, std::size_t grain, const FallibleFn& fn) const;

  // combine(...combine(combine(initial, map(chunk 0)), map(chunk 1))..., map(last chunk)): the
  // maps in parallel, the combinations in order.
  template <class T, class Map, class Combine>
  T ordered_reduce(std::size_t n, std::size_t grain, T initial, const Map& map,
                   const Combine& combine) const {
    const std::size_t step = grain == 0 ? 1 : grain;
    std::vector<std::optional<T>> parts(n / step + (n % step != 0 ? 1 : 0));
    parallel_for(n, step, [&](std::size_t begin, std::size_t end) {
      parts[begin / step].emplace(map(begin, end));
    });
    for (std::optional<T>& part : parts) initial = combine(std::move(initial), std::move(*part));
    return initial;
  }

 private:
  struct Threads;
  int threads_;
  std::unique_ptr<Threads> pool_;  // null for one thread
};

}  // namespace mcompress
