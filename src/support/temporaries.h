// The process-wide table of temporary files, for signal handlers.
#pragma once

#include <csignal>
#include <string>

namespace mcompress {

// Remembers a path; to be called before the file is created, so that no moment is missed.
// Returns a slot, or -1 when the table is full or the path too long (the file is then removed on
// errors but not on signals).
int remember_temporary(const std::string& path);
void forget_temporary(int slot);
// A folder of this process alone: it goes with the files that lie in it, whoever made them.
int remember_scratch_folder(const std::string& path);

// Around making what is remembered: signal handlers wait for its end, so nothing appears after they
// have looked. Short, and no two in one thread: the thread takes no signals meanwhile. With
// `granted()` false the temporaries are gone already, and nothing may be made.
class CreationPhase {
 public:
  CreationPhase();
  ~CreationPhase();
  CreationPhase(const CreationPhase&) = delete;
  CreationPhase& operator=(const CreationPhase&) = delete;
  bool granted() const { return granted_; }

 private:
  sigset_t mask_;
  bool granted_;
};

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
