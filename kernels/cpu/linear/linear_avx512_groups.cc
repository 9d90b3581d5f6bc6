#include "kernels/cpu/linear/groups/run_groups.h"
#include "kernels/cpu/linear/int8/int8_layer.h"
#include "kernels/cpu/linear/int8/int8_vectors.h"
#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/lanes/lanes_avx512.h"
#include "kernels/cpu/linear/linear.h"

// The VNNI dot product takes unsigned weights and signed activations; the sum is exact in 32 bits.

namespace shoal::cpu {
namespace {

struct IsaAvx512 {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  using Lanes = Lanes512;
  static constexpr bool kSignedWeights = false;
  static constexpr int kParts = 1;
  static constexpr int kPartOutputs = 16;
  static constexpr int kInt8Panels = 2;

  static SHOAL_INLINE Bytes Load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static SHOAL_INLINE Bytes And(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
  static SHOAL_INLINE Bytes Or(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
  static SHOAL_INLINE Bytes Fill(int8_t byte) { return _mm512_set1_epi8(byte); }
  template <int kBits>
  static SHOAL_INLINE Bytes ShiftLeft(Bytes x) {
    return _mm512_slli_epi16(x, kBits);
  }
  template <int kBits>
  static SHOAL_INLINE Bytes ShiftRight(Bytes x) {
    return _mm512_srli_epi16(x, kBits);
  }
  // The values plus 128: their top bit flipped.
  static SHOAL_INLINE Bytes Lookup(Bytes nibbles) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4NlValues));
    const __m128i shifted = _mm_xor_si128(values, _mm_set1_epi8(static_cast<char>(0x80)));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(shifted), nibbles);
  }

  static SHOAL_INLINE Bytes FromBiased(Bytes x) { return x; }

  static SHOAL_INLINE Ints FillInts(int32_t x) { return _mm512_set1_epi32(x); }
  static SHOAL_INLINE Ints LoadInts(const int32_t* from) { return _mm512_load_si512(from); }
  static SHOAL_INLINE void StoreInts(Ints x, int32_t* to) { _mm512_store_si512(to, x); }
  static SHOAL_INLINE Ints AddInts(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static SHOAL_INLINE Floats ToFloats(Ints x) { return _mm512_cvtepi32_ps(x); }

  static SHOAL_INLINE Floats Singles(const uint8_t* from, int) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(from));
  }
  static SHOAL_INLINE Floats Halves(const uint8_t* from, int) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static SHOAL_INLINE __m128i SixteenBytes(const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  static SHOAL_INLINE Floats UnsignedBytes(const uint8_t* from, int) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(SixteenBytes(from)));
  }
  static SHOAL_INLINE Floats SignedBytes(const uint8_t* from, int) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(SixteenBytes(from)));
  }
  static SHOAL_INLINE Floats Broadcast(float x) { return _mm512_set1_ps(x); }
  static SHOAL_INLINE Floats Multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static SHOAL_INLINE Floats MultiplyAdd(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static SHOAL_INLINE Floats Negate(Floats x) { return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f)); }

  template <int kRows, int64_t kStride>
  static SHOAL_INLINE void AddQuad(Bytes weights, const int8_t* quants, Ints* dots) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      AddQuadDots<(kRows > 4)>(weights, quants + r * kStride, dots[r]);
    }
  }
  template <int kRows, int64_t kStride, int kDistance>
  static SHOAL_INLINE void AddQuadTwice(Bytes first, Bytes second, const int8_t* quants,
                                        Ints* dots) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Bytes quad = BroadcastQuad(quants + r * kStride);
      dots[r] = _mm512_dpbusd_epi32(dots[r], first, quad);
      dots[kDistance + r] = _mm512_dpbusd_epi32(dots[kDistance + r], second, quad);
    }
  }

  template <int kBits, int kQuads>
  static SHOAL_INLINE Ints Dot(const Bytes* weights, const int8_t* quants, Ints dot) {
#pragma GCC unroll 8
    for (int v = 0; v < kQuads; ++v) {
      AddQuadDots<true>(weights[v], quants + 4 * v, dot);
    }
    return dot;
  }

  template <int kRows, typename Visit>
  static SHOAL_INLINE void ForRows(Visit visit) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) visit(r);
  }

  template <int kRows>
  static SHOAL_INLINE Lanes Join(const Floats (*parts)[kRows], int r) {
    return {parts[0][r]};
  }
  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return AddFixed512(y, limit, sums);
  }
};

template <DType kType>
struct GroupFormat {
  template <typename Call>
  static void Compute(const Call& call) {
    ComputeByTiles<GroupTile<IsaAvx512, kType>>(call);
  }
};

template <>
struct GroupFormat<DType::kINT8> {
  template <typename Call>
  static void Compute(const Call& call) {
    ComputeInt8<Int8Vectors<IsaAvx512>>(call);
  }
};

}  // namespace

constinit const LinearKernels kLinearGroupsAvx512 =
    KernelsOf<GroupFormat, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
              DType::kIQ4_NL, DType::kQ4_G128, DType::kQ8_G128, DType::kINT8>();

}  // namespace shoal::cpu
