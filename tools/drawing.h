// Pictures of graphs: Graphviz text of ours, SVG by the `dot` program where that is installed.
#pragma once

#include <cstdint>
#include <string>

#include "console.h"

namespace mcompress::tools {

struct DrawingFiles {
  std::string dot, svg;  // empty: not wanted; dot "-": standard output
  bool any() const { return !dot.empty() || !svg.empty(); }
};

// Refuses early what could not be written.
Status check_drawings(const DrawingFiles& files);
// Refuses (kUnsupported) a picture that nobody would wait for.
Status check_picture_size(std::uint64_t nodes, const DrawingFiles& files);
// Writes what is wanted. Fails with kUnsupported when an SVG is and there is no `dot`.
Status write_drawings(const std::string& graph, const DrawingFiles& files, Console& console);

}  // namespace mcompress::tools
