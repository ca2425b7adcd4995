#include "passes/common/symbols/symbol_pools.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <utility>

#include "numeric/entropy_code.h"
#include "numeric/fixed_math.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostSymbols = std::size_t{4} << 20;
// Bytes of a stream's nodes besides its table; of a pool's tree, for a first estimate.
constexpr std::uint64_t kStreamNodes = 140;
constexpr double kTreeEstimate = 900;
constexpr std::uint64_t kLookUp = 8;  // bytes held for a symbol: its number, and as a part
constexpr std::size_t kPairs = 256;   // pools up to which all pairs are compared
constexpr std::size_t kExact = 10;    // and by their codes

using Ranked = std::vector<std::uint64_t>;  // counts, the largest first

std::size_t entry_bytes(const SymbolStream& stream) {
  std::size_t bytes = packed_bytes(stream.type, 1).value_or(0);
  for (const std::int64_t d : stream.entry) bytes *= static_cast<std::size_t>(d);
  return bytes;
}

double entropy(const Ranked& counts) { return entropy_bits(counts); }

Ranked sum_of(const Ranked& a, const Ranked& b) {
  Ranked sum = a.size() >= b.size() ? a : b;
  const Ranked& other = a.size() >= b.size() ? b : a;
  for (std::size_t i = 0; i < other.size(); ++i) sum[i] += other[i];
  return sum;
}

}  // namespace

// Symbols [from, from + size) of a stream.
struct SymbolPools::Part {
  std::size_t stream = 0, from = 0, size = 0;
  std::array<std::uint8_t, 256> rank{};  // of a symbol
  std::vector<std::uint8_t> by_rank;
  Ranked counts;
  std::size_t pool = 0;
};

struct SymbolPools::Pool {
  std::vector<std::size_t> parts;
  Graph* graph = nullptr;
  Ranked counts;
  double entropy = 0;
  std::size_t symbols = 0;
  SymbolCode code;
};

SymbolPools::SymbolPools() = default;
SymbolPools::~SymbolPools() = default;

std::size_t SymbolPools::add(SymbolStream stream) {
  const std::size_t number = streams_.size();
  parts_of_.emplace_back();
  for (std::size_t from = 0; from < stream.symbols.size(); from += kMostSymbols) {
    Part part;
    part.stream = number, part.from = from;
    part.size = std::min(kMostSymbols, stream.symbols.size() - from);
    std::array<std::uint64_t, 256> counts{};
    for (std::size_t i = 0; i < part.size; ++i) ++counts[stream.symbols[from + i]];
    for (std::size_t s = 0; s < counts.size(); ++s) {
      if (counts[s] > 0) part.by_rank.push_back(static_cast<std::uint8_t>(s));
    }
    std::ranges::stable_sort(part.by_rank, std::ranges::greater{},
                             [&](std::uint8_t s) { return counts[s]; });
    for (std::size_t r = 0; r < part.by_rank.size(); ++r) {
      part.rank[part.by_rank[r]] = static_cast<std::uint8_t>(r);
      part.counts.push_back(counts[part.by_rank[r]]);
    }
    parts_of_.back().push_back(parts_.size());
    parts_.push_back(std::move(part));
  }
  streams_.push_back(std::move(stream));
  dropped_.push_back(false);
  return number;
}

bool SymbolPools::is_direct(const Pool& pool) const {
  return pool.parts.size() == 1 && entry_bytes(streams_[parts_[pool.parts.front()].stream]) == 1;
}

void SymbolPools::drop(std::size_t stream) { dropped_[stream] = true; }

std::size_t SymbolPools::pools() const { return pools_.size(); }

std::vector<std::size_t> SymbolPools::pools_of(std::size_t stream) const {
  std::vector<std::size_t> pools;
  for (const std::size_t p : parts_of_[stream]) pools.push_back(parts_[p].pool);
  return pools;
}

void SymbolPools::arrange(double memory_weight) {
  pools_.clear();
  std::vector<std::size_t> order;
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    if (!dropped_[parts_[p].stream]) order.push_back(p);
  }
  std::ranges::stable_sort(order, std::ranges::greater{},
                           [&](std::size_t p) { return parts_[p].size; });
  // What `counts` adds to a pool, in bytes.
  const auto added = [](const Pool& pool, const Ranked& counts) {
    return (entropy(sum_of(pool.counts, counts)) - pool.entropy) / 8;
  };
  for (const std::size_t p : order) {
    const Part& part = parts_[p];
    Graph* const graph = streams_[part.stream].graph;
    const double alone = entropy(part.counts) / 8 + kTreeEstimate;
    double least = alone;
    Pool* best = nullptr;
    for (Pool& pool : pools_) {
      if (pool.graph != graph || pool.symbols + part.size > kMostSymbols) continue;
      const double cost = added(pool, part.counts);
      if (cost < least) least = cost, best = &pool;
    }
    if (best == nullptr) {
      best = &pools_.emplace_back();
      best->graph = graph;
    }
    best->parts.push_back(p);
    best->counts = sum_of(best->counts, part.counts);
    best->entropy = entropy(best->counts);
    best->symbols += part.size;
  }
  merge_pools(memory_weight);
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    std::ranges::sort(pools_[i].parts);
    for (const std::size_t p : pools_[i].parts) parts_[p].pool = i;
  }
}

// The pair first that saves most, as long as one does: by their codes where they are few.
void SymbolPools::merge_pools(double memory_weight) {
  const auto code_of = [&](const Ranked& counts) {
    return best_symbol_code(counts, kSymbolTreeDepth, memory_weight);
  };
  const auto cost_of = [&](const SymbolCode& code) {
    return static_cast<double>(code.bytes()) +
           memory_weight * kMemoryOfTreeBit * static_cast<double>(code.tree_bits);
  };
  for (Pool& pool : pools_) pool.code = code_of(pool.counts);
  if (pools_.size() > kPairs) return;
  std::map<std::pair<std::size_t, std::size_t>, double> gains;
  while (true) {
    double most = 0;
    std::size_t into = 0, from = 0;
    for (std::size_t a = 0; a < pools_.size(); ++a) {
      for (std::size_t b = a + 1; b < pools_.size(); ++b) {
        const Pool &left = pools_[a], &right = pools_[b];
        if (left.graph != right.graph || left.symbols + right.symbols > kMostSymbols) continue;
        const auto [known, fresh] = gains.try_emplace({left.parts.front(), right.parts.front()});
        if (fresh) {
          const Ranked sum = sum_of(left.counts, right.counts);
          known->second = pools_.size() <= kExact
                              ? cost_of(left.code) + cost_of(right.code) - cost_of(code_of(sum))
                              : kTreeEstimate + (left.entropy + right.entropy - entropy(sum)) / 8;
        }
        if (known->second > most) most = known->second, into = a, from = b;
      }
    }
    if (most <= 0) break;
    Pool &to = pools_[into], &gone = pools_[from];
    std::erase_if(gains, [&](const auto& entry) {
      const auto& [a, b] = entry.first;
      return a == to.parts.front() || b == to.parts.front() || a == gone.parts.front() ||
             b == gone.parts.front();
    });
    to.parts.insert(to.parts.end(), gone.parts.begin(), gone.parts.end());
    to.counts = sum_of(to.counts, gone.counts);
    to.entropy = entropy(to.counts);
    to.symbols += gone.symbols;
    to.code = code_of(to.counts);
    pools_.erase(pools_.begin() + static_cast<std::ptrdiff_t>(from));
  }
}

SymbolShare SymbolPools::share(std::size_t stream) const {
  SymbolShare share;
  const std::size_t entry = entry_bytes(streams_[stream]);
  for (const std::size_t p : parts_of_[stream]) {
    const Part& part = parts_[p];
    const Pool& pool = pools_[part.pool];
    share.entropy_bits += entropy(part.counts);
    std::uint64_t tree = 0;
    for (const SymbolGroup& group : pool.code.groups) {
      for (const std::uint8_t rank : group.symbols) {
        if (rank >= part.counts.size()) continue;
        share.coded_bits += part.counts[rank] * (group.length + group.bits);
        tree += part.counts[rank] * group.length;
      }
    }
    share.own_bytes += kStreamNodes + part.by_rank.size() * entry;
    share.tree_bytes += pool.code.overhead * part.size / pool.symbols;
    SymbolCode mine;
    mine.tree_bits = tree;
    share.memory += tree_memory(mine, part.size);
    if (!is_direct(pool)) share.memory += part.size * (kLookUp + 2 * entry);
  }
  return share;
}

std::vector<Value*> SymbolPools::write(ConstantMaker& maker) const {
  std::vector<Value*> made(parts_.size());
  SymbolTreeWriter writer(maker);
  for (const Pool& pool : pools_) {
    if (pool.graph != &maker.graph()) continue;
    std::vector<std::uint8_t> symbols;
    symbols.reserve(pool.symbols);
    std::vector<std::int64_t> sizes;
    for (const std::size_t p : pool.parts) {
      const Part& part = parts_[p];
      const auto from =
          streams_[part.stream].symbols.begin() + static_cast<std::ptrdiff_t>(part.from);
      std::transform(from, from + static_cast<std::ptrdiff_t>(part.size),
                     std::back_inserter(symbols), [&](std::uint8_t s) { return part.rank[s]; });
      sizes.push_back(static_cast<std::int64_t>(part.size));
    }
    // What stands behind the symbols, see SymbolTreeWriter::write.
    std::int64_t spare = 0;
    for (const SymbolGroup& group : pool.code.groups) {
      std::uint64_t count = 0;
      for (const std::uint8_t rank : group.symbols) count += pool.counts[rank];
      spare += static_cast<std::int64_t>((8 - count % 8) % 8);
    }
    sizes.push_back(spare);
    const SymbolStream& first = streams_[parts_[pool.parts.front()].stream];
    const bool direct = is_direct(pool);
    std::vector<std::byte> leaves(pool.counts.size());
    for (std::size_t r = 0; r < leaves.size(); ++r) {
      leaves[r] =
          direct ? first.table[parts_[pool.parts.front()].by_rank[r]] : static_cast<std::byte>(r);
    }
    Value& all = writer.write(pool.code, symbols, leaves, direct ? first.type : DataType::kUint8);
    const std::vector<Value*> pieces =
        maker.split(direct ? all : maker.cast(all, DataType::kInt32), sizes);
    for (std::size_t i = 0; i < pool.parts.size(); ++i) {
      const Part& part = parts_[pool.parts[i]];
      const SymbolStream& stream = streams_[part.stream];
      Value* value = pieces[i];
      if (!direct) {
        const std::size_t width = entry_bytes(stream);
        std::vector<std::int64_t> dims = {static_cast<std::int64_t>(part.by_rank.size())};
        dims.insert(dims.end(), stream.entry.begin(), stream.entry.end());
        std::vector<std::byte> table;
        for (const std::uint8_t s : part.by_rank) {
          const auto entry = stream.table.begin() + static_cast<std::ptrdiff_t>(s * width);
          table.insert(table.end(), entry, entry + static_cast<std::ptrdiff_t>(width));
        }
        Value& entries =
            maker.constant(make_bytes_tensor(stream.type, std::move(dims), std::move(table)));
        value = &maker.node("Gather", {&entries, value});
      }
      made[pool.parts[i]] = value;
    }
  }
  std::vector<Value*> whole(streams_.size());
  for (std::size_t s = 0; s < streams_.size(); ++s) {
    if (dropped_[s] || streams_[s].graph != &maker.graph()) continue;
    std::vector<Value*> parts;
    for (const std::size_t p : parts_of_[s]) parts.push_back(made[p]);
    whole[s] = &maker.joined(parts);
  }
  return whole;
}

}  // namespace mcompress
