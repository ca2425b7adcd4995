#include "mcompress/archive_c.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "codec/container.h"
#include "mcompress/archive.h"
#include "mcompress/io.h"
#include "support/executor.h"
#include "support/files.h"
#include "support/hash.h"
#include "support/models.h"

extern "C" mca_status archive_c_total(const char* path, std::uint64_t* total);

namespace mcompress {
namespace {

namespace fs = std::filesystem;

struct Close {
  void operator()(mca_archive* archive) const { mca_close(archive); }
};
using Handle = std::unique_ptr<mca_archive, Close>;

Handle open_bytes(std::string_view bytes, mca_status expected = MCA_OK) {
  auto* archive = reinterpret_cast<mca_archive*>(1);
  EXPECT_EQ(mca_open_memory(bytes.data(), bytes.size(), &archive), expected) << mca_last_error();
  EXPECT_EQ(archive != nullptr, expected == MCA_OK);
  return Handle(archive);
}

std::string noise(std::uint32_t seed, std::size_t count) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::string bytes(count * sizeof(float), '\0');
  for (std::size_t i = 0; i < count; ++i) {
    const float value = normal(random);
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
  }
  return bytes;
}

onnx::TensorProto tensor(const std::string& name, int dtype, std::vector<std::int64_t> dims,
                         std::string raw) {
  onnx::TensorProto proto;
  proto.set_name(name);
  proto.set_data_type(dtype);
  for (const std::int64_t size : dims) proto.add_dims(size);
  proto.set_raw_data(std::move(raw));
  return proto;
}

// x + w + w2 (the same bytes) + s + a Constant c, in branches of an If over w too; q is read by
// nobody. Large: w, w2, q (int4), c, b. Small: s.
onnx::ModelProto model() {
  onnx::ModelProto proto;
  proto.set_ir_version(10);
  proto.add_opset_import()->set_version(21);
  onnx::GraphProto& graph = *proto.mutable_graph();
  graph.set_name("g");
  const auto value = [](onnx::ValueInfoProto& info, const char* name) {
    info.set_name(name);
    auto& type = *info.mutable_type()->mutable_tensor_type();
    type.set_elem_type(1);
    type.mutable_shape()->add_dim()->set_dim_value(20);
    type.mutable_shape()->add_dim()->set_dim_value(30);
  };
  value(*graph.add_input(), "x");
  value(*graph.add_output(), "y");
  *graph.add_initializer() = tensor("w", 1, {20, 30}, noise(1, 600));
  *graph.add_initializer() = tensor("w2", 1, {20, 30}, noise(1, 600));
  *graph.add_initializer() = tensor("s", 1, {30}, noise(2, 30));
  *graph.add_initializer() = tensor("q", 22, {47, 51}, noise(3, 300).substr(0, 1199));
  onnx::TensorProto& typed = *graph.add_initializer();
  typed = tensor("t", 1, {400}, {});
  typed.clear_raw_data();
  for (int i = 0; i < 400; ++i) typed.add_float_data(static_cast<float>(i));
  const auto node = [](onnx::GraphProto& into, const char* op, std::vector<std::string> inputs,
                       const std::string& output) -> onnx::NodeProto& {
    onnx::NodeProto& made = *into.add_node();
    made.set_op_type(op);
    for (const std::string& input : inputs) made.add_input(input);
    made.add_output(output);
    return made;
  };
  auto& constant = *node(graph, "Constant", {}, "c").add_attribute();
  constant.set_name("value");
  constant.set_type(onnx::AttributeProto::TENSOR);
  *constant.mutable_t() = tensor("", 1, {20, 30}, noise(4, 600));
  node(graph, "Add", {"x", "w"}, "x1");
  node(graph, "Add", {"x1", "w2"}, "x2");
  node(graph, "Add", {"x2", "s"}, "x3");
  node(graph, "Add", {"x3", "c"}, "x4");
  node(graph, "ReduceMax", {"x4"}, "top").add_attribute()->CopyFrom([] {
    onnx::AttributeProto keep;
    keep.set_name("keepdims");
    keep.set_type(onnx::AttributeProto::INT);
    keep.set_i(0);
    return keep;
  }());
  auto& zero = *node(graph, "Constant", {}, "zero").add_attribute();
  zero.set_name("value_float");
  zero.set_type(onnx::AttributeProto::FLOAT);
  zero.set_f(0);
  node(graph, "Greater", {"top", "zero"}, "positive");
  onnx::NodeProto& branch = node(graph, "If", {"positive"}, "y");
  for (const char* side : {"then_branch", "else_branch"}) {
    auto& attribute = *branch.add_attribute();
    attribute.set_name(side);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    onnx::GraphProto& body = *attribute.mutable_g();
    body.set_name(side);
    *body.add_initializer() = tensor(std::string("b_") + side, 1, {20, 30}, noise(side[0], 600));
    node(body, "Mul", {"x4", std::string("b_") + side}, std::string("r_") + side);
    value(*body.add_output(), (std::string("r_") + side).c_str());
  }
  return proto;
}

class ArchiveCTest : public ::testing::Test {
 protected:
  // The archive's bytes. `external`: all tensors, small ones too, stand in a data file.
  std::string pack(const onnx::ModelProto& proto, bool external = false,
                   bool only_weights = false) {
    write_file("model.onnx", proto.SerializeAsString());
    Diagnostics diagnostics;
    auto loaded = load_model(path("model.onnx"), {}, diagnostics);
    EXPECT_TRUE(loaded.ok()) << to_string(loaded.error().diagnostic);
    if (external) {
      SaveOptions options;
      options.external = SaveOptions::External::kAlways;
      options.external_threshold = 1;
      auto saved = save_model(**loaded, path("outside.onnx"), options, silent_progress());
      EXPECT_TRUE(saved.ok()) << to_string(saved.error().diagnostic);
      loaded = load_model(path("outside.onnx"), {}, diagnostics);
      EXPECT_TRUE(loaded.ok());
    }
    PackOptions options;
    options.only_weights = only_weights;
    options.allow_larger = true;
    options.threads = 1;
    const auto packed = pack_model(**loaded, path("model.mca"), options, silent_progress());
    EXPECT_TRUE(packed.ok()) << to_string(packed.error().diagnostic);
    return testing::read_file(path("model.mca"));
  }
  // A model file as one residue, whatever it holds.
  std::string archive_of(const std::string& file) const {
    AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
    auto out = output.add(path("made.mca").string());
    EXPECT_TRUE(out.ok());
    const Executor executor(1);
    codec::ArchiveWriter writer(**out, executor, CodingEffort::kFast);
    codec::ArchivedStream stream;
    stream.file = 0;
    stream.residue = true;
    stream.length = file.size();
    stream.block_bytes = 1000;
    const auto bytes = std::as_bytes(std::span(file));
    EXPECT_TRUE(writer
                    .add(
                        stream, {},
                        [&](std::uint64_t offset, std::size_t length,
                            std::vector<std::byte>&) -> Result<std::span<const std::byte>> {
                          return bytes.subspan(offset, length);
                        },
                        silent_progress())
                    .ok());
    codec::ArchiveIndex index;
    index.files.push_back({"model.onnx", file.size(), digest_bytes(bytes)});
    EXPECT_TRUE(writer.finish(index).ok());
    EXPECT_TRUE(output.commit().ok());
    return testing::read_file(path("made.mca"));
  }
  fs::path path(const std::string& name) const { return folder_ / name; }
  void write_file(const std::string& name, std::string_view bytes) const {
    testing::write_file(path(name), bytes);
  }

  // By name. Fails the test when a size is not that of type and dimensions.
  static std::map<std::string, onnx::TensorProto> read_all(const mca_archive* archive) {
    std::map<std::string, onnx::TensorProto> tensors;
    for (std::size_t i = 0; i < mca_tensor_count(archive); ++i) {
      mca_tensor info;
      EXPECT_EQ(mca_tensor_info(archive, i, &info), MCA_OK);
      std::string raw(info.bytes, '\0');
      EXPECT_EQ(mca_tensor_read(archive, i, raw.data(), raw.size()), MCA_OK) << mca_last_error();
      std::size_t found = ~std::size_t{0};
      EXPECT_EQ(mca_tensor_find(archive, info.name, &found), MCA_OK);
      EXPECT_EQ(found, i);
      tensors[info.name] = tensor(info.name, info.dtype, {info.dims, info.dims + info.rank}, raw);
    }
    return tensors;
  }

  static onnx::ModelProto graph_of(const mca_archive* archive) {
    const void* bytes = nullptr;
    std::size_t size = 0;
    EXPECT_EQ(mca_model_bytes(archive, &bytes, &size), MCA_OK) << mca_last_error();
    onnx::ModelProto proto;
    EXPECT_TRUE(proto.ParseFromArray(bytes, static_cast<int>(size)));
    return proto;
  }

  // Puts the weights into the graph that names them. Each is named exactly once.
  static onnx::ModelProto restored(const mca_archive* archive) {
    onnx::ModelProto proto = graph_of(archive);
    auto weights = read_all(archive);
    for (onnx::TensorProto& entry : *proto.mutable_graph()->mutable_initializer()) {
      if (entry.data_location() != onnx::TensorProto::EXTERNAL) continue;
      EXPECT_FALSE(entry.has_raw_data()) << entry.name();
      EXPECT_EQ(entry.external_data_size(), 3);
      const auto found = weights.find(entry.name());
      if (found == weights.end()) {
        ADD_FAILURE() << entry.name();
        continue;
      }
      EXPECT_EQ(entry.data_type(), found->second.data_type());
      entry.clear_external_data();
      entry.clear_data_location();
      entry.set_raw_data(found->second.raw_data());
      weights.erase(found);
    }
    EXPECT_TRUE(weights.empty());
    return proto;
  }

  static std::vector<std::string> names(const mca_archive* archive) {
    std::vector<std::string> list;
    for (const auto& [name, tensor] : read_all(archive)) list.push_back(name);
    return list;
  }

  testing::TempFolder folder_;
};

TEST_F(ArchiveCTest, GraphAndWeightsMakeUpTheModel) {
  const onnx::ModelProto proto = model();
  const std::string bytes = pack(proto);
  const Handle archive = open_bytes(bytes);
  EXPECT_EQ(names(archive.get()), (std::vector<std::string>{"q", "w", "w2"}));
  EXPECT_EQ(restored(archive.get()).SerializeAsString(), proto.SerializeAsString());
  mca_tensor info;
  std::size_t index = 0;
  ASSERT_EQ(mca_tensor_find(archive.get(), "q", &index), MCA_OK);
  ASSERT_EQ(mca_tensor_info(archive.get(), index, &info), MCA_OK);
  EXPECT_EQ(info.dtype, 22);
  EXPECT_EQ(info.bytes, 1199U);  // 47 · 51 elements of half a byte
}

TEST_F(ArchiveCTest, DataFilesComeInWithTheGraphOrAsWeights) {
  const onnx::ModelProto proto = model();
  const std::string bytes = pack(proto, true);
  const Handle archive = open_bytes(bytes);
  // Typed data became raw when they moved to the data file, so they are a weight now.
  EXPECT_EQ(names(archive.get()), (std::vector<std::string>{"q", "t", "w", "w2"}));
  onnx::ModelProto expected = proto;
  for (onnx::TensorProto& entry : *expected.mutable_graph()->mutable_initializer()) {
    if (entry.float_data_size() == 0) continue;
    std::string raw(4 * 400, '\0');
    std::memcpy(raw.data(), entry.float_data().data(), raw.size());
    entry.clear_float_data();
    entry.set_raw_data(raw);
  }
  EXPECT_EQ(restored(archive.get()).SerializeAsString(), expected.SerializeAsString());
}

TEST_F(ArchiveCTest, WeightsAloneHaveNoGraph) {
  const onnx::ModelProto proto = model();
  const std::string bytes = pack(proto, false, true);
  const Handle archive = open_bytes(bytes);
  const void* graph = nullptr;
  std::size_t size = 7;
  EXPECT_EQ(mca_model_bytes(archive.get(), &graph, &size), MCA_UNSUPPORTED);
  EXPECT_EQ(size, 7U);
  const auto tensors = read_all(archive.get());
  EXPECT_EQ(tensors.size(), 5U);
  EXPECT_EQ(tensors.at("s").raw_data(), noise(2, 30));
  EXPECT_EQ(tensors.at("w2").raw_data(), noise(1, 600));
}

TEST_F(ArchiveCTest, FilesOpenAsTheirBytesDoAndFromC) {
  pack(model());
  mca_archive* archive = nullptr;
  ASSERT_EQ(mca_open(path("model.mca").c_str(), &archive), MCA_OK) << mca_last_error();
  const Handle handle(archive);
  EXPECT_EQ(restored(archive).SerializeAsString(), model().SerializeAsString());
  std::uint64_t total = 0;
  EXPECT_EQ(archive_c_total(path("model.mca").c_str(), &total), MCA_OK);
  EXPECT_EQ(total, 2 * 2400U + 1199U);
  EXPECT_EQ(archive_c_total(path("none.mca").c_str(), &total), MCA_INPUT);
  EXPECT_NE(std::string(mca_last_error()).find("none.mca"), std::string::npos);
  EXPECT_EQ(archive_c_total(path("model.onnx").c_str(), &total), MCA_INPUT);
  EXPECT_NE(std::string(mca_last_error()).find("model.onnx"), std::string::npos);
  EXPECT_EQ(mca_api_version(), MCA_API_VERSION);
}

TEST_F(ArchiveCTest, EveryCutAndEveryFlippedByteIsAnError) {
  const std::string bytes = pack(model());
  for (std::size_t size = 0; size < bytes.size(); size += 1 + size / 512) {
    // On the heap at its exact size: a read behind it would be noticed.
    const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    mca_archive* archive = nullptr;
    EXPECT_NE(mca_open_memory(bytes.data(), size, &archive), MCA_OK) << size;
    EXPECT_EQ(archive, nullptr);
    EXPECT_NE(mca_last_error()[0], '\0');
    if (size == 0) continue;
    EXPECT_NE(mca_open_memory(cut.data(), size, &archive), MCA_OK) << size;
  }
  for (std::size_t at = 0; at < bytes.size(); at += 5) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    mca_archive* archive = nullptr;
    mca_status status = mca_open_memory(flipped.data(), flipped.size(), &archive);
    const Handle handle(archive);
    EXPECT_EQ(status == MCA_OK, archive != nullptr);
    // w2 is a copy of w: what one does not notice the other does neither.
    for (std::size_t i = 0; status == MCA_OK && i < mca_tensor_count(archive); ++i) {
      mca_tensor info;
      ASSERT_EQ(mca_tensor_info(archive, i, &info), MCA_OK);
      std::string raw(info.bytes, '\0');
      status = mca_tensor_read(archive, i, raw.data(), raw.size());
    }
    EXPECT_NE(status, MCA_OK) << "byte " << at;
  }
}

TEST_F(ArchiveCTest, ArchivesToRejectAreRejected) {
  std::size_t seen = 0;
  for (const auto& entry :
       fs::directory_iterator(fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden-reject")) {
    ++seen;
    mca_archive* archive = nullptr;
    const mca_status status = mca_open(entry.path().c_str(), &archive);
    const Handle handle(archive);
    EXPECT_TRUE(status == MCA_INPUT || status == MCA_UNSUPPORTED) << entry.path();
  }
  EXPECT_GT(seen, 10U);
  // An archive without fault around a file that is no model.
  mca_archive* archive = nullptr;
  const fs::path golden = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden/archive-v1.mca";
  EXPECT_EQ(mca_open(golden.c_str(), &archive), MCA_INPUT);
}

TEST_F(ArchiveCTest, ModelsThatDisagreeWithTheirDataAreRefused) {
  const auto refused = [&](const std::string& file, const char* reason) {
    const std::string bytes = archive_of(file);
    open_bytes(bytes, MCA_INPUT);
    EXPECT_NE(std::string(mca_last_error()).find(reason), std::string::npos) << mca_last_error();
  };
  const std::string fine = archive_of(model().SerializeAsString());
  EXPECT_NE(open_bytes(fine), nullptr);
  onnx::ModelProto proto = model();
  proto.mutable_graph()->mutable_initializer(0)->set_dims(0, 21);
  refused(proto.SerializeAsString(), "need 2520 bytes, but 2400 are stored");
  proto.mutable_graph()->mutable_initializer(0)->set_dims(0, -20);
  refused(proto.SerializeAsString(), "negative");

  proto = model();
  onnx::TensorProto& outside = *proto.mutable_graph()->mutable_initializer(0);
  outside.clear_raw_data();
  outside.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto place = [&](const char* key, const char* value) {
    auto& entry = *outside.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  };
  place("location", "/etc/hostname");
  refused(proto.SerializeAsString(), "no data file '/etc/hostname'");
  place("offset", "-1");
  refused(proto.SerializeAsString(), "not a number");

  const std::string whole = model().SerializeAsString();
  refused(whole.substr(0, whole.size() - 1), "are left");
  proto = model();
  onnx::GraphProto deep;
  for (int i = 0; i < 70; ++i) {
    onnx::GraphProto outer;
    auto& attribute = *outer.add_node()->add_attribute();
    attribute.mutable_g()->Swap(&deep);
    outer.Swap(&deep);
  }
  proto.mutable_graph()->Swap(&deep);
  refused(proto.SerializeAsString(), "nested");
}

TEST_F(ArchiveCTest, NamesThatTwoInitializersHaveAreHandedOverOnce) {
  onnx::ModelProto proto = model();
  proto.mutable_graph()->mutable_initializer(1)->set_name("w");
  const std::string bytes = archive_of(proto.SerializeAsString());
  const Handle archive = open_bytes(bytes);
  EXPECT_EQ(names(archive.get()), (std::vector<std::string>{"q", "w"}));
  EXPECT_EQ(restored(archive.get()).SerializeAsString(), proto.SerializeAsString());
  std::size_t index = 42;
  EXPECT_EQ(mca_tensor_find(archive.get(), "W", &index), MCA_INPUT);
  EXPECT_EQ(index, 42U);
}

TEST_F(ArchiveCTest, NullsIndicesAndSizesAreChecked) {
  const std::string bytes = pack(model());
  mca_archive* archive = nullptr;
  EXPECT_EQ(mca_open(nullptr, &archive), MCA_USAGE);
  EXPECT_EQ(mca_open("x", nullptr), MCA_USAGE);
  EXPECT_EQ(mca_open_memory(nullptr, 10, &archive), MCA_USAGE);
  EXPECT_EQ(mca_open_memory(bytes.data(), bytes.size(), nullptr), MCA_USAGE);
  mca_close(nullptr);
  EXPECT_EQ(mca_tensor_count(nullptr), 0U);

  const Handle handle = open_bytes(bytes);
  archive = handle.get();
  const void* graph = nullptr;
  std::size_t size = 0;
  EXPECT_EQ(mca_model_bytes(nullptr, &graph, &size), MCA_USAGE);
  EXPECT_EQ(mca_model_bytes(archive, nullptr, &size), MCA_USAGE);
  EXPECT_EQ(mca_model_bytes(archive, &graph, nullptr), MCA_USAGE);
  mca_tensor info;
  EXPECT_EQ(mca_tensor_info(nullptr, 0, &info), MCA_USAGE);
  EXPECT_EQ(mca_tensor_info(archive, 0, nullptr), MCA_USAGE);
  EXPECT_EQ(mca_tensor_info(archive, mca_tensor_count(archive), &info), MCA_USAGE);
  EXPECT_EQ(mca_tensor_find(nullptr, "w", &size), MCA_USAGE);
  EXPECT_EQ(mca_tensor_find(archive, nullptr, &size), MCA_USAGE);

  ASSERT_EQ(mca_tensor_info(archive, 0, &info), MCA_OK);
  std::string out(info.bytes + 1, 'z');
  EXPECT_EQ(mca_tensor_read(nullptr, 0, out.data(), info.bytes), MCA_USAGE);
  EXPECT_EQ(mca_tensor_read(archive, 0, nullptr, info.bytes), MCA_USAGE);
  EXPECT_EQ(mca_tensor_read(archive, 99, out.data(), info.bytes), MCA_USAGE);
  EXPECT_EQ(mca_tensor_read(archive, 0, out.data(), info.bytes - 1), MCA_USAGE);
  EXPECT_EQ(mca_tensor_read(archive, 0, out.data(), info.bytes + 1), MCA_USAGE);
  EXPECT_EQ(out, std::string(info.bytes + 1, 'z'));
  EXPECT_NE(std::string(mca_last_error()).find(std::to_string(info.bytes)), std::string::npos);
}

TEST_F(ArchiveCTest, ThreadsShareAnArchiveAndHaveTheirOwnMessage) {
  const std::string bytes = pack(model());
  const Handle archive = open_bytes(bytes);
  EXPECT_EQ(mca_tensor_info(archive.get(), 99, nullptr), MCA_USAGE);
  const std::string message = mca_last_error();
  std::vector<std::thread> threads;
  std::vector<int> good(4);
  for (std::size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      bool fine = mca_last_error()[0] == '\0';
      for (int round = 0; round < 20; ++round) {
        std::string raw(2400, '\0');
        std::size_t index = 0;
        fine = fine && mca_tensor_find(archive.get(), "w", &index) == MCA_OK &&
               mca_tensor_read(archive.get(), index, raw.data(), raw.size()) == MCA_OK &&
               raw == noise(1, 600);
      }
      good[t] = fine ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 1));
  EXPECT_EQ(message, mca_last_error());
}

}  // namespace
}  // namespace mcompress
