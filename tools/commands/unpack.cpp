// An archive back to the model it was made of, byte for byte.
#include <CLI/CLI.hpp>
#include <filesystem>

#include "app.h"
#include "mcompress/archive.h"
#include "mcompress/host.h"
#include "mcompress/options.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

struct UnpackFlags {
  std::string output;
  bool json = false;
  bool dry_run = false;

  static const Schema<UnpackFlags>& schema() {
    static const Schema<UnpackFlags> kSchema =
        Schema<UnpackFlags>()
            .field("output", &UnpackFlags::output,
                   "the model file to write; its data files go where it looks for them")
            .unit("FILE")
            .field("dry-run", &UnpackFlags::dry_run, "decode and check all of it, write nothing")
            .field("json", &UnpackFlags::json, "sizes on standard output");
    return kSchema;
  }
};

class Unpack final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("ARCHIVE", archive_, "what `mcompress pack` wrote")->required()->type_name("");
    flags.add(UnpackFlags::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = UnpackFlags::schema();
    MCOMPRESS_ASSIGN(UnpackFlags given, schema.parse(flags_->given(schema.specs()), diagnostics));
    if (given.dry_run && given.output.empty()) {
      given.output = (std::filesystem::temp_directory_path() / "dry.onnx").string();
    }
    if (given.output.empty() || given.output == "-") {
      return Error(Code::kUsage, "no-output", "the output is missing, or no file",
                   {{}, "--output", {}}, "write -o FILE");
    }
    const std::string inputs[] = {archive_};
    MCOMPRESS_TRY(check_overwrites(given.output, "output", inputs));
    MCOMPRESS_TRY(check_writable(given.output));
    MCOMPRESS_ASSIGN(const SavedModel saved, given.dry_run
                                                 ? check_archive(archive_, given.output, console)
                                                 : unpack_archive(archive_, given.output, console));
    if (given.json) {
      Datum map = Datum::map();
      map.set("model_bytes", Datum::integer(static_cast<std::int64_t>(saved.model_bytes)));
      map.set("data_bytes", Datum::integer(static_cast<std::int64_t>(saved.data_bytes)));
      MCOMPRESS_TRY(console.print(result_json(map)));
    }
    if (!console.options().quiet) {
      console.say(file_name(given.output) + ": " + bytes_text(saved.total()) +
                  ", with the digest of what was packed");
    }
    return ok_status();
  }

 private:
  Flags* flags_ = nullptr;
  std::string archive_;
};

}  // namespace

std::unique_ptr<Command> make_unpack() { return std::make_unique<Unpack>(); }

}  // namespace mcompress::tools
