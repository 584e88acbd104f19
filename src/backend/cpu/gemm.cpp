#include "gemm.h"

#ifdef RT_HAS_CBLAS
#include <cblas.h>

#include <string>
#endif

namespace ringtrain::cpu {

#ifdef RT_HAS_CBLAS

namespace {

/// The operations divide the work among threads themselves, in pieces that do not depend on the
/// number of threads; a library that divides it again would lose both speed and that.
void use_one_thread() {
  static const bool done = (openblas_set_num_threads(1), true);
  static_cast<void>(done);
}

constexpr CBLAS_TRANSPOSE transpose(bool transposed) {
  return transposed ? CblasTrans : CblasNoTrans;
}

}  // namespace

template <>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<float> a, Matrix<float> b,
          float* out, std::int64_t out_stride, bool accumulate) {
  if (m == 0 || n == 0) return;
  use_one_thread();
  cblas_sgemm(CblasRowMajor, transpose(a.transposed), transpose(b.transposed),
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1, a.data,
              static_cast<blasint>(a.stride), b.data, static_cast<blasint>(b.stride),
              accumulate ? 1 : 0, out, static_cast<blasint>(out_stride));
}

template <>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<double> a, Matrix<double> b,
          double* out, std::int64_t out_stride, bool accumulate) {
  if (m == 0 || n == 0) return;
  use_one_thread();
  cblas_dgemm(CblasRowMajor, transpose(a.transposed), transpose(b.transposed),
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1, a.data,
              static_cast<blasint>(a.stride), b.data, static_cast<blasint>(b.stride),
              accumulate ? 1 : 0, out, static_cast<blasint>(out_stride));
}

const char* gemm_description() {
  static const std::string text = [] {
    const std::string config = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE ..."
    return config.substr(0, config.find(' ', config.find(' ') + 1));
  }();
  return text.c_str();
}

#else

template <typename A>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<A> a, Matrix<A> b, A* out,
          std::int64_t out_stride, bool accumulate) {
  blocked_gemm(m, n, k, a, b, out, out_stride, accumulate);
}

template void gemm(std::int64_t, std::int64_t, std::int64_t, Matrix<float>, Matrix<float>, float*,
                   std::int64_t, bool);
template void gemm(std::int64_t, std::int64_t, std::int64_t, Matrix<double>, Matrix<double>,
                   double*, std::int64_t, bool);

const char* gemm_description() {
  return "blocked loops";
}

#endif

}  // namespace ringtrain::cpu
