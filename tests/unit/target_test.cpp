// Target files: what is built in, what a user may add, and what is said about mistakes.
#include "mcompress/target.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "mcompress/host.h"
#include "support/models.h"
#include "target/versions.h"

namespace mcompress::testing {
namespace {

Result<Target> target_of(std::string_view text) {
  auto datum = datum_from_json(text, "my.json");
  if (!datum.ok()) return std::move(datum).error();
  return Target::from_datum(*datum);
}

Diagnostic refusal(std::string_view text) {
  const auto target = target_of(text);
  EXPECT_FALSE(target.ok()) << text;
  if (target.ok()) return {};
  EXPECT_EQ(target.error().code, Code::kUsage) << text;
  return target.error().diagnostic;
}

TEST(Targets, EveryBuiltInFileIsReadAndSaysTheSameWhenPrinted) {
  std::size_t files = 0;
  const std::filesystem::path folder =
      std::filesystem::path(MCOMPRESS_SOURCE_DIR) / "src/target/builtin";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    ++files;
    const auto target = load_target(entry.path());
    ASSERT_TRUE(target.ok()) << to_string(target.error().diagnostic);
    EXPECT_EQ(target->name, entry.path().stem().string());
    const Target* known = find_target(target->name);
    ASSERT_NE(known, nullptr) << target->name << " is not listed in src/CMakeLists.txt";
    EXPECT_EQ(known->digest(), target->digest());
    EXPECT_FALSE(target->source.empty()) << target->name;
    const auto again = Target::from_datum(target->to_datum());
    ASSERT_TRUE(again.ok()) << to_string(again.error().diagnostic);
    EXPECT_EQ(json_text(again->to_datum()), json_text(target->to_datum()));
    // Whatever is not run in integers has a reason.
    for (const OperatorRule& rule : target->rules) {
      EXPECT_TRUE(rule.kind != OperatorRule::Kind::kFloat || !rule.why.empty()) << rule.op_type;
    }
    for (const std::string_view recurrent : {"LSTM", "GRU", "RNN"}) {
      EXPECT_NE(target->find_dynamic(recurrent), nullptr) << target->name << ' ' << recurrent;
    }
  }
  EXPECT_EQ(files, all_targets().size());
  EXPECT_EQ(default_target().name, "onnxruntime-cpu");
}

TEST(Targets, VariantsDifferWhereTheirMachinesDo) {
  const Target& any = default_target();
  const Target& vnni = *find_target("onnxruntime-cpu-vnni");
  const Target& arm = *find_target("onnxruntime-cpu-arm64");
  EXPECT_TRUE(any.saturation_free_weights);
  EXPECT_TRUE(find_target("onnxruntime-cpu-avx2")->saturation_free_weights);
  EXPECT_FALSE(vnni.saturation_free_weights);
  EXPECT_FALSE(arm.saturation_free_weights);
  EXPECT_TRUE(arm.signed_activations);
  EXPECT_EQ(vnni.rules.size(), any.rules.size());
  EXPECT_EQ(vnni.extends, "onnxruntime-cpu");
}

TEST(Targets, AFileExtendsABuiltInOne) {
  const auto target = target_of(R"({
    "extends": "onnxruntime-cpu", "name": "mine", "runtime-version": "1.22",
    "operators": {"Concat": null, "Sub": {"kind": "binary", "since": 7},
                  "Conv": {"kind": "weighted", "since": 11, "except": []}}
  })");
  ASSERT_TRUE(target.ok()) << to_string(target.error().diagnostic);
  EXPECT_EQ(target->name, "mine");
  EXPECT_EQ(target->find("Concat"), nullptr);
  ASSERT_NE(target->find("Sub"), nullptr);
  EXPECT_EQ(target->find("Sub")->kind, OperatorRule::Kind::kBinary);
  EXPECT_TRUE(target->find("Sub")->why.empty() || target->find("Sub")->quantizes());
  EXPECT_EQ(target->find("Conv")->since, 11);
  EXPECT_TRUE(target->find("Conv")->cases.empty());
  EXPECT_NE(target->find("MaxPool"), nullptr) << "the rest stays";
  EXPECT_NE(target->native("Gelu"), nullptr);
  EXPECT_TRUE(target->concerns("<1.30"));
  EXPECT_FALSE(target->concerns(">=1.30"));
  EXPECT_TRUE(default_target().concerns(">=1.30")) << "no version: cases of all versions hold";
}

TEST(Targets, YamlIsReadToo) {
  const TempFolder folder;
  write_file(folder / "mine.yaml", "extends: tensorrt\nname: mine\nper-channel: false\n");
  const auto target = load_target(folder / "mine.yaml");
  ASSERT_TRUE(target.ok()) << to_string(target.error().diagnostic);
  EXPECT_FALSE(target->per_channel);
  EXPECT_TRUE(target->symmetric_activations);
  EXPECT_TRUE(is_target_file("mine.yml") && !is_target_file("onnxruntime-cpu"));
}

TEST(Targets, MistakesAreNamedWithTheirPlaceAndTheNearestName) {
  const Diagnostic unknown = refusal("{\n  \"name\": \"x\",\n  \"per-chanel\": true\n}");
  EXPECT_EQ(unknown.where.file, "my.json:3:17");
  EXPECT_EQ(unknown.message, "unknown key 'per-chanel' in a target");
  EXPECT_EQ(unknown.hint, "did you mean 'per-channel'?");

  const Diagnostic kind =
      refusal("{\"name\": \"x\",\n \"operators\": {\n  \"Conv\": {\"kind\": \"weigthed\"}}}");
  EXPECT_EQ(kind.where.file, "my.json:3:20");
  EXPECT_EQ(kind.hint, "did you mean 'weighted'?");

  const Diagnostic condition = refusal(
      R"({"name": "x", "operators": {"Conv": {"kind": "weighted", "except": [
      {"id": "a", "why": "is odd", "when": {"kernel-at-most": 3}}]}}})");
  EXPECT_EQ(condition.message,
            "unknown key 'kernel-at-most' in the conditions of case 'a' of "
            "operator 'Conv'");
  EXPECT_EQ(condition.hint, "did you mean 'kernel-at-least'?");

  EXPECT_EQ(refusal(R"({"name": "x", "extends": "onnxruntime-gpu"})").hint,
            "did you mean 'onnxruntime-cpu'?");
  EXPECT_NE(refusal(R"({"description": "x"})").message.find("needs a 'name'"), std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "per-channel": 1})").message.find("true or false"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "weight-types": ["int5"]})").message.find("'int5'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "operators": {"Tanh": {"kind": "float"}}})")
                .message.find("needs a 'why'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "operators": {"Conv": {"kind": "weighted", "except": [
            {"id": "a", "why": "is odd"}]}}})")
                .message.find("needs 'id', 'why', and 'when'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "operators": {"Conv": {"kind": "weighted", "except": [
            {"id": "a", "why": "b", "when": {}}]}}})")
                .message.find("would hold for every node"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "operators": {"Conv": {"kind": "weighted", "except": [
            {"id": "a", "why": "b", "versions": "1.2"}]}}})")
                .message.find("conditions like"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "operators": {"Conv": {"kind": "weighted", "except": [
            {"id": "a", "why": "b", "versions": "<2"}, {"id": "a", "why": "b", "versions": "<3"}]}}})")
                .message.find("have the id 'a'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "symmetric-activations": true})").message.find("signed"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"name": "x", "dynamic": {"GRU": {"form": "none"}}})").message.find("why"),
            std::string::npos);
  EXPECT_NE(refusal(R"(["x"])").message.find("must be a map"), std::string::npos);
}

TEST(Targets, VersionsAreComparedPartByPart) {
  EXPECT_TRUE(version_satisfies("1.9", "<1.17"));
  EXPECT_TRUE(version_satisfies("1.29.1", ">=1.29 <1.31"));
  EXPECT_FALSE(version_satisfies("1.31", ">=1.29 <1.31"));
  EXPECT_TRUE(version_satisfies("1.31.0", "=1.31"));
  EXPECT_TRUE(version_satisfies("8.6.1", "<=8.6.1 >8"));
  EXPECT_FALSE(version_satisfies("latest", "<9"));
  EXPECT_TRUE(are_version_conditions(""));
  for (const std::string_view wrong : {"1.2", "~1", "<", "<1.x", "<1.2.3.4.5", "<-1"}) {
    EXPECT_FALSE(are_version_conditions(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace mcompress::testing
