#include <cmath>
#include <memory>

#include "ringtrain/ops/cpu/operations.h"
#include "scalar.h"

namespace ringtrain::cpu {
namespace {

/// cos and sin of every frequency at one position, [H / 2] each.
template <typename A>
struct Rotation {
  explicit Rotation(std::int64_t half)
      : cosine(std::make_unique_for_overwrite<A[]>(static_cast<std::size_t>(half))),
        sine(std::make_unique_for_overwrite<A[]>(static_cast<std::size_t>(half))) {}

  void set(std::int32_t position, const float* inverse_frequency, std::int64_t half) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(position) * static_cast<double>(inverse_frequency[i]);
      cosine[i] = static_cast<A>(std::cos(angle));
      sine[i] = static_cast<A>(std::sin(angle));
    }
  }

  std::unique_ptr<A[]> cosine, sine;
};

/// Rotates one head from `in` to `out`; direction -1 rotates back.
template <typename In, typename Out, typename A>
void rotate(const In* in, Out* out, const Rotation<A>& rotation, A direction, std::int64_t half) {
  for (std::int64_t i = 0; i < half; ++i) {
    const A cosine = rotation.cosine[i];
    const A sine = direction * rotation.sine[i];
    const A low = static_cast<A>(in[i]);
    const A high = static_cast<A>(in[i + half]);
    out[i] = static_cast<Out>(low * cosine - high * sine);
    out[i + half] = static_cast<Out>(high * cosine + low * sine);
  }
}

/// G: of dkey_value.
template <typename T, typename G>
void merge(const RopeMergeArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t batch = args.dquery.size(0), tokens = args.dquery.size(1);
  const std::int64_t heads = args.dquery.size(2), head_dim = args.dquery.size(3);
  const std::int64_t kv_heads = args.dkey_value.size(3), half = head_dim / 2;
  const std::int64_t packed = (heads + 2 * kv_heads) * head_dim;
  const G* dkey = args.dkey_value.data<G>();
  const G* dvalue = dkey + batch * tokens * kv_heads * head_dim;
#pragma omp parallel if (worth_threads(batch * tokens * packed))
  {
    Rotation<A> rotation(half);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      rotation.set(args.positions.data<std::int32_t>()[t], args.inverse_frequency.data<float>(),
                   half);
      for (std::int64_t b = 0; b < batch; ++b) {
        const std::int64_t row = b * tokens + t;
        T* out = args.dqkv.data<T>() + row * packed;
        for (std::int64_t h = 0; h < heads; ++h, out += head_dim) {
          rotate(args.dquery.data<A>() + (row * heads + h) * head_dim, out, rotation, A{-1}, half);
        }
        for (std::int64_t h = 0; h < kv_heads; ++h, out += head_dim) {
          rotate(dkey + (row * kv_heads + h) * head_dim, out, rotation, A{-1}, half);
        }
        const G* value = dvalue + row * kv_heads * head_dim;
        for (std::int64_t i = 0; i < kv_heads * head_dim; ++i) out[i] = static_cast<T>(value[i]);
      }
    }
  }
}

}  // namespace

template <typename T>
void rope_split(const RopeSplitArgs& args) {
  using A = Accumulator<T>;
  const std::int64_t batch = args.query.size(0), tokens = args.query.size(1);
  const std::int64_t heads = args.query.size(2), head_dim = args.query.size(3);
  const std::int64_t kv_heads = args.key_value.size(3), half = head_dim / 2;
  const std::int64_t packed = (heads + 2 * kv_heads) * head_dim;
  T* key = args.key_value.data<T>();
  T* value = key + batch * tokens * kv_heads * head_dim;
#pragma omp parallel if (worth_threads(batch * tokens * packed))
  {
    Rotation<A> rotation(half);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      rotation.set(args.positions.data<std::int32_t>()[t], args.inverse_frequency.data<float>(),
                   half);
      for (std::int64_t b = 0; b < batch; ++b) {
        const std::int64_t row = b * tokens + t;
        const T* in = args.qkv.data<T>() + row * packed;
        for (std::int64_t h = 0; h < heads; ++h, in += head_dim) {
          rotate(in, args.query.data<T>() + (row * heads + h) * head_dim, rotation, A{1}, half);
        }
        for (std::int64_t h = 0; h < kv_heads; ++h, in += head_dim) {
          rotate(in, key + (row * kv_heads + h) * head_dim, rotation, A{1}, half);
        }
        for (std::int64_t i = 0; i < kv_heads * head_dim; ++i) {
          value[row * kv_heads * head_dim + i] = in[i];
        }
      }
    }
  }
}

template <typename T>
void rope_merge(const RopeMergeArgs& args) {
  using A = Accumulator<T>;
  if (args.dkey_value.dtype() == dtype_of<A>) {
    merge<T, A>(args);
  } else {
    merge<T, T>(args);
  }
}

template void rope_split<float>(const RopeSplitArgs&);
template void rope_split<bfloat16>(const RopeSplitArgs&);
template void rope_split<double>(const RopeSplitArgs&);
template void rope_merge<float>(const RopeMergeArgs&);
template void rope_merge<bfloat16>(const RopeMergeArgs&);
template void rope_merge<double>(const RopeMergeArgs&);

}  // namespace ringtrain::cpu
