// What a search for scales of channels has found, in the file of a run that may be interrupted
// (RunJournal, stage "awq"): what was seen of the activations, and the choice for each group.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "passes/common/run_journal.h"

namespace mcompress {

// Mean squares by channel, of values by name.
using ChannelEnergies = std::map<std::string, std::vector<double>, std::less<>>;

struct ScaleStep {
  std::uint64_t step = 0;  // of the exponents tried; 0: no scales
  double gain_db = 0;
};

class ScaleJournal {
 public:
  // As RunJournal::open.
  static Result<std::unique_ptr<ScaleJournal>> open(FileSystem& files, const std::string& path,
                                                    std::uint64_t run);

  // Empty: not there yet.
  Result<std::optional<ChannelEnergies>> energies() const;
  Status add_energies(const ChannelEnergies& energies);
  bool holds(std::size_t group) const;
  Result<ScaleStep> read(std::size_t group) const;
  Status add(std::size_t group, const ScaleStep& found);

 private:
  explicit ScaleJournal(std::unique_ptr<RunJournal> journal) : journal_(std::move(journal)) {}
  std::unique_ptr<RunJournal> journal_;
};

}  // namespace mcompress
