// The layers of a model that have a choice, and models made by one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/search.h"
#include "mcompress/seen_inputs.h"

namespace mcompress {

class OnlyPatterns;

class SearchSpace {
 public:
  // Prepares the original and finds the layers. `services` outlives this.
  static Result<std::unique_ptr<SearchSpace>> open(const Model& original,
                                                   const SearchOptions& options,
                                                   const SearchServices& services);

  const SearchOptions& options() const { return options_; }
  const SearchServices& services() const { return services_; }
  const Model& prepared() const { return *prepared_; }
  std::vector<SearchLayer>& layers() { return layers_; }
  const std::vector<SearchLayer>& layers() const { return layers_; }
  // Layers of which data go from one to the other.
  std::vector<SearchBorder>& borders() { return borders_; }
  const std::vector<SearchBorder>& borders() const { return borders_; }
  // What a form takes once, however many layers have it.
  std::vector<double>& form_bytes() { return form_bytes_; }
  const std::vector<double>& form_bytes() const { return form_bytes_; }
  std::vector<std::string>& left_out() { return left_out_; }
  std::uint64_t base_bytes() const { return base_bytes_; }

  struct Built {
    std::unique_ptr<Model> model;
    std::uint64_t bytes = 0;  // of its file
    // Values are quantized on a run, more of them than in prepared().
    bool in_integers = false;
    bool as_written = true;  // else only its bytes are to be used
  };
  // The model of a choice, made as its recipe makes it.
  Result<Built> build(std::span<const std::size_t> choice) const;
  // The bytes of what build() makes. Weights are rounded without a look at the calibration data
  // where that can't change how many they take.
  Result<Built> build_for_bytes(std::span<const std::size_t> choice) const;
  Result<std::unique_ptr<Session>> open_session(const Model& model) const;

  // All layers as they are.
  std::vector<std::size_t> plain() const { return std::vector<std::size_t>(layers_.size(), 0); }
  // A digest of what build() makes of it, and of `what` is asked about it.
  std::string key(std::span<const std::size_t> choice, std::string_view what) const;

 private:
  SearchSpace(const SearchOptions& options, const SearchServices& services)
      : options_(options),
        services_(services),
        form_bytes_(options.forms.size(), 0),
        building_(services.services) {
    if (building_.calibration_data == nullptr) return;
    remembering_.emplace(*building_.calibration_data, seen_);
    building_.calibration_data = &*remembering_;
  }
  Status prepare(const Model& original);
  Status find_layers();
  using Constants = std::map<std::string, std::vector<const Value*>, std::less<>>;
  void join_overlapping(const Constants& constants);
  Result<Built> build_with(std::span<const std::size_t> choice, const Services& services) const;
  Status run(Model& model, std::vector<RecipeStep> steps, const Services& services,
             Explain& explain) const;
  Services services_without_data() const;
  std::vector<std::string> patterns_of(std::string_view weight, const Constants& constants,
                                       OnlyPatterns& nodes) const;

  const SearchOptions& options_;
  const SearchServices& services_;
  std::unique_ptr<Model> prepared_;
  std::vector<SearchLayer> layers_;
  std::vector<SearchBorder> borders_;
  std::vector<double> form_bytes_;
  std::vector<std::string> left_out_;
  std::uint64_t base_bytes_ = 0;
  std::int64_t quantizes_ = 0;  // nodes of prepared()
  SeenInputs seen_;
  std::optional<RememberingData> remembering_;
  Services building_;  // those of services(), but for data that remember
};

// The steps of a choice: each form's passes, on the layers that take it.
std::vector<RecipeStep> steps_of_choice(const std::vector<SearchForm>& forms,
                                        const std::vector<SearchLayer>& layers,
                                        std::span<const std::size_t> choice);

}  // namespace mcompress
