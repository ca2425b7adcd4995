#include "support/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "codec/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mcompress::codec::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE HWY_ATTR std::uint64_t load64(const std::uint8_t* p) {
  std::uint64_t value;
  std::memcpy(&value, p, sizeof value);
#if HWY_IS_BIG_ENDIAN
  value = __builtin_bswap64(value);
#endif
  return value;
}

// Each lane holds at least 56 bits below a marker bit, whose place tells how many were taken, so
// that no counter is needed. Four lookups of at most 12 bits fit.
template <unsigned kBits>
HWY_INLINE HWY_ATTR void huffman_loop(const std::uint32_t* HWY_RESTRICT pairs,
                                      HuffmanLanes& lanes) {
  constexpr std::uint64_t kMarker = std::uint64_t{1} << 63;
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kBits) - 1;
  constexpr std::size_t kLookups = 56 / kBits;
  constexpr std::size_t kMostOut = 2 * kLookups;
  const std::uint8_t *f0 = lanes.from[0], *f1 = lanes.from[1], *f2 = lanes.from[2],
                     *f3 = lanes.from[3];
  std::uint8_t *t0 = lanes.to[0], *t1 = lanes.to[1], *t2 = lanes.to[2], *t3 = lanes.to[3];
  std::uint64_t b0 = 0, b1 = 0, b2 = 0, b3 = 0;
  unsigned k0 = 0, k1 = 0, k2 = 0, k3 = 0;
  const auto rounds = [&]() HWY_ATTR {
    std::ptrdiff_t most = PTRDIFF_MAX;
    const std::uint8_t* from[] = {f0, f1, f2, f3};
    std::uint8_t* to[] = {t0, t1, t2, t3};
    for (std::size_t k = 0; k < 4; ++k) {
      most = std::min(most, (lanes.from_end[k] - from[k] - 8) / 8);
      most = std::min(most, (lanes.to_end[k] - to[k]) / static_cast<std::ptrdiff_t>(kMostOut) - 1);
    }
    return most;
  };
  for (std::ptrdiff_t left = rounds(); left > 0; left = rounds()) {
    for (; left > 0; --left) {
      b0 = (load64(f0) | kMarker) >> k0;
      b1 = (load64(f1) | kMarker) >> k1;
      b2 = (load64(f2) | kMarker) >> k2;
      b3 = (load64(f3) | kMarker) >> k3;
      const auto look = [pairs](std::uint64_t& bits, std::uint8_t*& to) HWY_ATTR {
        const std::uint32_t entry = pairs[bits & kMask];
        to[0] = static_cast<std::uint8_t>(entry);
        to[1] = static_cast<std::uint8_t>(entry >> 8);
        bits >>= (entry >> 16) & 63;
        to += entry >> 24;
      };
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kLookups; ++i) {
        look(b0, t0);
        look(b1, t1);
        look(b2, t2);
        look(b3, t3);
      }
      const auto advance = [](std::uint64_t bits, const std::uint8_t*& from, unsigned& taken)
                               HWY_ATTR {
                                 const auto used = static_cast<unsigned>(std::countl_zero(bits));
                                 from += used >> 3;
                                 taken = used & 7;
                               };
      advance(b0, f0, k0);
      advance(b1, f1, k1);
      advance(b2, f2, k2);
      advance(b3, f3, k3);
    }
  }
  lanes.from = {f0, f1, f2, f3};
  lanes.to = {t0, t1, t2, t3};
  lanes.taken = {k0, k1, k2, k3};
}

HWY_ATTR void HuffmanPairsImpl(const std::uint32_t* pairs, unsigned bits, HuffmanLanes& lanes) {
  switch (bits) {
    case 12:
      return huffman_loop<12>(pairs, lanes);
    case 11:
      return huffman_loop<11>(pairs, lanes);
    case 10:
      return huffman_loop<10>(pairs, lanes);
    case 9:
      return huffman_loop<9>(pairs, lanes);
    case 8:
      return huffman_loop<8>(pairs, lanes);
    default:  // short codes: the caller decodes them one by one
      return;
  }
}

// The words that lanes of `mask` ask for, in the order of the lanes.
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
using Lanes32 = hn::CappedTag<std::uint32_t, 16>;
HWY_INLINE HWY_ATTR hn::Vec<Lanes32> spread(Lanes32 d, hn::Mask<Lanes32> mask,
                                            const std::uint8_t* from) {
  const hn::Rebind<std::uint16_t, Lanes32> half;
  const auto words =
      hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const std::uint16_t*>(from)));
  return hn::Vec<Lanes32>{_mm512_maskz_expand_epi32(mask.raw, words.raw)};
}
#else
using Lanes32 = hn::CappedTag<std::uint32_t, 8>;
struct Spreads {
  // rank[mask][lane]: how many lanes below it are in the mask.
  std::uint32_t rank[256][8];
  constexpr Spreads() : rank() {
    for (unsigned mask = 0; mask < 256; ++mask) {
      std::uint32_t before = 0;
      for (unsigned lane = 0; lane < 8; ++lane) {
        rank[mask][lane] = before;
        if ((mask >> lane & 1) != 0) ++before;
        if (before > 7) before = 7;
      }
    }
  }
};
HWY_INLINE HWY_ATTR hn::Vec<Lanes32> spread(Lanes32 d, hn::Mask<Lanes32> mask,
                                            const std::uint8_t* from) {
  static constexpr Spreads kSpreads;
  const hn::Rebind<std::uint16_t, Lanes32> half;
  HWY_ALIGN std::uint8_t bits[8] = {0};
  hn::StoreMaskBits(d, mask, bits);
  const auto words =
      hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const std::uint16_t*>(from)));
  HWY_ALIGN std::uint32_t ranks[8];
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) {
    ranks[i] = std::min<std::uint32_t>(kSpreads.rank[bits[0]][i],
                                       static_cast<std::uint32_t>(hn::Lanes(d) - 1));
  }
  return hn::TableLookupLanes(words, hn::IndicesFromVec(d, hn::Load(d, ranks)));
}
#endif

template <int kBits>
HWY_INLINE HWY_ATTR void rans_loop(const std::uint32_t* HWY_RESTRICT slots, RansState& state) {
  const Lanes32 d;
  const hn::RebindToSigned<Lanes32> di;
  using V = hn::Vec<Lanes32>;
  constexpr std::size_t kLanes = hn::MaxLanes(Lanes32());
  constexpr std::size_t kVectors = kRansStates / kLanes;
  const hn::Rebind<std::uint8_t, Lanes32> bytes;
  const std::uint8_t* from = state.from;
  std::uint8_t* to = state.to;
  V x[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) x[v] = hn::LoadU(d, state.states.data() + v * kLanes);
  const V slot = hn::Set(d, (1U << kBits) - 1), low = hn::Set(d, 4095U);
  const V bound = hn::Set(d, kRansLow);
  constexpr std::ptrdiff_t kWords = 2 * static_cast<std::ptrdiff_t>(kRansStates);
  while (state.to_end - to >= static_cast<std::ptrdiff_t>(kRansStates) &&
         state.from_end - from >= kWords) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      const V entry = hn::GatherIndex(d, slots, hn::BitCast(di, hn::And(x[v], slot)));
      const V frequency = hn::And(hn::ShiftRight<12>(entry), low);
      V next = hn::Add(hn::Mul(hn::ShiftRight<kBits>(x[v]), frequency), hn::And(entry, low));
      // A state is below 2^31, so that signed comparison, which every machine has, will do.
      const auto mask = hn::RebindMask(d, hn::Lt(hn::BitCast(di, next), hn::BitCast(di, bound)));
      const V words = spread(d, mask, from);
      next = hn::IfThenElse(mask, hn::Or(hn::ShiftLeft<16>(next), words), next);
      from += 2 * hn::CountTrue(d, mask);
      x[v] = next;
      hn::StoreU(hn::U8FromU32(hn::ShiftRight<24>(entry)), bytes, to + v * kLanes);
    }
    to += kRansStates;
  }
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(x[v], d, state.states.data() + v * kLanes);
  state.from = from;
  state.to = to;
}

HWY_ATTR void RansGroupsImpl(const std::uint32_t* slots, unsigned bits, RansState& state) {
  if (bits == 14) return rans_loop<14>(slots, state);
  if (bits == 13) return rans_loop<13>(slots, state);
  rans_loop<12>(slots, state);
}

template <class T, bool kRotate>
HWY_ATTR void split(const std::uint8_t* elements, std::size_t count, std::uint8_t* planes) {
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, elements + i * sizeof(T), sizeof(T));
    if (kRotate) value = static_cast<T>(value << 1 | value >> (8 * sizeof(T) - 1));
    for (std::size_t b = 0; b < sizeof(T); ++b) {
      planes[b * count + i] = static_cast<std::uint8_t>(value >> (8 * b));
    }
  }
}
template <class T, bool kRotate>
HWY_ATTR void join(const std::uint8_t* planes, std::size_t count, std::uint8_t* elements) {
  for (std::size_t i = 0; i < count; ++i) {
    T value = 0;
    for (std::size_t b = 0; b < sizeof(T); ++b) {
      value = static_cast<T>(value | static_cast<T>(T{planes[b * count + i]} << (8 * b)));
    }
    if (kRotate) value = static_cast<T>(value >> 1 | value << (8 * sizeof(T) - 1));
    std::memcpy(elements + i * sizeof(T), &value, sizeof(T));
  }
}

template <bool kRotate>
HWY_ATTR void split_by(const std::uint8_t* elements, std::size_t count, std::size_t width,
                       std::uint8_t* planes) {
  if (width == 2) return split<std::uint16_t, kRotate>(elements, count, planes);
  if (width == 4) return split<std::uint32_t, kRotate>(elements, count, planes);
  if (width == 8) return split<std::uint64_t, kRotate>(elements, count, planes);
  std::memcpy(planes, elements, count);
}
template <bool kRotate>
HWY_ATTR void join_by(const std::uint8_t* planes, std::size_t count, std::size_t width,
                      std::uint8_t* elements) {
  if (width == 2) return join<std::uint16_t, kRotate>(planes, count, elements);
  if (width == 4) return join<std::uint32_t, kRotate>(planes, count, elements);
  if (width == 8) return join<std::uint64_t, kRotate>(planes, count, elements);
  std::memcpy(elements, planes, count);
}
HWY_ATTR void SplitPlanesImpl(const std::uint8_t* elements, std::size_t count, std::size_t width,
                              bool rotate, std::uint8_t* planes) {
  rotate ? split_by<true>(elements, count, width, planes)
         : split_by<false>(elements, count, width, planes);
}
HWY_ATTR void JoinPlanesImpl(const std::uint8_t* planes, std::size_t count, std::size_t width,
                             bool rotate, std::uint8_t* elements) {
  rotate ? join_by<true>(planes, count, width, elements)
         : join_by<false>(planes, count, width, elements);
}

}  // namespace mcompress::codec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mcompress::codec {
HWY_EXPORT(HuffmanPairsImpl);
HWY_EXPORT(RansGroupsImpl);
HWY_EXPORT(SplitPlanesImpl);
HWY_EXPORT(JoinPlanesImpl);

void huffman_decode_pairs(const std::uint32_t* pairs, unsigned bits, HuffmanLanes& lanes) {
  HWY_DYNAMIC_DISPATCH(HuffmanPairsImpl)(pairs, bits, lanes);
}

void rans_decode_groups(const std::uint32_t* slots, unsigned bits, RansState& state) {
  if constexpr (std::endian::native == std::endian::little) {
    HWY_DYNAMIC_DISPATCH(RansGroupsImpl)(slots, bits, state);
  } else {
    rans_decode_groups_plain(slots, bits, state);
  }
}

void rans_decode_groups_plain(const std::uint32_t* slots, unsigned bits, RansState& state) {
  const std::uint32_t slot = (1U << bits) - 1;
  while (state.to_end - state.to >= static_cast<std::ptrdiff_t>(kRansStates) &&
         state.from_end - state.from >= 2 * static_cast<std::ptrdiff_t>(kRansStates)) {
    for (std::uint32_t& x : state.states) {
      const std::uint32_t entry = slots[x & slot];
      x = (entry >> 12 & 4095) * (x >> bits) + (entry & 4095);
      if (x < kRansLow) {
        x = x << 16 | state.from[0] | std::uint32_t{state.from[1]} << 8;
        state.from += 2;
      }
      *state.to++ = static_cast<std::uint8_t>(entry >> 24);
    }
  }
}

void split_planes(const std::uint8_t* elements, std::size_t count, std::size_t width, bool rotate,
                  std::uint8_t* planes) {
  HWY_DYNAMIC_DISPATCH(SplitPlanesImpl)(elements, count, width, rotate, planes);
}
void join_planes(const std::uint8_t* planes, std::size_t count, std::size_t width, bool rotate,
                 std::uint8_t* elements) {
  HWY_DYNAMIC_DISPATCH(JoinPlanesImpl)(planes, count, width, rotate, elements);
}

}  // namespace mcompress::codec
#endif
