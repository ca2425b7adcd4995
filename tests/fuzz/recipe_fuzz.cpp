// Recipes: any text, as JSON and as YAML, is refused with an error that says where, or gives a
// recipe whose printed form reads back to the same recipe.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mcompress/pipeline.h"
#include "support/json.h"
#include "support/yaml.h"

namespace {

using namespace mcompress;

void require(bool condition) {
  if (!condition) std::abort();
}

void read(const Result<Datum>& datum) {
  if (!datum.ok()) {
    require(datum.error().code == Code::kInput);
    require(!datum.error().diagnostic.message.empty());
    return;
  }
  Diagnostics diagnostics;
  const auto recipe = parse_recipe(*datum, builtin_passes(), diagnostics);
  if (!recipe.ok()) {
    require(recipe.error().code == Code::kUsage);
    require(!recipe.error().diagnostic.message.empty());
    return;
  }
  require(!recipe->steps.empty());
  const std::string printed = print_json(print_recipe(*recipe, builtin_passes()));
  const auto back = parse_json(printed, "printed.json");
  require(back.ok());
  const auto again = parse_recipe(*back, builtin_passes(), diagnostics);
  require(again.ok());
  require(print_json(print_recipe(*again, builtin_passes())) == printed);
  require(recipe_digest(*again, builtin_passes()) == recipe_digest(*recipe, builtin_passes()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read(parse_json(text, "fuzz.json"));
  read(parse_yaml(text, "fuzz.yaml"));
  return 0;
}
