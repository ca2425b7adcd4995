// What steps that run samples hold under a memory budget: values of the runs in flight and what is
// kept between them. Models and opened sessions are beside it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "mcompress/pass.h"

namespace mcompress {

// Lets runs in while all that are inside take at most so many bytes; one alone always goes in.
class MemoryGate {
 public:
  explicit MemoryGate(std::uint64_t limit) : limit_(limit) {}

  // Is inside as long as it lives. Waits for others to leave where there is no room.
  class Entry {
   public:
    Entry(MemoryGate& gate, std::uint64_t bytes) : gate_(gate), bytes_(bytes) {
      gate_.enter(bytes);
    }
    ~Entry() { gate_.leave(bytes_); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    MemoryGate& gate_;
    std::uint64_t bytes_;
  };

 private:
  void enter(std::uint64_t bytes);
  void leave(std::uint64_t bytes);

  std::mutex guard_;
  std::condition_variable room_;
  std::uint64_t limit_, inside_ = 0;
};

// `bytes` and a quarter more: what a run of a rounded model may take where one of the float model
// takes `bytes`.
inline std::uint64_t with_room(std::uint64_t bytes) { return bytes + bytes / 4; }
inline std::uint64_t rest_of(std::uint64_t budget, std::uint64_t taken) {
  return budget > taken ? budget - taken : 0;
}

// Under a budget notes what a step holds ("memory-plan"), and warns with both figures where the
// budget is less than the `least` the step can do with ("memory-over-budget"). Without one does
// nothing. `step`: "the choice of ranges".
void tell_memory(PassContext& context, std::string_view step, std::string_view plan,
                 std::uint64_t least);

}  // namespace mcompress
