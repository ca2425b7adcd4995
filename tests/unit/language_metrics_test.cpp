#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "mcompress/data.h"
#include "mcompress/evaluate.h"
#include "support/arrays.h"
#include "support/decoder.h"
#include "support/models.h"
#include "support/sessions.h"

namespace mcompress {
namespace {

using testing::FakeSession;

// Token ids [count, length], and a mask where one is given.
class TokenData final : public DataSource {
 public:
  TokenData(std::vector<std::int64_t> ids, std::int64_t length, std::vector<std::int64_t> mask = {})
      : ids_(std::move(ids)), mask_(std::move(mask)), length_(length) {}
  std::int64_t count() const override { return static_cast<std::int64_t>(ids_.size()) / length_; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "tokens"; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    const auto part = [&](const std::vector<std::int64_t>& values) {
      return make_int64_tensor(std::span(values).subspan(static_cast<std::size_t>(first * length_),
                                                         static_cast<std::size_t>(count * length_)),
                               {count, length_});
    };
    std::vector<NamedTensor> feeds = {{"ids", part(ids_)}};
    if (!mask_.empty()) feeds.push_back({"mask", part(mask_)});
    return feeds;
  }
  bool can_batch() const override { return true; }
  std::int64_t fixed_batch() const override { return fixed; }
  const Labels& labels() const override { return labels_; }
  std::int64_t fixed = 0;

 private:
  std::vector<std::int64_t> ids_, mask_;
  std::int64_t length_;
  Labels labels_;
};

constexpr std::int64_t kB = LanguageInput::kBatch, kL = LanguageInput::kLength;

EvaluateOptions options_for(Metric metric) {
  EvaluateOptions options;
  options.metric = metric;
  options.language = {{"ids", InputRole::kTokenIds, DataType::kInt64, {kB, kL}, {}},
                      {"mask", InputRole::kAttentionMask, DataType::kInt64, {kB, kL}, {}}};
  return options;
}

// Logits that depend on the token at their place: logit(token, class).
FakeSession tagger(std::int64_t classes, std::function<float(std::int64_t, std::int64_t)> logit) {
  return FakeSession({"logits"}, [=](std::span<const NamedTensor> feeds) {
    const auto ids = read_ints(feeds[0].tensor).value();
    std::vector<float> values;
    for (const std::int64_t id : ids) {
      for (std::int64_t c = 0; c < classes; ++c) values.push_back(logit(id, c));
    }
    const auto dims = feeds[0].tensor.dims();
    return std::vector<NamedTensor>{
        {"logits", make_float_tensor(values, {dims[0], dims[1], classes})}};
  });
}

Result<Evaluation> judge(Session& session, DataSource& data, const EvaluateOptions& options,
                         std::optional<Evaluation>* reference = nullptr) {
  return evaluate(session, data, options, silent_progress(), reference);
}

TEST(Perplexity, OfAUniformModelIsTheVocabulary) {
  auto session = tagger(7, [](std::int64_t, std::int64_t) { return 3.5F; });
  TokenData data({0, 1, 2, 3, 4, 5, 6, 0}, 4);
  const auto found = judge(session, data, options_for(Metric::kPerplexity));
  ASSERT_TRUE(found.ok()) << to_string(found.error().diagnostic);
  EXPECT_NEAR(found->value, 7, 1e-12);
  EXPECT_EQ(found->decisions, 6);  // no sequence's first token
  EXPECT_NEAR(found->figures.at("nll_error"), 0, 1e-12);
}

TEST(Perplexity, LargeLogitsDoNotOverflow) {
  auto session = tagger(3, [](std::int64_t, std::int64_t c) { return c == 0 ? 3e38F : 0.0F; });
  TokenData data({0, 0, 0}, 3);
  EXPECT_NEAR(judge(session, data, options_for(Metric::kPerplexity))->value, 1, 1e-12);
}

TEST(Perplexity, PaddingAndContextDoNotCount) {
  // -log p of class c is log(1 + e) without, and log(1 + 1/e) with the bonus.
  auto session = tagger(2, [](std::int64_t, std::int64_t c) { return static_cast<float>(c); });
  const double one = std::log(1 + std::exp(-1.0)), zero = std::log(1 + std::exp(1.0));
  EvaluateOptions options = options_for(Metric::kPerplexity);
  TokenData masked({0, 1, 1, 0, 1, 0}, 6, {0, 1, 1, 1, 0, 0});
  auto found = judge(session, masked, options);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->decisions, 2);  // the one behind padding has nothing real in front of it
  EXPECT_NEAR(found->figures.at("nll"), (one + zero) / 2, 1e-12);
  TokenData negative({1, 0, 1, -100, -100}, 5);
  found = judge(session, negative, options);
  EXPECT_EQ(found->decisions, 2);
  EXPECT_NEAR(found->value, std::exp((one + zero) / 2), 1e-12);
  options.context_tokens = 2;
  found = judge(session, negative, options);
  EXPECT_EQ(found->decisions, 1);
  EXPECT_NEAR(found->figures.at("nll"), one, 1e-12);
  options.context_tokens = 0;
  options.pad_id = 0;
  TokenData padded({1, 1, 1, 0}, 4);
  EXPECT_EQ(judge(session, padded, options)->decisions, 2);
  options.context_tokens = 9;
  EXPECT_EQ(judge(session, padded, options).error().diagnostic.id, "no-tokens");
}

TEST(Perplexity, AgainstAReference) {
  const auto own_logit = [](std::int64_t id, std::int64_t c) {
    return 0.3F * static_cast<float>(c) - 0.2F * static_cast<float>(id);
  };
  const auto other_logit = [](std::int64_t id, std::int64_t c) {
    return c == id % 4 ? 1.5F : 0.1F * static_cast<float>(c);
  };
  auto session = tagger(4, own_logit);
  auto reference = tagger(4, other_logit);
  const std::vector<std::int64_t> ids = {0, 3, 2, 1, 1, 3, 0, 2, 2, 3};
  TokenData data(ids, 5);
  data.fixed = 2;
  EvaluateOptions options = options_for(Metric::kPerplexity);
  options.reference = &reference;
  std::optional<Evaluation> before;
  const auto found = judge(session, data, options, &before);
  ASSERT_TRUE(found.ok());
  ASSERT_TRUE(before.has_value());
  // The plain way: probabilities themselves.
  const auto probabilities = [](const auto& logit, std::int64_t id) {
    std::vector<double> p(4);
    double sum = 0;
    for (std::int64_t c = 0; c < 4; ++c) {
      p[static_cast<std::size_t>(c)] = std::exp(static_cast<double>(logit(id, c)));
      sum += p[static_cast<std::size_t>(c)];
    }
    for (double& value : p) value /= sum;
    return p;
  };
  std::vector<double> divergences;
  double own_nll = 0, other_nll = 0;
  int equal = 0, count = 0;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    if (i == 4) continue;
    const auto p = probabilities(other_logit, ids[i]), q = probabilities(own_logit, ids[i]);
    const auto target = static_cast<std::size_t>(ids[i + 1]);
    own_nll -= std::log(q[target]);
    other_nll -= std::log(p[target]);
    double sum = 0;
    for (std::size_t c = 0; c < 4; ++c) sum += p[c] * std::log(p[c] / q[c]);
    divergences.push_back(sum);
    equal += std::ranges::max_element(p) - p.begin() == std::ranges::max_element(q) - q.begin();
    ++count;
  }
  EXPECT_EQ(found->decisions, count);
  EXPECT_NEAR(found->value, std::exp(own_nll / count), 1e-6);
  EXPECT_NEAR(before->value, std::exp(other_nll / count), 1e-6);
  EXPECT_NEAR(*found->agreement, static_cast<double>(equal) / count, 1e-12);
  double sum = 0;
  for (const double value : divergences) sum += value;
  EXPECT_NEAR(found->figures.at("kl_mean"), sum / count, 1e-6);
  EXPECT_NEAR(found->figures.at("kl_p99"), *std::ranges::max_element(divergences), 1e-6);
  EXPECT_NEAR(drop_between(*before, *found), 100 * (std::exp((own_nll - other_nll) / count) - 1),
              1e-4);
}

TEST(Perplexity, OfADecoderInTheRuntime) {
  const auto model = testing::model_from_bytes(testing::decoder_bytes({}));
  auto session = find_runtime("onnxruntime").value()->open(*model, {}).value();
  testing::TempFolder folder;
  const std::vector<std::int64_t> tokens = testing::decoder_tokens(61, 5);
  testing::write_file(folder / "tokens.npy", testing::npy("<i8", {61}, tokens));
  SampleOptions options;
  options.sequence_length = 12;
  Diagnostics diagnostics;
  std::vector<PortInfo> inputs(session->inputs().begin(), session->inputs().end());
  options.language = language_inputs(*model);
  const DataPath path{{}, folder / "tokens.npy"};
  auto data = open_data(std::span(&path, 1), inputs, options, diagnostics);
  ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
  EvaluateOptions how;
  EXPECT_EQ(settled_metric(*session, **data, how), Metric::kPerplexity);
  const auto found = judge(*session, **data, how);
  ASSERT_TRUE(found.ok()) << to_string(found.error().diagnostic);
  EXPECT_EQ(found->metric, Metric::kPerplexity);
  EXPECT_EQ(found->decisions, 55);
  // Softmax in long double, sequence by sequence.
  long double nll = 0;
  const std::string logits = "logits";
  for (std::int64_t i = 0; i < 5; ++i) {
    const auto run = session->run((*data)->sample(i).value(), {&logits, 1});
    const auto values = read_floats((*run)[0]).value();
    for (std::size_t t = 0; t + 1 < 12; ++t) {
      long double sum = 0;
      for (std::size_t c = 0; c < 48; ++c) {
        sum += std::exp(static_cast<long double>(values[t * 48 + c]));
      }
      const auto target =
          static_cast<std::size_t>(tokens[static_cast<std::size_t>(i) * 12 + t + 1]);
      nll -= std::log(std::exp(static_cast<long double>(values[t * 48 + target])) / sum);
    }
  }
  EXPECT_NEAR(found->value, static_cast<double>(std::exp(nll / 55)), 1e-4);
}

TEST(Perplexity, WrongShapesAreNamed) {
  auto session = tagger(2, [](std::int64_t, std::int64_t) { return 0.0F; });
  TokenData beyond({0, 5, 1}, 3);
  EXPECT_EQ(judge(session, beyond, options_for(Metric::kPerplexity)).error().diagnostic.id,
            "token-out-of-range");
  FakeSession flat({"logits"}, [](std::span<const NamedTensor>) {
    return std::vector<NamedTensor>{
        {"logits", make_float_tensor(std::vector<float>{1, 2}, {1, 2})}};
  });
  TokenData data({0, 1, 1}, 3);
  EXPECT_EQ(judge(flat, data, options_for(Metric::kPerplexity)).error().diagnostic.id,
            "logits-shape");
}

// ------------------------------------------------------------------------------------ retrieval

FakeSession embedder(std::vector<std::vector<float>> table) {
  return FakeSession({"embedding"}, [table = std::move(table)](std::span<const NamedTensor> feeds) {
    std::vector<float> values;
    const auto ids = read_ints(feeds[0].tensor).value();
    const auto length = static_cast<std::size_t>(feeds[0].tensor.dims()[1]);
    for (std::size_t i = 0; i < ids.size(); i += length) {
      const auto& row = table[static_cast<std::size_t>(ids[i])];
      values.insert(values.end(), row.begin(), row.end());
    }
    return std::vector<NamedTensor>{
        {"embedding", make_float_tensor(values, {feeds[0].tensor.dims()[0], 2})}};
  });
}

TEST(Retrieval, NearestByCosine) {
  // Lengths do not count: 2's own, 5, is the nearest though short; 1 finds 3 before its own 4.
  auto session = embedder({{1, 0}, {0.9F, 0.3F}, {0, 2}, {3, 0.9F}, {0, 1}, {0.1F, 0.2F}});
  TokenData data({0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5}, 2);
  const auto found = judge(session, data, options_for(Metric::kRetrieval));
  ASSERT_TRUE(found.ok()) << to_string(found.error().diagnostic);
  EXPECT_EQ(found->decisions, 3);
  EXPECT_EQ(found->correct, 1);  // 0 finds 3; 1 finds 3, not 4; 2 finds 4, not 5
  EXPECT_NEAR(found->value, 1.0 / 3, 1e-12);
}

TEST(Retrieval, AgainstAReference) {
  auto session = embedder({{1, 0}, {0, 1}, {1, 0.1F}, {0.1F, 1}});
  auto reference = embedder({{1, 0}, {1, 0.2F}, {1, 0}, {0, 1}});
  TokenData data({0, 0, 1, 1, 2, 2, 3, 3}, 2);
  EvaluateOptions options = options_for(Metric::kRetrieval);
  options.reference = &reference;
  std::optional<Evaluation> before;
  const auto found = judge(session, data, options, &before);
  ASSERT_TRUE(found.ok());
  EXPECT_NEAR(found->value, 1, 1e-12);
  EXPECT_NEAR(before->value, 0.5, 1e-12);
  EXPECT_NEAR(*found->agreement, 0.5, 1e-12);
  const double c1 = 0.2 / std::sqrt(1.04), c2 = 1 / std::sqrt(1.01);
  EXPECT_NEAR(found->figures.at("mean_cosine"), (1 + c1 + c2 + c2) / 4, 1e-6);
  EXPECT_NEAR(found->figures.at("top10_overlap"), 1, 1e-12);
  TokenData odd({0, 0, 1, 1, 2, 2}, 2);
  EXPECT_EQ(judge(session, odd, options).error().diagnostic.id, "retrieval-pairs");
}

// ----------------------------------------------------------------------------------- generation

TEST(GenerationMetric, CountsEqualTokens) {
  // Both count upwards from the prompt; the candidate sticks at 4.
  const auto next = [](std::int64_t last) {
    return [last](std::int64_t id, std::int64_t c) {
      return c == std::min(id + 1, last) ? 1.0F : 0.0F;
    };
  };
  auto session = tagger(10, next(4)), reference = tagger(10, next(9));
  EvaluateOptions options = options_for(Metric::kGeneration);
  options.language.resize(1);
  options.tokens = 4;
  TokenData data({0, 1, 2, 0}, 2);  // 2 3 4 5 and 1 2 3 4
  EXPECT_EQ(judge(session, data, options).error().diagnostic.id, "metric-no-reference");
  options.reference = &reference;
  const auto found = judge(session, data, options);
  ASSERT_TRUE(found.ok()) << to_string(found.error().diagnostic);
  EXPECT_EQ(found->decisions, 8);
  EXPECT_EQ(found->correct, 7);
  EXPECT_NEAR(found->figures.at("first_difference"), 3.5, 1e-12);
  EXPECT_NEAR(found->figures.at("equal_sequences"), 0.5, 1e-12);
}

}  // namespace
}  // namespace mcompress
