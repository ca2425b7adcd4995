// Calibration data of a part that another part makes: what an encoder gives is what its decoder is
// to be calibrated on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "console.h"
#include "mcompress/calibration.h"
#include "mcompress/ir.h"
#include "mcompress/options.h"

namespace mcompress::tools {

// `from` under `data` of a part.
struct PartSource {
  std::size_t part = 0;    // its place in Product::parts, before the one that reads it
  bool compressed = true;  // what its result makes; else what the model did that it was made of
  std::map<std::string, std::string> results;  // output -> input, where they differ in name
  Datum given;                                 // as it was written
};

// Samples of one model out of another's: `maker` is run on each sample of `samples`, and its
// outputs are the inputs of `reader` of the same names, of those that `results` gives them, or,
// where it has one output and one input is left, this one. What the maker does not make comes from
// `rest` (may be null), sample by sample beside it. Results are kept in memory as far as they have
// up to 256 MiB together; others are made anew each time. Fails with kInput where an input is left
// without samples, counts differ, or type or shape of an output do not fit; with kUsage for a name
// in `results` that is none.
struct MadeSamples {
  std::string part;  // the maker's name, for messages
  std::unique_ptr<Model> maker;
  std::unique_ptr<DataSource> samples, rest;
  std::map<std::string, std::string> results;
  int threads = 1;
};
Result<std::unique_ptr<DataSource>> open_made_samples(MadeSamples made, const Model& reader);

// Which output of `maker` each input of `reader` is, as output -> input; as above.
Result<std::map<std::string, std::string>> results_for(
    const Model& maker, const Model& reader, const std::map<std::string, std::string>& named,
    const std::string& part);

}  // namespace mcompress::tools
