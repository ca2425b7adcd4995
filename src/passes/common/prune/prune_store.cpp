#include "passes/common/prune/prune_store.h"

#include <cmath>
#include <memory>
#include <utility>

#include "mcompress/host.h"
#include "passes/common/constants.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::string percent_of(double share) { return fixed(share * 100, 1) + " %"; }

class PrunedStorage {
 public:
  PrunedStorage(Model& model, const std::vector<PruneLayer>& layers,
                const std::vector<PrunedLayer>& pruned, const PruneStore& store,
                PassContext& context)
      : model_(model), layers_(layers), pruned_(pruned), store_(store), context_(context) {}

  Status run() {
    for (Value* value : constants_of(model_.graph())) values_.emplace(value->id(), value);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (pruned_[i].codes) MCOMPRESS_TRY(store_codes(i));
    }
    // Operators on integers, which the target may run as such, are there already.
    const std::unique_ptr<Model> dense = model_.clone();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (!pruned_[i].codes) MCOMPRESS_TRY(store_floats(i));
    }
    report_all();
    if (forms_[sparse_form_name(SparseForm::kBitmask)] +
            forms_[sparse_form_name(SparseForm::kGaps)] ==
        0) {
      return ok_status();
    }
    return check_folding(*dense);
  }

 private:
  Status store_floats(std::size_t i) {
    const PruneLayer& layer = layers_[i];
    MCOMPRESS_ASSIGN(const SparseBytes bytes, sparse_bytes(pruned_[i].weights));
    const SparseForm form = store_form(store_, bytes, model_, context_.target());
    MCOMPRESS_TRY(store_sparse(*values_.at(layer.value), form, context_));
    count(layer, bytes.zeros, bytes.dense, bytes.of(form), sparse_form_name(form));
    std::string why = form == SparseForm::kDense ? "as many bytes as before: zeros are stored"
                                                 : "restored when the model is loaded";
    const auto left = store_.float_because.find(layer.value);
    if (left != store_.float_because.end()) why += "; stays float32: " + left->second;
    explain(i, sparse_form_name(form), bytes.dense, bytes.of(form), why);
    return ok_status();
  }

  Status store_codes(std::size_t i) {
    const PruneLayer& layer = layers_[i];
    const BlockRows& rows = *pruned_[i].codes;
    MCOMPRESS_TRY(write_coded(*values_.at(layer.value), layer.view, rows, store_.coded, context_));
    const std::uint64_t before = layer.tensor.byte_size(), after = coded_bytes(rows);
    std::int64_t zeros = 0;
    if (layer.dense_because.empty()) {
      zeros = static_cast<std::int64_t>(
          std::llround(pruned_[i].sparsity * static_cast<double>(layer.tensor.elements())));
    }
    std::string form = store_.coded.type;
    const std::size_t block = rows.format.block;
    form += block == 0 ? " by output" : " by " + std::to_string(block);
    count(layer, zeros, before, after, store_.coded.type);
    explain(i, form, before, after,
            "zeros are codes like others: pack stores them in next to nothing");
    return ok_status();
  }

  void count(const PruneLayer& layer, std::int64_t zeros, std::uint64_t before, std::uint64_t after,
             const std::string& form) {
    ++forms_[form];
    before_ += before;
    after_ += after;
    if (!layer.dense_because.empty()) return;
    ++tensors_;
    zeros_ += zeros;
    all_ += layer.tensor.elements();
  }

  void explain(std::size_t i, const std::string& form, std::uint64_t before, std::uint64_t after,
               const std::string& why) {
    const PruneLayer& layer = layers_[i];
    const PrunedLayer& made = pruned_[i];
    const bool dense = !layer.dense_because.empty();
    Decision decision;
    decision.subject = layer.name;
    decision.op_type = layer.op_type;
    decision.what = dense ? std::string("not pruned")
                          : percent_of(made.sparsity) + " zeros, " + made.how + ", score " +
                                made.score + " ranked in the " + made.ranked;
    decision.what += ", stored as " + form;
    decision.why = dense ? layer.dense_because : why;
    decision.bytes_before = before;
    decision.bytes_after = after;
    decision.sqnr_db = made.output_db;
    context_.explain().chose(std::move(decision));
    ReportScope& item = context_.report().item("tensors", layer.name);
    item.text("operator", layer.op_type);
    item.text("method", made.how);
    if (dense) {
      item.text("dense_because", layer.dense_because);
    } else {
      item.text("score", made.score);
      item.text("ranked_in", made.ranked);
      item.text("pattern", store_.pattern);
    }
    item.count("weights", layer.tensor.elements());
    item.number("density", 1 - (dense ? 0 : made.sparsity));
    item.text("form", form);
    item.count("bytes", static_cast<std::int64_t>(after));
    if (made.output_db) item.number("output_sqnr_db", *made.output_db);
    if (!layer.rows && context_.calibration_data() != nullptr) {
      item.text("unseen", "its inputs can not be observed: magnitudes count");
    }
    if (const auto left = store_.float_because.find(layer.value);
        left != store_.float_because.end()) {
      item.text("float_because", left->second);
    }
  }

  void report_all() {
    const double share = all_ > 0 ? static_cast<double>(zeros_) / static_cast<double>(all_) : 0;
    ReportScope& scope = context_.report();
    scope.text("pattern", store_.pattern);
    scope.count("weights", all_);
    scope.count("zeros", zeros_);
    scope.number("sparsity", share);
    scope.count("bytes_dense", static_cast<std::int64_t>(before_));
    scope.count("bytes_stored", static_cast<std::int64_t>(after_));
    scope.flag("faster", false);
    std::string text = percent_of(share) + " of " + std::to_string(all_) + " weights in " +
                       std::to_string(tensors_) + " tensors are 0 now: " + bytes_text(before_) +
                       " as dense float32, " + bytes_text(after_) + " as stored (";
    bool first = true;
    for (const auto& [form, count] : forms_) {
      text += std::string(first ? "" : ", ") + std::to_string(count) + " " + form;
      scope.count("stored_" + form, count);
      first = false;
    }
    context_.diagnostics().note("sparse-storage", text + ")");
    if (store_.storage == "auto" && store_.coded.type == "float32") {
      if (const std::string why = why_not_sparse(model_, context_.target()); !why.empty()) {
        context_.diagnostics().note("stored-dense", "zeros save no bytes in this file: " + why);
      }
    }
    context_.diagnostics().note("sparse-latency",
                                "no run gets faster: dense kernels multiply zeros like other "
                                "numbers, and ONNX Runtime's CPU has no others");
  }

  Status check_folding(const Model& dense) {
    auto runtime = context_.runtime();
    if (!runtime.ok() || context_.target().runtime != "onnxruntime") return ok_status();
    auto left = unfolded_operators(**runtime, dense, model_);
    // A model that the runtime does not open is the matter of whoever opens it next.
    if (!left.ok()) return ok_status();
    context_.report().count("unfolded_operators", *left);
    if (*left == 0) return ok_status();
    return Error(
        Code::kUnsupported, "not-folded",
        (*runtime == nullptr ? std::string("the runtime") : std::string((*runtime)->name())) +
            " would restore weights on every run: " + std::to_string(*left) +
            " operators are left after it has optimised the model",
        {{}, "storage", {}}, "take --storage dense");
  }

  Model& model_;
  const std::vector<PruneLayer>& layers_;
  const std::vector<PrunedLayer>& pruned_;
  const PruneStore& store_;
  PassContext& context_;
  std::map<std::uint32_t, Value*> values_;
  std::uint64_t before_ = 0, after_ = 0;
  std::int64_t zeros_ = 0, all_ = 0, tensors_ = 0;
  std::map<std::string, std::int64_t> forms_;
};

}  // namespace

SparseForm store_form(const PruneStore& store, const SparseBytes& bytes, const Model& model,
                      const Target& target) {
  if (store.storage == "bitmask") return SparseForm::kBitmask;
  if (store.storage == "gaps") return SparseForm::kGaps;
  if (store.storage == "dense" || !why_not_sparse(model, target).empty()) {
    return SparseForm::kDense;
  }
  return bytes.smallest();
}

Status store_pruned(Model& model, const std::vector<PruneLayer>& layers,
                    const std::vector<PrunedLayer>& pruned, const PruneStore& store,
                    PassContext& context) {
  return PrunedStorage(model, layers, pruned, store, context).run();
}

}  // namespace mcompress
