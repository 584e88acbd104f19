// The launcher of the Hopper attention backward: tensor maps and the order of tiles. The kernel is
// in attention_backward_sm90.cuh; bench/attention_sm90 checks and times it.
#include <string>

#include "kernels/attention_backward_sm90_params.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/tensor_map.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention_backward_sm90.h"

namespace ringtrain::kernels {
namespace {

// Queries, dout and dquery of the heads worked on at a time: these are what blocks share.
constexpr std::int64_t kSectionBytes = std::int64_t{32} << 20;
constexpr double kLog2E = 1.4426950408889634;

}  // namespace

bool attention_backward_sm90_supports(std::int64_t head_dim) {
  return head_dim == 64 || head_dim == 128;
}

std::size_t attention_backward_sm90_scratch_bytes(const AttentionBackwardSm90Args& args) {
  const int tile = attention_backward_sm90_query_tile(args.head_dim);
  const std::int64_t tiles = (args.query_tokens + tile - 1) / tile;
  return static_cast<std::size_t>(args.batch * args.query_heads * tiles * 2) * sizeof(int);
}

void launch_attention_backward_sm90(const AttentionBackwardSm90Args& args, cudaStream_t stream) {
  if (!attention_backward_sm90_supports(args.head_dim)) {
    throw InvalidArgument("attention_backward_sm90: head_dim must be 64 or 128, got " +
                          std::to_string(args.head_dim));
  }
  const AttentionSegment& visible = args.visible;
  if (args.batch == 0 || args.kv_heads == 0 || visible.qn == 0 || visible.kn == 0) return;
  const int tile = attention_backward_sm90_query_tile(args.head_dim);
  const auto query_map = [&](const void* base) {
    return encode_panel_map({base, args.batch, args.query_tokens, args.query_tokens,
                             args.query_heads, args.head_dim, tile});
  };
  // Keys before and after the visible ones do not exist for the kernel.
  const std::int64_t skipped = visible.k0 * args.kv_heads * args.head_dim;
  const auto key_map = [&](const void* base) {
    return encode_panel_map({static_cast<const char*>(base) + 2 * skipped, args.batch, visible.kn,
                             args.key_tokens, args.kv_heads, args.head_dim,
                             kAttentionBackwardSm90KeyTile});
  };
  AttentionBackwardSm90Params params{};
  params.query = query_map(args.query);
  params.dout = query_map(args.dout);
  params.key = key_map(args.key);
  params.value = key_map(args.value);
  params.lse = args.lse;
  params.delta = args.delta;
  params.dquery = args.dquery;
  params.dkey = args.dkey + skipped;
  params.dvalue = args.dvalue + skipped;
  params.turns = static_cast<int*>(args.scratch);
  const std::int64_t row_bytes = args.head_dim * (2 + 2 + 4);
  const std::int64_t group = args.query_heads / args.kv_heads;
  params.order = tile_order(visible.kn, kAttentionBackwardSm90KeyTile, args.batch * args.kv_heads,
                            1, group * args.query_tokens * row_bytes, kSectionBytes);
  params.visible = visible_keys(visible);
  params.query_tokens = args.query_tokens;
  params.key_tokens = args.key_tokens;
  params.query_heads = args.query_heads;
  params.kv_heads = args.kv_heads;
  params.softmax_scale = args.softmax_scale;
  params.scale_log2 = static_cast<float>(args.softmax_scale * kLog2E);
  if (args.scratch != nullptr) {
    RT_CUDA_CHECK(
        cudaMemsetAsync(args.scratch, 0, attention_backward_sm90_scratch_bytes(args), stream));
  }
  if (args.head_dim == 128) {
    run_attention_backward_sm90<128>(params, stream);
  } else {
    run_attention_backward_sm90<64>(params, stream);
  }
}

}  // namespace ringtrain::kernels
