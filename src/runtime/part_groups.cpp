#include "runtime/part_groups.h"

#include <algorithm>
#include <deque>
#include <unordered_set>
#include <utility>

namespace mcompress {
namespace {

// Larger sessions gain nothing more, and are opened in vain when one part of them can not run.
constexpr std::size_t kMostParts = 256;
constexpr std::size_t kMostNodes = 4096;
// Neighbours read each other, so several groups are filled in turn.
constexpr std::size_t kFilledInTurn = 8;

class Group {
 public:
  bool takes(const PartNeeds& part) const {
    if (places_.size() >= kMostParts || nodes_ + part.nodes.size() > kMostNodes) return false;
    if (std::ranges::any_of(part.feeds, [&](const Value* feed) { return made_.contains(feed); })) {
      return false;
    }
    return std::ranges::none_of(part.nodes, [&](const Node* node) {
      return std::ranges::any_of(node->outputs(),
                                 [&](const Value* value) { return fed_.contains(value); });
    });
  }

  void add(std::size_t place, const PartNeeds& part) {
    places_.push_back(place);
    nodes_ += part.nodes.size();
    fed_.insert(part.feeds.begin(), part.feeds.end());
    for (const Node* node : part.nodes) {
      for (const Value* value : node->outputs()) {
        if (value != nullptr) made_.insert(value);
      }
    }
  }

  std::vector<std::size_t> places() && { return std::move(places_); }

 private:
  std::vector<std::size_t> places_;
  std::size_t nodes_ = 0;
  std::unordered_set<const Value*> fed_, made_;
};

}  // namespace

std::vector<std::vector<std::size_t>> groups_of_parts(std::span<const PartNeeds> parts) {
  std::vector<std::vector<std::size_t>> done;
  std::deque<Group> open;
  for (std::size_t place = 0; place < parts.size(); ++place) {
    auto group =
        std::ranges::find_if(open, [&](const Group& one) { return one.takes(parts[place]); });
    if (group == open.end()) {
      if (open.size() == kFilledInTurn) {
        done.push_back(std::move(open.front()).places());
        open.pop_front();
      }
      group = open.emplace(open.end());
    }
    group->add(place, parts[place]);
  }
  for (Group& group : open) done.push_back(std::move(group).places());
  return done;
}

}  // namespace mcompress
