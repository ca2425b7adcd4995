// Runs a model in ONNX Runtime straight from an archive of `mcompress pack`, in memory only.
//
//   load_archive MODEL.mca [MODEL.onnx]
//
// Inputs are filled with 0, 1/7, 2/7, ...; unknown dimensions count as 1. Prints the outputs. With
// the unpacked model beside it, runs that too and fails unless all bytes are the same.
#include <mcompress/archive_c.h>
#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

void check(mca_status status) {
  if (status != MCA_OK) throw std::runtime_error(mca_last_error());
}

struct CloseArchive {
  void operator()(mca_archive* archive) const { mca_close(archive); }
};

Ort::Session open_archive(Ort::Env& env, const char* path) {
  mca_archive* opened = nullptr;
  check(mca_open(path, &opened));
  const std::unique_ptr<mca_archive, CloseArchive> archive(opened);

  // The runtime wants these tensors in memory of ours.
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<std::unique_ptr<std::byte[]>> buffers;
  std::vector<std::string> names;
  std::vector<Ort::Value> weights;
  for (std::size_t i = 0; i < mca_tensor_count(archive.get()); ++i) {
    mca_tensor tensor;
    check(mca_tensor_info(archive.get(), i, &tensor));
    const auto size = static_cast<std::size_t>(tensor.bytes);
    buffers.push_back(std::make_unique<std::byte[]>(size));
    check(mca_tensor_read(archive.get(), i, buffers.back().get(), size));
    weights.push_back(
        Ort::Value::CreateTensor(memory, buffers.back().get(), size, tensor.dims, tensor.rank,
                                 static_cast<ONNXTensorElementDataType>(tensor.dtype)));
    names.emplace_back(tensor.name);
  }
  Ort::SessionOptions options;
  if (!names.empty()) options.AddExternalInitializers(names, weights);

  const void* model = nullptr;
  std::size_t size = 0;
  check(mca_model_bytes(archive.get(), &model, &size));
  // The session copies the weights: they, their buffers and the archive go when this function ends.
  return Ort::Session(env, model, size, options);
}

template <class T>
void fill(Ort::Value& tensor) {
  T* values = tensor.GetTensorMutableData<T>();
  const std::size_t count = tensor.GetTensorTypeAndShapeInfo().GetElementCount();
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<T>(static_cast<double>(i % 8) / 7);
  }
}

std::vector<Ort::Value> run(Ort::Session& session) {
  const Ort::AllocatorWithDefaultOptions allocator;
  std::vector<std::string> names;
  std::vector<Ort::Value> inputs;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
    const Ort::TypeInfo type = session.GetInputTypeInfo(i);
    const auto info = type.GetTensorTypeAndShapeInfo();
    std::vector<std::int64_t> shape = info.GetShape();
    for (std::int64_t& size : shape) size = size < 0 ? 1 : size;
    inputs.push_back(
        Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), info.GetElementType()));
    switch (info.GetElementType()) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
        fill<float>(inputs.back());
        break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
        fill<std::int64_t>(inputs.back());
        break;
      default:
        throw std::runtime_error("this example feeds inputs of float and int64 only");
    }
    names.emplace_back(session.GetInputNameAllocated(i, allocator).get());
  }
  std::vector<std::string> output_names;
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
    output_names.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
  }
  std::vector<const char*> in, out;
  for (const std::string& name : names) in.push_back(name.c_str());
  for (const std::string& name : output_names) out.push_back(name.c_str());
  return session.Run(Ort::RunOptions{}, in.data(), inputs.data(), inputs.size(), out.data(),
                     out.size());
}

std::size_t byte_size(const Ort::Value& tensor) {
  const auto info = tensor.GetTensorTypeAndShapeInfo();
  if (info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    throw std::runtime_error("this example shows outputs of float only");
  }
  return info.GetElementCount() * sizeof(float);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: load_archive MODEL.mca [MODEL.onnx]\n";
    return 1;
  }
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "load_archive");
  Ort::Session session = open_archive(env, argv[1]);
  const std::vector<Ort::Value> outputs = run(session);
  for (const Ort::Value& output : outputs) {
    const std::size_t count = byte_size(output) / sizeof(float);
    std::cout << count << " values:";
    for (std::size_t i = 0; i < count && i < 8; ++i) {
      std::cout << ' ' << output.GetTensorData<float>()[i];
    }
    std::cout << '\n';
  }
  if (argc == 2) return 0;
  Ort::Session other(env, argv[2], Ort::SessionOptions{});
  const std::vector<Ort::Value> expected = run(other);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (byte_size(outputs[i]) != byte_size(expected.at(i)) ||
        std::memcmp(outputs[i].GetTensorRawData(), expected[i].GetTensorRawData(),
                    byte_size(outputs[i])) != 0) {
      std::cerr << "output " << i << " differs from that of the unpacked model\n";
      return 1;
    }
  }
  std::cout << "same as the unpacked model\n";
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
