// compress-tables: embedding tables in fewer bytes, looked up in that form.
//
//   rows      rows that are equal are stored once; with --unused also those never looked up
//   hash      fewer rows than numbers: what is looked up most has a row of its own, the others
//             share (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009)
//   binary    a bit per number, and two floats per row
//   low-rank  a thin table and a small matrix behind the lookup
//   auto      of low-rank and binary the smaller one that holds --table-sqnr, else rows
//
// Tables in 8 or 4 bits per number are the matter of quantize-blocks and quantize-weights.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "ir/facts.h"
#include "numeric/low_rank.h"
#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/symbols/table_forms.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostColumns = 4096;  // of a decomposition
constexpr std::size_t kRankStep = 8;
constexpr double kDamping = 1e-6;
constexpr double kLeastGain = 0.05;  // of a table's bytes, for what is added to the graph

class CompressTables final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string tables = "auto";
    std::string unused = "keep";
    double table_keep = 0;
    double table_sqnr = 30;
    std::int64_t samples = 1000000;
    std::int64_t min_elements = std::int64_t{1} << 18;
    double min_sqnr = 0;
    double max_drop = 100;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("tables", &Options::tables,
                   "rows: equal ones once; hash: fewer rows than numbers; binary: a bit per "
                   "number; low-rank: a thin table and a matrix; auto: what holds --table-sqnr")
            .choices({"auto", "rows", "hash", "binary", "low-rank"})
            .field("unused", &Options::unused,
                   "rows that the calibration data never look up; merge: they share one row, "
                   "their mean")
            .choices({"keep", "merge"})
            .field("table-keep", &Options::table_keep,
                   "hash, low-rank: the share of a table to keep; 0: half, or by --table-sqnr")
            .range(0, 1)
            .field("table-sqnr", &Options::table_sqnr,
                   "auto, low-rank: of the rows over their errors, by how often they are looked up")
            .unit("dB")
            .range(0, 200)
            .field("min-sqnr", &Options::min_sqnr,
                   "of every output on the calibration data, else exit 5; 0: no bound")
            .unit("dB")
            .range(0, 200)
            .field("max-drop", &Options::max_drop,
                   "points of quality that may be lost, else exit 5; 100: no bound")
            .range(0, 100)
            .field("samples", &Options::samples, "of the calibration data whose lookups count")
            .range(1, 1e9)
            .field("min-elements", &Options::min_elements, "smaller tables stay as they are")
            .range(1, 1e12)
            .unit("elements");
    return kSchema;
  }
  explicit CompressTables(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (options_.unused == "merge" && context.calibration_data() == nullptr) {
      return Error(Code::kUsage, "no-calibration-data",
                   "which rows are unused is known from data only", {{}, "unused", {}},
                   "give --calib DATA that looks up all that will ever be looked up");
    }
    MCOMPRESS_ASSIGN(std::vector<RowTable> tables, find_tables(model, context));
    if (tables.empty()) return ok_status();
    MCOMPRESS_TRY(count_lookups(model, tables, context));
    for (RowTable& table : tables) {
      if (context.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while tables were compressed");
      }
      MCOMPRESS_TRY(compress(table, context));
    }
    return ok_status();
  }

 private:
  Result<std::vector<RowTable>> find_tables(Model& model, PassContext& context) const {
    const Selection selection(options_.include, options_.exclude);
    std::vector<RowTable> tables;
    for (Value* value : constants_of(model.graph())) {
      const auto tensor = constant_of(value);
      if (!tensor || tensor->dtype() != DataType::kFloat || tensor->dims().size() != 2) continue;
      RowTable table;
      table.value = value;
      const Node* other = nullptr;
      bool elsewhere = false;
      for (const Use& use : value->uses()) {
        const bool lookup = use.node != nullptr && use.node->is("Gather") && use.slot == 0 &&
                            use.node->int_attribute("axis", 0) == 0 &&
                            use.node->input(1) != nullptr;
        if (!lookup) {
          other = use.node;
          elsewhere = true;
          continue;
        }
        elsewhere = elsewhere || use.graph != &value->graph();
        table.gathers.push_back(use.node);
      }
      if (table.gathers.empty()) continue;
      const auto keep = [&](std::string why) {
        explain_kept(context, *value, *tensor, table.gathers.front(), std::move(why));
      };
      if (tensor->elements() < options_.min_elements) {
        keep("has " + std::to_string(tensor->elements()) + " elements, below " +
             std::to_string(options_.min_elements));
        continue;
      }
      if (elsewhere) {
        keep(other != nullptr ? "is read by " + std::string(other->op_type()) + " '" +
                                    other->label() + "' too, which needs all of it"
                              : "is read in a nested graph or handed out");
        continue;
      }
      if (!value->is_initializer()) {
        keep("is what a Constant node makes");
        continue;
      }
      std::string why;
      for (const Node* gather : table.gathers) {
        if (why.empty()) why = selection.why_not(*gather, value);
      }
      if (!why.empty()) {
        keep(std::move(why));
        continue;
      }
      MCOMPRESS_ASSIGN(const bool finite, is_finite(*tensor));
      if (!finite) {
        keep("holds NaN or infinity");
        continue;
      }
      table.rows = static_cast<std::size_t>(tensor->dims()[0]);
      table.columns = static_cast<std::size_t>(tensor->dims()[1]);
      MCOMPRESS_TRY(read(*tensor, table));
      tables.push_back(std::move(table));
    }
    return tables;
  }

  static Status read(const Tensor& tensor, RowTable& table) {
    MCOMPRESS_ASSIGN(table.pin, tensor.storage()->pin(0, tensor.byte_size()));
    const auto* const data = table.pin.bytes().data();
    if (std::endian::native == std::endian::little &&
        reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0) {
      table.numbers = {reinterpret_cast<const float*>(data), table.rows * table.columns};
      return ok_status();
    }
    MCOMPRESS_ASSIGN(table.copy, read_floats(tensor));
    table.numbers = table.copy;
    return ok_status();
  }

  // Which rows the data look up, in tables of the top graph.
  Status count_lookups(const Model& model, std::vector<RowTable>& tables,
                       PassContext& context) const {
    if (context.calibration_data() == nullptr) return ok_status();
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    DataSource& data = *context.calibration_data();
    SessionOptions session_options;
    std::map<std::string, std::size_t> slots;
    std::vector<std::vector<RowTable*>> readers;
    for (RowTable& table : tables) {
      if (&table.value->graph() != &model.graph()) continue;
      table.lookups.assign(table.rows, 0);
      for (const Node* gather : table.gathers) {
        const auto [slot, added] =
            slots.try_emplace(std::string(gather->input(1)->name()), readers.size());
        if (added) {
          session_options.observed.emplace_back(gather->input(1)->name());
          readers.emplace_back();
        }
        readers[slot->second].push_back(&table);
      }
    }
    if (readers.empty()) return ok_status();
    MCOMPRESS_ASSIGN(const auto session, runtime->open(model, session_options));
    const std::int64_t total = data.count(), count = std::min(options_.samples, total);
    for (std::int64_t s = 0; s < count; ++s) {
      if (context.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while lookups were counted");
      }
      context.progress().update("count lookups", static_cast<std::uint64_t>(s),
                                static_cast<std::uint64_t>(count), "samples");
      MCOMPRESS_ASSIGN(const auto feeds, data.sample(s * total / count));
      MCOMPRESS_TRY(session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
        for (RowTable* const table : readers[slot]) count_rows(view, *table);
        return ok_status();
      }));
    }
    return ok_status();
  }

  static void count_rows(const TensorView& view, RowTable& table) {
    const auto count = [&table](auto number) {
      const auto rows = static_cast<std::int64_t>(table.rows);
      const std::int64_t row = number < 0 ? number + rows : number;
      if (row >= 0 && row < rows) ++table.lookups[static_cast<std::size_t>(row)];
    };
    const auto each = [&]<class Number>(Number) {
      const std::size_t numbers = view.bytes.size() / sizeof(Number);
      for (std::size_t i = 0; i < numbers; ++i) {
        Number number;
        std::memcpy(&number, view.bytes.data() + i * sizeof(Number), sizeof(Number));
        count(static_cast<std::int64_t>(number));
      }
    };
    if (view.dtype == DataType::kInt64) each(std::int64_t{});
    if (view.dtype == DataType::kInt32) each(std::int32_t{});
  }

  struct Product {
    LowRank factors;
    std::size_t rank = 0;
    double sqnr_db = 0;
  };

  // x = a row: x ~ x L R is the table as (T L) R.
  static std::optional<LowRank> decompose(const RowTable& table) {
    if (table.columns > kMostColumns || table.columns >= table.rows) return std::nullopt;
    const std::vector<double> importance = table.importance();
    const std::size_t n = table.columns;
    std::vector<double> moments(n * n);
    for (std::size_t r = 0; r < table.rows; ++r) {
      const auto row = table.row(r);
      for (std::size_t i = 0; i < n; ++i) {
        const double left = importance[r] * double{row[i]};
        for (std::size_t j = 0; j <= i; ++j) moments[i * n + j] += left * double{row[j]};
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) moments[j * n + i] = moments[i * n + j];
    }
    std::vector<float> unit(n * n);
    for (std::size_t i = 0; i < n; ++i) unit[i * n + i] = 1;
    return LowRank::of(unit, n, n, moments, kDamping);
  }

  std::optional<Product> product_of(const RowTable& table) const {
    auto found = decompose(table);
    if (!found) return std::nullopt;
    const double whole = static_cast<double>(table.rows * table.columns);
    const double width = static_cast<double>(table.rows + table.columns);
    std::size_t rank = 0;
    if (options_.table_keep > 0) {
      rank = static_cast<std::size_t>(options_.table_keep * whole / width) / kRankStep * kRankStep;
    } else {
      const double allowed = std::pow(10, -options_.table_sqnr / 10);
      for (std::size_t r = kRankStep; r < found->losses().size() && rank == 0; r += kRankStep) {
        if (found->losses()[r] <= allowed) rank = r;
      }
    }
    if (rank == 0 || rank >= found->most()) return std::nullopt;
    if (static_cast<double>(rank) * width > (1 - kLeastGain) * whole) return std::nullopt;
    const double loss = found->losses()[rank];
    constexpr double kExact = 200;
    const double sqnr = loss > 0 ? std::min(kExact, -10 * std::log10(loss)) : kExact;
    return Product{std::move(*found), rank, sqnr};
  }

  Status compress(RowTable& table, PassContext& context) const {
    const std::string& form = options_.tables;
    if (form == "hash") return hash(table, context);
    if (form == "binary") return binary(table, context);
    if (form == "low-rank" || form == "auto") {
      std::optional<Product> product = product_of(table);
      std::optional<BinaryRows> bits;
      if (form == "auto" && why_no_binary(table).empty()) {
        bits = binary_rows(table);
        if (binary_sqnr(table, *bits) < options_.table_sqnr) bits.reset();
      }
      if (bits) return binary(table, context);
      if (product) return low_rank(table, *product, context);
      if (form == "low-rank") {
        return kept(
            table, context,
            "no rank that saves bytes " + (options_.table_keep > 0
                                               ? "is within the share to keep"
                                               : "holds " + fixed(options_.table_sqnr, 1) + " dB"));
      }
    }
    return rows(table, context);
  }

  static Status kept(const RowTable& table, PassContext& context, std::string why) {
    explain_kept(context, *table.value, *table.value->initializer(), table.gathers.front(),
                 std::move(why));
    return ok_status();
  }

  static double binary_sqnr(const RowTable& table, const BinaryRows& bits) {
    return table_sqnr(table, [&](std::size_t r, std::span<float> out) { restore(bits, r, out); });
  }

  static std::uint64_t bytes_of(const RowTable& table) { return table.numbers.size_bytes(); }

  static bool saves(const RowTable& table, std::uint64_t bytes) {
    return static_cast<double>(bytes) <= (1 - kLeastGain) * static_cast<double>(bytes_of(table));
  }

  Status rows(RowTable& table, PassContext& context) const {
    const RowMerge merge = merge_rows(table, options_.unused == "merge");
    const std::uint64_t bytes =
        merge.kept * table.columns * sizeof(float) + map_bytes(table.rows, merge.kept);
    if (!saves(table, bytes)) {
      return kept(table, context,
                  std::to_string(merge.equal) + " of " + std::to_string(table.rows) +
                      " rows are equal to another" +
                      (options_.unused == "merge"
                           ? ", and " + std::to_string(merge.unused) + " were never looked up"
                           : "") +
                      ": nothing worth a map");
    }
    std::string why = std::to_string(merge.equal) + " rows are equal to another";
    if (options_.unused == "merge") {
      why += ", " + std::to_string(merge.unused) + " were never looked up on the data";
    }
    return merged(table, merge, false, std::move(why), context);
  }

  Status hash(RowTable& table, PassContext& context) const {
    const double share = options_.table_keep > 0 ? options_.table_keep : 0.5;
    const auto buckets =
        std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(table.rows)));
    if (buckets >= table.rows) return kept(table, context, "keeps all of its rows");
    constexpr std::int64_t kMod = 10;
    const bool modulo = table.lookups.empty();
    if (modulo && table.value->graph().model().opset("") < kMod) {
      return kept(table, context, "buckets are found by Mod, from opset 10 on");
    }
    const auto index_type = element_type(*table.gathers.front()->input(1));
    if (modulo && index_type != DataType::kInt32 && index_type != DataType::kInt64) {
      return kept(table, context, "the type of what looks it up is not known");
    }
    const RowMerge merge = hash_rows(table, buckets);
    const std::uint64_t bytes = merge.kept * table.columns * sizeof(float) +
                                (modulo ? 0 : map_bytes(table.rows, merge.kept));
    if (!saves(table, bytes)) return kept(table, context, "would not get smaller");
    return merged(table, merge, modulo,
                  modulo ? "a row's number modulo " + std::to_string(merge.kept) + " is its bucket"
                         : "rows looked up most have their own, the others share",
                  context);
  }

  Status merged(RowTable& table, const RowMerge& merge, bool modulo, std::string why,
                PassContext& context) const {
    const std::vector<float> small = merged_rows(table, merge);
    const double sqnr = table_sqnr(table, [&](std::size_t r, std::span<float> out) {
      const auto from = std::span(small).subspan(merge.to[r] * table.columns, table.columns);
      std::ranges::copy(from, out.begin());
    });
    Decision decision = decision_about(table, std::move(why), sqnr);
    decision.what = std::to_string(merge.kept) + " of " + std::to_string(table.rows) + " rows";
    modernise_initializers(table.value->graph().model(), context);
    MCOMPRESS_ASSIGN(decision.bytes_after, emit_merged(table, merge, small, modulo, context));
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Status binary(RowTable& table, PassContext& context) const {
    if (std::string why = why_no_binary(table); !why.empty()) {
      return kept(table, context, std::move(why));
    }
    const BinaryRows bits = binary_rows(table);
    if (!saves(table, bits.bits.size() + 8 * table.rows)) {
      return kept(table, context, "its rows are too short to be smaller with two floats each");
    }
    Decision decision =
        decision_about(table, "signs about the middle of each row", binary_sqnr(table, bits));
    decision.what = "a bit per number";
    modernise_initializers(table.value->graph().model(), context);
    MCOMPRESS_ASSIGN(decision.bytes_after, emit_binary(table, bits, context));
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Status low_rank(RowTable& table, const Product& product, PassContext& context) const {
    const LowRank::Factors factors = product.factors.factors(product.rank);
    std::vector<float> left(table.rows * product.rank);
    std::vector<double> sums(product.rank);
    for (std::size_t r = 0; r < table.rows; ++r) {
      std::ranges::fill(sums, 0);
      const auto row = table.row(r);
      for (std::size_t c = 0; c < table.columns; ++c) {
        for (std::size_t k = 0; k < product.rank; ++k) {
          sums[k] += double{row[c]} * double{factors.left[c * product.rank + k]};
        }
      }
      for (std::size_t k = 0; k < product.rank; ++k) {
        left[r * product.rank + k] = static_cast<float>(sums[k]);
      }
    }
    Decision decision =
        decision_about(table, "a matrix behind the lookup restores the rows", product.sqnr_db);
    decision.what = "rank " + std::to_string(product.rank) + " of " + std::to_string(table.columns);
    modernise_initializers(table.value->graph().model(), context);
    MCOMPRESS_ASSIGN(decision.bytes_after,
                     emit_product(table, left, factors.right, product.rank, context));
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  static Decision decision_about(const RowTable& table, std::string why, double sqnr_db) {
    Decision decision;
    decision.subject = table.value->name();
    decision.op_type = "Gather";
    decision.why = std::move(why);
    decision.bytes_before = bytes_of(table);
    decision.sqnr_db = sqnr_db;
    return decision;
  }

  Options options_;
};

}  // namespace

PassInfo compress_tables_info() {
  PassInfo info = pass_info<CompressTables>(
      "compress-tables", "embedding tables as fewer rows, single bits or thin products",
      Reach::kNestedGraphs, false, {"lift-constants", "infer-shapes"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
