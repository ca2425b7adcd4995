#include "support/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "support/faulty_files.h"
#include "support/temporaries.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;
using testing::FaultyFiles;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "mcompress-files-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  std::string put(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(at(name)).parent_path());
    std::ofstream(at(name), std::ios::binary) << content;
    return at(name);
  }
  static std::string get(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    std::stringstream text;
    text << stream.rdbuf();
    return text.str();
  }
  // Every file of the folder with its content.
  std::map<std::string, std::string> snapshot() const {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      const std::string name = fs::relative(entry.path(), folder_).string();
      result[name] = entry.is_regular_file() ? get(entry.path()) : "-";
    }
    return result;
  }
  static std::string text_of(const MappedFile& file) {
    return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }

  std::string folder_;
};

template <class T>
std::string id_of(const Result<T>& result) {
  return result.ok() ? "" : result.error().diagnostic.id;
}

std::string pattern_text(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 251);
  return text;
}

TEST_F(Files, Maps) {
  const auto file = map_file(real_files(), put("a", "hello")).value();
  EXPECT_EQ(text_of(*file), "hello");
  EXPECT_EQ(file->path(), at("a"));
  EXPECT_GE(file->descriptor(), 0);
  EXPECT_TRUE(map_file(real_files(), put("empty", "")).value()->bytes().empty());
}

TEST_F(Files, RefusesWhatIsNoFile) {
  EXPECT_EQ(id_of(map_file(real_files(), at("missing"))), "file-missing");
  EXPECT_EQ(id_of(map_file(real_files(), folder_)), "not-a-regular-file");
  EXPECT_EQ(id_of(map_file(real_files(), "/dev/null")), "not-a-regular-file");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  const auto pipe = map_file(real_files(), at("pipe"));
  EXPECT_EQ(to_string(pipe.error().diagnostic), at("pipe") + ": is a pipe, not a file");
  const auto missing = map_file(real_files(), at("missing"));
  EXPECT_EQ(missing.error().code, Code::kInput);
  EXPECT_EQ(to_string(missing.error().diagnostic),
            at("missing") + ": can not be opened: No such file or directory");
}

TEST_F(Files, ReadsWhereMappingIsImpossible) {
  const std::string content = pattern_text(10'000);
  FaultyFiles files;
  files.can_map = false;
  files.step = 777;
  files.interrupts = true;
  const auto file = map_file(files, put("a", content)).value();
  EXPECT_EQ(text_of(*file), content);
  file->release(0, 10'000);
  EXPECT_EQ(text_of(*file), content);
  files.fail_at = files.calls() + 3;
  EXPECT_EQ(id_of(map_file(files, at("a"))), "file-unreadable");
}

TEST_F(Files, ReleasedPagesReadTheSame) {
  const std::string content = pattern_text(100'001);
  const auto file = map_file(real_files(), put("a", content)).value();
  for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{0, 100'001},
                                       {1, 4096},
                                       {5000, 50'000},
                                       {99'999, 1'000'000},
                                       {200'000, 1},
                                       {0, UINT64_MAX},
                                       {7, UINT64_MAX}}) {
    file->release(offset, length);
    EXPECT_EQ(text_of(*file), content);
  }
}

TEST_F(Files, ReadsTexts) {
  const std::string content = pattern_text(200'000);
  put("a", content);
  EXPECT_EQ(read_text_file(real_files(), at("a"), 200'000).value(), content);
  EXPECT_EQ(id_of(read_text_file(real_files(), at("a"), 199'999)), "text-too-large");
  EXPECT_EQ(id_of(read_text_file(real_files(), at("b"), 10)), "file-missing");
  EXPECT_EQ(id_of(read_text_file(real_files(), folder_, 10)), "file-unreadable");
  EXPECT_EQ(id_of(read_text_file(real_files(), "/dev/zero", 100'000)), "text-too-large");
  FaultyFiles files;
  files.step = 999;
  files.interrupts = true;
  EXPECT_EQ(read_text_file(files, at("a"), 1 << 20).value(), content);
}

TEST_F(Files, PathParts) {
  EXPECT_EQ(folder_of("a/b"), "a");
  EXPECT_EQ(folder_of("/b"), "/");
  EXPECT_EQ(folder_of("b"), ".");
  EXPECT_EQ(file_name_of("a/b"), "b");
  EXPECT_EQ(file_name_of("b"), "b");
  EXPECT_EQ(join_path(".", "b"), "b");
  EXPECT_EQ(join_path("/", "b"), "/b");
  EXPECT_EQ(join_path("a", "b"), "a/b");
}

TEST_F(Files, LocationsStayInTheFolder) {
  EXPECT_EQ(join_contained("m", "w.bin").value(), "m/w.bin");
  EXPECT_EQ(join_contained("m", "./a..b/..c").value(), "m/./a..b/..c");
  for (const char* bad : {"", "/etc/passwd", "..", "../w", "a/../../w", "a/..", "./../w", "//x"}) {
    const auto result = join_contained("m", bad);
    ASSERT_FALSE(result.ok()) << bad;
    EXPECT_EQ(result.error().code, Code::kInput);
  }
  EXPECT_FALSE(join_contained("m", std::string("a\0b", 3)).ok());
}

TEST_F(Files, LinksStayInTheFolder) {
  put("secret", "secret");
  put("model-elsewhere/w.bin", "secret");
  put("model/w.bin", "data");
  fs::create_directory(at("model/sub"));
  fs::create_symlink("../w.bin", at("model/sub/good"));
  fs::create_symlink(at("model/w.bin"), at("model/absolute"));
  fs::create_symlink("../secret", at("model/bad"));
  fs::create_symlink("../model-elsewhere", at("model/bad-folder"));
  fs::create_symlink("loop", at("model/loop"));
  fs::create_symlink("nowhere", at("model/dangling"));
  const auto map = [&](const std::string& name) {
    return map_contained(real_files(), at("model"), name);
  };
  EXPECT_EQ(text_of(*map("w.bin").value()), "data");
  EXPECT_EQ(text_of(*map("sub/good").value()), "data");
  EXPECT_EQ(text_of(*map("absolute").value()), "data");
  EXPECT_EQ(id_of(map("bad")), "external-data-escapes-folder");
  EXPECT_EQ(id_of(map("bad-folder/w.bin")), "external-data-escapes-folder");
  EXPECT_EQ(id_of(map("loop")), "file-unreadable");
  EXPECT_EQ(id_of(map("dangling")), "external-data-missing");
  EXPECT_EQ(id_of(map("missing")), "external-data-missing");
  EXPECT_EQ(id_of(map("sub")), "not-a-regular-file");
  EXPECT_EQ(id_of(map(".")), "external-data-escapes-folder");
  // A folder that is itself reached through a link.
  fs::create_directory_symlink("model", at("alias"));
  EXPECT_EQ(text_of(*map_contained(real_files(), at("alias"), "w.bin").value()), "data");
}

TEST_F(Files, WritesSeveralFilesTogether) {
  const std::string large = pattern_text(3'000'000);
  put("b", "old");
  {
    AtomicOutput output(real_files());
    OutputFile* first = output.add(at("a")).value();
    OutputFile* second = output.add(at("b")).value();
    ASSERT_TRUE(first->write("hello ").ok());
    ASSERT_TRUE(first->zeros(5000).ok());
    ASSERT_TRUE(first->write(large).ok());
    EXPECT_EQ(first->position(), 6 + 5000 + large.size());
    ASSERT_TRUE(second->write("new").ok());
    EXPECT_FALSE(fs::exists(at("a")));
    EXPECT_EQ(get(at("b")), "old");
    ASSERT_TRUE(output.commit().ok());
    EXPECT_EQ(id_of(output.commit()), "committed-twice");
  }
  EXPECT_EQ(get(at("a")), "hello " + std::string(5000, '\0') + large);
  EXPECT_EQ(get(at("b")), "new");
  EXPECT_EQ(snapshot().size(), 2U);
}

TEST_F(Files, NothingIsLeftWithoutACommit) {
  put("a", "old");
  const auto before = snapshot();
  {
    AtomicOutput output(real_files());
    ASSERT_TRUE(output.add(at("a")).value()->write("new").ok());
    ASSERT_TRUE(output.add(at("c")).value()->write("new").ok());
  }
  EXPECT_EQ(snapshot(), before);
}

TEST_F(Files, CopiesRanges) {
  const std::string content = pattern_text(2'500'000);
  const auto source = map_file(real_files(), put("source", content)).value();
  for (const int way : {0, 1, 2}) {
    FaultyFiles files;
    files.can_copy_range = way != 1;
    files.step = way == 2 ? 100'003 : 1 << 30;
    files.interrupts = way == 2;
    AtomicOutput output(files);
    OutputFile* file = output.add(at("out")).value();
    ASSERT_TRUE(file->write("ab").ok());
    ASSERT_TRUE(file->copy(source->descriptor(), 3, 2'000'000).ok());
    ASSERT_TRUE(file->copy(*source, 7, 1'500'000).ok());
    ASSERT_TRUE(file->copy(*source, 9, 100).ok());
    ASSERT_TRUE(file->copy(*source, 2'500'000, 0).ok());
    ASSERT_TRUE(output.commit().ok());
    EXPECT_EQ(get(at("out")), "ab" + content.substr(3, 2'000'000) + content.substr(7, 1'500'000) +
                                  content.substr(9, 100));
  }
}

TEST_F(Files, SmallCopiesCrossReleaseBorders) {
  const std::string content = pattern_text(20'000'000);
  const auto source = map_file(real_files(), put("source", content)).value();
  AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
  OutputFile* file = output.add(at("out")).value();
  for (std::size_t i = 0; i < content.size(); i += 100'000) {
    ASSERT_TRUE(file->copy(*source, i, 100'000).ok());
  }
  ASSERT_TRUE(output.commit().ok());
  EXPECT_EQ(get(at("out")), content);
}

TEST_F(Files, SourcesThatEndEarly) {
  const auto source = map_file(real_files(), put("source", "12345")).value();
  const auto before = snapshot();
  {
    AtomicOutput output(real_files());
    OutputFile* file = output.add(at("out")).value();
    EXPECT_EQ(id_of(file->copy(*source, 3, 3)), "file-ends-early");
    EXPECT_EQ(id_of(file->write("x")), "file-ends-early");  // it stays
    EXPECT_EQ(id_of(output.commit()), "file-ends-early");
    OutputFile* other = output.add(at("other")).value();
    EXPECT_EQ(id_of(other->copy(source->descriptor(), 3, 3)), "file-ends-early");
    EXPECT_EQ(id_of(output.add(at("more")).value()->copy(*source, UINT64_MAX, 2)),
              "file-ends-early");
  }
  EXPECT_EQ(snapshot(), before);
}

TEST_F(Files, PermissionsOfTheExistingFile) {
  put("a", "old");
  ASSERT_EQ(::chmod(at("a").c_str(), 0640), 0);
  const mode_t mask = ::umask(0027);
  AtomicOutput output(real_files());
  ASSERT_TRUE(output.add(at("a")).ok());
  ASSERT_TRUE(output.add(at("b")).ok());
  ASSERT_TRUE(output.commit().ok());
  ::umask(mask);
  struct stat status = {};
  ASSERT_EQ(::stat(at("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
  ASSERT_EQ(::stat(at("b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
}

TEST_F(Files, LinksLeadToTheFileThatIsReplaced) {
  put("real/target", "old");
  fs::create_symlink("real/target", at("link"));
  AtomicOutput output(real_files());
  ASSERT_TRUE(output.add(at("link")).value()->write("new").ok());
  EXPECT_EQ(id_of(output.add(at("real/target"))), "output-twice");
  ASSERT_TRUE(output.commit().ok());
  EXPECT_TRUE(fs::is_symlink(at("link")));
  EXPECT_EQ(get(at("real/target")), "new");
}

TEST_F(Files, RefusesImpossibleDestinations) {
  AtomicOutput output(real_files());
  const auto refuse = [&](const std::string& path) {
    const auto result = output.add(path);
    EXPECT_EQ(result.error().code, Code::kOutput);
    return id_of(result);
  };
  EXPECT_EQ(refuse(folder_), "output-is-folder");
  EXPECT_EQ(refuse(folder_ + "/"), "output-is-folder");
  EXPECT_EQ(refuse(at("missing/")), "output-is-folder");
  EXPECT_EQ(refuse("/dev/null"), "output-not-regular");
  EXPECT_EQ(to_string(output.add(at("no/a")).error().diagnostic),
            at("no/a") + ": the folder can not be opened: No such file or directory " +
                "(create the folder first)");
  put("file", "x");
  EXPECT_EQ(refuse(at("file/a")), "output-failed");
  EXPECT_EQ(refuse(at(std::string(300, 'x'))), "output-failed");
}

TEST_F(Files, LongNames) {
  const std::string name(250, 'n');
  AtomicOutput output(real_files());
  ASSERT_TRUE(output.add(at(name)).value()->write("x").ok());
  ASSERT_TRUE(output.commit().ok());
  EXPECT_EQ(get(at(name)), "x");
}

TEST_F(Files, NoSpace) {
  put("a", "old");
  const auto before = snapshot();
  FaultyFiles files;
  files.space = 1'000'000;
  files.can_copy_range = false;
  {
    AtomicOutput output(files);
    OutputFile* file = output.add(at("a")).value();
    const Status status = file->write(pattern_text(1'000'001));
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::kOutput);
    EXPECT_EQ(to_string(status.error().diagnostic),
              at("a") +
                  ": can not be written: No space left on device "
                  "(free some space or write to another disk)");
    EXPECT_FALSE(output.commit().ok());
  }
  EXPECT_EQ(snapshot(), before);
}

// Writes two files and replaces one that exists. True when all of it worked.
Status write_all(FileSystem& files, const std::string& folder, const std::string& source) {
  AtomicOutput output(files);
  for (const char* name : {"/data", "/more", "/model"}) {
    Result<OutputFile*> file = output.add(folder + name);
    if (!file.ok()) return std::move(file).error();
    Status status = (*file)->write("new");
    if (status.ok()) status = (*file)->write(pattern_text(600'000));
    Result<MappedFilePtr> mapped = map_file(files, source);
    if (!mapped.ok()) return std::move(mapped).error();
    if (status.ok()) status = (*file)->copy(**mapped, 0, 500'000);
    if (!status.ok()) return status;
  }
  return output.commit();
}

TEST_F(Files, EveryFailureLeavesTheFolderAsItWas) {
  const std::string source = put("source", pattern_text(500'000));
  for (const bool once : {true, false}) {
    for (const int mode : {0, 1, 2}) {
      bool finished = false;
      int failures = 0;
      for (std::int64_t n = 1; n < 200 && !finished; ++n) {
        put("data", "old data");
        put("model", "old model");
        fs::remove(at("more"));
        const auto before = snapshot();
        FaultyFiles files;
        files.fail_at = n;
        files.fail_once = once;
        files.can_copy_range = mode != 1;
        files.can_link = mode != 2;
        files.step = mode == 1 ? 200'000 : 1 << 30;
        const Status status = write_all(files, folder_, source);
        finished = files.calls() < n;
        if (status.ok()) {
          EXPECT_EQ(get(at("model")).substr(0, 3), "new");
          EXPECT_EQ(get(at("data")), get(at("model")));
          EXPECT_EQ(snapshot().size(), 4U);
          continue;
        }
        ++failures;
        const auto after = snapshot();
        if (once) {
          EXPECT_EQ(after, before) << "call " << n << " mode " << mode;
          continue;
        }
        // Where even putting back fails, the old content is still there under the backup name.
        std::set<std::string> contents;
        for (const auto& [name, content] : after) {
          contents.insert(content);
          EXPECT_FALSE(name.ends_with(".tmp")) << name;
          if (name.ends_with(".old")) fs::remove(at(name));
        }
        for (const auto& entry : before) {
          EXPECT_TRUE(contents.contains(entry.second)) << "call " << n << " lost " << entry.first;
        }
      }
      EXPECT_TRUE(finished);
      EXPECT_GT(failures, 15);
    }
  }
}

TEST_F(Files, InterruptedProcessesLeaveNothing) {
  put("a", "old");
  const auto before = snapshot();
  const pid_t child = ::fork();
  if (child == 0) {
    // Any signal would do, but ThreadSanitizer puts off all that faults can not raise, and never
    // delivers them in the child of a process that has threads.
    ::signal(SIGABRT, [](int) {
      remove_temporaries_from_signal_handler();
      ::_exit(42);
    });
    AtomicOutput output(real_files());
    bool good = output.add(at("a")).value()->write(pattern_text(1'000'000)).ok();
    good = good && output.add(at("b")).ok();
    if (!good || snapshot().size() != 3) ::_exit(1);
    ::raise(SIGABRT);
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(snapshot(), before);
}

// Threads make and drop folders and files until a signal ends them at some moment.
TEST_F(Files, InterruptedAtAnyMoment) {
  std::mt19937 random(7);
  for (int round = 0; round < 150; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (const int signal : {SIGTERM, SIGABRT}) {
        ::signal(signal, [](int) { ::_exit(remove_temporaries_from_signal_handler() ? 42 : 1); });
      }
      const auto work = [this](const std::string& name) {
        for (;;) {
          AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
          if (!output.add_folder(at(name + "/in/it")).ok()) ::pause();
          if (!output.add(at(name + "/in/it/file")).ok()) ::pause();
        }
      };
      std::thread other(work, "other");
      work("one");
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    ::kill(child, round % 2 == 0 ? SIGTERM : SIGABRT);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    // Before the handler is there, the signal itself ends the child.
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 42);
    }
    ASSERT_TRUE(fs::is_empty(folder_)) << "round " << round;
  }
}

TEST_F(Files, ScratchFoldersGoWithTheirFiles) {
  const pid_t child = ::fork();
  if (child == 0) {
    fs::create_directories(at("scratch"));
    fs::create_directories(at("other"));
    for (int i = 0; i < 300; ++i)
      put("scratch/a file with a name of some length " + std::to_string(i), "x");
    put("other/kept", "x");
    bool good = remember_scratch_folder(at("scratch")) >= 0;
    good = good && remember_temporary(at("other")) >= 0;
    good = good && remove_temporaries_from_signal_handler();
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_FALSE(fs::exists(at("scratch")));
  EXPECT_TRUE(fs::exists(at("other/kept")));
}

TEST_F(Files, NothingStartsAfterAnInterrupt) {
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicOutput output(real_files());
    bool good = output.add(at("a")).ok();
    good = good && remove_temporaries_from_signal_handler();
    good = good && output.commit().error().code == Code::kCancelled;
    good = good && output.add(at("b")).error().code == Code::kCancelled;
    ::_exit(good && snapshot().empty() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// Calls the interrupt hook from inside the rename, where a signal could arrive.
class InterruptedRename final : public FileSystem {
 public:
  int rename(const std::string& from, const std::string& to) override {
    removed = removed || remove_temporaries_from_signal_handler();
    return FileSystem::rename(from, to);
  }
  bool removed = false;
};

TEST_F(Files, ACommitUnderWayIsFinished) {
  InterruptedRename files;
  AtomicOutput output(files);
  ASSERT_TRUE(output.add(at("a")).ok());
  ASSERT_TRUE(output.add(at("b")).ok());
  EXPECT_TRUE(output.commit().ok());
  EXPECT_FALSE(files.removed);
  EXPECT_EQ(snapshot().size(), 2U);
}

TEST_F(Files, MoreFilesThanTheTableHolds) {
  AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
  for (int i = 0; i < 200; ++i) {
    OutputFile* file = output.add(at(std::to_string(i))).value();
    ASSERT_TRUE(file->write("x").ok());
    ASSERT_TRUE(file->finish().ok());
  }
  ASSERT_TRUE(output.commit().ok());
  EXPECT_EQ(snapshot().size(), 200U);
}

}  // namespace
}  // namespace mcompress
