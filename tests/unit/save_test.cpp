#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "onnx/load.h"
#include "onnx/runtime_bytes.h"
#include "support/faulty_files.h"
#include "support/models.h"
#include "support/protos.h"

namespace mcompress {
namespace {

using testing::fixture;
using testing::proto_of;
using testing::read_file;
using testing::TempFolder;
using testing::write_file;

// Fields without a name, as bytes, whichever protobuf runtime is linked.
template <class Message>
std::string unknown_of(const Message& message) {
  if constexpr (requires { message.unknown_fields().SerializeAsString(); }) {
    return message.unknown_fields().SerializeAsString();
  } else if constexpr (requires(std::string text) {
                         message.unknown_fields().SerializeToString(&text);
                       }) {
    std::string text;
    message.unknown_fields().SerializeToString(&text);
    return text;
  } else {
    return message.unknown_fields();
  }
}

onnx::ModelProto saved_proto(const Model& model) {
  const auto bytes = save_model_bytes(model);
  EXPECT_TRUE(bytes.ok());
  return proto_of(*bytes);
}

std::unique_ptr<Model> load_file(const std::filesystem::path& path) {
  Diagnostics diagnostics;
  auto model = load_model(path, {}, diagnostics);
  if (model.ok()) return std::move(model).value();
  ADD_FAILURE() << to_string(model.error().diagnostic);
  return std::make_unique<Model>();
}

SavedModel save(const Model& model, const std::filesystem::path& path,
                const SaveOptions& options = {}) {
  const auto saved = save_model(model, path, options, silent_progress());
  if (saved.ok()) return *saved;
  ADD_FAILURE() << to_string(saved.error().diagnostic);
  return {};
}

SaveOptions always_external() {
  SaveOptions options;
  options.external = SaveOptions::External::kAlways;
  return options;
}

std::map<std::string, std::string> external_entries(const onnx::TensorProto& tensor) {
  std::map<std::string, std::string> entries;
  for (const auto& entry : tensor.external_data()) entries[entry.key()] = entry.value();
  return entries;
}

Value& value(Model& model, std::string_view name) {
  Value* found = model.graph().find(name);
  EXPECT_NE(found, nullptr) << name;
  return *found;
}

Tensor ramp(std::int64_t count) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  return make_float_tensor(numbers, {count});
}

// ---------------------------------------------------------------------------------- fidelity

TEST(Save, UntouchedModelsComeBackByteForByte) {
  for (const auto& entry : testing::fixtures()) {
    const auto model = testing::model_from_bytes(entry.bytes);
    const auto saved = save_model_bytes(*model);
    ASSERT_TRUE(saved.ok()) << entry.name;
    EXPECT_EQ(*saved, entry.bytes) << entry.name;
    EXPECT_EQ(save_model_bytes(*model->clone()).value(), entry.bytes) << entry.name;
  }
}

TEST(Save, PartsThatAreMadeAnewEqualTheOldOnes) {
  for (const auto& entry : testing::fixtures()) {
    const auto model = testing::model_from_bytes(entry.bytes);
    Editor editor(*model);
    const auto touch = [&](const auto& self, Graph& graph) -> void {
      for (Node* node : graph.nodes()) {
        const std::string op_type(node->op_type());
        editor.set_op_type(*node, node->domain(), op_type);
        for (Graph* body : node->bodies()) self(self, *body);
      }
    };
    touch(touch, model->graph());
    for (const Function& function : model->functions()) touch(touch, *function.body);
    EXPECT_FALSE(model->graph().pristine());
    EXPECT_EQ(save_model_bytes(*model).value(), entry.bytes) << entry.name;
  }
}

TEST(Save, UnknownFieldsSurviveEdits) {
  auto model = testing::model_from_bytes(fixture("unknown_fields"));
  Editor editor(*model);
  Node& conv = *testing::maker_of(*model, "a");
  editor.set_attribute(conv, attribute("flavour", std::string_view("even")));
  editor.set_constant(value(*model, "w"), ramp(4));
  const onnx::ModelProto before = proto_of(fixture("unknown_fields"));
  const onnx::ModelProto after = saved_proto(*model);
  const auto& node = after.graph().node(0);
  EXPECT_EQ(unknown_of(node), unknown_of(before.graph().node(0)));
  EXPECT_FALSE(unknown_of(node).empty());
  EXPECT_EQ(node.attribute(0).SerializeAsString(),
            before.graph().node(0).attribute(0).SerializeAsString());
  EXPECT_EQ(node.attribute(1).s(), "even");
  EXPECT_EQ(after.graph().node(1).SerializeAsString(), before.graph().node(1).SerializeAsString());
  EXPECT_EQ(unknown_of(after.graph()), unknown_of(before.graph()));
  EXPECT_EQ(unknown_of(after), unknown_of(before));
  EXPECT_EQ(after.opset_import(0).SerializeAsString(), before.opset_import(0).SerializeAsString());
  EXPECT_EQ(after.graph().input(0).SerializeAsString(),
            before.graph().input(0).SerializeAsString());
}

TEST(Save, NodesNobodyTouchedStayAsTheyWere) {
  for (const auto& entry : testing::fixtures()) {
    auto model = testing::model_from_bytes(entry.bytes);
    if (model->graph().first() == nullptr) continue;
    Editor editor(*model);
    // A new node in front and one changed node.
    NewNode identity;
    identity.op_type = "Identity";
    identity.inputs = {model->graph().inputs()[0]};
    editor.insert_before(*model->graph().first(), std::move(identity));
    editor.set_attribute(*model->graph().last(), attribute("extra", std::int64_t{1}));
    ASSERT_TRUE(verify(*model).ok()) << entry.name;
    const onnx::ModelProto before = proto_of(entry.bytes);
    const onnx::ModelProto after = saved_proto(*model);
    ASSERT_EQ(after.graph().node_size(), before.graph().node_size() + 1) << entry.name;
    for (int i = 0; i + 1 < before.graph().node_size(); ++i) {
      EXPECT_EQ(after.graph().node(i + 1).SerializeAsString(),
                before.graph().node(i).SerializeAsString())
          << entry.name;
    }
    EXPECT_EQ(after.graph().node(0).op_type(), "Identity");
  }
}

TEST(Save, EditsInsideABodyLeaveTheRestAlone) {
  auto model = testing::model_from_bytes(fixture("captured"));
  Editor editor(*model);
  Node& branch = *testing::maker_of(*model, "y");
  Graph& other = *branch.bodies()[1];
  editor.set_attribute(*other.last(), attribute("note", std::int64_t{3}));
  const onnx::ModelProto before = proto_of(fixture("captured"));
  const onnx::ModelProto after = saved_proto(*model);
  const auto& node = after.graph().node(1);
  EXPECT_EQ(node.attribute(0).SerializeAsString(),
            before.graph().node(1).attribute(0).SerializeAsString());
  EXPECT_EQ(node.attribute(1).g().node(2).attribute(0).name(), "note");
  EXPECT_EQ(after.graph().node(0).SerializeAsString(), before.graph().node(0).SerializeAsString());
}

TEST(Save, ValueInfoFollowsTheValues) {
  auto model = testing::model_from_bytes(fixture("plain"));
  Editor editor(*model);
  Node& relu = *testing::maker_of(*model, "r");
  // h goes away, r takes a persisted type.
  ASSERT_TRUE(editor.replace_all(*relu.output(0), value(*model, "x")).ok());
  ASSERT_TRUE(editor.erase(relu).ok());
  ASSERT_TRUE(editor.erase(*testing::maker_of(*model, "h")).ok());
  editor.set_type(value(*model, "m"), {DataType::kFloat, std::vector<Dim>{{{}, "N"}, {4, {}}}},
                  true);
  const onnx::ModelProto after = saved_proto(*model);
  ASSERT_EQ(after.graph().value_info_size(), 1);
  EXPECT_EQ(after.graph().value_info(0).name(), "m");
  EXPECT_EQ(after.graph().value_info(0).type().tensor_type().shape().dim(0).dim_param(), "N");
}

TEST(Save, AnInterfaceNameMovesWithItsType) {
  auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4] x) => (float[N, 4] y) { a = Relu (x) y = Identity (a) })");
  Editor editor(*model);
  Node& identity = *testing::maker_of(*model, "y");
  ASSERT_TRUE(editor.replace_all(*identity.output(0), *identity.input(0)).ok());
  ASSERT_TRUE(editor.erase(identity).ok());
  const onnx::ModelProto after = saved_proto(*model);
  ASSERT_EQ(after.graph().node_size(), 1);
  EXPECT_EQ(after.graph().node(0).output(0), "y");
  EXPECT_EQ(after.graph().output(0).type().tensor_type().shape().dim(0).dim_param(), "N");
  EXPECT_TRUE(check_model(*model).ok());
}

TEST(Save, MetadataAndOpsetsKeepOrderAndTheRest) {
  auto model = testing::model_from_bytes(fixture("unknown_fields"));
  Editor editor(*model);
  editor.set_metadata("new", "entry");
  editor.set_opset("", 18);
  editor.set_opset("another", 2);
  editor.require_ir_version(9);
  const onnx::ModelProto before = proto_of(fixture("unknown_fields"));
  const onnx::ModelProto after = saved_proto(*model);
  EXPECT_EQ(after.ir_version(), 9);
  ASSERT_EQ(after.opset_import_size(), 3);
  EXPECT_EQ(after.opset_import(0).version(), 18);
  EXPECT_EQ(unknown_of(after.opset_import(0)), unknown_of(before.opset_import(0)));
  EXPECT_EQ(after.opset_import(1).SerializeAsString(), before.opset_import(1).SerializeAsString());
  EXPECT_EQ(after.opset_import(2).domain(), "another");
  EXPECT_EQ(after.metadata_props(0).value(), "entry");
  EXPECT_EQ(after.graph().SerializeAsString(), before.graph().SerializeAsString());

  auto plain = testing::model_from_bytes(fixture("plain"));
  Editor second(*plain);
  second.set_metadata("second", "changed");
  const onnx::ModelProto changed = saved_proto(*plain);
  ASSERT_EQ(changed.metadata_props_size(), 2);
  EXPECT_EQ(changed.metadata_props(0).value(), "plain");
  EXPECT_EQ(changed.metadata_props(1).value(), "changed");
}

TEST(Save, NewTensorsOfEveryKind) {
  auto model = testing::model_from_bytes(fixture("small_types"));
  Editor editor(*model);
  const Tensor opaque = *value(*model, "unknown").constant();
  Value& copy = editor.add_initializer(model->graph(), "unknown_copy", opaque);
  editor.add_initializer(model->graph(), "empty", make_float_tensor({}, {0, 3}));
  editor.add_initializer(model->graph(), "large", ramp(5000));
  // Bytes that the saver itself uses as marks.
  std::vector<std::byte> odd(24);
  std::memcpy(odd.data(), "\x1bmcompress/weight", 16);
  editor.add_initializer(model->graph(), "odd", make_bytes_tensor(DataType::kUint8, {24}, odd));
  const auto saved = save_model_bytes(*model);
  ASSERT_TRUE(saved.ok()) << to_string(saved.error().diagnostic);
  const auto again = testing::model_from_bytes(*saved);
  const std::string name(copy.name());
  EXPECT_EQ(value(*again, name).constant()->byte_size(), 2000U);
  const onnx::ModelProto proto = proto_of(*saved);
  const auto& tensors = proto.graph().initializer();
  EXPECT_EQ(tensors[tensors.size() - 4].raw_data(), tensors[tensors.size() - 5].raw_data());
  EXPECT_EQ(tensors[tensors.size() - 1].raw_data(),
            std::string(reinterpret_cast<const char*>(odd.data()), 24));
  EXPECT_TRUE(same_content(*value(*again, "large").constant(), ramp(5000)).value());
}

TEST(Save, AModelWithoutAFile) {
  auto model = std::make_unique<Model>();
  Editor editor(*model);
  editor.set_opset("", 17);
  editor.require_ir_version(8);
  Value& weight = editor.add_initializer(model->graph(), "w", ramp(4));
  NewNode relu;
  relu.op_type = "Relu";
  relu.inputs = {&weight};
  editor.append(model->graph(), std::move(relu));
  const onnx::ModelProto proto = saved_proto(*model);
  EXPECT_EQ(proto.graph().node_size(), 1);
  EXPECT_EQ(proto.opset_import(0).version(), 17);
  EXPECT_TRUE(check_model(*model).ok());
}

// ------------------------------------------------------------------------------------- files

TEST(SaveFile, InlineEqualsTheBytes) {
  const TempFolder folder;
  for (const auto& entry : testing::fixtures()) {
    write_file(folder / "in.onnx", entry.bytes);
    const auto model = load_file(folder / "in.onnx");
    const SavedModel saved = save(*model, folder / "out.onnx");
    EXPECT_EQ(read_file(folder / "out.onnx"), entry.bytes) << entry.name;
    EXPECT_EQ(saved.model_bytes, entry.bytes.size());
    EXPECT_EQ(saved.data_bytes, 0U);
  }
  EXPECT_EQ(folder.list(), (std::vector<std::string>{"in.onnx", "out.onnx"}));
}

TEST(SaveFile, OverItself) {
  const TempFolder folder;
  write_file(folder / "m.onnx", fixture("plain"));
  const auto model = load_file(folder / "m.onnx");
  Editor editor(*model);
  editor.set_metadata("a", "b");
  save(*model, folder / "m.onnx");
  const auto again = load_file(folder / "m.onnx");
  EXPECT_EQ(again->metadata().size(), 3U);
  // The first model still reads from the file that is no longer there.
  EXPECT_TRUE(
      same_content(*value(*model, "w1").constant(), *value(*again, "w1").constant()).value());
}

TEST(SaveFile, ExternalDataIsAlignedSharedAndComplete) {
  const TempFolder folder;
  auto model = testing::model_from_bytes(fixture("plain"));
  Editor editor(*model);
  Value& large = editor.add_initializer(model->graph(), "large", ramp(300000));
  editor.add_initializer(model->graph(), "twin", *large.constant());
  editor.add_initializer(model->graph(), "tiny", ramp(3));
  const SavedModel saved = save(*model, folder / "m.onnx", always_external());
  EXPECT_EQ(folder.list(), (std::vector<std::string>{"m.onnx", "m.onnx.data"}));
  EXPECT_EQ(read_file(folder / "m.onnx.data").size(), saved.data_bytes);
  EXPECT_EQ(read_file(folder / "m.onnx").size(), saved.model_bytes);
  const onnx::ModelProto proto = proto_of(read_file(folder / "m.onnx"));
  std::map<std::string, std::map<std::string, std::string>> entries;
  for (const auto& tensor : proto.graph().initializer()) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) continue;
    entries[tensor.name()] = external_entries(tensor);
    EXPECT_FALSE(tensor.has_raw_data());
    EXPECT_EQ(entries[tensor.name()]["location"], "m.onnx.data");
  }
  EXPECT_EQ(entries.size(), 3U);  // w2 has 512 bytes, tiny and bias less
  EXPECT_EQ(std::stoll(entries["w1"]["offset"]) % 64, 0);
  EXPECT_EQ(std::stoll(entries["large"]["offset"]) % 4096, 0);
  EXPECT_EQ(entries["large"], entries["twin"]);
  const auto again = load_file(folder / "m.onnx");
  EXPECT_TRUE(again->had_external_data());
  for (const char* name : {"w1", "w2", "large", "twin", "tiny"}) {
    EXPECT_TRUE(
        same_content(*value(*model, name).constant(), *value(*again, name).constant()).value())
        << name;
  }
  EXPECT_TRUE(check_model(*again).ok());
}

TEST(SaveFile, ExternalDataIsAFixedPoint) {
  for (const auto& entry : testing::fixtures()) {
    const TempFolder folder;
    std::filesystem::create_directories(folder / "second");
    const auto model = testing::model_from_bytes(entry.bytes);
    SaveOptions options = always_external();
    options.external_threshold = 4;
    save(*model, folder / "m.onnx", options);
    const auto again = load_file(folder / "m.onnx");
    EXPECT_TRUE(verify(*again).ok());
    save(*again, folder / "second/m.onnx", options);
    EXPECT_EQ(read_file(folder / "m.onnx"), read_file(folder / "second/m.onnx")) << entry.name;
    if (!again->had_external_data()) continue;
    EXPECT_EQ(read_file(folder / "m.onnx.data"), read_file(folder / "second/m.onnx.data"));
    // Over itself, and back to one file.
    save(*again, folder / "m.onnx", options);
    EXPECT_EQ(read_file(folder / "m.onnx.data"), read_file(folder / "second/m.onnx.data"));
    const auto third = load_file(folder / "second/m.onnx");
    SaveOptions inline_options;
    inline_options.external = SaveOptions::External::kNever;
    save(*third, folder / "inline.onnx", inline_options);
    const auto fourth = load_file(folder / "inline.onnx");
    EXPECT_FALSE(fourth->had_external_data());
    EXPECT_EQ(dump(*fourth), dump(*model)) << entry.name;
  }
}

TEST(SaveFile, GoesExternalByItselfWhenTooLargeForOneFile) {
  const TempFolder folder;
  const auto model = testing::model_from_bytes(fixture("large_anywhere"));
  SaveOptions options;
  options.inline_limit = 4000;
  options.external_threshold = 256;
  const SavedModel saved = save(*model, folder / "m.onnx", options);
  EXPECT_LT(saved.model_bytes, 4000U);
  EXPECT_EQ(saved.data_bytes, 4096U);  // initializers were enough
  options.inline_limit = 1000;
  EXPECT_EQ(save(*model, folder / "m.onnx", options).data_bytes, 6144U);
  EXPECT_EQ(dump(*load_file(folder / "m.onnx")), dump(*model));
}

TEST(SaveFile, NeverTakesTheInputsData) {
  const TempFolder folder;
  save(*testing::model_from_bytes(fixture("plain")), folder / "b.onnx", always_external());
  std::filesystem::rename(folder / "b.onnx", folder / "a.onnx");
  const auto model = load_file(folder / "a.onnx");
  const std::string data = read_file(folder / "b.onnx.data");
  const auto saved = save_model(*model, folder / "b.onnx", {}, silent_progress());
  ASSERT_FALSE(saved.ok());
  EXPECT_EQ(saved.error().code, Code::kOutput);
  EXPECT_TRUE(read_file(folder / "b.onnx.data") == data);
  EXPECT_EQ(folder.list(), (std::vector<std::string>{"a.onnx", "b.onnx.data"}));
}

TEST(SaveFile, RefusesALargerResult) {
  const TempFolder folder;
  const auto model = testing::model_from_bytes(fixture("plain"));
  SaveOptions options;
  options.original_bytes = 100;
  const auto saved = save_model(*model, folder / "m.onnx", options, silent_progress());
  ASSERT_FALSE(saved.ok());
  EXPECT_EQ(saved.error().code, Code::kOutput);
  EXPECT_EQ(saved.error().diagnostic.id, "larger-than-input");
  EXPECT_TRUE(folder.list().empty());
  options.allow_larger = true;
  save(*model, folder / "m.onnx", options);
}

TEST(CopyModel, IsByteForByte) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "out");
  for (const auto& entry : testing::fixtures()) {
    // Bytes after the last field of a message in another order than protobuf would write.
    const std::string bytes = entry.bytes + std::string("\x08\x08", 2);
    write_file(folder / "in.onnx", bytes);
    const auto model = load_file(folder / "in.onnx");
    const auto copied = copy_model(*model, folder / "out/copy.onnx", silent_progress());
    ASSERT_TRUE(copied.ok());
    EXPECT_EQ(copied->model_bytes, bytes.size());
    EXPECT_EQ(read_file(folder / "out/copy.onnx"), bytes) << entry.name;
  }
  save(*testing::model_from_bytes(fixture("plain")), folder / "e.onnx", always_external());
  const auto model = load_file(folder / "e.onnx");
  ASSERT_TRUE(copy_model(*model, folder / "out/renamed.onnx", silent_progress()).ok());
  EXPECT_EQ(read_file(folder / "out/renamed.onnx"), read_file(folder / "e.onnx"));
  EXPECT_EQ(read_file(folder / "out/e.onnx.data"), read_file(folder / "e.onnx.data"));
  // In the same folder both share the data; onto itself nothing happens.
  ASSERT_TRUE(copy_model(*model, folder / "same.onnx", silent_progress()).ok());
  ASSERT_TRUE(copy_model(*model, folder / "e.onnx", silent_progress()).ok());
  EXPECT_EQ(read_file(folder / "same.onnx"), read_file(folder / "e.onnx"));
  EXPECT_EQ(dump(*load_file(folder / "same.onnx")), dump(*model));
}

// ------------------------------------------------------------------------------------ faults

class Stop final : public Progress {
 public:
  void update(std::string_view, std::uint64_t, std::uint64_t, std::string_view) override {
    ++updates;
  }
  bool cancelled() const override { return updates >= stop_at; }
  int updates = 0;
  int stop_at = 0;
};

// The names and contents of a folder.
std::map<std::string, std::string> contents(const TempFolder& folder) {
  std::map<std::string, std::string> result;
  for (const std::string& name : folder.list()) result[name] = read_file(folder / name);
  return result;
}

TEST(SaveFaults, EveryFailureLeavesTheFolderAsItWas) {
  const TempFolder folder;
  save(*testing::model_from_bytes(fixture("plain")), folder / "m.onnx", always_external());
  const auto before = contents(folder);
  const auto model = load_file(folder / "m.onnx");
  Editor editor(*model);
  editor.add_initializer(model->graph(), "large", ramp(300000));
  bool reached_the_end = false;
  int failures = 0;
  for (std::int64_t n = 1; !reached_the_end && n < 1000; ++n) {
    testing::FaultyFiles files;
    files.fail_at = n;
    files.fail_once = true;
    const auto saved = save_model(files, *model, folder / "m.onnx", {}, silent_progress());
    reached_the_end = files.calls() < n;
    if (saved.ok()) {  // some failures have a way round
      EXPECT_TRUE(contents(folder) != before);
      for (const auto& [name, bytes] : before) write_file(folder / name, bytes);
      continue;
    }
    ++failures;
    EXPECT_EQ(saved.error().code, Code::kOutput) << to_string(saved.error().diagnostic);
    ASSERT_TRUE(contents(folder) == before) << "call " << n;
  }
  EXPECT_TRUE(reached_the_end);
  EXPECT_GT(failures, 5);
}

TEST(SaveFaults, FullDisk) {
  const TempFolder folder;
  const auto model = testing::model_from_bytes(fixture("plain"));
  testing::FaultyFiles files;
  files.can_copy_range = false;
  files.space = 1000;
  const auto saved = save_model(files, *model, folder / "m.onnx", {}, silent_progress());
  ASSERT_FALSE(saved.ok());
  EXPECT_EQ(saved.error().code, Code::kOutput);
  EXPECT_TRUE(folder.list().empty());
}

TEST(SaveFaults, ShortAndInterruptedCallsChangeNothing) {
  const TempFolder folder;
  testing::FaultyFiles files;
  files.step = 7;
  files.interrupts = true;
  files.can_map = false;
  write_file(folder / "in.onnx", fixture("large_anywhere"));
  Diagnostics diagnostics;
  const auto model = load_model(files, folder / "in.onnx", {}, diagnostics);
  ASSERT_TRUE(model.ok());
  ASSERT_TRUE(save_model(files, **model, folder / "out.onnx", {}, silent_progress()).ok());
  EXPECT_EQ(read_file(folder / "out.onnx"), fixture("large_anywhere"));
}

TEST(SaveFaults, InterruptAtAnyMoment) {
  const TempFolder folder;
  const auto model = testing::model_from_bytes(fixture("large_anywhere"));
  bool finished = false;
  for (int n = 1; !finished; ++n) {
    Stop stop;
    stop.stop_at = n;
    const auto saved = save_model(*model, folder / "m.onnx", always_external(), stop);
    finished = saved.ok();
    if (finished) break;
    EXPECT_EQ(saved.error().code, Code::kCancelled);
    EXPECT_TRUE(folder.list().empty());
  }
  EXPECT_EQ(folder.list().size(), 2U);
}

TEST(SaveFaults, ReadOnlyAndMissingFolders) {
  const auto model = testing::model_from_bytes(fixture("plain"));
  const auto saved = save_model(*model, "/nonexistent/folder/m.onnx", {}, silent_progress());
  ASSERT_FALSE(saved.ok());
  EXPECT_EQ(saved.error().code, Code::kOutput);
}

// ------------------------------------------------------------------------- tensors and runtime

TEST(TensorFile, RoundTrip) {
  const TempFolder folder;
  const auto model = testing::model_from_bytes(fixture("typed_fields"));
  for (const Value* initializer : model->graph().initializers()) {
    const NamedTensor tensor{std::string(initializer->name()), *initializer->constant()};
    const auto bytes = tensor_file_bytes(tensor);
    ASSERT_TRUE(bytes.ok()) << tensor.name;
    write_file(folder / "t.pb", *bytes);
    const auto again = load_tensor_file(folder / "t.pb");
    ASSERT_TRUE(again.ok()) << to_string(again.error().diagnostic);
    EXPECT_EQ(again->name, tensor.name);
    EXPECT_EQ(again->tensor.dtype(), tensor.tensor.dtype());
    if (tensor.tensor.is_opaque()) continue;
    EXPECT_TRUE(same_content(again->tensor, tensor.tensor).value()) << tensor.name;
  }
  write_file(folder / "t.pb", "no tensor");
  EXPECT_EQ(load_tensor_file(folder / "t.pb").error().code, Code::kInput);
  EXPECT_EQ(load_tensor_file(folder / "gone.pb").error().code, Code::kInput);
}

TEST(RuntimeBytes, HandsLargeTensorsOverAndExposesValues) {
  auto model = testing::model_from_bytes(fixture("plain"));
  Editor editor(*model);
  editor.add_initializer(model->graph(), "large", ramp(2000));
  const std::vector<std::string> extra = {"h", "y", "r", "large"};
  std::vector<std::pair<std::string, Tensor>> large;
  // Nothing comes of it yet.
  ASSERT_TRUE(runtime_model_bytes(*model, std::vector<std::string>{"h"}, &large).ok());
  EXPECT_TRUE(large.empty());
  const auto bytes = runtime_model_bytes(*model, extra, &large);
  ASSERT_TRUE(bytes.ok());
  ASSERT_EQ(large.size(), 1U);
  EXPECT_EQ(large[0].first, "large");
  const onnx::ModelProto proto = proto_of(*bytes);
  ASSERT_EQ(proto.graph().output_size(), 4);
  EXPECT_EQ(proto.graph().output(1).name(), "h");
  EXPECT_TRUE(proto.graph().output(1).type().has_tensor_type());
  EXPECT_EQ(proto.graph().output(2).name(), "r");
  const auto entries = external_entries(proto.graph().initializer(3));
  EXPECT_EQ(entries.at("location"), kMemoryLocation);
  EXPECT_EQ(entries.at("length"), "8000");
  EXPECT_FALSE(runtime_model_bytes(*model, std::vector<std::string>{"ghost"}, &large).ok());
}

}  // namespace
}  // namespace mcompress
