#include <cmath>

#include "attention_reference.h"
#include "ringtrain/backend/cuda_check.h"

namespace ringtrain::bench {
namespace {

constexpr int kReferenceThreads = 128;

/// One block per (row, head, batch); needs key_tokens doubles of shared memory.
__global__ void __launch_bounds__(kReferenceThreads)
    reference_kernel(const __grid_constant__ ReferenceArgs args) {
  extern __shared__ double weights[];
  __shared__ double shared[kReferenceThreads];
  const int row = blockIdx.x;
  const int head = blockIdx.y;
  const int batch = blockIdx.z;
  const int kv_head = head / (args.query_heads / args.kv_heads);
  const int thread = threadIdx.x;
  const std::int64_t at =
      ((std::int64_t{batch} * args.query_tokens + row) * args.query_heads + head) * args.head_dim;
  const auto key_at = [&](int key) {
    return ((std::int64_t{batch} * args.key_tokens + key) * args.kv_heads + kv_head) *
           args.head_dim;
  };
  const auto reduce = [&](double value, auto combine) {
    shared[thread] = value;
    __syncthreads();
    double total = shared[0];
    for (int i = 1; i < kReferenceThreads; ++i) total = combine(total, shared[i]);
    __syncthreads();
    return total;
  };
  double largest = -INFINITY;
  for (int key = thread; key < args.key_tokens; key += kReferenceThreads) {
    double score = 0;
    for (int i = 0; i < args.head_dim; ++i) {
      score += static_cast<double>(__bfloat162float(args.query[at + i])) *
               static_cast<double>(__bfloat162float(args.key[key_at(key) + i]));
    }
    const bool visible =
        args.query_positions == nullptr || args.key_positions[key] <= args.query_positions[row];
    weights[key] = visible ? score * args.softmax_scale : -INFINITY;
    largest = fmax(largest, weights[key]);
  }
  largest = reduce(largest, [](double a, double b) { return fmax(a, b); });
  const bool empty = largest == -INFINITY;
  double sum = 0;
  for (int key = thread; key < args.key_tokens; key += kReferenceThreads) {
    weights[key] = empty ? 0 : exp(weights[key] - largest);
    sum += weights[key];
  }
  sum = reduce(sum, [](double a, double b) { return a + b; });
  if (thread == 0) {
    args.lse[(std::int64_t{batch} * args.query_heads + head) * args.query_tokens + row] =
        empty ? -INFINITY : largest + log(sum);
  }
  for (int i = thread; i < args.head_dim; i += kReferenceThreads) {
    double exact = 0;
    float rounded = 0;
    for (int key = 0; key < args.key_tokens; ++key) {
      const float value = __bfloat162float(args.value[key_at(key) + i]);
      exact += weights[key] * static_cast<double>(value);
      rounded += __bfloat162float(__float2bfloat16_rn(static_cast<float>(weights[key]))) * value;
    }
    args.out[at + i] = empty ? 0 : exact / sum;
    args.rounded[at + i] =
        empty ? 0 : __bfloat162float(__float2bfloat16_rn(rounded / static_cast<float>(sum)));
  }
}

/// One block per (row, head, batch); needs 2 key_tokens doubles of shared memory.
__global__ void __launch_bounds__(kReferenceThreads)
    reference_backward_kernel(const __grid_constant__ ReferenceBackwardArgs args) {
  extern __shared__ double shared[];
  const ReferenceArgs& forward = args.forward;
  double* weights = shared;
  double* dscores = shared + forward.key_tokens;
  __shared__ double delta;
  const int row = blockIdx.x;
  const int head = blockIdx.y;
  const int batch = blockIdx.z;
  const int dim = forward.head_dim;
  const int kv_head = head / (forward.query_heads / forward.kv_heads);
  const std::int64_t at =
      ((std::int64_t{batch} * forward.query_tokens + row) * forward.query_heads + head) * dim;
  const std::int64_t statistic =
      (std::int64_t{batch} * forward.query_heads + head) * forward.query_tokens + row;
  const auto key_at = [&](int key) {
    return ((std::int64_t{batch} * forward.key_tokens + key) * forward.kv_heads + kv_head) * dim;
  };
  const auto load = [](const __nv_bfloat16* from) {
    return static_cast<double>(__bfloat162float(*from));
  };
  if (threadIdx.x == 0) {
    delta = 0;
    for (int i = 0; i < dim; ++i) delta += forward.out[at + i] * load(args.dout + at + i);
    args.lse[statistic] = static_cast<float>(forward.lse[statistic]);
    args.delta[statistic] = static_cast<float>(delta);
  }
  __syncthreads();
  const double lse = forward.lse[statistic];
  for (int key = threadIdx.x; key < forward.key_tokens; key += kReferenceThreads) {
    const bool visible = forward.query_positions == nullptr ||
                         forward.key_positions[key] <= forward.query_positions[row];
    double score = 0;
    double dweight = 0;
    for (int i = 0; i < dim; ++i) {
      score += load(forward.query + at + i) * load(forward.key + key_at(key) + i);
      dweight += load(args.dout + at + i) * load(forward.value + key_at(key) + i);
    }
    weights[key] = visible ? exp(score * forward.softmax_scale - lse) : 0;
    dscores[key] = weights[key] * (dweight - delta) * forward.softmax_scale;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < dim; i += kReferenceThreads) {
    double dquery = 0;
    for (int key = 0; key < forward.key_tokens; ++key) {
      if (weights[key] == 0) continue;
      dquery += dscores[key] * load(forward.key + key_at(key) + i);
      atomicAdd(args.dkey + key_at(key) + i, dscores[key] * load(forward.query + at + i));
      atomicAdd(args.dvalue + key_at(key) + i, weights[key] * load(args.dout + at + i));
    }
    args.dquery[at + i] = dquery;
  }
}

}  // namespace

void run_reference(const ReferenceArgs& args) {
  constexpr int kMaxSharedBytes = 200 * 1024;
  RT_CUDA_CHECK(cudaFuncSetAttribute(reference_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     kMaxSharedBytes));
  const dim3 grid(static_cast<unsigned>(args.query_tokens), static_cast<unsigned>(args.query_heads),
                  static_cast<unsigned>(args.batch));
  reference_kernel<<<grid, kReferenceThreads,
                     static_cast<unsigned>(args.key_tokens) * sizeof(double)>>>(args);
  RT_CUDA_CHECK(cudaGetLastError());
  RT_CUDA_CHECK(cudaDeviceSynchronize());
}

void run_reference_backward(const ReferenceBackwardArgs& args) {
  constexpr int kMaxSharedBytes = 200 * 1024;
  RT_CUDA_CHECK(cudaFuncSetAttribute(reference_backward_kernel,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxSharedBytes));
  const ReferenceArgs& forward = args.forward;
  const dim3 grid(static_cast<unsigned>(forward.query_tokens),
                  static_cast<unsigned>(forward.query_heads), static_cast<unsigned>(forward.batch));
  reference_backward_kernel<<<grid, kReferenceThreads,
                              static_cast<unsigned>(forward.key_tokens) * 2 * sizeof(double)>>>(
      args);
  RT_CUDA_CHECK(cudaGetLastError());
  RT_CUDA_CHECK(cudaDeviceSynchronize());
}

}  // namespace ringtrain::bench
