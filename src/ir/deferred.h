// Large results that are computed where they are needed instead of being kept until then: a model
// whose weights are all rescaled is then written once, not first to a spill file and then from it.
#pragma once

#include <cstdint>
#include <vector>

#include "mcompress/tensor.h"

namespace mcompress {

class Executor;

// As TensorFactory::make with a filler that may be called for any range, any number of times, also
// at the same time, with the same outcome; ranges start at a multiple of 64 bytes and end at one or
// at the end. What it reads has to live as long as it does. A tensor that `tensors` would spill is
// computed once, to find out whether that fails, and not kept: its bytes are computed again where
// up to 4 MiB of them are looked at (written, hashed, read as numbers), and go to a spill file when
// more is wanted at once.
// Memory: 4 MiB a thread, 32 MiB at most.
Result<Tensor> defer_tensor(TensorFactory& tensors, const Executor& executor, DataType dtype,
                            std::vector<std::int64_t> dims, TensorFactory::FillFn fill);

// Whether reading a part of it means computing it.
bool is_computed(const Storage& storage);

}  // namespace mcompress
