#include "batch/batch_models.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

bool is_model(const fs::path& path) { return path.extension() == ".onnx"; }

// Hidden folders and the results are left out.
Status walk(const std::string& folder, const std::string& pattern, const std::string& output,
            std::vector<BatchModel>& models) {
  std::error_code error;
  const fs::path results = fs::weakly_canonical(output, error);
  auto it = fs::recursive_directory_iterator(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const fs::path& path = it->path();
    std::error_code ignored;
    if (it->is_directory(ignored)) {
      if (path.filename().string().starts_with('.') ||
          fs::weakly_canonical(path, ignored) == results) {
        it.disable_recursion_pending();
      }
      continue;
    }
    if (!is_model(path) || path.filename().string().starts_with('.')) continue;
    if (!pattern.empty() && !matches_glob(pattern, path.string())) continue;
    models.push_back({path.string(), path.lexically_relative(folder).string()});
  }
  if (!error) return ok_status();
  return Error(Code::kInput, "folder-unreadable", error.message(), {folder, {}, {}});
}

Status read_list(const std::string& source, std::vector<BatchModel>& models) {
  constexpr std::uint64_t kMostBytes = 64 << 20;
  auto text = read_file(source, kMostBytes);
  if (!text.ok()) return std::move(text).error().in_file(source);
  const fs::path folder = fs::path(source).parent_path();
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string line(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    const fs::path place = fs::path(line).lexically_normal();
    const bool inside = place.is_relative() && !place.string().starts_with("..");
    models.push_back(
        {(folder / line).string(), inside ? place.string() : place.filename().string()});
  }
  return ok_status();
}

}  // namespace

std::vector<std::string> model_files(const std::string& model) {
  const fs::path path(model);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string name = path.filename().string();
  std::vector<std::string> files;
  std::error_code error;
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    std::error_code ignored;
    const std::string other = it->path().filename().string();
    if (other.starts_with(name) && it->is_regular_file(ignored)) {
      files.push_back(it->path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::uint64_t model_bytes(const std::string& model) {
  std::uint64_t bytes = 0;
  for (const std::string& file : model_files(model)) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (!error) bytes += size;
  }
  return bytes;
}

Result<std::vector<BatchModel>> find_batch_models(const std::string& source,
                                                  const std::string& results) {
  std::vector<BatchModel> models;
  std::error_code error;
  if (fs::is_directory(source, error)) {
    MCOMPRESS_TRY(walk(source, {}, results, models));
  } else if (source.ends_with(".txt")) {
    MCOMPRESS_TRY(read_list(source, models));
  } else {
    const std::size_t special = source.find_first_of("*?[");
    const std::size_t slash = source.rfind('/', special);
    const std::string folder = slash == std::string::npos ? "." : source.substr(0, slash);
    if (special == std::string::npos) {
      models.push_back({source, fs::path(source).filename().string()});
    } else {
      MCOMPRESS_TRY(walk(folder, source, results, models));
    }
  }
  if (models.empty()) {
    return Error(Code::kInput, "no-models", "no .onnx file was found", {source, {}, {}},
                 "a folder, a pattern in quotes, or a .txt file with a model a line");
  }
  std::sort(models.begin(), models.end(),
            [](const BatchModel& a, const BatchModel& b) { return a.place < b.place; });
  for (std::size_t i = 1; i < models.size(); ++i) {
    if (models[i].place != models[i - 1].place) continue;
    return Error(Code::kUsage, "same-place",
                 "'" + models[i - 1].file + "' and '" + models[i].file + "' would both become " +
                     models[i].place,
                 {source, {}, {}});
  }
  return models;
}

}  // namespace mcompress::tools
