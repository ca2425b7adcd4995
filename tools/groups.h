// Coupling groups of a model, for people and as JSON.
#pragma once

#include <string>
#include <vector>

#include "console.h"
#include "mcompress/channels.h"
#include "mcompress/options.h"

namespace mcompress::tools {

// Those that `prune-channels` finds after the passes of its recipe that come before it, on a copy.
Result<std::vector<ChannelGroup>> prepared_groups(const Model& model, Console& console);
std::string groups_text(const std::vector<ChannelGroup>& groups);
// Graphviz text: groups, and the nodes that make and read their channels.
std::string draw_groups(const std::vector<ChannelGroup>& groups);
Datum to_datum(const std::vector<ChannelGroup>& groups);

}  // namespace mcompress::tools
