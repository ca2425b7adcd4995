#include "mcompress/report.h"

#include <gtest/gtest.h>

#include "support/json.h"

namespace mcompress {
namespace {

TEST(Report, FactsInTheOrderGiven) {
  Report report;
  report.root().text("tool", "mcompress");
  ReportScope& model = report.root().child("model");
  model.count("bytes", 12);
  ReportScope& pass = report.root().item("passes", "fuse");
  pass.count("sites", 3);
  pass.flag("changed", true);
  pass.append("skipped", Datum::string("conv1"));
  pass.append("skipped", Datum::string("conv2"));
  report.root().item("passes", "fuse").number("ratio", 0.5);
  report.root().child("model").count("bytes", 13);
  EXPECT_EQ(print_json(report.to_datum()), R"({
  "schema": "mcompress-report",
  "schema_version": 1,
  "tool": "mcompress",
  "model": {
    "bytes": 13
  },
  "passes": [
    {
      "name": "fuse",
      "sites": 3,
      "changed": true,
      "skipped": ["conv1", "conv2"]
    },
    {
      "name": "fuse",
      "ratio": 0.5
    }
  ]
}
)");
}

TEST(Report, TimesAreLeftOutUnlessAskedFor) {
  Report report;
  report.root().seconds("total", 2);
  ReportScope& pass = report.root().item("passes", "fuse");
  pass.seconds("run", 0.25);
  pass.child("inner").seconds("run", 0.125);
  EXPECT_EQ(report.to_datum().find("times"), nullptr);
  EXPECT_EQ(print_json_line(*report.to_datum(Report::Times::kInclude).find("times")),
            R"([{"path": "", "key": "total", "seconds": 2.0}, )"
            R"({"path": "passes[0]", "key": "run", "seconds": 0.25}, )"
            R"({"path": "passes[0].inner", "key": "run", "seconds": 0.125}])");
}

TEST(Report, AFactReplacesAScope) {
  ReportScope scope;
  scope.child("x").count("a", 1);
  scope.count("x", 2);
  scope.append("y", Datum::integer(1));
  scope.item("y", "n");
  EXPECT_EQ(print_json_line(scope.facts()), R"({"x": 2, "y": [1, {"name": "n"}]})");
}

TEST(Report, ScopesStayWhereTheyAre) {
  ReportScope root;
  ReportScope& first = root.item("list", "first");
  for (int i = 0; i < 1000; ++i) {
    root.item("list", "more");
    root.child("c" + std::to_string(i));
  }
  first.count("late", 1);
  EXPECT_EQ(print_json_line(root.facts().find("list")->as_list()->front()),
            R"({"name": "first", "late": 1})");
}

TEST(Report, DiagnosticsWithoutFolders) {
  Diagnostics diagnostics;
  diagnostics.warn("some-id", "message", Location{"/home/me/r.json:1:2", "a.b", ""}, "hint");
  diagnostics.note("other", "text");
  Report report;
  report.add_diagnostics(diagnostics);
  EXPECT_EQ(print_json_line(*report.to_datum().find("diagnostics")),
            R"([{"level": "warning", "id": "some-id", "message": "message", "hint": "hint", )"
            R"("file": "r.json:1:2", "path": "a.b"}, )"
            R"({"level": "note", "id": "other", "message": "text"}])");
}

}  // namespace
}  // namespace mcompress
