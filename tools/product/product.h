// Recipes of several models that make one product: an encoder with its decoder, a detector with its
// recogniser. Each part has passes, data and gates of its own, and a share of the limits that hold
// for all together.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress.h"
#include "console.h"
#include "mcompress/recipe.h"
#include "product/product_data.h"
#include "recipe_files.h"

namespace mcompress::tools {

// One way to compress a part.
struct PartChoice {
  std::string label;  // as it was named
  NamedRecipe found;
};

struct ProductPart {
  std::string name;
  std::string model;                 // a file or a pattern, as given
  std::string output;                // below the folder of results; empty: as the model lies
  std::vector<PartChoice> choices;   // the first whose result satisfies the gates is taken
  Datum data;                        // RecipeData; null: that of the choice
  std::optional<PartSource> source;  // who makes its calibration data; in part or as a whole
  Datum own_gates;                   // RecipeGates as given; null: none
  // Those with the part's share of the product's quality: what its result has to satisfy but for
  // bytes.
  RecipeGates gates;
  double bytes_share = 0;    // of the product's bytes; 0: of what is left
  double quality_share = 0;  // of its loss
  std::optional<std::string> target;
  std::optional<std::uint64_t> seed;
  Location where;
};

struct Product {
  std::string file;  // the recipe's
  std::string name, summary;
  RecipeGates gates;  // of all parts together
  Datum gates_given;  // as given; null: none
  std::vector<ProductPart> parts;
};

// Is it a recipe of several models?
bool has_parts(const RecipeText& text);
// Such a recipe, everything but files checked. Fails with kUsage at line and column: unknown keys,
// names that are there twice, shares above 1 or of nothing, parts within parts, quality to share
// out and no data to judge it.
Result<Product> product_of(const RecipeText& text, Console& console);

// A part's files, found and checked to be there. `folder`: where models lie; empty: beside the
// recipe. Fails with kInput for a file that is missing or a pattern that fits none or several.
struct PartFiles {
  std::string model;
  std::string output;       // below the folder of results
  std::vector<Datum> data;  // of each choice, with paths from here
};
Result<std::vector<PartFiles>> find_part_files(const Product& product, const std::string& folder);

// The bytes that the parts may have together, of `input_bytes`; 0: any number.
std::uint64_t bytes_allowed(const RecipeGates& gates, std::uint64_t input_bytes);

// How bytes are shared out. A part with a share may use that. Of the others, those that have but
// one way take what they need, and what is then left goes to those that have several, by size.
class ByteBudget {
 public:
  // `sizes`: bytes of the parts before.
  ByteBudget(const Product& product, std::uint64_t allowed, std::vector<std::uint64_t> sizes);

  // Parts in the order in which they are to be done; what another is made ready with comes first.
  const std::vector<std::size_t>& order() const { return order_; }
  // What `part` may use now; 0: nothing is said.
  std::uint64_t limit(std::size_t part) const;
  // May the last of a part's ways pass that limit? The sum decides then.
  bool may_pass(std::size_t part) const { return chooses_[part]; }
  void use(std::size_t part, std::uint64_t bytes);
  std::uint64_t used() const { return used_; }
  // kGateMissed where the parts so far have more than all may have.
  Status check() const;

 private:
  std::uint64_t allowed_ = 0, used_ = 0;
  std::vector<std::uint64_t> sizes_;
  std::vector<double> shares_;
  std::vector<bool> chooses_, done_;
  std::vector<std::size_t> order_;
};

// The product's run: `base` are the flags that hold for every part; `job` makes a part's job of its
// data, which flags go before.
struct ProductRun {
  Product product;
  std::string folder;  // of the models; empty: the recipe's
  CompressOptions base;
  std::function<Result<Job>(Datum data)> job;
  bool target_given = false, seed_given = false;  // by flags
};
// Compresses every part and writes all results, or none.
Status run_product(const ProductRun& run, Console& console);

}  // namespace mcompress::tools
