#include "support/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "support/temporaries.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

int result_or_errno(int result) { return result < 0 ? -errno : result; }
ssize_t result_or_errno(ssize_t result) { return result < 0 ? -errno : result; }

Error input_error(std::string_view id, std::string message, const std::string& path,
                  std::string hint = {}) {
  return Error(Code::kInput, id, std::move(message), Location{path, "", ""}, std::move(hint));
}

Error failed_input(std::string_view id, std::string_view what, int error_number,
                   const std::string& path) {
  return input_error(id, std::string(what) + ": " + std::generic_category().message(error_number),
                     path);
}

std::string file_kind(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "no regular file";
}

}  // namespace

int FileSystem::open(const std::string& path, int flags, mode_t mode) {
  return result_or_errno(::open(path.c_str(), flags | O_CLOEXEC, mode));
}

int FileSystem::close(int descriptor) { return result_or_errno(::close(descriptor)); }

int FileSystem::status(int descriptor, struct stat& out) {
  return result_or_errno(::fstat(descriptor, &out));
}

int FileSystem::status(const std::string& path, struct stat& out) {
  return result_or_errno(::stat(path.c_str(), &out));
}

int FileSystem::resolve(const std::string& path, std::string& real) {
  const std::unique_ptr<char, decltype(&std::free)> found(::realpath(path.c_str(), nullptr),
                                                          &std::free);
  if (found == nullptr) return -errno;
  real = found.get();
  return 0;
}

int FileSystem::list(const std::string& folder, std::vector<Entry>& entries) {
  struct CloseFolder {
    void operator()(DIR* handle) const { ::closedir(handle); }
  };
  const std::unique_ptr<DIR, CloseFolder> opened(::opendir(folder.c_str()));
  if (opened == nullptr) return -errno;
  for (;;) {
    errno = 0;
    const dirent* found = ::readdir(opened.get());
    if (found == nullptr) return -errno;
    const std::string_view name = found->d_name;
    if (name == "." || name == "..") continue;
    bool is_folder = found->d_type == DT_DIR;
    if (found->d_type == DT_LNK || found->d_type == DT_UNKNOWN) {
      struct stat status = {};
      is_folder = ::fstatat(::dirfd(opened.get()), found->d_name, &status, 0) == 0 &&
                  S_ISDIR(status.st_mode);
    }
    entries.push_back({std::string(name), is_folder});
  }
}

int FileSystem::make_folder(const std::string& path) {
  return result_or_errno(::mkdir(path.c_str(), 0777));
}

int FileSystem::make_private_folder(const std::string& prefix, std::string& path) {
  std::string name = prefix + "XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) return -errno;
  path = std::move(name);
  return 0;
}

int FileSystem::open_unnamed(const std::string& folder) {
  std::string name = join_path(folder, "mcompress-XXXXXX");
  const CreationPhase phase;
  if (!phase.granted()) return -ECANCELED;
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0) return -errno;
  ::unlink(name.c_str());
  return descriptor;
}

int FileSystem::reserve(int descriptor, std::uint64_t length) {
  return -::posix_fallocate(descriptor, 0, static_cast<off_t>(length));
}

ssize_t FileSystem::read(int descriptor, std::span<std::byte> bytes, std::uint64_t offset) {
  const ssize_t count = ::pread(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (count < 0 && errno == ESPIPE) {
    return result_or_errno(::read(descriptor, bytes.data(), bytes.size()));
  }
  return result_or_errno(count);
}

ssize_t FileSystem::write(int descriptor, std::span<const std::byte> bytes, std::uint64_t offset) {
  return result_or_errno(
      ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset)));
}

ssize_t FileSystem::copy_range(int from, std::uint64_t from_offset, int to, std::uint64_t to_offset,
                               std::size_t length) {
  auto from_at = static_cast<off64_t>(from_offset);
  auto to_at = static_cast<off64_t>(to_offset);
  return result_or_errno(::copy_file_range(from, &from_at, to, &to_at, length, 0));
}

int FileSystem::set_mode(int descriptor, mode_t mode) {
  return result_or_errno(::fchmod(descriptor, mode));
}

int FileSystem::sync(int descriptor) { return result_or_errno(::fsync(descriptor)); }

int FileSystem::rename(const std::string& from, const std::string& to) {
  return result_or_errno(::rename(from.c_str(), to.c_str()));
}

int FileSystem::link(const std::string& from, const std::string& to) {
  return result_or_errno(::link(from.c_str(), to.c_str()));
}

int FileSystem::unlink(const std::string& path) { return result_or_errno(::unlink(path.c_str())); }

void* FileSystem::map(int descriptor, std::size_t length) {
  void* mapping = ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE, descriptor, 0);
  return mapping == MAP_FAILED ? nullptr : mapping;
}

void* FileSystem::map_writable(int descriptor, std::size_t length) {
  void* mapping = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  return mapping == MAP_FAILED ? nullptr : mapping;
}

int open_to_read(FileSystem& files, const std::string& path, int flags) {
  int descriptor = 0;
  do descriptor = files.open(path, O_RDONLY | flags, 0);
  while (descriptor == -EINTR);
  return descriptor;
}

MappedFile::MappedFile(FileSystem& files, std::string path, int descriptor)
    : files_(files), path_(std::move(path)), descriptor_(descriptor) {}

MappedFile::~MappedFile() {
  if (mapping_ != nullptr) ::munmap(mapping_, bytes_.size());
  files_.close(descriptor_);
}

Status MappedFile::fill() {
  struct stat status = {};
  if (const int error = files_.status(descriptor_, status); error < 0) {
    return failed_input("file-unreadable", "can not be examined", -error, path_);
  }
  if (!S_ISREG(status.st_mode)) {
    return input_error("not-a-regular-file", "is " + file_kind(status.st_mode) + ", not a file",
                       path_);
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return ok_status();
  mapping_ = files_.map(descriptor_, size);
  if (mapping_ != nullptr) {
    bytes_ = {static_cast<const std::byte*>(mapping_), size};
    return ok_status();
  }
  heap_.resize(size);
  for (std::size_t done = 0; done < size;) {
    const ssize_t count = files_.read(descriptor_, std::span(heap_).subspan(done), done);
    if (count == -EINTR) continue;
    if (count < 0) {
      return failed_input("file-unreadable", "can not be read", static_cast<int>(-count), path_);
    }
    if (count == 0) {
      return input_error("file-ends-early",
                         "ends at byte " + std::to_string(done) + " of " + std::to_string(size),
                         path_);
    }
    done += static_cast<std::size_t>(count);
  }
  bytes_ = heap_;
  return ok_status();
}

void MappedFile::release(std::uint64_t offset, std::uint64_t length) const {
  if (mapping_ == nullptr || offset >= bytes_.size()) return;
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t end = offset + std::min<std::uint64_t>(length, bytes_.size() - offset);
  const std::uint64_t first = (offset + page - 1) / page * page;
  // The last page belongs to the range when the file ends in it.
  const std::uint64_t last = end == bytes_.size() ? end : end / page * page;
  if (first >= last) return;
  ::madvise(static_cast<std::byte*>(mapping_) + first, static_cast<std::size_t>(last - first),
            MADV_DONTNEED);
}

Result<MappedFilePtr> map_file(FileSystem& files, const std::string& path) {
  // Without O_NONBLOCK, opening a pipe would wait for somebody to write.
  const int descriptor = open_to_read(files, path, O_NONBLOCK);
  if (descriptor < 0) {
    return failed_input(descriptor == -ENOENT ? "file-missing" : "file-unreadable",
                        "can not be opened", -descriptor, path);
  }
  auto file = std::make_shared<MappedFile>(files, path, descriptor);
  MCOMPRESS_TRY(file->fill());
  return MappedFilePtr(std::move(file));
}

Result<std::string> read_text_file(FileSystem& files, const std::string& path,
                                   std::uint64_t max_bytes) {
  const int descriptor = open_to_read(files, path, 0);
  if (descriptor < 0) {
    return failed_input(descriptor == -ENOENT ? "file-missing" : "file-unreadable",
                        "can not be opened", -descriptor, path);
  }
  // Closes on every way out.
  struct Closer {
    FileSystem& files;
    int descriptor;
    ~Closer() { files.close(descriptor); }
  } closer{files, descriptor};
  constexpr std::size_t kStep = 1 << 16;
  std::string text;
  for (;;) {
    const std::size_t done = text.size();
    text.resize(done + kStep);
    const ssize_t count =
        files.read(descriptor, std::as_writable_bytes(std::span(text).subspan(done)), done);
    text.resize(done + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (count == -EINTR) continue;
    if (count < 0) {
      return failed_input("file-unreadable", "can not be read", static_cast<int>(-count), path);
    }
    if (count == 0) return text;
    if (text.size() > max_bytes) {
      return input_error("text-too-large",
                         "is larger than the " + human_bytes(max_bytes) + " that are read", path);
    }
  }
}

std::string temporary_folder() {
  const char* wanted = std::getenv("TMPDIR");
  return wanted == nullptr || *wanted == '\0' ? "/tmp" : wanted;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string join_path(const std::string& folder, const std::string& name) {
  if (folder.empty() || folder == ".") return name;
  return folder.ends_with('/') ? folder + name : folder + '/' + name;
}

Result<std::string> join_contained(const std::string& folder, const std::string& location) {
  const auto refuse = [&](std::string_view id, std::string_view reason) {
    return input_error(id, "external data location '" + location + "' " + std::string(reason),
                       folder, "data has to lie in the folder of the model or below it");
  };
  if (location.empty()) return refuse("external-data-no-location", "is empty");
  if (location.find('\0') != std::string::npos) {
    return refuse("external-data-bad-location", "contains a NUL byte");
  }
  if (location.front() == '/') return refuse("external-data-absolute-path", "is an absolute path");
  for (std::size_t at = 0; at <= location.size();) {
    const std::size_t end = std::min(location.find('/', at), location.size());
    if (std::string_view(location).substr(at, end - at) == "..") {
      return refuse("external-data-escapes-folder", "leads out of the folder");
    }
    at = end + 1;
  }
  return join_path(folder, location);
}

Result<MappedFilePtr> map_contained(FileSystem& files, const std::string& folder,
                                    const std::string& location) {
  MCOMPRESS_ASSIGN(const std::string path, join_contained(folder, location));
  std::string inside, root;
  if (const int error = files.resolve(path, inside); error < 0) {
    return failed_input(error == -ENOENT ? "external-data-missing" : "file-unreadable",
                        "can not be opened", -error, path);
  }
  if (const int error = files.resolve(folder.empty() ? "." : folder, root); error < 0) {
    return failed_input("file-unreadable", "the folder can not be opened", -error, path);
  }
  if (!root.ends_with('/')) root += '/';
  if (!inside.starts_with(root)) {
    return input_error("external-data-escapes-folder",
                       "external data location '" + location + "' is a link to '" + inside +
                           "', which lies outside the folder of the model",
                       path, "copy the data next to the model, for example with cp -L");
  }
  return map_file(files, path);
}

}  // namespace mcompress
