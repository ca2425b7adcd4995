// To which node of a model a kernel of the runtime's profile belongs.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace mcompress {

// Whether kernels of that operator hold others, which have entries of their own in the profile.
bool holds_kernels(std::string_view op_type);

// The runtime names its kernels after nodes or values of the model, with things added:
// "/a/Conv_token_3", "fused /a/Relu", "/Relu_output_0_nchwc". What `places` has for the longest of
// its names within `kernel`; empty: none is.
std::optional<std::size_t> place_of_kernel(
    const std::map<std::string, std::size_t, std::less<>>& places, std::string_view kernel);

}  // namespace mcompress
