// diff: what differs between two models, aligned by what their nodes compute.
#include <CLI/CLI.hpp>
#include <cmath>

#include "app.h"
#include "drawing.h"
#include "holdings.h"
#include "judge.h"
#include "mcompress/analysis.h"
#include "mcompress/host.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

struct Options {
  bool json = false;
  bool names = false;
  bool exit_code = false;
  std::int64_t top = 20;
  std::string dot, svg;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("json", &Options::json, "as JSON")
            .field("top", &Options::top, "how many entries of each list are shown")
            .range(0, 1e6)
            .field("names", &Options::names, "list what differs in name only, too")
            .field("exit-code", &Options::exit_code, "exit status 5 when anything differs")
            .field("dot", &Options::dot, "write both graphs for Graphviz; - is standard output")
            .unit("FILE")
            .field("svg", &Options::svg, "write both graphs as a picture (needs Graphviz's `dot`)")
            .unit("FILE");
    return kSchema;
  }
};

Datum number(std::uint64_t value) { return Datum::integer(static_cast<std::int64_t>(value)); }

std::string arrow(const std::string& before, const std::string& after) {
  return (before.empty() ? "-" : before) + " -> " + (after.empty() ? "-" : after);
}

// At most `top` lines, and how many were left out.
class Lines {
 public:
  Lines(std::string head, std::int64_t top) : text_(std::move(head)), top_(top) {}
  void add(const std::string& line) {
    if (++count_ <= top_) text_ += line + "\n";
  }
  std::string text() const {
    if (count_ == 0) return {};
    std::string text = "\n" + text_;
    if (count_ > top_) text += "  and " + std::to_string(count_ - top_) + " more (--top)\n";
    return text;
  }

 private:
  std::string text_;
  std::int64_t top_, count_ = 0;
};

std::string node_text(const Node& node) {
  const std::string graph = node.graph().owner() != nullptr
                                ? " in a body of " + node.graph().owner()->label()
                                : std::string();
  return op_name(node) + " '" + std::string(node.name().empty() ? node.label() : node.name()) +
         "'" + graph;
}

Datum to_datum(const std::vector<Difference>& differences) {
  Datum list = Datum::list();
  for (const Difference& difference : differences) {
    Datum map = Datum::map();
    map.set("what", Datum::string(difference.what));
    map.set("before", Datum::string(difference.before));
    map.set("after", Datum::string(difference.after));
    list.push(std::move(map));
  }
  return list;
}

Datum node_datum(const Node& node) {
  Datum map = Datum::map();
  map.set("name", Datum::string(node.label()));
  map.set("operator", Datum::string(op_name(node)));
  return map;
}

Datum nodes_datum(const std::vector<const Node*>& nodes) {
  Datum list = Datum::list();
  for (const Node* node : nodes) list.push(node_datum(*node));
  return list;
}

Datum names_datum(const std::vector<std::pair<std::string, std::string>>& names) {
  Datum list = Datum::list();
  for (const auto& [before, after] : names) {
    Datum map = Datum::map();
    map.set("before", Datum::string(before));
    map.set("after", Datum::string(after));
    list.push(std::move(map));
  }
  return list;
}

Datum texts_datum(const std::vector<std::string>& texts) {
  Datum list = Datum::list();
  for (const std::string& text : texts) list.push(Datum::string(text));
  return list;
}

class Diff final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("A", before_path_, "the model before")->required()->type_name("");
    app.add_option("B", after_path_, "the model after")->required()->type_name("");
    flags.add(Options::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    const DrawingFiles drawings{options_.dot, options_.svg};
    if (options_.json && options_.dot == "-") {
      return Error(Code::kUsage, "two-outputs", "--json and --dot - exclude each other");
    }
    MCOMPRESS_TRY(check_drawings(drawings));
    const std::string inputs[] = {before_path_, after_path_};
    MCOMPRESS_TRY(check_overwrites(options_.dot, "dot", inputs));
    MCOMPRESS_TRY(check_overwrites(options_.svg, "svg", inputs));
    MCOMPRESS_ASSIGN(const LoadedModel before, load(before_path_, console));
    MCOMPRESS_ASSIGN(const LoadedModel after, load(after_path_, console));
    MCOMPRESS_ASSIGN(const ModelDiff diff, diff_models(*before.model, *after.model));
    if (drawings.any()) {
      MCOMPRESS_TRY(check_picture_size(diff.pairs.size() + diff.removed.size() + diff.added.size(),
                                       drawings));
      MCOMPRESS_TRY(
          write_drawings(draw_diff(*before.model, *after.model, diff, {}), drawings, console));
    }
    if (options_.dot != "-") {
      MCOMPRESS_TRY(console.print(options_.json ? result_json(as_datum(before, after, diff))
                                                : as_text(before, after, diff)));
    }
    if (options_.exit_code && !diff.identical()) {
      return Error(Code::kGateMissed, "models-differ",
                   "the models differ" + std::string(diff.same_content() ? ", in names only" : ""));
    }
    return ok_status();
  }

 private:
  static std::uint64_t changed_count(const ModelDiff& diff) {
    std::uint64_t count = 0;
    for (const NodePair& pair : diff.pairs) count += pair.differences.empty() ? 0 : 1;
    return count;
  }

  std::string as_text(const LoadedModel& before, const LoadedModel& after,
                      const ModelDiff& diff) const {
    std::string text = file_name(before_path_) + " (" + bytes_text(before.size.total()) + ") and " +
                       file_name(after_path_) + " (" + bytes_text(after.size.total()) + ")";
    const std::uint64_t names = diff.renamed_nodes.size() + diff.renamed_values.size();
    if (diff.identical())
      return text + " are identical: " + counted(diff.pairs.size(), "node") + "\n";
    if (diff.same_content()) {
      text += " differ in " + counted(names, "name") + " only\n";
      return text + (options_.names ? names_text(diff) : "");
    }
    const std::uint64_t changed = changed_count(diff);
    text += "\nnodes: " + grouped(diff.pairs.size() - changed) + " the same, " + grouped(changed) +
            " changed, " + grouped(diff.removed.size()) + " removed, " +
            grouped(diff.added.size()) + " added; constants: " + grouped(diff.tensors.size()) +
            " changed, " + grouped(diff.removed_tensors.size()) + " removed, " +
            grouped(diff.added_tensors.size()) + " added; names: " + grouped(names) + " differ\n";
    const std::int64_t top = options_.top;
    for (const auto& [head, list] :
         {std::pair("model\n", &diff.model), std::pair("inputs and outputs\n", &diff.interface)}) {
      Lines lines(head, top);
      for (const Difference& difference : *list) {
        lines.add("  " + difference.what + ": " + arrow(difference.before, difference.after));
      }
      text += lines.text();
    }
    Lines changes("changed nodes\n", top);
    for (const NodePair& pair : diff.pairs) {
      if (pair.differences.empty()) continue;
      std::string entry = "  " + node_text(*pair.after);
      if (pair.before->name() != pair.after->name() && !pair.before->name().empty()) {
        entry += ", was '" + std::string(pair.before->name()) + "'";
      }
      for (const Difference& difference : pair.differences) {
        entry += "\n    " + difference.what + ": " + arrow(difference.before, difference.after);
      }
      changes.add(entry);
    }
    text += changes.text();
    Lines removed("removed nodes\n", top), added("added nodes\n", top);
    for (const Node* node : diff.removed) removed.add("  " + node_text(*node));
    for (const Node* node : diff.added) added.add("  " + node_text(*node));
    text += removed.text() + added.text() + tensors_text(diff);
    return text + (options_.names ? names_text(diff) : "");
  }

  std::string tensors_text(const ModelDiff& diff) const {
    std::string text;
    if (!diff.tensors.empty()) {
      Table table;
      table.row({"changed constants", "bytes before", "after", "SQNR", "what"});
      std::int64_t shown = 0;
      for (const TensorPair& pair : diff.tensors) {
        if (shown++ >= options_.top) break;
        std::string what;
        for (const Difference& difference : pair.differences) {
          what += what.empty() ? "" : "; ";
          what += difference.what == "values"
                      ? "values"
                      : difference.what + " " + arrow(difference.before, difference.after);
        }
        if (!pair.through.empty()) what += (what.empty() ? "" : ", ") + ("through " + pair.through);
        table.row({pair.after, grouped(pair.bytes_before), grouped(pair.bytes_after),
                   pair.sqnr_db ? decibel_text(*pair.sqnr_db) : "-", what});
      }
      text += "\n" + table.text();
      if (static_cast<std::int64_t>(diff.tensors.size()) > options_.top) {
        text += "  and " +
                std::to_string(diff.tensors.size() - static_cast<std::size_t>(options_.top)) +
                " more (--top)\n";
      }
    }
    Lines removed("removed constants\n", options_.top), added("added constants\n", options_.top);
    for (const std::string& name : diff.removed_tensors) removed.add("  " + name);
    for (const std::string& name : diff.added_tensors) added.add("  " + name);
    return text + removed.text() + added.text();
  }

  std::string names_text(const ModelDiff& diff) const {
    Lines lines("other names\n", options_.top);
    for (const auto& [before, after] : diff.renamed_nodes) {
      lines.add("  node " + arrow(before, after));
    }
    for (const auto& [before, after] : diff.renamed_values) {
      lines.add("  value " + arrow(before, after));
    }
    return lines.text();
  }

  Datum as_datum(const LoadedModel& before, const LoadedModel& after, const ModelDiff& diff) const {
    Datum map = Datum::map();
    const auto file = [](const LoadedModel& loaded) {
      Datum entry = Datum::map();
      entry.set("file", Datum::string(file_name(loaded.path)));
      entry.set("bytes", number(loaded.size.total()));
      return entry;
    };
    map.set("before", file(before));
    map.set("after", file(after));
    map.set("identical", Datum::boolean(diff.identical()));
    map.set("same_content", Datum::boolean(diff.same_content()));
    const std::uint64_t changed = changed_count(diff);
    map.set("nodes_same", number(diff.pairs.size() - changed));
    Datum changes = Datum::list();
    for (const NodePair& pair : diff.pairs) {
      if (pair.differences.empty()) continue;
      Datum entry = Datum::map();
      entry.set("before", node_datum(*pair.before));
      entry.set("after", node_datum(*pair.after));
      entry.set("differences", to_datum(pair.differences));
      changes.push(std::move(entry));
    }
    map.set("nodes_changed", std::move(changes));
    map.set("nodes_removed", nodes_datum(diff.removed));
    map.set("nodes_added", nodes_datum(diff.added));
    Datum tensors = Datum::list();
    for (const TensorPair& pair : diff.tensors) {
      Datum entry = Datum::map();
      entry.set("before", Datum::string(pair.before));
      entry.set("after", Datum::string(pair.after));
      entry.set("bytes_before", number(pair.bytes_before));
      entry.set("bytes_after", number(pair.bytes_after));
      entry.set("differences", to_datum(pair.differences));
      if (!pair.through.empty()) entry.set("through", Datum::string(pair.through));
      if (pair.sqnr_db) {
        const double db = *pair.sqnr_db;
        entry.set("sqnr_db", std::isfinite(db) ? Datum::real(db)
                                               : Datum::string(db > 0 ? "equal" : "no signal"));
      }
      tensors.push(std::move(entry));
    }
    map.set("constants_changed", std::move(tensors));
    map.set("constants_removed", texts_datum(diff.removed_tensors));
    map.set("constants_added", texts_datum(diff.added_tensors));
    map.set("nodes_renamed", names_datum(diff.renamed_nodes));
    map.set("values_renamed", names_datum(diff.renamed_values));
    map.set("interface", to_datum(diff.interface));
    map.set("model", to_datum(diff.model));
    return map;
  }

  Flags* flags_ = nullptr;
  Options options_;
  std::string before_path_, after_path_;
};

}  // namespace

std::unique_ptr<Command> make_diff() { return std::make_unique<Diff>(); }

}  // namespace mcompress::tools
