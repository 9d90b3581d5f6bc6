#include "kernels/cpu/linear_amx_int8.h"
#include "kernels/cpu/linear_amx_tiles.h"
#include "kernels/cpu/linear_lanes_amx.h"
#include "kernels/cpu/linear_variants.h"

// The tile kernels on AMX. Calls with few rows go to the avx512vnni row's functions, which a
// machine with AMX always has; DescribeKernelTables says so.

namespace shoal::cpu {
namespace {

// Assembly with a memory clobber: GCC 12's load intrinsics do not say that they read memory.
struct AmxTiles {
  // Tile 0: activations. 1: weights. 2: sums.
  static constexpr TileConfig kConfig = {.row_bytes = {32, 64, 64}, .rows = {16, 8, 16}};

  static SHOAL_INLINE void Multiply(const int8_t* rows, int64_t stride, const int8_t* weights,
                                    int32_t* dots) {
    __asm__ volatile(
        "tileloadd (%[weights],%[line],1), %%tmm1\n\t"
        "tileloadd (%[rows],%[stride],1), %%tmm0\n\t"
        "tilezero %%tmm2\n\t"
        "tdpbssd %%tmm1, %%tmm0, %%tmm2\n\t"
        "tilestored %%tmm2, (%[dots],%[line],1)"
        :
        : [rows] "r"(rows), [stride] "r"(stride), [weights] "r"(weights), [line] "r"(int64_t{64}),
          [dots] "r"(dots)
        : "memory");
  }
};

struct AmxInt8Tiles {
  // Tiles 0 to 3: sums, by panel and then row tile. 4 and 5: activations. 6 and 7: weights.
  static constexpr TileConfig kConfig = {.row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                         .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

  template <int kTiles>
  SHOAL_INLINE void Clear() {
    __asm__ volatile("tilezero %tmm0\n\ttilezero %tmm2");
    if constexpr (kTiles == 2) __asm__ volatile("tilezero %tmm1\n\ttilezero %tmm3");
  }
  template <int kTiles>
  SHOAL_INLINE void MultiplyAdd(const TileRows* rows, const uint8_t* const* weights) {
    __asm__ volatile(
        "tileloadd (%[first],%[line],1), %%tmm6\n\t"
        "tileloadd (%[rows],%[stride],1), %%tmm4\n\t"
        "tdpbsud %%tmm6, %%tmm4, %%tmm0\n\t"
        "tileloadd (%[second],%[line],1), %%tmm7\n\t"
        "tdpbsud %%tmm7, %%tmm4, %%tmm2"
        :
        : [rows] "r"(rows[0].rows), [stride] "r"(rows[0].stride), [first] "r"(weights[0]),
          [second] "r"(weights[1]), [line] "r"(int64_t{64})
        : "memory");
    if constexpr (kTiles == 2) {
      __asm__ volatile(
          "tileloadd (%[rows],%[stride],1), %%tmm5\n\t"
          "tdpbsud %%tmm6, %%tmm5, %%tmm1\n\t"
          "tdpbsud %%tmm7, %%tmm5, %%tmm3"
          :
          : [rows] "r"(rows[1].rows), [stride] "r"(rows[1].stride)
          : "memory");
    }
  }
  template <int kTiles>
  SHOAL_INLINE void Store(int32_t (*dots)[32][kPanelRows]) {
    __asm__ volatile(
        "tilestored %%tmm0, (%[first],%[line],1)\n\t"
        "tilestored %%tmm2, (%[second],%[line],1)"
        :
        : [first] "r"(dots[0]), [second] "r"(dots[1]), [line] "r"(int64_t{64})
        : "memory");
    if constexpr (kTiles == 2) {
      __asm__ volatile(
          "tilestored %%tmm1, (%[first],%[line],1)\n\t"
          "tilestored %%tmm3, (%[second],%[line],1)"
          :
          : [first] "r"(dots[0] + 16), [second] "r"(dots[1] + 16), [line] "r"(int64_t{64})
          : "memory");
    }
  }
};

template <DType kType, typename Call>
SHOAL_INLINE void RunTiles(const Call& call, void (*few_rows)(const Call&)) {
  if (call.row_end - call.row_begin < kTileRowsMin) return few_rows(call);
  const TileSession session(AmxTiles::kConfig);
  RunAnyRows<TileKernel<kType, AmxTiles, AmxLanes>>(call);
}

}  // namespace

void LinearInt8Amx(const LinearCall& call) {
  if (call.row_end - call.row_begin < kInt8TileRowsMin) return LinearInt8Avx512(call);
  const TileSession session(AmxInt8Tiles::kConfig);
  LinearInt8<Int8Tiles<AmxInt8Tiles, AmxLanes>>(call);
}
void RowDotsInt8Amx(const LeafLinearCall& call) {
  if (call.row_end - call.row_begin < kInt8TileRowsMin) return RowDotsInt8Avx512(call);
  const TileSession session(AmxInt8Tiles::kConfig);
  RowDotsInt8<Int8Tiles<AmxInt8Tiles, AmxLanes>>(call);
}
void LinearQ8_0Amx(const LinearCall& call) { RunTiles<DType::kQ8_0>(call, LinearQ8_0Avx512); }
void LinearQ4_0Amx(const LinearCall& call) { RunTiles<DType::kQ4_0>(call, LinearQ4_0Avx512); }
void LinearQ4_1Amx(const LinearCall& call) { RunTiles<DType::kQ4_1>(call, LinearQ4_1Avx512); }
void LeafLinearQ8_0Amx(const LeafLinearCall& call) {
  RunTiles<DType::kQ8_0>(call, LeafLinearQ8_0Avx512);
}
void LeafLinearQ4_0Amx(const LeafLinearCall& call) {
  RunTiles<DType::kQ4_0>(call, LeafLinearQ4_0Avx512);
}
void LeafLinearQ4_1Amx(const LeafLinearCall& call) {
  RunTiles<DType::kQ4_1>(call, LeafLinearQ4_1Avx512);
}

}  // namespace shoal::cpu
