// Limits, sketches of outputs, baselines as files, checks and reports of `gate`.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "gate/gate_baseline.h"
#include "gate/gate_checks.h"
#include "gate/gate_limits.h"
#include "mcompress/host.h"
#include "support/arrays.h"

namespace mcompress::tools {
namespace {

std::vector<float> noise(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(random() >> 40U) / static_cast<float>(1 << 23) - 1.0F;
  }
  return values;
}

OutputSketch sketch_of(std::span<const float> values) {
  OutputSketch sketch;
  sketch.add(values);
  return sketch;
}

GateLimits limits_from(std::string_view flag, std::string_view text) {
  Datum map = Datum::map();
  map.set(flag, Datum::text(text, {}));
  GateLimits limits;
  EXPECT_TRUE(limits.read(map, true).ok());
  return limits;
}

Baseline sample() {
  Baseline baseline;
  baseline.made_by = "mcompress 1";
  baseline.runtime = "onnxruntime 1";
  baseline.target = "onnxruntime-cpu";
  baseline.model = {"int8.onnx", "00000000000000aa"};
  baseline.reference = {"model.onnx", "00000000000000bb"};
  baseline.data = {"eval.npz", "00000000000000cc"};
  baseline.samples = 200;
  baseline.recipe_digest = "00000000000000dd";
  baseline.calibration_digest = "00000000000000ee,00000000000000ff";
  baseline.recipe = {"recipe \"a\".yaml", "0000000000000011"};
  baseline.file_bytes = 100'000;
  baseline.weight_bytes = 90'000;
  baseline.planned_bytes = 4'000;
  baseline.measured_bytes = 500'000;
  baseline.operators = {{"Conv", 3}, {"com.microsoft:QGemm", 1}};
  baseline.integers = Baseline::Integers{4, 4, 2, {{"QLinearConv", 3}}, {}};
  Evaluation quality;
  quality.metric = Metric::kTop1;
  quality.output = "y";
  quality.value = 0.95;
  quality.samples = quality.decisions = 200;
  quality.correct = 190;
  quality.agreement = 0.99;
  quality.classes = {{0, 100, 95}, {1, 99, 94}, {7, 1, 1}};
  baseline.quality = quality;
  baseline.output_samples = 32;
  baseline.outputs.push_back({"y", sketch_of(noise(320, 1)), 30.5});
  baseline.layer_samples = 4;
  baseline.layers = {{"conv", 41.25}, {"gemm", 35}};
  baseline.latency_ratio = 0.5;
  return baseline;
}

GateOutcome against_sample(const std::function<void(Baseline&)>& change,
                           const GateLimits& limits = {}) {
  Baseline now = sample();
  change(now);
  return check_gate(sample(), now, limits);
}

std::vector<std::string> missed(const GateOutcome& outcome) {
  std::vector<std::string> ids;
  for (const GateCheck& check : outcome.checks) {
    if (check.verdict == GateCheck::Verdict::kMissed) ids.push_back(check.id);
  }
  return ids;
}

using Ids = std::vector<std::string>;

TEST(GateLimits, AreReadAsTheyAreTyped) {
  const auto value = [](GateLimit limit, std::string_view text) {
    const auto parsed = parse_gate_limit(gate_limit(limit), text, {});
    return parsed.ok() ? *parsed : std::optional<double>(-1);
  };
  EXPECT_DOUBLE_EQ(*value(GateLimit::kBytesGrowth, "2%"), 0.02);
  EXPECT_DOUBLE_EQ(*value(GateLimit::kBytesGrowth, "0.02"), 0.02);
  EXPECT_DOUBLE_EQ(*value(GateLimit::kDrop, "0.5"), 0.5);
  EXPECT_DOUBLE_EQ(*value(GateLimit::kMaxBytes, "4MB"), 4e6);
  EXPECT_EQ(value(GateLimit::kDrop, "off"), std::nullopt);
  for (const std::string_view bad : {"", "-1", "nan", "inf", "1e999", "2 %", "x", "2%"}) {
    EXPECT_EQ(value(GateLimit::kDrop, bad), -1) << bad;
  }
  EXPECT_EQ(value(GateLimit::kIntegerLoss, "0.5"), -1);
  EXPECT_EQ(value(GateLimit::kMaxBytes, "many"), -1);
}

TEST(GateLimits, EveryUsualOneIsWhatItsTextSays) {
  const GateLimits limits;
  for (const GateLimitInfo& info : gate_limits()) {
    EXPECT_EQ(limits.text(info.limit), info.usual) << info.flag;
    EXPECT_EQ(&gate_limit(info.limit), &info);
  }
  // What is written reads back as it was, also where percent have no exact binary form.
  for (const char* text : {"7%", "0.1%", "33%", "off"}) {
    const GateLimits typed = limits_from("max-bytes-growth", text);
    GateLimits again;
    ASSERT_TRUE(again.read(typed.to_datum(), false).ok());
    EXPECT_EQ(again.text(GateLimit::kBytesGrowth), text);
    EXPECT_EQ(again.get(GateLimit::kBytesGrowth), typed.get(GateLimit::kBytesGrowth));
    EXPECT_FALSE(again.by_flag(GateLimit::kBytesGrowth));
  }
}

TEST(GateLimits, UnknownNamesGetTheNearest) {
  Datum map = Datum::map();
  map.set("max-dorp", Datum::string("1"));
  GateLimits limits;
  const Status status = limits.read(map, false);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kInput);
  EXPECT_NE(status.error().diagnostic.hint.find("max-drop"), std::string::npos);
}

TEST(OutputSketch, TellsTheErrorOfOutputsThatAreGone) {
  const std::vector<float> before = noise(20'000, 3);
  for (const double share : {0.3, 0.1, 0.01, 0.001}) {
    for (const std::uint64_t seed : {11U, 12U, 13U, 14U}) {
      const std::vector<float> moved = noise(before.size(), seed);
      std::vector<float> after = before;
      double signal = 0, error = 0;
      for (std::size_t i = 0; i < before.size(); ++i) {
        after[i] += static_cast<float>(share) * moved[i];
        signal += std::pow(double{before[i]}, 2);
        error += std::pow(double{after[i]} - double{before[i]}, 2);
      }
      // Four standard deviations of an energy that 64 sums estimate.
      EXPECT_NEAR(likeness_db(sketch_of(before), sketch_of(after)), 10 * std::log10(signal / error),
                  4 * 0.77);
    }
  }
}

TEST(OutputSketch, SeesOneValueOfMany) {
  const std::vector<float> before = noise(20'000, 3);
  std::vector<float> after = before;
  after[12'345] += 10;
  double signal = 0;
  for (const float value : before) signal += std::pow(double{value}, 2);
  // One value changes each sum by itself: nothing is left to chance.
  EXPECT_NEAR(likeness_db(sketch_of(before), sketch_of(after)), 10 * std::log10(signal / 100),
              1e-3);
  // In pieces or at once, it is the same.
  OutputSketch pieces;
  pieces.add(std::span(before).first(7));
  pieces.add(std::span(before).subspan(7));
  EXPECT_EQ(pieces.sums, sketch_of(before).sums);
}

TEST(OutputSketch, HandlesWhatIsNoNumberAndNothingAtAll) {
  const std::vector<float> zeros(8, 0.0F), some = {0, 0, 0, 0, 0, 0, 0, 1};
  EXPECT_EQ(likeness_db(sketch_of(zeros), sketch_of(zeros)), kEqualDb);
  EXPECT_EQ(likeness_db(sketch_of(zeros), sketch_of(some)), 0);
  EXPECT_EQ(likeness_db(OutputSketch(), OutputSketch()), kEqualDb);
  std::vector<float> broken = noise(8, 1);
  const OutputSketch whole = sketch_of(broken);
  broken[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sketch_of(broken).non_finite, 1);
  EXPECT_EQ(likeness_db(whole, sketch_of(broken)), 0);
  EXPECT_EQ(likeness_db(sketch_of(broken), sketch_of(broken)), kEqualDb);
  EXPECT_EQ(likeness_db(whole, sketch_of(noise(9, 1))), 0);
}

TEST(Baseline, ReadsBackWhatItWrites) {
  const Baseline baseline = sample();
  const std::string text = json_text(to_datum(baseline));
  const auto datum = datum_from_json(text, "gate.json");
  ASSERT_TRUE(datum.ok());
  const auto read = baseline_of(*datum);
  ASSERT_TRUE(read.ok()) << to_string(read.error().diagnostic);
  EXPECT_EQ(json_text(to_datum(*read)), text);
  EXPECT_TRUE(check_gate(*read, baseline, {}).met());
  EXPECT_TRUE(check_gate(*read, baseline, {}).notes.empty());
}

TEST(Baseline, MistakesInTheFileAreNamedWithTheirPlace) {
  const std::string good = json_text(to_datum(sample()));
  const std::pair<const char*, const char*> mistakes[] = {
      {"\"mcompress-baseline\"", "\"other\""},
      {"\"version\": 1", "\"version\": 2"},
      {"\"version\": 1", "\"version\": 1.5"},
      {"\"file_bytes\": 100000", "\"file_bytes\": -1"},
      {"\"file_bytes\": 100000", "\"file_bytes\": \"many\""},
      {"\"file_bytes\": 100000", "\"file_bytes\": 1e300"},
      {"\"file_bytes\"", "\"file_bites\""},
      {"\"digest\": \"00000000000000aa\"", "\"digest\": \"not hexadecimal\""},
      {"\"95/100\"", "\"101/100\""},
      {"\"95/100\"", "\"95\""},
      {"\"7\":", "\"seven\":"},
      {"\"metric\": \"top1\"", "\"metric\": \"auto\""},
      {"\"value\": 0.95", "\"value\": 95"},
      {"\"max-drop\": \"0.5\"", "\"max-drop\": \"much\""},
      {"\"max-drop\": \"0.5\"", "\"max-drop\": []"},
      {"\"values\": 320", "\"values\": null"},
      {"\"sketch\": [", "\"sketch\": [\"1 2 3\", "},
      {"\"sketch\": [", "\"sketch\": [\"1 x\", "},
      {"\"sketch\": [", "\"sketch\": [7, "},
      {"\"own_db\": {", "\"own_db\": [], \"else\": {"},
      {"\"latency_ratio\": 0.5", "\"latency_ratio\": -0.5"},
      {"\"Conv\": 3", "\"Conv\": true"},
  };
  for (const auto& [from, to] : mistakes) {
    std::string text = good;
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, std::string_view(from).size(), to);
    const auto datum = datum_from_json(text, "gate.json");
    ASSERT_TRUE(datum.ok()) << from;
    const auto read = baseline_of(*datum);
    ASSERT_FALSE(read.ok()) << from << " -> " << to;
    EXPECT_EQ(read.error().code, Code::kInput) << to;
    EXPECT_TRUE(read.error().diagnostic.where.file.starts_with("gate.json:"))
        << to << ": " << to_string(read.error().diagnostic);
  }
  for (const char* text : {"[]", "7", "\"x\"", "{}", "null"}) {
    const auto datum = datum_from_json(text, "gate.json");
    ASSERT_TRUE(datum.ok());
    EXPECT_FALSE(baseline_of(*datum).ok()) << text;
  }
}

TEST(GateChecks, AnUnchangedModelPasses) {
  const GateOutcome outcome = against_sample([](Baseline&) {});
  EXPECT_TRUE(outcome.met());
  EXPECT_TRUE(outcome.notes.empty());
  EXPECT_TRUE(outcome.classes.empty());
}

TEST(GateChecks, LimitsHoldToTheLastByte) {
  const auto grown = [](std::uint64_t bytes) {
    return [bytes](Baseline& now) { now.file_bytes = bytes; };
  };
  EXPECT_TRUE(against_sample(grown(102'000)).met());
  EXPECT_EQ(missed(against_sample(grown(102'001))), Ids{"file-bytes"});
  EXPECT_TRUE(against_sample(grown(150'000), limits_from("max-bytes-growth", "50%")).met());
  EXPECT_TRUE(against_sample(grown(900'000), limits_from("max-bytes-growth", "off")).met());
  EXPECT_EQ(missed(against_sample(grown(100'000), limits_from("max-bytes", "99999"))),
            Ids{"max-bytes"});
  EXPECT_TRUE(against_sample(grown(1)).met());
}

TEST(GateChecks, QualityFallsByPoints) {
  const auto fell = [](std::int64_t correct) {
    return [correct](Baseline& now) {
      now.quality->correct = correct;
      now.quality->value = static_cast<double>(correct) / 200;
    };
  };
  EXPECT_TRUE(against_sample(fell(189)).met());  // half a point
  EXPECT_EQ(missed(against_sample(fell(188))), Ids{"quality"});
  EXPECT_TRUE(against_sample(fell(188), limits_from("max-drop", "1")).met());
  EXPECT_EQ(missed(against_sample([](Baseline& now) { now.quality->agreement = 0.979; })),
            Ids{"agreement"});
  // Of a perplexity, percent count, and up is worse.
  const auto perplexity = [](double value) {
    Baseline baseline = sample();
    baseline.quality->metric = Metric::kPerplexity;
    baseline.quality->value = value;
    baseline.quality->classes.clear();
    return baseline;
  };
  EXPECT_TRUE(check_gate(perplexity(20), perplexity(20.1), {}).met());
  EXPECT_EQ(missed(check_gate(perplexity(20), perplexity(20.2), {})), Ids{"quality"});
  EXPECT_TRUE(check_gate(perplexity(20), perplexity(10), {}).met());
  EXPECT_EQ(missed(check_gate(sample(), perplexity(20), {})), Ids{"quality"});
}

TEST(GateChecks, AClassIsLostFromTwoDecisionsOn) {
  // Class 7 has one sample: its loss is no more than chance.
  EXPECT_TRUE(against_sample([](Baseline& now) { now.quality->classes[2].correct = 0; }).met());
  EXPECT_TRUE(against_sample([](Baseline& now) { now.quality->classes[0].correct = 85; }).met());
  const GateOutcome lost =
      against_sample([](Baseline& now) { now.quality->classes[1].correct = 0; });
  EXPECT_EQ(missed(lost), Ids{"classes"});
  ASSERT_EQ(lost.classes.size(), 1U);
  EXPECT_EQ(lost.classes[0].label, 1);
  EXPECT_EQ(lost.checks[4].now, "1: 0.00 %");
  EXPECT_TRUE(against_sample([](Baseline& now) { now.quality->classes[1].correct = 0; },
                             limits_from("max-class-drop", "off"))
                  .met());
}

TEST(GateChecks, OutputsLayersAndReference) {
  const auto tenth_more = [](double sqnr_db) {
    return [sqnr_db](Baseline& now) {
      std::vector<float> values = noise(320, 1);
      for (float& value : values) value *= 1.1F;
      now.outputs[0].sketch = sketch_of(values);
      now.outputs[0].sqnr_db = sqnr_db;
    };
  };
  EXPECT_EQ(missed(against_sample(tenth_more(30.4))), Ids{"likeness"});
  // As near to the reference as before, it is another model, and no worse one.
  const GateOutcome as_near = against_sample(tenth_more(30.5));
  EXPECT_TRUE(as_near.met());
  EXPECT_EQ(as_near.notes.size(), 1U);
  // Without a reference nobody can tell.
  Baseline was = sample(), now = sample();
  tenth_more(0)(now);
  was.outputs[0].sqnr_db.reset();
  now.outputs[0].sqnr_db.reset();
  EXPECT_EQ(missed(check_gate(was, now, {})), Ids{"likeness"});
  // A thousandth is 60 dB.
  EXPECT_TRUE(against_sample([](Baseline& now) {
                std::vector<float> values = noise(320, 1);
                for (float& value : values) value *= 1.001F;
                now.outputs[0].sketch = sketch_of(values);
              }).met());
  EXPECT_EQ(missed(against_sample([](Baseline& now) { now.outputs[0].name = "z"; })),
            Ids{"likeness"});
  EXPECT_TRUE(against_sample([](Baseline& now) { now.outputs[0].sqnr_db = 29.5; }).met());
  EXPECT_EQ(missed(against_sample([](Baseline& now) { now.outputs[0].sqnr_db = 29.4; })),
            Ids{"sqnr"});
  EXPECT_EQ(missed(against_sample([](Baseline&) {}, limits_from("min-sqnr", "31"))),
            Ids{"min-sqnr"});
  const GateOutcome layer = against_sample([](Baseline& now) { now.layers[1].own_db = 20; });
  EXPECT_EQ(missed(layer), Ids{"layers"});
  EXPECT_NE(gate_text(layer, 5).find("'gemm' fell, the first by 15.00 dB"), std::string::npos);
  // A layer that is gone is no layer that fell.
  EXPECT_TRUE(against_sample([](Baseline& now) { now.layers.pop_back(); }).met());
}

TEST(GateChecks, IntegersMemoryAndLatency) {
  const GateOutcome left = against_sample([](Baseline& now) {
    now.integers = Baseline::Integers{4, 3, 4, {{"QLinearConv", 2}}, {"conv2"}};
  });
  EXPECT_EQ(missed(left), Ids{"integers"});
  EXPECT_NE(gate_text(left, 5).find("'conv2' in float32"), std::string::npos);
  EXPECT_NE(gate_text(left, 5).find("conversions on every run: 2 -> 4"), std::string::npos);
  EXPECT_EQ(missed(against_sample([](Baseline& now) { now.planned_bytes = 4'081; })),
            Ids{"memory"});
  EXPECT_EQ(missed(against_sample([](Baseline& now) { now.measured_bytes = 511'000; })),
            Ids{"measured-memory"});
  const auto slower = [](Baseline& now) { now.latency_ratio = 0.61; };
  EXPECT_TRUE(against_sample(slower).met());  // latency is off by default
  EXPECT_EQ(missed(against_sample(slower, limits_from("max-latency-growth", "20%"))),
            Ids{"latency"});
  EXPECT_TRUE(against_sample(slower, limits_from("max-latency-growth", "25%")).met());
  EXPECT_EQ(missed(against_sample(slower, limits_from("max-latency-ratio", "0.6"))),
            Ids{"latency-ratio"});
}

TEST(GateChecks, WhatWasAskedForAndIsNotKnownIsMissed) {
  const auto no_quality = [](Baseline& now) { now.quality.reset(); };
  EXPECT_EQ(missed(against_sample(no_quality, limits_from("max-drop", "1"))), Ids{"quality"});
  const auto no_reference = [](Baseline& now) { now.outputs[0].sqnr_db.reset(); };
  EXPECT_TRUE(against_sample(no_reference).met());
  for (const auto& [flag, id] : {std::pair("max-sqnr-drop", "sqnr"), {"min-sqnr", "min-sqnr"}}) {
    EXPECT_EQ(missed(against_sample(no_reference, limits_from(flag, "5"))), Ids{id});
  }
  EXPECT_EQ(missed(against_sample([](Baseline& now) { now.latency_ratio.reset(); },
                                  limits_from("max-latency-ratio", "2"))),
            Ids{"latency-ratio"});
}

TEST(GateChecks, OtherInputsAreNoted) {
  const GateOutcome outcome = against_sample([](Baseline& now) {
    now.recipe_digest = "0000000000000001";
    now.operators["Relu"] = 2;
    now.operators.erase("Conv");
  });
  EXPECT_TRUE(outcome.met());
  EXPECT_EQ(outcome.notes, (Ids{"recipe: 00000000000000dd -> 0000000000000001",
                                "operators: Conv 3 -> 0, Relu 0 -> 2"}));
}

TEST(GateReports, JUnitHoldsAnyText) {
  GateOutcome outcome;
  GateCheck check;
  check.name = "a<b> & \"c\"\nd";
  check.verdict = GateCheck::Verdict::kMissed;
  // A control character, half a UTF-8 sequence, a surrogate, a noncharacter, and good text.
  check.why = std::string("x\x01y\xC3 \xED\xA0\x80 \xEF\xBF\xBF \xC3\xA4\xF0\x9F\x98\x80") + '\0';
  outcome.checks = {check, {}, {}};
  outcome.checks[1].name = "fine";
  outcome.checks[2].verdict = GateCheck::Verdict::kSkipped;
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(junit_text(outcome, {"m'1.onnx", "gate.json", false}),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<testsuites name=\"mcompress gate\" tests=\"3\" failures=\"1\" errors=\"0\" "
            "time=\"0\">\n"
            "  <testsuite name=\"m'1.onnx\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" "
            "time=\"0\">\n"
            "    <testcase classname=\"m'1.onnx\" name=\"a&lt;b&gt; &amp; &quot;c&quot;&#10;d\" "
            "time=\"0\">\n"
            "      <failure message=\"x" +
                bad + "y" + bad + " " + bad + bad + bad + " " + bad + bad + bad +
                " \xC3\xA4\xF0\x9F\x98\x80" + bad +
                "\" type=\"gate-missed\">baseline , now , allowed </failure>\n"
                "    </testcase>\n"
                "    <testcase classname=\"m'1.onnx\" name=\"fine\" time=\"0\">\n"
                "      <system-out>baseline , now , allowed </system-out>\n"
                "    </testcase>\n"
                "    <testcase classname=\"m'1.onnx\" name=\"\" time=\"0\">\n"
                "      <skipped message=\"the limit is off\"/>\n"
                "    </testcase>\n"
                "  </testsuite>\n"
                "</testsuites>\n");
}

TEST(GateReports, MarkdownKeepsItsTable) {
  const GateOutcome outcome = against_sample([](Baseline& now) {
    now.outputs[0].name = "z|<b>";
    now.file_bytes = 200'000;
    now.recipe_digest = "0000000000000001";
  });
  const std::string text = markdown_text(outcome, {"a|b_.onnx", "gate.json", false}, 5);
  EXPECT_TRUE(text.starts_with("### mcompress gate: a\\|b\\_.onnx\n\n**missed: 2 of "));
  EXPECT_NE(text.find("| file bytes | 100,000 | 200,000 | +2% | **missed** |\n"),
            std::string::npos);
  EXPECT_NE(text.find("- recipe: 00000000000000dd -> 0000000000000001\n"), std::string::npos);
  // Every row of the table has its five cells.
  std::size_t rows = 0;
  for (std::size_t at = text.find("\n| "); at != std::string::npos;
       at = text.find("\n| ", at + 1)) {
    std::size_t bars = 0;
    for (std::size_t i = at + 1; text[i] != '\n'; ++i) {
      if (text[i] == '|' && text[i - 1] != '\\') ++bars;
    }
    EXPECT_EQ(bars, 6U);
    ++rows;
  }
  EXPECT_EQ(rows, outcome.checks.size() + 1);
}

}  // namespace
}  // namespace mcompress::tools
