#include "passes/common/integer/scale_journal.h"

#include <span>
#include <utility>

#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kEnergies = 0;  // groups stand behind it

}  // namespace

Result<std::unique_ptr<ScaleJournal>> ScaleJournal::open(FileSystem& files, const std::string& path,
                                                         std::uint64_t run) {
  MCOMPRESS_ASSIGN(std::unique_ptr<RunJournal> journal, RunJournal::open(files, path, "awq", run));
  return std::unique_ptr<ScaleJournal>(new ScaleJournal(std::move(journal)));
}

Result<std::optional<ChannelEnergies>> ScaleJournal::energies() const {
  if (!journal_->holds(kEnergies)) return std::optional<ChannelEnergies>();
  MCOMPRESS_ASSIGN(const std::vector<std::byte> bytes, journal_->read(kEnergies));
  JournalReader body(bytes);
  ChannelEnergies energies;
  for (auto left = body.number<std::uint64_t>(); left > 0 && body.good(); --left) {
    std::string name = body.text();
    energies[std::move(name)] = body.list<double>();
  }
  if (!body.complete()) return journal_->changed();
  return std::optional(std::move(energies));
}

Status ScaleJournal::add_energies(const ChannelEnergies& energies) {
  JournalWriter body;
  body.number(std::uint64_t{energies.size()});
  for (const auto& [name, squares] : energies) {
    body.text(name);
    body.list(std::span<const double>(squares));
  }
  return journal_->add(kEnergies, body.take());
}

bool ScaleJournal::holds(std::size_t group) const { return journal_->holds(kEnergies + 1 + group); }

Result<ScaleStep> ScaleJournal::read(std::size_t group) const {
  MCOMPRESS_ASSIGN(const std::vector<std::byte> bytes, journal_->read(kEnergies + 1 + group));
  JournalReader body(bytes);
  ScaleStep found;
  found.step = body.number<std::uint64_t>();
  found.gain_db = body.number<double>();
  if (!body.complete()) return journal_->changed();
  return found;
}

Status ScaleJournal::add(std::size_t group, const ScaleStep& found) {
  JournalWriter body;
  body.number(found.step);
  body.number(found.gain_db);
  return journal_->add(kEnergies + 1 + group, body.take());
}

}  // namespace mcompress
