// The forms by their names.
#include <algorithm>
#include <charconv>

#include "mcompress/host.h"
#include "mcompress/search.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::optional<std::int64_t> number_after(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  std::string_view rest = text.substr(prefix.size());
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc() || end == rest.data()) return std::nullopt;
  text = rest.substr(static_cast<std::size_t>(end - rest.data()));
  return number;
}

RecipeStep step_of(std::string_view pass) { return {std::string(pass), Datum::map()}; }

// Small weights too: a search knows what they cost.
RecipeStep clusters_of(std::string_view option, std::int64_t number) {
  RecipeStep step = step_of("cluster-weights");
  step.options.set(option, Datum::integer(number));
  step.options.set("min-elements", Datum::integer(256));
  return step;
}

RecipeStep blocks_of(std::int64_t bits, std::int64_t block) {
  RecipeStep step = step_of("quantize-blocks");
  step.options.set("weights", Datum::string("uint" + std::to_string(bits)));
  step.options.set("block-size", Datum::integer(block));
  step.options.set("min-elements", Datum::integer(256));
  return step;
}

std::optional<SearchForm> form_of(const std::string& name) {
  SearchForm form;
  form.name = name;
  if (name == "float32") return form;
  if (name == "float16") {
    form.steps = {step_of("cast-float16")};
    form.steps[0].options.set("form", Datum::string("storage"));
    return form;
  }
  if (name == "int8") {
    form.steps = {step_of("quantize-weights")};
    return form;
  }
  if (name == "static") {
    form.steps = {step_of("quantize-static")};
    form.steps[0].options.set("guard-sqnr", Datum::real(0));
    form.steps.push_back(step_of("quantize-weights"));  // of layers that the first leaves alone
    form.integers = true;
    return form;
  }
  if (name == "dynamic") {
    form.steps = {step_of("quantize-dynamic")};
    form.steps[0].options.set("min-elements", Datum::integer(256));
    return form;
  }
  std::string_view rest = name;
  if (const auto percent = number_after(rest, "sparse-")) {
    if (*percent < 1 || *percent > 99) return std::nullopt;
    RecipeStep prune = step_of("prune-weights");
    prune.options.set("sparsity", Datum::real(static_cast<double>(*percent) / 100));
    prune.options.set("scope", Datum::string("layer"));
    prune.options.set("ends", Datum::boolean(true));
    form.steps.push_back(std::move(prune));
    if (rest.empty()) return form;
    form.steps[0].options.set("storage", Datum::string("dense"));
    if (!rest.starts_with("-")) return std::nullopt;
    rest.remove_prefix(1);
  }
  std::string_view tail = rest;
  if (const auto bits = number_after(tail, "cluster-")) {
    if (*bits < 1 || *bits > 8 || !tail.empty()) return std::nullopt;
    form.steps.push_back(clusters_of("bits", *bits));
    return form;
  }
  tail = rest;
  if (const auto entries = number_after(tail, "clusters-")) {
    if (*entries < 2 || *entries > 256 || !tail.empty()) return std::nullopt;
    form.steps.push_back(clusters_of("clusters", *entries));
    return form;
  }
  if (!form.steps.empty()) return std::nullopt;
  for (const std::int64_t bits : {2, 4, 8}) {
    tail = name;
    if (name == "int" + std::to_string(bits)) {
      form.steps = {blocks_of(bits, 0)};  // a block is a channel
      return form;
    }
    const auto block = number_after(tail, "int" + std::to_string(bits) + "-");
    if (!block || !tail.empty()) continue;
    const bool power = *block >= 16 && *block <= 256 && (*block & (*block - 1)) == 0;
    if (!power) return std::nullopt;
    form.steps = {blocks_of(bits, *block)};
    return form;
  }
  return std::nullopt;
}

}  // namespace

Result<std::vector<SearchForm>> search_forms(std::span<const std::string> names) {
  std::vector<SearchForm> forms = {SearchForm{"float32", {}, false}};
  for (const std::string& name : names) {
    const bool there = std::any_of(forms.begin(), forms.end(),
                                   [&name](const SearchForm& form) { return form.name == name; });
    if (there) continue;
    std::optional<SearchForm> form = form_of(name);
    if (!form) {
      static const std::vector<std::string> kExamples = {"float32",
                                                         "float16",
                                                         "int8",
                                                         "static",
                                                         "dynamic",
                                                         "cluster-4",
                                                         "clusters-12",
                                                         "int4",
                                                         "int2-16",
                                                         "int4-32",
                                                         "int8-32",
                                                         "sparse-50",
                                                         "sparse-50-cluster-4"};
      const std::string nearest = nearest_name(name, kExamples);
      return Error(
          Code::kUsage, "unknown-form", "there is no form '" + name + "'", {{}, "--forms", {}},
          nearest.empty() ? "forms are float32, float16, int8, static, dynamic, cluster-B, "
                            "clusters-K, int4, int4-N, sparse-P and sparse-P-cluster-B"
                          : "did you mean '" + nearest + "'?");
    }
    forms.push_back(std::move(*form));
  }
  return forms;
}

}  // namespace mcompress
