// One array of calibration or evaluation data, read a few rows at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "calibration/npy.h"
#include "calibration/npz.h"
#include "mcompress/tensor.h"
#include "support/hash.h"

namespace mcompress {

class NpyArray {
 public:
  // Reads the header. The source must hold exactly what the header announces; nothing is allocated
  // for elements.
  static Result<NpyArray> open(std::unique_ptr<ByteSource> source, std::uint64_t max_bytes);

  // An array over a source that has no header of its own. `header` describes all of it.
  static NpyArray over(std::unique_ptr<ByteSource> source, NpyHeader header);

  const NpyHeader& header() const { return header_; }
  // Other axes for the first product(shape) elements; what is behind them is not part of the array
  // any more. There must be so many. Before anything is read.
  void reshape(std::vector<std::int64_t> shape);
  // "float32 [48, 3, 224, 224]".
  std::string type_text() const;

  // The elements at [offset, offset + out.size()) bytes, little-endian. Offsets and sizes are
  // multiples of the element's.
  Status read(std::uint64_t offset, std::span<std::byte> out);

  // Digest of the element type, the shape and the first `bytes` bytes of elements. What was read in
  // order so far is not read again.
  Result<std::uint64_t> digest(std::uint64_t bytes);

 private:
  NpyHeader header_;
  std::unique_ptr<ByteSource> source_;
  Hasher hasher_;
  std::uint64_t hashed_ = 0;
};

// "[48, 3, 224, 224]".
std::string shape_text(std::span<const std::int64_t> dims);

// The texts of the first `count` elements as UTF-8. Fails when the array holds no text, or
// characters that Unicode does not have.
Result<std::vector<std::string>> read_texts(NpyArray& array, std::int64_t count);
// The first `count` rows of an integer or boolean array.
Result<Tensor> read_rows(NpyArray& array, std::int64_t count);
// The only element of an array, as a double.
Result<double> read_number(NpyArray& array);

}  // namespace mcompress
