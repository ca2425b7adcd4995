// prune: the pattern chooses the recipe: zeros in weights, or channels, heads and blocks that go.
#include <algorithm>
#include <filesystem>

#include "gates.h"
#include "mcompress/host.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

// Patterns that make tensors smaller; structured: all of them.
constexpr std::string_view kStructured[] = {"structured", "channels", "heads", "ffn"};

// A file that a pass writes: under another name until the model is there.
class SideFile {
 public:
  SideFile(Datum& pass_flags, std::string_view option) {
    const Datum* given = pass_flags.find(option);
    if (given == nullptr) return;
    path_ = option_text(*given);
    if (path_.empty()) return;
    pass_flags.set(option, Datum::text(path_ + std::string(kUnfinished), given->where()));
  }
  ~SideFile() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_ + std::string(kUnfinished), ignored);
  }
  SideFile(const SideFile&) = delete;
  SideFile& operator=(const SideFile&) = delete;

  const std::string& path() const { return path_; }
  Status keep() {
    if (path_.empty()) return ok_status();
    std::error_code error;
    const std::string unfinished = path_ + std::string(kUnfinished);
    if (!std::filesystem::exists(unfinished, error)) return ok_status();  // nothing was pruned
    std::filesystem::rename(unfinished, path_, error);
    if (!error) return ok_status();
    return Error(Code::kOutput, "output-unwritable",
                 "the file can not be written: " + error.message(), {path_, {}, {}});
  }

 private:
  static constexpr std::string_view kUnfinished = ".partial";
  std::string path_;
};

class Prune final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    specs_ = options_of_recipes(kRecipes);
    for (OptionSpec& spec : specs_) {
      if (spec.name == "pattern") {
        spec.help =
            "unstructured; N:M: of M neighbours along the input N stay, as 2:4; block:RxC: "
            "blocks of R outputs x C inputs go whole; channels, heads, ffn, or all as structured: "
            "tensors shrink; depth: whole residual branches go";
      }
    }
    const auto [own, cleaning] = group_options(specs_, kPasses);
    flags.add(own, "What to prune, and how");
    flags.add(cleaning, "Options of cleaning passes");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("prune"));
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(read_pattern_files(wanted.pass_flags));
    wanted.must_compress = true;
    const Datum* pattern = wanted.pass_flags.find("pattern");
    const std::string text = pattern != nullptr ? option_text(*pattern) : "unstructured";
    const bool structured =
        std::find(std::begin(kStructured), std::end(kStructured), text) != std::end(kStructured);
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe(text == "depth" ? "prune-blocks"
                                                   : structured    ? "prune-channels"
                                                                   : "prune-weights"));
    if (structured || text == "depth") {
      std::erase_if(std::get<Datum::Map>(wanted.pass_flags.value()),
                    [](const auto& entry) { return entry.first == "pattern"; });
    }
    if (structured) {
      wanted.pass_flags.set("kind", Datum::string(text == "structured" ? "all" : text));
    }
    SideFile mask(wanted.pass_flags, "save-mask"), curve(wanted.pass_flags, "curve");
    MCOMPRESS_TRY(check_side_files(wanted, mask.path(), curve.path()));
    MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    const bool dry = wanted.options.dry_run;
    wanted.choose_recipe = always(std::move(recipe));
    MCOMPRESS_TRY(compress(std::move(wanted), console));
    if (dry) return ok_status();
    MCOMPRESS_TRY(mask.keep());
    return curve.keep();
  }

 private:
  static Status check_side_files(const Job& wanted, const std::string& mask,
                                 const std::string& curve) {
    const std::vector<std::string> others = {wanted.input, wanted.options.output,
                                             wanted.options.report, wanted.options.calib,
                                             wanted.options.eval};
    for (const auto& [path, option] : {std::pair<std::string, std::string>(mask, "save-mask"),
                                       std::pair<std::string, std::string>(curve, "curve")}) {
      if (path.empty()) continue;
      MCOMPRESS_TRY(check_overwrites(path, option, others));
      MCOMPRESS_TRY(check_writable(path));
    }
    return ok_status();
  }

  static constexpr std::string_view kRecipes[] = {"prune-weights", "prune-channels",
                                                  "prune-blocks"};
  static constexpr std::string_view kPasses[] = {"prune-weights", "prune-channels", "prune-blocks"};
  std::vector<OptionSpec> specs_;
};

}  // namespace

std::unique_ptr<Command> make_prune() { return std::make_unique<Prune>(); }

}  // namespace mcompress::tools
