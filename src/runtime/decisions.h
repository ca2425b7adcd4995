// From output values to decisions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// The values of a result as floats. kUnsupported for types without numeric meaning.
Result<std::vector<float>> view_values(const TensorView& view, std::string_view output);

// Index of the first highest value; NaN never wins; -1 when there is nothing but NaN.
std::int64_t argmax(std::span<const float> values);

// Is the value at `label` among the k highest? Of equal values the first count as higher.
bool among_highest(std::span<const float> values, std::int64_t label, std::int64_t k);

// Greedy CTC: the highest class per step, repeats merged, class 0 dropped.
std::string ctc_text(std::span<const float> steps_by_classes,
                     std::span<const std::string> characters);

std::string without_spaces(std::string_view text);

// UTF-8 into code points; a broken byte counts as one character.
std::u32string code_points(std::string_view text);

// Insertions, deletions and substitutions.
std::size_t levenshtein(std::u32string_view left, std::u32string_view right);

// The class list for an output of `classes` values: blank in front and space behind are added
// when exactly those lack. Fails with kInput.
Result<std::vector<std::string>> fit_characters(std::vector<std::string> characters,
                                                std::size_t classes);

}  // namespace mcompress
