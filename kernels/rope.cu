// Rotary position embedding. One block per token: the rotation of each of the H / 2 pairs is
// computed once, into shared memory, and applied to all heads. Memory-bound.
#include "kernels/tile/numeric.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/rope.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 128;

// The product is formed and reduced to (-pi, pi] in double: at position 10^6 a float angle is
// off by up to 0.03 radians.
__device__ void compute_rotations(float2* rotations, std::int32_t position,
                                  const float* inverse_frequency, int pairs) {
  constexpr double kTwoPi = 6.283185307179586476925;
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const double angle = static_cast<double>(position) * static_cast<double>(inverse_frequency[i]);
    const float reduced = static_cast<float>(angle - kTwoPi * rint(angle / kTwoPi));
    float sine;
    float cosine;
    sincosf(reduced, &sine, &cosine);
    rotations[i] = make_float2(cosine, sine);
  }
  __syncthreads();
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    rope_split_kernel(const __grid_constant__ RopeSplitArgs args) {
  extern __shared__ float2 rotations[];
  const std::int64_t row = blockIdx.x;  // batch x tokens
  const int pairs = args.head_dim / 2;
  compute_rotations(rotations, args.positions[row % args.tokens], args.inverse_frequency, pairs);
  const int heads = args.query_heads + 2 * args.kv_heads;
  const T* in = static_cast<const T*>(args.qkv) + row * heads * args.head_dim;
  T* query = static_cast<T*>(args.query) + row * args.query_heads * args.head_dim;
  T* key = static_cast<T*>(args.key_value) + row * args.kv_heads * args.head_dim;
  T* value = key + args.batch * args.tokens * args.kv_heads * args.head_dim;
  for (int i = threadIdx.x; i < heads * pairs; i += kThreads) {
    const int head = i / pairs;
    const int pair = i % pairs;
    const int lower = head * args.head_dim + pair;
    const T a = in[lower];
    const T b = in[lower + pairs];
    const int kv_offset = args.query_heads * args.head_dim;
    if (head >= args.query_heads + args.kv_heads) {
      const int at = lower - kv_offset - args.kv_heads * args.head_dim;
      value[at] = a;
      value[at + pairs] = b;
      continue;
    }
    const float2 r = rotations[pair];
    T* to = head < args.query_heads ? query + lower : key + (lower - kv_offset);
    to[0] = from_float<T>(to_float(a) * r.x - to_float(b) * r.y);
    to[pairs] = from_float<T>(to_float(b) * r.x + to_float(a) * r.y);
  }
}

/// G: of dkey_value.
template <typename T, typename G>
__global__ void __launch_bounds__(kThreads)
    rope_merge_kernel(const __grid_constant__ RopeMergeArgs args) {
  extern __shared__ float2 rotations[];
  const std::int64_t row = blockIdx.x;
  const int pairs = args.head_dim / 2;
  compute_rotations(rotations, args.positions[row % args.tokens], args.inverse_frequency, pairs);
  const int heads = args.query_heads + 2 * args.kv_heads;
  T* out = static_cast<T*>(args.dqkv) + row * heads * args.head_dim;
  const float* dquery = args.dquery + row * args.query_heads * args.head_dim;
  const G* dkey = static_cast<const G*>(args.dkey_value) + row * args.kv_heads * args.head_dim;
  const G* dvalue = dkey + args.batch * args.tokens * args.kv_heads * args.head_dim;
  for (int i = threadIdx.x; i < heads * pairs; i += kThreads) {
    const int head = i / pairs;
    const int pair = i % pairs;
    const int lower = head * args.head_dim + pair;
    const int kv_offset = args.query_heads * args.head_dim;
    if (head >= args.query_heads + args.kv_heads) {
      const int at = lower - kv_offset - args.kv_heads * args.head_dim;
      out[lower] = from_float<T>(to_float(dvalue[at]));
      out[lower + pairs] = from_float<T>(to_float(dvalue[at + pairs]));
      continue;
    }
    const float2 r = rotations[pair];
    const bool is_query = head < args.query_heads;
    const auto at = [&](int i) { return is_query ? dquery[i] : to_float(dkey[i - kv_offset]); };
    const float a = at(lower);
    const float b = at(lower + pairs);
    out[lower] = from_float<T>(a * r.x + b * r.y);
    out[lower + pairs] = from_float<T>(b * r.x - a * r.y);
  }
}

}  // namespace

void launch_rope_split(const RopeSplitArgs& args, cudaStream_t stream) {
  if (args.batch * args.tokens == 0) return;
  const auto blocks = static_cast<unsigned>(args.batch * args.tokens);
  const std::size_t shared = static_cast<std::size_t>(args.head_dim / 2) * sizeof(float2);
  with_compute_type(args.compute, [&](auto type) {
    rope_split_kernel<decltype(type)><<<blocks, kThreads, shared, stream>>>(args);
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_rope_merge(const RopeMergeArgs& args, cudaStream_t stream) {
  if (args.batch * args.tokens == 0) return;
  const auto blocks = static_cast<unsigned>(args.batch * args.tokens);
  const std::size_t shared = static_cast<std::size_t>(args.head_dim / 2) * sizeof(float2);
  with_compute_type(args.compute, [&](auto type) {
    using T = decltype(type);
    const auto kernel = args.dkey_value_type == DType::kFloat32 ? rope_merge_kernel<T, float>
                                                                : rope_merge_kernel<T, T>;
    kernel<<<blocks, kThreads, shared, stream>>>(args);
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
