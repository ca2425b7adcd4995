// A map that is walked in the order of insertion.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mcompress {

// Lets string keys be looked up by string_view.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

// Look-up, insertion and replacement in constant time; erasing is linear. Pointers and
// references to entries end with the next insertion or erasure.
template <class Key, class Value>
class OrderedMap {
 public:
  using Entry = std::pair<Key, Value>;
  using View = std::conditional_t<std::is_same_v<Key, std::string>, std::string_view, const Key&>;

  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  bool contains(View key) const { return index_.find(key) != index_.end(); }

  const Value* find(View key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &entries_[found->second].second;
  }
  Value* find(View key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

  // Adds the pair unless the key is there; the flag says whether it was added.
  std::pair<Value*, bool> insert(View key, Value value) {
    if (Value* present = find(key)) return {present, false};
    index_.emplace(Key(key), entries_.size());
    entries_.emplace_back(Key(key), std::move(value));
    return {&entries_.back().second, true};
  }
  // Adds the pair, or replaces the value where the key stands.
  Value& set(View key, Value value) {
    if (Value* present = find(key)) return *present = std::move(value);
    return *insert(key, std::move(value)).first;
  }
  // The value of the key, made by default when missing.
  Value& operator[](View key) {
    if (Value* present = find(key)) return *present;
    return *insert(key, Value()).first;
  }
  bool erase(View key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return false;
    const std::size_t at = found->second;
    index_.erase(found);
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(at));
    for (std::size_t i = at; i < entries_.size(); ++i) index_.find(entries_[i].first)->second = i;
    return true;
  }
  void clear() {
    index_.clear();
    entries_.clear();
  }

 private:
  static constexpr bool kText = std::is_same_v<Key, std::string>;
  using Hash = std::conditional_t<kText, TextHash, std::hash<Key>>;
  using Equal = std::conditional_t<kText, std::equal_to<>, std::equal_to<Key>>;

  std::vector<Entry> entries_;
  std::unordered_map<Key, std::size_t, Hash, Equal> index_;
};

}  // namespace mcompress
