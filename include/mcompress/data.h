// Samples from files of many kinds: images, raw binaries, lists, several inputs from several
// places.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/language.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

struct SampleOptions : DataOptions {
  // How images become inputs: "resize=256,crop=224,mean=0.5,std=0.5,layout=nchw,channels=rgb,
  // scale=1/255", or the name of a YAML file with these keys. What is not said follows from the
  // shape of the input, with a note.
  std::string preprocess;
  // What a sample of a raw file is: "x=f32[1,3,224,224]". Inputs that are not named take type and
  // shape from the model.
  std::vector<std::string> raw;
  // As many samples of each label; with a limit, so many in all.
  bool balance = false;
  // What the inputs of a language model are; empty: by their names. Those without an array are
  // derived from the token ids where they can be.
  std::vector<LanguageInput> language;
  // Tokens of a sequence that is cut from one long array; 0: the model's own length or 128.
  std::int64_t sequence_length = 0;
  // The token that stands for padding; negative ones always do.
  std::int64_t pad_id = -1;
};

// Where the samples of one input lie; an empty name: of all that no other path is for.
struct DataPath {
  std::string input;
  std::filesystem::path path;
};

// Opens, on top of what open_data of calibration.h says: a folder of images or of one folder of
// images per class (labels are class numbers in the order of the names, or the names where all are
// numbers; the classes take turns), a raw file or a folder of them, and a text file that lists
// image, .npy or raw files, with labels. Images are JPEG, PNG and BMP. Of images, the kind of every
// file and the whole of the first are checked before anything runs.
//
// For a language model an array of token ids is enough, [samples, length] or one long row that is
// cut into sequences: attention mask, positions, token types and keys and values of earlier tokens
// (none) follow from it, each with a note, unless there is an array for them.
//
// Several paths lie side by side, each for its inputs. They must have the same number of samples;
// labels are those of the first that has any.
//
// Fails with kInput; with kUsage for what is wrong in the options, for an unknown input or one that
// has two paths, and for balancing without labels.
Result<std::unique_ptr<DataSource>> open_data(std::span<const DataPath> paths,
                                              std::span<const PortInfo> inputs,
                                              const SampleOptions& options,
                                              Diagnostics& diagnostics);

}  // namespace mcompress
