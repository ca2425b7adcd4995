// How one array or file becomes one input of the model: what fits, and the conversion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/dtype.h"
#include "mcompress/status.h"

namespace mcompress {

// x * scale + bias in float32, as images stored as integers want it.
struct Affine {
  float scale = 1.0f, bias = 0.0f;
};

// Conversion of elements from one type to another.
class ElementConversion {
 public:
  // Fails (kInput) where values could change: fractions to integers, and integers to floats without
  // an Affine. Wide integers to narrow ones are checked value by value. Floats to narrower floats
  // are rounded; `note` then says so.
  static Result<ElementConversion> make(DataType from, DataType to,
                                        const std::optional<Affine>& affine, std::string* note);

  bool is_copy() const { return from_ == to_ && !affine_; }
  std::size_t from_bytes() const { return from_bytes_; }
  std::size_t to_bytes() const { return to_bytes_; }
  // `in` and `out` hold the same number of elements. Fails when an integer does not fit.
  Status convert(std::span<const std::byte> in, std::span<std::byte> out) const;

 private:
  DataType from_ = DataType::kUndefined, to_ = DataType::kUndefined;
  std::size_t from_bytes_ = 0, to_bytes_ = 0;
  std::optional<Affine> affine_;
};

// "[batch, 3, ?, 224]".
std::string shape_text(const TypeInfo& type);

// Which axes a sample has: all of `dims` but the first (kIndex), or all with the first as batch
// (kSlice). `dims` are those of an array of samples.
enum class RowForm : std::uint8_t { kSlice, kIndex };
// By rank where it is known and `wanted` is kAuto; else the fallback. Fails when the rank fits
// neither form, or not the wanted one.
Result<RowForm> choose_form(const PortInfo& port, std::span<const std::int64_t> dims,
                            Feeding wanted, RowForm fallback);
// Fails, with a hint, unless every fixed dimension of the input equals that of the sample.
// `skip_first`: axis 0 is a batch and is not compared.
Status check_shape(const PortInfo& port, std::span<const std::int64_t> sample, bool skip_first);

}  // namespace mcompress
