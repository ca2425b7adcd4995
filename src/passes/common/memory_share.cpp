#include "passes/common/memory_share.h"

#include "support/text.h"

namespace mcompress {

void MemoryGate::enter(std::uint64_t bytes) {
  std::unique_lock lock(guard_);
  room_.wait(lock, [&] { return inside_ == 0 || inside_ + bytes <= limit_; });
  inside_ += bytes;
}

void MemoryGate::leave(std::uint64_t bytes) {
  const std::lock_guard lock(guard_);
  inside_ -= bytes;
  room_.notify_all();
}

void tell_memory(PassContext& context, std::string_view step, std::string_view plan,
                 std::uint64_t least) {
  const std::uint64_t budget = context.memory_budget();
  if (budget == 0) return;
  context.diagnostics().note("memory-plan", std::string(step) + " within " + memory_text(budget) +
                                                ": " + std::string(plan));
  if (least <= budget) return;
  context.diagnostics().warn("memory-over-budget",
                             std::string(step) + " needs at least " + memory_text(least) +
                                 ", the budget is " + memory_text(budget),
                             {}, "raise --memory-budget");
}

}  // namespace mcompress
