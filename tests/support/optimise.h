// The recipe of `mcompress optimize`, run as that command runs it.
#pragma once

#include "mcompress/pipeline.h"

namespace mcompress::testing {

struct Optimised {
  Status status = ok_status();
  Diagnostics diagnostics;
  Explain explain;
  bool changed = false;

  // Passes that the guard took back.
  std::vector<std::string> undone() const;
};

Optimised optimise(Model& model, GuardMode guard);

}  // namespace mcompress::testing
