// Rotary position embedding. One block per token: the rotation of each of the H / 2 pairs is
// computed once, into shared memory, and applied to all heads. A thread takes kPack neighbouring
// pairs, which lie in two packs H / 2 apart, and kUnroll of those at a time.
// Memory-bound (ringtrain bench membound).
#include "kernels/tile/numeric.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/rope.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 2;

// The product is formed and reduced to half turns in (-1, 1] in double: at position 10^6 a float
// angle is off by up to 0.03 radians.
__device__ void compute_rotations(float2* rotations, std::int32_t position,
                                  const float* inverse_frequency, int pairs) {
  constexpr double kTurnsOfRadians = 0.15915494309189533577;  // 1 / (2 pi)
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const double turns =
        static_cast<double>(position) * static_cast<double>(inverse_frequency[i]) * kTurnsOfRadians;
    float sine;
    float cosine;
    sincospif(static_cast<float>(2.0 * (turns - rint(turns))), &sine, &cosine);
    rotations[i] = make_float2(cosine, sine);
  }
  __syncthreads();
}

/// A pack of pairs: where its lower half lies in a token's packed row and in the separate tensors,
/// and whether it is rotated.
struct PairPack {
  int packed;    // element in [N + 2K, H]
  int separate;  // element in the row of its own tensor
  int pair;      // its first
  int tensor;    // 0 query, 1 key, 2 value

  template <typename Args>
  __device__ PairPack(const Args& args, int item, int packs_per_head, int pack) {
    const int head = item / packs_per_head;
    pair = (item - head * packs_per_head) * pack;
    packed = head * args.head_dim + pair;
    tensor = head < args.query_heads ? 0 : (head < args.query_heads + args.kv_heads ? 1 : 2);
    const int first_head = tensor == 0 ? 0 : args.query_heads + (tensor - 1) * args.kv_heads;
    separate = packed - first_head * args.head_dim;
  }
};

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    rope_split_kernel(const __grid_constant__ RopeSplitArgs args) {
  using P = Pack<T, kPack>;
  extern __shared__ float2 rotations[];
  const std::int64_t row = blockIdx.x;  // batch x tokens
  const int pairs = args.head_dim / 2;
  const int packs_per_head = pairs / kPack;
  const int heads = args.query_heads + 2 * args.kv_heads;
  const int items = heads * packs_per_head;
  const T* in = static_cast<const T*>(args.qkv) + row * heads * args.head_dim;
  T* query = static_cast<T*>(args.query) + row * args.query_heads * args.head_dim;
  T* key = static_cast<T*>(args.key_value) + row * args.kv_heads * args.head_dim;
  T* value = key + args.batch * args.tokens * args.kv_heads * args.head_dim;
  for (int begin = 0; begin < items; begin += kThreads * kUnroll) {
    P lower[kUnroll];
    P upper[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int item = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (item >= items) break;
      const PairPack at(args, item, packs_per_head, kPack);
      lower[u] = *reinterpret_cast<const P*>(in + at.packed);
      upper[u] = *reinterpret_cast<const P*>(in + at.packed + pairs);
    }
    if (begin == 0) {
      compute_rotations(rotations, args.positions[row % args.tokens], args.inverse_frequency,
                        pairs);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int item = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (item >= items) break;
      const PairPack at(args, item, packs_per_head, kPack);
      if (at.tensor < 2) {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float2 r = rotations[at.pair + e];
          const float a = to_float(lower[u].at[e]);
          const float b = to_float(upper[u].at[e]);
          lower[u].at[e] = from_float<T>(a * r.x - b * r.y);
          upper[u].at[e] = from_float<T>(b * r.x + a * r.y);
        }
      }
      T* to = (at.tensor == 0 ? query : at.tensor == 1 ? key : value) + at.separate;
      *reinterpret_cast<P*>(to) = lower[u];
      *reinterpret_cast<P*>(to + pairs) = upper[u];
    }
  }
}

/// Neighbouring elements as floats.
template <int kPack, typename T>
__device__ Pack<float, kPack> load_floats(const T* from) {
  return unpack(*reinterpret_cast<const Pack<T, kPack>*>(from));
}

/// G: of dkey_value.
template <typename T, typename G, int kPack>
__global__ void __launch_bounds__(kThreads)
    rope_merge_kernel(const __grid_constant__ RopeMergeArgs args) {
  using Out = Pack<T, kPack>;
  extern __shared__ float2 rotations[];
  const std::int64_t row = blockIdx.x;
  const int pairs = args.head_dim / 2;
  const int packs_per_head = pairs / kPack;
  const int heads = args.query_heads + 2 * args.kv_heads;
  const int items = heads * packs_per_head;
  T* out = static_cast<T*>(args.dqkv) + row * heads * args.head_dim;
  const float* dquery = args.dquery + row * args.query_heads * args.head_dim;
  const G* dkey = static_cast<const G*>(args.dkey_value) + row * args.kv_heads * args.head_dim;
  const G* dvalue = dkey + args.batch * args.tokens * args.kv_heads * args.head_dim;
  for (int begin = 0; begin < items; begin += kThreads * kUnroll) {
    Pack<float, kPack> lower[kUnroll];
    Pack<float, kPack> upper[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int item = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (item >= items) break;
      const PairPack at(args, item, packs_per_head, kPack);
      if (at.tensor == 0) {
        lower[u] = load_floats<kPack>(dquery + at.separate);
        upper[u] = load_floats<kPack>(dquery + at.separate + pairs);
      } else {
        const G* from = (at.tensor == 1 ? dkey : dvalue) + at.separate;
        lower[u] = load_floats<kPack>(from);
        upper[u] = load_floats<kPack>(from + pairs);
      }
    }
    if (begin == 0) {
      compute_rotations(rotations, args.positions[row % args.tokens], args.inverse_frequency,
                        pairs);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int item = begin + u * kThreads + static_cast<int>(threadIdx.x);
      if (item >= items) break;
      const PairPack at(args, item, packs_per_head, kPack);
      Pack<float, kPack> rotated[2];
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        // Values turn by nothing, which leaves every finite number as it is.
        const float2 r = at.tensor < 2 ? rotations[at.pair + e] : make_float2(1.0f, 0.0f);
        const float a = lower[u].at[e];
        const float b = upper[u].at[e];
        rotated[0].at[e] = a * r.x + b * r.y;
        rotated[1].at[e] = b * r.x - a * r.y;
      }
      *reinterpret_cast<Out*>(out + at.packed) = pack_as<T>(rotated[0]);
      *reinterpret_cast<Out*>(out + at.packed + pairs) = pack_as<T>(rotated[1]);
    }
  }
}

}  // namespace

void launch_rope_split(const RopeSplitArgs& args, cudaStream_t stream) {
  if (args.batch * args.tokens == 0) return;
  const auto blocks = static_cast<unsigned>(args.batch * args.tokens);
  const int pairs = args.head_dim / 2;
  const std::size_t shared = static_cast<std::size_t>(pairs) * sizeof(float2);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    with_widest_pack<T>(pairs, {args.qkv, args.query, args.key_value}, [&](auto pack) {
      rope_split_kernel<T, pack><<<blocks, kThreads, shared, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_rope_merge(const RopeMergeArgs& args, cudaStream_t stream) {
  if (args.batch * args.tokens == 0) return;
  const auto blocks = static_cast<unsigned>(args.batch * args.tokens);
  const int pairs = args.head_dim / 2;
  const std::size_t shared = static_cast<std::size_t>(pairs) * sizeof(float2);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    // As many pairs as the wider type, that of the gradients, has in 16 bytes.
    with_widest_pack<float>(pairs, {args.dquery, args.dkey_value, args.dqkv}, [&](auto pack) {
      const auto kernel = args.dkey_value_type == DType::kFloat32
                              ? rope_merge_kernel<T, float, pack>
                              : rope_merge_kernel<T, T, pack>;
      kernel<<<blocks, kThreads, shared, stream>>>(args);
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
