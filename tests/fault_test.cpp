// Every call to the file system that any command makes fails once, and the disk fills up at every
// write: the exit status says on which side the trouble was, one sentence names the file, and the
// folders are as they were. The library is linked with the file system below instead of its own.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>

#include "app.h"
#include "mcompress/io.h"
#include "support/arrays.h"
#include "support/faulty_files.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress {

namespace testing {
namespace {
FaultyFiles& faulty() {
  static FaultyFiles files;
  return files;
}
}  // namespace
}  // namespace testing

FileSystem& real_files() { return testing::faulty(); }

namespace testing {
namespace {

namespace fs = std::filesystem;
using Side = FaultyFiles::Side;

// What is written to a descriptor while this lives.
class Captured {
 public:
  explicit Captured(int descriptor)
      : descriptor_(descriptor), kept_(::dup(descriptor)), memory_(::memfd_create("captured", 0)) {
    ::dup2(memory_, descriptor_);
  }
  ~Captured() {
    ::dup2(kept_, descriptor_);
    ::close(kept_);
    ::close(memory_);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  std::string text() const {
    std::string text(static_cast<std::size_t>(::lseek(memory_, 0, SEEK_END)), '\0');
    const ssize_t got = ::pread(memory_, text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return text;
  }

 private:
  int descriptor_, kept_, memory_;
};

struct Ended {
  int status = 0;
  std::string out, err;
};

Ended run(const std::vector<std::string>& arguments) {
  std::fflush(stdout);
  std::fflush(stderr);
  Ended ended;
  const Captured out(STDOUT_FILENO), err(STDERR_FILENO);
  {
    tools::Console console;
    ended.status = tools::run_command_line(arguments, console);
  }
  std::fflush(stdout);
  std::fflush(stderr);
  ended.out = out.text();
  ended.err = err.text();
  return ended;
}

using Snapshot = std::map<std::string, std::string>;

Snapshot snapshot(const fs::path& root) {
  Snapshot found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = entry.path().lexically_relative(root).string();
    found[name] = entry.is_directory() ? "folder" : read_file(entry.path());
  }
  return found;
}

// "out/.model.onnx.mcompress-12-3.tmp" is about "model.onnx".
std::string asked_for(const std::string& path) {
  std::string name = file_name_of(path);
  if (name.starts_with('.') && name.find(".mcompress-") != std::string::npos) {
    name = name.substr(1, name.rfind(".mcompress-") - 1);
  }
  return name;
}

struct Command {
  std::string name;
  std::vector<std::string> arguments;
  bool same_stdout = true;  // false: times are printed
  int least_calls = 3;
};

class Faults : public ::testing::Test {
 protected:
  Faults() {
    faulty().reset();
    fs::current_path(root_.path());
    for (const char* folder : {"in", "in/weights", "in/rows", "in/sets", "in/sets/test_data_set_0",
                               "in/sets/test_data_set_1", "out", "tmp"}) {
      fs::create_directory(folder);
    }
    ::setenv("TMPDIR", (root_ / "tmp").c_str(), 1);
    make_inputs();
  }
  ~Faults() override {
    faulty().reset();
    fs::current_path(home_);
    ::unsetenv("TMPDIR");
  }

  static std::string network(std::string_view seed) {
    const std::string mark(seed);
    return "<ir_version: 8, opset_import: [\"\" : 17]> net (float[N,32] x) => (float[N,10] y) <" +
           weights(mark + "first", {32, 64}) + ", " + weights("b", {64}) + ", " +
           weights("second", {64, 10}) + "> { i = Identity(x) m = MatMul(i, " + mark +
           "first) s = Add(m, b) r = Relu(s) "
           "y = MatMul(r, second) }";
  }

  void save(const std::string& text, const std::string& path,
            SaveOptions::External external = SaveOptions::External::kAuto) {
    const auto model = model_from_text(text);
    SaveOptions options;
    options.external = external;
    options.external_threshold = 256;
    ASSERT_TRUE(save_model(*model, path, options, silent_progress()).ok());
  }

  void make_inputs() {
    save(network(""), "in/net.onnx");
    save(network("other"), "in/other.onnx");
    save(network(""), "in/apart.onnx", SaveOptions::External::kAlways);
    // Nothing to do, and its weights lie in a folder below.
    save("<ir_version: 8, opset_import: [\"\" : 17]> done (float[2,32] x) => (float[2,64] y) <" +
             weights("w", {32, 64}) + "> { y = MatMul(x, w) }",
         "in/done.onnx", SaveOptions::External::kAlways);
    std::string bytes = read_file("in/done.onnx");
    const std::string from = "done.onnx.data", to = "weights/d.data";
    bytes.replace(bytes.find(from), from.size(), to);
    write_file("in/done.onnx", bytes);
    fs::rename("in/done.onnx.data", "in/weights/d.data");

    save("<ir_version: 8, opset_import: [\"\" : 17]> rows (int64[N] x) => (float[N,16] y) <" +
             weights("t", {64, 16}, 0.5F, 0.5F) + "> { y = Gather(t, x) }",
         "in/table.onnx");
    const Ended packed = run({"pack", "in/net.onnx", "-o", "in/net.mca", "-q"});
    ASSERT_EQ(packed.status, 0) << packed.err;

    constexpr std::int64_t kRows = 6;
    std::vector<float> values(kRows * 32);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i * 37 % 101) / 50 - 1;
    }
    const std::string x = npy_floats({kRows, 32}, values);
    const std::vector<std::int64_t> numbers = {1, 2, 3, 4, 5, 6};
    const std::string labels = npy("<i8", {kRows}, numbers);
    write_npz("in/deflated.npz", {{"x", x}});
    write_npz("in/stored.npz", {{"x", x}, {"labels", labels}}, Packing::kStored);
    write_file("in/x.npy", x);
    for (int i = 0; i < 2; ++i) {
      const std::vector<float> row(values.begin() + 32 * i, values.begin() + 32 * (i + 1));
      const std::string number = std::to_string(i);
      write_file("in/rows/x_" + number + ".npy", npy_floats({1, 32}, row));
      NamedTensor tensor;
      tensor.name = "x";
      const auto raw = std::as_bytes(std::span(row));
      tensor.tensor = make_bytes_tensor(DataType::kFloat, {1, 32}, {raw.begin(), raw.end()});
      write_file("in/sets/test_data_set_" + number + "/input_0.pb",
                 tensor_file_bytes(tensor).value());
    }
    write_file("in/recipe.yaml", "name: mine\npasses: [eliminate-identity, quantize-weights]\n");
    write_file("in/parts.yaml",
               "name: two\nparts:\n  - {name: a, model: net.onnx, recipe: recipe.yaml}\n"
               "  - {name: b, model: apart.onnx, recipe: optimize, output: model.onnx}\n");
    const Ended planned =
        run({"plan", "in/recipe.yaml", "in/net.onnx", "-o", "in/plan.yaml", "-q"});
    ASSERT_EQ(planned.status, 0) << planned.err;
    for (const char* part : {"a", "b"}) {
      const std::string data = std::string("in/") + (*part == 'a' ? "stored.npz" : "rows");
      const Ended made = run({"calibrate", "in/net.onnx", "--calib", data, "-o",
                              std::string("in/") + part + ".json", "-q"});
      ASSERT_EQ(made.status, 0) << made.err;
    }
    const Ended gate = run({"gate", "in/net.onnx", "--baseline", "in/gate.json", "--reference",
                            "in/net.onnx", "--eval", "in/stored.npz", "--update", "-q"});
    ASSERT_EQ(gate.status, 0) << gate.err;
    for (const char* old : {"out/model.onnx", "out/model.onnx.data", "out/report.json"}) {
      write_file(old, std::string("old ") + old);
    }
    fs::copy("in/net.onnx", "out/in-place.onnx");
  }

  // Everything as it was.
  void restore(const Snapshot& before) {
    std::set<std::string> strange;
    for (const auto& [name, content] : snapshot(root_.path())) {
      if (!before.contains(name)) strange.insert(name);
    }
    for (const std::string& name : strange) fs::remove_all(root_ / name);
    for (const auto& [name, content] : before) {
      if (content == "folder") {
        fs::create_directories(root_ / name);
      } else if (read_file(root_ / name) != content) {
        write_file(root_ / name, content);
      }
    }
  }

  // After a failure: the right status, one sentence, nothing changed.
  static void expect_refused(const Ended& ended, const FaultyFiles::Fault& fault) {
    std::set<int> allowed;
    if (fault.side != Side::kWriting) allowed.insert(2);
    if (fault.side != Side::kReading) allowed.insert(4);
    EXPECT_TRUE(allowed.contains(ended.status)) << ended.status << ": " << ended.err;
    const std::string mark = "mcompress: error: ";
    const std::size_t at = ended.err.find(mark);
    ASSERT_NE(at, std::string::npos) << ended.err;
    EXPECT_EQ(ended.err.find(mark, at + 1), std::string::npos) << ended.err;
    const std::string sentence = ended.err.substr(at + mark.size());
    EXPECT_EQ(sentence.find('\n'), sentence.size() - 1) << sentence;
    EXPECT_NE(sentence.find(asked_for(fault.path)), std::string::npos)
        << "about " << fault.path << ": " << sentence;
  }

  struct Expected {
    Ended ended;
    Snapshot after;
    std::int64_t calls = 0;
  };

  Expected undisturbed(const Command& command, const Snapshot& before) {
    faulty().reset();
    Expected expected;
    expected.ended = run(command.arguments);
    expected.calls = faulty().calls();
    expected.after = snapshot(root_.path());
    EXPECT_EQ(expected.ended.status, 0) << expected.ended.err;
    restore(before);
    return expected;
  }

  void expect_done(const Command& command, const Ended& ended, const Expected& expected) {
    EXPECT_EQ(ended.status, 0) << ended.err;
    EXPECT_EQ(ended.err.find("error"), std::string::npos) << ended.err;
    if (command.same_stdout) {
      EXPECT_EQ(ended.out, expected.ended.out);
    }
    EXPECT_TRUE(snapshot(root_.path()) == expected.after);
  }

  void expect_unchanged(const Snapshot& before) {
    const Snapshot after = snapshot(root_.path());
    for (const auto& [name, content] : after) {
      // The graph after each pass was asked for as far as passes came.
      const bool dump = name.starts_with("out/dumps") && !name.ends_with(".tmp");
      if (dump) continue;
      const auto found = before.find(name);
      if (found == before.end()) {
        ADD_FAILURE() << name << " was left behind";
      } else {
        EXPECT_TRUE(found->second == content) << name << " is another";
      }
    }
    for (const auto& [name, content] : before) EXPECT_TRUE(after.contains(name)) << name;
  }

  // Call n fails once, n = 1, 2, 3... until there is no such call.
  void fail_each_call(const Command& command) {
    const Snapshot before = snapshot(root_.path());
    const Expected expected = undisturbed(command, before);
    ASSERT_GE(expected.calls, command.least_calls);
    int failures = 0, got_round = 0;
    for (std::int64_t n = 1;; ++n) {
      ASSERT_LT(n, 2000);
      faulty().reset();
      faulty().fail_at = n;
      faulty().fail_once = true;
      const Ended ended = run(command.arguments);
      const auto fault = faulty().fault();
      faulty().reset();
      if (!fault) {
        expect_done(command, ended, expected);
        restore(before);
        break;
      }
      SCOPED_TRACE(command.name + ": call " + std::to_string(n) + ", " + fault->call + " of " +
                   fault->path);
      // Some failures have a way round: then the result is the same.
      if (ended.status == 0) {
        ++got_round;
        EXPECT_TRUE(has_a_way_round(*fault)) << "the failure went unnoticed";
        expect_done(command, ended, expected);
      } else {
        ++failures;
        expect_refused(ended, *fault);
        expect_unchanged(before);
      }
      restore(before);
      if (HasFatalFailure()) return;
    }
    std::cout << command.name << ": " << failures << " failures refused, " << got_round
              << " got round\n";
    EXPECT_EQ(failures > 0, command.least_calls > 0);
  }

  // A mapping is replaced by reading, copying inside the kernel by copying by hand, a link by a
  // rename; a folder that can not be flushed and a file that was read and can not be closed are
  // nothing to stop for. Where no temporary file can be made, the runtime gets copies of the
  // weights.
  bool has_a_way_round(const FaultyFiles::Fault& fault) const {
    if (fault.path.starts_with((root_ / "tmp").string())) return true;
    if (fault.call == "mmap" || fault.call == "link") return true;
    if (fault.call == "close" || fault.call == "fsync") return fault.side == Side::kReading;
    return fault.call == "open" && fs::is_directory(fault.path);
  }

  // The disk is full after so many bytes.
  void fill_the_disk(const Command& command) {
    const Snapshot before = snapshot(root_.path());
    const Expected expected = undisturbed(command, before);
    for (std::uint64_t space = 0;; space = space * 2 + 1) {
      ASSERT_LT(space, 1U << 24);
      faulty().reset();
      faulty().space = space;
      const Ended ended = run(command.arguments);
      faulty().reset();
      SCOPED_TRACE(command.name + ": " + std::to_string(space) + " bytes free");
      if (ended.status == 0) {
        expect_done(command, ended, expected);
        restore(before);
        return;
      }
      EXPECT_EQ(ended.status, 4) << ended.err;
      EXPECT_NE(ended.err.find("No space left"), std::string::npos) << ended.err;
      expect_unchanged(before);
      restore(before);
    }
  }

  // A file system that does less than asked, is interrupted, and lacks what not all have.
  void use_a_poor_file_system(const Command& command) {
    const Snapshot before = snapshot(root_.path());
    const Expected expected = undisturbed(command, before);
    faulty().reset();
    faulty().step = 1000;
    faulty().interrupts = true;
    faulty().can_map = faulty().can_link = faulty().can_copy_range = false;
    const Ended ended = run(command.arguments);
    faulty().reset();
    SCOPED_TRACE(command.name);
    expect_done(command, ended, expected);
    restore(before);
  }

  static std::vector<Command> commands() {
    const std::string net = "in/net.onnx", out = "out/model.onnx";
    const auto calibrate = [&](const char* name, const char* data) {
      return Command{name, {"calibrate", net, "--calib", data, "-o", "out/table.json"}, true, 15};
    };
    return {
        {"inspect", {"inspect", net}},
        {"inspect-json", {"inspect", "in/apart.onnx", "--json"}, true, 8},
        {"inspect-dump", {"inspect", "in/apart.onnx", "--dump"}, true, 8},
        {"inspect-passes", {"inspect", net, "--passes"}},
        {"inspect-measure", {"inspect", net, "--measure", "--data", "in/stored.npz"}, true, 6},
        {"inspect-dot", {"inspect", net, "--dot", "out/graph.dot"}, true, 10},
        {"optimize", {"optimize", net, "-o", out, "--report", "out/report.json"}, true, 25},
        {"in-place", {"optimize", "out/in-place.onnx", "-o", "out/in-place.onnx"}, true, 12},
        {"to-stdout", {"optimize", net, "-o", "-"}},
        {"external", {"optimize", "in/apart.onnx", "-o", out}, true, 25},
        {"copy", {"optimize", "in/done.onnx", "-o", "out/copy.onnx"}, true, 25},
        {"dumps",
         {"optimize", net, "-o", out, "--dump-passes", "out/dumps", "--only",
          "eliminate-identity,eliminate-dead"},
         true,
         30},
        {"convert-opset", {"convert-opset", net, "-o", out, "--to", "13"}, true, 12},
        {"weight-only",
         {"quantize", net, "-o", out, "--mode", "weight-only", "--external-data", "always"},
         true,
         20},
        {"dynamic",
         {"quantize", net, "-o", out, "--mode", "dynamic", "--min-elements", "64"},
         true,
         12},
        {"static",
         {"quantize", net, "-o", out, "--calib", "in/deflated.npz", "--eval", "in/stored.npz"},
         false,
         30},
        {"static-folder", {"quantize", net, "-o", out, "--calib", "in/rows"}, true, 30},
        {"table", {"quantize", net, "-o", out, "--table", "in/a.json"}, true, 15},
        calibrate("calibrate-stored", "in/stored.npz"),
        calibrate("calibrate-deflated", "in/deflated.npz"),
        calibrate("calibrate-array", "in/x.npy"),
        calibrate("calibrate-rows", "in/rows"),
        calibrate("calibrate-sets", "in/sets"),
        {"merge",
         {"calibrate", "--merge", "in/a.json", "in/b.json", "-o", "out/table.json"},
         true,
         12},
        {"plan", {"plan", "in/recipe.yaml", net, "-o", "out/plan.yaml"}, true, 12},
        {"apply", {"apply", "in/plan.yaml", net, "-o", out}, true, 12},
        {"explain", {"explain", net, "--recipe", "in/plan.yaml"}, true, 8},
        {"diff", {"diff", net, "in/other.onnx", "--json", "--dot", "out/graph.dot"}, true, 12},
        {"compare", {"compare", net, "in/other.onnx", "--data", "in/stored.npz"}, true, 12},
        {"eval", {"eval", "in/other.onnx", "--data", "in/stored.npz", "--against", net}, true, 12},
        {"bench",
         {"bench", net, "--against", "in/apart.onnx", "--data", "in/x.npy", "--runs", "1",
          "--loads", "1"},
         false,
         12},
        {"gate",
         {"gate", net, "--baseline", "in/gate.json", "--reference", net, "--eval", "in/stored.npz",
          "--junit", "out/gate.xml", "--markdown", "out/gate.md"},
         true,
         20},
        {"gate-update",
         {"gate", net, "--baseline", "out/gate.json", "--reference", net, "--eval", "in/stored.npz",
          "--calib", "in/deflated.npz", "--recipe", "in/recipe.yaml", "--junit", "out/gate.xml",
          "--update"},
         true,
         20},
        {"sensitivity",
         {"sensitivity", net, "--calib", "in/stored.npz", "--mode", "weight-only", "-o",
          "out/exclude.txt"},
         true,
         12},
        {"report",
         {"report", "in/other.onnx", "--reference", net, "-o", "out/page.html"},
         true,
         12},
        {"report-data",
         {"report", "in/other.onnx", "--reference", net, "--eval", "in/stored.npz", "--metric",
          "agreement", "--events", "out/events.jsonl"},
         true,
         12},
        {"search",
         {"search", net, "-o", out, "--calib", "in/stored.npz", "--max-drop", "50", "--forms",
          "int8", "--evaluations", "3"},
         true,
         15},
        {"drift", {"drift", net, "in/a.json", "--data", "in/stored.npz"}, true, 12},
        {"samples-auto",
         {"calibrate", net, "--calib", "in/stored.npz", "--samples", "auto", "-o",
          "out/table.json"},
         true,
         12},
        {"run", {"run", "in/recipe.yaml", net, "-o", out}, true, 12},
        {"run-parts",
         {"run", "in/parts.yaml", "in", "-o", "out", "--report", "out/report.json"},
         true,
         40},
        {"run-parts-new", {"run", "in/parts.yaml", "-o", "out/new/below", "--json"}, true, 40},
        {"factorize",
         {"factorize", net, "-o", out, "--keep", "0.5", "--min-elements", "64"},
         true,
         12},
        {"tables", {"tables", "in/table.onnx", "-o", out, "--min-elements", "64"}, true, 12},
        {"prune",
         {"prune", net, "-o", out, "--sparsity", "0.5", "--calib", "in/stored.npz", "--ends"},
         true,
         12},
        {"cluster", {"cluster", net, "-o", out, "--bits", "4", "--min-elements", "64"}, true, 12},
        {"pack", {"pack", net, "-o", "out/model.mca"}, true, 12},
        {"unpack", {"unpack", "in/net.mca", "-o", out}, true, 12},
        {"passes", {"passes"}, true, 0},
        {"targets", {"targets"}, true, 0},
        {"schema", {"schema", "recipe"}, true, 0},
        {"completions", {"completions", "bash", "-o", "out/mcompress"}, true, 3},
        {"man", {"man", "quantize"}, true, 0},
    };
  }

 private:
  const fs::path home_ = fs::current_path();
  const TempFolder root_;
};

TEST_F(Faults, EveryFailedCallOfEveryCommandIsReportedAndChangesNothing) {
  for (const Command& command : commands()) fail_each_call(command);
}

TEST_F(Faults, AFullDiskIsReportedAndChangesNothing) {
  for (const Command& command : commands()) fill_the_disk(command);
}

TEST_F(Faults, ShortInterruptedAndMissingCallsGiveTheSameResult) {
  for (const Command& command : commands()) use_a_poor_file_system(command);
}

TEST_F(Faults, EveryCommandIsThere) {
  std::set<std::string> tried;
  for (const Command& command : commands()) tried.insert(command.arguments.front());
  tried.insert("batch");  // its jobs are processes of their own: cli.batch kills them
  for (const tools::CommandInfo& info : tools::all_commands()) {
    EXPECT_TRUE(tried.contains(std::string(info.name))) << info.name;
  }
}

// Results above the budget of memory go to a file without a name.
TEST_F(Faults, SpilledTensorsReportWhatFails) {
  constexpr std::int64_t kElements = 5 << 18;  // 5 MiB of floats
  const auto fill = [](std::uint64_t offset, std::span<std::byte> bytes) {
    std::ranges::fill(bytes, static_cast<std::byte>(offset >> 22));
    return ok_status();
  };
  const auto make = [&] {
    return make_tensor_factory(0)->make(DataType::kFloat, {kElements}, fill);
  };
  faulty().interrupts = true;
  ASSERT_TRUE(make().ok());
  for (std::int64_t n = 1;; ++n) {
    faulty().reset();
    faulty().fail_at = n;
    faulty().fail_once = true;
    const auto made = make();
    const auto fault = faulty().fault();
    if (!fault) {
      EXPECT_GT(n, 3);
      break;
    }
    SCOPED_TRACE(fault->call);
    if (fault->call == "close") {
      EXPECT_TRUE(made.ok());
      continue;
    }
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code, Code::kOutput);
    EXPECT_NE(to_string(made.error().diagnostic).find("/tmp"), std::string::npos);
    EXPECT_TRUE(fs::is_empty("tmp"));
  }
}

}  // namespace
}  // namespace testing
}  // namespace mcompress
