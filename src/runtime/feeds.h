// Checks what a caller feeds before the runtime sees it, so that errors name inputs and not
// kernels.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// Feeds for a model whose inputs were converted: float32 tensors for inputs of 16-bit floats are
// rounded to them, half to even. Empty: there are none. Fails as reading tensors does.
Result<std::vector<NamedTensor>> narrowed_feeds(std::span<const PortInfo> inputs,
                                                std::span<const NamedTensor> feeds);

// Every input fed exactly once with its type and a shape it accepts; nothing unknown.
// `overridable` are initializers that a caller may feed. Fails with kInput, for string tensors
// with kUnsupported.
Status check_feeds(std::span<const PortInfo> inputs, std::span<const PortInfo> overridable,
                   std::span<const NamedTensor> feeds);

// Every name is one of `outputs`.
Status check_fetch(std::span<const PortInfo> outputs, std::span<const std::string> fetch);

// "float32[1,3,?,width]"
std::string port_type_text(const TypeInfo& type);

}  // namespace mcompress
