// Models that tests share. Each fixture is here for something that other tools get wrong.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress::testing {

struct Fixture {
  std::string name;
  std::string bytes;     // an ONNX model
  bool standard = true;  // passes the ONNX checker: nothing in it is newer than the linked ONNX
};
const std::vector<Fixture>& fixtures();
// The bytes of one; fails the test when there is none of that name.
const std::string& fixture(std::string_view name);

// Models from ONNX text or bytes; a test failure and an empty model when they can not be loaded.
std::unique_ptr<Model> model_from_text(std::string_view text);
std::unique_ptr<Model> model_from_bytes(std::string_view bytes);
std::string bytes_from_text(std::string_view text);

// A chain of Relu and Neg nodes, for complexity.
std::string chain_bytes(std::int64_t nodes);

// The node that makes the value of that name, in the top graph; null when there is none.
Node* maker_of(Model& model, std::string_view value);

// An empty folder that goes away with this object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  // Names of the files in it, sorted.
  std::vector<std::string> list() const;

 private:
  std::filesystem::path path_;
};
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace mcompress::testing
