// Rounding of weights against values computed here, element by element, for every operator with a
// weight: which elements share a scale, and what the codes are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "passes/common/weights.h"
#include "support/models.h"

namespace mcompress::testing {
namespace {

using Index = std::vector<std::int64_t>;

struct Form {
  std::string name;
  std::string node;                                   // reads x and w
  Index dims;                                         // of w
  std::function<std::int64_t(const Index&)> channel;  // output channel of an element
  std::int64_t channels = 0;
  std::int64_t axis = 0;
  std::int64_t groups = 1;
};

std::vector<Form> forms() {
  const auto at = [](std::size_t axis) {
    return [axis](const Index& index) { return index[axis]; };
  };
  return {
      {"Conv", "y = Conv(x, w)", {6, 4, 3, 3}, at(0), 6, 0},
      {"Conv 1-D", "y = Conv(x, w)", {5, 4, 7}, at(0), 5, 0},
      {"grouped Conv", "y = Conv<group = 2>(x, w)", {6, 2, 3, 3}, at(0), 6, 0, 2},
      {"depthwise Conv", "y = Conv<group = 8>(x, w)", {8, 1, 3, 3}, at(0), 8, 0, 8},
      {"ConvTranspose", "y = ConvTranspose(x, w)", {4, 6, 2, 2}, at(1), 6, 1},
      {"Gemm", "y = Gemm(x, w)", {9, 5}, at(1), 5, 1},
      {"Gemm transB", "y = Gemm<transB = 1>(x, w)", {5, 9}, at(0), 5, 0},
      {"Gemm transA", "y = Gemm<transA = 1>(x, w)", {9, 5}, at(1), 5, 1},
      {"MatMul", "y = MatMul(x, w)", {9, 5}, at(1), 5, 1},
      {"batched MatMul", "y = MatMul(x, w)", {2, 9, 5}, at(2), 5, 2},
  };
}

// Every element gets another magnitude; channels differ in range; the middle is off zero.
std::vector<float> numbers(std::size_t count) {
  std::mt19937 random(11);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = (static_cast<float>(random() % 2001U) / 1000.0F - 0.8F) *
                (1.0F + static_cast<float>(i % 7U));
  }
  return values;
}

std::vector<Index> indices_of(const Index& dims) {
  std::vector<Index> all;
  Index index(dims.size(), 0);
  for (;;) {
    all.push_back(index);
    std::size_t axis = dims.size();
    while (axis-- > 0) {
      if (++index[axis] < dims[axis]) break;
      index[axis] = 0;
      if (axis == 0) return all;
    }
  }
}

struct Rounded {
  WeightView view;
  QuantizedWeight weight;
  std::vector<int> codes;  // as numbers, in the order of memory
};

Rounded rounded(const Form& form, std::span<const float> values, WeightForm how, bool one_scale,
                WeightRounding rounding = {}, std::span<const double> means = {}) {
  const auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float x, float w) => (float y) { " +
      form.node + " }");
  Rounded result;
  const auto view = weight_view(*model->graph().first(), 1, form.dims);
  EXPECT_TRUE(view.has_value()) << form.name;
  if (!view) return result;
  result.view = *view;
  rounding.search_scale = false;
  const auto tensors = make_tensor_factory(1 << 20);
  const Executor executor(2);
  auto weight = quantize_weight(make_float_tensor(values, form.dims), *view, rounding, how,
                                one_scale, means, form.groups, {}, *tensors, executor);
  EXPECT_TRUE(weight.ok()) << form.name;
  if (!weight.ok()) return result;
  result.weight = std::move(weight).value();
  const bool is_signed = result.weight.codes.dtype() == DataType::kInt8;
  const auto pinned = result.weight.codes.storage()->pin(0, result.weight.codes.byte_size());
  EXPECT_TRUE(pinned.ok());
  for (const std::byte byte : pinned->bytes()) {
    result.codes.push_back(is_signed ? static_cast<int>(static_cast<std::int8_t>(byte))
                                     : static_cast<int>(byte));
  }
  return result;
}

struct Extent {
  float low = 0, high = 0;
};

std::map<std::int64_t, Extent> extents(const Form& form, std::span<const float> values, bool one) {
  std::map<std::int64_t, Extent> all;
  const auto indices = indices_of(form.dims);
  for (std::size_t i = 0; i < values.size(); ++i) {
    Extent& extent = all[one ? 0 : form.channel(indices[i])];
    extent.low = std::min(extent.low, values[i]);
    extent.high = std::max(extent.high, values[i]);
  }
  return all;
}

std::size_t count_of(const Form& form) {
  std::size_t count = 1;
  for (const std::int64_t size : form.dims) count *= static_cast<std::size_t>(size);
  return count;
}

TEST(WeightForms, SymmetricScalesAreThoseOfTheChannelsOfTheResult) {
  for (const Form& form : forms()) {
    for (const bool one : {false, true}) {
      const std::vector<float> values = numbers(count_of(form));
      const Rounded result = rounded(form, values, WeightForm::kSymmetric, one);
      EXPECT_EQ(result.view.axis, form.axis) << form.name;
      EXPECT_EQ(result.view.channels, form.channels) << form.name;
      const auto ranges = extents(form, values, one);
      ASSERT_EQ(result.weight.scales.size(), ranges.size()) << form.name;
      const auto indices = indices_of(form.dims);
      for (const auto& [channel, extent] : ranges) {
        const float scale = result.weight.scales[static_cast<std::size_t>(channel)];
        const float full = std::max(-extent.low, extent.high) / 127;
        // A depthwise kernel may take a slightly wider grid; nothing else is searched here.
        EXPECT_NEAR(scale, full, full * 1e-6F) << form.name << " channel " << channel;
      }
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto channel = static_cast<std::size_t>(one ? 0 : form.channel(indices[i]));
        const double exact = double{values[i]} / double{result.weight.scales[channel]};
        // Spatial kernels may take the other neighbour, so that their errors cancel.
        const bool spatial =
            form.dims.size() > 2 && form.name != "batched MatMul" && form.name != "ConvTranspose";
        EXPECT_LE(std::abs(exact - result.codes[i]), spatial ? 1.0 + 1e-4 : 0.5 + 1e-4)
            << form.name << " element " << i;
      }
    }
  }
}

TEST(WeightForms, AsymmetricZeroPointsAreExact) {
  for (const Form& form : forms()) {
    for (const bool one : {false, true}) {
      for (const int bits : {8, 7}) {
        WeightRounding rounding;
        rounding.max_code = bits == 8 ? 127 : 63;
        const std::vector<float> values = numbers(count_of(form));
        const Rounded result = rounded(form, values, WeightForm::kAffineInt8, one, rounding);
        const auto ranges = extents(form, values, one);
        ASSERT_EQ(result.weight.zero_points.size(), ranges.size()) << form.name;
        const int top = bits == 8 ? 255 : 127;
        const int lowest = bits == 8 ? -128 : -64;
        const auto indices = indices_of(form.dims);
        for (const auto& [channel, extent] : ranges) {
          const auto c = static_cast<std::size_t>(channel);
          const double scale = (double{extent.high} - double{extent.low}) / top;
          EXPECT_NEAR(double{result.weight.scales[c]}, scale, scale * 1e-6) << form.name;
          const int zero = static_cast<std::int8_t>(result.weight.zero_points[c]);
          EXPECT_NEAR(zero, lowest - double{extent.low} / scale, 0.5 + 1e-3) << form.name;
        }
        for (std::size_t i = 0; i < values.size(); ++i) {
          const auto c = static_cast<std::size_t>(one ? 0 : form.channel(indices[i]));
          const int zero = static_cast<std::int8_t>(result.weight.zero_points[c]);
          const double scale = result.weight.scales[c];
          EXPECT_GE(result.codes[i], lowest);
          EXPECT_LE(result.codes[i], lowest + top);
          // The end of the range may move by half a step with the zero point.
          EXPECT_NEAR((result.codes[i] - zero) * scale, values[i], scale * 1.001)
              << form.name << " element " << i;
        }
      }
    }
  }
}

TEST(WeightForms, SevenBitsKeepEveryPairOfProductsIn16Bits) {
  for (const Form& form : forms()) {
    for (const bool one : {false, true}) {
      WeightRounding rounding;
      rounding.max_code = 63;
      const Rounded result =
          rounded(form, numbers(count_of(form)), WeightForm::kSymmetric, one, rounding);
      const auto [low, high] = std::ranges::minmax_element(result.codes);
      EXPECT_GE(*low, -63) << form.name;
      EXPECT_LE(*high, 63) << form.name;
      EXPECT_LE(2 * 63 * 255, 32767);
      EXPECT_GE(std::max(-*low, *high), 62) << form.name << ": the range should be used";
    }
  }
}

// The mean of what rounding adds to a channel's output, for inputs of known means.
TEST(WeightForms, MeanShiftIsTheErrorTimesTheMeanOfTheInput) {
  for (const Form& form : forms()) {
    if (form.name == "ConvTranspose" || form.name == "Gemm transA" || form.dims.size() == 3) {
      continue;  // not among what is run in integers
    }
    const bool conv = form.dims.size() == 4;
    const std::int64_t inputs =
        conv ? form.dims[1] * form.groups : form.dims[0] * form.dims[1] / form.channels;
    std::vector<double> means;
    for (std::int64_t i = 0; i < inputs; ++i) means.push_back(0.5 + 0.25 * static_cast<double>(i));
    for (const WeightForm how : {WeightForm::kSymmetric, WeightForm::kAffineInt8}) {
      for (const bool one : {false, true}) {
        const std::vector<float> values = numbers(count_of(form));
        const Rounded result = rounded(form, values, how, one, {}, means);
        std::vector<double> shift(static_cast<std::size_t>(form.channels), 0);
        const auto indices = indices_of(form.dims);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const std::int64_t channel = form.channel(indices[i]);
          const auto c = static_cast<std::size_t>(one ? 0 : channel);
          const int zero = result.weight.zero_points.empty()
                               ? 0
                               : static_cast<std::int8_t>(result.weight.zero_points[c]);
          const double error =
              (result.codes[i] - zero) * double{result.weight.scales[c]} - double{values[i]};
          std::int64_t input = indices[i][form.axis == 0 ? 1 : 0];
          if (conv) input += channel / (form.channels / form.groups) * form.dims[1];
          shift[static_cast<std::size_t>(channel)] +=
              error * means[static_cast<std::size_t>(input)];
        }
        ASSERT_EQ(result.weight.mean_shift.size(), shift.size()) << form.name;
        for (std::size_t c = 0; c < shift.size(); ++c) {
          EXPECT_NEAR(result.weight.mean_shift[c], shift[c], 1e-9 + 1e-6 * std::abs(shift[c]))
              << form.name << " channel " << c;
        }
      }
    }
  }
}

TEST(WeightForms, ChannelsOfZerosAndAllZeros) {
  Form form = forms()[8];  // MatMul [9, 5]
  std::vector<float> values = numbers(count_of(form));
  for (std::size_t k = 0; k < 9; ++k) values[k * 5 + 2] = 0;
  for (const WeightForm how : {WeightForm::kSymmetric, WeightForm::kAffineInt8}) {
    for (const bool one : {false, true}) {
      for (const bool all : {false, true}) {
        const std::vector<float> given = all ? std::vector<float>(values.size(), 0.0F) : values;
        const Rounded result = rounded(form, given, how, one);
        for (std::size_t i = 0; i < given.size(); ++i) {
          if (given[i] != 0) continue;
          const std::size_t c = one ? 0 : i % 5;
          const int zero = result.weight.zero_points.empty()
                               ? 0
                               : static_cast<std::int8_t>(result.weight.zero_points[c]);
          EXPECT_EQ(result.codes[i], zero);
          EXPECT_GT(result.weight.scales[c], 0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mcompress::testing
