// Raw binary files: elements one after another, little-endian, nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calibration/npy_array.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// What one sample of a raw file is.
struct RawLayout {
  DataType dtype = DataType::kUndefined;
  std::vector<std::int64_t> dims;
  bool given = false;  // by the user, not taken from the model
};

using RawLayouts = std::map<std::string, RawLayout, std::less<>>;  // by input

// Is it the name of a raw file: .bin, .raw or .dat?
bool is_raw_name(std::string_view name);

// "name=f32[1,3,224,224]" each; one without "name=" is meant for a model of one input. A
// specification that was split at its commas is joined again. Inputs of known shape (the batch axis
// may be free: one sample) that none is given for take type and shape from the model. Fails with
// kUsage.
Result<RawLayouts> raw_layouts(const std::vector<std::string>& specifications,
                               std::span<const PortInfo> inputs);

// The specifications that are for these inputs.
std::vector<std::string> raw_for(const std::vector<std::string>& specifications,
                                 std::span<const PortInfo> inputs);

// An array over a raw file. `one_sample`: the file holds exactly one, and the array has its shape;
// else one or more, along axis 0 where the sample has the rank of the input, before it otherwise.
// Fails (kInput) when the size is no multiple of the sample's.
Result<NpyArray> open_raw(std::unique_ptr<ByteSource> bytes, const RawLayout& layout,
                          const PortInfo& port, bool one_sample, std::uint64_t max_bytes);

}  // namespace mcompress
