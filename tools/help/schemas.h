// JSON Schemas (draft 2020-12) of what this program writes as JSON and reads as recipes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress::tools {

// "bench", "recipe" ...: those in tools/schemas, and those made from declarations; sorted.
std::vector<std::string> schema_names();
// Fails with kUsage, with the nearest name.
Result<Datum> find_schema(std::string_view name);

// Of recipes, from the options of all passes.
Datum recipe_schema();

}  // namespace mcompress::tools
