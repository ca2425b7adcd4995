#include "product/product.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <tuple>

#include "mcompress/host.h"
#include "mcompress/target.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostParts = 100, kMostChoices = 20;
constexpr double kRounding = 1e-9;

Error part_error(std::string_view id, std::string message, const Datum& datum,
                 std::string hint = {}) {
  return Error(Code::kUsage, id, std::move(message), datum.where(), std::move(hint));
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

Status check_keys(const Datum& map, const std::vector<std::string>& known) {
  for (const auto& [key, value] : *map.as_map()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string close = nearest_name(key, known);
    return part_error(
        "recipe-unknown-key", "unknown key '" + key + "'", value,
        close.empty() ? "known keys: " + joined(known) : "did you mean '" + close + "'?");
  }
  return ok_status();
}

Result<std::string> text_of(const Datum& map, std::string_view key, const char* what) {
  const Datum* value = map.find(key);
  if (value == nullptr) {
    return part_error("part-incomplete", "the key '" + std::string(key) + "' is missing", map,
                      what);
  }
  if (value->as_string() == nullptr || value->as_string()->empty()) {
    return part_error("recipe-not-text", "must be a text", *value, what);
  }
  return *value->as_string();
}

// 0 to 1; nothing where the key is not there.
Result<std::optional<double>> share_of(const Datum& map, std::string_view key, bool zero) {
  const Datum* value = map.find(key);
  if (value == nullptr) return std::optional<double>();
  double share = -1;
  if (const auto* real = std::get_if<double>(&value->value())) share = *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value->value())) {
    share = static_cast<double>(*whole);
  }
  if (share >= 0 && share <= 1 && (zero || share > 0)) return std::optional(share);
  return part_error("part-share",
                    "must be a number " + std::string(zero ? "from 0" : "above 0, up") + " to 1",
                    *value, "0.25 is a quarter");
}

// Reads what recipes have in common by the reader of recipes: version, name, target, seed, data,
// gates.
Result<Recipe> read_common(const Datum& map, std::initializer_list<std::string_view> keys,
                           const std::string& file, Console& console) {
  Datum common(Datum::Value(Datum::Map{}), map.where());
  for (const std::string_view key : keys) {
    if (const Datum* value = map.find(key)) common.set(key, *value);
  }
  Datum passes = Datum::list();
  passes.push(Datum::string("infer-shapes"));  // there has to be one
  common.set("passes", std::move(passes));
  return recipe_of_datum(std::move(common), file, console);
}

Result<RecipeGates> gates_in(const Datum& gates) {
  if (gates.is_null()) return RecipeGates();
  Diagnostics diagnostics;
  return RecipeGates::schema().parse(gates, diagnostics);
}

// The name of a recipe, a file beside this one, or a recipe written out.
Result<PartChoice> read_choice(const Datum& given, const std::string& name, const Product& product,
                               Console& console) {
  PartChoice choice;
  if (given.as_map() != nullptr) {
    MCOMPRESS_ASSIGN(choice.found.recipe, recipe_of_datum(given, product.file, console));
    if (choice.found.recipe.name.empty()) choice.found.recipe.name = name;
    choice.label = choice.found.recipe.name;
    choice.found.file = product.file;
    return choice;
  }
  if (given.as_string() == nullptr) {
    return part_error("recipe-not-text", "must be a file, the name of a recipe, or a recipe",
                      given);
  }
  choice.label = *given.as_string();
  std::string path = choice.label;
  const bool file = path.ends_with(".json") || path.ends_with(".yaml") || path.ends_with(".yml");
  if (file && fs::path(path).is_relative()) {
    path = (fs::path(product.file).parent_path() / path).string();
  }
  auto found = find_recipe(path, console);
  if (!found.ok()) {
    Error error = std::move(found).error();
    // What is missing or unknown is named here; what is wrong in a recipe stands in that one.
    if (error.diagnostic.where.file.empty()) error.diagnostic.where = given.where();
    return error;
  }
  choice.found = std::move(*found);
  return choice;
}

Status read_choices(const Datum& entry, const Product& product, ProductPart& part,
                    Console& console) {
  const Datum* recipe = entry.find("recipe");
  const Datum* passes = entry.find("passes");
  if ((recipe != nullptr) == (passes != nullptr)) {
    return part_error("part-recipe", "needs either 'recipe' or 'passes'", entry,
                      "a name, a file, or a list of which the first that satisfies the gates is "
                      "taken");
  }
  if (passes != nullptr || entry.find("converge") != nullptr) {
    if (recipe != nullptr) {
      return part_error("part-recipe", "goes with 'passes', not with 'recipe'",
                        *entry.find("converge"));
    }
    Datum own(Datum::Value(Datum::Map{}), entry.where());
    own.set("passes", *passes);
    if (const Datum* converge = entry.find("converge")) own.set("converge", *converge);
    MCOMPRESS_ASSIGN(PartChoice choice, read_choice(own, part.name, product, console));
    part.choices.push_back(std::move(choice));
    return ok_status();
  }
  const Datum::List one = {*recipe};
  const Datum::List& list = recipe->as_list() != nullptr ? *recipe->as_list() : one;
  if (list.empty() || list.size() > kMostChoices) {
    return part_error("part-recipe", "must be one recipe, or 1 to " + std::to_string(kMostChoices),
                      *recipe);
  }
  for (const Datum& given : list) {
    MCOMPRESS_ASSIGN(PartChoice choice, read_choice(given, part.name, product, console));
    part.choices.push_back(std::move(choice));
  }
  return ok_status();
}

// `from`: the name of a part, or a map; of the parts before.
Result<PartSource> read_source(const Datum& from, const Product& product) {
  PartSource source;
  source.given = from;
  Datum map(Datum::Value(Datum::Map{}), from.where());
  if (from.as_map() != nullptr) {
    map = from;
  } else {
    map.set("part", from);
  }
  MCOMPRESS_TRY(check_keys(map, {"model", "part", "results"}));
  MCOMPRESS_ASSIGN(const std::string name, text_of(map, "part", "whose results the samples are"));
  std::vector<std::string> before;
  for (const ProductPart& part : product.parts) before.push_back(part.name);
  const auto found = std::ranges::find(before, name);
  if (found == before.end()) {
    const std::string close = nearest_name(name, before);
    return part_error("part-source", "there is no part '" + name + "' before this one",
                      *map.find("part"),
                      !close.empty()   ? "did you mean '" + close + "'?"
                      : before.empty() ? "a part takes data from one that stands before it"
                                       : "parts before it: " + joined(before));
  }
  source.part = static_cast<std::size_t>(found - before.begin());
  if (const Datum* model = map.find("model")) {
    const std::string* text = model->as_string();
    if (text == nullptr || (*text != "compressed" && *text != "original")) {
      return part_error("part-source", "must be 'compressed' or 'original'", *model);
    }
    source.compressed = *text == "compressed";
  }
  const Datum* results = map.find("results");
  if (results == nullptr) return source;
  if (results->as_map() == nullptr) {
    return part_error("part-results", "must be a map of outputs to inputs", *results,
                      "results: {OUTPUT: INPUT}");
  }
  for (const auto& [output, input] : *results->as_map()) {
    if (input.as_string() == nullptr) {
      return part_error("part-results", "must be the name of an input of this part", input);
    }
    source.results.emplace(output, *input.as_string());
  }
  return source;
}

// The entry's data without `from`, which goes to the part.
Result<Datum> data_beside_source(const Datum& entry, const Product& product, ProductPart& part) {
  const Datum* data = entry.find("data");
  if (data == nullptr || data->as_map() == nullptr) return entry;
  Datum rest(Datum::Value(Datum::Map{}), data->where());
  for (const auto& [key, value] : *data->as_map()) {
    if (key != "from") {
      rest.set(key, value);
      continue;
    }
    MCOMPRESS_ASSIGN(part.source, read_source(value, product));
  }
  Datum whole = entry;
  whole.set("data", std::move(rest));
  return whole;
}

Result<ProductPart> read_part(const Datum& entry, const Product& product, const Recipe& all,
                              const Datum& whole, Console& console) {
  ProductPart part;
  part.where = entry.where();
  if (entry.as_map() == nullptr) {
    return part_error("part-entry", "must be a map with the keys 'name', 'model' and 'recipe'",
                      entry);
  }
  MCOMPRESS_TRY(
      check_keys(entry, {"bytes-share", "converge", "data", "gates", "model", "name", "output",
                         "passes", "quality-share", "recipe", "seed", "target"}));
  MCOMPRESS_ASSIGN(part.name, text_of(entry, "name", "what the part is called"));
  MCOMPRESS_ASSIGN(part.model, text_of(entry, "model", "a file, or a pattern that fits one"));
  if (const Datum* output = entry.find("output")) {
    MCOMPRESS_ASSIGN(part.output, text_of(entry, "output", "a file below the folder of results"));
    const fs::path place = fs::path(part.output).lexically_normal();
    if (place.is_absolute() || place.string().starts_with("..") || !place.has_filename()) {
      return part_error("part-output", "must be a file below the folder of results", *output);
    }
    part.output = place.string();
  }
  MCOMPRESS_ASSIGN(const Datum plain, data_beside_source(entry, product, part));
  MCOMPRESS_ASSIGN(const Recipe common,
                   read_common(plain, {"data", "gates", "seed", "target"}, product.file, console));
  part.data = common.data;
  if (part.source && part.data.is_null()) part.data = Datum::map();  // not those of a recipe
  part.own_gates = common.gates;
  MCOMPRESS_ASSIGN(part.gates, gates_in(common.gates));
  if (entry.find("target") != nullptr) {
    part.target = common.target;
  } else if (whole.find("target") != nullptr) {
    part.target = all.target;
  }
  if (entry.find("seed") != nullptr) {
    part.seed = common.seed;
  } else if (whole.find("seed") != nullptr) {
    part.seed = all.seed;
  }
  MCOMPRESS_TRY(read_choices(entry, product, part, console));
  return part;
}

bool has_data(const Datum& data) {
  return std::ranges::any_of(std::initializer_list<std::string_view>{"calib", "eval", "input"},
                             [&](std::string_view key) { return data.find(key) != nullptr; });
}

// A share of each part, those that are not given equal or by what is left.
Status share_out(Product& product, const Datum::List& entries) {
  const bool sized = !product.gates.max_bytes.empty() || product.gates.max_size_ratio > 0;
  const bool judged = product.gates.min_sqnr > 0 || product.gates.max_drop < 100;
  double bytes = 0, quality = 0;
  std::size_t without_bytes = 0, without_quality = 0;
  std::vector<std::optional<double>> qualities;
  for (std::size_t i = 0; i < product.parts.size(); ++i) {
    MCOMPRESS_ASSIGN(const auto of_bytes, share_of(entries[i], "bytes-share", false));
    MCOMPRESS_ASSIGN(const auto of_quality, share_of(entries[i], "quality-share", true));
    if (of_bytes && !sized) {
      return part_error("part-share", "is a share of nothing", *entries[i].find("bytes-share"),
                        "give 'max-bytes' or 'max-size-ratio' in the gates of all parts");
    }
    if (of_quality && !judged) {
      return part_error("part-share", "is a share of nothing", *entries[i].find("quality-share"),
                        "give 'max-drop' or 'min-sqnr' in the gates of all parts");
    }
    product.parts[i].bytes_share = of_bytes.value_or(0);
    bytes += of_bytes.value_or(0);
    quality += of_quality.value_or(0);
    without_bytes += of_bytes ? 0 : 1;
    without_quality += of_quality ? 0 : 1;
    qualities.push_back(of_quality);
    for (const auto& [sum, key] : {std::pair(bytes, "bytes-share"), {quality, "quality-share"}}) {
      if (sum <= 1 + kRounding) continue;
      return part_error("part-share", "with it the shares sum up to " + decimal_text(sum, 4),
                        *entries[i].find(key), "together they are at most 1");
    }
  }
  for (const auto& [sum, without, key] :
       {std::tuple(bytes, without_bytes, "bytes-share"),
        {quality, judged ? without_quality : 0, "quality-share"}}) {
    if (without == 0 || sum < 1 - kRounding) continue;
    for (const Datum& entry : entries) {
      if (entry.find(key) != nullptr) continue;
      return part_error("part-share",
                        std::string("nothing is left for it: the others' ") + key + " sum up to 1",
                        entry);
    }
  }
  if (!judged) return ok_status();
  for (std::size_t i = 0; i < product.parts.size(); ++i) {
    ProductPart& part = product.parts[i];
    const double share = qualities[i].value_or(
        (1 - quality) / static_cast<double>(std::max<std::size_t>(without_quality, 1)));
    part.quality_share = share;
    if (share <= 0) continue;
    const bool known = std::ranges::all_of(part.choices, [&](const PartChoice& choice) {
      return part.source || has_data(part.data.is_null() ? choice.found.recipe.data : part.data);
    });
    if (!known) {
      return part_error(
          "part-without-data", "there are no data to judge its share of the product's quality by",
          entries[i], "give 'data', or 'quality-share: 0' where nothing can get worse");
    }
    // Points that parts lose add up, and so do the powers of their errors.
    if (product.gates.max_drop < 100) {
      part.gates.max_drop = std::min(part.gates.max_drop, product.gates.max_drop * share);
    }
    if (product.gates.min_sqnr > 0) {
      part.gates.min_sqnr =
          std::max(part.gates.min_sqnr, product.gates.min_sqnr - 10 * std::log10(share));
    }
  }
  return ok_status();
}

// Who makes data of others has samples of its own.
Status check_sources(const Product& product, const Datum::List& entries) {
  for (const ProductPart& part : product.parts) {
    if (!part.source) continue;
    const ProductPart& maker = product.parts[part.source->part];
    const bool known = maker.source || std::ranges::all_of(maker.choices, [&](const auto& choice) {
                         const Datum& data =
                             maker.data.is_null() ? choice.found.recipe.data : maker.data;
                         return data.find("calib") != nullptr || data.find("input") != nullptr;
                       });
    if (known) continue;
    return part_error("part-source",
                      "part '" + part.name + "' takes what it makes, and it has no samples",
                      entries[part.source->part], "give 'calib' under 'data'");
  }
  return ok_status();
}

// What the result of a choice has to satisfy: its own gates and those of the part.
void join_gates(const ProductPart& part, Recipe& recipe) {
  const auto own = gates_in(recipe.gates);  // was checked with the recipe
  RecipeGates gates = own.ok() ? *own : RecipeGates();
  const RecipeGates& more = part.gates;
  gates.min_sqnr = std::max(gates.min_sqnr, more.min_sqnr);
  gates.max_drop = std::min(gates.max_drop, more.max_drop);
  if (more.max_size_ratio > 0 &&
      (gates.max_size_ratio <= 0 || more.max_size_ratio < gates.max_size_ratio)) {
    gates.max_size_ratio = more.max_size_ratio;
  }
  const auto bytes = [](const std::string& text) {
    return text.empty() ? std::uint64_t{0} : parse_size(text, {}).value();
  };
  if (!more.max_bytes.empty() &&
      (gates.max_bytes.empty() || bytes(more.max_bytes) < bytes(gates.max_bytes))) {
    gates.max_bytes = more.max_bytes;
  }
  const Datum all = RecipeGates::schema().print(gates);
  const Datum defaults = RecipeGates::schema().print(RecipeGates());
  Datum given = Datum::map();
  for (const auto& [key, value] : *all.as_map()) {
    if (!(value == *defaults.find(key))) given.set(key, value);
  }
  recipe.gates = given.as_map()->empty() ? Datum() : given;
  give_gates_to_passes(recipe);
}

Result<Product> checked_product(const Datum& datum, const std::string& file, Console& console) {
  Product product;
  product.file = file;
  MCOMPRESS_TRY(
      check_keys(datum, {"gates", "name", "parts", "seed", "summary", "target", "version"}));
  MCOMPRESS_ASSIGN(
      const Recipe all,
      read_common(datum, {"gates", "name", "seed", "summary", "target", "version"}, file, console));
  product.name = all.name;
  product.summary = all.summary;
  product.gates_given = all.gates;
  MCOMPRESS_ASSIGN(product.gates, gates_in(all.gates));
  const Datum& list = *datum.find("parts");
  const Datum::List* entries = list.as_list();
  if (entries == nullptr || entries->empty() || entries->size() > kMostParts) {
    return part_error("parts-list",
                      "must be a list of 1 to " + std::to_string(kMostParts) + " parts", list);
  }
  std::set<std::string> names;
  for (const Datum& entry : *entries) {
    MCOMPRESS_ASSIGN(ProductPart part, read_part(entry, product, all, datum, console));
    if (!names.insert(part.name).second) {
      return part_error("part-twice", "there is a part '" + part.name + "' already",
                        *entry.find("name"));
    }
    product.parts.push_back(std::move(part));
  }
  MCOMPRESS_TRY(check_sources(product, *entries));
  MCOMPRESS_TRY(share_out(product, *entries));
  for (ProductPart& part : product.parts) {
    for (PartChoice& choice : part.choices) join_gates(part, choice.found.recipe);
  }
  return product;
}

}  // namespace

bool has_parts(const RecipeText& text) { return text.datum.find("parts") != nullptr; }

Result<Product> product_of(const RecipeText& text, Console& console) {
  auto product = checked_product(text.datum, text.label, console);
  if (!product.ok()) return std::move(product).error().in_file(text.label);
  return product;
}

}  // namespace mcompress::tools
