#include <algorithm>
#include <array>
#include <cmath>

#include "passes/common/cluster/cluster_plan.h"
#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }
constexpr auto kInt32 = static_cast<std::int64_t>(DataType::kInt32);
constexpr std::int64_t kFourBitOpset = 21;

// Indices of b bits are kept as planes of 1, 2 or 4 bits, packed in bytes: 6 bits are 4 and 2. A
// table that all planes of one kind share holds the codes that are in a byte.
struct Plane {
  unsigned bits = 0, shift = 0;
};
std::vector<Plane> planes_of(unsigned bits) {
  std::vector<Plane> planes;
  unsigned left = bits;
  for (const unsigned width : {4U, 2U, 1U}) {
    if (bits < 8 && left >= width) {
      left -= width;
      planes.push_back({width, left});
    }
  }
  if (bits == 8) planes.push_back({8, 0});
  return planes;
}

class ClusterEmitter {
 public:
  ClusterEmitter(const ClusterUnit& unit, const ClusterCodes& codes, PassContext& context)
      : unit_(unit),
        codes_(codes),
        context_(context),
        edit_(context.edit()),
        graph_(unit.value().graph()),
        base_(unit.value().name()) {}

  Status run() {
    modernise_initializers(graph_.model(), context_);
    Value& value = unit_.value();
    if (value.producer() != nullptr) edit_.replace_by_constant(*value.producer(), unit_.tensor());
    Node& anchor = *graph_.first();
    const auto count = codes_.codes.size();
    const std::vector<std::int64_t> dims(unit_.tensor().dims().begin(),
                                         unit_.tensor().dims().end());
    const unsigned bits = index_bits(codes_.entries());
    Value* index = nullptr;
    bool flat = codes_.dimension > 1;
    if (bits == 8 || (bits == 4 && graph_.model().opset("") >= kFourBitOpset)) {
      MCOMPRESS_ASSIGN(Tensor tensor, packed(bits, 0, flat ? std::vector{whole(count)} : dims,
                                             bits == 4 ? DataType::kUint4 : DataType::kUint8));
      if (bits == 4) edit_.require_ir_version(10);
      index = &cast(constant("_codes", std::move(tensor)), anchor);
    } else {
      flat = true;
      for (const Plane plane : planes_of(bits)) {
        const std::size_t per_byte = 8 / plane.bits, bytes = (count + per_byte - 1) / per_byte;
        MCOMPRESS_ASSIGN(Tensor tensor,
                         packed(plane.bits, plane.shift, {whole(bytes)}, DataType::kUint8));
        Value& part = unpacked(constant("_codes", std::move(tensor)), plane, count, anchor);
        index = index == nullptr ? &part
                                 : edit_
                                       .insert_before(anchor, {.op_type = "Add",
                                                               .inputs = {index, &part},
                                                               .base_name = base_ + "_index"})
                                       .output(0);
      }
    }
    const ChannelGroups& groups = codes_.groups;
    if (groups.count > 1) {
      flat = true;
      index = &of_groups(*index, anchor);
    }
    std::vector<std::int64_t> book = {whole(codes_.entries() * groups.count)};
    if (codes_.dimension > 1) book.push_back(whole(codes_.dimension));
    Value& codebook = constant("_codebook", make_float_tensor(codes_.codebook, std::move(book)));
    Value* real = edit_
                      .insert_before(anchor, {.op_type = "Gather",
                                              .inputs = {&codebook, index},
                                              .base_name = base_ + "_clustered"})
                      .output(0);
    if (flat) real = &reshaped(*real, dims, anchor);
    MCOMPRESS_TRY(edit_.replace_all(value, *real));
    return edit_.erase_initializer(value);
  }

  std::uint64_t bytes() const { return bytes_; }

 private:
  Value& constant(std::string_view ending, Tensor tensor) {
    bytes_ += tensor.byte_size();
    return edit_.add_initializer(graph_, base_ + std::string(ending), std::move(tensor));
  }

  Value& cast(Value& value, Node& anchor) {
    Node& node = edit_.insert_before(
        anchor, {.op_type = "Cast", .inputs = {&value}, .base_name = base_ + "_index"});
    edit_.set_attribute(node, attribute("to", kInt32));
    return *node.output(0);
  }

  Value& reshaped(Value& value, const std::vector<std::int64_t>& dims, Node& anchor) {
    Value& shape = edit_.add_initializer(graph_, base_ + "_shape",
                                         make_int64_tensor(dims, {whole(dims.size())}));
    return *edit_
                .insert_before(anchor, {.op_type = "Reshape",
                                        .inputs = {&value, &shape},
                                        .base_name = base_ + "_reshaped"})
                .output(0);
  }

  // Bits [shift, shift + bits) of all codes, the first code lowest.
  Result<Tensor> packed(unsigned bits, unsigned shift, std::vector<std::int64_t> dims,
                        DataType type) {
    const std::size_t per_byte = 8 / bits;
    const unsigned mask = (1U << bits) - 1;
    return context_.tensors().make(
        type, std::move(dims), [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
          for (std::size_t i = 0; i < out.size(); ++i) {
            unsigned byte = 0;
            for (std::size_t part = 0; part < per_byte; ++part) {
              const std::size_t at = (offset + i) * per_byte + part;
              if (at < codes_.codes.size()) {
                byte |= (codes_.codes[at] >> shift & mask) << (part * bits);
              }
            }
            out[i] = static_cast<std::byte>(byte);
          }
          return ok_status();
        });
  }

  // Codes become places in the codebooks of all groups, which stand one behind another: [outer,
  // groups, channels of a group ...] + [groups, 1]; channels that groups do not divide each have
  // the number of their group: [outer, channels, ...] + [channels, 1].
  Value& of_groups(Value& index, Node& anchor) {
    const ChannelGroups& groups = codes_.groups;
    const bool even = groups.rows % groups.count == 0;
    const std::size_t units = even ? groups.count : groups.rows;
    const std::size_t rest = groups.rows / units * groups.inner;
    std::vector<std::int32_t> offsets;
    for (std::size_t u = 0; u < units; ++u) {
      offsets.push_back(static_cast<std::int32_t>((even ? u : u / groups.size) * codes_.entries()));
    }
    Value& parted = reshaped(
        index, {whole(codes_.codes.size() / (units * rest)), whole(units), whole(rest)}, anchor);
    Value& of_unit = constant("_groups", make_int32_tensor(offsets, {whole(units), 1}));
    return *edit_
                .insert_before(anchor, {.op_type = "Add",
                                        .inputs = {&parted, &of_unit},
                                        .base_name = base_ + "_index"})
                .output(0);
  }

  // Codes of a plane, times 2^shift, as int32 [count].
  Value& unpacked(Value& stored, const Plane& plane, std::size_t count, Node& anchor) {
    const std::size_t per_byte = 8 / plane.bits;
    Value* codes = edit_
                       .insert_before(anchor, {.op_type = "Gather",
                                               .inputs = {&table(plane), &cast(stored, anchor)},
                                               .base_name = base_ + "_unpacked"})
                       .output(0);
    const std::size_t padded = (count + per_byte - 1) / per_byte * per_byte;
    Value& flat = reshaped(*codes, {whole(padded)}, anchor);
    return cast(padded == count ? flat : cut(flat, whole(count), anchor), anchor);
  }

  // uint8 [256, codes in a byte], one for all planes of the kind in this graph.
  Value& table(const Plane& plane) {
    const std::string name =
        "unpack_" + std::to_string(plane.bits) + "_bits_" + std::to_string(plane.shift);
    const std::size_t per_byte = 8 / plane.bits;
    std::vector<std::byte> bytes(256 * per_byte);
    for (std::size_t i = 0; i < 256 * per_byte; ++i) {
      const std::size_t code =
          (i / per_byte) >> (i % per_byte * plane.bits) & ((1U << plane.bits) - 1);
      bytes[i] = static_cast<std::byte>(code << plane.shift);
    }
    Tensor made = make_bytes_tensor(DataType::kUint8, {256, whole(per_byte)}, std::move(bytes));
    if (Value* known = graph_.find(name); known != nullptr && known->constant() != nullptr) {
      const auto same = same_content(*known->constant(), made);
      if (same.ok() && *same) return *known;
    }
    bytes_ += made.byte_size();
    return edit_.add_initializer(graph_, name, std::move(made));
  }

  // The first `count`. Slice has its bounds in attributes before opset 10.
  Value& cut(Value& value, std::int64_t count, Node& anchor) {
    const std::string name = base_ + "_cut";
    if (graph_.model().opset("") < 10) {
      Node& slice =
          edit_.insert_before(anchor, {.op_type = "Slice", .inputs = {&value}, .base_name = name});
      edit_.set_attribute(slice, attribute("starts", std::vector<std::int64_t>{0}));
      edit_.set_attribute(slice, attribute("ends", std::vector<std::int64_t>{count}));
      edit_.set_attribute(slice, attribute("axes", std::vector<std::int64_t>{0}));
      return *slice.output(0);
    }
    const auto number = [&](std::string_view ending, std::int64_t one) {
      return &edit_.add_initializer(graph_, name + std::string(ending),
                                    make_int64_tensor({&one, 1}, {1}));
    };
    return *edit_
                .insert_before(anchor,
                               {.op_type = "Slice",
                                .inputs = {&value, number("_from", 0), number("_to", count)},
                                .base_name = name})
                .output(0);
  }

  const ClusterUnit& unit_;
  const ClusterCodes& codes_;
  PassContext& context_;
  Editor& edit_;
  Graph& graph_;
  std::string base_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

std::vector<std::uint64_t> ClusterCodes::counts() const {
  std::vector<std::uint64_t> counts(entries());
  for (const std::uint8_t code : codes) ++counts[code];
  return counts;
}

double ClusterCodes::sqnr_db() const {
  return noise > 0 && signal > 0 ? std::clamp(10 * std::log10(signal / noise), -200.0, 200.0) : 200;
}

Status emit_clusters(const ClusterUnit& unit, const ClusterCodes& codes, const std::string& how,
                     PassContext& context) {
  Decision decision;
  decision.subject = unit.value().name();
  decision.op_type = unit.place.holders.front().user->op_type();
  decision.what =
      std::to_string(codes.entries()) + " clusters" +
      (codes.groups.count > 1
           ? " for each of " + std::to_string(codes.groups.count) + " channel groups"
           : "") +
      (codes.dimension > 1 ? " of " + std::to_string(codes.dimension) + " weights" : "") +
      ", indices of " + std::to_string(index_bits(codes.entries())) + " bits, " + how;
  decision.why = "restored to float32 when the model is loaded";
  if (unit.clusters == unit.fewest && !unit.why_fewest.empty()) {
    decision.why += "; no fewer for a " + unit.why_fewest;
  }
  decision.bytes_before = unit.tensor().byte_size();
  decision.sqnr_db = codes.sqnr_db();
  ClusterEmitter emitter(unit, codes, context);
  MCOMPRESS_TRY(emitter.run());
  decision.bytes_after = emitter.bytes();
  context.explain().chose(std::move(decision));
  return ok_status();
}

}  // namespace mcompress
