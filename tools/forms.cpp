#include "forms.h"

#include <algorithm>
#include <map>
#include <set>

#include "console.h"
#include "mcompress/host.h"
#include "mcompress/tensor.h"
#include "try.h"

namespace mcompress::tools {
namespace {

// A constant: of an initializer that is no input, or of a Constant node.
const Tensor* data_of(const Value* value) {
  if (value == nullptr) return nullptr;
  if (const Tensor* tensor = value->constant()) return tensor;
  const Node* made_by = value->producer();
  if (made_by == nullptr || !made_by->is("Constant")) return nullptr;
  const AttributeValue* held = made_by->attribute("value");
  return held != nullptr ? std::get_if<Tensor>(held) : nullptr;
}

// What stands between constants and the node that computes with them.
struct Cone {
  std::vector<const Value*> leaves;  // each once, in the order they are met
  std::vector<const Node*> nodes;    // nearest to the reader first
  const Node* find(std::string_view op_type) const {
    for (const Node* node : nodes) {
      if (node->op_type() == op_type) return node;
    }
    return nullptr;
  }
};

class FormReader {
 public:
  explicit FormReader(std::int64_t min_elements) : min_elements_(min_elements) {}

  Status look(const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (!is_folded(*node)) MCOMPRESS_TRY(look_at(*node));
      for (const Graph* body : node->bodies()) MCOMPRESS_TRY(look(*body));
    }
    return ok_status();
  }

  std::vector<WeightForm> take() { return std::move(forms_); }

 private:
  // Computed from constants alone, so that a runtime does it when it loads the model.
  bool is_folded(const Node& node) {
    const auto known = folded_.find(&node);
    if (known != folded_.end()) return known->second;
    bool folded = node.bodies().empty() && !node.op_type().starts_with("Random");
    for (const Value* input : node.inputs()) {
      if (!folded) break;
      folded = input == nullptr || data_of(input) != nullptr ||
               (input->producer() != nullptr && is_folded(*input->producer()));
    }
    if (node.inputs().empty()) folded = node.is("Constant");
    folded_.emplace(&node, folded);
    return folded;
  }

  static Cone gather(const Value* value) {
    constexpr std::size_t kMostNodes = 4096;  // far more than any form has
    Cone cone;
    std::set<const void*> seen;
    std::vector<const Value*> open = {value};
    while (!open.empty() && cone.nodes.size() < kMostNodes) {
      const Value* next = open.back();
      open.pop_back();
      if (next == nullptr || !seen.insert(next).second) continue;
      if (data_of(next) != nullptr) {
        cone.leaves.push_back(next);
        continue;
      }
      const Node* node = next->producer();
      if (node == nullptr || !seen.insert(node).second) continue;
      cone.nodes.push_back(node);
      for (std::size_t i = node->inputs().size(); i-- > 0;) open.push_back(node->input(i));
    }
    return cone;
  }

  Status look_at(const Node& node) {
    for (std::size_t slot = 0; slot < node.inputs().size(); ++slot) {
      const Value* value = node.input(slot);
      if (value == nullptr || !seen_.insert(value).second) continue;
      const Tensor* data = data_of(value);
      const bool folded = value->producer() != nullptr && is_folded(*value->producer());
      if (data == nullptr && !folded) continue;
      const Cone cone = gather(value);
      WeightForm form;
      const Tensor* largest = nullptr;
      for (const Value* leaf : cone.leaves) {
        const Tensor* tensor = data_of(leaf);
        form.bytes += tensor->byte_size();
        if (largest != nullptr && tensor->byte_size() <= largest->byte_size()) continue;
        largest = tensor;
        form.tensor = leaf->name();
      }
      // Scales and zero points go with the weights in front of them.
      if (is_scale(node, slot) && !forms_.empty() && forms_.back().node == node.label()) {
        forms_.back().bytes += form.bytes;
        continue;
      }
      if (largest == nullptr || largest->elements() < min_elements_) continue;
      if (data != nullptr && data->dtype() == DataType::kInt64) continue;  // shapes and indices
      form.node = node.label();
      form.op_type = node.op_type();
      set_dims(*value, *largest, cone, form);
      MCOMPRESS_TRY(data != nullptr ? direct(node, *data, form) : restored(cone, *largest, form));
      if (form.float_bytes == 0 && !form.dims.empty()) {
        const auto elements = element_count(form.dims);
        if (elements) form.float_bytes = static_cast<std::uint64_t>(*elements) * 4;
      }
      forms_.push_back(std::move(form));
    }
    return ok_status();
  }

  static bool is_scale(const Node& node, std::size_t slot) {
    return slot >= 2 &&
           (node.op_type() == "MatMulNBits" || node.op_type() == "GatherBlockQuantized");
  }

  static void set_dims(const Value& value, const Tensor& largest, const Cone& cone,
                       WeightForm& form) {
    if (cone.nodes.empty() || cone.nodes.front()->is("DequantizeLinear") ||
        cone.nodes.front()->is("Cast")) {
      form.dims.assign(largest.dims().begin(), largest.dims().end());
      return;
    }
    if (value.type() != nullptr && value.type()->shape) {
      for (const Dim& dim : *value.type()->shape) {
        if (!dim.size) return form.dims.clear();
        form.dims.push_back(*dim.size);
      }
      return;
    }
    const Node* reshape = cone.nodes.front()->is("Reshape") ? cone.nodes.front() : nullptr;
    const Tensor* shape = reshape != nullptr ? data_of(reshape->input(1)) : nullptr;
    if (shape == nullptr) {
      // Scaled where it stands.
      if (cone.find("Reshape") == nullptr && cone.find("Gather") == nullptr &&
          cone.find("MatMul") == nullptr && data_bits(largest) >= 8) {
        form.dims.assign(largest.dims().begin(), largest.dims().end());
      }
      return;
    }
    if (auto dims = read_ints(*shape); dims.ok()) {
      if (std::all_of(dims->begin(), dims->end(), [](std::int64_t dim) { return dim > 0; })) {
        form.dims = std::move(*dims);
      }
    }
  }

  // A constant that the node reads itself.
  static Status direct(const Node& node, const Tensor& data, WeightForm& form) {
    const std::int64_t bits = node.int_attribute("bits", 4);
    const std::int64_t block = node.int_attribute("block_size", 0);
    const auto in_blocks = [&](std::string_view op) {
      form.compressed = true;
      form.form = std::to_string(bits) + " bits, blocks of " + std::to_string(block) + " (" +
                  std::string(op) + ")";
    };
    if (node.op_type() == "MatMulNBits") {
      const std::int64_t inputs = node.int_attribute("K", 0), outputs = node.int_attribute("N", 0);
      form.dims = {inputs, outputs};
      in_blocks(node.op_type());
      return ok_status();
    }
    if (node.op_type() == "GatherBlockQuantized") {
      in_blocks(node.op_type());
      if (bits < 8 && !form.dims.empty() && data_bits(data) == 8) form.dims.back() *= 8 / bits;
      return ok_status();
    }
    const std::string type = dtype_name(data.dtype());
    if (data.dtype() == DataType::kFloat) {
      MCOMPRESS_ASSIGN(form.density, density_of(data));
      constexpr double kSparse = 0.95;
      form.form = "float32";
      if (form.density && *form.density < kSparse) {
        form.form += ", " + decimal_text(100 * (1 - *form.density), 1) + " % zeros, stored densely";
      }
      return ok_status();
    }
    form.compressed = data_bits(data) < 32;
    if (node.is("DequantizeLinear")) {
      form.form = scales_text(node, data);
    } else if (node.is("Gather")) {
      form.form = type + " rows, computed back when they are looked up";
    } else {
      form.form = type + ", computed with as such";
    }
    return ok_status();
  }

  static std::uint64_t data_bits(const Tensor& tensor) {
    return tensor.elements() > 0
               ? tensor.byte_size() * 8 / static_cast<std::uint64_t>(tensor.elements())
               : 0;
  }

  static Result<std::optional<double>> density_of(const Tensor& tensor) {
    if (tensor.is_opaque() || tensor.elements() == 0) return std::optional<double>();
    std::int64_t others = 0;
    MCOMPRESS_TRY(read_as_float(tensor, 1 << 16, [&](std::int64_t, std::span<const float> chunk) {
      others += std::count_if(chunk.begin(), chunk.end(), [](float x) { return x != 0; });
    }));
    return std::optional(static_cast<double>(others) / static_cast<double>(tensor.elements()));
  }

  static std::string scales_text(const Node& node, const Tensor& data) {
    const Tensor* scale = data_of(node.input(1));
    const std::int64_t block = node.int_attribute("block_size", 0);
    const std::int64_t axis = node.int_attribute("axis", 1);
    std::string text = dtype_name(data.dtype());
    if (block > 0) {
      text += ", blocks of " + std::to_string(block) + " along axis " + std::to_string(axis);
    } else if (scale != nullptr && scale->elements() > 1) {
      text += ", a scale per channel on axis " + std::to_string(axis);
    } else {
      text += ", one scale";
    }
    return text + " (DequantizeLinear)";
  }

  // What is computed from constants when the model is loaded.
  static Status restored(const Cone& cone, const Tensor& largest, WeightForm& form) {
    const std::string type = dtype_name(largest.dtype());
    const Node* codebook = nullptr;
    const Tensor* entries = nullptr;
    for (const Node* node : cone.nodes) {
      const Tensor* table = node->is("Gather") ? data_of(node->input(0)) : nullptr;
      if (table == nullptr || table->dtype() != DataType::kFloat) continue;
      if (table->dims().size() > 1 || table->elements() > 256) continue;
      codebook = node;
      entries = table;
    }
    const Node* dequantize = cone.find("DequantizeLinear");
    // The longest way back to float32 is the one of codes of several lengths.
    constexpr std::size_t kManyNodes = 24;
    const bool coded = cone.nodes.size() > kManyNodes;
    form.compressed = true;
    if (codebook != nullptr) {
      form.tensor = codebook->input(0)->name();  // bits of codes may have any name
      form.form = "codebook of " + std::to_string(entries->elements()) + " floats, " +
                  (coded ? "indices of several lengths (entropy-coded)" : "packed indices");
    } else if (dequantize != nullptr && data_of(dequantize->input(0)) != nullptr) {
      form.form = scales_text(*dequantize, *data_of(dequantize->input(0)));
    } else if (coded) {
      form.form = type + ", codes of several lengths (entropy-coded)";
    } else if (cone.find("ScatterElements") != nullptr || cone.find("ScatterND") != nullptr ||
               cone.find("CumSum") != nullptr || cone.find("NonZero") != nullptr) {
      form.form = "sparse: the numbers that are not 0 and where they stand";
    } else if (cone.find("BitShift") != nullptr || cone.find("BitwiseAnd") != nullptr ||
               (largest.dtype() == DataType::kUint8 && cone.find("Mod") != nullptr)) {
      form.form = "bits packed in bytes, unpacked and scaled";
    } else if (const Node* product = cone.find("MatMul"); product != nullptr) {
      form.form = "product of two thin matrices";
    } else if (cone.find("Cast") != nullptr && largest.dtype() != DataType::kFloat) {
      form.form = type;
      form.form += cone.find("Mul") != nullptr ? ", cast and scaled" : ", cast to float32";
    } else {
      form.compressed = data_bits(largest) < 32;
      form.form = type + ", computed back by " + counted(cone.nodes.size(), "node");
    }
    form.form += ", restored when the model is loaded";
    return ok_status();
  }

  std::int64_t min_elements_;
  std::map<const Node*, bool> folded_;
  std::set<const Value*> seen_;
  std::vector<WeightForm> forms_;
};

}  // namespace

Result<std::vector<WeightForm>> weight_forms(const Model& model, std::int64_t min_elements) {
  FormReader reader(min_elements);
  MCOMPRESS_TRY(reader.look(model.graph()));
  for (const Function& function : model.functions()) MCOMPRESS_TRY(reader.look(*function.body));
  return reader.take();
}

}  // namespace mcompress::tools
