// The target a command works for: built in, or a file of the user's own.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "mcompress/status.h"
#include "mcompress/target.h"

namespace mcompress::tools {

class TargetChoice {
 public:
  // `text` is a name, or a file that ends in .json, .yaml or .yml. Fails with kUsage.
  static Result<TargetChoice> of(const std::string& text, std::string_view flag = "--target");

  const Target& target() const { return own_ != nullptr ? *own_ : *builtin_; }
  bool is_own() const { return own_ != nullptr; }
  // "my-npu 0123456789abcdef": the name and a digest of all that the target says.
  std::string stamp() const;

 private:
  std::shared_ptr<const Target> own_;
  const Target* builtin_ = nullptr;
};

}  // namespace mcompress::tools
