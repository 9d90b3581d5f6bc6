// Choosing a token in AVX-512 F, BW, DQ and VL.

#include "kernels/cpu/choice/choice.h"
#include "kernels/cpu/choice/choice_lanes.h"
#include "kernels/cpu/lanes/lanes_avx512.h"

namespace shoal::cpu {
namespace {

struct Avx512Choice : Avx512Lanes {
  using D = __m512d;  // Half a vector's lanes, as doubles.
  using I = __m512i;  // As many integers of 64 bits, or all lanes' of 32.

  static D SetD(double x) { return _mm512_set1_pd(x); }
  static D AddD(D a, D b) { return _mm512_add_pd(a, b); }
  static D SubD(D a, D b) { return _mm512_sub_pd(a, b); }
  static D MulD(D a, D b) { return _mm512_mul_pd(a, b); }
  static D DivD(D a, D b) { return _mm512_div_pd(a, b); }
  static D Low(F v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
  static D High(F v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
  static F Join(D low, D high) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high),
                              1);
  }
  // `v` where x >= least, else +0.
  static F KeepFrom(F x, float least, F v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(least), _CMP_GE_OQ), v);
  }

  static I ZeroI() { return _mm512_setzero_si512(); }
  static I Bits(D v) { return _mm512_castpd_si512(v); }
  static I AddI(I a, I b) { return _mm512_add_epi64(a, b); }
  static I SubI(I a, I b) { return _mm512_sub_epi64(a, b); }
  static void StoreI(uint64_t* p, I v) { _mm512_storeu_si512(p, v); }
  static uint64_t SumI(I v) {
    uint64_t lanes[8];
    StoreI(lanes, v);
    uint64_t sum = 0;
    for (const uint64_t lane : lanes) sum += lane;
    return sum;
  }

  static I Set32(uint32_t x) { return _mm512_set1_epi32(static_cast<int32_t>(x)); }
  static I Add32(I a, I b) { return _mm512_add_epi32(a, b); }
  static I Xor(I a, I b) { return _mm512_xor_si512(a, b); }
  static I QuadOfLane() {
    return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  }
  // The halves of each lane's product with `factor`.
  static void Multiply(I a, uint32_t factor, I* high, I* low) {
    const I f = _mm512_set1_epi64(factor);
    const I even = _mm512_mul_epu32(a, f);
    const I odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), f);
    constexpr __mmask16 kOdd = 0xAAAA;
    *high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), kOdd, odd);
    *low = _mm512_mask_mov_epi32(even, kOdd, _mm512_slli_epi64(odd, 32));
  }
  static I UnpackLow32(I a, I b) { return _mm512_unpacklo_epi32(a, b); }
  static I UnpackHigh32(I a, I b) { return _mm512_unpackhi_epi32(a, b); }
  static I UnpackLow64(I a, I b) { return _mm512_unpacklo_epi64(a, b); }
  static I UnpackHigh64(I a, I b) { return _mm512_unpackhi_epi64(a, b); }

  static I HalfOfComplement(I words) {
    return _mm512_srli_epi32(_mm512_xor_si512(words, _mm512_set1_epi32(-1)), 1);
  }
  static F FloatOf(I v) { return _mm512_cvtepi32_ps(v); }
  static I BitsOfFloat(F v) { return _mm512_castps_si512(v); }
  // Bit i: lane i of x is at least lane i of least.
  static uint32_t LanesFrom(F x, F least) { return _mm512_cmp_ps_mask(x, least, _CMP_GE_OQ); }
};

}  // namespace

constinit const math::ChoiceKernels kChoiceAvx512 = ChoiceKernelsOf<Avx512Choice>();

}  // namespace shoal::cpu
