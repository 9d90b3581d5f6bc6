#pragma once

// The row operations over vectors of lanes, written once for every instruction set: L is Avx2Lanes
// or Avx512Lanes. Local to the file that includes it, like everything compiled with its flags
// (CMakeLists.txt says why). The scalar row is rows_scalar.cc, which shares nothing with this.

#include <cstddef>
#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

// math::Exp, operation by operation.
template <typename L>
typename L::F ExpLanes(typename L::F x) {
  using F = typename L::F;
  // Operand order: the second is kept where it is NaN.
  const F v = L::Min(L::Set(89.0f), L::Max(L::Set(-104.0f), x));
  const F round = L::Set(12582912.0f);
  const F shifted = L::Fma(v, L::Set(0x1.715476p+0f), round);
  const F n = L::Sub(shifted, round);
  F r = L::Fma(n, L::Set(-0x1.62e4p-1f), v);
  r = L::Fma(n, L::Set(-0x1.7f7d1cp-20f), r);
  F p = L::Set(1.0f / 5040.0f);
  p = L::Fma(p, r, L::Set(1.0f / 720.0f));
  p = L::Fma(p, r, L::Set(1.0f / 120.0f));
  p = L::Fma(p, r, L::Set(1.0f / 24.0f));
  p = L::Fma(p, r, L::Set(1.0f / 6.0f));
  p = L::Fma(p, r, L::Set(0.5f));
  p = L::Fma(p, r, L::Set(1.0f));
  p = L::Fma(p, r, L::Set(1.0f));
  return L::TimesPowerOfTwo(p, n);
}

// Calls whole(i) for i = 0, kWidth, ... and, if some are left over, part(i, how many).
template <typename L, typename Whole, typename Part>
void ForLanes(int64_t count, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + L::kWidth <= count; i += L::kWidth) whole(i);
  if (i < count) part(i, count - i);
}

template <typename L>
void RmsNorm(const float* x, const float* weight, float epsilon, int64_t cols, float* y) {
  constexpr int64_t kRowBlock = 512;
  float total = 0.0f;
  for (int64_t begin = 0; begin < cols; begin += kRowBlock) {
    const int64_t count = cols - begin < kRowBlock ? cols - begin : kRowBlock;
    typename L::Partials sums = L::Partials::Zeros();
    const auto add = [&](int64_t i, typename L::F v) {
      typename L::F& sum = sums.At(static_cast<int>(i / L::kWidth));
      sum = L::Fma(v, v, sum);
    };
    // Absent elements are squares of +0: a partial is never -0, so adding them changes nothing.
    ForLanes<L>(
        count, [&](int64_t i) { add(i, L::Load(x + begin + i)); },
        [&](int64_t i, int64_t n) { add(i, L::LoadFirst(x + begin + i, n)); });
    total += sums.Total();
  }
  const float mean = total / static_cast<float>(cols);
  const typename L::F r = L::Div(L::Set(1.0f), L::Sqrt(L::Set(mean + epsilon)));
  ForLanes<L>(
      cols,
      [&](int64_t i) { L::Store(y + i, L::Mul(L::Mul(L::Load(x + i), r), L::Load(weight + i))); },
      [&](int64_t i, int64_t n) {
        const auto scaled = L::Mul(L::LoadFirst(x + i, n), r);
        L::StoreFirst(y + i, L::Mul(scaled, L::LoadFirst(weight + i, n)), n);
      });
}

inline void RotateOne(float* x0, float* x1, float c, float s) {
  const float y0 = __builtin_fmaf(*x0, c, -(*x1 * s));
  const float y1 = __builtin_fmaf(*x0, s, *x1 * c);
  *x0 = y0;
  *x1 = y1;
}

template <typename L>
void RopeAdjacent(float* head, const float* cos, const float* sin, int64_t head_dim) {
  int64_t i = 0;
  for (; i + L::kWidth <= head_dim; i += L::kWidth) {
    L::RotatePairs(head + i, cos + i / 2, sin + i / 2);
  }
  for (; i + 1 < head_dim; i += 2) RotateOne(head + i, head + i + 1, cos[i / 2], sin[i / 2]);
}

template <typename L>
void RopeHalfSplit(float* head, const float* cos, const float* sin, int64_t head_dim) {
  using F = typename L::F;
  const int64_t half = head_dim / 2;
  int64_t i = 0;
  for (; i + L::kWidth <= half; i += L::kWidth) {
    const F x0 = L::Load(head + i);
    const F x1 = L::Load(head + half + i);
    const F c = L::Load(cos + i);
    const F s = L::Load(sin + i);
    L::Store(head + i, L::Fma(x0, c, L::Negate(L::Mul(x1, s))));
    L::Store(head + half + i, L::Fma(x0, s, L::Mul(x1, c)));
  }
  for (; i < half; ++i) RotateOne(head + i, head + half + i, cos[i], sin[i]);
}

template <typename L>
void SiluMul(const float* gate, const float* up, int64_t cols, float* y) {
  using F = typename L::F;
  const auto silu_mul = [](F g, F u) {
    return L::Mul(L::Div(g, L::Add(L::Set(1.0f), ExpLanes<L>(L::Negate(g)))), u);
  };
  ForLanes<L>(
      cols, [&](int64_t i) { L::Store(y + i, silu_mul(L::Load(gate + i), L::Load(up + i))); },
      [&](int64_t i, int64_t n) {
        L::StoreFirst(y + i, silu_mul(L::LoadFirst(gate + i, n), L::LoadFirst(up + i, n)), n);
      });
}

template <typename L>
void AddFixed(const int64_t* sum, int64_t cols, float* residual) {
  ForLanes<L>(
      cols,
      [&](int64_t i) {
        L::Store(residual + i, L::Add(L::Load(residual + i), L::FromFixed(sum + i)));
      },
      [&](int64_t i, int64_t n) {
        int64_t some[L::kWidth] = {};
        for (int64_t j = 0; j < n; ++j) some[j] = sum[i + j];
        L::StoreFirst(residual + i, L::Add(L::LoadFirst(residual + i, n), L::FromFixed(some)), n);
      });
}

template <typename L>
int64_t AddDots(const int64_t* dots, const PackedMatrix& weights, float scale, float* residual) {
  constexpr uint32_t kLimitBits = 0x4E800000;  // 2^30
  // As PanelBytes, which has external linkage.
  const int64_t panel_bytes =
      kPanelRows * (int64_t{sizeof(float)} + weights.cols * int64_t{sizeof(int8_t)});
  int64_t invalid = 0;
  const auto scaled = [&](int64_t o, const int64_t* from) {
    const auto* scales =
        reinterpret_cast<const float*>(weights.data + o / kPanelRows * panel_bytes);
    const auto d = L::Mul(L::Set(scale), L::Load(scales + o % kPanelRows));
    return L::Add(L::Zero(), L::Fma(d, L::FromInts(from), L::Zero()));
  };
  ForLanes<L>(
      weights.rows,
      [&](int64_t o) {
        const auto y = scaled(o, dots + o);
        invalid += L::CountMagnitudesFrom(y, kLimitBits);
        L::Store(residual + o, L::Add(L::Load(residual + o), y));
      },
      [&](int64_t o, int64_t n) {
        int64_t some[L::kWidth] = {};
        for (int64_t i = 0; i < n; ++i) some[i] = dots[o + i];
        float y[L::kWidth];
        L::Store(y, scaled(o, some));
        const auto present = L::LoadFirst(y, n);
        invalid += L::CountMagnitudesFrom(present, kLimitBits);
        L::StoreFirst(residual + o, L::Add(L::LoadFirst(residual + o, n), present), n);
      });
  return invalid;
}

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
