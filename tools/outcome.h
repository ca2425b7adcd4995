// What a run did to the weights, summed up from its decisions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "console.h"
#include "mcompress/evaluate.h"
#include "mcompress/executed.h"
#include "mcompress/pass.h"
#include "mcompress/pipeline.h"
#include "mcompress/report.h"

namespace mcompress::tools {

struct Coverage {
  std::uint64_t weights = 0, of_weights = 0;  // compressed, seen
  std::uint64_t bytes = 0, of_bytes = 0;
  struct Group {
    std::string why, example;
    std::uint64_t count = 0, bytes = 0;
  };
  std::vector<Group> skipped;  // most bytes first
};

// Reasons that differ in numbers and quoted names only have the same key.
std::string reason_key(const std::string& why);
// Is a pass one whose work is to make weights smaller? Their names start alike.
bool compresses_weights(std::string_view pass);
// Of decisions about weights: the last word on each tensor counts.
Coverage coverage_of(const Explain& explain);
// Nodes that go on computing in float32, whatever became of their weights, grouped by reason.
std::vector<Coverage::Group> kept_in_float(const Explain& explain);
// "fuse-batchnorm 13, eliminate-identity 2": what the cleaning passes did.
std::string applied_text(const Explain& explain);
// "12 of 14 weights, 690.1 kB of 694.2 kB", then a line per reason.
std::string coverage_text(const Coverage& coverage, bool all_reasons);
std::string reasons_text(const std::vector<Coverage::Group>& groups, std::size_t most);
Error larger_than_input(std::uint64_t result_bytes, std::uint64_t input_bytes);
// "nothing was compressed: ", and why: by the first reason, or by what the passes look for.
std::string nothing_compressed(const Coverage& coverage, const Recipe& recipe);
void add_coverage(const Coverage& coverage, ReportScope& scope);
void add_decisions(const Explain& explain, ReportScope& scope);
// "12 of 12 planned nodes run in integers: QLinearConv 9, ...", then a line per node that does not.
std::string kernels_text(const IntegerKernels& kernels, bool all);
void add_kernels(const IntegerKernels& kernels, ReportScope& scope);
// As "latency", before and after.
void add_latency(std::span<const BenchTimes> times, ReportScope& report);
// All decisions as a table: tensor, form, SQNR, bytes, reason.
Table decision_table(const Explain& explain);
// The steps that passes reported (the lists "steps" of a report's "passes"): runs of the model,
// seconds, and the signal to noise ratio of the model's outputs where it was measured.
Table steps_table(const ReportScope& root);

// Outputs that are far from the original's.
Diagnostics warnings_about(const Comparison& comparison);

// Of a report's facts. Inference only notes types that are not written: it does not count.
std::size_t passes_that_changed(const Datum& facts);

// The error as one of the runtime at hand, which may not know the result's operators yet.
Error not_known_to_runtime(Error error);
// A result that fails a check is a defect of this program.
Status sound_or_ours(Status status);

}  // namespace mcompress::tools
