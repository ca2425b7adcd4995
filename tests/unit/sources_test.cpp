#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "mcompress/calibration.h"
#include "support/arrays.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::npy;
using testing::npy_floats;
using testing::TempFolder;
using testing::write_npz;

constexpr std::int64_t kFree = -1;

PortInfo port(std::string name, DataType type, const std::vector<std::int64_t>& dims) {
  PortInfo result;
  result.name = std::move(name);
  result.type.element = type;
  result.type.shape.emplace();
  for (const std::int64_t size : dims) {
    result.type.shape->push_back(size == kFree ? Dim{{}, "n"} : Dim{size, {}});
  }
  return result;
}

std::vector<float> ramp(std::size_t n, float first = 0) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = first + static_cast<float>(i);
  return values;
}

class Sources : public ::testing::Test {
 protected:
  Result<std::unique_ptr<DataSource>> open(const std::filesystem::path& path,
                                           std::vector<PortInfo> ports, DataOptions options = {}) {
    diagnostics = Diagnostics();
    return open_data(path, ports, options, diagnostics);
  }
  std::unique_ptr<DataSource> good(const std::filesystem::path& path, std::vector<PortInfo> ports,
                                   DataOptions options = {}) {
    auto source = open(path, std::move(ports), options);
    EXPECT_TRUE(source.ok()) << to_string(source.error().diagnostic);
    return source.ok() ? std::move(source).value() : nullptr;
  }
  std::string error(const std::filesystem::path& path, std::vector<PortInfo> ports,
                    DataOptions options = {}) {
    auto source = open(path, std::move(ports), options);
    if (source.ok()) return "ok";
    EXPECT_NE(source.error().code, Code::kInternal);
    EXPECT_EQ(source.error().diagnostic.where.file.find(folder.path().string()), 0u);
    std::string text = to_string(source.error().diagnostic);
    const std::string prefix = folder.path().string() + "/";
    for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) {
      text.erase(at, prefix.size());
    }
    return text;
  }
  std::string noted(std::size_t index) {
    return index < diagnostics.all().size() ? diagnostics.all()[index].message : "";
  }
  TempFolder folder;
  Diagnostics diagnostics;
};

std::vector<float> floats(Result<std::vector<NamedTensor>> feeds, std::size_t index = 0) {
  EXPECT_TRUE(feeds.ok()) << to_string(feeds.error().diagnostic);
  if (!feeds.ok()) return {};
  auto values = read_floats((*feeds)[index].tensor);
  EXPECT_TRUE(values.ok());
  return values.ok() ? *values : std::vector<float>();
}

std::vector<std::int64_t> dims(Result<std::vector<NamedTensor>> feeds, std::size_t index = 0) {
  if (!feeds.ok()) return {-1};
  const auto sizes = (*feeds)[index].tensor.dims();
  return {sizes.begin(), sizes.end()};
}

TEST_F(Sources, SlicesAlongTheBatchAxis) {
  write_npz(folder / "a.npz", {{"x", npy_floats({5, 2, 3}, ramp(30))}});
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 2, 3})});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->count(), 5);
  EXPECT_TRUE(data->can_batch());
  EXPECT_EQ(data->fixed_batch(), 0);
  EXPECT_EQ(data->description(), "5 samples from a.npz");
  EXPECT_EQ(dims(data->sample(1)), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(floats(data->sample(1)), ramp(6, 6));
  EXPECT_EQ(dims(data->batch(3, 2)), (std::vector<std::int64_t>{2, 2, 3}));
  EXPECT_EQ(floats(data->batch(3, 2)), ramp(12, 18));
  EXPECT_EQ(floats(data->sample(0)), ramp(6));
  EXPECT_FALSE(data->batch(4, 2).ok());
  EXPECT_FALSE(data->batch(-1, 1).ok());
  EXPECT_FALSE(data->batch(0, 0).ok());
}

TEST_F(Sources, IndexesWhenTheArrayHasOneAxisMore) {
  write_npz(folder / "a.npz", {{"input", npy_floats({4, 1, 3}, ramp(12))},
                               {"state", npy_floats({4, 2, 1, 2}, ramp(16))},
                               {"sr", npy<std::int64_t>("<i8", {4}, {8, 9, 10, 11})}});
  const auto data = good(folder / "a.npz", {port("input", DataType::kFloat, {kFree, kFree}),
                                            port("state", DataType::kFloat, {2, kFree, 2}),
                                            port("sr", DataType::kInt64, {})});
  ASSERT_NE(data, nullptr);
  EXPECT_FALSE(data->can_batch());
  EXPECT_EQ(dims(data->sample(2), 0), (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(dims(data->sample(2), 1), (std::vector<std::int64_t>{2, 1, 2}));
  EXPECT_EQ(dims(data->sample(2), 2), (std::vector<std::int64_t>{}));
  EXPECT_EQ(floats(data->sample(2), 2), std::vector<float>{10});
  EXPECT_FALSE(data->batch(0, 2).ok());
}

TEST_F(Sources, FeedingCanBeForced) {
  write_npz(folder / "a.npz", {{"x", npy_floats({4, 3}, ramp(12))}});
  DataOptions index, slice;
  index.feeding = Feeding::kIndex;
  slice.feeding = Feeding::kSlice;
  PortInfo any = port("x", DataType::kFloat, {});
  any.type.shape.reset();
  EXPECT_EQ(dims(good(folder / "a.npz", {any})->sample(0)), (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(dims(good(folder / "a.npz", {any}, index)->sample(0)), (std::vector<std::int64_t>{3}));
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {3})}, slice),
            "a.npz: x: the data has shape [4, 3], the model's input [3] (the rank fits feeding "
            "'index', not 'slice')");
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 3})}, index),
            "a.npz: x: the data has shape [4, 3], the model's input [n, 3] (the rank fits feeding "
            "'slice', not 'index')");
}

TEST_F(Sources, AScalarForAScalarInputBelongsToEverySample) {
  write_npz(folder / "a.npz",
            {{"x", npy_floats({4, 3}, ramp(12))}, {"rate", npy<std::int64_t>("<i8", {}, {16000})}});
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 3}),
                                            port("rate", DataType::kInt64, {})});
  ASSERT_NE(data, nullptr);
  EXPECT_TRUE(data->can_batch());
  EXPECT_EQ(floats(data->batch(2, 2), 1), std::vector<float>{16000});
}

TEST_F(Sources, FixedBatchIsReported) {
  write_npz(folder / "a.npz", {{"x", npy_floats({5, 3}, ramp(15))}});
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {8, 3})});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->fixed_batch(), 8);
  EXPECT_EQ(data->count(), 5);
}

TEST_F(Sources, ScaleAndBiasMakeFloats) {
  write_npz(folder / "a.npz", {{"x", npy<unsigned char>("|u1", {2, 2}, {0, 127, 128, 255})},
                               {"x_scale", npy_floats({}, {1.0f / 128})},
                               {"x_bias", npy<double>("<f8", {1}, {-127.0 / 128})}});
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 2})});
  ASSERT_NE(data, nullptr);
  EXPECT_TRUE(diagnostics.all().empty());
  EXPECT_EQ(floats(data->batch(0, 2)), (std::vector<float>{-127.f / 128, 0, 1.f / 128, 1}));
  const auto half = good(folder / "a.npz", {port("x", DataType::kFloat16, {kFree, 2})});
  ASSERT_NE(half, nullptr);
  EXPECT_EQ(floats(half->batch(1, 1)), (std::vector<float>{1.f / 128, 1}));
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kInt64, {kFree, 2})}),
            "a.npz: x: scale and bias make floats, the model's input is int64");
}

TEST_F(Sources, ScaleThatIsAnInputIsAnInput) {
  write_npz(folder / "a.npz",
            {{"x", npy_floats({2, 2}, ramp(4))}, {"x_scale", npy_floats({2, 1}, {7, 8})}});
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 2}),
                                            port("x_scale", DataType::kFloat, {kFree, 1})});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(floats(data->sample(1), 0), (std::vector<float>{2, 3}));
  EXPECT_EQ(floats(data->sample(1), 1), (std::vector<float>{8}));
}

TEST_F(Sources, ConvertsOnlyWhatStaysTheSame) {
  const auto feed = [&](const std::string& array, DataType type) {
    write_npz(folder / "a.npz", {{"x", array}});
    auto data = open(folder / "a.npz", {port("x", type, {kFree})});
    return data.ok() ? floats((*data)->batch(0, 2)) : std::vector<float>();
  };
  const std::vector<float> expected = {1, 3};
  EXPECT_EQ(feed(npy<std::int32_t>("<i4", {2}, {1, 3}), DataType::kInt64), expected);
  EXPECT_EQ(feed(npy<std::int64_t>("<i8", {2}, {1, 3}), DataType::kInt32), expected);
  EXPECT_EQ(feed(npy<std::uint8_t>("|u1", {2}, {1, 3}), DataType::kInt8), expected);
  EXPECT_EQ(feed(npy<std::uint8_t>("|b1", {2}, {1, 2}), DataType::kInt64),
            (std::vector<float>{1, 1}));
  EXPECT_TRUE(diagnostics.all().empty());
  EXPECT_EQ(feed(npy<double>("<f8", {2}, {1, 3}), DataType::kFloat), expected);
  EXPECT_EQ(noted(0), "the data is float64, the model's input float32: its values are rounded");
  EXPECT_EQ(feed(npy_floats({2}, expected), DataType::kDouble), expected);
  EXPECT_EQ(feed(npy_floats({2}, expected), DataType::kBfloat16), expected);
  EXPECT_EQ(feed(npy<std::uint16_t>("<f2", {2}, {0x3C00, 0x4200}), DataType::kFloat), expected);

  write_npz(folder / "a.npz", {{"x", npy<std::int64_t>("<i8", {2}, {1, 300})}});
  const auto narrow = good(folder / "a.npz", {port("x", DataType::kUint8, {kFree})});
  ASSERT_NE(narrow, nullptr);
  EXPECT_TRUE(narrow->sample(0).ok());
  auto beyond = narrow->sample(1);
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().diagnostic.message, "the value 300 does not fit into uint8");
  EXPECT_EQ(beyond.error().diagnostic.where.subject, "x");
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree})}),
            "a.npz: x: the data is int64, the model's input float32 (store how to scale it beside "
            "it (<input>_scale and <input>_bias), or convert it)");
  write_npz(folder / "a.npz", {{"x", npy_floats({2}, expected)}});
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kInt64, {kFree})}),
            "a.npz: x: the data is float32, the model's input int64 (convert with astype() if that "
            "is meant)");
  write_npz(folder / "a.npz", {{"x", npy<char32_t>("<U1", {2}, {U'a', U'b'})}});
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kInt64, {kFree})}),
            "a.npz: x: the data is text, the model's input int64");
}

TEST_F(Sources, ShapesThatDoNotFitAreExplained) {
  write_npz(folder / "a.npz", {{"x", npy_floats({2, 4, 5, 3}, ramp(120))}});
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 3, 4, 5})}),
            "a.npz: x: the data has shape [2, 4, 5, 3], the model's input [n, 3, 4, 5] (the axes "
            "look transposed: save array.transpose(0, 3, 1, 2))");
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 3, 7, 5})}),
            "a.npz: x: the data has shape [2, 4, 5, 3], the model's input [n, 3, 7, 5]");
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 2, 4, 5, 3})}),
            "a.npz: x: the data has shape [2, 4, 5, 3], the model's input [n, 2, 4, 5, 3] (the "
            "axis of the samples seems to be missing: save array[np.newaxis], or stack the "
            "samples)");
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {3})}),
            "a.npz: x: the data has shape [2, 4, 5, 3], the model's input [3] (the first axis "
            "counts the samples, the others are those of the input)");
}

TEST_F(Sources, MissingInputsNameWhatIsThere) {
  write_npz(folder / "a.npz", {{"imput", npy_floats({2, 1}, ramp(2))}});
  EXPECT_EQ(error(folder / "a.npz", {port("input", DataType::kFloat, {kFree, 1})}),
            "a.npz: input: there is no array for this input of the model; the data holds 'imput' "
            "(did you mean 'imput'?)");
  write_npz(folder / "a.npz", {{"arr_0", npy_floats({2, 1}, ramp(2))}});
  EXPECT_EQ(error(folder / "a.npz", {port("input", DataType::kFloat, {kFree, 1})}),
            "a.npz: input: there is no array for this input of the model; the data holds 'arr_0' "
            "(name the arrays like the inputs: np.savez(file, **{name: array}))");
}

TEST_F(Sources, CountsMustAgree) {
  write_npz(folder / "a.npz",
            {{"x", npy_floats({3, 1}, ramp(3))}, {"y", npy_floats({2, 1}, ramp(2))}});
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 1}),
                                     port("y", DataType::kFloat, {kFree, 1})}),
            "a.npz: y: there are 2 samples, but 3 of 'x'");
  write_npz(folder / "a.npz", {{"x", npy_floats({0, 1}, {})}});
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 1})}),
            "a.npz: the arrays hold no samples");
}

TEST_F(Sources, OtherArraysAreIgnoredWithANote) {
  write_npz(folder / "a.npz", {{"x", npy_floats({2, 1}, ramp(2))},
                               {"fp32_y", npy_floats({2}, ramp(2))},
                               {"note", npy_floats({}, {1})}});
  ASSERT_NE(good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 1})}), nullptr);
  ASSERT_EQ(diagnostics.all().size(), 1u);
  EXPECT_EQ(noted(0), "arrays that are no input of the model are ignored: 'fp32_y', 'note'");
}

TEST_F(Sources, Labels) {
  const std::string x = npy_floats({3, 1}, ramp(3));
  const std::vector<PortInfo> ports = {port("x", DataType::kFloat, {kFree, 1})};
  write_npz(folder / "a.npz", {{"x", x}, {"labels", npy<std::int64_t>("<i8", {3}, {4, -1, 2})}});
  auto data = good(folder / "a.npz", ports);
  EXPECT_TRUE(diagnostics.all().empty());
  ASSERT_TRUE(data->labels().numbers);
  EXPECT_EQ(*read_ints(*data->labels().numbers), (std::vector<std::int64_t>{4, -1, 2}));
  DataOptions two;
  two.limit = 2;
  write_npz(folder / "a.npz",
            {{"x", x}, {"labels", npy<std::uint8_t>("|u1", {3, 2}, {1, 2, 3, 4, 5, 6})}});
  data = good(folder / "a.npz", ports, two);
  EXPECT_EQ(data->count(), 2);
  EXPECT_EQ(*read_ints(*data->labels().numbers), (std::vector<std::int64_t>{1, 2, 3, 4}));
  write_npz(folder / "a.npz",
            {{"x", x}, {"labels", npy<char32_t>("<U2", {3}, {U'a', U'b', U'c', 0, 0, 0})}});
  data = good(folder / "a.npz", ports);
  EXPECT_EQ(data->labels().texts, (std::vector<std::string>{"ab", "c", ""}));
  write_npz(folder / "a.npz", {{"x", x}, {"labels", npy<std::int64_t>("<i8", {2}, {4, -1})}});
  EXPECT_EQ(error(folder / "a.npz", ports),
            "a.npz: labels: the labels are int64 [2], there are 3 samples");
  write_npz(folder / "a.npz", {{"x", x}, {"labels", npy_floats({3}, {4, -1, 2})}});
  EXPECT_EQ(error(folder / "a.npz", ports),
            "a.npz: labels: integers are wanted, the array holds float32 [3]");
}

TEST_F(Sources, LimitAndDigest) {
  const std::vector<PortInfo> ports = {port("x", DataType::kFloat, {kFree, 2})};
  write_npz(folder / "a.npz", {{"x", npy_floats({4, 2}, ramp(8))}});
  write_npz(folder / "b.npz", {{"x", npy_floats({4, 2}, ramp(8))}}, testing::Packing::kStored);
  write_npz(folder / "c.npz", {{"x", npy_floats({2, 2}, ramp(4))}});
  std::filesystem::create_directory(folder / "d");
  testing::write_file(folder / "d/x.npy", npy_floats({4, 2}, ramp(8)));
  DataOptions two;
  two.limit = 2;
  const auto a = good(folder / "a.npz", ports);
  EXPECT_NE(a->digest(), 0u);
  EXPECT_EQ(a->digest(), a->digest());
  EXPECT_EQ(a->digest(), good(folder / "b.npz", ports)->digest());
  EXPECT_EQ(a->digest(), good(folder / "d", ports)->digest());
  EXPECT_NE(a->digest(), good(folder / "a.npz", ports, two)->digest());
  EXPECT_EQ(good(folder / "c.npz", ports)->digest(), good(folder / "a.npz", ports, two)->digest());
  const auto read = good(folder / "a.npz", ports);
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_TRUE(read->sample(i).ok());
  EXPECT_EQ(read->digest(), a->digest());
  two.limit = 100;
  EXPECT_EQ(good(folder / "a.npz", ports, two)->count(), 4);
}

TEST_F(Sources, SizesAreCheckedBeforeAnythingIsAllocated) {
  DataOptions small;
  small.max_bytes = 10;
  write_npz(folder / "a.npz", {{"x", npy_floats({4, 2}, ramp(8))}});
  EXPECT_EQ(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 2})}, small),
            "a.npz: x: an array of 8 elements of 4 bytes passes the limit of 10 B");
  // Claims 16 TB and holds nothing.
  write_npz(
      folder / "a.npz",
      {{"x", testing::npy_bytes("<f4", std::vector<std::int64_t>{2, 2'000'000'000'000}, "")}});
  EXPECT_NE(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, kFree})}).find("limit"),
            std::string::npos);
  write_npz(folder / "a.npz",
            {{"x", testing::npy_bytes("<f4", std::vector<std::int64_t>{2, 2'000'000'000}, "")}});
  EXPECT_NE(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, kFree})})
                .find("the file holds 0"),
            std::string::npos);
  write_npz(folder / "a.npz",
            {{"x", testing::npy_bytes("<f4", std::vector<std::int64_t>{2'000'000'000, 0}, "")}});
  EXPECT_NE(error(folder / "a.npz", {port("x", DataType::kFloat, {kFree, kFree})})
                .find("without elements"),
            std::string::npos);
}

TEST_F(Sources, EmptyTensorsAreOrdinary) {
  write_npz(folder / "a.npz", {{"x", npy_floats({2, 0, 3}, {})}});
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, kFree, 3})});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(dims(data->batch(0, 2)), (std::vector<std::int64_t>{2, 0, 3}));
  EXPECT_NE(data->digest(), 0u);
}

TEST_F(Sources, FolderWithOneArrayPerInput) {
  testing::write_file(folder / "in_a.npy", npy_floats({2, 1}, ramp(2)));
  testing::write_file(folder / "b.npy", npy<std::uint8_t>("|u1", {2, 1}, {1, 2}));
  testing::write_file(folder / "b_scale.npy", npy_floats({}, {0.5f}));
  testing::write_file(folder / "labels.npy", npy<std::int64_t>("<i8", {2}, {3, 4}));
  const auto data = good(folder.path(), {port("in/a", DataType::kFloat, {kFree, 1}),
                                         port("b", DataType::kFloat, {kFree, 1})});
  ASSERT_NE(data, nullptr);
  EXPECT_TRUE(diagnostics.all().empty());
  EXPECT_TRUE(data->can_batch());
  EXPECT_EQ(floats(data->batch(0, 2), 1), (std::vector<float>{0.5f, 1}));
  EXPECT_TRUE(data->labels().numbers);
}

TEST_F(Sources, OneFilePerSample) {
  for (const int i : {10, 2, 1}) {
    const float first = static_cast<float>(i);
    testing::write_file(folder / ("x_" + std::to_string(i) + ".npy"),
                        npy_floats({3}, ramp(3, first)));
    testing::write_file(folder / ("y_" + std::to_string(i) + ".npy"),
                        npy_floats({1, 1}, ramp(1, first)));
  }
  testing::write_file(folder / "labels.npy", npy<std::int64_t>("<i8", {3}, {3, 4, 5}));
  const std::vector<PortInfo> ports = {port("x", DataType::kFloat, {kFree, 3}),
                                       port("y", DataType::kFloat, {kFree, 1})};
  const auto data = good(folder.path(), ports);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->count(), 3);
  EXPECT_FALSE(data->can_batch());
  EXPECT_TRUE(data->labels().numbers);
  EXPECT_EQ(dims(data->sample(2)), (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(floats(data->sample(1)), ramp(3, 2));
  EXPECT_EQ(floats(data->sample(2)), ramp(3, 10));
  EXPECT_NE(data->digest(), 0u);
  testing::write_file(folder / "x_10.npy", npy_floats({4}, ramp(4)));
  EXPECT_EQ(error(folder.path(), ports),
            "x_10.npy: x: the data has shape [1, 4], the model's input [n, 3]");
  std::filesystem::remove(folder / "x_10.npy");
  EXPECT_NE(error(folder.path(), ports).find("y: there are 3 samples, but 2 of 'x'"),
            std::string::npos);
}

TEST_F(Sources, FoldersPerInputOrPerSample) {
  const std::vector<PortInfo> ports = {port("x", DataType::kFloat, {kFree, 1}),
                                       port("y", DataType::kFloat, {kFree, 1})};
  for (const char* path : {"a/x/1.npy", "a/x/2.npy", "a/y/1.npy", "a/y/2.npy", "b/s1/x.npy",
                           "b/s1/y.npy", "b/s2/x.npy", "b/s2/y.npy"}) {
    std::filesystem::create_directories((folder / path).parent_path());
    const bool second = std::string_view(path).find('2') != std::string_view::npos;
    testing::write_file(folder / path, npy_floats({1, 1}, {second ? 2.0f : 1.0f}));
  }
  for (const char* path : {"a", "b"}) {
    const auto data = good(folder / path, ports);
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(data->count(), 2);
    EXPECT_EQ(floats(data->sample(1), 1), std::vector<float>{2});
  }
  EXPECT_EQ(good(folder / "a", ports)->digest(), good(folder / "b", ports)->digest());
}

TEST_F(Sources, AnyNamesServeAModelWithOneInput) {
  testing::write_file(folder / "cat.npy", npy_floats({1, 2}, ramp(2)));
  testing::write_file(folder / "dog.npy", npy_floats({2}, ramp(2, 5)));
  const auto data = good(folder.path(), {port("x", DataType::kFloat, {kFree, 2})});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(floats(data->sample(1)), ramp(2, 5));
  const auto one = good(folder / "cat.npy", {port("x", DataType::kFloat, {kFree, 2})});
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(one->count(), 1);
}

TEST_F(Sources, OnnxTestSets) {
  for (const int i : {0, 2, 10}) {
    const auto set = folder / ("test_data_set_" + std::to_string(i));
    std::filesystem::create_directory(set);
    const float first = static_cast<float>(i);
    const NamedTensor x{i == 2 ? "x" : "", make_float_tensor(ramp(2, first), {1, 2})};
    const NamedTensor y{i == 2 ? "y" : "", make_int64_tensor(std::vector<std::int64_t>{i}, {1})};
    // With names the numbers of the files do not matter.
    testing::write_file(set / (i == 2 ? "input_1.pb" : "input_0.pb"), *tensor_file_bytes(x));
    testing::write_file(set / (i == 2 ? "input_0.pb" : "input_1.pb"), *tensor_file_bytes(y));
    testing::write_file(set / "output_0.pb", "not read");
  }
  const std::vector<PortInfo> ports = {port("x", DataType::kFloat, {1, 2}),
                                       port("y", DataType::kInt64, {kFree})};
  const auto data = good(folder.path(), ports);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->count(), 3);
  EXPECT_FALSE(data->can_batch());
  for (const int i : {0, 1, 2}) {
    const float first = i == 0 ? 0.0f : i == 1 ? 2.0f : 10.0f;
    EXPECT_EQ(floats(data->sample(i), 0), ramp(2, first));
    EXPECT_EQ(floats(data->sample(i), 1), ramp(1, first));
  }
  EXPECT_EQ(good(folder / "test_data_set_2", ports)->count(), 1);
  DataOptions one;
  one.limit = 1;
  EXPECT_EQ(good(folder.path(), ports, one)->count(), 1);
  EXPECT_EQ(error(folder.path(), {port("x", DataType::kFloat, {1, 3}), ports[1]}),
            "test_data_set_0/input_0.pb: x: the data has shape [1, 2], the model's input [1, 3]");
  EXPECT_EQ(error(folder.path(), {ports[0], ports[1], port("z", DataType::kFloat, {1})}),
            "test_data_set_0: z: the test set has no tensor for this input of the model");
}

TEST_F(Sources, WhatIsNoDataIsRefused) {
  const std::vector<PortInfo> ports = {port("x", DataType::kFloat, {kFree, 2})};
  EXPECT_EQ(error(folder / "none.npz", ports), "none.npz: there is no such file");
  testing::write_file(folder / "a.doc", "hello");
  EXPECT_EQ(error(folder / "a.doc", ports),
            "a.doc: this is no data that can be read (data is an .npz, an .npy, a .bin, a list "
            "(.txt, .csv), or a folder of .npy or .bin files, of images, or of ONNX test sets)");
  testing::write_file(folder / "empty", "");
  EXPECT_NE(error(folder / "empty", ports).find("no data that can be read"), std::string::npos);
  std::filesystem::create_directory(folder / "d");
  EXPECT_EQ(error(folder / "d", ports),
            "d: the folder holds no data for the model's inputs 'x' (wanted: <input>.npy with all "
            "samples, <input>_0001.npy, <input>/0001.npy, test_data_set_*/input_*.pb, or for one "
            "input images or folders of images)");
  testing::write_file(folder / "a.npz", "PK\x03\x04 no zip");
  EXPECT_NE(error(folder / "a.npz", ports).find("can not be opened"), std::string::npos);
  EXPECT_NE(error(folder / "d", {}).find("no inputs"), std::string::npos);
}

TEST_F(Sources, DamageNamesTheInput) {
  // Random content does not shrink, so that the middle of the file is content.
  std::mt19937 random(1);
  std::vector<std::uint32_t> noise(4096);
  for (std::uint32_t& word : noise) word = random() & 0x3FFFFFFF;
  write_npz(folder / "a.npz", {{"x", npy("<f4", {64, 64}, noise)}});
  std::string bytes = testing::read_file(folder / "a.npz");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  testing::write_file(folder / "a.npz", bytes);
  const auto data = good(folder / "a.npz", {port("x", DataType::kFloat, {kFree, 64})});
  ASSERT_NE(data, nullptr);
  bool failed = false;
  for (std::int64_t i = 0; i < data->count() && !failed; ++i) {
    auto sample = data->sample(i);
    failed = !sample.ok();
    if (failed) {
      EXPECT_EQ(sample.error().code, Code::kInput);
      EXPECT_EQ(sample.error().diagnostic.where.subject, "x");
    }
  }
  EXPECT_TRUE(failed);
  EXPECT_EQ(data->digest(), 0u);
}

}  // namespace
}  // namespace mcompress
