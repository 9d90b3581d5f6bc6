#pragma once

// Rounds keys and values into a block of the cache. L is Avx2Lanes or Avx512Lanes. Local to the
// file that includes it (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/lanes/for_lanes.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

// Rounds count <= kWidth floats into `cells`, `stride` elements apart. Result: how many overflowed.
template <typename L>
int64_t RoundToCache(KvDType dtype, const float* x, int64_t count, int64_t stride,
                     std::byte* cells) {
  const typename L::F v = count == L::kWidth ? L::Load(x) : L::LoadFirst(x, count);
  if (dtype == KvDType::kF32) {
    auto* out = reinterpret_cast<float*>(cells);
    for (int64_t i = 0; i < count; ++i) out[i * stride] = x[i];
    return L::CountMagnitudesFrom(v, 0x7F800000);
  }
  uint16_t rounded[L::kWidth];
  if (dtype == KvDType::kF16) {
    L::StoreF16(rounded, v);
  } else {
    L::StoreBF16(rounded, v);
  }
  auto* out = reinterpret_cast<uint16_t*>(cells);
  for (int64_t i = 0; i < count; ++i) out[i * stride] = rounded[i];
  // What lies half way between the largest finite number and twice its power of two, or above it,
  // rounds to infinity.
  return L::CountMagnitudesFrom(v, dtype == KvDType::kF16 ? 0x477FF000 : 0x7F7F8000);
}

// Quantises a key or value into `cells`, `stride` bytes apart, as a group of the contract's
// quantiser. Result: how many of its elements are not finite.
template <typename L>
int64_t QuantizeToCache(const float* x, int64_t head_dim, int64_t stride, int8_t* cells,
                        float* scale) {
  using F = typename L::F;
  int64_t overflows = 0;
  F magnitudes = L::Zero();
  const auto look = [&](F v) {
    overflows += L::CountMagnitudesFrom(v, 0x7F800000);
    magnitudes = L::Max(magnitudes, L::Max(v, L::Negate(v)));
  };
  ForLanes<L>(
      head_dim, [&](int64_t i) { look(L::Load(x + i)); },
      [&](int64_t i, int64_t n) { look(L::LoadFirst(x + i, n)); });
  const float amax = L::MaxOfLanes(magnitudes);
  if (overflows > 0 || amax < 0x1p-100f) {
    *scale = overflows > 0 ? __builtin_nanf("") : 0.0f;
    for (int64_t i = 0; i < head_dim; ++i) cells[i * stride] = 0;
    return overflows;
  }
  *scale = amax / 127.0f;
  const F inverse = L::Set(127.0f / amax);
  const F magic = L::Set(0x1.8p23f);  // There a float's last bit is worth one.
  const auto store = [&](int64_t i, F v, int64_t n) {
    float rounded[L::kWidth];
    L::Store(rounded, L::Sub(L::Add(L::Mul(v, inverse), magic), magic));
    for (int64_t j = 0; j < n; ++j) cells[(i + j) * stride] = static_cast<int8_t>(rounded[j]);
  };
  ForLanes<L>(
      head_dim, [&](int64_t i) { store(i, L::Load(x + i), L::kWidth); },
      [&](int64_t i, int64_t n) { store(i, L::LoadFirst(x + i, n), n); });
  return 0;
}

template <typename L>
int64_t StoreKv(KvDType dtype, const float* key, const float* value, int64_t head_dim, int64_t slot,
                std::byte* block) {
  if (dtype == KvDType::kInt8) {
    auto* cells = reinterpret_cast<int8_t*>(block);
    auto* scales = reinterpret_cast<float*>(block + KvScaleOffset(dtype, head_dim)) + slot;
    return QuantizeToCache<L>(key, head_dim, kKvBlockTokens, cells + slot, scales) +
           QuantizeToCache<L>(value, head_dim, 1, cells + (kKvBlockTokens + slot) * head_dim,
                              scales + kKvBlockTokens);
  }
  const int64_t element_bytes = ElementBytes(dtype);
  std::byte* keys = block + slot * element_bytes;
  std::byte* values = block + (kKvBlockTokens + slot) * head_dim * element_bytes;
  int64_t overflows = 0;
  for (int64_t i = 0; i < head_dim; i += L::kWidth) {
    const int64_t count = head_dim - i < L::kWidth ? head_dim - i : L::kWidth;
    overflows += RoundToCache<L>(dtype, key + i, count, kKvBlockTokens,
                                 keys + i * kKvBlockTokens * element_bytes);
    overflows += RoundToCache<L>(dtype, value + i, count, 1, values + i * element_bytes);
  }
  return overflows;
}

}  // namespace
}  // namespace shoal::cpu
