// How long each layer runs in each form, by the runtime's own profile.
#pragma once

#include "search/space.h"

namespace mcompress {

// Fills SearchEffect::microseconds, and SearchBorder::microseconds of layers side by side. Each
// form is profiled on one sample with all layers that take it in it; a form that computes in
// integers also with every second layer, which has all borders. What a border costs is what these
// take more than their layers. kCancelled on an interruption.
Status measure_times(SearchSpace& space);

}  // namespace mcompress
