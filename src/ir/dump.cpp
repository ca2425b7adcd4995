#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "ir/builder.h"
#include "mcompress/ir.h"
#include "support/hash.h"

namespace mcompress {
namespace {

template <class Number>
std::string number_text(Number number) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), number).ptr;
  return {buffer, end};
}

std::string quote_text(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      result += "\\x";
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    } else {
      result += c;
    }
  }
  return result + "\"";
}

// Names as they are where that can not be misread.
std::string name_text(std::string_view name) {
  const bool plain = !name.empty() && std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '\\' || c == ',' || c == '(' ||
           c == ')' || c == '{' || c == '}' || c == '=' || c == '#';
  });
  return plain ? std::string(name) : quote_text(name);
}

template <class List, class Print>
std::string joined(const List& list, Print&& print) {
  std::string text;
  for (const auto& entry : list) {
    if (!text.empty()) text += ", ";
    text += print(entry);
  }
  return text;
}

class Dumper {
 public:
  explicit Dumper(const DumpOptions& options) : options_(options) {}

  std::string run(const Model& model) {
    line("ir_version " + std::to_string(model.ir_version()));
    for (const auto& [domain, version] : model.opsets()) {
      line("opset " + quote_text(domain) + " " + std::to_string(version));
    }
    for (const auto& [key, value] : model.metadata()) {
      line("metadata " + quote_text(key) + " = " + quote_text(value));
    }
    graph("graph " + name_text(model.graph().name()), model.graph());
    for (const Function& function : model.functions()) {
      std::string head = "function " + function.domain + "." + function.name;
      if (!function.overload.empty()) head += ":" + function.overload;
      graph(head, *function.body);
    }
    return std::move(text_);
  }

 private:
  void line(const std::string& text) {
    text_.append(2 * depth_, ' ');
    text_ += text;
    text_ += '\n';
  }

  static std::string type_text(const TypeInfo& type) {
    std::string text = dtype_name(type.element);
    if (!type.shape) return text;
    return text + "[" +
           joined(*type.shape,
                  [](const Dim& dim) {
                    if (dim.size) return std::to_string(*dim.size);
                    return dim.symbol.empty() ? std::string("?") : dim.symbol;
                  }) +
           "]";
  }

  std::string typed(const Value* value) const {
    if (value == nullptr) return "_";
    std::string text = name_text(value->name());
    if (options_.types && value->type() != nullptr) text += ": " + type_text(*value->type());
    return text;
  }

  std::string tensor_text(const Tensor& tensor) const {
    std::string text = dtype_name(tensor.dtype()) + "[";
    text += joined(tensor.dims(), [](std::int64_t size) { return std::to_string(size); }) + "] ";
    if (tensor.is_opaque()) {
      return text + "<opaque, " + std::to_string(tensor.byte_size()) + " bytes>";
    }
    if (tensor.elements() <= options_.max_elements) {
      const DTypeInfo* info = find_dtype(tensor.dtype());
      if (info != nullptr && !info->floating) {
        if (const auto numbers = read_ints(tensor); numbers.ok()) {
          return text + "{" + joined(*numbers, number_text<std::int64_t>) + "}";
        }
      }
      if (const auto numbers = read_floats(tensor); numbers.ok()) {
        return text + "{" + joined(*numbers, number_text<float>) + "}";
      }
    }
    return text + "<digest " + hex_digest(tensor.storage()->digest()) + ">";
  }

  void graph(const std::string& head, const Graph& graph) {
    line(head + "(" + joined(graph.inputs(), [&](const Value* value) { return typed(value); }) +
         ") -> (" + joined(graph.outputs(), [&](const Value* value) { return typed(value); }) +
         ") {");
    ++depth_;
    for (const Value* value : graph.initializers()) {
      line(name_text(value->name()) + " = " + tensor_text(*value->initializer()));
    }
    for (const Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
      node(*entry);
    }
    --depth_;
    line("}");
  }

  void node(const Node& node) {
    std::string text =
        joined(node.outputs(), [&](const Value* value) { return typed(value); }) + " = ";
    if (!node.domain().empty()) text += std::string(node.domain()) + ".";
    text += node.op_type();
    if (!node.overload().empty()) text += ":" + std::string(node.overload());
    text += "(" +
            joined(node.inputs(),
                   [](const Value* value) {
                     return value == nullptr ? std::string("_") : name_text(value->name());
                   }) +
            ")";
    // The order of attributes means nothing.
    std::vector<const Attribute*> sorted;
    for (const Attribute& entry : node.attributes()) sorted.push_back(&entry);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto* a, const auto* b) { return a->name < b->name; });
    std::string simple;
    bool bodies = false;
    for (const Attribute* entry : sorted) {
      if (is_body(entry->value)) {
        bodies = true;
        continue;
      }
      if (!simple.empty()) simple += ", ";
      simple += entry->name + ": " +
                std::visit([&](const auto& held) { return text_of(held); }, entry->value);
    }
    if (!simple.empty()) text += " {" + simple + "}";
    if (!node.name().empty()) text += "  # " + name_text(node.name());
    line(text);
    if (!bodies) return;
    ++depth_;
    for (const Attribute* entry : sorted) {
      if (const auto* one = std::get_if<std::unique_ptr<Graph>>(&entry->value)) {
        graph(entry->name + " = " + name_text((*one)->name()), **one);
      } else if (const auto* many =
                     std::get_if<std::vector<std::unique_ptr<Graph>>>(&entry->value)) {
        for (const auto& body : *many) {
          graph(entry->name + " = " + name_text(body->name()), *body);
        }
      }
    }
    --depth_;
  }

  static bool is_body(const AttributeValue& value) {
    return std::holds_alternative<std::unique_ptr<Graph>>(value) ||
           std::holds_alternative<std::vector<std::unique_ptr<Graph>>>(value);
  }

  std::string text_of(std::int64_t value) const { return std::to_string(value); }
  std::string text_of(float value) const { return number_text(value) + "f"; }
  std::string text_of(const std::string& value) const { return quote_text(value); }
  std::string text_of(const Tensor& value) const { return tensor_text(value); }
  template <class T>
  std::string text_of(const std::vector<T>& values) const {
    return "[" + joined(values, [&](const T& value) { return text_of(value); }) + "]";
  }
  std::string text_of(const AttributeRef& value) const { return "@" + value.of_function; }
  std::string text_of(const OpaqueAttribute&) const { return "<opaque>"; }
  // Printed as blocks.
  std::string text_of(const std::unique_ptr<Graph>&) const { return {}; }

  DumpOptions options_;
  std::size_t depth_ = 0;
  std::string text_;
};

class Fingerprint {
 public:
  std::uint64_t run(const Model& model) {
    number(static_cast<std::uint64_t>(model.ir_version()));
    number(model.opsets().size());
    for (const auto& [domain, version] : model.opsets()) {
      hasher_.text(domain);
      number(static_cast<std::uint64_t>(version));
    }
    number(model.metadata().size());
    for (const auto& [key, value] : model.metadata()) {
      hasher_.text(key);
      hasher_.text(value);
    }
    graph(model.graph(), true);
    number(model.functions().size());
    for (const Function& function : model.functions()) {
      hasher_.text(function.domain);
      hasher_.text(function.name);
      hasher_.text(function.overload);
      for (const auto& [domain, version] : function.opsets) {
        hasher_.text(domain);
        number(static_cast<std::uint64_t>(version));
      }
      graph(*function.body, false);
    }
    return hasher_.digest();
  }

 private:
  void number(std::uint64_t value) { hasher_.integer(value); }

  void graph(const Graph& graph, bool top) {
    hasher_.text(graph.name());
    values(graph.inputs(), top);
    values(graph.outputs(), top);
    number(graph.initializers().size());
    for (const Value* value : graph.initializers()) {
      this->value(value, false);
      tensor(*value->initializer());
    }
    number(graph.node_count());
    for (const Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
      node(*entry);
    }
  }

  template <class Values>
  void values(const Values& list, bool with_types) {
    number(list.size());
    for (const Value* entry : list) value(entry, with_types);
  }

  // Inferred types are not content: only the interface's and those that will be written are.
  void value(const Value* value, bool with_type) {
    if (value == nullptr) return number(0);
    number(1);
    hasher_.text(value->name());
    const bool counts = with_type || IrInternals::type_edited(*value);
    if (!counts || value->type() == nullptr) return number(0);
    const TypeInfo& type = *value->type();
    number(1 + static_cast<std::uint64_t>(type.element));
    number(type.shape ? 1 + type.shape->size() : 0);
    if (!type.shape) return;
    for (const Dim& dim : *type.shape) {
      number(dim.size ? 1 + static_cast<std::uint64_t>(*dim.size) : 0);
      hasher_.text(dim.symbol);
    }
  }

  void node(const Node& node) {
    hasher_.text(node.name());
    hasher_.text(node.domain());
    hasher_.text(node.op_type());
    hasher_.text(node.overload());
    number(node.inputs().size());
    for (const Value* value : node.inputs()) {
      hasher_.text(value == nullptr ? std::string_view() : value->name());
    }
    values(node.outputs(), false);
    number(node.attributes().size());
    for (const Attribute& entry : node.attributes()) {
      hasher_.text(entry.name);
      number(entry.value.index());
      std::visit([&](const auto& held) { add(held); }, entry.value);
    }
  }

  void tensor(const Tensor& tensor) {
    number(static_cast<std::uint64_t>(tensor.dtype()));
    number(tensor.dims().size());
    for (const std::int64_t size : tensor.dims()) number(static_cast<std::uint64_t>(size));
    // What is opaque is never changed in place, so its size stands for it.
    number(tensor.is_opaque() ? tensor.byte_size() : tensor.storage()->digest());
  }

  void add(std::int64_t value) { number(static_cast<std::uint64_t>(value)); }
  void add(float value) { hasher_.bytes(std::as_bytes(std::span(&value, 1))); }
  void add(const std::string& value) { hasher_.text(value); }
  void add(const Tensor& value) { tensor(value); }
  void add(const AttributeRef& value) { hasher_.text(value.of_function); }
  void add(const OpaqueAttribute&) {}
  void add(const std::unique_ptr<Graph>& value) { graph(*value, false); }
  template <class T>
  void add(const std::vector<T>& list) {
    number(list.size());
    for (const T& value : list) add(value);
  }

  Hasher hasher_;
};

}  // namespace

std::string dump(const Model& model, const DumpOptions& options) {
  return Dumper(options).run(model);
}

std::uint64_t fingerprint(const Model& model) { return Fingerprint().run(model); }

}  // namespace mcompress
