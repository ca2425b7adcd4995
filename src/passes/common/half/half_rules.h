// Which operators compute in 16-bit floats without harm, and which stay in float32: by their
// schemas, by what the target has kernels for, by their constants and by the values that were seen.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/pass.h"
#include "passes/common/half/float_storage.h"
#include "passes/common/half/half_masks.h"
#include "passes/common/selection.h"

namespace mcompress {

struct HalfChoice {
  DataType type = DataType::kFloat16;       // or kBfloat16
  double limit = 65504;                     // values seen beyond it keep their nodes in float32
  std::int64_t longest_sum = 256;           // terms of a reduction
  const CalibrationTable* table = nullptr;  // null: nothing was seen
  bool any_kernel = false;                  // also what the target has no kernel for
};

// A node as its schema sees it.
struct HalfForm {
  // Per input and output: it is float32 now, and would be of the 16-bit type.
  std::vector<bool> inputs, outputs;
  bool concerned = false;  // it reads or makes float32 at all
  std::string why_not;     // empty: it has such a form
};
HalfForm half_form(const Node& node, DataType type);

// Moves or selects elements and computes nothing.
bool only_moves(const Node& node);
// Reads numbers of any type alike: Shape, Cast...
bool takes_any_type(const Node& node);
// Worth the casts around it: convolutions, matrix products, recurrent layers, lookups in large
// tables.
bool is_heavy(const Node& node);

class HalfRules {
 public:
  // The arguments have to live as long as it does.
  HalfRules(const Model& model, const HalfChoice& choice, const Target& target,
            const Selection& selection, const Executor& executor);

  // Why a node that has the form stays in float32; empty: it need not. `wide`: its results may not
  // fit into the 16-bit type, so that who reads them stays as well. Fails as reading weights does.
  struct Verdict {
    std::string why;
    bool wide = false;
  };
  Result<Verdict> judge(const Node& node, const HalfForm& form);
  // Whether values were observed, and this one stays within the limit.
  bool seen_to_fit(const Value& value) const;
  const std::vector<HalfMask>& masks() const { return masks_; }

 private:
  std::string why_kernel(const Node& node) const;
  std::string why_operator(const Node& node) const;
  std::string why_sum(const Node& node) const;
  Result<Verdict> judge_constants(const Node& node, const HalfForm& form);
  Verdict judge_ranges(const Node& node, const HalfForm& form) const;
  std::string type_name() const { return dtype_name(choice_.type); }
  bool fits(const Value& value) const;
  void find_tiny_constants(const Model& model);

  HalfChoice choice_;
  const Target& target_;
  const Selection& selection_;
  const Executor& executor_;
  std::vector<HalfMask> masks_;
  std::set<std::uint32_t> masking_;             // constants that are masks, and what they reach
  std::map<std::uint32_t, std::string> tiny_;   // node id -> why
  std::map<std::uint32_t, FloatScan> scanned_;  // constant id
};

}  // namespace mcompress
