#include <algorithm>

#include "mcompress/pass.h"
#include "support/text.h"

namespace mcompress {

void Explain::set_pass(std::string_view name) {
  pass_ = name;
  const auto place = numbers_.find(name);
  number_ =
      place != numbers_.end()
          ? place->second
          : numbers_.emplace(pass_, static_cast<std::uint32_t>(numbers_.size() + 1)).first->second;
}

void Explain::truncate(std::size_t count) {
  all_.resize(count);
  skipped_by_.resize(count);
}

void Explain::chose(Decision decision) {
  decision.pass = pass_;
  decision.applied = true;
  all_.push_back(std::move(decision));
  skipped_by_.push_back(0);
}

void Explain::skipped(Decision decision) {
  decision.pass = pass_;
  decision.applied = false;
  all_.push_back(std::move(decision));
  skipped_by_.push_back(number_);
}

void Explain::forget_skipped(std::string_view pass, std::size_t count) {
  const auto known = numbers_.find(pass);
  if (known == numbers_.end()) return;
  // Numbers only, of what is kept: the decisions of large models are too many to be read again for
  // every pass.
  const auto found = std::find(
      skipped_by_.begin() + static_cast<std::ptrdiff_t>(std::min(count, skipped_by_.size())),
      skipped_by_.end(), known->second);
  auto kept = static_cast<std::size_t>(found - skipped_by_.begin());
  for (std::size_t i = kept; i < all_.size(); ++i) {
    if (skipped_by_[i] == known->second) continue;
    if (i != kept) {
      all_[kept] = std::move(all_[i]);
      skipped_by_[kept] = skipped_by_[i];
    }
    ++kept;
  }
  truncate(kept);
}

void Explain::skipped(const Node& node, std::string why) {
  Decision decision;
  decision.subject = node.label();
  decision.op_type = node.op_type();
  decision.why = std::move(why);
  skipped(std::move(decision));
}

Status PassRegistry::add(PassInfo info) {
  const auto place = std::lower_bound(
      passes_.begin(), passes_.end(), info.name,
      [](const PassInfo& pass, std::string_view name) { return pass.name < name; });
  if (place != passes_.end() && place->name == info.name) {
    return Error(Code::kInternal, "duplicate-pass", "a pass of this name is registered already",
                 {{}, {}, std::string(info.name)});
  }
  passes_.insert(place, std::move(info));
  return ok_status();
}

const PassInfo* PassRegistry::find(std::string_view name) const {
  for (const PassInfo& pass : passes_) {
    if (pass.name == name) return &pass;
  }
  return nullptr;
}

std::string PassRegistry::nearest(std::string_view wrong_name) const {
  std::vector<std::string> names;
  for (const PassInfo& pass : passes_) names.emplace_back(pass.name);
  return mcompress::nearest(wrong_name, names);
}

Error PassRegistry::unknown(std::string_view wrong_name, Location where) const {
  const std::string close = nearest(wrong_name);
  return Error(Code::kUsage, "unknown-pass", "unknown pass '" + std::string(wrong_name) + "'",
               std::move(where),
               close.empty() ? "`mcompress passes` lists them" : "did you mean '" + close + "'?");
}

std::vector<const PassInfo*> PassRegistry::all() const {
  std::vector<const PassInfo*> list;
  for (const PassInfo& pass : passes_) list.push_back(&pass);
  return list;
}

}  // namespace mcompress
