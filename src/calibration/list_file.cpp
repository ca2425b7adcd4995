#include "calibration/list_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kMaxColumns = 1024;

// What a list names, line by line.
class ListReader {
 public:
  ListReader(std::string_view text, std::string file) : rest_(text), file_(std::move(file)) {
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  Error fail(std::string message, std::string hint = {}) const {
    return {Code::kInput,
            "data-list",
            std::move(message),
            {file_ + ":" + std::to_string(line_), {}, {}},
            std::move(hint)};
  }

  // The fields of the next line that counts; none: the end.
  Result<std::vector<std::string>> next() {
    while (!rest_.empty()) {
      ++line_;
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      std::string_view line = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.find_first_not_of(" \t") == std::string_view::npos || line[0] == '#') continue;
      if (line.find('\0') != std::string_view::npos) {
        return fail("this is no text: there is a NUL byte");
      }
      if (separator_ == 0) choose_separator(line);
      return fields_of(line);
    }
    return std::vector<std::string>();
  }

 private:
  void choose_separator(std::string_view line) {
    separator_ = ' ';
    if (line.find(',') != std::string_view::npos) separator_ = ',';
    if (line.find('\t') != std::string_view::npos) separator_ = '\t';
  }

  Result<std::vector<std::string>> fields_of(std::string_view line) const {
    if (separator_ == ' ') {
      const std::size_t gap = line.find_last_of(' ');
      const std::string_view last = gap == std::string_view::npos ? "" : line.substr(gap + 1);
      if (!parse_int(last)) return std::vector<std::string>{std::string(line)};
      line = line.substr(0, line.find_last_not_of(' ', gap) + 1);
      return std::vector<std::string>{std::string(line), std::string(last)};
    }
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const char c = line[i];
      if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"') {
        fields.back() += line[++i];
      } else if (c == '"' && (quoted || fields.back().empty())) {
        quoted = !quoted;
      } else if (c == separator_ && !quoted) {
        if (fields.size() == kMaxColumns) return fail("there are too many fields");
        fields.emplace_back();
      } else if (c != ' ' || quoted || !fields.back().empty()) {
        fields.back() += c;
      }
    }
    if (quoted) return fail("a quote is not closed");
    for (std::string& field : fields) {
      while (field.ends_with(' ')) field.pop_back();
    }
    return fields;
  }

  std::string_view rest_;
  std::string file_;
  char separator_ = 0;
  std::size_t line_ = 0;
};

struct ListColumns {
  std::vector<std::size_t> inputs;
  std::optional<std::size_t> label;
  std::size_t count = 0;
};

bool is_one_of(std::string_view text, std::span<const std::string_view> names) {
  return std::ranges::find(names, text) != names.end();
}

// The columns when the first line names them.
Result<std::optional<ListColumns>> named_columns(const std::vector<std::string>& fields,
                                                 std::span<const PortInfo> inputs,
                                                 const ListReader& reader) {
  constexpr std::array<std::string_view, 3> kLabels = {"label", "labels", "class"};
  constexpr std::array<std::string_view, 4> kFiles = {"file", "path", "image", "filename"};
  ListColumns columns;
  columns.count = fields.size();
  std::vector<std::optional<std::size_t>> found(inputs.size());
  bool named = false;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const auto port = std::ranges::find(inputs, fields[i], &PortInfo::name);
    const std::string name = lower(fields[i]);
    if (port != inputs.end()) {
      found[static_cast<std::size_t>(port - inputs.begin())] = i;
      named = true;
    } else if (is_one_of(name, kLabels) && !columns.label) {
      columns.label = i;
      named = true;
    } else if (inputs.size() == 1 && !found[0] && is_one_of(name, kFiles)) {
      found[0] = i;
      named = true;
    }
  }
  if (!named) return std::optional<ListColumns>();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!found[i]) {
      return reader.fail("no column is named like the model's input '" + inputs[i].name + "'");
    }
    columns.inputs.push_back(*found[i]);
  }
  return std::optional(std::move(columns));
}

Result<ListColumns> counted_columns(std::size_t fields, std::size_t inputs,
                                    const ListReader& reader) {
  ListColumns columns;
  columns.count = fields;
  if (fields != inputs && fields != inputs + 1) {
    return reader.fail("there are " + std::to_string(fields) + " fields, the model has " +
                           std::to_string(inputs) + (inputs == 1 ? " input" : " inputs"),
                       "a line has a file for each input, then perhaps a label");
  }
  for (std::size_t i = 0; i < inputs; ++i) columns.inputs.push_back(i);
  if (fields > inputs) columns.label = inputs;
  return columns;
}

Labels labels_of(std::vector<std::string> texts) {
  Labels labels;
  std::vector<std::byte> bytes(texts.size() * sizeof(std::int64_t));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::optional<std::int64_t> number = parse_int(texts[i]);
    if (!number) {
      labels.texts = std::move(texts);
      return labels;
    }
    std::memcpy(bytes.data() + i * sizeof *number, &*number, sizeof *number);
  }
  labels.numbers = make_bytes_tensor(DataType::kInt64, {static_cast<std::int64_t>(texts.size())},
                                     std::move(bytes));
  return labels;
}

}  // namespace

bool is_list_name(std::string_view name) {
  const std::string text = lower(name);
  return text.ends_with(".txt") || text.ends_with(".csv") || text.ends_with(".tsv") ||
         text.ends_with(".lst");
}

Result<ListedSamples> parse_list(std::string_view text, const std::filesystem::path& list,
                                 std::span<const PortInfo> inputs, std::int64_t limit) {
  ListReader reader(text, list.string());
  ListedSamples samples;
  samples.files.resize(inputs.size());
  std::vector<std::string> labels;
  std::optional<ListColumns> columns;
  const std::filesystem::path folder = list.parent_path();
  for (;;) {
    MCOMPRESS_ASSIGN(std::vector<std::string> fields, reader.next());
    if (fields.empty()) break;
    if (!columns) {
      MCOMPRESS_ASSIGN(columns, named_columns(fields, inputs, reader));
      if (columns) continue;
      MCOMPRESS_ASSIGN(columns, counted_columns(fields.size(), inputs.size(), reader));
    }
    if (limit > 0 && static_cast<std::uint64_t>(limit) == samples.files[0].size()) break;
    if (fields.size() != columns->count) {
      return reader.fail("there are " + std::to_string(fields.size()) +
                         " fields, the line before has " + std::to_string(columns->count));
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::string& name = fields[columns->inputs[i]];
      if (name.empty()) return reader.fail("the name of a file is empty");
      samples.files[i].push_back(folder / name);
    }
    if (columns->label) labels.push_back(std::move(fields[*columns->label]));
  }
  if (samples.files[0].empty()) {
    return Error(Code::kInput, "data-empty", "the list names no samples", {list.string(), {}, {}});
  }
  if (!labels.empty()) samples.labels = labels_of(std::move(labels));
  return samples;
}

}  // namespace mcompress
