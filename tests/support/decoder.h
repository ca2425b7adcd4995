// A small decoder language model, made from a seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mcompress::testing {

struct DecoderForm {
  // past_key_values.N.key/value [batch, 2 heads, past, 32] beside present.N.key/value.
  bool cache = true;
  bool positions = true;          // an input; else counted from the mask
  std::int64_t fixed_length = 0;  // of the token ids, without cache; 0: any
  std::string prefix = {};        // in front of each name of a weight: other weights
};
inline constexpr std::int64_t kDecoderVocabulary = 48;
inline constexpr std::int64_t kDecoderContext = 64;

// Two layers of width 64 with two heads of 32, causal, learned positions; inputs input_ids,
// attention_mask and those of the form; logits [batch, length, 48] first among the outputs.
std::string decoder_bytes(const DecoderForm& form);

// Sequences of that vocabulary with structure: each token follows from the one in front of it two
// times out of three.
std::vector<std::int64_t> decoder_tokens(std::int64_t count, std::uint64_t seed);

}  // namespace mcompress::testing
