// Optimizer updates of a flat shard. AdamW: a thread takes a pack of four; memory-bound (30 bytes
// an element with fp32 moments and bf16 weights; ringtrain bench membound). What is read and
// written once a step is marked as such, so that it does not displace what the L2 cache might still
// serve. Step-dependent factors are formed once, on the host, in double.
#include <cmath>

#include "kernels/tile/numeric.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/kernels/optimizer.h"

namespace ringtrain::kernels {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kAdafactorSlices = 64;  // blocks that share a range

struct AdamWFactors {
  float b1, one_minus_b1, b2, one_minus_b2;
  float m_correction, v_correction;  // 1 / (1 - b^t)
  float learning_rate, eps, weight_decay;
};

/// The moment b1 m + (1 - b1) x, stored in M and returned before that rounding. For bf16 the
/// product b1 m is rounded too, since optax multiplies before it widens.
template <typename M>
__device__ float updated_moment(M& m, float b1, float one_minus_b1, float x) {
  const float moment = to_float(from_float<M>(b1 * to_float(m))) + one_minus_b1 * x;
  m = from_float<M>(moment);
  return moment;
}

/// b1 as it multiplies a moment of this type.
float moment_decay(double b1, DType m_dtype) {
  const auto decay = static_cast<float>(b1);
  return m_dtype == DType::kBFloat16 ? static_cast<float>(bfloat16(decay)) : decay;
}

/// W: type of the weights, of which there may be none.
template <typename M, typename W, int kPack>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ AdamWArgs args, const __grid_constant__ AdamWFactors f) {
  using F = Pack<float, kPack>;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.elements / kPack) return;
  F* params = reinterpret_cast<F*>(args.param) + i;
  auto* moments = static_cast<Pack<M, kPack>*>(args.m) + i;
  F* vs = reinterpret_cast<F*>(args.v) + i;
  const F grads = reinterpret_cast<const F*>(args.grad)[i];
  F param = *params;
  Pack<M, kPack> m = *moments;
  F v = *vs;
  Pack<W, kPack> weight;
  const float factor = args.factor[1];
#pragma unroll
  for (int e = 0; e < kPack; ++e) {
    const float grad = grads.at[e] * factor;
    const float new_m = updated_moment(m.at[e], f.b1, f.one_minus_b1, grad);
    v.at[e] = f.b2 * v.at[e] + f.one_minus_b2 * grad * grad;
    const float update = new_m * f.m_correction / (sqrtf(v.at[e] * f.v_correction) + f.eps);
    param.at[e] -= f.learning_rate * (update + f.weight_decay * param.at[e]);
    weight.at[e] = from_float<W>(param.at[e]);
  }
  *params = param;
  *moments = m;
  *vs = v;
  if (args.weights != nullptr) static_cast<Pack<W, kPack>*>(args.weights)[i] = weight;
}

struct AdafactorFactors {
  float decay, one_minus_decay, b1, one_minus_b1, weight_decay;
};

template <typename M>
__global__ void __launch_bounds__(kThreads)
    adafactor_kernel(const __grid_constant__ AdafactorArgs args,
                     const __grid_constant__ AdafactorFactors f) {
  constexpr double kSmallestScale = 1e-3;
  constexpr float kEps = 1e-30f;
  const std::int64_t* range = args.ranges + 4 * std::int64_t{blockIdx.x};
  const std::int64_t tensor = range[2];
  const double rms = sqrt(args.param_sums[tensor] / args.param_counts[tensor]);
  const float rate = static_cast<float>(args.learning_rate * fmax(kSmallestScale, rms));
  M* m = static_cast<M*>(args.m);
  const float factor = args.factor[1];
  const std::int64_t stride = std::int64_t{gridDim.y} * kThreads;
  for (std::int64_t i = range[0] + std::int64_t{blockIdx.y} * kThreads + threadIdx.x; i < range[1];
       i += stride) {
    const float grad = args.grad[i] * factor;
    const float param = args.param[i];
    const float new_v = f.decay * args.v[i] + f.one_minus_decay * (grad * grad + kEps);
    const float update = rate * grad / sqrtf(new_v);
    const float new_m = updated_moment(m[i], f.b1, f.one_minus_b1, update);
    args.v[i] = new_v;
    args.param[i] = param - (new_m + f.weight_decay * param);
  }
}

}  // namespace

void launch_adamw(const AdamWArgs& args, cudaStream_t stream) {
  if (args.elements == 0) return;
  const auto steps = static_cast<double>(args.step);
  const AdamWFactors factors{
      .b1 = moment_decay(args.b1, args.m_dtype),
      .one_minus_b1 = static_cast<float>(1.0 - args.b1),
      .b2 = static_cast<float>(args.b2),
      .one_minus_b2 = static_cast<float>(1.0 - args.b2),
      .m_correction = static_cast<float>(1.0 / (1.0 - std::pow(args.b1, steps))),
      .v_correction = static_cast<float>(1.0 / (1.0 - std::pow(args.b2, steps))),
      .learning_rate = static_cast<float>(args.learning_rate),
      .eps = static_cast<float>(args.eps),
      .weight_decay = static_cast<float>(args.weight_decay),
  };
  with_compute_type(args.m_dtype, [&](auto m_type) {
    with_compute_type(args.weights_dtype, [&](auto weights_type) {
      using M = decltype(m_type);
      using W = decltype(weights_type);
      const auto launch = [&](auto pack) {
        const auto blocks = static_cast<unsigned>((args.elements / pack + kThreads - 1) / kThreads);
        adamw_kernel<M, W, pack><<<blocks, kThreads, 0, stream>>>(args, factors);
      };
      if (is_packable<float, 4>(args.elements, {args.param, args.grad, args.v}) &&
          is_packable<M, 4>(args.elements, {args.m}) &&
          is_packable<W, 4>(args.elements, {args.weights})) {
        launch(std::integral_constant<int, 4>{});
      } else {
        launch(std::integral_constant<int, 1>{});
      }
    });
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

void launch_adafactor(const AdafactorArgs& args, cudaStream_t stream) {
  if (args.num_ranges == 0) return;
  const double one_minus_decay = std::pow(static_cast<double>(args.step + 1), -args.decay_rate);
  const AdafactorFactors factors{
      .decay = static_cast<float>(1.0 - one_minus_decay),
      .one_minus_decay = static_cast<float>(one_minus_decay),
      .b1 = moment_decay(args.b1, args.m_dtype),
      .one_minus_b1 = static_cast<float>(1.0 - args.b1),
      .weight_decay = static_cast<float>(args.weight_decay),
  };
  const dim3 grid(static_cast<unsigned>(args.num_ranges), kAdafactorSlices);
  with_compute_type(args.m_dtype, [&](auto type) {
    adafactor_kernel<decltype(type)><<<grid, kThreads, 0, stream>>>(args, factors);
  });
  RT_CUDA_CHECK(cudaGetLastError());
}

}  // namespace ringtrain::kernels
