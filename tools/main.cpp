// Signals, the last resort for exceptions, and the exit status.
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "app.h"
#include "console.h"
#include "mcompress/host.h"
#include "patience.h"

// There in builds that look for leaks or count what was executed.
extern "C" {
void __lsan_do_leak_check() __attribute__((weak));
void __gcov_dump() __attribute__((weak));
}

namespace {

constexpr int kInternalError = 70;
constexpr int kInterrupted = 130;

using mcompress::tools::Console;

// Ends the process at once, unless files are just being put in place or the command has something
// to say before: then the flag is set and the command comes to its end.
void on_signal(int) {
  const bool again = Console::interrupted.exchange(true);
  if (mcompress::tools::waits_for_command.load() && !again) return;
  if (const int helper = Console::helper.load(); helper > 0) ::kill(helper, SIGTERM);
  if (!mcompress::remove_unfinished_files()) return;
  const char newline[] = "\n";
  if (Console::line_shown.load() && ::write(STDERR_FILENO, newline, 1) < 0) {
    // Nothing to be done about a terminal that is gone.
  }
  ::_exit(kInterrupted);
}

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction present = {};
    // What the parent had ignored (nohup) stays ignored.
    if (sigaction(signal, nullptr, &present) == 0 && present.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
  // A closed pipe and a file size limit are write errors like others.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

// Memory that is given back to the system costs a page fault for every 4 KiB when it is needed
// again, a fifth of the time of a short run: keep up to 128 MiB, let single blocks of 64 MiB go.
void tune_allocator() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 128 << 20);
  ::mallopt(M_TOP_PAD, 16 << 20);
  // Blocks that are kept apart for the next request of their size are gathered again by every
  // larger request: all of memory is walked for it.
  ::mallopt(M_MXFAST, 0);
#endif
}

int guarded(const std::vector<std::string>& arguments) {
  try {
    Console console;
    return mcompress::tools::run_command_line(arguments, console);
  } catch (const std::bad_alloc&) {
    std::fputs("mcompress: error: out of memory\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mcompress: error: internal: %s (please report this)\n", error.what());
  } catch (...) {
    std::fputs("mcompress: error: internal: unknown exception (please report this)\n", stderr);
  }
  return kInternalError;
}

// Ends without the destructors of static objects: they would wait for a runtime that is still
// starting on its own thread, and then take it down under that thread.
[[noreturn]] void leave(int status) {
  std::fflush(stderr);
  if (&__lsan_do_leak_check != nullptr) __lsan_do_leak_check();
  if (&__gcov_dump != nullptr) __gcov_dump();
  ::_exit(status);
}

}  // namespace

int main(int argc, char** argv) {
  tune_allocator();
  install_signal_handlers();
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  leave(guarded(arguments));
}
