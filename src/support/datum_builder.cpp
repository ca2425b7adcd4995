#include "support/datum_builder.h"

#include "support/text.h"

namespace mcompress {
namespace {

std::string position(std::string_view file, std::size_t line, std::size_t column) {
  return std::string(file) + ':' + std::to_string(line) + ':' + std::to_string(column);
}

}  // namespace

Status check_size(std::string_view text, std::string_view file, const ParseLimits& limits) {
  if (text.size() <= limits.bytes) return ok_status();
  return Error(Code::kInput, "text-too-large",
               "has " + human_bytes(text.size()) + ", more than the " + human_bytes(limits.bytes) +
                   " that are read",
               Location{std::string(file), "", ""});
}

Error parse_failure(std::string_view file, std::size_t line, std::size_t column,
                    std::string_view id, std::string message) {
  return Error(Code::kInput, id, std::move(message),
               Location{position(file, line, column), "", ""});
}

DatumBuilder::DatumBuilder(std::string_view file, const ParseLimits& limits)
    : file_(file), limits_(limits) {}

Location DatumBuilder::locate(std::size_t line, std::size_t column) const {
  Location where{position(file_, line, column), "", ""};
  if (frames_.empty()) return where;
  const Frame& frame = frames_.back();
  where.path = frame.datum.where().path;
  if (frame.is_map) {
    if (!where.path.empty()) where.path += '.';
    where.path += frame.key;
  } else {
    where.path += '[' + std::to_string(frame.datum.as_list()->size()) + ']';
  }
  return where;
}

void DatumBuilder::place(Datum datum) {
  if (frames_.empty()) {
    root_ = std::move(datum);
    done_ = true;
    return;
  }
  Frame& frame = frames_.back();
  if (frame.is_map) {
    // Not Datum::set: that looks for the key again, which is quadratic for large maps.
    std::get<Datum::Map>(frame.datum.value()).emplace_back(std::move(frame.key), std::move(datum));
    frame.key.clear();
  } else {
    frame.datum.push(std::move(datum));
  }
}

bool DatumBuilder::fail(std::string_view id, std::string message, std::size_t line,
                        std::size_t column) {
  if (!error_) error_ = parse_failure(file_, line, column, id, std::move(message));
  return false;
}

bool DatumBuilder::scalar(Datum::Value value, std::size_t line, std::size_t column) {
  if (error_) return false;
  if (++values_ > limits_.values) {
    return fail("text-too-large",
                "has more than the " + std::to_string(limits_.values) + " values that are read",
                line, column);
  }
  place(Datum(std::move(value), locate(line, column)));
  return true;
}

bool DatumBuilder::begin(bool map, std::size_t line, std::size_t column) {
  if (error_) return false;
  if (frames_.size() >= limits_.depth) {
    return fail("nested-too-deep",
                "is nested deeper than " + std::to_string(limits_.depth) + " levels", line, column);
  }
  if (++values_ > limits_.values) return scalar({}, line, column);
  Datum datum = map ? Datum::map() : Datum::list();
  datum.set_where(locate(line, column));
  frames_.push_back(Frame{std::move(datum), map, {}, {}});
  return true;
}

bool DatumBuilder::key(std::string_view name, std::size_t line, std::size_t column) {
  if (error_) return false;
  Frame& frame = frames_.back();
  if (!frame.keys.emplace(name).second) {
    return fail("duplicate-key", "key '" + std::string(name) + "' is given twice", line, column);
  }
  frame.key = name;
  return true;
}

bool DatumBuilder::end() {
  if (error_) return false;
  Datum datum = std::move(frames_.back().datum);
  frames_.pop_back();
  place(std::move(datum));
  return true;
}

}  // namespace mcompress
