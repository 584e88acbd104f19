#pragma once

#include <cstdint>

/// Where attention_forward_sm90.h and attention_backward_sm90.h can be used.
namespace ringtrain::kernels {

/// True if the current device is a Hopper GPU (compute capability 9.0).
bool is_sm90_device();

/// Of the current device.
int num_processors();

/// True for multiples of 8 up to 128: heads that the copy engine can address. Between 64 and 128
/// the kernels cost what they do at 128, below 64 what they do at 64.
bool attention_sm90_supports(std::int64_t head_dim);

}  // namespace ringtrain::kernels
