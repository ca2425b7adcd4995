#include <gtest/gtest.h>

#include <limits>

#include "mcompress/options.h"
#include "support/json.h"

namespace mcompress {
namespace {

struct Sample {
  bool symmetric = true;
  std::int64_t group_size = 128;
  double threshold = 0.5;
  std::string method = "minmax";
  std::vector<std::string> keep;
  std::int64_t budget = 0;
  std::int64_t old_name = 1;
  bool operator==(const Sample&) const = default;
};

const Schema<Sample>& schema() {
  static const Schema<Sample> schema = [] {
    Schema<Sample> result;
    result.field("symmetric", &Sample::symmetric, "Zero point 0");
    result.field("group-size", &Sample::group_size, "Weights per scale").range(16, 1024);
    result.field("threshold", &Sample::threshold, "Share").range(0, 1).unit("dB");
    result.field("method", &Sample::method, "How").choices({"minmax", "entropy"});
    result.field("keep", &Sample::keep, "Names");
    result.field("budget", &Sample::budget, "Memory").unit("bytes");
    result.field("group", &Sample::old_name, "Old")
        .level(OptionSpec::Level::kDeprecated)
        .replaced_by("group-size");
    result.rule([](const Sample& sample) -> Status {
      if (sample.method == "entropy" && sample.symmetric) {
        return Error(Code::kUsage, "rule", "entropy needs symmetric=false");
      }
      return ok_status();
    });
    return result;
  }();
  return schema;
}

Result<Sample> parse_flag(const std::string& name, const std::string& text) {
  Datum map = Datum::map();
  map.set(name, Datum::text(text, Location{"", "--" + name, ""}));
  Diagnostics diagnostics;
  return schema().parse(map, diagnostics);
}

Result<Sample> parse_recipe(const std::string& options, Diagnostics* sink = nullptr) {
  const std::string text = "{\"passes\": [{\"options\":\n" + options + "}]}";
  const Datum recipe = parse_json(text, "r.json").value();
  Diagnostics diagnostics;
  const Datum& datum = *recipe.find("passes")->as_list()->front().find("options");
  return schema().parse(datum, sink != nullptr ? *sink : diagnostics);
}

std::string complaint(const Result<Sample>& result) {
  if (result.ok()) return "no error";
  EXPECT_EQ(result.error().code, Code::kUsage);
  return to_string(result.error().diagnostic);
}

TEST(Schema, DefaultsFromNullAndEmpty) {
  Diagnostics diagnostics;
  EXPECT_EQ(schema().parse(Datum(), diagnostics).value(), Sample{});
  EXPECT_EQ(schema().parse(Datum::map(), diagnostics).value(), Sample{});
}

TEST(Schema, OneLineForFlagsAndRecipes) {
  EXPECT_EQ(complaint(parse_flag("group-size", "12")), "--group-size: 12 is below 16");
  EXPECT_EQ(complaint(parse_recipe("{\"group-size\": 12}")),
            "r.json:2:16: passes[0].options.group-size: 12 is below 16");
  EXPECT_EQ(complaint(parse_flag("threshold", "1.5")), "--threshold: 1.5 is above 1 dB");
}

TEST(Schema, PathForValuesWithoutLocation) {
  Datum map = Datum::map();
  map.set("group-size", Datum::integer(5000));
  Diagnostics diagnostics;
  EXPECT_EQ(complaint(schema().parse(map, diagnostics)), "group-size: 5000 is above 1024");
  map.set_where(Location{"x", "passes[2].options", ""});
  EXPECT_EQ(complaint(schema().parse(map, diagnostics)),
            "x: passes[2].options.group-size: 5000 is above 1024");
}

TEST(Schema, BoundsAreInside) {
  EXPECT_EQ(parse_flag("group-size", "16").value().group_size, 16);
  EXPECT_EQ(parse_flag("group-size", "1024").value().group_size, 1024);
  EXPECT_FALSE(parse_flag("group-size", "1025").ok());
  EXPECT_FALSE(parse_flag("threshold", "-0.0001").ok());
}

TEST(Schema, TextBecomesTheType) {
  for (const char* text : {"true", "1", "on"}) {
    EXPECT_TRUE(parse_flag("symmetric", text).value().symmetric) << text;
  }
  for (const char* text : {"false", "0", "off"}) {
    EXPECT_FALSE(parse_flag("symmetric", text).value().symmetric) << text;
  }
  EXPECT_EQ(complaint(parse_flag("symmetric", "maybe")),
            "--symmetric: expects true or false, not 'maybe'");
  EXPECT_EQ(parse_flag("group-size", "+64").value().group_size, 64);
  EXPECT_EQ(parse_flag("group-size", "1e2").value().group_size, 100);
  EXPECT_EQ(complaint(parse_flag("group-size", "64k")),
            "--group-size: expects an integer, not '64k'");
  EXPECT_EQ(complaint(parse_flag("group-size", "")), "--group-size: expects an integer, not ''");
  EXPECT_EQ(complaint(parse_flag("group-size", "64.5")),
            "--group-size: expects an integer, not '64.5'");
  EXPECT_EQ(parse_flag("threshold", "1e-3").value().threshold, 1e-3);
  EXPECT_FALSE(parse_flag("threshold", "nan").ok());
  EXPECT_FALSE(parse_flag("threshold", "1,5").ok());
  EXPECT_EQ(parse_flag("budget", "2GiB").value().budget, std::int64_t{2} << 30);
  EXPECT_EQ(parse_flag("budget", "1.5kB").value().budget, 1500);
}

TEST(Schema, TypedValuesFromFiles) {
  EXPECT_EQ(parse_recipe("{\"threshold\": 1}").value().threshold, 1.0);
  EXPECT_EQ(parse_recipe("{\"group-size\": 64.0}").value().group_size, 64);
  EXPECT_EQ(parse_recipe("{\"group-size\": null}").value().group_size, 128);
  EXPECT_EQ(parse_recipe("{\"budget\": \"4K\"}").value().budget, 4096);
  EXPECT_NE(complaint(parse_recipe("{\"group-size\": \"64\"}")).find("expects an integer"),
            std::string::npos);
  EXPECT_NE(complaint(parse_recipe("{\"group-size\": 1e30}")).find("expects an integer"),
            std::string::npos);
  EXPECT_NE(complaint(parse_recipe("{\"symmetric\": \"true\"}")).find("without quotes"),
            std::string::npos);
  EXPECT_NE(complaint(parse_recipe("{\"method\": 3}")).find("expects text, not 3"),
            std::string::npos);
  EXPECT_NE(complaint(parse_recipe("[1]")).find("expects a map of options, not a list"),
            std::string::npos);
}

TEST(Schema, NamesAreSplitAtCommas) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(parse_flag("keep", "a,b*,c").value().keep, (Names{"a", "b*", "c"}));
  EXPECT_EQ(parse_flag("keep", "").value().keep, Names{});
  EXPECT_EQ(parse_flag("keep", R"(a\,b,c\\d,e\f)").value().keep, (Names{"a,b", "c\\d", "e\\f"}));
  EXPECT_EQ(parse_recipe(R"({"keep": ["a,b", "c"]})").value().keep, (Names{"a,b", "c"}));
  EXPECT_EQ(parse_recipe(R"({"keep": "a,b"})").value().keep, (Names{"a,b"}));
  EXPECT_FALSE(parse_recipe(R"({"keep": [1]})").ok());
  // A flag that is given twice.
  Datum map = Datum::map();
  map.set("keep", Datum(Datum::Value(Datum::List{Datum::text("a,b", {}), Datum::text("c", {})})));
  Diagnostics diagnostics;
  EXPECT_EQ(schema().parse(map, diagnostics).value().keep, (Names{"a", "b", "c"}));
}

TEST(Schema, UnknownNamesGetTheNearest) {
  EXPECT_EQ(complaint(parse_flag("group-sise", "12")),
            "--group-sise: unknown option 'group-sise' (did you mean 'group-size'?)");
  const std::string far = complaint(parse_flag("zzz", "1"));
  EXPECT_NE(far.find("known: symmetric, group-size"), std::string::npos) << far;
  EXPECT_EQ(complaint(parse_flag("method", "entopy")),
            "--method: 'entopy' is none of minmax, entropy (did you mean 'entropy'?)");
}

TEST(Schema, DeprecatedNamesWarn) {
  Diagnostics diagnostics;
  EXPECT_EQ(parse_recipe("{\"group\": 7}", &diagnostics).value().old_name, 7);
  ASSERT_EQ(diagnostics.all().size(), 1U);
  EXPECT_EQ(diagnostics.all()[0].id, "deprecated-option");
  EXPECT_EQ(to_string(diagnostics.all()[0]),
            "r.json:2:11: passes[0].options.group: 'group' is deprecated (use 'group-size')");
}

TEST(Schema, RulesSeeTheWholeStruct) {
  EXPECT_EQ(complaint(parse_flag("method", "entropy")), "entropy needs symmetric=false");
  EXPECT_TRUE(parse_recipe(R"({"method": "entropy", "symmetric": false})").ok());
}

TEST(Schema, PrintParsesBack) {
  Sample sample;
  sample.symmetric = false;
  sample.threshold = 0.1;
  sample.method = "entropy";
  sample.keep = {"a,b", "c\\", "*"};
  sample.budget = std::numeric_limits<std::int64_t>::max();
  Diagnostics diagnostics;
  const Datum printed = schema().print(sample);
  EXPECT_EQ(schema().parse(printed, diagnostics).value(), sample);
  // As flags, and through JSON text.
  Datum flags = Datum::map();
  for (const auto& [name, value] : *printed.as_map()) {
    flags.set(name, Datum::text(option_text(value), {}));
  }
  EXPECT_EQ(schema().parse(flags, diagnostics).value(), sample);
  EXPECT_EQ(schema().parse(parse_json(print_json(printed), "x").value(), diagnostics).value(),
            sample);
}

TEST(Schema, DefaultTexts) {
  EXPECT_EQ(schema().specs()[0].default_text, "true");
  EXPECT_EQ(schema().specs()[1].default_text, "128");
  EXPECT_EQ(schema().specs()[2].default_text, "0.5");
  EXPECT_EQ(schema().specs()[4].default_text, "");
}

TEST(Datum, SetKeepsThePosition) {
  Datum map;
  map.set("a", Datum::integer(1));
  map.set("b", Datum::integer(2));
  map.set("a", Datum::integer(3));
  EXPECT_EQ(map.as_map()->front().first, "a");
  EXPECT_EQ(*map.find("a"), Datum::integer(3));
  EXPECT_EQ(map.find("c"), nullptr);
  EXPECT_EQ(Datum::integer(1).find("c"), nullptr);
  Datum list;
  list.push(Datum::boolean(true));
  EXPECT_EQ(list.as_list()->size(), 1U);
}

}  // namespace
}  // namespace mcompress
