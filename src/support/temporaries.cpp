#include "support/temporaries.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>
#include <cstring>

#include "support/files.h"

namespace mcompress {
namespace {

enum State : int { kFree, kTaken, kLive };

struct Slot {
  std::atomic<int> state{kFree};
  char path[PATH_MAX];
};

// Plain static memory: a signal handler may neither lock nor allocate.
constexpr std::size_t kSlots = 128;
std::array<Slot, kSlots> table;
std::atomic<int> phases{0};
std::atomic<bool> removed{false};

static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

}  // namespace

int remember_temporary(const std::string& path) {
  if (path.size() >= PATH_MAX) return -1;
  for (std::size_t i = 0; i < kSlots; ++i) {
    int expected = kFree;
    if (!table[i].state.compare_exchange_strong(expected, kTaken)) continue;
    std::memcpy(table[i].path, path.c_str(), path.size() + 1);
    table[i].state.store(kLive);
    return static_cast<int>(i);
  }
  return -1;
}

void forget_temporary(int slot) {
  if (slot >= 0) table[static_cast<std::size_t>(slot)].state.store(kFree);
}

void forget_temporary_folder(const std::string& path) {
  for (Slot& slot : table) {
    if (slot.state.load() != kLive || path != slot.path) continue;
    slot.state.store(kFree);
    return;
  }
}

bool temporaries_removed() { return removed.load(); }

// Both sides raise their own flag before they look at the other's, so at least one of them sees
// the other.
RenamePhase::RenamePhase() {
  phases.fetch_add(1);
  granted_ = !removed.load();
}

RenamePhase::~RenamePhase() { phases.fetch_sub(1); }

bool remove_temporaries_from_signal_handler() {
  removed.store(true);
  if (phases.load() != 0) {
    removed.store(false);
    return false;
  }
  for (Slot& slot : table) {
    if (slot.state.load() == kLive) ::unlink(slot.path);
  }
  // Folders, when what lies in them is gone: no more passes than there are folders in each other.
  for (bool again = true; again;) {
    again = false;
    for (Slot& slot : table) {
      if (slot.state.load() == kLive && ::rmdir(slot.path) == 0) again = true;
    }
  }
  return true;
}

}  // namespace mcompress
