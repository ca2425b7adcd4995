// The peak memory of work done in a process of its own: peaks never go down.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mcompress::testing {

// Starts this test binary again for one (disabled) test of it, with these variables, "NAME=text",
// in its environment, and returns the peak bytes of that process; 0 where it failed.
std::uint64_t peak_of_test(const std::string& test, std::vector<std::string> variables);

}  // namespace mcompress::testing
