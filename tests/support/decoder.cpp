#include "support/decoder.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <algorithm>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::int64_t kWidth = 64, kHeads = 2, kHead = 32, kInner = 128, kLayers = 2;

class Text {
 public:
  explicit Text(const DecoderForm& form) : form_(form) {}

  std::string graph() {
    inputs_ = "int64[batch," + length() + "] input_ids, int64[batch,total] attention_mask";
    outputs_ = "float[batch," + length() + "," + std::to_string(kDecoderVocabulary) + "] logits";
    if (form_.positions) inputs_ += ", int64[batch," + length() + "] position_ids";
    vector("ones", kWidth, 1, 1);
    vector("zeros", kWidth, 0, 0);
    weight("embedding", kDecoderVocabulary, kWidth, 1.0F);
    weight("places", kDecoderContext, kWidth, 0.5F);
    constants_ +=
        ", int64 zero = {0}, int64 one = {1}, "
        "int64[3] axes013 = {0, 1, 3}, int64[2] axes12 = {1, 2}, int64[4] split = "
        "{0, 0, " +
        std::to_string(kHeads) + ", " + std::to_string(kHead) + "}, int64[3] join = {0, 0, " +
        std::to_string(kWidth) +
        "}, float scale = {0.1767766953}, float hidden = {-10000.0}, float shown = {0.0}";
    causal_mask();
    line("tokens = Gather(embedding, input_ids)");
    line("where_ = Gather(places, " + std::string(form_.positions ? "position_ids" : "counted") +
         ")");
    line("x0 = Add(tokens, where_)");
    for (std::int64_t i = 0; i < kLayers; ++i) layer(std::to_string(i), std::to_string(i + 1));
    line("last = LayerNormalization(x" + std::to_string(kLayers) + ", ones, zeros)");
    weight("head", kWidth, kDecoderVocabulary, 0.4F);
    line("logits = MatMul(last, head)");
    return "<ir_version: 8, opset_import: [\"\" : 17]> decoder (" + inputs_ + ") => (" + outputs_ +
           ") <" + constants_.substr(2) + "> {\n" + nodes_ + "}";
  }

 private:
  std::string length() const {
    return form_.fixed_length > 0 ? std::to_string(form_.fixed_length) : "length";
  }
  void line(const std::string& text) { nodes_ += text + "\n"; }

  // The text names weights as the graph does; the form's prefix only chooses their values.
  void values(const std::string& name, std::vector<std::int64_t> dims, float low, float high) {
    const std::string made = form_.prefix + name;
    std::string text = weights(made, std::move(dims), low, high);
    text.replace(text.find(" " + made + " ") + 1, made.size(), name);
    constants_ += ", " + text;
  }
  void weight(const std::string& name, std::int64_t rows, std::int64_t columns, float size) {
    values(name, {rows, columns}, -size, size);
  }
  void vector(const std::string& name, std::int64_t size, float low, float high) {
    values(name, {size}, low, high);
  }

  // Query i stands at total - length + i and sees keys up to there that the mask shows.
  void causal_mask() {
    line("mask_shape = Shape(attention_mask)");
    line("total = Gather(mask_shape, one)");
    line("ids_shape = Shape(input_ids)");
    line("length_ = Gather(ids_shape, one)");
    line("begin = Sub(total, length_)");
    line("keys = Range(zero, total, one)");
    line("queries = Range(begin, total, one)");
    if (!form_.positions) line("counted = Unsqueeze(queries, axes0)");
    if (!form_.positions) constants_ += ", int64[1] axes0 = {0}";
    line("keys4 = Unsqueeze(keys, axes012)");
    constants_ += ", int64[3] axes012 = {0, 1, 2}";
    line("queries4 = Unsqueeze(queries, axes013)");
    line("earlier = LessOrEqual(keys4, queries4)");
    line("real = Cast<to = 9>(attention_mask)");
    line("real4 = Unsqueeze(real, axes12)");
    line("seen = And(earlier, real4)");
    line("bias = Where(seen, shown, hidden)");
  }

  std::string heads(const std::string& name, const std::string& input, const std::string& i) {
    weight("w" + name + i, kWidth, kWidth, 0.2F);
    line(name + i + "_flat = MatMul(" + input + ", w" + name + i + ")");
    line(name + i + "_split = Reshape(" + name + i + "_flat, split)");
    line(name + i + " = Transpose<perm = [0, 2, 1, 3]>(" + name + i + "_split)");
    return name + i;
  }

  std::string lengthened(const std::string& value, const std::string& kind, const std::string& i) {
    if (!form_.cache) return value;
    const std::string shape =
        "[batch," + std::to_string(kHeads) + ",past," + std::to_string(kHead) + "]";
    const std::string grown =
        "[batch," + std::to_string(kHeads) + ",total," + std::to_string(kHead) + "]";
    inputs_ += ", float" + shape + " past_key_values_" + i + "_" + kind;
    outputs_ += ", float" + grown + " present_" + i + "_" + kind;
    line("present_" + i + "_" + kind + " = Concat<axis = 2>(past_key_values_" + i + "_" + kind +
         ", " + value + ")");
    return "present_" + i + "_" + kind;
  }

  void layer(const std::string& i, const std::string& next) {
    line("norm" + i + " = LayerNormalization(x" + i + ", ones, zeros)");
    const std::string q = heads("q", "norm" + i, i);
    const std::string k = lengthened(heads("k", "norm" + i, i), "key", i);
    const std::string v = lengthened(heads("v", "norm" + i, i), "value", i);
    line("kt" + i + " = Transpose<perm = [0, 1, 3, 2]>(" + k + ")");
    line("scores" + i + " = MatMul(" + q + ", kt" + i + ")");
    line("scaled" + i + " = Mul(scores" + i + ", scale)");
    line("masked" + i + " = Add(scaled" + i + ", bias)");
    line("probabilities" + i + " = Softmax<axis = -1>(masked" + i + ")");
    line("mixed" + i + " = MatMul(probabilities" + i + ", " + v + ")");
    line("together" + i + " = Transpose<perm = [0, 2, 1, 3]>(mixed" + i + ")");
    line("joined" + i + " = Reshape(together" + i + ", join)");
    weight("wo" + i, kWidth, kWidth, 0.2F);
    line("o" + i + " = MatMul(joined" + i + ", wo" + i + ")");
    line("middle" + i + " = Add(x" + i + ", o" + i + ")");
    line("norm_b" + i + " = LayerNormalization(middle" + i + ", ones, zeros)");
    weight("up" + i, kWidth, kInner, 0.2F);
    weight("down" + i, kInner, kWidth, 0.15F);
    line("wide" + i + " = MatMul(norm_b" + i + ", up" + i + ")");
    line("active" + i + " = Relu(wide" + i + ")");
    line("narrow" + i + " = MatMul(active" + i + ", down" + i + ")");
    line("x" + next + " = Add(middle" + i + ", narrow" + i + ")");
  }

  DecoderForm form_;
  std::string inputs_, outputs_, constants_, nodes_;
};

// past_key_values_0_key -> past_key_values.0.key, as exporters write it.
std::string dotted(std::string name) {
  const bool past = name.starts_with("past_key_values_"), present = name.starts_with("present_");
  if (!past && !present) return name;
  name[past ? 15 : 7] = '.';
  name[name.rfind('_')] = '.';
  return name;
}

}  // namespace

std::string decoder_bytes(const DecoderForm& form) {
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(bytes_from_text(Text(form).graph())));
  onnx::GraphProto& graph = *model.mutable_graph();
  for (auto& input : *graph.mutable_input()) input.set_name(dotted(input.name()));
  for (auto& output : *graph.mutable_output()) output.set_name(dotted(output.name()));
  for (auto& node : *graph.mutable_node()) {
    for (auto& name : *node.mutable_input()) name = dotted(name);
    for (auto& name : *node.mutable_output()) name = dotted(name);
  }
  std::string bytes;
  EXPECT_TRUE(model.SerializeToString(&bytes));
  return bytes;
}

std::vector<std::int64_t> decoder_tokens(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int64_t> tokens;
  std::uint64_t state = seed * 2 + 1;
  const auto draw = [&state] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return state >> 33;
  };
  std::int64_t token = 1;
  for (std::int64_t i = 0; i < count; ++i) {
    token = draw() % 3 != 0 ? (token * 5 + 3) % kDecoderVocabulary
                            : static_cast<std::int64_t>(draw() % kDecoderVocabulary);
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace mcompress::testing
