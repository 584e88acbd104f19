#pragma once

#include <span>
#include <string_view>

#include "ringtrain/comm/communicator.h"

namespace ringtrain {

/// What every kind of communicator refuses, with the same words. `group` and `size` are the
/// communicator's. Errors: InvalidArgument naming the operation, the group and both tensors.
void check_reducible(std::string_view operation, std::string_view group, const Tensor& tensor);
/// `whole` is `size` times as long as `part` and of its dtype.
void check_parts(std::string_view operation, std::string_view group, int size, const Tensor& part,
                 const Tensor& whole);
/// Equal lengths and dtypes, divisible by `size`, two buffers.
void check_all_to_all(std::string_view group, int size, const Tensor& sent, const Tensor& received);
void check_rank(std::string_view operation, std::string_view group, int size, int rank);
void check_exchange(std::string_view group, int size, std::span<const Transfer> transfers);

}  // namespace ringtrain
