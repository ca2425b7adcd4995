#include "passes/common/channels/channel_cut.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "ir/facts.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

class Cutter {
 public:
  Cutter(const ChannelTrace& trace, std::vector<bool> cut, Editor& editor, TensorFactory& tensors,
         KeptByName& kept)
      : trace_(trace), cut_(std::move(cut)), editor_(editor), tensors_(tensors), kept_(kept) {}

  Result<std::int64_t> run() {
    for (std::uint32_t unit = 0; unit < cut_.size(); ++unit) {
      if (trace_.is_frozen(unit)) cut_[unit] = false;
    }
    keep_one_of_each();
    Graph& graph = trace_.model().graph();
    const std::vector<Value*> constants(graph.initializers().begin(), graph.initializers().end());
    for (Value* value : constants) {
      if (!trace_.axes(*value).empty()) MCOMPRESS_TRY(slice(*value));
    }
    for (const ChannelEdit& edit : trace_.edits()) MCOMPRESS_TRY(rewrite(edit));
    for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      for (Value* value : node->outputs()) {
        if (value != nullptr) retype(*value);
      }
    }
    return std::count(cut_.begin(), cut_.end(), true);
  }

 private:
  bool goes(std::uint32_t cell) const { return cell != kFixedCell && cut_[trace_.unit_of(cell)]; }

  void keep_one_of_each() {
    std::set<const void*> seen;
    const auto check = [&](const Value& value) {
      for (const AxisCells& cells : trace_.axes(value)) {
        if (cells == nullptr || !seen.insert(cells.get()).second) continue;
        if (std::ranges::all_of(*cells, [&](std::uint32_t cell) { return goes(cell); })) {
          cut_[trace_.unit_of(cells->front())] = false;
        }
      }
    };
    Graph& graph = trace_.model().graph();
    for (const Value* value : graph.initializers()) check(*value);
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      for (const Value* value : node->outputs()) {
        if (value != nullptr) check(*value);
      }
    }
  }

  std::int64_t count(const std::vector<std::uint32_t>& cells, std::size_t first,
                     std::size_t last) const {
    std::int64_t kept = 0;
    for (std::size_t i = first; i < last; ++i) kept += goes(cells[i]) ? 0 : 1;
    return kept;
  }
  std::int64_t count(const AxisCells& cells) const { return count(*cells, 0, cells->size()); }

  Status slice(Value& value) {
    const auto& axes = trace_.axes(value);
    const Tensor tensor = *value.initializer();
    Ints dims(tensor.dims().begin(), tensor.dims().end());
    std::vector<std::byte> bytes;
    KeptIndices indices(dims.size());
    bool changed = false;
    const std::size_t width =
        static_cast<std::size_t>(tensor.byte_size()) / static_cast<std::size_t>(tensor.elements());
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      Ints& stay = indices[axis];
      for (std::int64_t i = 0; i < dims[axis]; ++i) {
        if (axes[axis] == nullptr || !goes((*axes[axis])[static_cast<std::size_t>(i)])) {
          stay.push_back(i);
        }
      }
      if (static_cast<std::int64_t>(stay.size()) == dims[axis]) continue;
      if (!changed) {
        MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(0, tensor.byte_size()));
        bytes.assign(pinned.bytes().begin(), pinned.bytes().end());
        changed = true;
      }
      std::size_t outer = 1, inner = width;
      for (std::size_t i = 0; i < axis; ++i) outer *= static_cast<std::size_t>(dims[i]);
      for (std::size_t i = axis + 1; i < dims.size(); ++i)
        inner *= static_cast<std::size_t>(dims[i]);
      const auto old = static_cast<std::size_t>(dims[axis]);
      std::size_t to = 0;  // never passes what is read
      for (std::size_t o = 0; o < outer; ++o) {
        for (const std::int64_t i : stay) {
          std::memmove(bytes.data() + to,
                       bytes.data() + (o * old + static_cast<std::size_t>(i)) * inner, inner);
          to += inner;
        }
      }
      bytes.resize(to);
      dims[axis] = static_cast<std::int64_t>(stay.size());
    }
    if (!changed) return ok_status();
    MCOMPRESS_ASSIGN(
        Tensor made,
        tensors_.make(tensor.dtype(), dims, [&](std::uint64_t offset, std::span<std::byte> out) {
          std::memcpy(out.data(), bytes.data() + offset, out.size());
          return ok_status();
        }));
    editor_.set_constant(value, std::move(made));
    KeptIndices& known = kept_[std::string(value.name())];
    if (known.empty()) {
      known = std::move(indices);
    } else {
      for (std::size_t axis = 0; axis < known.size(); ++axis) {
        Ints next;
        for (const std::int64_t i : indices[axis]) {
          next.push_back(known[axis][static_cast<std::size_t>(i)]);
        }
        known[axis] = std::move(next);
      }
    }
    return ok_status();
  }

  void retype(Value& value) {
    const auto& axes = trace_.axes(value);
    if (axes.empty() || value.type() == nullptr || !value.type()->shape ||
        value.type()->shape->size() != axes.size()) {
      return;
    }
    TypeInfo type = *value.type();
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if (axes[i] != nullptr) (*type.shape)[i] = Dim{count(axes[i]), {}};
    }
    editor_.set_type(value, std::move(type), true);
  }

  // A list that is an input in new forms of an operator and an attribute in old ones.
  void set_list(Node& node, std::string_view attribute_name, std::size_t slot, Ints numbers) {
    if (node.attribute(attribute_name) != nullptr && node.input(slot) == nullptr) {
      editor_.set_attribute(node, attribute(attribute_name, std::move(numbers)));
      return;
    }
    const auto size = static_cast<std::int64_t>(numbers.size());
    DataType dtype = DataType::kInt64;
    std::vector<std::int64_t> dims{size};
    std::string name = std::string(node.output(0)->name()) + "_" + std::string(attribute_name);
    if (const Value* old = node.input(slot)) {
      name = old->name();
      if (const auto data = constant_of(old)) {
        dtype = data->dtype();
        dims.assign(data->dims().begin(), data->dims().end());
        if (dims.size() == 1) dims[0] = size;
      }
    }
    Tensor tensor = make_int64_tensor(numbers, dims);
    if (dtype == DataType::kInt32) {
      std::vector<std::byte> bytes(numbers.size() * 4);
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        const auto number = static_cast<std::int32_t>(numbers[i]);
        std::memcpy(bytes.data() + 4 * i, &number, 4);
      }
      tensor = make_bytes_tensor(dtype, dims, std::move(bytes));
    }
    editor_.set_input(node, slot, &editor_.add_initializer(node.graph(), name, std::move(tensor)));
  }

  Status rewrite(const ChannelEdit& edit) {
    Node& node = *edit.node;
    const AxisCells& cells = edit.axes.front();
    if (std::ranges::all_of(edit.axes, [&](const AxisCells& axis) {
          return count(axis) == static_cast<std::int64_t>(axis->size());
        })) {
      return ok_status();
    }
    switch (edit.what) {
      case ChannelEdit::What::kGroup:
        editor_.set_attribute(node, attribute("group", count(cells)));
        break;
      case ChannelEdit::What::kNormGroups:
        editor_.set_attribute(node, attribute("num_groups", count(cells)));
        break;
      case ChannelEdit::What::kHiddenSize:
        editor_.set_attribute(node, attribute("hidden_size", count(cells)));
        break;
      case ChannelEdit::What::kSplit: {
        Ints sizes;
        std::size_t begin = 0;
        for (const std::int64_t size : edit.numbers) {
          const std::size_t end = begin + static_cast<std::size_t>(size);
          sizes.push_back(count(*cells, begin, end));
          begin = end;
        }
        if (node.attribute("num_outputs") != nullptr) editor_.remove_attribute(node, "num_outputs");
        if (trace_.model().opset("") < 13) {
          editor_.set_attribute(node, attribute("split", std::move(sizes)));
        } else {
          set_list(node, "split", 1, std::move(sizes));
        }
        break;
      }
      case ChannelEdit::What::kSlice: {
        IntsParameter starts = ints_parameter(node, "starts", 1);
        IntsParameter ends = ints_parameter(node, "ends", 2);
        if (!starts.values || !ends.values) break;
        const auto begin = static_cast<std::size_t>(edit.numbers[0]);
        const auto end = static_cast<std::size_t>(edit.numbers[1]);
        const std::int64_t from = count(*cells, 0, begin);
        (*starts.values)[edit.slot] = from;
        (*ends.values)[edit.slot] = from + count(*cells, begin, end);
        set_list(node, "starts", 1, *starts.values);
        set_list(node, "ends", 2, *ends.values);
        break;
      }
      case ChannelEdit::What::kIndices: {
        Ints indices;
        for (const std::int64_t index : edit.numbers) {
          const auto at = static_cast<std::size_t>(index);
          if (!goes((*cells)[at])) indices.push_back(count(*cells, 0, at));
        }
        set_list(node, "indices", 1, std::move(indices));
        break;
      }
      case ChannelEdit::What::kShapeInput: {
        Ints numbers = edit.numbers;
        for (std::size_t i = 0; i < edit.axes.size(); ++i) {
          numbers[edit.of_entry[i]] = count(edit.axes[i]);
        }
        set_list(node, "shape", edit.slot, std::move(numbers));
        break;
      }
    }
    return ok_status();
  }

  const ChannelTrace& trace_;
  std::vector<bool> cut_;
  Editor& editor_;
  TensorFactory& tensors_;
  KeptByName& kept_;
};

}  // namespace

std::int64_t kept_count(const ChannelTrace& trace, const AxisCells& cells,
                        const std::vector<bool>& cut) {
  std::int64_t kept = 0;
  for (const std::uint32_t cell : *cells) {
    kept += cell != kFixedCell && cut[trace.unit_of(cell)] ? 0 : 1;
  }
  return kept;
}

Result<std::int64_t> cut_channels(const ChannelTrace& trace, std::vector<bool> cut, Editor& editor,
                                  TensorFactory& tensors, KeptByName& kept) {
  return Cutter(trace, std::move(cut), editor, tensors, kept).run();
}

}  // namespace mcompress
