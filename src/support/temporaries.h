// The process-wide table of temporary files, for signal handlers.
#pragma once

#include <string>

namespace mcompress {

// Remembers a path; to be called before the file is created, so that no moment is missed.
// Returns a slot, or -1 when the table is full or the path too long (the file is then removed on
// errors but not on signals).
int remember_temporary(const std::string& path);
void forget_temporary(int slot);
// A folder that was just made and goes again, if it is empty then; by its path.
void forget_temporary_folder(const std::string& path);

// Has a signal handler removed the temporaries?
bool temporaries_removed();

// While one lives, signal handlers leave the temporaries alone. `granted()` is false when they
// are already gone.
class RenamePhase {
 public:
  RenamePhase();
  ~RenamePhase();
  RenamePhase(const RenamePhase&) = delete;
  RenamePhase& operator=(const RenamePhase&) = delete;
  bool granted() const { return granted_; }

 private:
  bool granted_;
};

}  // namespace mcompress
