// An allocator that counts: what a session asks for while it runs.
#pragma once

#include "mcompress/runtime.h"
#include "runtime/engine.h"

namespace mcompress {

// Registers the allocator with the environment, once. Sessions that share the environment's
// allocators ("session.use_env_allocators") then use it; the counts are theirs together.
Status register_counting_allocator(const Engine& engine);
// Begins to count anew from what is held now.
void start_counting();
// The peak since then, beyond what was held then.
MemoryUse counted_memory();

}  // namespace mcompress
