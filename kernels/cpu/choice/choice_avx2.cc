// Choosing a token in AVX2 and FMA.

#include "kernels/cpu/choice/choice.h"
#include "kernels/cpu/choice/choice_lanes.h"
#include "kernels/cpu/lanes/lanes_avx2.h"

namespace shoal::cpu {
namespace {

struct Avx2Choice : Avx2Lanes {
  using D = __m256d;  // Half a vector's lanes, as doubles.
  using I = __m256i;  // As many integers of 64 bits, or all lanes' of 32.

  static D SetD(double x) { return _mm256_set1_pd(x); }
  static D AddD(D a, D b) { return _mm256_add_pd(a, b); }
  static D SubD(D a, D b) { return _mm256_sub_pd(a, b); }
  static D MulD(D a, D b) { return _mm256_mul_pd(a, b); }
  static D DivD(D a, D b) { return _mm256_div_pd(a, b); }
  static D Low(F v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
  static D High(F v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
  static F Join(D low, D high) {
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
  }
  // `v` where x >= least, else +0.
  static F KeepFrom(F x, float least, F v) {
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_GE_OQ), v);
  }

  static I ZeroI() { return _mm256_setzero_si256(); }
  static I Bits(D v) { return _mm256_castpd_si256(v); }
  static I AddI(I a, I b) { return _mm256_add_epi64(a, b); }
  static I SubI(I a, I b) { return _mm256_sub_epi64(a, b); }
  static void StoreI(uint64_t* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static uint64_t SumI(I v) {
    uint64_t lanes[4];
    StoreI(lanes, v);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
  }

  static I Set32(uint32_t x) { return _mm256_set1_epi32(static_cast<int32_t>(x)); }
  static I Add32(I a, I b) { return _mm256_add_epi32(a, b); }
  static I Xor(I a, I b) { return _mm256_xor_si256(a, b); }
  static I QuadOfLane() { return _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7); }
  // The halves of each lane's product with `factor`.
  static void Multiply(I a, uint32_t factor, I* high, I* low) {
    const I f = _mm256_set1_epi64x(factor);
    const I even = _mm256_mul_epu32(a, f);
    const I odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), f);
    constexpr int kOdd = 0xAA;
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, kOdd);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), kOdd);
  }
  static I UnpackLow32(I a, I b) { return _mm256_unpacklo_epi32(a, b); }
  static I UnpackHigh32(I a, I b) { return _mm256_unpackhi_epi32(a, b); }
  static I UnpackLow64(I a, I b) { return _mm256_unpacklo_epi64(a, b); }
  static I UnpackHigh64(I a, I b) { return _mm256_unpackhi_epi64(a, b); }

  static I HalfOfComplement(I words) {
    return _mm256_srli_epi32(_mm256_xor_si256(words, _mm256_set1_epi32(-1)), 1);
  }
  static F FloatOf(I v) { return _mm256_cvtepi32_ps(v); }
  static I BitsOfFloat(F v) { return _mm256_castps_si256(v); }
  // Bit i: lane i of x is at least lane i of least.
  static uint32_t LanesFrom(F x, F least) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, least, _CMP_GE_OQ)));
  }
};

}  // namespace

constinit const math::ChoiceKernels kChoiceAvx2 = ChoiceKernelsOf<Avx2Choice>();

}  // namespace shoal::cpu
