#include "kernels/cpu/linear/groups/run_groups.h"
#include "kernels/cpu/linear/int8/int8_layer.h"
#include "kernels/cpu/linear/int8/int8_vectors.h"
#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/lanes/lanes_avx2.h"
#include "kernels/cpu/linear/linear.h"

// Without VNNI, byte products are added in 16 bits as long as they fit: 2 * 127 times the largest
// weight for each quad. Eight quads of 4 bits, four of 5 bits, two of 6 bits. Weights of 8 bits are
// signed, and lend their sign to the activation: |w| <= 128 unsigned times +-127 fits once.

namespace shoal::cpu {
namespace {

struct IsaAvx2 {
  using Bytes = __m256i;
  using Ints = __m256i;
  using Floats = __m256;
  using Lanes = Lanes256;
  static constexpr bool kSignedWeights = true;
  static constexpr int kParts = 2;
  static constexpr int kPartOutputs = 8;
  static constexpr int kInt8Panels = 1;

  static SHOAL_INLINE Bytes Load(const uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static SHOAL_INLINE Bytes And(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
  static SHOAL_INLINE Bytes Or(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
  static SHOAL_INLINE Bytes Fill(int8_t byte) { return _mm256_set1_epi8(byte); }
  template <int kBits>
  static SHOAL_INLINE Bytes ShiftLeft(Bytes x) {
    return _mm256_slli_epi16(x, kBits);
  }
  template <int kBits>
  static SHOAL_INLINE Bytes ShiftRight(Bytes x) {
    return _mm256_srli_epi16(x, kBits);
  }
  static SHOAL_INLINE Bytes Lookup(Bytes nibbles) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4NlValues));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles);
  }

  static SHOAL_INLINE Bytes FromBiased(Bytes x) {
    return _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(0x80)));
  }

  static SHOAL_INLINE Ints FillInts(int32_t x) { return _mm256_set1_epi32(x); }
  static SHOAL_INLINE Ints LoadInts(const int32_t* from) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
  }
  static SHOAL_INLINE void StoreInts(Ints x, int32_t* to) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), x);
  }
  static SHOAL_INLINE Ints AddInts(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static SHOAL_INLINE Floats ToFloats(Ints x) { return _mm256_cvtepi32_ps(x); }

  static SHOAL_INLINE Floats Singles(const uint8_t* from, int part) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from) + 8 * part);
  }
  static SHOAL_INLINE Floats Halves(const uint8_t* from, int part) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16 * part)));
  }
  static SHOAL_INLINE __m128i EightBytes(const uint8_t* from, int part) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * part));
  }
  static SHOAL_INLINE Floats UnsignedBytes(const uint8_t* from, int part) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(EightBytes(from, part)));
  }
  static SHOAL_INLINE Floats SignedBytes(const uint8_t* from, int part) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(EightBytes(from, part)));
  }
  static SHOAL_INLINE Floats Broadcast(float x) { return _mm256_set1_ps(x); }
  static SHOAL_INLINE Floats Multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static SHOAL_INLINE Floats MultiplyAdd(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
  }
  static SHOAL_INLINE Floats Negate(Floats x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }

  // Products of a quad, added in pairs.
  template <int kBits>
  static SHOAL_INLINE __m256i Pairs(Bytes weights, const int8_t* quad) {
    const __m256i x = Broadcast32(quad);
    if constexpr (kBits < 8) return _mm256_maddubs_epi16(weights, x);
    return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
  }

  template <int kRows, int64_t kStride>
  static SHOAL_INLINE void AddQuad(Bytes weights, const int8_t* quants, Ints* dots) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256i pairs = Pairs<8>(weights, quants + r * kStride);
      dots[r] = _mm256_add_epi32(dots[r], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
      Settle(dots[r]);
    }
  }

  template <int kBits, int kQuads>
  static SHOAL_INLINE Ints Dot(const Bytes* weights, const int8_t* quants, Ints dot) {
    constexpr int kTogether = kBits == 4 ? 8 : kBits == 5 ? 4 : kBits == 6 ? 2 : 1;
#pragma GCC unroll 8
    for (int first = 0; first < kQuads; first += kTogether) {
      __m256i pairs = Pairs<kBits>(weights[first], quants + 4 * first);
#pragma GCC unroll 8
      for (int v = first + 1; v < first + kTogether; ++v) {
        pairs = _mm256_add_epi16(pairs, Pairs<kBits>(weights[v], quants + 4 * v));
      }
      dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return dot;
  }

  template <int kRows, typename Visit>
  static SHOAL_INLINE void ForRows(Visit visit) {
// Unrolled, the compiler loads many rows at once and spills the weights.
#pragma GCC unroll 1
    for (int r = 0; r < kRows; ++r) visit(r);
  }

  template <int kRows>
  static SHOAL_INLINE Lanes Join(const Floats (*parts)[kRows], int r) {
    return {{parts[0][r], parts[1][r]}};
  }
  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return AddFixed256(y, limit, sums);
  }
};

template <DType kType>
struct GroupFormat {
  template <typename Call>
  static void Compute(const Call& call) {
    ComputeByTiles<GroupTile<IsaAvx2, kType>>(call);
  }
};

template <>
struct GroupFormat<DType::kINT8> {
  template <typename Call>
  static void Compute(const Call& call) {
    ComputeInt8<Int8Vectors<IsaAvx2>>(call);
  }
};

}  // namespace

constinit const LinearKernels kLinearGroupsAvx2 =
    KernelsOf<GroupFormat, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
              DType::kIQ4_NL, DType::kQ4_G128, DType::kQ8_G128, DType::kINT8>();

}  // namespace shoal::cpu
