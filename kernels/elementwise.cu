// fill: a grid-stride loop. cast and add: a block takes kUnroll runs of neighbouring packs, so that
// a thread has all its loads in flight before it needs the first.
// Memory-bound: the target is the device's copy bandwidth (ringtrain bench membound).
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/tile/numeric.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/elementwise.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 132 * 32;  // enough to fill any GPU; fill's loop does the rest
constexpr int kUnroll = 4;

unsigned blocks_for(std::int64_t work) {
  return static_cast<unsigned>(std::min((work + kThreads - 1) / kThreads, kMaxBlocks));
}

template <typename Word>
__global__ void __launch_bounds__(kThreads) fill_kernel(Word* out, std::int64_t words, Word value) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < words; i += stride) {
    out[i] = value;
  }
}

template <typename Word>
void fill_words(void* out, std::int64_t words, Word value, cudaStream_t stream) {
  fill_kernel<<<blocks_for(words), kThreads, 0, stream>>>(static_cast<Word*>(out), words, value);
}

template <bool kAdd, int kPack, typename In, typename Out>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(const In* in, Out* out, std::int64_t packs) {
  using InPack = Pack<In, kPack>;
  using OutPack = Pack<Out, kPack>;
  const auto* from = reinterpret_cast<const InPack*>(in);
  auto* to = reinterpret_cast<OutPack*>(out);
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads * kUnroll + threadIdx.x;
  InPack terms[kUnroll];
  OutPack sums[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::int64_t i = first + u * kThreads;
    if (i >= packs) break;
    terms[u] = from[i];
    if constexpr (kAdd) sums[u] = to[i];
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::int64_t i = first + u * kThreads;
    if (i >= packs) break;
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      float value = to_float(terms[u].at[e]);
      if constexpr (kAdd) value += to_float(sums[u].at[e]);
      sums[u].at[e] = from_float<Out>(value);
    }
    to[i] = sums[u];
  }
}

template <bool kAdd>
void convert(const ConvertArgs& args, cudaStream_t stream) {
  if (args.elements == 0) return;
  with_compute_type(args.in_dtype, [&](auto in_type) {
    with_compute_type(args.out_dtype, [&](auto out_type) {
      using In = decltype(in_type);
      using Out = decltype(out_type);
      const auto* in = static_cast<const In*>(args.in);
      auto* out = static_cast<Out*>(args.out);
      const auto launch = [&](auto pack) {
        const std::int64_t packs = args.elements / pack;
        constexpr int kPacks = kThreads * kUnroll;
        const auto blocks = static_cast<unsigned>((packs + kPacks - 1) / kPacks);
        convert_kernel<kAdd, pack><<<blocks, kThreads, 0, stream>>>(in, out, packs);
      };
      // As many elements as the wider type has in 16 bytes.
      constexpr int kPack = std::min(kWidestPack<In>, kWidestPack<Out>);
      if (is_packable<In, kPack>(args.elements, {in}) &&
          is_packable<Out, kPack>(args.elements, {out})) {
        launch(std::integral_constant<int, kPack>{});
      } else {
        launch(std::integral_constant<int, 1>{});
      }
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_fill(const FillArgs& args, cudaStream_t stream) {
  if (args.elements == 0) return;
  const std::size_t bytes = static_cast<std::size_t>(args.elements) * size_of(args.dtype);
  if (args.value == 0.0 && !std::signbit(args.value)) {  // zero has no set bit in any type
    RT_CUDA_CHECK(cudaMemsetAsync(args.out, 0, bytes, stream));
    return;
  }
  switch (args.dtype) {
    case DType::kFloat32:
      fill_words(args.out, args.elements,
                 std::bit_cast<std::uint32_t>(static_cast<float>(args.value)), stream);
      break;
    case DType::kFloat64:
      fill_words(args.out, args.elements, std::bit_cast<std::uint64_t>(args.value), stream);
      break;
    case DType::kBFloat16:
      fill_words(args.out, args.elements, bfloat16(static_cast<float>(args.value)).bits, stream);
      break;
    case DType::kFloat16:
      fill_words(args.out, args.elements, half_from_float(static_cast<float>(args.value)), stream);
      break;
    case DType::kInt32:
      fill_words(args.out, args.elements, static_cast<std::int32_t>(args.value), stream);
      break;
    case DType::kInt64:
      fill_words(args.out, args.elements, static_cast<std::int64_t>(args.value), stream);
      break;
  }
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_cast(const ConvertArgs& args, cudaStream_t stream) {
  convert<false>(args, stream);
}

void launch_add(const ConvertArgs& args, cudaStream_t stream) {
  convert<true>(args, stream);
}

}  // namespace ringtrain::kernels
