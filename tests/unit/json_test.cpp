#include "support/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mcompress {
namespace {

std::string complaint(std::string_view text, const ParseLimits& limits = {}) {
  const Result<Datum> result = parse_json(text, "f.json", limits);
  if (result.ok()) return "no error";
  EXPECT_EQ(result.error().code, Code::kInput);
  return to_string(result.error().diagnostic);
}

std::string place(const Datum& datum) { return datum.where().file + " " + datum.where().path; }

TEST(Json, Values) {
  const Datum datum = parse_json(R"({"n": null, "b": true, "i": -3, "r": 2.5, "s": "x\u00e4\n",
    "l": [], "m": {}})",
                                 "f")
                          .value();
  EXPECT_TRUE(datum.find("n")->is_null());
  EXPECT_EQ(*datum.find("b"), Datum::boolean(true));
  EXPECT_EQ(*datum.find("i"), Datum::integer(-3));
  EXPECT_EQ(*datum.find("r"), Datum::real(2.5));
  EXPECT_EQ(*datum.find("s"), Datum::string("x\xC3\xA4\n"));
  EXPECT_EQ(*datum.find("l"), Datum::list());
  EXPECT_EQ(*datum.find("m"), Datum::map());
  EXPECT_EQ(datum.as_map()->front().first, "n");
}

TEST(Json, RootScalars) {
  EXPECT_EQ(parse_json(" 7", "f").value(), Datum::integer(7));
  EXPECT_EQ(parse_json("7 ", "f").value().where().file, "f:1:1");
  EXPECT_EQ(parse_json("\xEF\xBB\xBF\"x\"", "f").value(), Datum::string("x"));
}

TEST(Json, BigNumbers) {
  EXPECT_EQ(parse_json("9223372036854775807", "f").value(),
            Datum::integer(std::numeric_limits<std::int64_t>::max()));
  EXPECT_EQ(parse_json("-9223372036854775808", "f").value(),
            Datum::integer(std::numeric_limits<std::int64_t>::min()));
  EXPECT_EQ(parse_json("9223372036854775808", "f").value(), Datum::real(9223372036854775808.0));
  EXPECT_NE(complaint("1e999"), "no error");
}

TEST(Json, Locations) {
  const Datum datum = parse_json(
                          "{\n  \"passes\": [\n    {\"name\": \"x\"},\n"
                          "    {\"bits\":4,\"list\":[10,200, 3 ,\"q\"]}\n  ],\n"
                          "  \"end\"  :  true\n}\n",
                          "r.json")
                          .value();
  EXPECT_EQ(place(datum), "r.json:1:1 ");
  const Datum& passes = *datum.find("passes");
  EXPECT_EQ(place(passes), "r.json:2:13 passes");
  EXPECT_EQ(place((*passes.as_list())[0]), "r.json:3:5 passes[0]");
  EXPECT_EQ(place(*(*passes.as_list())[0].find("name")), "r.json:3:14 passes[0].name");
  const Datum& second = (*passes.as_list())[1];
  EXPECT_EQ(place(*second.find("bits")), "r.json:4:13 passes[1].bits");
  const Datum::List& list = *second.find("list")->as_list();
  EXPECT_EQ(place(*second.find("list")), "r.json:4:22 passes[1].list");
  EXPECT_EQ(place(list[0]), "r.json:4:23 passes[1].list[0]");
  EXPECT_EQ(place(list[1]), "r.json:4:26 passes[1].list[1]");
  EXPECT_EQ(place(list[2]), "r.json:4:31 passes[1].list[2]");
  EXPECT_EQ(place(list[3]), "r.json:4:34 passes[1].list[3]");
  EXPECT_EQ(place(*datum.find("end")), "r.json:6:13 end");
}

TEST(Json, Refusals) {
  EXPECT_EQ(complaint("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}"), "f.json:3:2: key 'a' is given twice");
  EXPECT_NE(complaint("").find("f.json:1:1: syntax error"), std::string::npos) << complaint("");
  EXPECT_NE(complaint("{\n  \"a\": tru\n}").find("f.json:2:"), std::string::npos);
  EXPECT_NE(complaint("[1, 2").find("syntax error"), std::string::npos);
  EXPECT_NE(complaint("1 2"), "no error");
  EXPECT_NE(complaint("{\"a\": 1} x"), "no error");
  EXPECT_NE(complaint("[1,]"), "no error");
  EXPECT_NE(complaint("// note\n1"), "no error");
  EXPECT_NE(complaint("NaN"), "no error");
  EXPECT_NE(complaint("\"\xFF\""), "no error");
  EXPECT_NE(complaint(std::string_view("\0", 1)), "no error");
}

TEST(Json, Limits) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(complaint(nested(128)), "no error");
  EXPECT_NE(complaint(nested(129)).find("nested deeper than 128"), std::string::npos);
  EXPECT_NE(complaint(std::string(1 << 20, '[')).find("nested deeper"), std::string::npos);
  EXPECT_NE(complaint("[1,2,3]", {.bytes = 6}).find("7 B, more than the 6 B"), std::string::npos);
  EXPECT_EQ(complaint("[1,2,3]", {.values = 4}), "no error");
  EXPECT_NE(complaint("[1,2,3]", {.values = 3}).find("more than the 3 values"), std::string::npos);
  EXPECT_NE(complaint("[1,2,[]]", {.values = 3}).find("more than the 3 values"), std::string::npos);
}

TEST(Json, EveryTruncationIsRefused) {
  const std::string text = R"({"a": [1, -2.5e3, "x\u00e4"], "b": {"c": null, "d": false}})";
  EXPECT_EQ(complaint(text), "no error");
  for (std::size_t length = 0; length < text.size(); ++length) {
    EXPECT_NE(complaint(text.substr(0, length)), "no error") << length;
  }
}

TEST(Json, Printing) {
  Datum datum;
  datum.set("none", Datum());
  datum.set("list", Datum(Datum::Value(Datum::List{Datum::integer(1), Datum::real(2)})));
  datum.set("empty", Datum::map());
  datum.set("nested", Datum(Datum::Value(Datum::List{Datum::map().set("a", Datum::list())})));
  EXPECT_EQ(print_json(datum),
            "{\n  \"none\": null,\n  \"list\": [1, 2.0],\n  \"empty\": {},\n"
            "  \"nested\": [\n    []\n  ]\n}\n");
  EXPECT_EQ(print_json_line(datum),
            R"({"none": null, "list": [1, 2.0], "empty": {}, "nested": [[]]})");
}

TEST(Json, LongListsTakeALinePerItem) {
  Datum list;
  for (int i = 0; i < 60; ++i) list.push(Datum::integer(i));
  const std::string text = print_json(list);
  EXPECT_NE(text.find("\n  59\n]\n"), std::string::npos) << text;
  EXPECT_EQ(parse_json(text, "f").value(), list);
}

TEST(Json, RealsReadBackAsTheyWere) {
  for (const double value : {0.0, -0.0, 0.1, 1.0, 1e300, 5e-324, 1.0 / 3, -123456789.125,
                             1.7976931348623157e308, 1e16, 123456789012345680.0}) {
    const std::string text = print_json_line(Datum::real(value));
    const Datum back = parse_json(text, "f").value();
    ASSERT_TRUE(std::holds_alternative<double>(back.value())) << text;
    EXPECT_EQ(std::signbit(std::get<double>(back.value())), std::signbit(value));
    EXPECT_EQ(back, Datum::real(value)) << text;
  }
  EXPECT_EQ(print_json_line(Datum::real(NAN)), "\"nan\"");
  EXPECT_EQ(print_json_line(Datum::real(-INFINITY)), "\"-inf\"");
}

TEST(Json, TextsAreEscaped) {
  EXPECT_EQ(print_json_line(Datum::string(std::string_view("a\"\\\n\t\r\x01\x7F\0", 9))),
            R"("a\"\\\n\t\r\u0001\u007f\u0000")");
  EXPECT_EQ(print_json_line(Datum::string("\xC3\xA4 \xF0\x9F\x98\x80")),
            "\"\xC3\xA4 \xF0\x9F\x98\x80\"");
  // Stray bytes, an overlong form, a surrogate, a cut sequence.
  for (const char* broken : {"\xFF", "\xC0\x80", "\xED\xA0\x80", "\xE2\x82", "\x80"}) {
    const std::string text = print_json_line(Datum::string(broken));
    EXPECT_NE(text.find("\xEF\xBF\xBD"), std::string::npos);
    EXPECT_TRUE(parse_json(text, "f").ok());
  }
  EXPECT_EQ(print_json_line(Datum::text("4", {})), "\"4\"");
}

}  // namespace
}  // namespace mcompress
