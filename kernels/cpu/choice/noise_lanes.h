#pragma once

// Which tokens the noise may lift highest, over vectors of lanes: C adds integers to the lanes of
// rows and attention. Local to the file that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/math/choice.h"

namespace shoal::cpu {
namespace {

// Philox4x32-10 (kernels/math/random.cc) of kWidth counters. The last counter word is 0.
template <typename C>
struct PhiloxLanes {
  typename C::I word[4];

  PhiloxLanes(uint32_t position, typename C::I quads, uint32_t choice, uint64_t seed)
      : word{C::Set32(position), quads, C::Set32(choice), C::ZeroI()} {
    auto low_key = static_cast<uint32_t>(seed);
    auto high_key = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      typename C::I high[2];
      typename C::I low[2];
      C::Multiply(word[0], 0xD2511F53, &high[0], &low[0]);
      C::Multiply(word[2], 0xCD9E8D57, &high[1], &low[1]);
      word[0] = C::Xor(C::Xor(high[1], word[1]), C::Set32(low_key));
      word[1] = low[1];
      word[2] = C::Xor(C::Xor(high[0], word[3]), C::Set32(high_key));
      word[3] = low[0];
      low_key += 0x9E3779B9;
      high_key += 0xBB67AE85;
    }
  }

  // Words as tokens want them: vector v of four has the words of tokens v * kWidth and following,
  // if lane 4 g + j counts quad j * (kWidth / 4) + g.
  void Transpose() {
    const typename C::I a = C::UnpackLow32(word[0], word[1]);
    const typename C::I b = C::UnpackHigh32(word[0], word[1]);
    const typename C::I c = C::UnpackLow32(word[2], word[3]);
    const typename C::I d = C::UnpackHigh32(word[2], word[3]);
    word[0] = C::UnpackLow64(a, c);
    word[1] = C::UnpackHigh64(a, c);
    word[2] = C::UnpackLow64(b, d);
    word[3] = C::UnpackHigh64(b, d);
  }
};

// The least logit whose token may reach score_min, from its random word. With r = ~word / 2,
// rounded down, the noise is at most -ln(1 - u) <= ln(2) * (31 - log2(r)), and the bits of r as a
// float are at most 2^23 * (127 + log2(r)). Lower by a margin far above what f32 rounds.
template <typename C>
class LeastLogits {
 public:
  explicit LeastLogits(const math::NoiseCall& call) {
    constexpr double kLn2 = 0.6931471805599454;  // Rounded up.
    const double base = (call.score_min - kLn2 * (31 + 127)) * call.temperature;
    const double margin =
        (__builtin_fabs(call.score_min) + 256) * call.temperature * 0x1p-19 + 1e-30;
    constexpr double kMax = 0x1.fffffep127;
    const double least = base - margin;
    offset_ = C::Set(static_cast<float>(least < -kMax ? -kMax : least > kMax ? kMax : least));
    slope_ = C::Set(static_cast<float>(kLn2 * 0x1p-23 * call.temperature));
  }

  typename C::F Of(typename C::I words) const {
    const typename C::F bits = C::FloatOf(C::BitsOfFloat(C::FloatOf(C::HalfOfComplement(words))));
    return C::Fma(bits, slope_, offset_);
  }

 private:
  typename C::F offset_;
  typename C::F slope_;
};

// Some of the call's tokens, one by one.
inline int64_t ListFew(const math::NoiseCall& call, int64_t begin, int64_t end, int32_t* indices) {
  math::NoiseCall part = call;
  part.logits += begin;
  part.count = end - begin;
  part.first_token += static_cast<uint32_t>(begin);
  const int64_t found = math::ListNoisyTokens(part, indices);
  for (int64_t i = 0; i < found; ++i) indices[i] += static_cast<int32_t>(begin);
  return found;
}

template <typename C>
int64_t ListNoisyTokens(const math::NoiseCall& call, int32_t* indices) {
  constexpr int64_t kTokens = 4 * C::kWidth;
  const LeastLogits<C> least(call);
  // Up to the first token of a quad.
  const int64_t head = (4 - call.first_token % 4) % 4;
  int64_t begin = head < call.count ? head : call.count;
  int64_t found = ListFew(call, 0, begin, indices);
  for (; begin + kTokens <= call.count; begin += kTokens) {
    const uint32_t quad = (call.first_token + static_cast<uint32_t>(begin)) / 4;
    PhiloxLanes<C> philox(call.position, C::Add32(C::Set32(quad), C::QuadOfLane()), call.choice,
                          call.seed);
    philox.Transpose();
    for (int v = 0; v < 4; ++v) {
      const int64_t at = begin + v * C::kWidth;
      uint32_t lanes = C::LanesFrom(C::Load(call.logits + at), least.Of(philox.word[v]));
      for (; lanes != 0; lanes &= lanes - 1) {
        indices[found++] = static_cast<int32_t>(at + __builtin_ctz(lanes));
      }
    }
  }
  return found + ListFew(call, begin, call.count, indices + found);
}

}  // namespace
}  // namespace shoal::cpu
