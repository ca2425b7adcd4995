// What a search found, for people and for programs.
#pragma once

#include <cstdint>
#include <string>

#include "console.h"
#include "mcompress/search.h"

namespace mcompress::tools {

struct SearchFacts {
  std::string metric;  // "top1"; empty: nothing was evaluated
  std::uint64_t input_bytes = 0;
};

// The Pareto front, one row per point, from the fewest bytes; the best marked.
Table front_table(const SearchOptions& options, const SearchOutcome& outcome,
                  const SearchFacts& facts);
// Each layer of a point: its form, bytes, and what the form alone does.
Table choice_table(const SearchOptions& options, const SearchOutcome& outcome,
                   const SearchPoint& point);
// "41.2 of 60 evaluations: ...".
std::string effort_text(const SearchOptions& options, const SearchOutcome& outcome);
// kGateMissed: what is nearest to the limits, and how far off.
Error missed_error(const SearchOptions& options, const SearchOutcome& outcome,
                   const SearchFacts& facts);
// {"schema": "mcompress-search", limits, effort, "points": [..]}; `layers`: with what each form
// does to each layer.
Datum front_datum(const SearchOptions& options, const SearchOutcome& outcome,
                  const SearchFacts& facts, bool layers);

}  // namespace mcompress::tools
