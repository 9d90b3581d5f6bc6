#include "kernels/cpu/linear/amx/int8_tiles.h"
#include "kernels/cpu/linear/amx/lanes_amx.h"
#include "kernels/cpu/linear/amx/tile_kernel.h"
#include "kernels/cpu/linear/int8/int8_layer.h"
#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/tiles/run_tiles.h"

// The tile kernels on AMX. Calls with few rows go to the avx512vnni variant's functions, which a
// machine with AMX always has; the amx table's note says so.

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

// What avx512vnni computes the format with.
constexpr const LinearKernels& VectorsOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return kLinearQ8_0Avx512;
    case DType::kQ4_0:
      return kLinearQ4_0Avx512;
    case DType::kQ4_1:
      return kLinearQ4_1Avx512;
    default:
      return kLinearGroupsAvx512;
  }
}
template <DType kType>
void ComputeFewRows(const LinearCall& call) {
  VectorsOf(kType).whole[static_cast<size_t>(kType)](call);
}
template <DType kType>
void ComputeFewRows(const LeafLinearCall& call) {
  VectorsOf(kType).leaves[static_cast<size_t>(kType)](call);
}

template <DType kType>
struct TileFormat {
  template <typename Call>
  static void Compute(const Call& call) {
    if (call.row_end - call.row_begin < kTileRowsMin) return ComputeFewRows<kType>(call);
    const TileSession session(AmxTiles::kConfig);
    RunAnyRows<TileKernel<kType, AmxTiles, AmxLanes>>(call);
  }
};

template <>
struct TileFormat<DType::kINT8> {
  template <typename Call>
  static void Compute(const Call& call) {
    if (call.row_end - call.row_begin < kInt8TileRowsMin) return ComputeFewRows<DType::kINT8>(call);
    const TileSession session(AmxInt8Tiles::kConfig);
    ComputeInt8<Int8Tiles<AmxInt8Tiles, AmxLanes>>(call);
  }
};

}  // namespace

constinit const LinearKernels kLinearAmx =
    KernelsOf<TileFormat, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kINT8>();

}  // namespace shoal::cpu
