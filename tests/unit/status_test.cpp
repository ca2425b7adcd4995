#include "mcompress/status.h"

#include <gtest/gtest.h>

#include "support/try.h"

namespace mcompress {
namespace {

TEST(Status, ExitStatusOfEachCode) {
  EXPECT_EQ(exit_status(Code::kUsage), 1);
  EXPECT_EQ(exit_status(Code::kInput), 2);
  EXPECT_EQ(exit_status(Code::kUnsupported), 3);
  EXPECT_EQ(exit_status(Code::kOutput), 4);
  EXPECT_EQ(exit_status(Code::kGateMissed), 5);
  EXPECT_EQ(exit_status(Code::kInternal), 70);
  EXPECT_EQ(exit_status(Code::kCancelled), 130);
}

TEST(Status, TextLeavesEmptyPartsOut) {
  Diagnostic diagnostic;
  diagnostic.message = "12 is below 16";
  EXPECT_EQ(to_string(diagnostic), "12 is below 16");
  diagnostic.where.path = "--group-size";
  EXPECT_EQ(to_string(diagnostic), "--group-size: 12 is below 16");
  diagnostic.where.file = "recipe.json:7:15";
  diagnostic.where.subject = "fc";
  diagnostic.hint = "use 16";
  EXPECT_EQ(to_string(diagnostic), "recipe.json:7:15: --group-size: fc: 12 is below 16 (use 16)");
}

TEST(Status, InnerLocationsWin) {
  const Error error = Error(Code::kInput, "some-id", "broken", Location{"", "", "conv1"})
                          .in_file("a.onnx")
                          .at("graph/node[3]")
                          .in_file("b.onnx")
                          .at("elsewhere");
  EXPECT_EQ(to_string(error.diagnostic), "a.onnx: graph/node[3]: conv1: broken");
  EXPECT_EQ(error.diagnostic.id, "some-id");
  EXPECT_EQ(error.diagnostic.level, Diagnostic::Level::kError);
}

Result<int> half(int value) {
  if (value % 2 != 0) return Error(Code::kInput, "odd", "odd number");
  return value / 2;
}

Result<int> quarter(int value) {
  MCOMPRESS_ASSIGN(const int first, half(value));
  MCOMPRESS_TRY(half(first));
  return half(first);
}

TEST(Status, TryReturnsEarly) {
  EXPECT_EQ(quarter(8).value(), 2);
  ASSERT_FALSE(quarter(6).ok());
  EXPECT_EQ(quarter(6).error().diagnostic.id, "odd");
}

TEST(Status, DiagnosticsKeepTheOrder) {
  Diagnostics diagnostics;
  diagnostics.warn("first", "one");
  diagnostics.note("second", "two", Location{"f", "", ""}, "hint");
  ASSERT_EQ(diagnostics.all().size(), 2U);
  EXPECT_EQ(diagnostics.all()[0].level, Diagnostic::Level::kWarning);
  EXPECT_EQ(diagnostics.all()[1].level, Diagnostic::Level::kNote);
  EXPECT_EQ(to_string(diagnostics.all()[1]), "f: two (hint)");
}

TEST(Status, SilentProgressNeverCancels) {
  silent_progress().update("load", 1, 2, "bytes");
  EXPECT_FALSE(silent_progress().cancelled());
}

}  // namespace
}  // namespace mcompress
