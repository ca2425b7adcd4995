#include "mcompress/language.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "mcompress/data.h"
#include "mcompress/evaluate.h"
#include "support/arrays.h"
#include "support/decoder.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::DecoderForm;
using testing::TempFolder;

PortInfo port(std::string name, DataType type, std::vector<Dim> shape) {
  return {std::move(name), {type, std::move(shape)}};
}
Dim open(std::string symbol) { return {std::nullopt, std::move(symbol)}; }
Dim size(std::int64_t n) { return {n, {}}; }

std::vector<PortInfo> exported() {
  return {port("input_ids", DataType::kInt64, {open("batch"), open("sequence")}),
          port("attention_mask", DataType::kInt64, {open("batch"), open("total")}),
          port("position_ids", DataType::kInt32, {open("batch"), open("sequence")}),
          port("token_type_ids", DataType::kInt64, {open("batch"), open("sequence")}),
          port("use_cache_branch", DataType::kBool, {size(1)}),
          port("past_key_values.0.key", DataType::kFloat16,
               {open("batch"), size(3), open("past_sequence"), size(64)}),
          port("past_key_values.0.value", DataType::kFloat16,
               {open("batch"), open("heads"), open("past_sequence"), open("size")})};
}
std::vector<PortInfo> exported_outputs() {
  return {
      port("logits", DataType::kFloat, {open("batch"), open("sequence"), size(1000)}),
      port("present.0.value", DataType::kFloat16,
           {open("batch"), size(3), open("total"), size(64)}),
      port("present.0.key", DataType::kFloat16, {open("batch"), size(3), open("total"), size(64)})};
}

TEST(LanguageInputs, NamesOfExporters) {
  const auto roles = language_inputs(exported(), exported_outputs());
  ASSERT_EQ(roles.size(), 7U);
  EXPECT_EQ(roles[0].role, InputRole::kTokenIds);
  EXPECT_EQ(roles[1].role, InputRole::kAttentionMask);
  EXPECT_EQ(roles[2].role, InputRole::kPositionIds);
  EXPECT_EQ(roles[3].role, InputRole::kTokenTypeIds);
  EXPECT_EQ(roles[4].role, InputRole::kCacheBranch);
  EXPECT_EQ(roles[5].role, InputRole::kPast);
  EXPECT_EQ(roles[5].present, "present.0.key");
  EXPECT_EQ(roles[6].present, "present.0.value");
  constexpr std::int64_t kB = LanguageInput::kBatch, kL = LanguageInput::kLength;
  EXPECT_EQ(roles[5].dims, (std::vector<std::int64_t>{kB, 3, kL, 64}));
  EXPECT_EQ(roles[6].dims, roles[5].dims);  // open sizes are those of its present
}

TEST(LanguageInputs, WhatIsNone) {
  const std::vector<PortInfo> image = {
      port("x", DataType::kFloat, {open("n"), size(3), size(8), size(8)}),
      port("attention_mask", DataType::kInt64, {open("n"), open("l")})};
  EXPECT_TRUE(language_inputs(image, {}).empty());
  // Two integers without a name that says anything.
  const std::vector<PortInfo> two = {port("a", DataType::kInt64, {open("n"), open("l")}),
                                     port("b", DataType::kInt64, {open("n"), open("l")})};
  EXPECT_TRUE(language_inputs(two, {}).empty());
  const auto one = language_inputs(std::span(two).first(1), {});
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].role, InputRole::kTokenIds);
}

TEST(LanguageInputs, TheGraphTellsWhatNamesDoNot) {
  const auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    odd (int64[n,l] types, int64[n,l] words, float[n,2,p,4] b, float[n,2,p,4] a)
    => (float[n,l,4] y, float[n,2,q,4] out1, float[n,2,q,4] out2)
    <float[3,4] small = {0,0,0,0,0,0,0,0,0,0,0,0}, float[2,4] kinds = {0,0,0,0,0,0,0,0},
     float[1,2,1,4] k = {0,0,0,0,0,0,0,0}> {
      w = Cast<to=7>(words)
      e = Gather(small, w)
      t = Gather(kinds, types)
      y = Add(e, t)
      out2 = Concat<axis=2>(a, k)
      out1 = Concat<axis=2>(b, k)
    })");
  const auto roles = language_inputs(*model);
  ASSERT_EQ(roles.size(), 3U);
  EXPECT_EQ(roles[0].name, "words");
  EXPECT_EQ(roles[0].role, InputRole::kTokenIds);
  EXPECT_EQ(roles[1].name, "b");
  EXPECT_EQ(roles[1].present, "out1");
  EXPECT_EQ(roles[2].present, "out2");
  EXPECT_EQ(roles[0].table_rows, 3);
}

std::vector<std::int64_t> ints(const Result<Tensor>& tensor) {
  EXPECT_TRUE(tensor.ok());
  return tensor.ok() ? read_ints(*tensor).value() : std::vector<std::int64_t>();
}

TEST(LanguageInputs, DerivedValues) {
  const auto roles = language_inputs(exported(), exported_outputs());
  const std::vector<std::uint8_t> padding = {1, 1, 0, 0, 0, 0, 0, 1};
  using Ints = std::vector<std::int64_t>;
  EXPECT_EQ(ints(derive_input(roles[1], 2, 4, 0, padding)), (Ints{0, 0, 1, 1, 1, 1, 1, 0}));
  EXPECT_EQ(ints(derive_input(roles[2], 2, 4, 0, padding)), (Ints{0, 0, 0, 1, 0, 1, 2, 3}));
  EXPECT_EQ(ints(derive_input(roles[3], 1, 3, 0, {})), (Ints{0, 0, 0}));
  EXPECT_EQ(ints(derive_input(roles[4], 2, 4, 0, padding)), Ints{0});
  // Behind two earlier tokens.
  EXPECT_EQ(ints(derive_input(roles[1], 1, 1, 2, {})), (Ints{1, 1, 1}));
  EXPECT_EQ(ints(derive_input(roles[2], 1, 1, 2, {})), Ints{2});
  EXPECT_EQ(ints(derive_input(roles[4], 1, 1, 2, {})), Ints{1});
  const Tensor past = derive_input(roles[5], 2, 4, 0, {}).value();
  EXPECT_EQ(past.dtype(), DataType::kFloat16);
  EXPECT_EQ(std::vector<std::int64_t>(past.dims().begin(), past.dims().end()), (Ints{2, 3, 0, 64}));
  // A mask of fixed length: the earlier places hold nothing.
  LanguageInput fixed{"m", InputRole::kAttentionMask, DataType::kFloat, {1, 5}, {}};
  EXPECT_EQ(read_floats(derive_input(fixed, 1, 2, 0, {}).value()).value(),
            (std::vector<float>{0, 0, 0, 1, 1}));
  fixed.role = InputRole::kPast;
  fixed.dims = {LanguageInput::kBatch, LanguageInput::kUnknown, LanguageInput::kLength, 8};
  const auto unknown = derive_input(fixed, 1, 2, 0, {});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().diagnostic.id, "past-size-unknown");
}

// ---------------------------------------------------------------------------------------- data

class Tokens : public ::testing::Test {
 protected:
  Result<std::unique_ptr<DataSource>> open_as(const std::filesystem::path& path,
                                              std::vector<PortInfo> inputs) {
    const DataPath only{{}, path};
    return open_data(std::span(&only, 1), inputs, options_, diagnostics_);
  }
  std::map<std::string, Tensor> feeds(DataSource& data, std::int64_t first, std::int64_t count) {
    std::map<std::string, Tensor> found;
    auto batch = data.batch(first, count);
    EXPECT_TRUE(batch.ok()) << (batch.ok() ? "" : to_string(batch.error().diagnostic));
    if (!batch.ok()) return found;
    for (NamedTensor& feed : *batch) found.emplace(feed.name, std::move(feed.tensor));
    return found;
  }
  bool noted(std::string_view id) const {
    for (const Diagnostic& diagnostic : diagnostics_.all()) {
      if (diagnostic.id == id) return true;
    }
    return false;
  }
  std::vector<std::int64_t> dims(const Tensor& tensor) {
    return {tensor.dims().begin(), tensor.dims().end()};
  }

  TempFolder folder_;
  SampleOptions options_;
  Diagnostics diagnostics_;
};

TEST_F(Tokens, OneRowIsCut) {
  std::vector<std::int32_t> row(300);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::int32_t>(i);
  testing::write_file(folder_ / "row.npy", testing::npy("<i4", {300}, row));
  options_.language = language_inputs(exported(), exported_outputs());
  auto data = open_as(folder_ / "row.npy", exported());
  ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
  EXPECT_EQ((*data)->count(), 2);
  auto second = feeds(**data, 1, 1);
  ASSERT_EQ(second.size(), 7U);
  EXPECT_EQ(dims(second["input_ids"]), (std::vector<std::int64_t>{1, 128}));
  EXPECT_EQ(read_ints(second["input_ids"]).value()[0], 128);
  EXPECT_EQ(dims(second["past_key_values.0.value"]), (std::vector<std::int64_t>{1, 3, 0, 64}));
  EXPECT_EQ(read_ints(second["position_ids"]).value()[127], 127);
  EXPECT_TRUE(noted("data-sequences") && noted("data-derived"));
  options_.sequence_length = 7;
  auto short_ones = open_as(folder_ / "row.npy", exported());
  ASSERT_TRUE(short_ones.ok());
  EXPECT_EQ((*short_ones)->count(), 42);
  EXPECT_EQ(dims(feeds(**short_ones, 3, 5)["attention_mask"]), (std::vector<std::int64_t>{5, 7}));
}

TEST_F(Tokens, RowsStayOrAreDividedEvenly) {
  const std::vector<std::int64_t> rows(24, 5);
  testing::write_npz(folder_ / "rows.npz", {{"tokens", testing::npy("<i8", {2, 12}, rows)}});
  std::vector<PortInfo> some = exported();
  some.resize(3);
  auto as_is = open_as(folder_ / "rows.npz", some);
  ASSERT_TRUE(as_is.ok()) << to_string(as_is.error().diagnostic);
  EXPECT_EQ((*as_is)->count(), 2);
  EXPECT_TRUE(noted("data-token-ids"));
  options_.sequence_length = 4;
  auto divided = open_as(folder_ / "rows.npz", some);
  ASSERT_TRUE(divided.ok());
  EXPECT_EQ((*divided)->count(), 6);
  options_.sequence_length = 20;
  auto longer = open_as(folder_ / "rows.npz", some);
  ASSERT_TRUE(longer.ok());
  EXPECT_EQ((*longer)->count(), 2);
  options_.sequence_length = 5;
  auto refused = open_as(folder_ / "rows.npz", some);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().diagnostic.id, "sequence-length");
}

TEST_F(Tokens, PaddingAndExplicitArrays) {
  std::vector<PortInfo> some = exported();
  some.resize(3);
  testing::write_npz(
      folder_ / "padded.npz",
      {{"input_ids", testing::npy("<i8", {1, 4}, std::vector<std::int64_t>{7, 9, -100, -100})}});
  auto data = open_as(folder_ / "padded.npz", some);
  ASSERT_TRUE(data.ok());
  auto found = feeds(**data, 0, 1);
  using Ints = std::vector<std::int64_t>;
  EXPECT_EQ(read_ints(found["input_ids"]).value(), (Ints{7, 9, 0, 0}));
  EXPECT_EQ(read_ints(found["attention_mask"]).value(), (Ints{1, 1, 0, 0}));
  const std::uint64_t digest = (*data)->digest();
  options_.pad_id = 9;
  auto other = open_as(folder_ / "padded.npz", some);
  EXPECT_EQ(read_ints(feeds(**other, 0, 1)["attention_mask"]).value(), (Ints{1, 0, 0, 0}));
  EXPECT_NE((*other)->digest(), digest);
  // An array wins, and positions follow it.
  options_.pad_id = -1;
  testing::write_npz(folder_ / "masked.npz",
                     {{"input_ids", testing::npy("<i8", {1, 4}, Ints{7, 9, 3, 3})},
                      {"attention_mask", testing::npy("<i8", {1, 4}, Ints{0, 1, 1, 1})}});
  auto masked = open_as(folder_ / "masked.npz", some);
  found = feeds(**masked, 0, 1);
  EXPECT_EQ(read_ints(found["attention_mask"]).value(), (Ints{0, 1, 1, 1}));
  EXPECT_EQ(read_ints(found["position_ids"]).value(), (Ints{0, 0, 1, 2}));
}

TEST_F(Tokens, InputsOfTheirOwn) {
  std::vector<PortInfo> some = exported();
  some.resize(3);
  using Ints = std::vector<std::int64_t>;
  testing::write_file(folder_ / "a.npy", testing::npy("<i8", {2, 3}, Ints{1, 2, 3, 4, 5, 6}));
  testing::write_file(folder_ / "m.npy", testing::npy("<i8", {2, 3}, Ints{1, 1, 0, 1, 1, 1}));
  const std::vector<DataPath> paths = {{"input_ids", folder_ / "a.npy"},
                                       {"attention_mask", folder_ / "m.npy"}};
  auto data = open_data(paths, some, options_, diagnostics_);
  ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
  auto found = feeds(**data, 0, 2);
  EXPECT_EQ(read_ints(found["attention_mask"]).value(), (Ints{1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(read_ints(found["position_ids"]).value(), (Ints{0, 1, 2, 0, 1, 2}));
}

TEST_F(Tokens, WhatIsNoRoleIsStillMissing) {
  std::vector<PortInfo> some = exported();
  some.resize(2);
  some.push_back(port("image", DataType::kFloat, {open("batch"), size(3)}));
  testing::write_npz(folder_ / "ids.npz",
                     {{"input_ids", testing::npy("<i8", {1, 2}, std::vector<std::int64_t>{1, 2})}});
  auto data = open_as(folder_ / "ids.npz", some);
  ASSERT_FALSE(data.ok());
  EXPECT_EQ(data.error().diagnostic.id, "data-input-missing");
  EXPECT_EQ(data.error().diagnostic.where.subject, "image");
}

// -------------------------------------------------------------------------------- generation

std::unique_ptr<Session> session_of(const std::string& bytes) {
  const auto model = testing::model_from_bytes(bytes);
  auto session = find_runtime("onnxruntime").value()->open(*model, {});
  EXPECT_TRUE(session.ok()) << (session.ok() ? "" : to_string(session.error().diagnostic));
  return session.ok() ? std::move(session).value() : nullptr;
}

Tensor ids_of(std::vector<std::int64_t> ids) {
  const auto count = static_cast<std::int64_t>(ids.size());
  return make_int64_tensor(ids, {1, count});
}

TEST(Decoder, ACacheChangesNothing) {
  const auto with = session_of(testing::decoder_bytes({}));
  const auto without = session_of(testing::decoder_bytes({.cache = false}));
  const std::vector<std::int64_t> tokens = testing::decoder_tokens(9, 4);
  const auto roles = language_inputs(with->inputs(), with->outputs());
  ASSERT_EQ(roles.size(), 7U);
  const auto feeds_of = [&](std::int64_t from, std::int64_t past) {
    std::vector<NamedTensor> feeds = {{"input_ids", ids_of({tokens.begin() + from, tokens.end()})}};
    for (const LanguageInput& role : roles) {
      if (role.role == InputRole::kTokenIds || role.role == InputRole::kPast) continue;
      feeds.push_back({role.name, derive_input(role, 1, 9 - from, past, {}).value()});
    }
    return feeds;
  };
  const std::string logits = "logits";
  const auto whole = without->run(feeds_of(0, 0), {&logits, 1});
  ASSERT_TRUE(whole.ok()) << to_string(whole.error().diagnostic);
  const auto wanted = read_floats((*whole)[0]).value();
  // Five tokens, then four with what the five left.
  std::vector<NamedTensor> first = {{"input_ids", ids_of({tokens.begin(), tokens.begin() + 5})}};
  std::vector<std::string> fetch = {"logits"};
  for (const LanguageInput& role : roles) {
    if (role.role == InputRole::kTokenIds) continue;
    first.push_back({role.name, derive_input(role, 1, 5, 0, {}).value()});
    if (role.role == InputRole::kPast) fetch.push_back(role.present);
  }
  auto begun = with->run(first, fetch);
  ASSERT_TRUE(begun.ok()) << to_string(begun.error().diagnostic);
  std::vector<NamedTensor> second = feeds_of(5, 5);
  for (std::size_t i = 1, past = 0; past < roles.size(); ++past) {
    if (roles[past].role == InputRole::kPast) second.push_back({roles[past].name, (*begun)[i++]});
  }
  auto ended = with->run(second, {&logits, 1});
  ASSERT_TRUE(ended.ok()) << to_string(ended.error().diagnostic);
  std::vector<float> got = read_floats((*begun)[0]).value();
  const auto rest = read_floats((*ended)[0]).value();
  got.insert(got.end(), rest.begin(), rest.end());
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 2e-4) << i;
}

std::vector<std::int64_t> continued(const DecoderForm& form,
                                    const std::vector<std::int64_t>& prompt, bool& cached) {
  const auto session = session_of(testing::decoder_bytes(form));
  auto generator = Generator::make(*session, {}, {});
  EXPECT_TRUE(generator.ok()) << (generator.ok() ? "" : to_string(generator.error().diagnostic));
  if (!generator.ok()) return {};
  cached = generator->cached();
  auto made = generator->run(prompt, 12, silent_progress());
  EXPECT_TRUE(made.ok()) << (made.ok() ? "" : to_string(made.error().diagnostic));
  if (!made.ok()) return {};
  EXPECT_EQ(made->steps_ms.size(), 11U);
  // From the same prompt the same again: nothing is left of the first run.
  EXPECT_EQ(generator->run(prompt, 12, silent_progress())->tokens, made->tokens);
  return made->tokens;
}

TEST(Decoder, GeneratesTheSameWithAndWithoutCache) {
  const std::vector<std::int64_t> prompt = testing::decoder_tokens(6, 8);
  bool cached = false;
  const auto kept = continued({}, prompt, cached);
  EXPECT_TRUE(cached);
  ASSERT_EQ(kept.size(), 12U);
  EXPECT_EQ(continued({.cache = false}, prompt, cached), kept);
  EXPECT_FALSE(cached);
  EXPECT_EQ(continued({.cache = true, .positions = false}, prompt, cached), kept);
  EXPECT_EQ(continued({.cache = false, .positions = true, .fixed_length = 20}, prompt, cached),
            kept);
  EXPECT_NE(continued({.prefix = "other"}, prompt, cached), kept);
}

TEST(Decoder, RefusesWhatIsTooLongOrNoDecoder) {
  const auto fixed = session_of(testing::decoder_bytes({.cache = false, .fixed_length = 8}));
  auto generator = Generator::make(*fixed, {}, {});
  ASSERT_TRUE(generator.ok());
  const auto made = generator->run(testing::decoder_tokens(6, 8), 4, silent_progress());
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().diagnostic.id, "sequence-too-long");
  const auto plain = session_of(testing::fixture("plain"));
  EXPECT_EQ(Generator::make(*plain, {}, {}).error().diagnostic.id, "no-token-ids");
}

TEST(Decoder, MadeUpFeedsRun) {
  const auto session = session_of(testing::decoder_bytes({}));
  for (const std::int64_t free : {1, 3}) {
    FeedOptions options;
    options.free_size = free;
    const auto feeds = make_feeds(session->inputs(), options);
    ASSERT_TRUE(feeds.ok());
    const std::string logits = "logits";
    const auto run = session->run(*feeds, {&logits, 1});
    ASSERT_TRUE(run.ok()) << to_string(run.error().diagnostic);
    EXPECT_EQ((*run)[0].dims()[1], free);
  }
}

TEST(Decoder, BenchCountsTokens) {
  std::vector<GenerationTarget> targets;
  for (const bool cache : {true, false}) {
    targets.push_back({cache ? "kept" : "again",
                       [cache]() -> Result<std::unique_ptr<Session>> {
                         return session_of(testing::decoder_bytes({.cache = cache}));
                       },
                       {}});
  }
  const std::vector<std::vector<std::int64_t>> prompts = {testing::decoder_tokens(4, 1),
                                                          testing::decoder_tokens(6, 2)};
  GenerationOptions options;
  options.tokens = 5;
  options.rounds = 4;
  const auto times = bench_generation(targets, prompts, options, silent_progress());
  ASSERT_TRUE(times.ok()) << to_string(times.error().diagnostic);
  ASSERT_EQ(times->size(), 2U);
  EXPECT_TRUE((*times)[0].cached);
  EXPECT_FALSE((*times)[1].cached);
  for (const GenerationTimes& one : *times) {
    EXPECT_EQ(one.rounds, 4);
    EXPECT_EQ(one.prompt_tokens, 20);
    EXPECT_GT(one.decode_per_second, 0);
    EXPECT_GT(one.prefill_per_second, 0);
  }
}

}  // namespace
}  // namespace mcompress
