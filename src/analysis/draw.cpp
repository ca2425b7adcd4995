// Graphviz text. Names come from models: whatever is in them, the text stays one that parses.
#include <algorithm>
#include <unordered_map>

#include "analysis/align.h"
#include "mcompress/analysis.h"
#include "support/text.h"

namespace mcompress {
namespace {

constexpr std::string_view kPlain = "#f2f4f7";
constexpr std::string_view kRemoved = "#f6c6c6";
constexpr std::string_view kAdded = "#c5edc9";
constexpr std::string_view kChanged = "#fbe1a2";
constexpr std::size_t kLarge = 1000;  // nodes: from here on the layout must not take its time

// Bytes that begin a whole UTF-8 sequence at `at`; 0 for what is none.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xC2 && first < 0xE0 ? 2
                             : first >= 0xE0 && first < 0xF0 ? 3
                             : first >= 0xF0 && first < 0xF5 ? 4
                                                             : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) return 0;
  }
  return length;
}

// Within a quoted string: at most `most` bytes of the text, nothing that ends the string.
std::string escaped(std::string_view text, std::size_t most) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (at >= most) return result + "...";
    const std::size_t length = sequence_length(text, at);
    const char c = text[at];
    if (length == 0 || static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      result += '?';
      ++at;
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += text.substr(at, length);
    at += length;
  }
  return result;
}

std::string count_text(std::uint64_t count) {
  static constexpr std::string_view kUnits[] = {"", " k", " M", " G", " T", " P", " E"};
  double number = static_cast<double>(count);
  std::size_t unit = 0;
  for (; number >= 1000 && unit < 6; ++unit) number /= 1000;
  return fixed(number, unit == 0 ? 0 : 1) + std::string(kUnits[unit]);
}

std::string shape_text(const Value& value) {
  if (value.type() == nullptr || !value.type()->shape) return {};
  std::string text;
  for (const Dim& dim : *value.type()->shape) {
    if (!text.empty()) text += " x ";
    text += dim.size ? std::to_string(*dim.size) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text;
}

class Drawing {
 public:
  explicit Drawing(const DrawOptions& options) : options_(options) {}

  void begin(std::size_t nodes) {
    text_ =
        "digraph model {\n"
        "  rankdir=TB;\n"
        "  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=10, "
        "fillcolor=\"" +
        std::string(kPlain) +
        "\", color=\"#8a94a3\"];\n"
        "  edge [fontname=\"Helvetica\", fontsize=8, color=\"#6b7480\", arrowsize=0.6];\n";
    if (nodes > kLarge) text_ += "  graph [nslimit=1, nslimit1=1, maxiter=50, splines=line];\n";
  }

  std::string end() { return std::move(text_) + "}\n"; }

  void open_cluster(const std::string& id, std::string_view label) {
    text_ += indent() + "subgraph cluster_" + id + " {\n";
    ++depth_;
    text_ += indent() + "label=\"" + name(label) +
             "\"; color=\"#b6bdc8\"; fontname=\"Helvetica\"; fontsize=9;\n";
  }
  void close_cluster() {
    --depth_;
    text_ += indent() + "}\n";
  }

  // `lines` are escaped already.
  void node(const std::string& id, const std::vector<std::string>& lines, std::string_view fill,
            std::string_view tip = {}) {
    text_ += indent() + id + " [label=\"" + join(lines, "\\n") + "\"";
    if (!fill.empty()) text_ += ", fillcolor=\"" + std::string(fill) + "\"";
    constexpr std::size_t kLongestTip = 400;
    if (!tip.empty()) text_ += ", tooltip=\"" + escaped(tip, kLongestTip) + "\"";
    text_ += "];\n";
  }
  void port(const std::string& id, const Value& value) {
    text_ += indent() + id + " [shape=ellipse, label=\"" + name(value.name()) + "\\n" +
             escaped(shape_text(value), options_.max_label) + "\", fillcolor=\"#dfe8f6\"];\n";
  }
  void edge(const std::string& from, const std::string& to, const Value& value,
            std::string_view style = {}) {
    text_ += "  " + from + " -> " + to + " [label=\"" +
             escaped(shape_text(value), options_.max_label) + "\"";
    if (!style.empty()) text_ += ", " + std::string(style);
    text_ += "];\n";
  }

  std::string name(std::string_view text) const { return escaped(text, options_.max_label); }

 private:
  std::string indent() const { return std::string(2 * depth_, ' '); }

  const DrawOptions& options_;
  std::string text_;
  std::size_t depth_ = 1;
};

std::string operator_text(const Node& node) {
  return node.domain().empty() ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
}

// The largest constant that it reads.
std::string weight_text(const Node& node) {
  std::optional<Tensor> largest;
  for (const Value* input : node.inputs()) {
    auto data = data_of(input);
    if (data && (!largest || data->byte_size() > largest->byte_size())) largest = std::move(data);
  }
  if (!largest) return {};
  std::string text = dtype_name(largest->dtype()) + " [";
  for (const std::int64_t size : largest->dims()) {
    if (text.back() != '[') text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

std::size_t count_nodes(const Graph& graph) {
  std::size_t count = graph.node_count();
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Graph* body : node->bodies()) count += count_nodes(*body);
  }
  return count;
}

std::string number(const Value& value) { return std::to_string(value.id()); }
std::string number(const Node& node) { return std::to_string(node.id()); }

// Draws one model; what is special about a node comes from outside.
class Painter {
 public:
  Painter(Drawing& drawing, std::string prefix) : drawing_(drawing), prefix_(std::move(prefix)) {}
  virtual ~Painter() = default;

  void nodes(const Graph& graph) {
    const bool top = graph.owner() == nullptr;
    if (draws_ports()) {
      for (const Value* value : graph.inputs()) {
        if (!value->is_initializer()) drawing_.port(prefix_ + "v" + number(*value), *value);
      }
    }
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (is_data_node(*node)) continue;
      const std::string id = prefix_ + number(*node);
      paint(id, *node);
      for (const Graph* body : node->bodies()) {
        if (!draws_ports()) {
          nodes(*body);
          continue;
        }
        drawing_.open_cluster(id + "_" + std::to_string(clusters_++),
                              node->label() + " / " + std::string(body->name()));
        nodes(*body);
        drawing_.close_cluster();
      }
    }
    if (!draws_ports() || !top) return;
    std::size_t slot = 0;
    for (const Value* value : graph.outputs()) {
      drawing_.port(prefix_ + "o" + std::to_string(slot++), *value);
    }
  }

  void edges(const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (is_data_node(*node)) continue;
      for (const Value* value : node->inputs()) {
        if (value != nullptr && !data_of(value)) join(source(*value), id_of(*node), *value);
      }
      for (const Graph* body : node->bodies()) {
        edges(*body);
        // What a body hands out arrives at its node.
        for (const Value* value : body->outputs()) {
          if (!data_of(value)) join(source(*value), id_of(*node), *value, true);
        }
      }
    }
    if (graph.owner() != nullptr || !draws_ports()) return;
    std::size_t slot = 0;
    for (const Value* value : graph.outputs()) {
      const std::string to = prefix_ + "o" + std::to_string(slot++);
      if (!data_of(value)) join(source(*value), to, *value);
    }
  }

 protected:
  virtual bool draws_ports() const { return true; }
  virtual void paint(const std::string& id, const Node& node) = 0;
  virtual std::string id_of(const Node& node) const { return prefix_ + number(node); }
  // Empty: not drawn.
  virtual std::string source(const Value& value) const {
    return value.producer() != nullptr ? id_of(*value.producer()) : prefix_ + "v" + number(value);
  }
  virtual std::string edge_style(const std::string&, const std::string&) { return {}; }
  virtual bool wants_edge(const std::string&, const std::string&) { return true; }

  Drawing& drawing_;
  std::string prefix_;

 private:
  void join(const std::string& from, const std::string& to, const Value& value,
            bool dashed = false) {
    if (from.empty() || !wants_edge(from, to)) return;
    drawing_.edge(from, to, value, dashed ? "style=dashed" : edge_style(from, to));
  }

  std::size_t clusters_ = 0;
};

class ModelPainter final : public Painter {
 public:
  ModelPainter(Drawing& drawing, const ModelCost* cost) : Painter(drawing, "n") {
    if (cost == nullptr) return;
    for (const NodeCost& entry : cost->nodes) costs_.emplace(entry.node, &entry);
  }

 protected:
  void paint(const std::string& id, const Node& node) override {
    std::vector<std::string> lines = {drawing_.name(operator_text(node))};
    if (!node.name().empty()) lines.push_back(drawing_.name(node.name()));
    if (const std::string weight = weight_text(node); !weight.empty()) lines.push_back(weight);
    const auto found = costs_.find(&node);
    if (found != costs_.end() && found->second->macs > 0) {
      lines.push_back(count_text(found->second->macs) + " MACs");
    }
    drawing_.node(id, lines, {}, node.label());
  }

 private:
  std::unordered_map<const Node*, const NodeCost*> costs_;
};

struct DiffFacts {
  std::unordered_map<const Node*, const NodePair*> by_before, by_after;
};

// The second model, changed and added nodes coloured.
class AfterPainter final : public Painter {
 public:
  AfterPainter(Drawing& drawing, const DiffFacts& facts) : Painter(drawing, "b"), facts_(facts) {}

 protected:
  void paint(const std::string& id, const Node& node) override {
    std::vector<std::string> lines = {drawing_.name(operator_text(node))};
    if (!node.name().empty()) lines.push_back(drawing_.name(node.name()));
    const auto found = facts_.by_after.find(&node);
    std::string tip;
    if (found != facts_.by_after.end()) {
      constexpr std::size_t kMost = 3;
      const auto& list = found->second->differences;
      for (std::size_t i = 0; i < list.size(); ++i) {
        const std::string line = list[i].what + ": " + list[i].before + " > " + list[i].after;
        if (i < kMost) lines.push_back(drawing_.name(line));
        tip += line + "; ";
      }
    }
    const bool added = found == facts_.by_after.end();
    const bool changed = !added && !found->second->differences.empty();
    drawing_.node(id, lines, added ? kAdded : changed ? kChanged : std::string_view(), tip);
  }

 private:
  const DiffFacts& facts_;
};

// Of the first model only what is gone, tied to the partners of its neighbours.
class BeforePainter final : public Painter {
 public:
  BeforePainter(Drawing& drawing, const DiffFacts& facts, const Graph& before, const Graph& after)
      : Painter(drawing, "a"), facts_(facts) {
    for (const auto& [left, right] : pair_ports(free_inputs(before), free_inputs(after))) {
      if (left != nullptr && right != nullptr) inputs_.emplace(left, right);
    }
  }

 protected:
  bool draws_ports() const override { return false; }
  void paint(const std::string& id, const Node& node) override {
    if (facts_.by_before.contains(&node)) return;
    std::vector<std::string> lines = {drawing_.name(operator_text(node))};
    if (!node.name().empty()) lines.push_back(drawing_.name(node.name()));
    drawing_.node(id, lines, kRemoved, node.label());
  }
  std::string id_of(const Node& node) const override {
    const auto found = facts_.by_before.find(&node);
    return found == facts_.by_before.end() ? prefix_ + number(node)
                                           : "b" + number(*found->second->after);
  }
  std::string source(const Value& value) const override {
    if (value.producer() != nullptr) return id_of(*value.producer());
    const auto found = inputs_.find(&value);
    return found == inputs_.end() ? std::string() : "bv" + number(*found->second);
  }
  // Between two nodes that are both still there the second model speaks.
  bool wants_edge(const std::string& from, const std::string& to) override {
    return from.starts_with("a") || to.starts_with("a");
  }
  std::string edge_style(const std::string&, const std::string&) override {
    return "color=\"#c25b5b\", style=dashed";
  }

 private:
  const DiffFacts& facts_;
  std::unordered_map<const Value*, const Value*> inputs_;
};

}  // namespace

std::string draw_model(const Model& model, const ModelCost* cost, const DrawOptions& options) {
  Drawing drawing(options);
  drawing.begin(count_nodes(model.graph()));
  ModelPainter painter(drawing, cost);
  painter.nodes(model.graph());
  painter.edges(model.graph());
  return drawing.end();
}

std::string draw_diff(const Model& before, const Model& after, const ModelDiff& diff,
                      const DrawOptions& options) {
  DiffFacts facts;
  for (const NodePair& pair : diff.pairs) {
    facts.by_before.emplace(pair.before, &pair);
    facts.by_after.emplace(pair.after, &pair);
  }
  Drawing drawing(options);
  drawing.begin(count_nodes(after.graph()) + diff.removed.size());
  AfterPainter now(drawing, facts);
  BeforePainter gone(drawing, facts, before.graph(), after.graph());
  now.nodes(after.graph());
  gone.nodes(before.graph());
  now.edges(after.graph());
  gone.edges(before.graph());
  return drawing.end();
}

}  // namespace mcompress
