#include "mcompress/codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "codec/adaptive.h"
#include "codec/huffman.h"
#include "codec/kernels.h"
#include "codec/plane.h"
#include "codec/prediction.h"
#include "codec/rans.h"

namespace mcompress::codec {
namespace {

// Entropy of the bytes in bytes, computed apart from the coders.
double entropy_bytes(const Buffer& data) {
  std::array<double, 256> counts{};
  for (const std::uint8_t byte : data) ++counts[byte];
  double bits = 0;
  for (const double count : counts) {
    if (count > 0) bits -= count * std::log2(count / static_cast<double>(data.size()));
  }
  return bits / 8;
}

Buffer normal_bytes(std::size_t count, double deviation, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, deviation);
  Buffer data(count);
  for (std::uint8_t& byte : data) {
    byte = static_cast<std::uint8_t>(std::lround(std::clamp(normal(random), -127.0, 127.0)));
  }
  return data;
}

Buffer weighted_bytes(std::size_t count, const std::vector<double>& weights, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::discrete_distribution<int> pick(weights.begin(), weights.end());
  Buffer data(count);
  for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(pick(random));
  return data;
}

struct Named {
  std::string name;
  Buffer data;
};

// At least two values each, as the coders ask for.
std::vector<Named> distributions() {
  std::vector<Named> list;
  list.push_back({"two symbols", {0, 255}});
  list.push_back({"three bytes", {7, 7, 8}});
  for (std::size_t length : {5, 31, 32, 33, 127, 4095, 4096, 4097, 20000, 262144, 262147}) {
    list.push_back({"normal " + std::to_string(length), normal_bytes(length, 30, 1)});
    list.push_back({"narrow " + std::to_string(length), normal_bytes(length, 1.5, 2)});
  }
  Buffer all(256 * 300);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i);
  list.push_back({"uniform", all});
  Buffer rare(100000, 128);
  rare[50000] = 3;
  list.push_back({"one rare", rare});
  std::vector<double> geometric(40), steep(256);
  for (std::size_t i = 0; i < geometric.size(); ++i)
    geometric[i] = std::pow(0.5, static_cast<double>(i));
  for (std::size_t i = 0; i < steep.size(); ++i)
    steep[i] = i == 0 ? 1000 : 1e-3 * static_cast<double>(i % 7);
  list.push_back({"geometric", weighted_bytes(200000, geometric, 3)});
  list.push_back({"steep", weighted_bytes(200000, steep, 4)});
  Buffer fibonacci;  // the longest codes that counts can ask for
  for (std::uint32_t a = 1, b = 1, s = 0; s < 22; ++s) {
    fibonacci.insert(fibonacci.end(), a, static_cast<std::uint8_t>(s));
    const std::uint32_t next = a + b;
    a = b;
    b = next;
  }
  list.push_back({"fibonacci", fibonacci});
  Buffer edges(30000);
  for (std::size_t i = 0; i < edges.size(); ++i) edges[i] = i % 3 == 0 ? 0 : i % 5 == 0 ? 255 : 254;
  list.push_back({"edges", edges});
  return list;
}

TEST(Huffman, EveryDistributionComesBack) {
  for (const Named& entry : distributions()) {
    for (const unsigned limit : {8U, 12U, 15U}) {
      const Classes lengths = huffman_lengths(count_bytes(entry.data), limit);
      Buffer coded;
      huffman_encode(entry.data, lengths, coded);
      Buffer out(entry.data.size(), 0xcc);
      ASSERT_TRUE(huffman_decode(coded, out)) << entry.name << " " << limit;
      ASSERT_EQ(out, entry.data) << entry.name << " " << limit;
      // A byte more or less, of either side, is no longer this plane.
      Buffer longer = coded;
      longer.push_back(0);
      EXPECT_FALSE(huffman_decode(longer, out)) << entry.name;
      EXPECT_FALSE(huffman_decode(Bytes(coded).first(coded.size() - 1), out)) << entry.name;
    }
  }
}

// The sizes of the textbook's example, and of counts whose code has to be cut to the limit:
// compared with all codes there are.
TEST(Huffman, PackageMergeFindsTheShortestLimitedCode) {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    const std::size_t symbols = 2 + random() % 6;
    const auto limit = static_cast<unsigned>(3 + random() % 3);
    Counts counts{};
    for (std::size_t s = 0; s < symbols; ++s) counts[s] = 1U << (random() % 9);
    // All length vectors with Kraft's sum at most 1.
    std::uint64_t least = UINT64_MAX;
    std::vector<unsigned> lengths(symbols, 1);
    for (;;) {
      double sum = 0;
      std::uint64_t bits = 0;
      for (std::size_t s = 0; s < symbols; ++s) {
        sum += std::ldexp(1.0, -static_cast<int>(lengths[s]));
        bits += std::uint64_t{counts[s]} * lengths[s];
      }
      if (sum <= 1) least = std::min(least, bits);
      std::size_t at = 0;
      while (at < symbols && lengths[at] == limit) lengths[at++] = 1;
      if (at == symbols) break;
      ++lengths[at];
    }
    const Classes found = huffman_lengths(counts, limit);
    EXPECT_EQ(huffman_bits(counts, found), least) << round;
    EXPECT_LE(*std::max_element(found.begin(), found.end()), limit);
  }
}

// Those of all scales that the counts allow.
std::vector<Frequencies> all_frequencies(const Counts& counts) {
  std::uint64_t total = 0;
  for (const std::uint32_t count : counts) total += count;
  std::vector<Frequencies> all;
  for (unsigned bits = 12; bits <= 14; ++bits) {
    const std::uint64_t most = *std::max_element(counts.begin(), counts.end());
    if (bits == 12 || most << bits < total * 4095) all.push_back(rans_frequencies(counts, bits));
  }
  return all;
}

TEST(Rans, EveryDistributionComesBackPlainAndInVectors) {
  for (const Named& entry : distributions()) {
    const Counts counts = count_bytes(entry.data);
    for (const Frequencies& frequencies : all_frequencies(counts)) {
      const std::string name = entry.name + " in " + std::to_string(frequencies.bits) + " bits";
      std::uint32_t sum = 0;
      for (std::size_t s = 0; s < 256; ++s) {
        sum += frequencies[s];
        EXPECT_EQ(frequencies[s] > 0, counts[s] > 0) << name << s;
        EXPECT_LT(frequencies[s], 4096) << name << s;
      }
      ASSERT_EQ(sum, 1U << frequencies.bits) << name;
      Buffer coded, again;
      rans_encode(entry.data, frequencies, coded);
      rans_encode(entry.data, frequencies, again);
      EXPECT_EQ(coded, again) << name;
      Buffer fast(entry.data.size(), 0xcc), plain(entry.data.size(), 0xdd);
      ASSERT_TRUE(rans_decode(coded, fast)) << name;
      ASSERT_TRUE(rans_decode(coded, plain, true)) << name;
      ASSERT_EQ(fast, entry.data) << name;
      ASSERT_EQ(plain, entry.data) << name;
      Buffer longer = coded;
      longer.insert(longer.end(), 2, 0);
      EXPECT_FALSE(rans_decode(longer, fast)) << name;
      for (std::size_t cut = 1; cut <= std::min<std::size_t>(coded.size(), 40); ++cut) {
        EXPECT_FALSE(rans_decode(Bytes(coded).first(coded.size() - cut), fast)) << name << cut;
      }
      // The table, states and first words.
      for (std::size_t bit = 0; bit < 8 * std::min<std::size_t>(coded.size(), 200); ++bit) {
        Buffer broken = coded;
        broken[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        if (entry.data.size() < 5000) {
          EXPECT_EQ(rans_decode(broken, fast), rans_decode(broken, plain, true)) << name << bit;
        }
      }
    }
  }
}

TEST(Rans, FrequenciesAreTheBestThereAre) {
  // No step from one value to another makes the symbols smaller.
  std::mt19937 random(6);
  for (int round = 0; round < 50; ++round) {
    Counts counts{};
    const std::size_t symbols = 2 + random() % 250;
    for (std::size_t s = 0; s < symbols; ++s)
      counts[s] = static_cast<std::uint32_t>(1 + random() % (1U << (random() % 16)));
    for (const Frequencies& f : all_frequencies(counts)) {
      const auto cost = [&](std::size_t s, double frequency) {
        return -static_cast<double>(counts[s]) * std::log2(frequency);
      };
      for (std::size_t a = 0; a < symbols; ++a) {
        for (std::size_t b = 0; b < symbols; ++b) {
          if (a == b || f[a] < 2 || f[b] == 4095) continue;
          const double before = cost(a, f[a]) + cost(b, f[b]);
          const double after = cost(a, f[a] - 1) + cost(b, f[b] + 1);
          EXPECT_LE(before, after + 1e-5) << round << " " << a << " " << b;
        }
      }
    }
  }
}

TEST(Rans, HostileHeadsAreRefused) {
  const Buffer data = normal_bytes(2000, 3, 31);
  Buffer coded;
  rans_encode(data, rans_frequencies(count_bytes(data)), coded);
  Buffer out(data.size());
  ASSERT_TRUE(rans_decode(coded, out));
  Buffer scale = coded;
  scale[0] |= 3;  // 15 bits
  EXPECT_FALSE(rans_decode(scale, out));
  Buffer tail = coded;
  tail[0] = static_cast<std::uint8_t>((tail[0] & 3) | 63 << 2);  // 2016 symbols
  EXPECT_FALSE(rans_decode(tail, out));
  for (std::size_t size = 0; size < 3; ++size) {
    EXPECT_FALSE(rans_decode(Bytes(coded).first(size), out));
    EXPECT_FALSE(rans_decode_full(Bytes(coded).first(size), out));
  }
  EXPECT_FALSE(rans_decode(coded, std::span(out).first(0)));
  // Neither form reads as the other.
  EXPECT_FALSE(rans_decode_full(coded, out));
}

TEST(Coders, SizesAreNearTheEntropy) {
  for (const double deviation : {0.0, 2.0, 8.0, 30.0}) {
    Buffer data = normal_bytes(1 << 18, deviation, 7);
    if (deviation == 0) data = weighted_bytes(1 << 18, {90, 2, 2, 2, 2, 2}, 8);
    const double entropy = entropy_bytes(data);
    const Counts counts = count_bytes(data);
    Buffer huffman, rans;
    huffman_encode(data, huffman_lengths(counts, kFastHuffmanBits), huffman);
    rans_encode(data, rans_frequencies(counts), rans);
    EXPECT_GT(static_cast<double>(huffman.size()), entropy);
    EXPECT_GT(static_cast<double>(rans.size()), entropy);
    EXPECT_LT(static_cast<double>(rans.size()), entropy * 1.003) << deviation;
    // Integer code lengths: the bits of the code are the bound that can be reached.
    const double ideal = static_cast<double>(huffman_bits(counts, huffman_lengths(counts, 15))) / 8;
    EXPECT_LT(static_cast<double>(huffman.size()), ideal * 1.01) << deviation;
  }
}

TEST(Adaptive, EveryDistributionComesBack) {
  for (const Named& entry : distributions()) {
    if (entry.data.size() > kMostAdaptive) continue;
    const auto coded = adaptive_encode(entry.data, ~std::size_t{0});
    ASSERT_TRUE(coded.has_value()) << entry.name;
    Buffer out(entry.data.size(), 0xcc);
    ASSERT_TRUE(adaptive_decode(*coded, out)) << entry.name;
    ASSERT_EQ(out, entry.data) << entry.name;
    EXPECT_EQ(adaptive_encode(entry.data, coded->size()), coded) << entry.name;
    EXPECT_FALSE(adaptive_encode(entry.data, coded->size() - 1).has_value()) << entry.name;
    Buffer longer = *coded;
    longer.push_back(0);
    EXPECT_FALSE(adaptive_decode(longer, out)) << entry.name;
    EXPECT_FALSE(adaptive_decode({}, out));
  }
}

// Computed by an implementation of docs/format.md in another language.
TEST(Adaptive, BytesAreThoseOfTheFormat) {
  Buffer few(64), many(48);
  for (std::size_t i = 0; i < few.size(); ++i) {
    few[i] = static_cast<std::uint8_t>(i % 3 != 0 ? (7 * i * i + i) % 13 : 5);
  }
  for (std::size_t i = 0; i < many.size(); ++i) {
    many[i] = static_cast<std::uint8_t>(200 + i * i % 9 - i % 4 * 40);
  }
  EXPECT_EQ(
      adaptive_encode(few, 100),
      (Buffer{0x04, 0xa5, 0x34, 0x27, 0xc7, 0xd1, 0x2c, 0xdc, 0xfe, 0x1f, 0x77, 0x3e, 0xc1, 0x17,
              0x1f, 0x42, 0xfb, 0xba, 0xfd, 0x5d, 0x76, 0x28, 0xaa, 0xc1, 0x61, 0xcc, 0xe3}));
  EXPECT_EQ(adaptive_encode(many, 100),
            (Buffer{0x08, 0x37, 0x8d, 0xae, 0x3f, 0x04, 0x1f, 0x26, 0xb9, 0x1f, 0x2e, 0x07, 0x26,
                    0xcc, 0x4d, 0x39, 0x92, 0x94, 0x9f, 0xf6, 0xfc, 0x2f, 0x13, 0xba, 0xf5}));
}

TEST(Adaptive, HostileBytesAreRefusedOrDecodedWithinTheirBounds) {
  const Buffer data = normal_bytes(3000, 4, 21);
  const Buffer coded = *adaptive_encode(data, data.size());
  Buffer out(data.size());
  for (const std::uint8_t bits : std::to_array<std::uint8_t>({0, 7, 9, 255})) {
    Buffer other = coded;
    other[0] = bits;
    EXPECT_FALSE(adaptive_decode(other, out)) << int{bits};
  }
  // What is cut off stands for other symbols; those have no other code.
  for (std::size_t size = 0; size < coded.size(); size += 7) {
    const Bytes cut = Bytes(coded).first(size);
    if (!adaptive_decode(cut, out)) continue;
    const Buffer again = *adaptive_encode(out, out.size());
    EXPECT_TRUE(std::ranges::equal(again, cut)) << size;
  }
  Buffer large(kMostAdaptive + 1);
  EXPECT_FALSE(adaptive_decode(coded, large));
  std::mt19937 random(22);
  for (int round = 0; round < 300; ++round) {
    Buffer noise(1 + random() % 40);
    for (std::uint8_t& byte : noise) byte = static_cast<std::uint8_t>(random());
    noise[0] = static_cast<std::uint8_t>(1 + noise[0] % 8);
    Buffer few(1 + random() % 40);
    if (adaptive_decode(noise, few)) {
      EXPECT_EQ(adaptive_encode(few, 100), noise) << round;
    }
  }
}

// Of few bytes a table would be a tenth.
TEST(Adaptive, FewSymbolsAreNearTheirEntropyWithoutATable) {
  for (const double deviation : {1.5, 8.0, 20.0}) {
    const Buffer data = normal_bytes(2000, deviation, 23);
    Buffer huffman;
    huffman_encode(data, huffman_lengths(count_bytes(data), kFastHuffmanBits), huffman);
    const std::size_t size = adaptive_encode(data, data.size())->size();
    EXPECT_LT(static_cast<double>(size), entropy_bytes(data) * 1.07) << deviation;
    EXPECT_LT(size, huffman.size()) << deviation;
  }
}

TEST(Cost, LogarithmsAreThoseOfTheLibrary) {
  for (std::uint32_t f = 1; f <= 4096; ++f) {
    EXPECT_NEAR(cost_of_frequency()[f] / 65536.0, std::log2(4096.0 / f), 3e-5) << f;
  }
}

TEST(Plane, ChoosesByWhatItHolds) {
  const auto method_of = [](const Buffer& data) {
    Buffer coded;
    encode_plane(data, {}, coded);
    Buffer out(data.size());
    ByteReader in(coded);
    EXPECT_TRUE(decode_plane(in, out));
    EXPECT_EQ(in.left(), 0U);
    EXPECT_EQ(out, data);
    return static_cast<PlaneMethod>(coded[0]);
  };
  EXPECT_EQ(method_of({}), PlaneMethod::kRaw);
  EXPECT_EQ(method_of({1}), PlaneMethod::kConstant);
  EXPECT_EQ(method_of(Buffer(5000, 9)), PlaneMethod::kConstant);
  Buffer all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i);
  EXPECT_EQ(method_of(all), PlaneMethod::kRaw);
  EXPECT_EQ(method_of(normal_bytes(1000, 4, 8)), PlaneMethod::kHuffman);
  EXPECT_EQ(method_of(normal_bytes(1 << 18, 1, 9)), PlaneMethod::kRans);
  // Nearly all one value, the others spread over many: 12 bits of frequency are too coarse.
  Buffer spread(1 << 18, 77);
  std::mt19937 random(10);
  for (int i = 0; i < 400; ++i)
    spread[random() % spread.size()] = static_cast<std::uint8_t>(random());
  EXPECT_EQ(method_of(spread), PlaneMethod::kSparse);
  // Adaptive coding takes what is small, and of the rest what it makes much smaller.
  const auto thorough = [](const Buffer& data) {
    PlaneOptions options;
    options.thorough = true;
    Buffer coded;
    encode_plane(data, options, coded);
    Buffer out(data.size());
    ByteReader in(coded);
    EXPECT_TRUE(decode_plane(in, out));
    EXPECT_EQ(out, data);
    return static_cast<PlaneMethod>(coded[0]);
  };
  EXPECT_EQ(thorough(normal_bytes(1000, 4, 8)), PlaneMethod::kAdaptive);
  EXPECT_EQ(thorough(normal_bytes(1 << 16, 30, 8)), PlaneMethod::kRans);
  EXPECT_EQ(thorough(normal_bytes(1 << 18, 1, 9)), PlaneMethod::kRans);
}

std::vector<Elements> all_kinds() {
  std::vector<Elements> kinds;
  for (const std::uint8_t width : std::to_array<std::uint8_t>({1, 2, 4, 8})) {
    kinds.push_back({width, false, false});
    kinds.push_back({width, true, false});
  }
  kinds.push_back({1, false, true});
  return kinds;
}

void expect_block(std::span<const std::byte> bytes, const Elements& elements,
                  const std::string& what) {
  for (const CodingEffort effort : {CodingEffort::kFast, CodingEffort::kThorough}) {
    const auto coded = encode_block(bytes, elements, effort);
    EXPECT_EQ(coded, encode_block(bytes, elements, effort)) << what;
    EXPECT_LE(coded.size(), bytes.size() + kBlockOverhead) << what;
    std::vector<std::byte> out(bytes.size(), std::byte{0xee});
    ASSERT_TRUE(decode_block(coded, out).ok()) << what;
    ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), out.begin())) << what;
  }
}

TEST(Block, EveryKindOfEveryDistributionComesBack) {
  for (const Named& entry : distributions()) {
    if (entry.data.size() > 30000) continue;
    for (const Elements& kind : all_kinds()) {
      expect_block(std::as_bytes(std::span(entry.data)), kind,
                   entry.name + " width " + std::to_string(kind.width));
    }
  }
  for (const Elements& kind : all_kinds()) {
    EXPECT_TRUE(encode_block({}, kind, CodingEffort::kFast).empty());
    EXPECT_TRUE(decode_block({}, {}).ok());
    const std::byte one{42};
    expect_block({&one, 1}, kind, "one byte");
    expect_block(std::vector<std::byte>(100001, std::byte{0}), kind, "zeros");
  }
}

std::vector<float> normal_floats(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05F);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

double ratio_of(std::span<const std::byte> bytes, const Elements& elements) {
  expect_block(bytes, elements, "ratio");
  return static_cast<double>(encode_block(bytes, elements, CodingEffort::kFast).size()) /
         static_cast<double>(bytes.size());
}

TEST(Block, FloatsOfWeightsShrinkToWhatTheirExponentsHold) {
  const std::vector<float> values = normal_floats(1 << 17, 11);
  EXPECT_LT(ratio_of(std::as_bytes(std::span(values)), {4, true, false}), 0.85);
  std::vector<std::uint16_t> halves(values.size());  // bfloat16: the upper half
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, &values[i], 4);
    halves[i] = static_cast<std::uint16_t>(bits >> 16);
  }
  EXPECT_LT(ratio_of(std::as_bytes(std::span(halves)), {2, true, false}), 0.68);
}

TEST(Block, PrunedAndClusteredFloatsAreCodedAsWhatTheyAre) {
  std::vector<float> values = normal_floats(1 << 17, 12);
  std::mt19937 random(13);
  for (float& value : values) {
    if (random() % 10 != 0) value = 0;
  }
  // 10 % left: 27 bits each and 0.47 bits of place.
  EXPECT_LT(ratio_of(std::as_bytes(std::span(values)), {4, true, false}), 0.101);
  for (float& value : values) {
    if (value != 0) value = static_cast<float>(random() % 15) - 7.5F;
  }
  // Entropy: h(0.1) + 0.1 log2 15 = 0.86 bits of 32.
  EXPECT_LT(ratio_of(std::as_bytes(std::span(values)), {4, true, false}), 0.0275);
}

TEST(Block, ScatteredBitsOfAStepByStepSequenceAreDifferences) {
  std::vector<std::int64_t> steps(20000);
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<std::int64_t>(3 * i + 5);
  EXPECT_LT(ratio_of(std::as_bytes(std::span(steps)), {8, false, false}), 0.001);
}

// Numbers that follow the one before and the one a row above: s[i] = 0.5 s[i-1] + 0.3 s[i-37] +
// noise.
Buffer rows_of_neighbours(std::size_t count, std::uint8_t centre) {
  std::mt19937 random(21);
  std::normal_distribution<double> normal(0, 12);
  std::vector<double> s(count);
  Buffer bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    s[i] = (i > 0 ? 0.5 * s[i - 1] : 0) + (i >= 37 ? 0.3 * s[i - 37] : 0) + normal(random);
    s[i] = std::clamp(s[i], -127.0, 127.0);
    bytes[i] = static_cast<std::uint8_t>(std::lround(s[i]) + centre);
  }
  return bytes;
}

TEST(Prediction, FindsTheNeighboursAndComesBack) {
  for (const std::uint8_t centre : {std::uint8_t{0}, std::uint8_t{128}}) {
    const Buffer bytes = rows_of_neighbours(60000, centre);
    const auto predictor = find_predictor(bytes);
    ASSERT_TRUE(predictor.has_value());
    std::map<std::uint32_t, int> taps;
    for (const Tap& tap : predictor->taps) taps[tap.lag] = tap.coefficient;
    EXPECT_NEAR(taps[1], 32, 3);
    EXPECT_NEAR(taps[37], 19, 3);
    Buffer left = predicted_away(bytes, *predictor);
    // The noise is what is left: log2(12 sqrt(2 pi e)) = 5.63 bits.
    EXPECT_NEAR(entropy_bytes(left) * 8 / 60000, 5.63, 0.03);
    predict_back(left, *predictor);
    EXPECT_EQ(left, bytes);
    const auto view = std::as_bytes(std::span(bytes));
    expect_block(view, {1, false, false}, "predicted");
    const auto coded = encode_block(view, {1, false, false}, CodingEffort::kThorough);
    EXPECT_EQ(std::to_integer<int>(coded[0]), 6);
    EXPECT_LT(static_cast<double>(coded.size()), 60000 * 5.68 / 8);
  }
}

TEST(Prediction, HalvesOfBytesFollowTheirNeighboursToo) {
  const Buffer wide = rows_of_neighbours(300000, 0);  // too much for adaptive coding
  Buffer halves(wide.size()), bytes(wide.size() / 2);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    halves[i] =
        static_cast<std::uint8_t>(std::clamp(8 + static_cast<std::int8_t>(wide[i]) / 8, 0, 15));
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(halves[2 * i] | halves[2 * i + 1] << 4);
  }
  const auto view = std::as_bytes(std::span(bytes));
  for (const bool nibbles : {false, true}) {
    expect_block(view, {1, false, nibbles}, "predicted halves");
    const auto coded = encode_block(view, {1, false, nibbles}, CodingEffort::kThorough);
    EXPECT_EQ(std::to_integer<int>(coded[0]), 7);
    EXPECT_LT(static_cast<double>(coded.size()), 0.93 * entropy_bytes(halves));
  }
}

TEST(Prediction, ComesBackWhateverTheTapsAre) {
  std::mt19937 random(22);
  const Buffer bytes = normal_bytes(3000, 60, 23);
  for (int round = 0; round < 50; ++round) {
    Predictor predictor;
    predictor.centre = static_cast<std::uint8_t>(random());
    for (unsigned t = 0; t < 1 + random() % kMostTaps; ++t) {
      const auto coefficient =
          static_cast<std::int8_t>(random() % 2 == 0 ? -128 : random() % 127 + 1);
      predictor.taps.push_back({static_cast<std::uint32_t>(1 + random() % 2999), coefficient});
    }
    Buffer left = predicted_away(bytes, predictor);
    predict_back(left, predictor);
    ASSERT_EQ(left, bytes);
  }
  // Noise has no neighbours.
  EXPECT_FALSE(find_predictor(normal_bytes(60000, 30, 24)).has_value());
  EXPECT_FALSE(find_predictor(normal_bytes(100, 30, 24)).has_value());
}

TEST(Prediction, HostileTapsAreRefused) {
  const Buffer plane = {1, 1, 7};  // 20 bytes of 7
  const auto refused = [&](Buffer head) {
    head.insert(head.end(), plane.begin(), plane.end());
    std::vector<std::byte> out(20);
    return !decode_block(std::as_bytes(std::span(head)), out).ok();
  };
  EXPECT_FALSE(refused({6, 0, 1, 3, 64}));
  EXPECT_TRUE(refused({7, 0, 1, 3, 64}));                         // a half of 7 + ... above 15
  EXPECT_TRUE(refused({6, 0, 0}));                                // no tap
  EXPECT_TRUE(refused({6, 0, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));  // too many
  EXPECT_TRUE(refused({6, 0, 1, 0, 64}));                         // of itself
  EXPECT_TRUE(refused({6, 0, 1, 20, 64}));                        // in front of the block
  EXPECT_TRUE(refused({6, 0, 1, 1, 0}));                          // for nothing
  EXPECT_TRUE(refused({6, 0, 1, 0x80, 0x80, 0x04, 64}));          // lag of 65536
}

TEST(Block, NibblesReachTheirEntropy) {
  std::vector<double> weights(16);
  for (std::size_t i = 0; i < 16; ++i)
    weights[i] = std::exp(-0.5 * std::pow((static_cast<double>(i) - 7.5) / 2, 2));
  const Buffer low = weighted_bytes(1 << 16, weights, 14),
               high = weighted_bytes(1 << 16, weights, 15);
  Buffer bytes(low.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(low[i] | high[i] << 4);
  }
  const double entropy = entropy_bytes(low) + entropy_bytes(high);
  const double coded = ratio_of(std::as_bytes(std::span(bytes)), {1, false, true}) *
                       static_cast<double>(bytes.size());
  EXPECT_LT(coded, entropy * 1.003);
}

TEST(Block, ArbitraryBytesAreRefusedOrDecodedWithinTheirBounds) {
  std::mt19937 random(16);
  const Buffer data = normal_bytes(3000, 3, 17);
  for (const Elements& kind : all_kinds()) {
    const auto coded = encode_block(std::as_bytes(std::span(data)), kind, CodingEffort::kThorough);
    std::vector<std::byte> out(data.size());
    for (std::size_t length = 0; length < coded.size(); ++length) {
      EXPECT_FALSE(decode_block(std::span(coded).first(length), out).ok()) << length;
    }
    for (int round = 0; round < 2000; ++round) {
      auto broken = coded;
      for (int flips = 0; flips < 3; ++flips) {
        broken[random() % std::min<std::size_t>(broken.size(), 400)] ^=
            static_cast<std::byte>(1U << (random() % 8));
      }
      static_cast<void>(decode_block(broken, out).ok());
    }
  }
  const std::byte unknown[] = {std::byte{6}, std::byte{0}};
  std::vector<std::byte> out(2);
  EXPECT_FALSE(decode_block(unknown, out).ok());
}

}  // namespace
}  // namespace mcompress::codec
