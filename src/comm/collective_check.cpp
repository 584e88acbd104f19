#include "collective_check.h"

#include <fmt/format.h>

#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::string describe(const Tensor& tensor) {
  return fmt::format("{} {}", tensor.shape().to_string(), name_of(tensor.dtype()));
}

}  // namespace

void check_reducible(std::string_view operation, std::string_view group, const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kFloat32:
    case DType::kFloat64:
    case DType::kBFloat16:
    case DType::kInt32:
    case DType::kInt64:
      return;
    case DType::kFloat16:
      break;
  }
  throw InvalidArgument(
      fmt::format("{} on group {}: cannot reduce {}; fp32, fp64, bf16, int32 or "
                  "int64 is needed",
                  operation, group, describe(tensor)));
}

void check_parts(std::string_view operation, std::string_view group, int size, const Tensor& part,
                 const Tensor& whole) {
  if (part.dtype() == whole.dtype() && part.num_elements() * size == whole.num_elements()) return;
  throw InvalidArgument(fmt::format("{} on group {}: {} does not hold {} parts of {}", operation,
                                    group, describe(whole), size, describe(part)));
}

void check_all_to_all(std::string_view group, int size, const Tensor& sent,
                      const Tensor& received) {
  if (sent.dtype() != received.dtype() || sent.num_elements() != received.num_elements() ||
      sent.num_elements() % size != 0) {
    throw InvalidArgument(
        fmt::format("all_to_all on group {}: {} sent and {} received are not "
                    "{} equal parts each",
                    group, describe(sent), describe(received), size));
  }
  if (sent.raw() == received.raw() && sent.num_elements() > 0) {
    throw InvalidArgument(
        fmt::format("all_to_all on group {}: not possible in place ({})", group, describe(sent)));
  }
}

void check_rank(std::string_view operation, std::string_view group, int size, int rank) {
  if (rank >= 0 && rank < size) return;
  throw InvalidArgument(fmt::format("{} on group {}: {} is not a rank of a group of {}", operation,
                                    group, rank, size));
}

void check_exchange(std::string_view group, int size, std::span<const Transfer> transfers) {
  for (const Transfer& transfer : transfers) {
    if (transfer.sent) check_rank("exchange", group, size, transfer.to);
    if (transfer.received) check_rank("exchange", group, size, transfer.from);
  }
}

}  // namespace ringtrain
