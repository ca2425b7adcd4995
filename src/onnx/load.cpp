#include "onnx/load.h"

#include <onnx/defs/parser.h>

#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "ir/builder.h"
#include "onnx/archive.h"
#include "onnx/external_data.h"
#include "onnx/graph_loader.h"
#include "onnx/proto.h"
#include "onnx/wire.h"
#include "support/try.h"

namespace mcompress {
namespace {

Error not_a_model(std::string message) {
  return Error(Code::kInput, "not-an-onnx-model", std::move(message), {},
               "the file is damaged, incomplete or not an ONNX model");
}

// A function that calls itself, perhaps through others, can never be run.
class RecursionCheck {
 public:
  explicit RecursionCheck(const Model& model) : functions_(model.functions()) {
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      const Function& function = functions_[i];
      // Named like an operator of ONNX it may well use that operator.
      if (function.domain.empty() || function.domain == "ai.onnx") continue;
      places_.emplace(std::tuple(std::string_view(function.domain), std::string_view(function.name),
                                 std::string_view(function.overload)),
                      i);
    }
    calls_.resize(functions_.size());
    for (std::size_t i = 0; i < functions_.size(); ++i) collect(*functions_[i].body, calls_[i]);
  }

  Status run() const {
    enum : std::uint8_t { kNew, kOpen, kDone };
    std::vector<std::uint8_t> state(functions_.size(), kNew);
    std::vector<std::pair<std::size_t, std::size_t>> path;  // function, next call to follow
    for (std::size_t start = 0; start < functions_.size(); ++start) {
      if (state[start] != kNew) continue;
      state[start] = kOpen;
      path.emplace_back(start, 0);
      while (!path.empty()) {
        auto& [at, next] = path.back();
        if (next == calls_[at].size()) {
          state[at] = kDone;
          path.pop_back();
          continue;
        }
        const std::size_t called = calls_[at][next++];
        if (state[called] == kOpen) return recursive(called, path);
        if (state[called] == kDone) continue;
        state[called] = kOpen;
        path.emplace_back(called, 0);
      }
    }
    return ok_status();
  }

 private:
  void collect(const Graph& graph, std::vector<std::size_t>& calls) const {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const auto found =
          places_.find(std::tuple(node->domain(), node->op_type(), node->overload()));
      if (found != places_.end()) calls.push_back(found->second);
      for (const Graph* body : node->bodies()) collect(*body, calls);
    }
  }

  Status recursive(std::size_t called,
                   const std::vector<std::pair<std::size_t, std::size_t>>& path) const {
    std::string chain;
    bool inside = false;
    for (const auto& [at, next] : path) {
      inside = inside || at == called;
      if (inside) chain += "'" + functions_[at].name + "' calls ";
    }
    return Error(Code::kInput, "function-recursion",
                 "function " + chain + "'" + functions_[called].name + "'",
                 {{}, "function/" + functions_[called].domain + ":" + functions_[called].name, {}},
                 "functions of a model may not call themselves");
  }

  std::span<const Function> functions_;
  std::map<std::tuple<std::string_view, std::string_view, std::string_view>, std::size_t> places_;
  std::vector<std::vector<std::size_t>> calls_;
};

Status load_graphs(Builder& builder, const std::shared_ptr<ParsedModel>& parsed,
                   Diagnostics& diagnostics) {
  onnx::ModelProto& proto = parsed->proto;
  builder.set_origin(parsed);
  builder.set_ir_version(proto.ir_version());
  const std::string& version = proto.producer_version();
  builder.set_producer(proto.producer_name() + (version.empty() ? "" : " " + version));
  builder.set_had_external_data(!parsed->data_files.empty() ||
                                (parsed->archive != nullptr && parsed->archive->files() > 1));
  for (const onnx::OperatorSetIdProto& entry : proto.opset_import()) {
    builder.import_opset(entry.domain(), entry.version());
  }
  // Imports came with IR version 3; before, operators were those of the first set.
  if (proto.opset_import_size() == 0 && proto.ir_version() < 3) builder.import_opset("", 1);
  for (const onnx::StringStringEntryProto& entry : proto.metadata_props()) {
    builder.add_metadata(entry.key(), entry.value());
  }
  GraphLoader loader(builder, parsed, diagnostics);
  MCOMPRESS_TRY(loader.load_top(*proto.mutable_graph()));
  for (onnx::FunctionProto& function : *proto.mutable_functions()) {
    MCOMPRESS_TRY(loader.load_function(function));
  }
  if (proto.functions_size() > 0) return RecursionCheck(builder.model()).run();
  return ok_status();
}

// `make_slice` turns a range of `bytes` into a storage.
template <class MakeSlice>
Status read_skeleton(std::span<const std::byte> bytes, const LoadOptions& options,
                     ParsedModel& parsed, MakeSlice&& make_slice) {
  if (bytes.empty()) return not_a_model("the model has no bytes at all");
  wire::DeflateOptions deflate;
  deflate.threshold = options.map_threshold;
  deflate.max_graph_depth = options.max_graph_depth;
  MCOMPRESS_ASSIGN(const wire::Skeleton skeleton,
                   wire::deflate(bytes, wire::Root::kModel, deflate));
  if (!parse(skeleton.bytes, options.max_graph_depth, parsed.proto)) {
    return not_a_model("this is not a protocol buffer of an ONNX model");
  }
  if (!parsed.proto.has_graph()) return not_a_model("the model holds no graph");
  for (const wire::Slice& slice : skeleton.payloads) {
    MCOMPRESS_ASSIGN(StoragePtr storage, make_slice(slice));
    parsed.payloads.add(std::move(storage), false);
  }
  return ok_status();
}

}  // namespace

Result<std::unique_ptr<Model>> load_model(FileSystem& files, const std::filesystem::path& path,
                                          const LoadOptions& options, Diagnostics& diagnostics) {
  auto parsed = std::make_shared<ParsedModel>();
  auto model = std::make_unique<Model>();
  Diagnostics found;
  const auto load = [&]() -> Status {
    MCOMPRESS_ASSIGN(parsed->file, map_file(files, path.string()));
    const MappedFilePtr file = parsed->file;
    if (ArchivedModel::is_one(file->bytes())) {
      MCOMPRESS_ASSIGN(parsed->archive, ArchivedModel::open(file));
      MCOMPRESS_ASSIGN(const auto view, parsed->archive->model_file(options.map_threshold));
      MCOMPRESS_TRY(read_skeleton(view->bytes(), options, *parsed, [&](const wire::Slice& slice) {
        return view->slice(slice.offset, slice.length);
      }));
    } else {
      MCOMPRESS_TRY(read_skeleton(file->bytes(), options, *parsed,
                                  [&](const wire::Slice& slice) -> Result<StoragePtr> {
                                    return make_file_slice(file, slice.offset, slice.length);
                                  }));
    }
    MCOMPRESS_TRY(attach_external_data(files, folder_of(path.string()), *parsed));
    Builder builder(*model);
    builder.set_source(path);
    return load_graphs(builder, parsed, found);
  };
  if (Status status = load(); !status.ok()) {
    return std::move(status).error().in_file(path.string());
  }
  for (Diagnostic entry : found.all()) {
    entry.where.file = path.string();
    diagnostics.add(std::move(entry));
  }
  return model;
}

Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path,
                                          const LoadOptions& options, Diagnostics& diagnostics) {
  return load_model(real_files(), path, options, diagnostics);
}

Result<std::unique_ptr<Model>> load_model_bytes(std::string_view bytes, const LoadOptions& options,
                                                Diagnostics& diagnostics) {
  auto parsed = std::make_shared<ParsedModel>();
  auto model = std::make_unique<Model>();
  const auto copy = std::make_shared<const std::string>(bytes);
  const auto view = std::as_bytes(std::span(*copy));
  MCOMPRESS_TRY(
      read_skeleton(view, options, *parsed, [&](const wire::Slice& slice) -> Result<StoragePtr> {
        return make_storage(copy, view.subspan(slice.offset, slice.length));
      }));
  MCOMPRESS_TRY(attach_external_data(real_files(), {}, *parsed));
  Builder builder(*model);
  MCOMPRESS_TRY(load_graphs(builder, parsed, diagnostics));
  return model;
}

Result<std::unique_ptr<Model>> parse_model_text(std::string_view text, Diagnostics& diagnostics) {
  onnx::ModelProto proto;
  const std::string copy(text);
  try {
    const auto status = onnx::OnnxParser::Parse(proto, copy.c_str());
    if (!status.IsOK()) {
      return Error(Code::kInput, "model-text", status.ErrorMessage(), {{}, {}, {}},
                   "see ONNX's docs/Syntax.md");
    }
  } catch (const std::exception& error) {
    return Error(Code::kInput, "model-text", error.what(), {}, "see ONNX's docs/Syntax.md");
  }
  MCOMPRESS_ASSIGN(const std::string bytes, serialise(proto));
  return load_model_bytes(bytes, {}, diagnostics);
}

}  // namespace mcompress
