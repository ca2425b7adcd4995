// Lossless forms of a model: an archive, or operators that decode themselves.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "mcompress/archive.h"
#include "mcompress/host.h"
#include "mcompress/options.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

struct PackFlags {
  std::string form = "archive";
  bool only_weights = false;
  std::string effort = "thorough";
  std::int64_t top = 10;

  static const Schema<PackFlags>& schema() {
    static const Schema<PackFlags> kSchema =
        Schema<PackFlags>()
            .field("form", &PackFlags::form,
                   "archive: smallest, read by mcompress and by archive_c.h; onnx: a model that a "
                   "runtime decodes while it loads")
            .choices({"archive", "onnx"})
            .field("only-weights", &PackFlags::only_weights,
                   "an archive of the initializers, without the graph")
            .field("effort", &PackFlags::effort,
                   "thorough looks for repeats too; fast leaves them be, several times as quick")
            .choices({"thorough", "fast"})
            .field("top", &PackFlags::top, "tensors listed, the largest first")
            .range(0, 1e6)
            .unit("N");
    return kSchema;
  }
};

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0
             ? "-"
             : decimal_text(100.0 * static_cast<double>(part) / static_cast<double>(whole), 2) +
                   " %";
}

Datum number(std::uint64_t value) { return Datum::integer(static_cast<std::int64_t>(value)); }

class Pack final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    flags.add(PackFlags::schema().specs(), "Form");
    static constexpr std::string_view kRecipes[] = {"pack-onnx"};
    specs_ = options_of_recipes(kRecipes);
    if (!specs_.empty()) flags.add(specs_, "Options of passes, for --form onnx");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("pack"));
    Diagnostics diagnostics;
    const auto& schema = PackFlags::schema();
    MCOMPRESS_ASSIGN(const PackFlags given,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    wanted.pass_flags = flags_->given(specs_);
    if (given.form == "onnx") {
      if (given.only_weights) {
        return Error(Code::kUsage, "weights-in-onnx", "a model needs its graph",
                     {{}, "--only-weights", {}}, "it goes with --form archive");
      }
      MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("pack-onnx"));
      MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
      wanted.choose_recipe = always(std::move(recipe));
      wanted.must_compress = true;
      return compress(std::move(wanted), console);
    }
    if (!std::get<Datum::Map>(wanted.pass_flags.value()).empty()) {
      return Error(Code::kUsage, "option-of-other-form", "options of passes go with --form onnx",
                   {{}, "--form", {}});
    }
    return archive(wanted, given, console);
  }

 private:
  Status archive(const Job& wanted, const PackFlags& given, Console& console) const {
    std::string output = wanted.options.output;
    const bool dry = wanted.options.dry_run;
    if (dry && output.empty())
      output = (std::filesystem::temp_directory_path() / "dry.mca").string();
    if (output.empty()) {
      return Error(Code::kUsage, "no-output", "the output is missing", {{}, "--output", {}},
                   "write -o FILE");
    }
    if (output == "-") {
      return Error(Code::kUsage, "archive-to-standard-output", "an archive is written to a file",
                   {{}, "--output", {}});
    }
    const std::string inputs[] = {wanted.input};
    MCOMPRESS_TRY(check_overwrites(output, "output", inputs));
    MCOMPRESS_TRY(check_writable(output));
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(wanted.input, console));
    PackOptions options;
    options.only_weights = given.only_weights;
    options.allow_larger = wanted.options.allow_larger;
    options.dry_run = dry;
    options.effort = given.effort == "fast" ? CodingEffort::kFast : CodingEffort::kThorough;
    options.threads = static_cast<int>(wanted.options.jobs);
    MCOMPRESS_ASSIGN(PackedModel packed, pack_model(*loaded.model, output, options, console));
    if (wanted.options.json) MCOMPRESS_TRY(console.print(result_json(as_datum(packed))));
    if (!console.options().quiet) console.say(as_text(output, std::move(packed), given.top));
    return ok_status();
  }

  static std::string as_text(const std::string& output, PackedModel packed, std::int64_t top) {
    std::string text = file_name(output) + ": " + bytes_text(packed.archive) + " of " +
                       bytes_text(packed.bytes) + ", " + percent(packed.archive, packed.bytes) +
                       "; decoded and compared";
    std::stable_sort(
        packed.tensors.begin(), packed.tensors.end(),
        [](const PackedTensor& a, const PackedTensor& b) { return a.bytes > b.bytes; });
    const std::size_t shown = std::min(packed.tensors.size(), static_cast<std::size_t>(top));
    if (shown == 0) return text;
    Table table;
    table.row({"tensor", "bytes", "coded", "of it"});
    for (std::size_t i = 0; i < shown; ++i) {
      const PackedTensor& tensor = packed.tensors[i];
      table.row({tensor.name, grouped(tensor.bytes), grouped(tensor.coded),
                 tensor.coded == 0 ? "as another" : percent(tensor.coded, tensor.bytes)});
    }
    text += "\n" + table.text();
    if (shown < packed.tensors.size()) {
      text += "and " + std::to_string(packed.tensors.size() - shown) + " more (--top)";
    }
    return text;
  }

  static Datum as_datum(const PackedModel& packed) {
    Datum map = Datum::map();
    map.set("bytes", number(packed.bytes));
    map.set("archive_bytes", number(packed.archive));
    Datum tensors = Datum::list();
    for (const PackedTensor& tensor : packed.tensors) {
      Datum entry = Datum::map();
      entry.set("name", Datum::string(tensor.name));
      entry.set("bytes", number(tensor.bytes));
      entry.set("coded_bytes", number(tensor.coded));
      tensors.push(std::move(entry));
    }
    map.set("tensors", std::move(tensors));
    return map;
  }

  std::vector<OptionSpec> specs_;
};

}  // namespace

std::unique_ptr<Command> make_pack() { return std::make_unique<Pack>(); }

}  // namespace mcompress::tools
