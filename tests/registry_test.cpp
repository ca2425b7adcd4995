// What every pass must satisfy, over all of them and over all fixtures.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "support/json.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// Passes that need data of the model at hand are tried for their options only.
bool runs_on_any_model(std::string_view pass) {
  return pass != "quantize-static" && pass != "prune-blocks";
}

// Passes that fail where they can not do what they are for.
bool may_refuse(std::string_view pass) { return pass == "convert-opset"; }

std::string label(std::string_view pass, const Fixture& fixture) {
  return std::string(pass) + " on " + fixture.name;
}

TEST(Registry, IsSortedAndDescribesItself) {
  const auto passes = builtin_passes().all();
  ASSERT_FALSE(passes.empty());
  std::set<std::string_view> names;
  for (const PassInfo* pass : passes) {
    EXPECT_TRUE(names.insert(pass->name).second) << pass->name;
    EXPECT_TRUE(std::ranges::all_of(pass->name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    })) << pass->name;
    EXPECT_GE(pass->summary.size(), 12u) << pass->name;
    EXPECT_LE(pass->summary.size(), 90u) << pass->name;
    EXPECT_NE(pass->summary.back(), '.') << pass->name;
    for (std::string_view earlier : pass->runs_after) {
      EXPECT_TRUE(earlier == "*" || builtin_passes().find(earlier) != nullptr)
          << pass->name << " after " << earlier;
    }
    for (const OptionSpec& option : pass->options) {
      EXPECT_GE(option.help.size(), 10u) << pass->name << " " << option.name;
      EXPECT_LE(option.help.size(), 160u) << pass->name << " " << option.name;
    }
  }
  EXPECT_TRUE(std::ranges::is_sorted(passes, {}, [](const PassInfo* pass) { return pass->name; }));
}

TEST(Registry, NoTwoPassesMeanOptionsOfOneNameDifferently) {
  std::map<std::string, OptionSpec> seen;
  for (const PassInfo* pass : builtin_passes().all()) {
    for (const OptionSpec& option : pass->options) {
      const auto [place, fresh] = seen.emplace(option.name, option);
      EXPECT_TRUE(fresh || place->second.kind == option.kind) << option.name;
    }
  }
}

TEST(Registry, PrintedDefaultsParseToTheSame) {
  for (const PassInfo* pass : builtin_passes().all()) {
    Diagnostics diagnostics;
    EXPECT_TRUE(pass->create(Datum::map(), diagnostics).ok()) << pass->name;
    const Datum defaults = pass->print(Datum::map());
    // Files that a run writes beside the model are no part of a recipe: the digest would depend on
    // where they lie.
    const auto written = std::ranges::count_if(pass->options, [](const OptionSpec& option) {
      return option.name == "save-mask" || option.name == "curve";
    });
    EXPECT_EQ(defaults.as_map() != nullptr ? defaults.as_map()->size() : 0,
              pass->options.size() - static_cast<std::size_t>(written))
        << pass->name;
    EXPECT_TRUE(pass->create(defaults, diagnostics).ok()) << pass->name;
    EXPECT_EQ(pass->print(defaults), defaults) << pass->name;
    // The same through a file.
    const auto read = parse_json(print_json(defaults), "defaults");
    ASSERT_TRUE(read.ok()) << pass->name;
    EXPECT_EQ(pass->print(*read), defaults) << pass->name;
  }
}

TEST(Registry, WhatIsJustOutsideABoundIsRefused) {
  for (const PassInfo* pass : builtin_passes().all()) {
    for (const OptionSpec& option : pass->options) {
      for (const auto& [bound, direction] :
           {std::pair(option.minimum, -1.0), std::pair(option.maximum, 1.0)}) {
        if (!bound || !std::isfinite(*bound)) continue;
        Datum options = Datum::map();
        if (option.kind == OptionSpec::Kind::kInt) {
          options.set(option.name, Datum::integer(static_cast<std::int64_t>(*bound + direction)));
        } else {
          options.set(option.name, Datum::real(std::nextafter(*bound, direction * HUGE_VAL)));
        }
        Diagnostics diagnostics;
        const auto made = pass->create(options, diagnostics);
        EXPECT_FALSE(made.ok()) << pass->name << " " << option.name;
        if (!made.ok()) {
          EXPECT_EQ(made.error().code, Code::kUsage);
        }
      }
      if (!option.choices.empty()) {
        Datum options = Datum::map();
        options.set(option.name, Datum::string("no-such-choice"));
        Diagnostics diagnostics;
        EXPECT_FALSE(pass->create(options, diagnostics).ok()) << pass->name << " " << option.name;
      }
    }
    Datum unknown = Datum::map();
    unknown.set("no-such-option", Datum::integer(1));
    Diagnostics diagnostics;
    EXPECT_FALSE(pass->create(unknown, diagnostics).ok()) << pass->name;
  }
}

// Verification after each pass is part of the pipeline: a broken graph fails the run.
TEST(Registry, EveryPassLeavesEveryFixtureSound) {
  for (const PassInfo* pass : builtin_passes().all()) {
    if (!runs_on_any_model(pass->name)) continue;
    for (const Fixture& entry : fixtures()) {
      auto model = model_from_bytes(entry.bytes);
      const std::uint64_t before = fingerprint(*model);
      const auto run = run_passes(*model, {std::string(pass->name)});
      if (!run->status.ok() && may_refuse(pass->name) &&
          run->status.error().code == Code::kUnsupported) {
        EXPECT_EQ(fingerprint(*model), before) << label(pass->name, entry);
        continue;
      }
      EXPECT_TRUE(run->status.ok())
          << label(pass->name, entry) << ": " << to_string(run->status.error().diagnostic);
      if (!run->status.ok()) continue;
      // A change of content is a change of revision; types found by inference are neither.
      if (fingerprint(*model) != before) {
        EXPECT_TRUE(run->changed) << label(pass->name, entry);
      }
      if (!run->changed) {
        EXPECT_EQ(fingerprint(*model), before) << label(pass->name, entry);
      }
      if (entry.standard) {
        const Status sound = check_model(*model);
        EXPECT_TRUE(sound.ok()) << label(pass->name, entry) << ": "
                                << to_string(sound.error().diagnostic);
      }
    }
  }
}

TEST(Registry, PassesThatClaimToBeIdempotentAre) {
  for (const PassInfo* pass : builtin_passes().all()) {
    if (!runs_on_any_model(pass->name) || !pass->idempotent) continue;
    for (const Fixture& entry : fixtures()) {
      auto model = model_from_bytes(entry.bytes);
      if (!run_passes(*model, {std::string(pass->name)})->status.ok()) continue;
      const std::string once = dump(*model);
      const auto again = run_passes(*model, {std::string(pass->name)});
      EXPECT_FALSE(again->changed) << label(pass->name, entry);
      EXPECT_EQ(dump(*model), once) << label(pass->name, entry);
    }
  }
}

TEST(Registry, TheSameRunGivesTheSameBytes) {
  for (const PassInfo* pass : builtin_passes().all()) {
    if (!runs_on_any_model(pass->name)) continue;
    for (const Fixture& entry : fixtures()) {
      std::string bytes[2];
      for (std::string& result : bytes) {
        auto model = model_from_bytes(entry.bytes);
        if (!run_passes(*model, {std::string(pass->name)})->status.ok()) continue;
        auto saved = save_model_bytes(*model);
        ASSERT_TRUE(saved.ok());
        result = std::move(*saved);
      }
      EXPECT_EQ(bytes[0], bytes[1]) << label(pass->name, entry);
    }
  }
}

TEST(Registry, EverySkippedDecisionHasAReason) {
  for (const PassInfo* pass : builtin_passes().all()) {
    if (!runs_on_any_model(pass->name)) continue;
    for (const Fixture& entry : fixtures()) {
      auto model = model_from_bytes(entry.bytes);
      const auto run = run_passes(*model, {std::string(pass->name)});
      for (const Decision& decision : run->explain.all()) {
        EXPECT_FALSE(decision.subject.empty()) << label(pass->name, entry);
        EXPECT_EQ(decision.pass, pass->name);
        EXPECT_FALSE(decision.applied ? decision.what.empty() : decision.why.empty())
            << label(pass->name, entry) << ": " << decision.subject;
      }
    }
  }
}

}  // namespace
}  // namespace mcompress::testing
