// Files: mapping, paths that stay inside a folder, and output that appears whole or not at all.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

// The system calls that everything here is made of; each returns what the call returns or a
// negated errno, and may be interrupted or do less than asked. Tests override some to fail.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int open(const std::string& path, int flags, mode_t mode);
  virtual int close(int descriptor);
  virtual int status(int descriptor, struct stat& out);
  // Of what the path leads to.
  virtual int status(const std::string& path, struct stat& out);
  // The absolute path without links.
  virtual int resolve(const std::string& path, std::string& real);
  struct Entry {
    std::string name;
    bool folder = false;  // or a link to one
  };
  // What is in a folder, in no order, without "." and "..".
  virtual int list(const std::string& folder, std::vector<Entry>& entries);
  virtual int make_folder(const std::string& path);
  // An empty folder of a new name that begins with `prefix`, for this user only.
  virtual int make_private_folder(const std::string& prefix, std::string& path);
  // A file in `folder` that is open for reading and writing and has no name; descriptor.
  virtual int open_unnamed(const std::string& folder);
  // Makes the file that long, with space for all of it.
  virtual int reserve(int descriptor, std::uint64_t length);
  // At an offset; on a pipe, what comes next.
  virtual ssize_t read(int descriptor, std::span<std::byte> bytes, std::uint64_t offset);
  virtual ssize_t write(int descriptor, std::span<const std::byte> bytes, std::uint64_t offset);
  virtual ssize_t copy_range(int from, std::uint64_t from_offset, int to, std::uint64_t to_offset,
                             std::size_t length);
  virtual int set_mode(int descriptor, mode_t mode);
  virtual int sync(int descriptor);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int link(const std::string& from, const std::string& to);
  virtual int unlink(const std::string& path);
  // Read-only private mapping of a whole file; null when it can not be mapped.
  virtual void* map(int descriptor, std::size_t length);
  // Shared mapping for reading and writing; null when it can not be mapped.
  virtual void* map_writable(int descriptor, std::size_t length);
};

// The file system of everything that is given none. Defined in a file of its own, so that a test
// program can be linked with another one.
FileSystem& real_files();

// Opens for reading, again when interrupted. The descriptor, or a negated errno.
int open_to_read(FileSystem& files, const std::string& path, int flags);

// A regular file that is open for reading. Its bytes are mapped, or on the heap where the file
// system can not map.
class MappedFile {
 public:
  MappedFile(FileSystem& files, std::string path, int descriptor);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  // Open as long as this object lives; for copying inside the kernel.
  int descriptor() const { return descriptor_; }
  const std::string& path() const { return path_; }
  // Gives the pages that lie wholly inside the range back; reading them again is slower, not
  // wrong.
  void release(std::uint64_t offset, std::uint64_t length) const;

 private:
  friend Result<std::shared_ptr<const MappedFile>> map_file(FileSystem& files,
                                                            const std::string& path);
  Status fill();

  FileSystem& files_;
  std::string path_;
  int descriptor_;
  void* mapping_ = nullptr;
  std::vector<std::byte> heap_;
  std::span<const std::byte> bytes_;
};

using MappedFilePtr = std::shared_ptr<const MappedFile>;

// Fails with Code::kInput when there is no such file, it can not be read, or it is a folder, a
// pipe or a device.
Result<MappedFilePtr> map_file(FileSystem& files, const std::string& path);

// A whole file as text, at most `max_bytes` (more is Code::kInput). Pipes are fine.
Result<std::string> read_text_file(FileSystem& files, const std::string& path,
                                   std::uint64_t max_bytes);

// The folder for temporary files: $TMPDIR, or /tmp.
std::string temporary_folder();

// The part of a path before the last '/', "." when there is none; the part behind it.
std::string folder_of(const std::string& path);
std::string file_name_of(const std::string& path);
// `name` below `folder`, or `name` when the folder is "." or empty.
std::string join_path(const std::string& folder, const std::string& name);

// folder/location for a location from a file nobody vouches for. Refuses, with Code::kInput, an
// empty or absolute location, one with ".." or a NUL byte. Looks at the text only.
Result<std::string> join_contained(const std::string& folder, const std::string& location);

// Maps folder/location. On top of join_contained, refuses links that lead out of the folder.
Result<MappedFilePtr> map_contained(FileSystem& files, const std::string& folder,
                                    const std::string& location);

class AtomicOutput;

// One file of an AtomicOutput, written front to back. After a failure every call returns that
// failure, and the output can no longer be committed.
class OutputFile {
 public:
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
  Status zeros(std::uint64_t count);
  // Copies a range of an open file, inside the kernel where possible. A source that ends early is
  // Code::kInput.
  Status copy(int descriptor, std::uint64_t offset, std::uint64_t length);
  // Copies a range of a mapped file without keeping its pages.
  Status copy(const MappedFile& source, std::uint64_t offset, std::uint64_t length);
  // Bytes written so far.
  std::uint64_t position() const { return position_ + buffer_.size(); }
  // Writes what is buffered, reaches the disk and closes. Commit does it for files still open.
  Status finish();
  // The path the user asked for.
  const std::string& path() const { return asked_; }

 private:
  friend class AtomicOutput;
  struct Existing {
    mode_t mode;
    uid_t owner;
    gid_t group;
  };
  OutputFile(FileSystem& files, std::string asked, std::string destination,
             std::optional<Existing> existing, bool sync);
  Status create();
  Status flush();
  Status write_through(std::span<const std::byte> bytes);
  void start_writeback();
  Status copy_by_hand(int descriptor, std::uint64_t offset, std::uint64_t length);
  Status fail(Error error);
  Status failed_call(std::string_view what, int error_number);
  void discard();

  FileSystem& files_;
  std::string asked_;
  std::string destination_;  // absolute, links resolved
  std::string temporary_;
  std::string backup_;
  std::optional<Existing> existing_;
  bool sync_;
  int slot_ = -1;
  int descriptor_ = -1;
  bool renamed_ = false;
  std::uint64_t position_ = 0;
  std::uint64_t writeback_ = 0;  // bytes the disk was asked to begin with
  std::vector<std::byte> buffer_;
  std::optional<Error> error_;
};

// Several files that appear together under their names, or not at all. They are written under
// temporary names in the folders they belong to; without a successful commit the folders stay as
// they were. Failures are Code::kOutput and name the path and the reason.
class AtomicOutput {
 public:
  enum class Durability : std::uint8_t {
    kFlushed,  // commit waits for the disk
    kRelaxed,  // for throw-away results and measurements
  };
  explicit AtomicOutput(FileSystem& files, Durability durability = Durability::kFlushed);
  ~AtomicOutput();
  AtomicOutput(const AtomicOutput&) = delete;
  AtomicOutput& operator=(const AtomicOutput&) = delete;

  // Starts a file. An existing one keeps its permissions when it is replaced; where the path is
  // a link, the file it leads to is replaced. Refuses folders, devices and pipes. The file lives
  // as long as this object.
  Result<OutputFile*> add(const std::string& path);
  // Makes a folder and those it lies in where there are none; they go again unless committed.
  Status add_folder(const std::string& path);
  // Renames the files in the order they were added. When one fails, those already renamed are
  // put back.
  Status commit();

 private:
  Status replace(OutputFile& file, bool last);
  void put_back(OutputFile& file);

  FileSystem& files_;
  bool sync_;
  bool committed_ = false;
  std::vector<std::unique_ptr<OutputFile>> outputs_;
  struct Folder {
    std::string path;
    int slot;
  };
  std::vector<Folder> folders_;  // that were made
};

// For a signal handler that is about to end the process: removes the temporaries of all outputs.
// Uses async-signal-safe calls only. Returns false, having removed nothing, while files are being
// renamed: then return from the handler and let the commit finish. Afterwards no output can be
// started or committed any more (Code::kCancelled).
bool remove_temporaries_from_signal_handler();

}  // namespace mcompress
