// Decisions of a run as lines of a plan, and lines of a plan held against the decisions of a run.
#include "mcompress/plan_check.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// The number that stands in front of `what`, and what is behind it.
std::optional<double> number_before(std::string_view text, std::string_view behind) {
  const std::size_t at = text.find(behind);
  if (at == std::string_view::npos) return std::nullopt;
  std::size_t start = at;
  while (start > 0 &&
         std::string_view("0123456789.").find(text[start - 1]) != std::string_view::npos) {
    --start;
  }
  return parse_real(text.substr(start, at - start));
}

bool is_choice(const PassInfo& info, std::string_view option, std::string_view value) {
  for (const OptionSpec& spec : info.options) {
    if (spec.name != option) continue;
    return std::find(spec.choices.begin(), spec.choices.end(), value) != spec.choices.end();
  }
  return false;
}

double rounded(double value, double unit) { return std::round(value / unit) * unit; }

// What a pass says it did to a tensor, as the options that ask for it.
class Observer {
 public:
  Observer(const Decision& decision, const PassInfo& info, const Datum& step)
      : text_(decision.what), info_(info), step_(step) {
    const std::string_view pass = decision.pass;
    if (pass == "cluster-weights") clusters();
    if (pass == "quantize-blocks") blocks();
    if (pass == "quantize-weights") weights();
    if (pass == "cast-float16") floats();
    if (pass == "prune-weights") zeros();
  }

  Datum options() const { return options_; }

 private:
  std::string_view word(std::size_t at) const {
    std::string_view rest = text_.substr(at);
    return rest.substr(0, rest.find_first_of(", "));
  }
  void choice(std::string_view option, std::string_view value) {
    if (is_choice(info_, option, value)) options_.set(option, Datum::string(value));
  }

  void clusters() {
    const auto count = number_before(text_, " clusters");
    if (!count) return;
    const auto number = static_cast<std::int64_t>(*count);
    std::int64_t bits = 0;
    while ((std::int64_t{1} << bits) < number) ++bits;
    if (bits > 0 && std::int64_t{1} << bits == number) {
      options_.set("bits", Datum::integer(bits));
    } else {
      options_.set("clusters", Datum::integer(number));
    }
    if (const auto groups = number_before(text_, " channel groups")) {
      options_.set("groups", Datum::integer(static_cast<std::int64_t>(*groups)));
    }
  }

  void blocks() {
    choice("weights", word(0));
    constexpr std::string_view kBlocks = "blocks of ";
    if (const std::size_t at = text_.find(kBlocks); at != std::string_view::npos) {
      if (const auto size = parse_int(word(at + kBlocks.size()))) {
        options_.set("block-size", Datum::integer(*size));
      }
    } else {
      options_.set("block-size", Datum::integer(0));
    }
    if (const std::size_t at = text_.rfind(", "); at != std::string_view::npos) {
      choice("weight-method", text_.substr(at + 2));
    }
  }

  void weights() {
    if (text_.starts_with("uint8 weights")) choice("scheme", "affine");
    if (text_.starts_with("int8 weights")) choice("scheme", "symmetric");
  }

  void floats() {
    choice("weights", word(0));
    choice("form", text_.find("computed with") != std::string_view::npos ? "compute" : "storage");
  }

  void zeros() {
    const Datum* pattern = step_.find("pattern");
    const bool free = pattern == nullptr || *pattern == Datum::string("unstructured");
    if (!free) options_.set("pattern", *pattern);
    if (const auto share = number_before(text_, " % zeros"); share && free) {
      options_.set("sparsity", Datum::real(rounded(*share, 0.1) / 100));
    }
    if (const std::size_t at = text_.find(", "); at != std::string_view::npos) {
      choice("method", word(at + 2));
    }
    constexpr std::string_view kStored = "stored as ";
    if (const std::size_t at = text_.find(kStored); at != std::string_view::npos) {
      const std::string_view form = word(at + kStored.size());
      choice("storage", form);
      choice("weights", form);
    }
  }

  std::string_view text_;
  const PassInfo& info_;
  const Datum& step_;
  Datum options_ = Datum::map();
};

Datum observed_options(const Decision& decision, const Recipe& recipe,
                       const PassRegistry& registry) {
  const PassInfo* info = registry.find(decision.pass);
  if (info == nullptr) return Datum::map();
  Datum step = Datum::map();
  for (const RecipeStep& one : recipe.steps) {
    if (one.pass == decision.pass) step = info->print(one.options);
  }
  const Datum options = Observer(decision, *info, step).options();
  const Datum printed = info->print(options);
  Datum typed = Datum::map();
  for (const auto& [key, value] : *options.as_map()) {
    const Datum* checked = printed.find(key);
    typed.set(key, checked != nullptr ? *checked : value);
  }
  return typed;
}

// All that was decided about one subject.
struct About {
  std::string name;
  const PlanSubject* subject = nullptr;
  const PlanSubject* made_of = nullptr;
  std::vector<Decision> applied, left;  // a pass each, in the order of the run
};

// Decisions gathered by subject; those about a node whose weight goes by its own name are about
// the weight.
std::vector<About> gather(const Explain& explain, const PlanSubjects& subjects) {
  std::vector<About> all;
  std::map<std::string, std::size_t> places;
  for (const Decision& decision : explain.all()) {
    if (!decides_on_tensors(decision.pass)) continue;
    const PlanSubject* subject = subjects.find(decision.subject);
    if (subject != nullptr && subject->tensor.empty()) {
      const PlanSubject* weight = subjects.weight_of(subject->node, decision.bytes_before);
      if (weight != nullptr) subject = weight;
    }
    const std::string name = subject == nullptr        ? decision.subject
                             : subject->tensor.empty() ? subject->node
                                                       : subject->tensor;
    const auto [place, added] = places.try_emplace(name, all.size());
    if (added) {
      all.push_back({name, subject, nullptr, {}, {}});
      if (subject == nullptr) all.back().made_of = subjects.made_of(name);
    }
    About& about = all[place->second];
    std::vector<Decision>& list = decision.applied ? about.applied : about.left;
    const auto known = std::find_if(list.begin(), list.end(),
                                    [&](const Decision& one) { return one.pass == decision.pass; });
    if (known == list.end()) {
      list.push_back(decision);
    } else if (decision.applied) {
      // One name in two bodies.
      known->bytes_before += decision.bytes_before;
      known->bytes_after += decision.bytes_after;
    } else {
      *known = decision;
    }
  }
  const auto order = [](const About& about) {
    const PlanSubject* subject = about.subject != nullptr ? about.subject : about.made_of;
    return subject != nullptr ? subject->order : ~std::size_t{0};
  };
  std::stable_sort(all.begin(), all.end(), [&](const About& left, const About& right) {
    return order(left) < order(right);
  });
  return all;
}

PlannedDecision line_about(const About& about, const Decision& decision) {
  PlannedDecision line;
  line.planned = true;
  line.op_type = decision.op_type;
  if (about.subject != nullptr) {
    line.tensor = about.subject->tensor;
    line.node = about.subject->node;
    line.op_type = about.subject->op_type;
    line.shape = about.subject->shape;
  } else {
    line.tensor = about.name;
    if (about.made_of != nullptr) line.made_of = about.made_of->tensor;
  }
  line.why = decision.why;
  line.bytes_before = decision.bytes_before;
  line.bytes_after = decision.bytes_after;
  if (decision.sqnr_db) line.sqnr_db = rounded(*decision.sqnr_db * 100, 1) / 100;
  return line;
}

std::string zeros_text(const Datum& share) {
  const auto* real = std::get_if<double>(&share.value());
  return real != nullptr ? fixed(*real * 100, 1) + " %" : option_text(share);
}

// How what was made differs from what was asked; empty: it does not.
std::string difference(const Datum& asked, const Decision& made, const Datum& observed,
                       std::uint64_t elements) {
  const auto clusters = [](const Datum& options) -> std::int64_t {
    if (const Datum* count = options.find("clusters")) {
      const auto* number = std::get_if<std::int64_t>(&count->value());
      if (number != nullptr && *number > 0) return *number;
    }
    const Datum* bits = options.find("bits");
    const auto* number = bits != nullptr ? std::get_if<std::int64_t>(&bits->value()) : nullptr;
    return number != nullptr ? std::int64_t{1} << *number : 0;
  };
  if (made.pass == "cluster-weights") {
    const std::int64_t wanted = clusters(asked), got = clusters(observed);
    // A tensor of fewer numbers needs no more.
    if (wanted == 0 || got <= wanted) return {};
    return std::to_string(wanted) + " clusters are asked for, " + made.what + " came out";
  }
  for (const auto& [key, value] : *asked.as_map()) {
    const Datum* seen = observed.find(key);
    if (seen == nullptr || value == Datum::string("auto") || *seen == value) continue;
    if (key == "sparsity") {
      const auto* wanted = std::get_if<double>(&value.value());
      const auto* got = std::get_if<double>(&seen->value());
      const double grain = elements > 0 ? 1.0 / static_cast<double>(elements) : 0;
      constexpr double kPrinted = 0.0005;
      if (wanted != nullptr && got != nullptr && std::abs(*wanted - *got) <= kPrinted + grain) {
        continue;
      }
      return zeros_text(value) + " of zeros are asked for, " + made.what + " came out";
    }
    if (key == "block-size" && value == Datum::integer(-1)) continue;
    return key + " " + option_text(value) + " is asked for, " + made.what + " came out";
  }
  return {};
}

const Decision* of_pass(const std::vector<Decision>& list, std::string_view pass) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const Decision& one) { return one.pass == pass; });
  return found != list.end() ? &*found : nullptr;
}

class Comparer {
 public:
  Comparer(const Plan& asked, const Explain& made, const Recipe& recipe,
           const PassRegistry& registry, const PlanSubjects& subjects)
      : asked_(asked), recipe_(recipe), registry_(registry), made_(gather(made, subjects)) {
    for (const About& about : made_) by_name_[about.name] = &about;
    for (const PlannedDecision& line : asked.decisions) {
      lines_[line.subject()].push_back(&line);
      if (!line.planned) changed_.insert(line.subject());
    }
  }

  Status run() const {
    for (const PlannedDecision& line : asked_.decisions) MCOMPRESS_TRY(holds(line));
    for (const About& about : made_) MCOMPRESS_TRY(asked_for(about));
    return ok_status();
  }

 private:
  static Error fails(const PlannedDecision& line, std::string why, std::string hint = {}) {
    return Error(Code::kUnsupported, "plan-line-fails", std::move(why), line.where,
                 std::move(hint));
  }

  bool follows_a_change(const std::string& name, const std::string& made_of) const {
    return !made_of.empty() && changed_.count(name) == 0 && changed_.count(made_of) != 0;
  }

  Status holds(const PlannedDecision& line) const {
    if (follows_a_change(line.subject(), line.made_of)) return ok_status();
    const auto place = by_name_.find(line.subject());
    const About* about = place != by_name_.end() ? place->second : nullptr;
    if (line.keep()) {
      if (about == nullptr || about->applied.empty()) return ok_status();
      const Decision& first = about->applied.front();
      return fails(line, "can not be kept: " + first.pass + " made it " + first.what +
                             (first.why.empty() ? "" : "; " + first.why));
    }
    const Datum* sparsity = line.options.find("sparsity");
    const bool no_zeros = sparsity != nullptr && *sparsity == Datum::real(0);
    const Decision* made = about != nullptr ? of_pass(about->applied, line.pass) : nullptr;
    if (made == nullptr) return no_zeros ? ok_status() : why_not(line, about);
    std::uint64_t elements = 0;
    if (line.shape) {
      elements = 1;
      for (const std::int64_t dim : *line.shape) elements *= static_cast<std::uint64_t>(dim);
    }
    const std::string differs =
        difference(line.options, *made, observed_options(*made, recipe_, registry_), elements);
    if (differs.empty()) return ok_status();
    return fails(line, line.pass + " can not do that: " + differs);
  }

  Status why_not(const PlannedDecision& line, const About* about) const {
    const Decision* left = about != nullptr ? of_pass(about->left, line.pass) : nullptr;
    if (left != nullptr) {
      const bool small = left->why.find("elements, below") != std::string::npos ||
                         left->why.find("too few to pay") != std::string::npos;
      return fails(line, line.pass + " leaves it: " + left->why,
                   line.planned ? "a change of other lines brings that about: `do: keep` here "
                                  "agrees to it"
                   : small      ? "options: {min-elements: 1} of this line lets smaller ones in, "
                                  "where the pass can"
                                : "");
    }
    if (about != nullptr && !about->applied.empty()) {
      return fails(line, line.pass + " can not do it: " + about->applied.front().pass +
                             " made it " + about->applied.front().what);
    }
    return fails(line, line.pass + " finds nothing in it that it could work on");
  }

  // No pass did what no line says.
  Status asked_for(const About& about) const {
    const std::string made_of = about.made_of != nullptr ? about.made_of->tensor : std::string();
    if (follows_a_change(about.name, made_of)) return ok_status();
    const auto lines = lines_.find(about.name);
    for (const Decision& decision : about.applied) {
      const bool said =
          lines != lines_.end() &&
          std::any_of(lines->second.begin(), lines->second.end(),
                      [&](const PlannedDecision* line) { return line->pass == decision.pass; });
      if (said) continue;
      if (lines != lines_.end()) {
        return fails(*lines->second.front(),
                     "would also be changed by " + decision.pass + ": " + decision.what);
      }
      Location where;
      if (!asked_.decisions.empty()) {
        const std::string& file = asked_.decisions.front().where.file;
        where.file = file.substr(0, file.find(':'));
      }
      where.subject = about.name;
      return Error(Code::kUnsupported, "plan-says-nothing",
                   "no line is about it, and " + decision.pass + " would make it " + decision.what,
                   where, "add a line with `do: keep`, or with `do: " + decision.pass + "`");
    }
    return ok_status();
  }

  const Plan& asked_;
  const Recipe& recipe_;
  const PassRegistry& registry_;
  std::vector<About> made_;
  std::map<std::string, const About*> by_name_;
  std::map<std::string, std::vector<const PlannedDecision*>> lines_;
  std::set<std::string> changed_;
};

}  // namespace

std::vector<PlannedDecision> planned_decisions(const Explain& explain, const Recipe& recipe,
                                               const PassRegistry& registry,
                                               const PlanSubjects& subjects) {
  std::vector<PlannedDecision> lines;
  for (const About& about : gather(explain, subjects)) {
    if (about.applied.empty()) {
      // What one pass leaves to the next is not decided yet: the last one has the last word.
      PlannedDecision line = line_about(about, about.left.back());
      line.bytes_after = line.bytes_before;
      lines.push_back(std::move(line));
      continue;
    }
    for (const Decision& decision : about.applied) {
      PlannedDecision line = line_about(about, decision);
      line.pass = decision.pass;
      line.form = decision.what;
      line.options = observed_options(decision, recipe, registry);
      if (&decision == &about.applied.front()) {
        for (const Decision& left : about.left) {
          line.why += (line.why.empty() ? "" : "; ") + ("left by " + left.pass) + ": " + left.why;
        }
      }
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

Status check_subjects(const Plan& plan, const PlanSubjects& subjects) {
  for (const PlannedDecision& line : plan.decisions) {
    if (!line.made_of.empty() && subjects.find(line.made_of) != nullptr) continue;
    if (subjects.find(line.subject()) != nullptr) continue;
    // A pass itself gave it a name that nothing in the model has.
    if (line.planned && line.node.empty() && !line.shape) continue;
    const std::string& name = line.made_of.empty() ? line.subject() : line.made_of;
    const std::string close = nearest(name, subjects.names());
    return Error(
        Code::kUsage, "plan-unknown-tensor",
        std::string("the model has no ") + (line.tensor.empty() ? "node" : "tensor") + " '" + name +
            "'",
        {line.where.file, {}, {}},
        close.empty() ? "`mcompress explain MODEL` lists them" : "did you mean '" + close + "'?");
  }
  return ok_status();
}

Status check_decisions(const Plan& asked, const Explain& made, const Recipe& recipe,
                       const PassRegistry& registry, const PlanSubjects& subjects) {
  return Comparer(asked, made, recipe, registry, subjects).run();
}

}  // namespace mcompress
