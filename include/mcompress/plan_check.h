// What the decisions of a run are about, as a plan lists them, and whether a run did what a plan
// asked for.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/pass.h"
#include "mcompress/plan.h"
#include "mcompress/status.h"

namespace mcompress {

class OnlyPatterns;

// A tensor or a node that a plan may name.
struct PlanSubject {
  std::string tensor;   // empty: a node without weights
  std::string node;     // label of the first reader
  std::string op_type;  // of it
  std::optional<std::vector<std::int64_t>> shape;
  std::uint64_t bytes = 0;
  std::size_t order = 0;  // of the reader in the graph, then of the tensor among its inputs
  std::string pattern;    // that `include` and `exclude` match with it alone; empty: there is none
};

// The tensors and nodes of a model as the first deciding pass of a recipe finds them: cleaning
// passes fuse some and rename others.
class PlanSubjects {
 public:
  // Runs what stands before that pass on a copy. Fails as the passes do.
  static Result<PlanSubjects> find(const Model& model, const Recipe& recipe,
                                   const Services& services);

  // By name of a tensor, else by label of a node; null: there is none.
  const PlanSubject* find(std::string_view name) const;
  // The tensor with these bytes that a node reads; null: there is none.
  const PlanSubject* weight_of(std::string_view node, std::uint64_t bytes) const;
  // The longest name of a tensor that the name begins with: what "fc.weight_codes" was made of.
  const PlanSubject* made_of(std::string_view name) const;
  std::string pattern_of(const PlannedDecision& decision) const;
  // Of all tensors, and of nodes where their weights go by the node's name.
  std::vector<std::string> names() const;

 private:
  void add(const Graph& graph, std::map<std::string, int, std::less<>>& names, OnlyPatterns& only);
  std::map<std::string, PlanSubject, std::less<>> tensors_, nodes_;
  std::map<std::string, std::vector<std::string>, std::less<>> weights_;  // by node
};

// One decision per tensor and pass that worked on it, or one that it is kept, in graph order. The
// options are those by which a pass tells tensors apart: read off what it says it did.
std::vector<PlannedDecision> planned_decisions(const Explain& explain, const Recipe& recipe,
                                               const PassRegistry& registry,
                                               const PlanSubjects& subjects);

// Fails with kUsage at a decision about a tensor that the model does not have, with the nearest
// name.
Status check_subjects(const Plan& plan, const PlanSubjects& subjects);

// Fails with kUnsupported at the first decision that a run did not carry out as asked, with the
// reason that the pass gave, and at one that it made though no line asks for it. `recipe`: what
// ran.
Status check_decisions(const Plan& asked, const Explain& made, const Recipe& recipe,
                       const PassRegistry& registry, const PlanSubjects& subjects);

}  // namespace mcompress
