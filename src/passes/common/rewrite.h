// Small steps that several passes take.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mcompress/pass.h"

namespace mcompress {

// Records that the pass did `what` at a node. Call it before the node is erased.
void chose(PassContext& context, const Node& node, std::string what);

// Before IR version 4 every initializer was listed as an input. Drops those inputs (no caller could
// override them) and raises the version; returns how many there were. New initializers need this.
std::int64_t modernise_initializers(Model& model, PassContext& context);

// A new initializer, in a model of any IR version.
Value& add_constant(PassContext& context, Graph& graph, std::string_view base_name, Tensor tensor);

// New data for an operand: in place when this is its only use, else as a new initializer.
void give_constant(PassContext& context, Node& node, std::size_t slot, std::string_view base_name,
                   Tensor tensor);

// Elements of a constant operand that go when its reader does: none of what others read too.
std::int64_t elements_freed(const Value& operand);

// Lets all readers of `from` read `to`, which keeps what is known of the type. The reason why that
// can not be; empty: done.
std::string forward(PassContext& context, Value& from, Value& to);

// The reason why forward(first output of `node`, to) would fail; empty: it will not.
std::string why_not_bypass(PassContext& context, const Node& node, const Value& to);

// forward(first output, to), and erases the node; or makes it an Identity of `to` if names ask it.
Result<std::string> bypass(PassContext& context, Node& node, Value& to);

// Whether nothing reads the node's results and it has no effect besides them.
bool may_be_erased(const Node& node);

// The domain of an operator that nobody knows and that may have effects: the node itself, or one in
// its bodies or in the functions it calls. Empty: none.
std::optional<std::string> unknown_domain_in(const Node& node);

// Erases what makes the value, and in turn what only that read, as far as nothing reads it.
Status erase_unused(PassContext& context, Value& value);

// A number as an element of the given floating or integer type, rank 0 or as `dims` tell. Fails
// with kUnsupported for other types.
Result<Tensor> number_tensor(double number, DataType type, std::vector<std::int64_t> dims = {});

}  // namespace mcompress
