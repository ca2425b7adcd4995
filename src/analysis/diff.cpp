// What differs between two aligned models.
#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "analysis/align.h"
#include "analysis/tensor_error.h"
#include "ir/facts.h"
#include "mcompress/analysis.h"
#include "support/hash.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Differences = std::vector<Difference>;

constexpr std::size_t kLongest = 80;  // bytes of a value in a report

std::string cut(std::string text) {
  if (text.size() <= kLongest) return text;
  std::size_t end = kLongest - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  text.resize(end);
  return text + "...";
}

std::string shape_text(std::span<const std::int64_t> dims) {
  std::string text = "[";
  for (const std::int64_t size : dims) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

std::string type_text(const TypeInfo* type) {
  if (type == nullptr) return "no tensor type";
  std::string text = dtype_name(type->element);
  if (!type->shape) return text;
  text += "[";
  for (std::size_t i = 0; i < type->shape->size(); ++i) {
    const Dim& dim = (*type->shape)[i];
    text += i == 0 ? "" : ", ";
    text += dim.size ? std::to_string(*dim.size) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

std::string float_text(float value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", static_cast<double>(value));
  return buffer;
}

std::string tensor_text(const Tensor& tensor) {
  const std::string type = dtype_name(tensor.dtype()) + shape_text(tensor.dims());
  constexpr std::int64_t kMost = 8;
  std::string text;
  const auto add = [&text](std::string number) { text += (text.empty() ? "" : ", ") + number; };
  if (!tensor.is_opaque() && tensor.elements() <= kMost) {
    const DTypeInfo* info = find_dtype(tensor.dtype());
    if (info != nullptr && !info->floating) {
      if (const auto numbers = read_ints(tensor); numbers.ok()) {
        for (const std::int64_t number : *numbers) add(std::to_string(number));
        return type + " {" + text + "}";
      }
    }
    if (const auto numbers = read_floats(tensor); numbers.ok()) {
      for (const float number : *numbers) add(float_text(number));
      return type + " {" + text + "}";
    }
  }
  return type + " " + hex_digest(content_digest(tensor));
}

struct AttributeText {
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(float value) const { return float_text(value); }
  std::string operator()(const std::string& value) const { return "'" + value + "'"; }
  std::string operator()(const Tensor& value) const { return tensor_text(value); }
  std::string operator()(const AttributeRef& value) const { return "@" + value.of_function; }
  std::string operator()(const OpaqueAttribute&) const { return "of an unknown kind"; }
  std::string operator()(const std::unique_ptr<Graph>&) const { return "a graph"; }
  template <class T>
  std::string operator()(const std::vector<T>& list) const {
    std::string text = "[";
    for (const T& value : list) {
      if (text.size() > 1) text += ", ";
      text += (*this)(value);
    }
    return text + "]";
  }
};

std::string operator_text(const Node& node) {
  std::string text(node.domain());
  if (!text.empty()) text += ":";
  text += node.op_type();
  if (!node.overload().empty()) text += "/" + std::string(node.overload());
  return text;
}

std::string reader_text(const Value* value) {
  if (value == nullptr) return "left out";
  const std::string name = "'" + std::string(value->name()) + "'";
  if (const auto data = data_of(value)) {
    return name + ", " + dtype_name(data->dtype()) + shape_text(data->dims());
  }
  if (value->producer() == nullptr) return name + ", an input";
  return name + " of " + operator_text(*value->producer());
}

// Texts that are the same where they end get a digest behind.
void note(Differences& list, std::string what, const std::string& before,
          const std::string& after) {
  if (before == after) return;
  std::string left = cut(before), right = cut(after);
  if (left == right) {
    left += " #" + hex_digest(digest_bytes(before));
    right += " #" + hex_digest(digest_bytes(after));
  }
  list.push_back({std::move(what), std::move(left), std::move(right)});
}

class Comparer {
 public:
  Comparer(const Model& before, const Model& after)
      : before_(before), after_(after), alignment_(align(before, after)) {}

  Result<ModelDiff> run() {
    interface("input", pair_ports(free_inputs(before_.graph()), free_inputs(after_.graph())));
    interface("output", pair_ports(all_outputs(before_.graph()), all_outputs(after_.graph())));
    order_of_ports();
    for (const Node* node : alignment_.after) {
      const auto found = alignment_.to_before.find(node);
      if (found == alignment_.to_before.end()) {
        diff_.added.push_back(node);
        continue;
      }
      diff_.pairs.push_back({found->second, node, {}});
      pair_values(*found->second, *node);
    }
    for (const Node* node : alignment_.before) {
      if (!alignment_.to_after.contains(node)) diff_.removed.push_back(node);
    }
    for (NodePair& pair : diff_.pairs) MCOMPRESS_TRY(compare(pair));
    MCOMPRESS_TRY(loose_tensors());
    whole_model();
    for (const auto& [a, b] : value_order_) {
      if (a->name() != b->name()) diff_.renamed_values.emplace_back(a->name(), b->name());
    }
    return std::move(diff_);
  }

 private:
  void interface(const std::string& kind, const ValuePairs& pairs) {
    for (const auto& [a, b] : pairs) {
      if (a == nullptr) {
        diff_.interface.push_back({kind + " added", "", describe(*b)});
      } else if (b == nullptr) {
        diff_.interface.push_back({kind + " removed", describe(*a), ""});
      } else {
        partner_.emplace(a, b);
        note(diff_.interface, kind + " renamed", std::string(a->name()), std::string(b->name()));
        note(diff_.interface, kind + " '" + std::string(b->name()) + "'", type_text(a->type()),
             type_text(b->type()));
      }
    }
  }

  static std::string describe(const Value& value) {
    return std::string(value.name()) + " " + type_text(value.type());
  }

  static std::string names(const std::vector<const Value*>& values) {
    std::string text;
    for (const Value* value : values) {
      text += (text.empty() ? "" : ", ") + std::string(value->name());
    }
    return text;
  }

  void order_of_ports() {
    const auto check = [&](const std::string& what, const auto& left, const auto& right) {
      const auto sorted = [](auto list) {
        std::sort(list.begin(), list.end(),
                  [](const Value* a, const Value* b) { return a->name() < b->name(); });
        return names(list);
      };
      if (sorted(left) == sorted(right)) note(diff_.interface, what, names(left), names(right));
    };
    check("order of inputs", free_inputs(before_.graph()), free_inputs(after_.graph()));
    check("order of outputs", all_outputs(before_.graph()), all_outputs(after_.graph()));
  }

  void pair_values(const Node& a, const Node& b) {
    const std::size_t outputs = std::min(a.outputs().size(), b.outputs().size());
    for (std::size_t i = 0; i < outputs; ++i) {
      const Value* left = a.output(i);
      const Value* right = b.output(i);
      if (left == nullptr || right == nullptr) continue;
      partner_.insert_or_assign(left, right);
      const bool port = is_top_output(*left, before_) && is_top_output(*right, after_);
      if (!port) value_order_.emplace_back(left, right);
    }
    const std::vector<Graph*> left = a.bodies(), right = b.bodies();
    for (std::size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      const auto from = left[i]->inputs(), to = right[i]->inputs();
      for (std::size_t k = 0; k < std::min(from.size(), to.size()); ++k) {
        partner_.insert_or_assign(from[k], to[k]);
        value_order_.emplace_back(from[k], to[k]);
      }
    }
  }

  static bool is_top_output(const Value& value, const Model& model) {
    return std::ranges::any_of(value.uses(), [&](const Use& use) {
      return use.node == nullptr && use.graph == &model.graph();
    });
  }

  Status compare(NodePair& pair) {
    const Node& a = *pair.before;
    const Node& b = *pair.after;
    Differences& list = pair.differences;
    note(list, "operator", operator_text(a), operator_text(b));
    attributes(a, b, list);
    const std::size_t inputs = std::max(a.inputs().size(), b.inputs().size());
    for (std::size_t i = 0; i < inputs; ++i) {
      MCOMPRESS_TRY(input(i, a.input(i), b.input(i), list));
    }
    for (std::size_t i = 0; i < std::max(a.outputs().size(), b.outputs().size()); ++i) {
      const Value* left = a.output(i);
      const Value* right = b.output(i);
      const std::string what = "output " + std::to_string(i);
      if ((left == nullptr) != (right == nullptr)) {
        note(list, what, left == nullptr ? "left out" : "'" + std::string(left->name()) + "'",
             right == nullptr ? "left out" : "'" + std::string(right->name()) + "'");
      } else if (left != nullptr) {
        const DataType from = element_type(*left), to = element_type(*right);
        if (from != DataType::kUndefined && to != DataType::kUndefined) {
          note(list, "type of " + what, dtype_name(from), dtype_name(to));
        }
      }
    }
    if (a.name() != b.name()) diff_.renamed_nodes.emplace_back(a.name(), b.name());
    return ok_status();
  }

  static void attributes(const Node& a, const Node& b, Differences& list) {
    std::set<std::string> names;
    for (const Node* node : {&a, &b}) {
      for (const Attribute& attribute : node->attributes()) names.insert(attribute.name);
    }
    const auto text = [](const AttributeValue* value) {
      return value == nullptr ? std::string("not given") : std::visit(AttributeText{}, *value);
    };
    for (const std::string& name : names) {
      note(list, "attribute '" + name + "'", text(a.attribute(name)), text(b.attribute(name)));
    }
  }

  Status input(std::size_t slot, const Value* a, const Value* b, Differences& list) {
    if (a == nullptr && b == nullptr) return ok_status();
    const auto left = seen_tensor(a), right = seen_tensor(b);
    const bool data_left = data_of(a).has_value(), data_right = data_of(b).has_value();
    if (left && right && (data_left || data_right)) {
      const std::string from = seen_text(*left), to = seen_text(*right);
      note(list, "constant " + std::to_string(slot) + " '" + std::string(b->name()) + "'", from,
           to);
      return compare(a, *left, b, *right);
    }
    if (!data_left && !data_right && a != nullptr && b != nullptr) {
      const auto partner = partner_.find(a);
      if (partner != partner_.end() && partner->second == b) return ok_status();
      // A node that came or went in between says so itself.
      const Node* from = a->producer();
      const Node* to = b->producer();
      if (from != nullptr && !alignment_.to_after.contains(from)) return ok_status();
      if (to != nullptr && !alignment_.to_before.contains(to)) return ok_status();
    }
    note(list, "input " + std::to_string(slot), reader_text(a), reader_text(b));
    return ok_status();
  }

  static std::string seen_text(const SeenTensor& seen) {
    return tensor_text(seen.tensor) + (seen.through != nullptr ? ", dequantized" : "");
  }

  // The value that holds the data of what a reader sees.
  static const Value* holder(const Value* value, const SeenTensor& seen) {
    return seen.through != nullptr ? seen.through->input(0) : value;
  }

  Status compare(const Value* a, const SeenTensor& left, const Value* b, const SeenTensor& right) {
    a = holder(a, left);
    b = holder(b, right);
    if (!paired_before_.insert(a).second) {
      paired_after_.insert(b);
      return ok_status();
    }
    paired_after_.insert(b);
    if (a->name() != b->name()) diff_.renamed_values.emplace_back(a->name(), b->name());
    TensorPair pair;
    pair.before = a->name();
    pair.after = b->name();
    pair.bytes_before = left.tensor.byte_size();
    pair.bytes_after = right.tensor.byte_size();
    note(pair.differences, "type", dtype_name(left.tensor.dtype()),
         dtype_name(right.tensor.dtype()));
    note(pair.differences, "shape", shape_text(left.tensor.dims()),
         shape_text(right.tensor.dims()));
    const bool same = content_digest(left.tensor) == content_digest(right.tensor);
    if (!same && pair.differences.empty()) {
      std::string from = tensor_text(left.tensor), to = tensor_text(right.tensor);
      if (from == to) {  // NaNs, or bits that a type leaves unused
        from = hex_digest(content_digest(left.tensor));
        to = hex_digest(content_digest(right.tensor));
      }
      note(pair.differences, "values", from, to);
    }
    if (left.through != nullptr || right.through != nullptr) pair.through = "DequantizeLinear";
    if (pair.differences.empty() && pair.through.empty()) return ok_status();
    MCOMPRESS_ASSIGN(pair.sqnr_db, tensor_sqnr(left, right));
    diff_.tensors.push_back(std::move(pair));
    return ok_status();
  }

  // Every initializer and every Constant node's result.
  static void collect(const Graph& graph, std::vector<const Value*>& list) {
    for (const Value* value : graph.initializers()) list.push_back(value);
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (is_data_node(*node) && node->output(0) != nullptr) list.push_back(node->output(0));
      for (const Graph* body : node->bodies()) collect(*body, list);
    }
  }

  // Those that no pair of nodes reads: by content, then by name.
  Status loose_tensors() {
    std::vector<const Value*> left, right;
    collect(before_.graph(), left);
    collect(after_.graph(), right);
    std::erase_if(left, [&](const Value* value) { return paired_before_.contains(value); });
    std::erase_if(right, [&](const Value* value) { return paired_after_.contains(value); });
    const auto key = [](const Value* value) { return content_digest(*data_of(value)); };
    std::unordered_map<std::uint64_t, std::vector<const Value*>> by_content;
    std::unordered_map<std::string_view, const Value*> by_name;
    for (auto it = right.rbegin(); it != right.rend(); ++it) by_content[key(*it)].push_back(*it);
    std::vector<const Value*> rest;
    for (const Value* value : left) {
      const auto same = by_content.find(key(value));
      if (same == by_content.end() || same->second.empty()) {
        rest.push_back(value);
        continue;
      }
      const Value* partner = same->second.back();
      same->second.pop_back();
      MCOMPRESS_TRY(compare(value, *seen_tensor(value), partner, *seen_tensor(partner)));
    }
    for (const Value* value : right) {
      if (!paired_after_.contains(value)) by_name.emplace(value->name(), value);
    }
    for (const Value* value : rest) {
      const auto same = by_name.find(value->name());
      if (same == by_name.end() || paired_after_.contains(same->second)) {
        diff_.removed_tensors.emplace_back(value->name());
        continue;
      }
      MCOMPRESS_TRY(compare(value, *seen_tensor(value), same->second, *seen_tensor(same->second)));
    }
    for (const Value* value : right) {
      if (!paired_after_.contains(value)) diff_.added_tensors.emplace_back(value->name());
    }
    return ok_status();
  }

  static std::uint64_t data_nodes(const Graph& graph) {
    std::uint64_t count = 0;
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      count += is_data_node(*node) ? 1 : 0;
      for (const Graph* body : node->bodies()) count += data_nodes(*body);
    }
    return count;
  }

  template <class Map>
  void maps(const std::string& what, const Map& left, const Map& right) {
    std::set<std::string> keys;
    for (const auto& entry : left) keys.insert(entry.first);
    for (const auto& entry : right) keys.insert(entry.first);
    const auto text = [](const Map& map, const std::string& key) -> std::string {
      const auto found = map.find(key);
      return found == map.end() ? "none" : found->second;
    };
    for (const std::string& key : keys) {
      note(diff_.model, what + (key.empty() ? std::string("ai.onnx") : key), text(left, key),
           text(right, key));
    }
  }

  void whole_model() {
    using Texts = std::map<std::string, std::string>;
    note(diff_.model, "IR version", std::to_string(before_.ir_version()),
         std::to_string(after_.ir_version()));
    const auto opsets = [](const Model& model) {
      Texts texts;
      for (const auto& [domain, version] : model.opsets()) {
        texts.emplace(domain, std::to_string(version));
      }
      return texts;
    };
    maps("operator set ", opsets(before_), opsets(after_));
    note(diff_.model, "producer", std::string(before_.producer()), std::string(after_.producer()));
    note(diff_.model, "graph name", std::string(before_.graph().name()),
         std::string(after_.graph().name()));
    const auto metadata = [](const Model& model) {
      return Texts(model.metadata().begin(), model.metadata().end());
    };
    maps("metadata ", metadata(before_), metadata(after_));
    const auto functions = [](const Model& model) {
      Texts texts;
      for (const Function& function : model.functions()) {
        texts.emplace(function.domain + ":" + function.name + function.overload,
                      hex_digest(body_digest(*function.body)));
      }
      return texts;
    };
    maps("function ", functions(before_), functions(after_));
    note(diff_.model, "constants held by nodes", std::to_string(data_nodes(before_.graph())),
         std::to_string(data_nodes(after_.graph())));
  }

  const Model& before_;
  const Model& after_;
  Alignment alignment_;
  ModelDiff diff_;
  std::unordered_map<const Value*, const Value*> partner_;
  ValuePairs value_order_;
  std::unordered_set<const Value*> paired_before_, paired_after_;
};

}  // namespace

bool ModelDiff::same_content() const {
  return removed.empty() && added.empty() && tensors.empty() && removed_tensors.empty() &&
         added_tensors.empty() && interface.empty() && model.empty() &&
         std::ranges::all_of(pairs, [](const NodePair& pair) { return pair.differences.empty(); });
}

bool ModelDiff::identical() const {
  return same_content() && renamed_nodes.empty() && renamed_values.empty();
}

Result<ModelDiff> diff_models(const Model& before, const Model& after) {
  return Comparer(before, after).run();
}

}  // namespace mcompress
