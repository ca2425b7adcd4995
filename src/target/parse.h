#pragma once

#include "mcompress/target.h"

namespace mcompress {

// A target from a map without "extends". Fails with kUsage as Target::from_datum does.
Result<Target> parse_target(const Datum& datum);

}  // namespace mcompress
