#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <set>
#include <system_error>

#include "support/files.h"
#include "support/temporaries.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kBuffer = 256 << 10;
constexpr std::size_t kCopyStep = 1 << 20;
constexpr std::size_t kKernelCopyStep = 64 << 20;
constexpr std::size_t kReleaseStep = 8 << 20;

Error output_error(std::string_view id, std::string message, const std::string& path,
                   std::string hint = {}) {
  return Error(Code::kOutput, id, std::move(message), Location{path, "", ""}, std::move(hint));
}

Error failed_output(std::string_view what, int error_number, const std::string& path) {
  std::string hint;
  std::string_view id = "output-failed";
  if (error_number == ENOSPC || error_number == EDQUOT) {
    id = "output-no-space";
    hint = "free some space or write to another disk";
  } else if (error_number == ENOENT || error_number == ENOTDIR) {
    hint = "create the folder first";
  }
  return output_error(id, std::string(what) + ": " + std::generic_category().message(error_number),
                      path, std::move(hint));
}

Error cancelled() {
  return Error(Code::kCancelled, "interrupted", "interrupted before the output was written");
}

// A name in the folder of `destination` that no other process and no other call uses.
std::string hidden_name(const std::string& destination, std::string_view ending) {
  static std::atomic<unsigned> counter{0};
  // File names may have 255 bytes.
  const std::string name = file_name_of(destination).substr(0, 180);
  return join_path(folder_of(destination), "." + name + ".mcompress-" + std::to_string(::getpid()) +
                                               "-" + std::to_string(counter.fetch_add(1)) +
                                               std::string(ending));
}

// Absolute path with the links of the folder resolved, and those of the file itself when it
// leads somewhere.
Result<std::string> resolve_destination(FileSystem& files, const std::string& path) {
  const std::string name = file_name_of(path);
  if (name.empty() || name == "." || name == "..") {
    return output_error("output-is-folder", "is a folder, not a file", path,
                        "give the name of the file to write");
  }
  std::string real;
  int error = files.resolve(path, real);
  if (error == 0) return real;
  if (error != -ENOENT && error != -ENOTDIR)
    return failed_output("can not be created", -error, path);
  error = files.resolve(folder_of(path), real);
  if (error < 0) return failed_output("the folder can not be opened", -error, path);
  return join_path(real, name);
}

// The path of an open file, for messages.
std::string name_of(int descriptor) {
  std::string name(PATH_MAX, '\0');
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t length = ::readlink(link.c_str(), name.data(), name.size());
  name.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  return name;
}

bool kernel_copy_unsupported(ssize_t result) {
  return result == -EXDEV || result == -EINVAL || result == -ENOSYS || result == -EOPNOTSUPP ||
         result == -EPERM || result == -EBADF || result == -ETXTBSY;
}

}  // namespace

OutputFile::OutputFile(FileSystem& files, std::string asked, std::string destination,
                       std::optional<Existing> existing, bool sync)
    : files_(files),
      asked_(std::move(asked)),
      destination_(std::move(destination)),
      existing_(existing),
      sync_(sync) {}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() {
  if (descriptor_ >= 0) files_.close(descriptor_);
  descriptor_ = -1;
  if (!temporary_.empty() && !renamed_) files_.unlink(temporary_);
  temporary_.clear();
  forget_temporary(slot_);
  slot_ = -1;
}

Status OutputFile::fail(Error error) {
  if (!error_) error_ = std::move(error);
  return *error_;
}

Status OutputFile::failed_call(std::string_view what, int error_number) {
  return fail(failed_output(what, error_number, asked_));
}

Status OutputFile::create() {
  constexpr int kAttempts = 100;
  int result = -EEXIST;
  const CreationPhase phase;
  if (!phase.granted()) return fail(cancelled());
  for (int i = 0; i < kAttempts && (result == -EEXIST || result == -EINTR); ++i) {
    temporary_ = hidden_name(destination_, ".tmp");
    slot_ = remember_temporary(temporary_);
    // The umask decides the permissions of a new file.
    result = files_.open(temporary_, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (result < 0) {
      forget_temporary(slot_);
      slot_ = -1;
      temporary_.clear();
    }
  }
  if (result < 0) return failed_call("can not be created", -result);
  descriptor_ = result;
  buffer_.reserve(kBuffer);
  return ok_status();
}

Status OutputFile::write_through(std::span<const std::byte> bytes) {
  // Larger writes make the kernel look for large blocks of fresh memory to copy them into, which
  // takes three times as long as the copy itself; smaller ones cost calls.
  constexpr std::size_t kPiece = 128 << 10;
  while (!bytes.empty()) {
    const ssize_t count =
        files_.write(descriptor_, bytes.first(std::min(kPiece, bytes.size())), position_);
    if (count == -EINTR) continue;
    if (count <= 0) {
      return failed_call("can not be written", count == 0 ? EIO : static_cast<int>(-count));
    }
    position_ += static_cast<std::uint64_t>(count);
    start_writeback();
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return ok_status();
}

// The disk works while the rest is still being copied: the flush at the end then waits for little.
void OutputFile::start_writeback() {
  constexpr std::uint64_t kStep = 8 << 20;
  if (!sync_ || position_ - writeback_ < kStep) return;
  // Only a request: where it is not understood, the flush does all the work.
  [[maybe_unused]] const int ignored =
      ::sync_file_range(descriptor_, static_cast<off_t>(writeback_),
                        static_cast<off_t>(position_ - writeback_), SYNC_FILE_RANGE_WRITE);
  writeback_ = position_;
}

Status OutputFile::flush() {
  if (error_) return *error_;
  Status status = write_through(buffer_);
  buffer_.clear();
  return status;
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  if (error_) return *error_;
  if (buffer_.size() + bytes.size() > kBuffer) {
    MCOMPRESS_TRY(flush());
    if (bytes.size() >= kBuffer) return write_through(bytes);
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return ok_status();
}

Status OutputFile::zeros(std::uint64_t count) {
  static constexpr std::array<std::byte, 4096> kZeros = {};
  while (count > 0) {
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(count, kZeros.size()));
    MCOMPRESS_TRY(write(std::span(kZeros).first(part)));
    count -= part;
  }
  return ok_status();
}

Status OutputFile::copy_by_hand(int descriptor, std::uint64_t offset, std::uint64_t length) {
  std::vector<std::byte> bytes(
      static_cast<std::size_t>(std::min<std::uint64_t>(length, kCopyStep)));
  while (length > 0) {
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(length, bytes.size()));
    const ssize_t count = files_.read(descriptor, std::span(bytes).first(step), offset);
    if (count == -EINTR) continue;
    if (count < 0) {
      return fail(
          Error(Code::kInput, "file-unreadable",
                "can not be read: " + std::generic_category().message(static_cast<int>(-count)),
                Location{name_of(descriptor), "", ""}));
    }
    if (count == 0) {
      return fail(Error(Code::kInput, "file-ends-early",
                        "ends " + std::to_string(length) + " bytes early",
                        Location{name_of(descriptor), "", ""}));
    }
    MCOMPRESS_TRY(write_through(std::span(bytes).first(static_cast<std::size_t>(count))));
    offset += static_cast<std::uint64_t>(count);
    length -= static_cast<std::uint64_t>(count);
  }
  return ok_status();
}

Status OutputFile::copy(int descriptor, std::uint64_t offset, std::uint64_t length) {
  MCOMPRESS_TRY(flush());
  while (length > 0) {
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(length, kKernelCopyStep));
    const ssize_t count = files_.copy_range(descriptor, offset, descriptor_, position_, step);
    if (count == -EINTR) continue;
    // Nothing copied is the end of the source, or a file system that only claims to copy.
    if (count == 0 || kernel_copy_unsupported(count)) {
      return copy_by_hand(descriptor, offset, length);
    }
    if (count < 0) return failed_call("can not be written", static_cast<int>(-count));
    position_ += static_cast<std::uint64_t>(count);
    offset += static_cast<std::uint64_t>(count);
    length -= static_cast<std::uint64_t>(count);
    start_writeback();
  }
  return ok_status();
}

Status OutputFile::copy(const MappedFile& source, std::uint64_t offset, std::uint64_t length) {
  const std::span<const std::byte> bytes = source.bytes();
  if (offset > bytes.size() || length > bytes.size() - offset) {
    return fail(Error(Code::kInput, "file-ends-early",
                      "bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
                          " pass the end at " + std::to_string(bytes.size()),
                      Location{source.path(), "", ""}));
  }
  // A system call per small tensor costs more than the copy.
  if (length >= kBuffer) return copy(source.descriptor(), offset, length);
  MCOMPRESS_TRY(
      write(bytes.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length))));
  if ((offset % kReleaseStep) + length >= kReleaseStep) {
    const std::uint64_t end = (offset + length) / kReleaseStep * kReleaseStep;
    source.release(end - kReleaseStep, kReleaseStep);
  }
  return ok_status();
}

Status OutputFile::finish() {
  MCOMPRESS_TRY(flush());
  if (descriptor_ < 0) return ok_status();
  if (existing_) {
    // The owner can be kept only by root; what does not work is left.
    if (existing_->owner != ::geteuid() || existing_->group != ::getegid()) {
      [[maybe_unused]] const int ignored =
          ::fchown(descriptor_, existing_->owner, existing_->group);
    }
    const int error = files_.set_mode(descriptor_, existing_->mode & 07777);
    if (error < 0) return failed_call("permissions can not be set", -error);
  }
  if (sync_) {
    int error = 0;
    do error = files_.sync(descriptor_);
    while (error == -EINTR);
    if (error < 0 && error != -EINVAL) return failed_call("can not be written", -error);
  }
  const int error = files_.close(descriptor_);
  descriptor_ = -1;  // closed whatever close said
  if (error < 0 && error != -EINTR) return failed_call("can not be written", -error);
  return ok_status();
}

AtomicOutput::AtomicOutput(FileSystem& files, Durability durability)
    : files_(files), sync_(durability == Durability::kFlushed) {}

AtomicOutput::~AtomicOutput() {
  outputs_.clear();
  for (; !folders_.empty(); folders_.pop_back()) {
    if (!committed_) ::rmdir(folders_.back().path.c_str());
    forget_temporary(folders_.back().slot);
  }
}

Result<OutputFile*> AtomicOutput::add(const std::string& path) {
  MCOMPRESS_ASSIGN(std::string destination, resolve_destination(files_, path));
  std::optional<OutputFile::Existing> existing;
  struct stat status = {};
  const int missing = files_.status(destination, status);
  if (missing == 0) {
    if (S_ISDIR(status.st_mode)) {
      return output_error("output-is-folder", "is a folder, not a file", path,
                          "give the name of the file to write");
    }
    if (!S_ISREG(status.st_mode)) {
      return output_error("output-not-regular", "is a device, pipe or socket, not a file", path,
                          "give the name of the file to write");
    }
    existing = OutputFile::Existing{status.st_mode, status.st_uid, status.st_gid};
  } else if (missing != -ENOENT) {
    return failed_output("can not be created", -missing, path);
  }
  for (const auto& other : outputs_) {
    if (other->destination_ == destination) {
      return output_error("output-twice", "is to be written twice by the same command", path);
    }
  }
  outputs_.push_back(std::unique_ptr<OutputFile>(
      new OutputFile(files_, path, std::move(destination), existing, sync_)));
  Status created = outputs_.back()->create();
  if (!created.ok()) {
    outputs_.pop_back();
    return std::move(created).error();
  }
  return outputs_.back().get();
}

Status AtomicOutput::add_folder(const std::string& path) {
  struct stat status = {};
  const int missing = files_.status(path, status);
  if (missing == 0) {
    if (S_ISDIR(status.st_mode)) return ok_status();
    return failed_output("the folder can not be made", EEXIST, path);
  }
  if (missing != -ENOENT) return failed_output("the folder can not be made", -missing, path);
  std::string_view above = path;
  while (above.ends_with('/')) above.remove_suffix(1);
  const std::string parent = folder_of(std::string(above));
  if (parent != "." && parent != "/") MCOMPRESS_TRY(add_folder(parent));
  const CreationPhase phase;
  if (!phase.granted()) return cancelled();
  const int slot = remember_temporary(path);
  const int error = files_.make_folder(path);
  if (error == 0) {
    folders_.push_back({path, slot});
    return ok_status();
  }
  forget_temporary(slot);
  if (error == -EEXIST) return ok_status();
  return failed_output("the folder can not be made", -error, path);
}

Status AtomicOutput::replace(OutputFile& file, bool last) {
  // The last rename can not be followed by a failure, so nothing has to be kept for it.
  struct stat status = {};
  const int missing = last ? -ENOENT : files_.status(file.destination_, status);
  if (missing < 0 && missing != -ENOENT) {
    return file.failed_call("can not be put in place", -missing);
  }
  if (missing == 0) {
    std::string backup = hidden_name(file.destination_, ".old");
    int error = files_.link(file.destination_, backup);
    if (error < 0) error = files_.rename(file.destination_, backup);  // no hard links here
    if (error < 0) return file.failed_call("can not be replaced", -error);
    file.backup_ = std::move(backup);
  }
  const int error = files_.rename(file.temporary_, file.destination_);
  if (error < 0) return file.failed_call("can not be put in place", -error);
  file.renamed_ = true;
  return ok_status();
}

void AtomicOutput::put_back(OutputFile& file) {
  if (!file.backup_.empty()) {
    // Renaming one of two links to the same file to the other does nothing, so the backup may
    // still be there afterwards.
    if (files_.rename(file.backup_, file.destination_) == 0) files_.unlink(file.backup_);
    file.backup_.clear();
  } else if (file.renamed_) {
    files_.unlink(file.destination_);
  }
}

Status AtomicOutput::commit() {
  if (committed_) {
    return Error(Code::kInternal, "committed-twice", "an output was committed twice");
  }
  for (const auto& file : outputs_) MCOMPRESS_TRY(file->finish());
  {
    const RenamePhase phase;
    if (!phase.granted()) return cancelled();
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      Status status = replace(*outputs_[i], i + 1 == outputs_.size());
      if (status.ok()) continue;
      for (std::size_t j = i + 1; j-- > 0;) put_back(*outputs_[j]);
      return status;
    }
    committed_ = true;
    for (const auto& file : outputs_) {
      if (!file->backup_.empty()) files_.unlink(file->backup_);
    }
  }
  if (sync_) {
    std::set<std::string> folders;
    for (const auto& file : outputs_) folders.insert(folder_of(file->destination_));
    for (const std::string& folder : folders) {
      // Some file systems can not flush a folder; the files are complete either way.
      const int descriptor = open_to_read(files_, folder, O_DIRECTORY);
      if (descriptor < 0) continue;
      files_.sync(descriptor);
      files_.close(descriptor);
    }
  }
  return ok_status();
}

}  // namespace mcompress
