// The JSON Schema of recipes, from the declarations of passes and options.
#include "help/schemas.h"
#include "mcompress/host.h"
#include "mcompress/pass.h"
#include "mcompress/recipe.h"
#include "mcompress/target.h"
#include "recipe_files.h"

namespace mcompress::tools {
namespace {

Datum texts(const std::vector<std::string>& words) {
  Datum list = Datum::list();
  for (const std::string& word : words) list.push(Datum::string(word));
  return list;
}

Datum typed(std::string_view type, std::string_view description = {}) {
  Datum map = Datum::map();
  if (!type.empty()) map.set("type", Datum::string(type));
  if (!description.empty()) map.set("description", Datum::string(description));
  return map;
}

// Whole numbers without a fraction, so that editors show them as people write them.
Datum bound(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? Datum::integer(whole) : Datum::real(value);
}

// The keys of sizes also take plain numbers.
bool is_size(const OptionSpec& spec) {
  return spec.name == "bytes-above" || spec.name == "bytes-below" || spec.name == "max-bytes";
}

Datum option_schema(const OptionSpec& spec) {
  std::string help = spec.help;
  if (!spec.unit.empty()) help += " (" + spec.unit + ")";
  Datum map = typed({}, help);
  using Kind = OptionSpec::Kind;
  switch (spec.kind) {
    case Kind::kBool:
      map.set("type", Datum::string("boolean"));
      break;
    case Kind::kInt:
      map.set("type", Datum::string("integer"));
      break;
    case Kind::kReal:
      map.set("type", Datum::string("number"));
      break;
    case Kind::kString:
      map.set("type", is_size(spec) ? texts({"string", "integer"}) : Datum::string("string"));
      if (!spec.choices.empty()) map.set("enum", texts(spec.choices));
      break;
    case Kind::kStringList: {
      Datum item = typed("string");
      if (!spec.choices.empty()) item.set("enum", texts(spec.choices));
      map.set("type", Datum::string("array"));
      map.set("items", std::move(item));
      break;
    }
  }
  if (spec.minimum) map.set("minimum", bound(*spec.minimum));
  if (spec.maximum) map.set("maximum", bound(*spec.maximum));
  if (spec.level == OptionSpec::Level::kDeprecated) map.set("deprecated", Datum::boolean(true));
  return map;
}

void add_options(Datum& properties, std::span<const OptionSpec> specs) {
  for (const OptionSpec& spec : specs) properties.set(spec.name, option_schema(spec));
}

Datum closed_map(Datum properties, std::string_view description) {
  Datum map = typed("object", description);
  map.set("properties", std::move(properties));
  map.set("additionalProperties", Datum::boolean(false));
  return map;
}

Datum part(std::span<const OptionSpec> specs, std::string_view description) {
  Datum properties = Datum::map();
  add_options(properties, specs);
  return closed_map(std::move(properties), description);
}

Datum reference(std::string_view name) {
  Datum map = Datum::map();
  map.set("$ref", Datum::string("#/$defs/" + std::string(name)));
  return map;
}

Datum constant(std::string_view value, std::string_view description) {
  Datum map = typed({}, description);
  map.set("const", Datum::string(value));
  return map;
}

// One shape of `passes` per pass: with its name, editors know its options.
Datum pass_entry(const PassInfo& pass) {
  Datum properties = Datum::map();
  properties.set("pass", constant(pass.name, pass.summary));
  properties.set("when", reference("when"));
  add_options(properties, pass.options);
  Datum map = closed_map(std::move(properties), pass.summary);
  map.set("required", texts({"pass"}));
  return map;
}

Datum recipe_entry(const BuiltinRecipe& recipe) {
  Datum properties = Datum::map();
  properties.set(
      "recipe",
      constant(recipe.name, recipe.preset ? recipe.summary : "what the command of that name runs"));
  properties.set("when", reference("when"));
  if (const auto made = builtin_recipe(recipe.name); made.ok()) {
    add_options(properties, pass_options({&made.value(), 1}));
  }
  Datum map = closed_map(std::move(properties), "all passes of a built-in recipe");
  map.set("required", texts({"recipe"}));
  return map;
}

// What recipes of one model and of several have in common.
void add_heading(Datum& properties) {
  Datum version = typed("integer", "of this form");
  version.set("minimum", Datum::integer(1));
  version.set("maximum", Datum::integer(kRecipeVersion));
  properties.set("version", std::move(version));
  properties.set("name", typed("string", "in messages and in the model's metadata"));
  properties.set("summary", typed("string", "what it is for"));
}

void add_target(Datum& properties) {
  std::vector<std::string> names;
  for (const Target* target : all_targets()) names.push_back(target->name);
  Datum known = Datum::map(), own = Datum::map(),
        target = typed("string", "the runtime to compress for, or a file that describes one");
  known.set("enum", texts(names));
  own.set("pattern", Datum::string("\\.(json|ya?ml)$"));
  Datum either = Datum::list();
  either.push(std::move(known));
  either.push(std::move(own));
  target.set("anyOf", std::move(either));
  Datum seed = typed("integer", "of what is random");
  seed.set("minimum", Datum::integer(0));
  properties.set("target", std::move(target));
  properties.set("seed", std::move(seed));
}

Datum converge_schema() {
  return typed("boolean",
               "repeat neighbouring passes that keep results until none changes anything");
}

Datum share_schema(std::string_view description) {
  Datum share = typed("number", description);
  share.set("minimum", Datum::integer(0));
  share.set("maximum", Datum::integer(1));
  return share;
}

Datum part_data_schema() {
  Datum map = Datum::map();
  map.set("part", typed("string", "the part's name; it stands before this one"));
  Datum model = typed({}, "whose results: what it was made into, or what it was");
  model.set("enum", texts({"compressed", "original"}));
  map.set("model", std::move(model));
  Datum results = typed("object", "output of that part: input of this one");
  results.set("additionalProperties", typed("string"));
  map.set("results", std::move(results));
  Datum written_out = closed_map(std::move(map), "a part, and which of its outputs are what");
  written_out.set("required", texts({"part"}));
  Datum shapes = Datum::list();
  shapes.push(typed("string", "a part that stands before this one"));
  shapes.push(std::move(written_out));
  Datum from = typed({}, "calibration data are what another part makes of its own");
  from.set("anyOf", std::move(shapes));
  Datum properties = Datum::map();
  add_options(properties, RecipeData::schema().specs());
  properties.set("from", std::move(from));
  return closed_map(std::move(properties), "paths from the recipe's folder");
}

// A model of a product.
Datum part_schema() {
  std::vector<std::string> names;
  for (const BuiltinRecipe& recipe : builtin_recipes()) names.emplace_back(recipe.name);
  Datum known = typed("string", "a built-in recipe, or a file from the recipe's folder");
  Datum name = Datum::map(), file = Datum::map(), either = Datum::list();
  name.set("enum", texts(names));
  file.set("pattern", Datum::string("\\.(json|ya?ml)$"));
  either.push(std::move(name));
  either.push(std::move(file));
  known.set("anyOf", std::move(either));
  Datum one = Datum::list();
  one.push(std::move(known));
  one.push(reference("recipe"));
  Datum choice = Datum::map();
  choice.set("anyOf", std::move(one));
  Datum list = typed("array");
  list.set("items", choice);
  list.set("minItems", Datum::integer(1));
  Datum shapes = *choice.find("anyOf");
  shapes.push(std::move(list));
  Datum recipe = typed({}, "what is done; of a list, the first whose result satisfies the gates");
  recipe.set("anyOf", std::move(shapes));

  Datum properties = Datum::map();
  properties.set("name", typed("string", "of the part, in messages and reports"));
  properties.set("model", typed("string",
                                "file, or pattern that fits one, from the folder of the "
                                "models"));
  properties.set("output", typed("string",
                                 "file below the folder of results; else as the model "
                                 "lies"));
  properties.set("recipe", std::move(recipe));
  properties.set("passes", reference("passes"));
  properties.set("converge", converge_schema());
  add_target(properties);
  properties.set("data", reference("part-data"));
  properties.set("gates", reference("gates"));
  properties.set("bytes-share",
                 share_schema("of the product's bytes; else by size, of what is left"));
  properties.set("quality-share",
                 share_schema("of the product's loss; else equal, of what is left"));
  Datum map = closed_map(std::move(properties), "a model of the product");
  map.set("required", texts({"name", "model"}));
  return map;
}

}  // namespace

Datum recipe_schema() {
  Datum defs = Datum::map();
  defs.set("when", part(StepCondition::schema().specs(), "the step runs where all of it holds"));
  Datum shapes = Datum::list();
  std::vector<std::string> bare;
  for (const PassInfo* pass : builtin_passes().all()) {
    const std::string name = "pass-" + std::string(pass->name);
    defs.set(name, pass_entry(*pass));
    shapes.push(reference(name));
    bare.emplace_back(pass->name);
  }
  for (const BuiltinRecipe& recipe : builtin_recipes()) {
    const std::string name = "recipe-" + std::string(recipe.name);
    defs.set(name, recipe_entry(recipe));
    shapes.push(reference(name));
  }
  Datum name_alone = typed({}, "a pass with its defaults");
  name_alone.set("enum", texts(bare));
  shapes.push(std::move(name_alone));
  Datum entry = Datum::map();
  entry.set("anyOf", std::move(shapes));
  Datum passes = typed("array", "what is done, in this order");
  passes.set("items", std::move(entry));
  passes.set("minItems", Datum::integer(1));

  defs.set("passes", std::move(passes));
  defs.set("data", part(RecipeData::schema().specs(), "paths from the recipe's folder"));
  defs.set("part-data", part_data_schema());
  defs.set("gates", part(RecipeGates::schema().specs(), "what the result has to satisfy"));

  Datum properties = Datum::map();
  add_heading(properties);
  add_target(properties);
  properties.set("converge", converge_schema());
  properties.set("data", reference("data"));
  properties.set("gates", reference("gates"));
  properties.set("passes", reference("passes"));
  Datum one = closed_map(std::move(properties), "for one model");
  one.set("required", texts({"passes"}));
  defs.set("recipe", std::move(one));

  defs.set("part", part_schema());
  Datum parts = typed("array", "the models of a product");
  parts.set("items", reference("part"));
  parts.set("minItems", Datum::integer(1));
  Datum of_several = Datum::map();
  add_heading(of_several);
  add_target(of_several);
  of_several.set("gates", reference("gates"));
  of_several.set("parts", std::move(parts));
  Datum product = closed_map(std::move(of_several), "for several models of one product");
  product.set("required", texts({"parts"}));
  defs.set("product", std::move(product));

  Datum schema = Datum::map();
  schema.set("$schema", Datum::string("https://json-schema.org/draft/2020-12/schema"));
  schema.set("title", Datum::string("a recipe of mcompress"));
  Datum either = Datum::list();
  either.push(reference("recipe"));
  either.push(reference("product"));
  schema.set("anyOf", std::move(either));
  schema.set("$defs", std::move(defs));
  return schema;
}

}  // namespace mcompress::tools
