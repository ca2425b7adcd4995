// The layout is Graphviz's: its library would be a dependency of every build for a picture that
// few ask for, so its program is run instead, without a shell, when somebody asks.
#include "drawing.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "mcompress/companion.h"
#include "mcompress/host.h"
#include "models.h"
#include "try.h"

extern char** environ;

namespace mcompress::tools {
namespace {

constexpr std::size_t kLargestPicture = std::size_t{1} << 30;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

Error failed(std::string what) {
  return Error(Code::kInternal, "dot-failed", "Graphviz's `dot` " + std::move(what));
}

Error missing() {
  return Error(Code::kUnsupported, "graphviz-missing",
               "an SVG needs the program `dot` of Graphviz, which is not installed",
               {{}, "--svg", {}},
               "install it (Debian: apt-get install graphviz), or write --dot FILE and lay it out "
               "elsewhere");
}

class Actions {
 public:
  Actions() { posix_spawn_file_actions_init(&actions_); }
  ~Actions() { posix_spawn_file_actions_destroy(&actions_); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

Result<int> wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return failed(std::string("was lost: ") + std::strerror(errno));
  }
  return status;
}

// The graph waits in a file without a name: a pipe in both directions could block in both.
Result<std::string> lay_out(const std::string& graph) {
  const File input(std::tmpfile());
  if (input == nullptr || std::fwrite(graph.data(), 1, graph.size(), input.get()) != graph.size() ||
      std::fflush(input.get()) != 0 || std::fseek(input.get(), 0, SEEK_SET) != 0) {
    return Error(Code::kOutput, "temporary-not-written",
                 std::string("a temporary file could not be written: ") + std::strerror(errno));
  }
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return failed(std::string("could not be tied to a pipe: ") + std::strerror(errno));
  }
  const File from(::fdopen(ends[0], "rb"));
  Actions actions;
  posix_spawn_file_actions_adddup2(actions.get(), ::fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(actions.get(), ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(actions.get(), STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  char name[] = "dot", format[] = "-Tsvg";
  char* arguments[] = {name, format, nullptr};
  pid_t child = -1;
  const int code = ::posix_spawnp(&child, name, actions.get(), nullptr, arguments, environ);
  ::close(ends[1]);
  if (code == ENOENT || code == EACCES) return missing();
  if (code != 0) return failed(std::string("could not be started: ") + std::strerror(code));

  Console::helper.store(child);
  std::string picture;
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
    if (got > 0) picture.append(buffer, static_cast<std::size_t>(got));
    if (Console::interrupted.load() || picture.size() > kLargestPicture) {
      ::kill(child, SIGTERM);
      break;
    }
    if (got == 0 || (got < 0 && errno != EINTR)) break;
  }
  auto ended = wait_for(child);
  Console::helper.store(0);
  MCOMPRESS_ASSIGN(const int status, std::move(ended));
  if (Console::interrupted.load()) return Error(Code::kCancelled, "cancelled", "interrupted");
  constexpr int kNotFound = 127;  // a spawn that can only tell by its status
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotFound) return missing();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return failed("failed on the graph; --dot FILE writes what it was given");
  }
  if (picture.find("<svg") == std::string::npos) return failed("made no SVG");
  return picture;
}

}  // namespace

Status check_drawings(const DrawingFiles& files) {
  if (!files.dot.empty()) MCOMPRESS_TRY(check_writable(files.dot));
  if (files.svg == "-") {
    return Error(Code::kUsage, "svg-to-stdout", "an SVG goes to a file", {{}, "--svg", {}});
  }
  if (!files.svg.empty()) MCOMPRESS_TRY(check_writable(files.svg));
  return check_overwrites(files.svg, "svg", {&files.dot, 1});
}

Status check_picture_size(std::uint64_t nodes, const DrawingFiles& files) {
  constexpr std::uint64_t kMost = 3000;  // a tangle of 4,000 takes `dot` a minute
  if (files.svg.empty() || nodes <= kMost) return ok_status();
  return Error(Code::kUnsupported, "picture-too-large",
               counted(nodes, "node") + ", pictures are made of at most " + grouped(kMost),
               {{}, "--svg", {}}, "write --dot FILE and lay it out elsewhere");
}

Status write_drawings(const std::string& graph, const DrawingFiles& files, Console& console) {
  std::string picture;
  std::vector<TextFile> texts;
  if (!files.svg.empty()) {
    MCOMPRESS_ASSIGN(picture, lay_out(graph));
    texts.push_back({files.svg, picture});
  }
  if (files.dot != "-" && !files.dot.empty()) texts.push_back({files.dot, graph});
  MCOMPRESS_TRY(write_files(texts));
  return files.dot == "-" ? console.print(graph) : ok_status();
}

}  // namespace mcompress::tools
