#include "support/temporaries.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>
#include <cstring>
#include <ctime>

#include "support/files.h"

namespace mcompress {
namespace {

enum State : int { kFree, kTaken, kLive };

struct Slot {
  std::atomic<int> state{kFree};
  bool scratch = false;
  char path[PATH_MAX];
};

// Plain static memory: a signal handler may neither lock nor allocate.
constexpr std::size_t kSlots = 128;
std::array<Slot, kSlots> table;
std::atomic<int> phases{0};
std::atomic<int> creations{0};
std::atomic<bool> removed{false};

static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

int remember(const std::string& path, bool scratch) {
  if (path.size() >= PATH_MAX) return -1;
  for (std::size_t i = 0; i < kSlots; ++i) {
    int expected = kFree;
    if (!table[i].state.compare_exchange_strong(expected, kTaken)) continue;
    std::memcpy(table[i].path, path.c_str(), path.size() + 1);
    table[i].scratch = scratch;
    table[i].state.store(kLive);
    return static_cast<int>(i);
  }
  return -1;
}

// Only system calls: opendir allocates.
void remove_files_in(const char* path) {
  const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return;
  alignas(dirent64) std::array<char, 4096> bytes;
  for (long count; (count = ::syscall(SYS_getdents64, folder, bytes.data(), bytes.size())) > 0;) {
    for (long at = 0; at < count;) {
      const auto* entry = reinterpret_cast<const dirent64*>(bytes.data() + at);
      ::unlinkat(folder, entry->d_name, 0);  // refuses "." and ".."
      at += entry->d_reclen;
    }
  }
  ::close(folder);
}

// Those under way are moments from their end, and nobody begins another once `removed` is set.
void wait_for_creations() {
  constexpr int kRounds =
      2000;  // of a millisecond: a folder on a disk that hangs is not waited for
  for (int i = 0; i < kRounds && creations.load() != 0; ++i) {
    const timespec pause = {0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace

int remember_temporary(const std::string& path) { return remember(path, false); }

int remember_scratch_folder(const std::string& path) { return remember(path, true); }

void forget_temporary(int slot) {
  if (slot >= 0) table[static_cast<std::size_t>(slot)].state.store(kFree);
}

CreationPhase::CreationPhase() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &mask_);
  creations.fetch_add(1);
  granted_ = !removed.load();
}

CreationPhase::~CreationPhase() {
  creations.fetch_sub(1);
  ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
}

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
  wait_for_creations();
  for (Slot& slot : table) {
    if (slot.state.load() != kLive) continue;
    if (slot.scratch) {
      remove_files_in(slot.path);
    } else {
      ::unlink(slot.path);
    }
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
