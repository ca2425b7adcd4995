// Where the parts of a product lie, and how bytes are shared out among them.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "mcompress/host.h"
#include "product/product.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

Result<std::string> find_model(const ProductPart& part, const fs::path& folder) {
  const fs::path place =
      fs::path(part.model).is_absolute() ? fs::path(part.model) : folder / part.model;
  const std::string pattern = place.filename().string();
  std::error_code error;
  if (fs::exists(place, error)) return place.string();
  Location where = part.where;
  where.subject = part.name;
  if (pattern.find_first_of("*?[") == std::string::npos) {
    return Error(Code::kInput, "part-missing", "there is no model '" + place.string() + "'",
                 std::move(where));
  }
  std::vector<std::string> found;
  const fs::path above = place.has_parent_path() ? place.parent_path() : fs::path(".");
  for (auto it = fs::directory_iterator(above, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.') && matches_glob(pattern, name)) found.push_back(name);
  }
  if (found.size() == 1) return (place.parent_path() / found.front()).string();
  std::sort(found.begin(), found.end());
  std::string message = "no file fits '" + place.string() + "'";
  if (!found.empty()) {
    constexpr std::size_t kShown = 3;
    const std::size_t all = found.size();
    found.resize(std::min(kShown, all));
    message = counted(all, "file") + " fit '" + place.string() + "': " + joined(found) +
              (all > kShown ? ", ..." : "");
  }
  return Error(Code::kInput, "part-missing", std::move(message), std::move(where),
               "a part is one model");
}

// The places that a part's data name are there. Patterns and lists are for whoever reads them.
Status check_data(const Datum& data, const Datum& given, const ProductPart& part) {
  const auto check = [&](const std::string& path, const Datum& at) -> Status {
    std::error_code error;
    if (path.empty() || path.find_first_of("*?[,") != std::string::npos ||
        fs::exists(path, error)) {
      return ok_status();
    }
    Location where = at.where();
    where.subject = part.name;
    return Error(Code::kInput, "part-data-missing", "there is no '" + path + "'", std::move(where));
  };
  for (const std::string_view key : {"calib", "table", "eval", "characters"}) {
    const Datum* value = data.find(key);
    if (value == nullptr || value->as_string() == nullptr) continue;
    MCOMPRESS_TRY(check(*value->as_string(), *given.find(key)));
  }
  const Datum* inputs = data.find("input");
  if (inputs == nullptr || inputs->as_list() == nullptr) return ok_status();
  for (const Datum& item : *inputs->as_list()) {
    if (item.as_string() == nullptr) continue;
    const std::size_t equals = item.as_string()->find('=');
    MCOMPRESS_TRY(
        check(item.as_string()->substr(equals == std::string::npos ? 0 : equals + 1), item));
  }
  return ok_status();
}

}  // namespace

Result<std::vector<PartFiles>> find_part_files(const Product& product, const std::string& folder) {
  const fs::path base = folder.empty() ? fs::path(product.file).parent_path() : fs::path(folder);
  std::vector<PartFiles> all;
  for (const ProductPart& part : product.parts) {
    PartFiles files;
    auto model = find_model(part, base);
    if (!model.ok()) return std::move(model).error().in_file(product.file);
    files.model = std::move(*model);
    const fs::path inside =
        fs::path(files.model)
            .lexically_normal()
            .lexically_relative(base.empty() ? fs::path(".") : base.lexically_normal());
    const bool below = !inside.empty() && !inside.string().starts_with("..");
    files.output = !part.output.empty() ? part.output
                   : below              ? inside.string()
                                        : fs::path(files.model).filename().string();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].output != files.output) continue;
      Location where = part.where;
      where.subject = part.name;
      return Error(Code::kUsage, "same-place",
                   "'" + all[i].model + "' of part '" + product.parts[i].name + "' and '" +
                       files.model + "' would both become " + files.output,
                   std::move(where));
    }
    for (const PartChoice& choice : part.choices) {
      const bool own = !part.data.is_null();
      const Datum& given = own ? part.data : choice.found.recipe.data;
      Datum data = place_data(given, own ? product.file : choice.found.file, files.model);
      Status there = check_data(data, given, part);
      if (!there.ok()) return std::move(there).error().in_file(product.file);
      files.data.push_back(std::move(data));
    }
    all.push_back(std::move(files));
  }
  return all;
}

std::uint64_t bytes_allowed(const RecipeGates& gates, std::uint64_t input_bytes) {
  std::uint64_t allowed = 0;
  if (!gates.max_bytes.empty()) {
    if (const auto bytes = parse_size(gates.max_bytes, {}); bytes.ok()) allowed = *bytes;
  }
  if (gates.max_size_ratio > 0) {
    const auto share = static_cast<std::uint64_t>(
        std::floor(gates.max_size_ratio * static_cast<double>(input_bytes)));
    allowed = allowed > 0 ? std::min(allowed, share) : share;
  }
  return allowed;
}

ByteBudget::ByteBudget(const Product& product, std::uint64_t allowed,
                       std::vector<std::uint64_t> sizes)
    : allowed_(allowed), sizes_(std::move(sizes)), done_(product.parts.size(), false) {
  for (const ProductPart& part : product.parts) {
    shares_.push_back(part.bytes_share);
    chooses_.push_back(allowed > 0 && part.bytes_share <= 0 && part.choices.size() > 1);
  }
  for (const bool choosing : {false, true}) {
    for (std::size_t i = 0; i < chooses_.size(); ++i) {
      if (chooses_[i] == choosing) order_.push_back(i);
    }
  }
  // Whose results another is calibrated on comes before it: it stands before it in the recipe.
  std::vector<std::size_t> sorted;
  const std::function<void(std::size_t)> take = [&](std::size_t part) {
    if (std::ranges::find(sorted, part) != sorted.end()) return;
    if (product.parts[part].source) take(product.parts[part].source->part);
    sorted.push_back(part);
  };
  for (const std::size_t part : order_) take(part);
  order_ = std::move(sorted);
}

std::uint64_t ByteBudget::limit(std::size_t part) const {
  if (allowed_ == 0) return 0;
  if (shares_[part] > 0) {
    return std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(shares_[part] * static_cast<double>(allowed_)));
  }
  if (!chooses_[part]) return 0;
  std::uint64_t waiting = 0;
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    if (chooses_[i] && !done_[i]) waiting += sizes_[i];
  }
  const auto left = static_cast<double>(allowed_ - std::min(allowed_, used_));
  const double part_of_it =
      waiting > 0 ? static_cast<double>(sizes_[part]) / static_cast<double>(waiting) : 1;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(left * part_of_it));
}

void ByteBudget::use(std::size_t part, std::uint64_t bytes) {
  done_[part] = true;
  used_ += bytes;
}

Status ByteBudget::check() const {
  if (allowed_ == 0 || used_ <= allowed_) return ok_status();
  const bool all = std::ranges::all_of(done_, [](bool done) { return done; });
  return Error(Code::kGateMissed, "gate-missed",
               std::string(all ? "the parts have " : "the parts that are done have ") +
                   std::to_string(used_) + " bytes together, and all may have " +
                   std::to_string(allowed_),
               {}, "nothing was written; --write-missed writes them");
}

}  // namespace mcompress::tools
