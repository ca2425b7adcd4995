// Erases many initializers at once.
#pragma once

#include <span>

#include "mcompress/edit.h"

namespace mcompress {

// As Editor::erase_initializer for each of `values`, which may be of several graphs and are all
// different: but the list of a graph is gone through once, not once per value. Fails, with nothing
// erased, when one of them has uses, is an input, or is no initializer.
Status erase_initializers(Editor& editor, std::span<Value* const> values);

}  // namespace mcompress
