// Samples from folders of images, raw files and lists; several sources at once; balancing.
#include "mcompress/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "support/arrays.h"
#include "support/images.h"
#include "support/models.h"

namespace mcompress {
namespace {

using testing::npy;
using testing::npy_floats;
using testing::png_bytes;
using testing::TempFolder;
using testing::write_bytes;
using testing::write_npz;

PortInfo port_of(std::string name, DataType type, const std::vector<std::int64_t>& dims) {
  PortInfo port;
  port.name = std::move(name);
  port.type.element = type;
  port.type.shape.emplace();
  for (const std::int64_t size : dims) {
    port.type.shape->push_back(size < 0 ? Dim{{}, "n"} : Dim{size, {}});
  }
  return port;
}

// All pixels of one value.
std::string flat_png(int value) {
  return png_bytes(2, 2, 1, [value](int, int, int) { return value; });
}

class DataSources : public ::testing::Test {
 protected:
  Result<std::unique_ptr<DataSource>> open(const std::vector<DataPath>& paths,
                                           const std::vector<PortInfo>& ports,
                                           const SampleOptions& options = {}) {
    diagnostics = Diagnostics();
    return open_data(paths, ports, options, diagnostics);
  }
  std::unique_ptr<DataSource> good(const std::filesystem::path& path,
                                   const std::vector<PortInfo>& ports,
                                   const SampleOptions& options = {}) {
    auto source = open({{{}, path}}, ports, options);
    EXPECT_TRUE(source.ok()) << to_string(source.error().diagnostic);
    return source.ok() ? std::move(source).value() : nullptr;
  }
  std::string error(const std::vector<DataPath>& paths, const std::vector<PortInfo>& ports,
                    const SampleOptions& options = {}) {
    auto source = open(paths, ports, options);
    if (source.ok()) return "ok";
    EXPECT_NE(source.error().code, Code::kInternal);
    std::string text = to_string(source.error().diagnostic);
    const std::string prefix = folder.path().string() + "/";
    for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) {
      text.erase(at, prefix.size());
    }
    return text;
  }
  std::string note(std::string_view id) const {
    for (const Diagnostic& one : diagnostics.all()) {
      if (one.id == id) return one.message;
    }
    return "";
  }

  TempFolder folder;
  Diagnostics diagnostics;
  // Gray, 2 x 2, fed as whole numbers.
  const PortInfo pixels = port_of("x", DataType::kUint8, {-1, 1, 2, 2});
};

std::vector<float> values_of(Result<std::vector<NamedTensor>> feeds, std::size_t index = 0) {
  EXPECT_TRUE(feeds.ok()) << to_string(feeds.error().diagnostic);
  if (!feeds.ok()) return {};
  const Tensor& tensor = (*feeds)[index].tensor;
  if (tensor.dtype() == DataType::kFloat) return read_floats(tensor).value();
  std::vector<float> values;
  const std::vector<std::int64_t> numbers = read_ints(tensor).value();
  values.reserve(numbers.size());
  for (const std::int64_t value : numbers) {
    values.push_back(static_cast<float>(value));
  }
  return values;
}

// First value of every sample.
std::vector<int> firsts(DataSource& data) {
  std::vector<int> values;
  for (std::int64_t i = 0; i < data.count(); ++i) {
    values.push_back(static_cast<int>(values_of(data.sample(i)).at(0)));
  }
  return values;
}

std::vector<std::int64_t> labels_of(const DataSource& data) {
  return data.labels().numbers ? read_ints(*data.labels().numbers).value()
                               : std::vector<std::int64_t>();
}

TEST_F(DataSources, FoldersAreClassesThatTakeTurns) {
  write_bytes(folder / "d/cat/2.png", flat_png(12));
  write_bytes(folder / "d/cat/10.PNG", flat_png(13));
  write_bytes(folder / "d/cat/1.png", flat_png(11));
  write_bytes(folder / "d/ant/a.bmp", testing::bmp_bytes(2, 2, 3, [](int, int, int) { return 1; }));
  write_bytes(folder / "d/dog/a.png", flat_png(21));
  write_bytes(folder / "d/dog/b.png", flat_png(22));
  write_bytes(folder / "d/dog/notes.md", "not an image");
  const auto data = good(folder / "d", {pixels});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(firsts(*data), (std::vector<int>{1, 11, 21, 12, 22, 13}));
  EXPECT_EQ(labels_of(*data), (std::vector<std::int64_t>{0, 1, 2, 1, 2, 1}));
  EXPECT_TRUE(data->can_batch());
  EXPECT_EQ(values_of(data->batch(1, 2)), (std::vector<float>{11, 11, 11, 11, 21, 21, 21, 21}));
  EXPECT_EQ(note("image-classes"),
            "3 folders are classes, numbered in the order of their names: 0 is 'ant', 2 is 'dog'");
  EXPECT_EQ(note("image-preprocessing"),
            "images: cover 2x2 (bilinear), crop 2x2, gray, x, nchw; not asked for but inferred: "
            "layout=nchw, channels=gray, resized to cover 2x2, crop=2x2, scale=1");
  SampleOptions four;
  four.limit = 4;
  EXPECT_EQ(firsts(*good(folder / "d", {pixels}, four)), (std::vector<int>{1, 11, 21, 12}));
  EXPECT_FALSE(data->batch(5, 2).ok());
}

TEST_F(DataSources, NumbersAsNamesAreTheLabels) {
  for (const int label : {3, 10, 7}) {
    write_bytes(folder / "d" / std::to_string(label) / "a.png", flat_png(label));
  }
  const auto data = good(folder / "d", {pixels});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(firsts(*data), (std::vector<int>{10, 3, 7}));
  EXPECT_EQ(labels_of(*data), (std::vector<std::int64_t>{10, 3, 7}));
}

TEST_F(DataSources, ImagesInOneFolderMayHaveLabelsBesideThem) {
  write_bytes(folder / "d/2.png", flat_png(2));
  write_bytes(folder / "d/10.png", flat_png(10));
  EXPECT_EQ(firsts(*good(folder / "d", {pixels})), (std::vector<int>{2, 10}));
  EXPECT_TRUE(labels_of(*good(folder / "d", {pixels})).empty());
  write_bytes(folder / "d/labels.npy", npy<std::int64_t>("<i8", {2}, {5, 6}));
  EXPECT_EQ(labels_of(*good(folder / "d", {pixels})), (std::vector<std::int64_t>{5, 6}));
}

TEST_F(DataSources, DigestsFollowContentAndPreprocessing) {
  const auto digest = [&](const std::string& name, const std::string& preprocess = "") {
    SampleOptions options;
    options.preprocess = preprocess;
    return good(folder / name, {pixels}, options)->digest();
  };
  write_bytes(folder / "a/1.png", flat_png(1));
  write_bytes(folder / "a/2.png", flat_png(2));
  write_bytes(folder / "b/x1.png", flat_png(1));
  write_bytes(folder / "b/x2.png", flat_png(2));
  EXPECT_NE(digest("a"), 0U);
  EXPECT_EQ(digest("a"), digest("b"));
  EXPECT_NE(digest("a"), digest("a", "scale=2"));
  auto read_first = good(folder / "a", {pixels});
  EXPECT_TRUE(read_first->sample(1).ok());
  EXPECT_EQ(read_first->digest(), digest("a"));
  write_bytes(folder / "b/x2.png", flat_png(3));
  EXPECT_NE(digest("a"), digest("b"));
}

TEST_F(DataSources, ImagesOfManySizesGoOneByOne) {
  write_bytes(folder / "d/1.png", flat_png(1));
  write_bytes(folder / "d/2.png", png_bytes(3, 5, 1, [](int, int, int) { return 9; }));
  const auto data = good(folder / "d", {port_of("x", DataType::kFloat, {-1, 1, -1, -1})});
  ASSERT_NE(data, nullptr);
  EXPECT_FALSE(data->can_batch());
  auto second = data->sample(1);
  ASSERT_TRUE(second.ok());
  const auto dims = (*second)[0].tensor.dims();
  EXPECT_EQ(std::vector<std::int64_t>(dims.begin(), dims.end()),
            (std::vector<std::int64_t>{1, 1, 5, 3}));
  EXPECT_EQ(values_of(std::move(second)).at(0), static_cast<float>(9.0 / 255.0));
}

TEST_F(DataSources, HostileImagesAreNamed) {
  write_bytes(folder / "d/1.png", flat_png(1));
  write_bytes(folder / "d/2.png", "GIF89a");
  EXPECT_EQ(error({{{}, folder / "d"}}, {pixels}),
            "d/2.png: x: is a GIF (JPEG, PNG and BMP are read: convert it)");
  write_bytes(folder / "d/2.png", testing::png_of_chunks(12000, 12000, 8, 2, "x"));
  const auto data = good(folder / "d", {pixels});
  ASSERT_NE(data, nullptr);
  auto sample = data->sample(1);
  ASSERT_FALSE(sample.ok());
  EXPECT_EQ(sample.error().diagnostic.id, "image-size");
  EXPECT_NE(sample.error().diagnostic.where.file.find("2.png"), std::string::npos);
  write_bytes(folder / "d/1.png", "");
  EXPECT_NE(error({{{}, folder / "d"}}, {pixels}).find("d/1.png: x: "), std::string::npos);
}

std::string raw_floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

TEST_F(DataSources, RawFilesTakeTheirShapeFromTheModelOrTheUser) {
  const PortInfo fixed = port_of("x", DataType::kFloat, {-1, 2});
  write_bytes(folder / "a.bin", raw_floats({1, 2, 3, 4, 5, 6}));
  auto data = good(folder / "a.bin", {fixed});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->count(), 3);
  EXPECT_TRUE(data->can_batch());
  EXPECT_EQ(values_of(data->batch(1, 2)), (std::vector<float>{3, 4, 5, 6}));
  const PortInfo open_shape = port_of("x", DataType::kFloat, {-1, -1});
  EXPECT_NE(error({{{}, folder / "a.bin"}}, {open_shape}).find("nothing says what a sample"),
            std::string::npos);
  SampleOptions said;
  said.raw = {"x=f32[1", "3]"};  // as a list of names is split
  data = good(folder / "a.bin", {open_shape}, said);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(firsts(*data), (std::vector<int>{1, 4}));
  said.raw = {"x=f32[1,4]"};
  EXPECT_EQ(error({{{}, folder / "a.bin"}}, {open_shape}, said),
            "a.bin: x: the file has 24 bytes, a sample of float32 [1, 4] has 16 (--raw "
            "NAME=TYPE[SHAPE] says what a sample is)");
  // One sample per file, and another element type.
  write_bytes(folder / "d/1.raw", std::string("\1\2", 2));
  write_bytes(folder / "d/2.raw", std::string("\3\4", 2));
  said.raw = {"u8[2]"};
  data = good(folder / "d", {port_of("x", DataType::kInt32, {2})}, said);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(values_of(data->sample(1)), (std::vector<float>{3, 4}));
}

TEST_F(DataSources, RawSpecificationsAreChecked) {
  const PortInfo port = port_of("image", DataType::kFloat, {-1, 2});
  write_bytes(folder / "a.bin", raw_floats({1, 2}));
  const auto failure = [&](const std::string& text) {
    SampleOptions options;
    options.raw = {text};
    return error({{{}, folder / "a.bin"}}, {port}, options);
  };
  EXPECT_NE(failure("imag=f32[1,2]").find("did you mean 'image'?"), std::string::npos);
  EXPECT_NE(failure("image=f33[1,2]").find("'f33' is no element type"), std::string::npos);
  EXPECT_NE(failure("image=f32[1,0]").find("no shape"), std::string::npos);
  EXPECT_NE(failure("image=f32[1,2").find("no ']'"), std::string::npos);
  EXPECT_NE(failure("image=f32[4294967296,4294967296,4]").find("too large"), std::string::npos);
}

TEST_F(DataSources, ListsNameFilesAndLabels) {
  write_bytes(folder / "d/a.png", flat_png(1));
  write_bytes(folder / "d/b, c.png", flat_png(2));
  write_bytes(folder / "l.csv", "# comment\r\nd/a.png,7\r\n\r\n\"d/b, c.png\" , 9\r\n");
  auto data = good(folder / "l.csv", {pixels});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(firsts(*data), (std::vector<int>{1, 2}));
  EXPECT_EQ(labels_of(*data), (std::vector<std::int64_t>{7, 9}));
  write_bytes(folder / "l.txt", "d/b, c.png\tcat\nd/a.png\tdog\n");
  data = good(folder / "l.txt", {pixels});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->labels().texts, (std::vector<std::string>{"cat", "dog"}));
  write_bytes(folder / "l.txt", "d/a.png 65\nd/a.png 970\n");
  EXPECT_EQ(labels_of(*good(folder / "l.txt", {pixels})), (std::vector<std::int64_t>{65, 970}));
  SampleOptions one;
  one.limit = 1;
  EXPECT_EQ(labels_of(*good(folder / "l.txt", {pixels}, one)), std::vector<std::int64_t>{65});
  write_bytes(folder / "l.txt", "d/a.png\n");
  EXPECT_TRUE(labels_of(*good(folder / "l.txt", {pixels})).empty());
}

TEST_F(DataSources, ListsOfSeveralInputsHaveNamedColumns) {
  write_bytes(folder / "a.png", flat_png(1));
  write_bytes(folder / "a.npy", npy_floats({2}, {5, 6}));
  const PortInfo vector = port_of("v", DataType::kFloat, {2});
  write_bytes(folder / "l.csv", "label,v,x\n3,a.npy,a.png\n4,a.npy,a.png\n");
  const auto data = good(folder / "l.csv", {pixels, vector});
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->count(), 2);
  EXPECT_FALSE(data->can_batch());
  auto feeds = data->sample(1);
  ASSERT_TRUE(feeds.ok());
  EXPECT_EQ((*feeds)[0].name, "x");
  EXPECT_EQ(values_of(std::move(feeds), 1), (std::vector<float>{5, 6}));
  EXPECT_EQ(labels_of(*data), (std::vector<std::int64_t>{3, 4}));
}

TEST_F(DataSources, BadListsNameTheLine) {
  write_bytes(folder / "a.png", flat_png(1));
  const auto failure = [&](const std::string& text, std::vector<PortInfo> ports) {
    write_bytes(folder / "l.csv", text);
    return error({{{}, folder / "l.csv"}}, ports);
  };
  EXPECT_EQ(failure("a.png,1\na.png\n", {pixels}),
            "l.csv:2: there are 1 fields, the line before has 2");
  EXPECT_NE(failure("a.png,1,2\n", {pixels}).find("l.csv:1: there are 3 fields, the model has 1"),
            std::string::npos);
  EXPECT_NE(failure("\"a.png,1\n", {pixels}).find("l.csv:1: a quote is not closed"),
            std::string::npos);
  EXPECT_NE(failure(",1\n", {pixels}).find("name of a file is empty"), std::string::npos);
  EXPECT_NE(failure("\n# nothing\n", {pixels}).find("names no samples"), std::string::npos);
  EXPECT_NE(failure(std::string("a\0b", 3), {pixels}).find("NUL"), std::string::npos);
  EXPECT_NE(failure("b.png\n", {pixels}).find("b.png"), std::string::npos);
  EXPECT_NE(failure("x,label\na,1\n", {pixels, port_of("y", DataType::kFloat, {2})})
                .find("no column is named like the model's input 'y'"),
            std::string::npos);
}

TEST_F(DataSources, InputsComeFromPathsOfTheirOwn) {
  write_bytes(folder / "d/1.png", flat_png(1));
  write_bytes(folder / "d/2.png", flat_png(2));
  write_npz(folder / "rest.npz", {{"v", npy_floats({2, 3}, {0, 1, 2, 3, 4, 5})},
                                  {"labels", npy<std::int64_t>("<i8", {2}, {8, 9})}});
  const PortInfo vector = port_of("v", DataType::kFloat, {-1, 3});
  auto data = open({{"x", folder / "d"}, {{}, folder / "rest.npz"}}, {vector, pixels});
  ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
  EXPECT_TRUE((*data)->can_batch());
  auto feeds = (*data)->batch(0, 2);
  ASSERT_TRUE(feeds.ok());
  ASSERT_EQ(feeds->size(), 2U);
  EXPECT_EQ((*feeds)[0].name, "x");
  EXPECT_EQ(values_of(std::move(feeds), 1), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(labels_of(**data), (std::vector<std::int64_t>{8, 9}));
  EXPECT_NE((*data)->digest(), 0U);

  write_bytes(folder / "d/3.png", flat_png(3));
  EXPECT_NE(error({{"x", folder / "d"}, {{}, folder / "rest.npz"}}, {vector, pixels})
                .find("v: there are 2 samples, but 3 of 'x'"),
            std::string::npos);
  EXPECT_NE(error({{"x", folder / "d"}}, {vector, pixels}).find("v: nothing is given"),
            std::string::npos);
  EXPECT_NE(error({{"xx", folder / "d"}}, {pixels}).find("no input of this name"),
            std::string::npos);
  EXPECT_NE(error({{"x", folder / "d"}, {"x", folder / "d"}}, {pixels}).find("two sources"),
            std::string::npos);
  EXPECT_NE(error({{"x", folder / "d"}, {{}, folder / "d"}}, {pixels}).find("data of its own"),
            std::string::npos);
}

TEST_F(DataSources, BalancingTakesAsManyOfEachLabel) {
  std::vector<float> values(10);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  write_npz(folder / "a.npz",
            {{"x", npy_floats({10, 1}, values)},
             {"labels", npy<std::int64_t>("<i8", {10}, {0, 0, 0, 0, 0, 0, 1, 1, 2, -1})}});
  const PortInfo port = port_of("x", DataType::kFloat, {-1, 1});
  SampleOptions options;
  options.balance = true;
  // One label has one sample: one of each.
  auto data = good(folder / "a.npz", {port}, options);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(firsts(*data), (std::vector<int>{0, 6, 8}));
  EXPECT_EQ(note("data-balanced"), "3 of 10 samples are taken: 1 of each of 3 labels");
  EXPECT_EQ(values_of(data->batch(0, 3)), (std::vector<float>{0, 6, 8}));
  // Six in all: the others fill up, evenly from all there are: 0, 2 and 4 of six.
  options.limit = 6;
  data = good(folder / "a.npz", {port}, options);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(firsts(*data), (std::vector<int>{0, 2, 4, 6, 7, 8}));
  EXPECT_EQ(labels_of(*data), (std::vector<std::int64_t>{0, 0, 0, 1, 1, 2}));
  EXPECT_EQ(note("data-balanced"), "6 of 10 samples are taken: 1 to 3 of each of 3 labels");
  EXPECT_NE(data->digest(), good(folder / "a.npz", {port})->digest());

  write_npz(folder / "b.npz", {{"x", npy_floats({2, 1}, {1, 2})}});
  EXPECT_NE(error({{{}, folder / "b.npz"}}, {port}, options).find("needs a label for each sample"),
            std::string::npos);
}

}  // namespace
}  // namespace mcompress
