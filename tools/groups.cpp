#include "groups.h"

#include <algorithm>
#include <map>

#include "compress.h"
#include "mcompress/pipeline.h"
#include "mcompress/runtime.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

std::string dot_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + "\"";
}

std::string state_of(const ChannelGroup& group) {
  if (group.free_units == group.units) return "prunable";
  if (group.free_units == 0) return "frozen: " + group.frozen;
  return std::to_string(group.free_units) + " prunable, others frozen: " + group.frozen;
}

std::string size_of(const ChannelGroup& group) {
  std::string text =
      std::to_string(group.units) + " " +
      (group.kind == ChannelKind::kFfn ? "hidden units" : std::string(name_of(group.kind)));
  if (group.unit_width > 1) text += " of " + std::to_string(group.unit_width);
  return text;
}

}  // namespace

Result<std::vector<ChannelGroup>> prepared_groups(const Model& model, Console& console) {
  MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("prune-channels"));
  const auto prune = std::ranges::find(recipe.steps, "prune-channels", &RecipeStep::pass);
  recipe.steps.erase(prune, recipe.steps.end());
  MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
  const auto copy = model.clone();
  Diagnostics diagnostics;
  Services services;
  services.runtime = runtime;
  services.diagnostics = &diagnostics;
  services.progress = &console;
  Explain explain;
  Report report;
  MCOMPRESS_TRY(run_pipeline(*copy, recipe, builtin_passes(), services, {}, explain, report));
  return channel_groups(*copy);
}

std::string groups_text(const std::vector<ChannelGroup>& groups) {
  std::int64_t prunable = 0;
  for (const ChannelGroup& group : groups) prunable += group.free_units > 0 ? 1 : 0;
  std::string text = std::to_string(groups.size()) + " coupling groups, " +
                     std::to_string(prunable) + " of them prunable\n";
  for (const ChannelGroup& group : groups) {
    text += "\n" + group.name + ": " + size_of(group) + ", " + state_of(group) + "\n";
    for (const ChannelMember& member : group.members) {
      text += "  " + std::string(name_of(member.role)) + "  " + member.op_type + "  " + member.node;
      if (!member.tensor.empty()) {
        text += "  '" + member.tensor + "' axis " + std::to_string(member.axis);
      }
      text += "\n";
    }
  }
  return text;
}

std::string draw_groups(const std::vector<ChannelGroup>& groups) {
  std::string text = "digraph groups {\n  rankdir=LR;\n  node [shape=box, fontsize=10];\n";
  std::map<std::string, std::size_t> nodes;
  std::string edges;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const ChannelGroup& group = groups[g];
    text += "  g" + std::to_string(g) + " [shape=ellipse, style=filled, fillcolor=" +
            (group.free_units > 0 ? "palegreen" : "lightgray") +
            ", label=" + dot_text(size_of(group)) + ", tooltip=" + dot_text(state_of(group)) +
            "];\n";
    for (const ChannelMember& member : group.members) {
      const auto [node, added] = nodes.try_emplace(member.node, nodes.size());
      const std::string name = "n" + std::to_string(node->second);
      if (added) {
        text += "  " + name + " [label=" + dot_text(member.op_type + "\n" + member.node) + "];\n";
      }
      const std::string from = "g" + std::to_string(g);
      edges += member.role == ChannelMember::Role::kReads ? "  " + from + " -> " + name + ";\n"
               : member.role == ChannelMember::Role::kMakes
                   ? "  " + name + " -> " + from + ";\n"
                   : "  " + name + " -> " + from + " [style=dotted, arrowhead=none];\n";
    }
  }
  return text + edges + "}\n";
}

Datum to_datum(const std::vector<ChannelGroup>& groups) {
  Datum list = Datum::list();
  for (const ChannelGroup& group : groups) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(group.name));
    entry.set("kind", Datum::string(name_of(group.kind)));
    entry.set("units", Datum::integer(group.units));
    entry.set("unit_width", Datum::integer(group.unit_width));
    entry.set("free_units", Datum::integer(group.free_units));
    if (!group.frozen.empty()) entry.set("frozen", Datum::string(group.frozen));
    Datum members = Datum::list();
    for (const ChannelMember& member : group.members) {
      Datum item = Datum::map();
      item.set("node", Datum::string(member.node));
      item.set("op_type", Datum::string(member.op_type));
      if (!member.tensor.empty()) item.set("tensor", Datum::string(member.tensor));
      item.set("axis", Datum::integer(member.axis));
      item.set("role", Datum::string(name_of(member.role)));
      members.push(std::move(item));
    }
    entry.set("members", std::move(members));
    list.push(std::move(entry));
  }
  return list;
}

}  // namespace mcompress::tools
