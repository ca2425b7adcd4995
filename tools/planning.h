// Plans as commands make and read them.
#pragma once

#include <memory>
#include <string>

#include "compress.h"
#include "mcompress/plan.h"
#include "mcompress/plan_check.h"

namespace mcompress::tools {

// Reads a plan. Fails with kUsage at line and column, or with kInput when the file can not be read.
Result<Plan> read_plan(const std::string& path, Console& console);

// Makes the job note down what it decides: `plan` is filled when the run succeeds. `plan` has to
// outlive the job.
void note_decisions(Job& job, Plan& plan);

// Which model a plan is for. Tensors that are there alike may belong to another one.
enum class PlanModel : std::uint8_t { kSame, kOther };

// Makes the job carry out `plan` and fail where a decision does not hold. `file`: the plan's, for
// messages. Recipe, target and seed are the plan's.
void carry_out(Job& job, Plan plan, const std::string& file, PlanModel model, Console& console);

}  // namespace mcompress::tools
