// Loads the model named on the command line, checks it and opens it in the runtime.
#include <mcompress/mcompress.h>

#include <iostream>

namespace mc = mcompress;

namespace {

int fail(const mc::Error& error) {
  std::cerr << error.diagnostic.message << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  mc::Diagnostics diagnostics;
  auto model = mc::load_model(argv[1], mc::LoadOptions{}, diagnostics);
  if (!model.ok()) return fail(model.error());
  if (const mc::Status checked = mc::check_model(*model.value()); !checked.ok()) {
    return fail(checked.error());
  }
  auto runtime = mc::find_runtime("onnxruntime");
  if (!runtime.ok()) return fail(runtime.error());
  auto session = runtime.value()->open(*model.value(), mc::SessionOptions{});
  if (!session.ok()) return fail(session.error());
  std::cout << "mcompress " << mc::kVersion << ", " << runtime.value()->name() << ": "
            << model.value()->graph().nodes().size() << " nodes, "
            << session.value()->inputs().size() << " inputs\n";
}
