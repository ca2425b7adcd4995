#include "support/channel_cuts.h"

#include <gtest/gtest.h>

#include "mcompress/io.h"
#include "passes/common/channels/channel_cut.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {

void zero_readers(const ChannelTrace& trace, const std::vector<bool>& cut, Editor& editor) {
  for (const ChannelSlices& slices : trace.slices()) {
    if (slices.role != ChannelMember::Role::kReads || slices.tensor->initializer() == nullptr) {
      continue;
    }
    const Tensor tensor = *slices.tensor->initializer();
    const auto dims = tensor.dims();
    const auto goes = [&](std::size_t index) {
      const std::uint32_t cell = (*slices.cells)[index];
      return cell != kFixedCell && cut[trace.unit_of(cell)];
    };
    bool any = false;
    for (std::size_t i = 0; i < slices.cells->size(); ++i) any = any || goes(i);
    if (!any) continue;
    std::vector<float> values = read_floats(tensor).value();
    std::size_t inner = 1;
    for (std::size_t i = slices.axis + 1; i < dims.size(); ++i) {
      inner *= static_cast<std::size_t>(dims[i]);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (goes(i / inner % static_cast<std::size_t>(dims[slices.axis]))) values[i] = 0;
    }
    editor.set_constant(const_cast<Value&>(*slices.tensor),
                        make_float_tensor(values, {dims.begin(), dims.end()}));
  }
}

std::int64_t cut_and_compare(Model& model, const std::function<bool(std::uint32_t)>& chosen,
                             const std::string& what, const std::vector<NamedTensor>& feeds,
                             double tolerance) {
  std::vector<bool> cut;
  {
    const ChannelTrace trace(model);
    for (std::uint32_t unit = 0; unit < trace.units(); ++unit) {
      cut.push_back(!trace.is_frozen(unit) && chosen(unit));
    }
    Editor editor(model);
    zero_readers(trace, cut, editor);
  }
  const auto before = model.clone();
  Editor editor(model);
  const auto tensors = make_tensor_factory(std::uint64_t{1} << 30);
  const ChannelTrace trace(model);
  KeptByName kept;
  const auto done = cut_channels(trace, cut, editor, *tensors, kept);
  EXPECT_TRUE(done.ok()) << what;
  if (!done.ok()) return 0;
  const Status checked = check_model(model);
  EXPECT_TRUE(checked.ok()) << what
                            << (checked.ok() ? "" : ": " + checked.error().diagnostic.message);
  if (*done > 0) {
    SCOPED_TRACE(what);
    if (feeds.empty()) {
      expect_same_results(*before, model, tolerance);
    } else {
      expect_same_results_on(feeds, *before, model, tolerance);
    }
  }
  return *done;
}

}  // namespace mcompress::testing
