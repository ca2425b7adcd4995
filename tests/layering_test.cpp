// Reads every #include of the sources and fails on one that the layer table does not allow.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace mcompress {
namespace {

namespace fs = std::filesystem;

using Allowed = std::map<std::string, std::set<std::string>>;

// Folder -> folders of src it may include. The public headers are open to all but support,
// numeric and codec, which see the few named in kPublicFor.
const Allowed kLayers = {
    {"support", {"support"}},
    {"options", {"options", "support"}},
    {"report", {"report", "support"}},
    {"target", {"target", "support", "embedded_targets.h"}},  // made by the build from its files
    {"numeric", {"numeric", "support"}},
    {"codec", {"codec", "support"}},  // sees no model: whoever has one may see it
    {"ir", {"ir", "support"}},
    {"analysis", {"analysis", "ir", "support"}},
    {"onnx", {"onnx", "codec", "ir", "support"}},
    {"capi", {"capi", "onnx", "support"}},
    {"runtime", {"runtime", "onnx", "ir", "numeric", "support"}},
    {"calibration", {"calibration", "runtime", "onnx", "ir", "numeric", "support"}},
    {"pass", {"pass", "passes", "calibration", "ir", "numeric", "support"}},
    {"passes", {"passes", "ir", "numeric", "codec", "support"}},
    {"search", {"search", "passes", "ir", "numeric", "support"}},  // runs recipes
};
const Allowed kPublicFor = {
    {"support", {"status.h", "options.h", "host.h", "memory.h", "digest.h"}},
    {"numeric", {"status.h", "dtype.h"}},
    {"codec", {"status.h", "codec.h"}},
};
// Third party (prefix of the include) -> the folders that may see it.
const Allowed kThirdParties = {
    {"onnx/", {"onnx"}},
    {"google/protobuf/", {"onnx"}},
    {"onnxruntime", {"runtime"}},
    {"Eigen/", {"numeric"}},
    {"nlohmann/", {"support"}},
    {"yaml-cpp/", {"support"}},
    {"xxhash", {"support"}},
    {"oneapi/", {"support"}},
    {"tbb/", {"support"}},
    {"zip.h", {"support", "calibration"}},
    {"stb", {"calibration"}},
    {"hwy/", {"numeric", "codec"}},
    {"zstd", {"codec"}},
    {"CLI/", {"tools"}},
    {"spdlog/", {"tools"}},
    {"fmt/", {"tools"}},
    {"gtest/", {}},
};

struct Include {
  fs::path file;
  std::string name;
  bool angled = false;
};

std::vector<Include> includes_of(const fs::path& folder) {
  static const std::regex kPattern(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::vector<Include> list;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".cpp" && extension != ".h") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      std::smatch match;
      if (std::regex_search(line, match, kPattern)) {
        list.push_back({entry.path(), match[2], match[1] == "<"});
      }
    }
  }
  return list;
}

const fs::path kRoot = MCOMPRESS_SOURCE_DIR;

TEST(Layering, SourcesIncludeOnlyWhatTheTableAllows) {
  std::size_t seen = 0;
  for (const auto& [layer, allowed] : kLayers) {
    ASSERT_TRUE(fs::exists(kRoot / "src" / layer) || layer == "codec") << layer;
    if (!fs::exists(kRoot / "src" / layer)) continue;
    for (const Include& include : includes_of(kRoot / "src" / layer)) {
      ++seen;
      const std::string place = include.file.string() + " includes " + include.name;
      if (include.name.rfind("mcompress/", 0) == 0) {
        const auto limit = kPublicFor.find(layer);
        if (limit != kPublicFor.end()) {
          EXPECT_TRUE(limit->second.count(include.name.substr(10)) != 0) << place;
        }
        continue;
      }
      if (include.angled) {
        for (const auto& [prefix, homes] : kThirdParties) {
          if (include.name.rfind(prefix, 0) == 0) {
            EXPECT_TRUE(homes.count(layer) != 0) << place;
          }
        }
        continue;
      }
      const std::string folder = include.name.substr(0, include.name.find('/'));
      EXPECT_TRUE(allowed.count(folder) != 0) << place;
    }
  }
  EXPECT_GT(seen, 200U);
}

TEST(Layering, PassesNeverIncludeEachOther) {
  for (const Include& include : includes_of(kRoot / "src/passes")) {
    if (include.name.rfind("passes/", 0) != 0) continue;
    EXPECT_TRUE(include.name == "passes/passes.h" || include.name.rfind("passes/common/", 0) == 0)
        << include.file << " includes " << include.name;
  }
}

// What passes share lies in rooms; each sees itself, src/passes/common and the rooms named here.
TEST(Layering, RoomsOfPassesSeeOnlyTheRoomsBelowThem) {
  const std::map<std::string, std::set<std::string>> rooms = {
      {"opset", {}},
      {"fusion", {"opset"}},
      {"contrib", {"fusion"}},
      {"blocks", {}},
      {"integer", {"blocks", "contrib", "fusion"}},
      {"half", {}},
      {"cluster", {"blocks"}},
      {"channels", {"blocks"}},
      {"prune", {"blocks"}},
      {"symbols", {}},
  };
  const fs::path common = kRoot / "src/passes/common";
  for (const auto& entry : fs::directory_iterator(common)) {
    if (!entry.is_directory()) continue;
    const auto room = rooms.find(entry.path().filename().string());
    ASSERT_NE(room, rooms.end()) << entry.path();
  }
  for (const Include& include : includes_of(common)) {
    const fs::path name = fs::path(include.name).parent_path();
    if (name.parent_path() != "passes/common") continue;
    const fs::path home = include.file.parent_path();
    const std::string from = home == common ? "" : home.filename().string();
    const std::string to = name.filename().string();
    const bool allowed = from == to || (!from.empty() && rooms.at(from).count(to) != 0);
    EXPECT_TRUE(allowed) << include.file << " includes " << include.name;
  }
}

TEST(Layering, OnnxRuntimeStaysBehindItsDoor) {
  std::set<std::string> files;
  for (const Include& include : includes_of(kRoot / "src")) {
    if (include.name.rfind("onnxruntime", 0) == 0) files.insert(include.file.stem().string());
  }
  for (const std::string& file : files) {
    EXPECT_TRUE(file == "engine" || file == "onnxruntime" || file == "observe") << file;
  }
  EXPECT_FALSE(files.empty());
}

TEST(Layering, TheImageDecoderStaysInOneFile) {
  std::set<std::string> files;
  for (const Include& include : includes_of(kRoot / "src")) {
    if (include.name.rfind("stb", 0) == 0) files.insert(include.file.filename().string());
  }
  EXPECT_EQ(files, std::set<std::string>{"image_file.cpp"});
}

TEST(Layering, PublicHeadersIncludeTheStandardLibraryAndEachOther) {
  for (const Include& include : includes_of(kRoot / "include/mcompress")) {
    const bool own = include.name.rfind("mcompress/", 0) == 0;
    EXPECT_EQ(own, !include.angled) << include.file << " includes " << include.name;
    if (include.angled) {
      const bool of_c = include.file.filename() == "archive_c.h";  // the one header for C
      EXPECT_TRUE(include.name.find_first_of("./") == std::string::npos ||
                  (of_c && (include.name == "stddef.h" || include.name == "stdint.h")))
          << include.file << " includes " << include.name;
    }
  }
}

TEST(Layering, ToolsUsePublicHeadersOnly) {
  for (const Include& include : includes_of(kRoot / "tools")) {
    if (include.angled) continue;
    const bool own =
        fs::exists(kRoot / "tools" / include.name) || include.name.find('/') == std::string::npos;
    EXPECT_TRUE(own || include.name.rfind("mcompress/", 0) == 0)
        << include.file << " includes " << include.name;
  }
}

TEST(Layering, NoLoopOverUnorderedContainersReachesAnOutput) {
  static const std::regex kLoop(R"(for\s*\([^;)]*:\s*\w*unordered\w*)");
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / "src")) {
    if (entry.path().extension() != ".cpp" && entry.path().extension() != ".h") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      EXPECT_FALSE(std::regex_search(line, kLoop)) << entry.path() << ": " << line;
    }
  }
}

}  // namespace
}  // namespace mcompress
