#include "support/pass_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ir/walk.h"
#include "mcompress/runtime.h"
#include "support/hash.h"
#include "support/json.h"
#include "support/models.h"

namespace mcompress::testing {
namespace {

// A number in [0, 1) for element `index` of what is called `name`.
double fraction(std::string_view name, std::uint64_t index) {
  std::uint64_t state = digest_bytes(name) + index * 0x9E3779B97F4A7C15u;
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((state ^ (state >> 31)) >> 11) * 0x1p-53;
}

template <class T>
Tensor made(DataType type, const std::vector<std::int64_t>& dims, std::string_view name, double low,
            double high) {
  const auto count = static_cast<std::size_t>(*element_count(dims));
  std::vector<std::byte> bytes(count * sizeof(T));
  for (std::size_t i = 0; i < count; ++i) {
    const T value = static_cast<T>(low + (high - low) * fraction(name, i));
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return make_bytes_tensor(type, dims, std::move(bytes));
}

Tensor input_for(const PortInfo& port, std::int64_t open) {
  std::vector<std::int64_t> dims;
  for (const Dim& dim : port.type.shape.value_or(std::vector<Dim>())) {
    dims.push_back(dim.size.value_or(open));
  }
  const DataType type = port.type.element;
  switch (type) {
    case DataType::kFloat:
      return made<float>(type, dims, port.name, -2.0, 2.0);
    case DataType::kDouble:
      return made<double>(type, dims, port.name, -2.0, 2.0);
    case DataType::kInt64:
      return made<std::int64_t>(type, dims, port.name, 1.0, 3.0);
    case DataType::kInt32:
      return made<std::int32_t>(type, dims, port.name, 1.0, 3.0);
    case DataType::kBool:
      return made<std::uint8_t>(type, dims, port.name, 0.0, 2.0);
    case DataType::kUint8:
      return made<std::uint8_t>(type, dims, port.name, 0.0, 255.0);
    case DataType::kFloat16:
      return made<std::uint16_t>(type, dims, port.name, 0x3000, 0x3c00);
    default:
      ADD_FAILURE() << "no input of type " << dtype_name(type);
      return {};
  }
}

Runtime& runtime() {
  static const std::shared_ptr<Runtime> found = find_runtime("onnxruntime").value();
  return *found;
}

std::unique_ptr<PassRun> run_with(std::string_view target, Model& model,
                                  const std::vector<std::string>& passes,
                                  std::shared_ptr<Runtime> engine) {
  auto run = std::make_unique<PassRun>();
  Datum list = Datum::list();
  for (const std::string& pass : passes) {
    const std::size_t colon = pass.find(':');
    Datum entry = Datum::map();
    if (colon != std::string::npos) {
      auto options = parse_json(pass.substr(colon + 1), "test");
      EXPECT_TRUE(options.ok()) << pass;
      if (options.ok()) entry = *options;
    }
    entry.set("pass", Datum::string(pass.substr(0, colon)));
    list.push(std::move(entry));
  }
  Datum datum = Datum::map();
  datum.set("name", Datum::string("test"));
  datum.set("target", Datum::string(target));
  datum.set("passes", std::move(list));
  auto recipe = parse_recipe(datum, builtin_passes(), run->diagnostics);
  EXPECT_TRUE(recipe.ok()) << (recipe.ok() ? "" : to_string(recipe.error().diagnostic));
  if (!recipe.ok()) return run;
  Services services;
  services.runtime = std::move(engine);
  services.diagnostics = &run->diagnostics;
  const std::uint64_t revision = model.revision();
  run->status =
      run_pipeline(model, *recipe, builtin_passes(), services, {}, run->explain, run->report);
  run->changed = model.revision() != revision;
  return run;
}

}  // namespace

std::string weights(std::string_view name, std::vector<std::int64_t> dims, float low, float high) {
  std::string text = "float[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    text += (i != 0 ? "," : "") + std::to_string(dims[i]);
  }
  text += "] " + std::string(name) + " = {";
  const auto count = static_cast<std::uint64_t>(*element_count(dims));
  for (std::uint64_t i = 0; i < count; ++i) {
    text +=
        (i != 0 ? "," : "") + std::to_string(static_cast<double>(low) +
                                             static_cast<double>(high - low) * fraction(name, i));
  }
  return text + "}";
}

std::int64_t PassRun::applied(std::string_view pass) const {
  return std::ranges::count_if(explain.all(), [&](const Decision& decision) {
    return decision.applied && (pass.empty() || decision.pass == pass);
  });
}

std::string PassRun::why(std::string_view subject) const {
  for (const Decision& decision : explain.all()) {
    if (!decision.applied && decision.subject == subject) return decision.why;
  }
  return {};
}

std::int64_t PassRun::count(std::string_view pass, std::string_view key) const {
  std::int64_t result = -1;
  const Datum facts = report.root().facts();
  const Datum* passes = facts.find("passes");
  if (passes == nullptr || passes->as_list() == nullptr) return result;
  for (const Datum& entry : *passes->as_list()) {
    const Datum* name = entry.find("name");
    const Datum* fact = entry.find(key);
    if (name == nullptr || name->as_string() == nullptr || *name->as_string() != pass) continue;
    if (fact == nullptr) continue;
    if (const auto* number = std::get_if<std::int64_t>(&fact->value())) result = *number;
  }
  return result;
}

std::unique_ptr<PassRun> run_passes(Model& model, const std::vector<std::string>& passes) {
  return run_with(default_target().name, model, passes, find_runtime("onnxruntime").value());
}

std::unique_ptr<PassRun> run_passes_for(std::string_view target, Model& model,
                                        const std::vector<std::string>& passes) {
  return run_with(target, model, passes, find_runtime("onnxruntime").value());
}

std::unique_ptr<PassRun> run_without_runtime(Model& model, const std::vector<std::string>& passes) {
  return run_with(default_target().name, model, passes, nullptr);
}

std::int64_t count_nodes(const Model& model, std::string_view op_type) {
  std::int64_t count = 0;
  for_each_node(const_cast<Model&>(model).graph(),
                [&](Node& node) { count += node.op_type() == op_type ? 1 : 0; });
  return count;
}

std::int64_t count_initializers(const Model& model) {
  std::int64_t count = 0;
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    count += static_cast<std::int64_t>(graph.initializers().size());
  });
  return count;
}

Tensor seeded_input(const PortInfo& port, std::int64_t open) { return input_for(port, open); }

void expect_same_results(const Model& before, const Model& after, double tolerance,
                         std::int64_t open) {
  std::vector<NamedTensor> feeds;
  {
    SessionOptions options;
    options.optimisation = Optimisation::kNone;
    auto session = runtime().open(before, options);
    ASSERT_TRUE(session.ok()) << to_string(session.error().diagnostic);
    for (const PortInfo& port : (*session)->inputs())
      feeds.push_back({port.name, input_for(port, open)});
  }
  expect_same_results_on(feeds, before, after, tolerance);
}

void expect_same_results_on(const std::vector<NamedTensor>& feeds, const Model& before,
                            const Model& after, double tolerance) {
  SessionOptions options;
  options.optimisation = Optimisation::kNone;
  auto first = runtime().open(before, options);
  ASSERT_TRUE(first.ok()) << to_string(first.error().diagnostic);
  auto second = runtime().open(after, options);
  ASSERT_TRUE(second.ok()) << to_string(second.error().diagnostic);
  std::vector<std::string> fetch;
  for (const PortInfo& port : (*first)->outputs()) fetch.push_back(port.name);
  auto expected = (*first)->run(feeds, fetch);
  ASSERT_TRUE(expected.ok()) << to_string(expected.error().diagnostic);
  auto actual = (*second)->run(feeds, fetch);
  ASSERT_TRUE(actual.ok()) << to_string(actual.error().diagnostic);
  for (std::size_t i = 0; i < fetch.size(); ++i) {
    const Tensor& a = (*expected)[i];
    const Tensor& b = (*actual)[i];
    ASSERT_EQ(a.dtype(), b.dtype()) << fetch[i];
    ASSERT_TRUE(std::ranges::equal(a.dims(), b.dims())) << fetch[i];
    const auto left = read_floats(a);
    const auto right = read_floats(b);
    ASSERT_TRUE(left.ok() && right.ok()) << fetch[i];
    for (std::size_t k = 0; k < left->size(); ++k) {
      const double x = static_cast<double>((*left)[k]), y = static_cast<double>((*right)[k]);
      ASSERT_LE(std::abs(x - y), tolerance * (1.0 + std::abs(x)))
          << fetch[i] << " element " << k << ": " << x << " became " << y;
    }
  }
}

Checked check_passes(std::string_view text, const std::vector<std::string>& passes,
                     double tolerance, std::int64_t open) {
  Checked checked;
  checked.before = model_from_text(text);
  checked.after = checked.before->clone();
  checked.run = run_passes(*checked.after, passes);
  EXPECT_TRUE(checked.run->status.ok()) << to_string(checked.run->status.error().diagnostic);
  if (!checked.run->status.ok()) return checked;
  const Status sound = check_model(*checked.after);
  EXPECT_TRUE(sound.ok()) << to_string(sound.error().diagnostic);
  expect_same_results(*checked.before, *checked.after, tolerance, open);
  return checked;
}

}  // namespace mcompress::testing
