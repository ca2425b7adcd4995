// Text files that list samples.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

struct ListedSamples {
  std::vector<std::vector<std::filesystem::path>> files;  // per input
  Labels labels;                                          // empty: the list has none
};

inline constexpr std::uint64_t kMaxListBytes = 256 << 20;

// Is it the name of a list: .txt, .csv, .tsv or .lst?
bool is_list_name(std::string_view name);

// One sample a line: a file per input, then perhaps a label; separated by tabs, commas, or (in
// front of a number as label) spaces, whichever the first line has. Fields may be quoted as in RFC
// 4180. Empty lines and those that begin with '#' do not count. A first line that names columns
// says which input each column is for (a model of one input: file, path, image or filename) and
// which are labels (label, labels, class). Paths are relative to the folder of the list. Labels
// that are all integers are numbers, else texts. `limit` 0: all. Fails with kInput and names the
// line.
Result<ListedSamples> parse_list(std::string_view text, const std::filesystem::path& list,
                                 std::span<const PortInfo> inputs, std::int64_t limit);

}  // namespace mcompress
