#include <algorithm>

#include "mcompress/pass.h"
#include "support/text.h"

namespace mcompress {

void Explain::chose(Decision decision) {
  decision.pass = pass_;
  decision.applied = true;
  all_.push_back(std::move(decision));
}

void Explain::skipped(Decision decision) {
  decision.pass = pass_;
  decision.applied = false;
  all_.push_back(std::move(decision));
}

void Explain::forget_skipped(std::string_view pass, std::size_t count) {
  const auto first = all_.begin() + static_cast<std::ptrdiff_t>(std::min(count, all_.size()));
  all_.erase(std::remove_if(first, all_.end(),
                            [&](const Decision& decision) {
                              return !decision.applied && decision.pass == pass;
                            }),
             all_.end());
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
