// Whether a signal ends the process at once.
#pragma once

#include <atomic>

namespace mcompress::tools {

// While set, the first signal only sets Console::interrupted: the command comes to its end with
// what it has. The next one ends the process as always.
inline std::atomic<bool> waits_for_command{false};

class Patience {
 public:
  Patience() { waits_for_command.store(true); }
  ~Patience() { waits_for_command.store(false); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;
};

}  // namespace mcompress::tools
