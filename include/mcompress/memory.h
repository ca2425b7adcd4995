// How a program around the library can keep its memory near what is really used.
#pragma once

namespace mcompress {

// Blocks of 128 KiB and more get pages of their own from now on, which go back to the system when
// they are freed; by itself the allocator (glibc's) keeps up to some blocks per thread in store, so
// that a process holds more than any memory budget counts. For the whole process; costs some time
// where large blocks come and go. Does nothing with other allocators.
void give_memory_back_at_once();

}  // namespace mcompress
