// Masks of weights in a file: an .npz of boolean arrays named like the weights, as numpy.savez
// writes and reads it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

struct NamedMask {
  std::string name;
  std::vector<std::int64_t> dims;
  std::vector<std::uint8_t> kept;  // a byte per element: 1 stays, 0 goes
};

// The same bytes for the same masks. Appears whole or not at all; fails with kOutput.
Status write_masks(const std::string& path, const std::vector<NamedMask>& masks);

// The masks of the weights `dims` tells of, all of which have to be there, and no others. Nothing
// is read that is larger than its weight. Fails with kInput: unreadable, a name too many or
// missing, another shape, a type other than booleans and bytes of 0 and 1.
Result<std::map<std::string, std::vector<std::uint8_t>>> read_masks(
    const std::string& path, const std::map<std::string, std::vector<std::int64_t>>& dims);

}  // namespace mcompress
