// run of a recipe of several models.
#include <algorithm>
#include <filesystem>

#include "mcompress/companion.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "product/product.h"
#include "report/report_data.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

// What became of a part.
struct PartResult {
  std::string recipe;
  std::uint64_t limit = 0;  // bytes; 0: none
  struct Tried {
    std::string recipe, why;
  };
  std::vector<Tried> tried;  // in vain, in this order
  Datum report;              // mcompress-report
  ReportResult figures;
};

class ProductWork {
 public:
  ProductWork(const ProductRun& run, Console& console)
      : product_(run.product), run_(run), console_(console) {}

  Status work() {
    MCOMPRESS_TRY(check_request());
    MCOMPRESS_ASSIGN(files_, find_part_files(product_, run_.folder));
    MCOMPRESS_TRY(check_places());
    if (run_.base.print_recipe) return print();
    // A model that can not be read is found before hours were spent on another.
    std::vector<std::uint64_t> sizes;
    for (const PartFiles& files : files_) {
      MCOMPRESS_ASSIGN(const LoadedModel loaded, load(files.model, console_));
      sizes.push_back(loaded.size.total());
      bytes_before_ += sizes.back();
    }
    allowed_ = bytes_allowed(product_.gates, bytes_before_);
    ByteBudget budget(product_, allowed_, std::move(sizes));
    if (!run_.base.dry_run) {
      MCOMPRESS_TRY(outputs_.add_folder(run_.base.output));
      for (const PartFiles& files : files_) {
        MCOMPRESS_TRY(outputs_.add_folder(output_of(files).parent_path()));
      }
    }
    results_.resize(product_.parts.size());
    kept_.resize(product_.parts.size());
    taken_.resize(product_.parts.size(), 0);
    Status met = ok_status();
    for (const std::size_t part : budget.order()) {
      Status status = compress_part(part, budget);
      if (!status.ok()) {
        if (results_[part].report.is_null()) return status;
        met = status;  // written all the same
      }
      budget.use(part, results_[part].figures.bytes_after);
      if (Status fits = budget.check(); !fits.ok()) {
        if (!run_.base.write_missed) return std::move(fits).error().in_file(product_.file);
        met = std::move(fits).error().in_file(product_.file);
      }
    }
    bytes_after_ = budget.used();
    return finish(std::move(met));
  }

 private:
  Status check_request() const {
    const CompressOptions& base = run_.base;
    if (base.output.empty() && !base.dry_run && !base.print_recipe) {
      return Error(Code::kUsage, "no-output", "the folder for results is missing",
                   {{}, "--output", {}}, "give -o FOLDER, or --dry-run to write nothing");
    }
    if (base.output == "-") {
      return Error(Code::kUsage, "parts-to-stdout", "several models can not go to standard output",
                   {{}, "--output", {}}, "give -o FOLDER");
    }
    if (base.report == "-" && base.json) {
      return Error(Code::kUsage, "two-outputs",
                   "of --report and --json one can go to standard output, not both");
    }
    std::error_code error;
    if (!base.output.empty() && fs::exists(base.output, error) &&
        !fs::is_directory(base.output, error)) {
      return Error(Code::kOutput, "output-is-file", "is a file, and several models need a folder",
                   {base.output, {}, {}});
    }
    return ok_status();
  }

  // Nothing that is read gives way to another part's result.
  Status check_places() const {
    std::vector<std::string> read = {product_.file};
    for (std::size_t i = 0; i < files_.size(); ++i) {
      read.push_back(files_[i].model);
      for (const PartChoice& choice : product_.parts[i].choices) read.push_back(choice.found.file);
      for (const Datum& data : files_[i].data) {
        for (const auto& [key, value] : *data.as_map()) {
          if (value.as_string() != nullptr) read.push_back(*value.as_string());
        }
      }
    }
    MCOMPRESS_TRY(check_overwrites(run_.base.report, "report", read));
    if (!run_.base.report.empty()) MCOMPRESS_TRY(check_writable(run_.base.report));
    if (run_.base.output.empty()) return ok_status();
    for (const PartFiles& files : files_) {
      std::vector<std::string> others = read;
      std::erase(others, files.model);
      others.push_back(run_.base.report);
      MCOMPRESS_TRY(check_overwrites(output_of(files).string(), "output", others));
    }
    return ok_status();
  }

  fs::path output_of(const PartFiles& files) const {
    return fs::path(run_.base.output) / files.output;
  }

  Result<Job> job_of(std::size_t index, std::size_t choice) const {
    const ProductPart& part = product_.parts[index];
    MCOMPRESS_ASSIGN(Job job, run_.job(files_[index].data[choice]));
    Recipe recipe = part.choices[choice].found.recipe;
    recipe.data = Datum();
    CompressOptions& options = job.options;
    if (!run_.target_given) options.target = part.target.value_or(recipe.target);
    if (!run_.seed_given) {
      options.seed = static_cast<std::int64_t>(part.seed.value_or(recipe.seed));
    }
    options.output =
        options.dry_run || options.print_recipe ? std::string() : output_of(files_[index]).string();
    options.report.clear();
    options.json = false;
    if (!options.dump_passes.empty()) {
      options.dump_passes = (fs::path(options.dump_passes) / part.name).string();
    }
    job.input = files_[index].model;
    job.recipe_file = part.choices[choice].found.file;
    job.must_compress = must_compress(recipe);
    job.translates = only_translates(recipe);
    const bool has_data = part.source || has_calibration_data(options) || !options.table.empty();
    job.choose_recipe = [recipe, has_data](const Model& model, ReportScope&) {
      return resolve_recipe(recipe, model, has_data);
    };
    return job;
  }

  // The samples that `part` gets from another, for `model`, which it is or was.
  Result<std::unique_ptr<DataSource>> made_samples(std::size_t part, const CompressOptions& options,
                                                   const Model& model) const {
    const PartSource& source = *product_.parts[part].source;
    MadeSamples made;
    made.part = product_.parts[source.part].name;
    made.results = source.results;
    made.threads = static_cast<int>(options.threads);
    const std::unique_ptr<Model>& result = kept_[source.part];
    if (source.compressed && result != nullptr) {
      made.maker = result->clone();
    } else {
      MCOMPRESS_ASSIGN(LoadedModel loaded, load(files_[source.part].model, console_));
      made.maker = std::move(loaded.model);
    }
    MCOMPRESS_ASSIGN(const Job job, job_of(source.part, taken_[source.part]));
    const bool chained = product_.parts[source.part].source.has_value();
    MCOMPRESS_ASSIGN(made.samples, chained ? made_samples(source.part, job.options, *made.maker)
                                           : open_samples(job.options.calib, *made.maker,
                                                          job.options, 0, console_));
    if (has_calibration_data(options)) {
      MCOMPRESS_ASSIGN(const auto inputs, results_for(*made.maker, model, made.results, made.part));
      std::vector<PortInfo> ports = ports_of(model);
      std::erase_if(ports, [&inputs](const PortInfo& port) {
        return std::ranges::any_of(inputs, [&](const auto& to) { return to.second == port.name; });
      });
      MCOMPRESS_ASSIGN(made.rest,
                       open_samples_for(options.calib, model, ports, options, 0, console_));
    }
    auto opened = open_made_samples(std::move(made), model);
    if (opened.ok()) return opened;
    Error error = std::move(opened).error();
    if (error.code == Code::kUsage) error.diagnostic.where = source.given.where();
    return error;
  }

  // Whether a part is calibrated on the result of this one.
  bool is_source(std::size_t part) const {
    return std::ranges::any_of(product_.parts, [part](const ProductPart& other) {
      return other.source && other.source->compressed && other.source->part == part;
    });
  }

  // The first choice whose result satisfies the gates.
  Status compress_part(std::size_t index, const ByteBudget& budget) {
    const ProductPart& part = product_.parts[index];
    PartResult& result = results_[index];
    result.limit = budget.limit(index);
    for (std::size_t i = 0; i < part.choices.size(); ++i) {
      const bool last = i + 1 == part.choices.size();
      result.recipe = part.choices[i].label;
      console_.say("part " + part.name + ": " + result.recipe +
                   (result.limit > 0 ? ", at most " + grouped(result.limit) + " bytes" : ""));
      MCOMPRESS_ASSIGN(Job job, job_of(index, i));
      if (result.limit > 0 && !(last && budget.may_pass(index))) limit_bytes(job, result.limit);
      if (!last) job.options.write_missed = false;
      job.outputs = &outputs_;
      taken_[index] = i;
      if (part.source) {
        job.calibration = [this, index, options = job.options](const Model& model) {
          return made_samples(index, options, model);
        };
      }
      if (is_source(index)) {
        job.made = [this, index](const Model& result) {
          kept_[index] = result.clone();
          return ok_status();
        };
      }
      Datum report;
      job.reported = [&report](const std::string& text) -> Status {
        MCOMPRESS_ASSIGN(report, datum_from_json(text, "report"));
        return ok_status();
      };
      Status status = compress(std::move(job), console_);
      if (!report.is_null()) {
        MCOMPRESS_ASSIGN(result.figures, result_of_report(report, part.name));
        result.figures.label = part.name;
        result.report = std::move(report);
        return status;
      }
      Error error = std::move(status).error();
      const bool next = error.code == Code::kGateMissed || error.code == Code::kUnsupported;
      if (last || !next) {
        if (error.diagnostic.where.subject.empty()) {
          error.diagnostic.where.subject = "part " + part.name;
        }
        return error;
      }
      console_.say("part " + part.name + ": not " + result.recipe + ": " +
                   error.diagnostic.message);
      result.tried.push_back({result.recipe, error.diagnostic.message});
    }
    return ok_status();
  }

  static void limit_bytes(Job& job, std::uint64_t limit) {
    job.choose_recipe = [choose = std::move(job.choose_recipe), limit](
                            const Model& model, ReportScope& report) -> Result<Recipe> {
      MCOMPRESS_ASSIGN(Recipe recipe, choose(model, report));
      const Datum* own = recipe.gates.find("max-bytes");
      if (own != nullptr) {
        const auto bytes = parse_size(option_text(*own), {});
        if (bytes.ok() && *bytes <= limit) return recipe;
      }
      if (recipe.gates.is_null()) recipe.gates = Datum::map();
      recipe.gates.set("max-bytes", Datum::string(std::to_string(limit)));
      return recipe;
    };
  }

  Status finish(Status met) {
    const std::string text = json_text(report());
    if (!run_.base.dry_run) {
      if (!run_.base.report.empty() && run_.base.report != "-") {
        MCOMPRESS_TRY(outputs_.add_text(run_.base.report, text));
      }
      MCOMPRESS_TRY(outputs_.commit());
    } else if (!run_.base.report.empty() && run_.base.report != "-") {
      MCOMPRESS_TRY(write_file(run_.base.report, text));
    }
    if (run_.base.json || run_.base.report == "-") MCOMPRESS_TRY(console_.print(text));
    console_.say(table());
    if (met.ok()) return met;
    Error error = std::move(met).error();
    error.diagnostic.hint = run_.base.dry_run ? "" : "written nevertheless: --write-missed";
    return error;
  }

  Datum report() const {
    const auto bytes = [](std::uint64_t count) {
      Datum map = Datum::map();
      map.set("bytes", Datum::integer(static_cast<std::int64_t>(count)));
      return map;
    };
    Datum map = Datum::map();
    map.set("schema", Datum::string("mcompress-product"));
    map.set("schema_version", Datum::integer(1));
    map.set("command", Datum::string("run"));
    map.set("tool_version", Datum::string(kVersion));
    map.set("name", Datum::string(product_.name));
    map.set("dry_run", Datum::boolean(run_.base.dry_run));
    map.set("input", bytes(bytes_before_));
    map.set("output", bytes(bytes_after_));
    if (allowed_ > 0) {
      map.set("max_bytes", Datum::integer(static_cast<std::int64_t>(allowed_)));
    }
    Datum parts = Datum::list();
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const PartResult& result = results_[i];
      Datum part = Datum::map();
      part.set("name", Datum::string(product_.parts[i].name));
      part.set("output", Datum::string(files_[i].output));
      part.set("recipe", Datum::string(result.recipe));
      if (result.limit > 0) {
        part.set("max_bytes", Datum::integer(static_cast<std::int64_t>(result.limit)));
      }
      Datum tried = Datum::list();
      for (const PartResult::Tried& one : result.tried) {
        Datum entry = Datum::map();
        entry.set("recipe", Datum::string(one.recipe));
        entry.set("why", Datum::string(one.why));
        tried.push(std::move(entry));
      }
      part.set("tried", std::move(tried));
      part.set("report", result.report);
      parts.push(std::move(part));
    }
    map.set("parts", std::move(parts));
    return map;
  }

  std::string table() const {
    Table table;
    table.row({"part", "recipe", "before", run_.base.dry_run ? "planned" : "after", "ratio",
               "quality", "SQNR"});
    const auto row = [&](const std::string& name, const std::string& recipe, std::uint64_t before,
                         std::uint64_t after, const std::string& quality, const std::string& db) {
      table.row(
          {name, recipe, grouped(before), grouped(after), ratio_text(before, after), quality, db});
    };
    for (const PartResult& result : results_) {
      const ReportResult& figures = result.figures;
      row(figures.label, result.recipe, figures.bytes_before, figures.bytes_after,
          quality_text(figures), decibels(figures.sqnr_db));
    }
    row("all", "", bytes_before_, bytes_after_, "", "");
    return table.text();
  }

  // What would run, to run again: conditions decided, every option spelled out, paths absolute.
  Status print() {
    Datum parts = Datum::list();
    for (std::size_t i = 0; i < product_.parts.size(); ++i) {
      const ProductPart& part = product_.parts[i];
      std::error_code ignored;
      Datum entry = Datum::map();
      entry.set("name", Datum::string(part.name));
      entry.set("model",
                Datum::string(fs::absolute(files_[i].model, ignored).lexically_normal().string()));
      entry.set("output", Datum::string(files_[i].output));
      if (part.bytes_share > 0) entry.set("bytes-share", Datum::real(part.bytes_share));
      if (product_.gates.max_drop < 100 || product_.gates.min_sqnr > 0) {
        entry.set("quality-share", Datum::real(part.quality_share));
      }
      if (part.source) {
        MCOMPRESS_ASSIGN(const Job job, job_of(i, 0));
        Datum data = data_of(job.options);
        if (data.is_null()) data = Datum::map();
        data.set("from", part.source->given);
        entry.set("data", std::move(data));
      }
      Datum choices = Datum::list();
      std::optional<Error> unfit;
      for (std::size_t j = 0; j < part.choices.size(); ++j) {
        MCOMPRESS_ASSIGN(Job job, job_of(i, j));
        job.reported = [&choices](const std::string& text) -> Status {
          MCOMPRESS_ASSIGN(Datum recipe, datum_from_json(text, "recipe"));
          choices.push(std::move(recipe));
          return ok_status();
        };
        Status status = compress(std::move(job), console_);
        if (status.ok()) continue;
        if (status.error().code != Code::kUnsupported) return status;
        unfit = std::move(status).error();  // passed over when it runs, too
      }
      if (choices.as_list()->empty()) return *unfit;
      entry.set("recipe", std::move(choices));
      parts.push(std::move(entry));
    }
    Datum map = Datum::map();
    map.set("version", Datum::integer(kRecipeVersion));
    if (!product_.name.empty()) map.set("name", Datum::string(product_.name));
    if (!product_.summary.empty()) map.set("summary", Datum::string(product_.summary));
    if (!product_.gates_given.is_null()) map.set("gates", product_.gates_given);
    map.set("parts", std::move(parts));
    return console_.print(json_text(map));
  }

  const Product& product_;
  const ProductRun& run_;
  Console& console_;
  std::vector<PartFiles> files_;
  std::vector<PartResult> results_;
  std::vector<std::unique_ptr<Model>> kept_;  // results that others are calibrated on; else null
  std::vector<std::size_t> taken_;            // the choice of each part
  std::uint64_t bytes_before_ = 0, bytes_after_ = 0, allowed_ = 0;
  OutputSet outputs_;
};

}  // namespace

Status run_product(const ProductRun& run, Console& console) {
  return ProductWork(run, console).work();
}

}  // namespace mcompress::tools
