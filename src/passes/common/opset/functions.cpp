#include "passes/common/opset/functions.h"

#include <algorithm>
#include <limits>
#include <set>

#include "ir/walk.h"
#include "passes/common/opset/opset_migration.h"
#include "support/try.h"

namespace mcompress {
namespace {

// What all calls together may come to: functions that call others twice double at every level.
constexpr std::uint64_t kMostNodes = 4'000'000;

std::uint64_t add_up(std::uint64_t left, std::uint64_t right) {
  return left > std::numeric_limits<std::uint64_t>::max() - right
             ? std::numeric_limits<std::uint64_t>::max()
             : left + right;
}

std::uint64_t times(std::uint64_t left, std::uint64_t right) {
  if (left == 0 || right == 0) return 0;
  return left > std::numeric_limits<std::uint64_t>::max() / right
             ? std::numeric_limits<std::uint64_t>::max()
             : left * right;
}

// Bytes of a node in a file, about. Large tensors do not count: equal ones are stored once.
std::uint64_t bytes_of(const Node& node) {
  constexpr std::uint64_t kField = 4, kSmall = 1024;
  std::uint64_t bytes = kField + node.name().size() + node.op_type().size() + node.domain().size();
  for (const auto values : {node.inputs(), node.outputs()}) {
    for (const Value* value : values) {
      bytes += kField + (value != nullptr ? value->name().size() : 0);
    }
  }
  for (const Attribute& entry : node.attributes()) {
    bytes += 2 * kField + entry.name.size();
    if (const auto* tensor = std::get_if<Tensor>(&entry.value)) {
      if (tensor->byte_size() <= kSmall) bytes += tensor->byte_size();
    } else if (const auto* list = std::get_if<std::vector<std::int64_t>>(&entry.value)) {
      bytes += 2 * list->size();
    } else if (const auto* reals = std::get_if<std::vector<float>>(&entry.value)) {
      bytes += sizeof(float) * reals->size();
    }
  }
  return bytes;
}

}  // namespace

FunctionCalls::FunctionCalls(Model& model, PassContext& context)
    : model_(model), context_(context) {
  const auto functions = model.functions();
  for (std::size_t i = 0; i < functions.size(); ++i) {
    const Function& function = functions[i];
    if (function.domain.empty() || function.domain == "ai.onnx") continue;
    places_.emplace(Key(function.domain, function.name, function.overload), i);
  }
  callees_.resize(count());
  nodes_.resize(count());
  bytes_.resize(count());
  written_.resize(count());
  refused_.resize(count());
  for (std::size_t i = 0; i < count(); ++i) {
    for_each_node(*functions[i].body, [&](const Node& node) {
      ++nodes_[i];
      bytes_[i] = add_up(bytes_[i], bytes_of(node));
      if (const std::size_t called = called_by(node); called < count()) {
        callees_[i].push_back(called);
      }
    });
  }
  for_each_node(model.graph(), [&](const Node& node) {
    if (const std::size_t called = called_by(node); called < count()) {
      top_callees_.push_back(called);
    }
  });
  count_calls();
}

std::size_t FunctionCalls::called_by(const Node& node) const {
  if (node.domain().empty()) return count();
  const auto found = places_.find(Key(node.domain(), node.op_type(), node.overload()));
  return found == places_.end() ? count() : found->second;
}

void FunctionCalls::count_calls() {
  // Callers first: loading has refused recursion.
  std::vector<std::size_t> waiting(count());
  for (const auto& callees : callees_) {
    for (const std::size_t called : callees) ++waiting[called];
  }
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < count(); ++i) {
    if (waiting[i] == 0) ready.push_back(i);
  }
  calls_.assign(count(), 0);
  for (const std::size_t called : top_callees_) ++calls_[called];
  while (!ready.empty()) {
    const std::size_t at = ready.back();
    ready.pop_back();
    for (const std::size_t called : callees_[at]) {
      calls_[called] = add_up(calls_[called], calls_[at]);
      if (--waiting[called] == 0) ready.push_back(called);
    }
  }
}

std::int64_t FunctionCalls::growth(std::size_t function) const {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  const std::uint64_t calls = calls_[function];
  if (calls <= 1) return -static_cast<std::int64_t>(std::min(bytes_[function], kMost));
  return static_cast<std::int64_t>(std::min(times(calls - 1, bytes_[function]), kMost));
}

std::int64_t FunctionCalls::host_opset(std::size_t host, std::string_view domain) const {
  if (host == count()) return model_.opset(domain);
  const auto& opsets = model_.functions()[host].opsets;
  const auto found = opsets.find(domain);
  return found == opsets.end() ? 0 : found->second;
}

// What is wrong with the operator sets; empty: the nodes mean the same where they are written out,
// or can be made to.
std::string FunctionCalls::why_not(const Function& function, std::size_t host) {
  std::string why;
  const auto own = function.opsets.find("");
  const std::int64_t from = own == function.opsets.end() ? 0 : own->second;
  const std::int64_t to = host_opset(host, "");
  OpsetMigration migration(context_, from, to);
  for_each_node(*function.body, [&](Node& node) {
    if (!why.empty() || called_by(node) < count()) return;
    const std::string domain(node.domain());
    const auto imported = function.opsets.find(domain);
    const std::int64_t version = imported == function.opsets.end() ? 0 : imported->second;
    const std::int64_t there = host_opset(host, domain);
    if (version == there || there == 0) return;
    const auto since = [&](std::int64_t opset) {
      return onnx_catalog().since_version(domain, node.op_type(), opset);
    };
    if (since(version) != 0 && since(version) == since(there)) return;
    std::string reason = "it is written for version " + std::to_string(version) + " of " +
                         (domain.empty() ? "ONNX's operators" : "'" + domain + "'") +
                         ", the model for version " + std::to_string(there);
    if (!domain.empty()) {
      why = std::move(reason);
      return;
    }
    if (host != count() || from < kOldestModernOpset || to < kOldestModernOpset) {
      why = reason + ", where " + std::string(node.op_type()) + " is another";
      return;
    }
    const std::string blocked = migration.plan(node);
    if (!blocked.empty()) why = reason + "; " + std::string(node.op_type()) + ": " + blocked;
  });
  return why;
}

Status FunctionCalls::write_out_one(Node& call, std::size_t host, std::vector<Node*>& added,
                                    std::int64_t& done) {
  const std::size_t called = called_by(call);
  const Function& function = model_.functions()[called];
  std::string& refused = refused_[called];
  if (refused.empty()) refused = why_not(function, host);
  if (!refused.empty()) return ok_status();
  auto nodes = context_.edit().inline_call(call, function);
  if (!nodes.ok()) {
    refused = nodes.error().diagnostic.message;
    return ok_status();
  }
  ++done;
  ++written_[called];
  added = std::move(*nodes);
  std::set<std::string> domains;
  const auto own = function.opsets.find("");
  const std::int64_t to = host_opset(host, "");
  const bool moves = own != function.opsets.end() && to != 0 && own->second != to;
  OpsetMigration migration(context_, moves ? own->second : to, to);
  for (Node* node : added) {
    const auto visit = [&](Node& one) {
      if (called_by(one) >= count()) domains.emplace(one.domain());
      if (!moves) return;
      if (const std::string why = migration.plan(one); !why.empty()) refused = why;
    };
    for (Graph* body : node->bodies()) for_each_node(*body, visit);
    visit(*node);
  }
  if (!refused.empty()) {
    return Error(Code::kUnsupported, "inlined-node-not-migrated", refused, {{}, {}, function.name});
  }
  if (moves) MCOMPRESS_TRY(migration.apply());
  for (const std::string& domain : domains) {
    const auto imported = function.opsets.find(domain);
    const std::int64_t version = imported == function.opsets.end() ? 1 : imported->second;
    if (host_opset(host, domain) != 0) continue;
    if (host == count()) {
      context_.edit().set_opset(domain, version);
    } else {
      context_.edit().set_function_opset(host, domain, version);
    }
  }
  return ok_status();
}

Status FunctionCalls::write_out(Graph& graph, std::size_t host, const std::vector<bool>& chosen,
                                std::int64_t& done) {
  std::vector<Node*> calls;
  const auto collect = [&](Node& node) {
    if (const std::size_t called = called_by(node); called < count() && chosen[called]) {
      calls.push_back(&node);
    }
  };
  for_each_node(graph, collect);
  std::ranges::reverse(calls);
  while (!calls.empty()) {
    Node& call = *calls.back();
    calls.pop_back();
    if (context_.edit().erased(call)) continue;
    std::vector<Node*> added;
    MCOMPRESS_TRY(write_out_one(call, host, added, done));
    const std::size_t first = calls.size();
    for (Node* node : added) {
      if (context_.edit().erased(*node)) continue;
      for (Graph* body : node->bodies()) for_each_node(*body, collect);
      collect(*node);
    }
    std::reverse(calls.begin() + static_cast<std::ptrdiff_t>(first), calls.end());
  }
  return ok_status();
}

Result<std::int64_t> FunctionCalls::write_out(const std::vector<bool>& chosen) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < count(); ++i) {
    if (chosen[i]) total = add_up(total, times(calls_[i], nodes_[i]));
  }
  if (total > kMostNodes) {
    return Error(
        Code::kUnsupported, "too-many-inlined-nodes",
        "the calls of functions stand for more than " + std::to_string(kMostNodes) + " nodes");
  }
  std::int64_t done = 0;
  MCOMPRESS_TRY(write_out(model_.graph(), count(), chosen, done));
  for (std::size_t i = 0; i < count(); ++i) {
    if (chosen[i] && refused_[i].empty()) continue;  // goes in the end
    MCOMPRESS_TRY(write_out(*model_.functions()[i].body, i, chosen, done));
  }
  for (std::size_t i = 0; i < count(); ++i) {
    Decision decision;
    decision.subject = model_.functions()[i].name;
    if (written_[i] > 0) {
      decision.what =
          "written out at " + std::to_string(written_[i]) + (written_[i] == 1 ? " call" : " calls");
      context_.explain().chose(decision);
    }
    if (!refused_[i].empty()) {
      decision.what.clear();
      decision.why = refused_[i];
      context_.explain().skipped(std::move(decision));
    }
  }
  erase_uncalled();
  return done;
}

void FunctionCalls::erase_uncalled() {
  std::vector<bool> reached(count());
  std::vector<std::size_t> work;
  const auto visit = [&](const Node& node) {
    const std::size_t called = called_by(node);
    if (called == count() || reached[called]) return;
    reached[called] = true;
    work.push_back(called);
  };
  for_each_node(model_.graph(), visit);
  while (!work.empty()) {
    const std::size_t at = work.back();
    work.pop_back();
    for_each_node(*model_.functions()[at].body, visit);
  }
  std::vector<std::size_t> gone;
  for (std::size_t i = 0; i < count(); ++i) {
    const std::string& domain = model_.functions()[i].domain;
    // Functions that stand for operators of ONNX may be in use though nobody calls them as such.
    if (!reached[i] && !domain.empty() && domain != "ai.onnx") gone.push_back(i);
  }
  context_.report().count("functions-removed", static_cast<std::int64_t>(gone.size()));
  places_.clear();
  context_.edit().erase_functions(gone);
}

}  // namespace mcompress
