#include "support/executor.h"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace mcompress {

namespace tbb = oneapi::tbb;

namespace {

// ThreadSanitizer does not see how oneTBB, which is not instrumented, hands work to its threads
// and waits for it. Told so, it need not be silenced about all that runs on those threads.
class Handover {
 public:
#ifdef __SANITIZE_THREAD__
  void give() { __tsan_release(this); }
  void take() { __tsan_acquire(this); }
#else
  void give() {}
  void take() {}
#endif
};

}  // namespace

struct Executor::Threads {
  explicit Threads(int count)
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(count)),
        arena(count) {}

  // Without it no more threads than processors would ever run.
  tbb::global_control limit;
  tbb::task_arena arena;
};

Executor::Executor(int threads)
    : threads_(threads > 0 ? threads : std::max(1, tbb::info::default_concurrency())) {
  if (threads_ > 1) pool_ = std::make_unique<Threads>(threads_);
}

Executor::~Executor() = default;

void Executor::parallel_for(std::size_t n, std::size_t grain, const RangeFn& fn) const {
  const std::size_t step = std::max<std::size_t>(grain, 1);
  const std::size_t chunks = n / step + (n % step != 0 ? 1 : 0);
  const auto run_chunk = [&](std::size_t chunk) {
    const std::size_t begin = chunk * step;
    fn(begin, begin + std::min(step, n - begin));
  };
  if (pool_ == nullptr || chunks < 2) {
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) run_chunk(chunk);
    return;
  }
  Handover work;
  Handover results;
  work.give();
  pool_->arena.execute([&] {
    // Isolated, so that a thread that waits here never picks up an outer chunk, which could hold
    // what this one needs.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(
          tbb::blocked_range<std::size_t>(0, chunks, 1),
          [&](const tbb::blocked_range<std::size_t>& range) {
            work.take();
            for (std::size_t chunk = range.begin(); chunk < range.end(); ++chunk) run_chunk(chunk);
            results.give();
          },
          tbb::simple_partitioner());
    });
  });
  results.take();
}

Status Executor::try_parallel_for(std::size_t n, std::size_t grain, const FallibleFn& fn) const {
  // A chunk is left out only when an earlier one has failed, so the first failure always runs.
  std::atomic<std::size_t> first_failure{std::numeric_limits<std::size_t>::max()};
  std::mutex mutex;
  std::optional<Error> failure;
  parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
    if (begin > first_failure.load()) return;
    Status status = fn(begin, end);
    if (status.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex);
    if (begin >= first_failure.load()) return;
    first_failure.store(begin);
    failure = std::move(status).error();
  });
  if (failure) return std::move(*failure);
  return ok_status();
}

}  // namespace mcompress
