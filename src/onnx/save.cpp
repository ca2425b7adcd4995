#include <filesystem>
#include <utility>

#include "mcompress/archive.h"
#include "mcompress/io.h"
#include "mcompress/notes.h"
#include "onnx/archive.h"
#include "onnx/external_data.h"
#include "onnx/load.h"
#include "onnx/notes.h"
#include "onnx/proto.h"
#include "onnx/skeleton.h"
#include "onnx/wire.h"
#include "support/try.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;

Result<wire::Rope> to_rope(const ModelSkeleton& skeleton) {
  MCOMPRESS_ASSIGN(const std::string bytes, serialise(skeleton.proto));
  return wire::inflate(bytes, wire::Root::kModel, skeleton.payloads.storages);
}

bool same_file(const fs::path& one, const fs::path& other) {
  std::error_code error;
  return fs::equivalent(one, other, error) && !error;
}

// Bytes that would still be in the model file if only initializers went to a data file.
std::uint64_t bytes_without_initializers(ModelSkeleton& skeleton, std::uint64_t inline_bytes) {
  std::uint64_t movable = 0;
  (void)for_each_tensor(skeleton.proto, [&](onnx::TensorProto& tensor, TensorPlace place) {
    const auto payload = wire::placeholder_payload(tensor.raw_data());
    if (payload && (place == TensorPlace::kInitializer || skeleton.payloads.external[*payload])) {
      movable += skeleton.payloads.storages[*payload]->size();
    }
    return ok_status();
  });
  return inline_bytes - std::min(inline_bytes, movable);
}

// A model written beside the one it was made from must not take that one's weights away.
Status refuse_data_of_input(const Model& model, const fs::path& path, const std::string& data) {
  const ParsedModel* parsed = parsed_model(model);
  if (parsed == nullptr || same_file(path, model.source())) return ok_status();
  for (const DataFile& file : parsed->data_files) {
    if (!same_file(file.file->path(), data)) continue;
    return Error(Code::kOutput, "data-file-in-use",
                 "the data file this model would get holds the weights of the input '" +
                     model.source().string() + "'",
                 {data, {}, {}}, "choose another name for the output");
  }
  return ok_status();
}

// `inline_bytes`: of the model as one file. Padding and places of tensors in a data file are no
// growth of the model.
Status refuse_larger(const SavedModel& saved, std::uint64_t inline_bytes,
                     const SaveOptions& options, const fs::path& path) {
  if (options.allow_larger || options.original_bytes == 0 ||
      std::min(saved.total(), inline_bytes) <= options.original_bytes + options.added_bytes) {
    return ok_status();
  }
  return Error(Code::kOutput, "larger-than-input",
               "the result has " + std::to_string(saved.total()) + " bytes, the input " +
                   std::to_string(options.original_bytes),
               {path.string(), {}, {}}, "nothing was written; --allow-larger writes it anyway");
}

// Where a model and its companion go: files of their own, or those of a set.
class Destination {
 public:
  Destination(FileSystem& files, const Companion& companion) : own_(files), companion_(companion) {}

  AtomicOutput& output() {
    return companion_.outputs != nullptr ? companion_.outputs->output() : own_;
  }
  // What was added to a set can not be taken out again: objections come first.
  Status before(const SavedModel& saved) {
    return companion_.outputs != nullptr ? ask(saved) : ok_status();
  }
  Status after(const SavedModel& saved) {
    if (companion_.outputs == nullptr) MCOMPRESS_TRY(ask(saved));
    if (companion_.text && !companion_.path.empty()) {
      MCOMPRESS_ASSIGN(OutputFile* const file, output().add(companion_.path.string()));
      MCOMPRESS_TRY(file->write(text_));
      if (companion_.outputs != nullptr) MCOMPRESS_TRY(file->finish());
    }
    return companion_.outputs != nullptr ? ok_status() : own_.commit();
  }

 private:
  Status ask(const SavedModel& saved) {
    if (!companion_.text) return ok_status();
    MCOMPRESS_ASSIGN(text_, companion_.text(saved));
    return ok_status();
  }

  AtomicOutput own_;
  const Companion& companion_;
  std::string text_;
};

}  // namespace

Result<SavedModel> save_model(FileSystem& files, const Model& model, const fs::path& path,
                              const SaveOptions& options, Progress& progress,
                              const Companion& companion) {
  MCOMPRESS_ASSIGN(ModelSkeleton skeleton, build_skeleton(model));
  const std::uint64_t notes = notes_of(skeleton.proto, options.strip_notes);
  MCOMPRESS_ASSIGN(wire::Rope rope, to_rope(skeleton));
  using External = SaveOptions::External;
  const std::uint64_t inline_bytes = rope.size;
  const bool external = options.external == External::kAlways ||
                        (options.external == External::kAuto &&
                         (model.had_external_data() || rope.size > options.inline_limit));
  const std::string data_path = path.string() + ".data";
  DataLayout layout;
  if (external) {
    LayoutOptions wanted;
    wanted.location = file_name_of(data_path);
    wanted.threshold = options.external_threshold;
    wanted.alignment = options.alignment;
    wanted.attributes_too = bytes_without_initializers(skeleton, rope.size) > options.inline_limit;
    MCOMPRESS_ASSIGN(layout, externalise(skeleton.proto, skeleton.payloads, wanted));
    MCOMPRESS_ASSIGN(rope, to_rope(skeleton));
  }
  if (rope.size > wire::kMaxMessageBytes) {
    return Error(Code::kOutput, "model-too-large",
                 "the model file would have " + std::to_string(rope.size) + " bytes, but at most " +
                     std::to_string(wire::kMaxMessageBytes) + " can be read back",
                 {path.string(), {}, {}}, "let large tensors be stored in a data file");
  }
  SavedModel saved;
  saved.model_bytes = rope.size;
  saved.data_bytes = layout.size;
  saved.note_bytes = options.strip_notes ? 0 : notes;
  MCOMPRESS_TRY(refuse_larger(saved, inline_bytes, options, path));
  if (!layout.empty()) MCOMPRESS_TRY(refuse_data_of_input(model, path, data_path));

  Destination destination(files, companion);
  MCOMPRESS_TRY(destination.before(saved));
  AtomicOutput& output = destination.output();
  WriteMeter meter(progress, saved.total());
  if (!layout.empty()) {
    MCOMPRESS_ASSIGN(OutputFile * data, output.add(data_path));
    MCOMPRESS_TRY(write_layout(layout, *data, meter));
    MCOMPRESS_TRY(data->finish());
  }
  MCOMPRESS_ASSIGN(OutputFile * file, output.add(path.string()));
  MCOMPRESS_TRY(write_rope(rope, *file, meter));
  MCOMPRESS_TRY(file->finish());
  MCOMPRESS_TRY(destination.after(saved));
  return saved;
}

Result<SavedModel> save_model(const Model& model, const fs::path& path, const SaveOptions& options,
                              Progress& progress) {
  return save_model(real_files(), model, path, options, progress);
}

Result<SavedModel> save_model(const Model& model, const fs::path& path, const SaveOptions& options,
                              const Companion& companion, Progress& progress) {
  return save_model(real_files(), model, path, options, progress, companion);
}

Result<std::string> save_model_bytes(const Model& model, bool strip_notes) {
  MCOMPRESS_ASSIGN(ModelSkeleton skeleton, build_skeleton(model));
  if (strip_notes) notes_of(skeleton.proto, true);
  MCOMPRESS_ASSIGN(const wire::Rope rope, to_rope(skeleton));
  return wire::flatten(rope);
}

Result<std::uint64_t> note_bytes(const Model& model) {
  MCOMPRESS_ASSIGN(ModelSkeleton skeleton, build_skeleton(model));
  return notes_of(skeleton.proto, false);
}

Result<SavedModel> copy_model(FileSystem& files, const Model& model, const fs::path& path,
                              Progress& progress, const Companion& companion) {
  const ParsedModel* parsed = parsed_model(model);
  if (parsed == nullptr || parsed->file == nullptr) {
    return Error(Code::kInternal, "copy-without-file", "only a model loaded from a file is copied",
                 {path.string(), {}, {}});
  }
  MCOMPRESS_ASSIGN(const SavedModel sizes, model_size_on_disk(model));
  WriteMeter meter(progress, sizes.total());
  Destination destination(files, companion);
  MCOMPRESS_TRY(destination.before(sizes));
  AtomicOutput& output = destination.output();
  if (parsed->archive != nullptr) {
    MCOMPRESS_TRY(parsed->archive->unpack(path, output, meter));
    MCOMPRESS_TRY(destination.after(sizes));
    return sizes;
  }
  const auto add = [&](const MappedFile& source, const std::string& target) -> Status {
    if (same_file(source.path(), target)) return ok_status();
    MCOMPRESS_ASSIGN(OutputFile * file, output.add(target));
    const std::uint64_t size = source.bytes().size();
    constexpr std::uint64_t kStep = 64 << 20;
    for (std::uint64_t at = 0; at < size; at += kStep) {
      const std::uint64_t part = std::min(kStep, size - at);
      MCOMPRESS_TRY(file->copy(source, at, part));
      MCOMPRESS_TRY(meter.advance(part));
    }
    return file->finish();
  };
  for (const DataFile& data : parsed->data_files) {
    // The copy names its data as the original does, so it has to stand in the same place.
    const std::string target = join_path(folder_of(path.string()), data.location);
    MCOMPRESS_TRY(output.add_folder(folder_of(target)));
    MCOMPRESS_TRY(add(*data.file, target));
  }
  MCOMPRESS_TRY(add(*parsed->file, path.string()));
  MCOMPRESS_TRY(destination.after(sizes));
  return sizes;
}

Result<SavedModel> copy_model(const Model& model, const fs::path& path, Progress& progress) {
  return copy_model(real_files(), model, path, progress);
}

Result<SavedModel> copy_model(const Model& model, const fs::path& path, const Companion& companion,
                              Progress& progress) {
  return copy_model(real_files(), model, path, progress, companion);
}

OutputSet::OutputSet() : output_(std::make_unique<AtomicOutput>(real_files())) {}
OutputSet::~OutputSet() = default;

Status OutputSet::add_folder(const fs::path& path) { return output_->add_folder(path.string()); }

Status OutputSet::add_text(const fs::path& path, std::string_view text) {
  MCOMPRESS_ASSIGN(OutputFile* const file, output_->add(path.string()));
  MCOMPRESS_TRY(file->write(text));
  return file->finish();
}

Status OutputSet::commit() { return output_->commit(); }

Status write_files(std::span<const TextFile> texts) {
  AtomicOutput output(real_files());
  for (const TextFile& text : texts) {
    MCOMPRESS_ASSIGN(OutputFile* const file, output.add(text.path.string()));
    MCOMPRESS_TRY(file->write(text.text));
  }
  return output.commit();
}

Result<SavedModel> model_size_on_disk(const Model& model) {
  SavedModel sizes;
  const ParsedModel* parsed = parsed_model(model);
  if (parsed == nullptr || parsed->file == nullptr) {
    MCOMPRESS_ASSIGN(const ModelSkeleton skeleton, build_skeleton(model));
    MCOMPRESS_ASSIGN(const wire::Rope rope, to_rope(skeleton));
    sizes.model_bytes = rope.size;
    return sizes;
  }
  if (parsed->archive != nullptr) return parsed->archive->unpacked_size();
  sizes.model_bytes = parsed->file->bytes().size();
  for (const DataFile& data : parsed->data_files) sizes.data_bytes += data.file->bytes().size();
  return sizes;
}

}  // namespace mcompress
