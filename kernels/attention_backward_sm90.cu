// The launcher of the Hopper attention backward: tensor maps and the order of tiles. The kernel is
// in attention_backward_sm90.cuh; bench/attention_sm90 checks and times it.
#include <string>

#include "kernels/attention_backward_sm90_params.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/tensor_map.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention_backward_sm90.h"
#include "ringtrain/kernels/attention_sm90.h"

namespace ringtrain::kernels {
namespace {

// Queries, dout and dquery of the heads worked on at a time: these are what blocks share.
constexpr std::int64_t kSectionBytes = std::int64_t{32} << 20;
// Four blocks for each of the 132 processors of an H100.
constexpr std::int64_t kManyBlocks = 528;
constexpr double kLog2E = 1.4426950408889634;

int kernel_head_dim(int head_dim) {
  return head_dim > 64 ? 128 : 64;
}

/// Of an element of dkey or dvalue.
std::size_t key_gradient_bytes(const AttentionBackwardSm90Args& args) {
  return args.key_gradient == KeyGradient::kRoundAndWrite ? 2 : sizeof(float);
}

/// The share of the processors that work while blocks of equal length run.
double occupancy(std::int64_t blocks) {
  const std::int64_t processors = num_processors();
  const std::int64_t rounds = (blocks + processors - 1) / processors;
  return static_cast<double>(blocks) / static_cast<double>(rounds * processors);
}

/// All but those of skipped keys.
void clear_key_gradients(const AttentionBackwardSm90Args& args, cudaStream_t stream) {
  const std::size_t row =
      static_cast<std::size_t>(args.kv_heads) * args.head_dim * key_gradient_bytes(args);
  const auto clear = [&](std::int64_t first, std::int64_t rows) {
    if (rows == 0 || row == 0) return;
    for (void* gradient : {args.dkey, args.dvalue}) {
      RT_CUDA_CHECK(
          cudaMemsetAsync(static_cast<char*>(gradient) + first * row, 0, rows * row, stream));
    }
  };
  if (args.skipped_keys == 0) return clear(0, args.batch * args.key_tokens);
  const int end = args.skipped_key + args.skipped_keys;
  clear(0, args.skipped_key);
  clear(end, args.key_tokens - end);
}

}  // namespace

bool attention_backward_sm90_skips(const AttentionBackwardSm90Args& args) {
  if (args.skipped_keys == 0) return true;
  const std::int64_t before = args.skipped_key - args.visible.k0;
  return args.batch == 1 && args.scratch == nullptr && before > 0 &&
         before % kAttentionBackwardSm90KeyTile == 0 &&
         args.skipped_keys % kAttentionBackwardSm90KeyTile == 0 &&
         before + args.skipped_keys < args.visible.kn;
}

std::size_t attention_backward_sm90_scratch_bytes(const AttentionBackwardSm90Args& args) {
  const int tile = attention_backward_sm90_query_tile(kernel_head_dim(args.head_dim));
  const std::int64_t tiles = (args.query_tokens + tile - 1) / tile;
  return static_cast<std::size_t>(args.batch * args.query_heads * tiles * 2) * sizeof(int);
}

void launch_attention_backward_sm90(const AttentionBackwardSm90Args& args, cudaStream_t stream) {
  if (!attention_sm90_supports(args.head_dim)) {
    throw InvalidArgument(
        "attention_backward_sm90: head_dim must be a multiple of 8, at most 128, got " +
        std::to_string(args.head_dim));
  }
  if (!attention_backward_sm90_skips(args)) {
    throw InvalidArgument("attention_backward_sm90: these keys cannot be skipped in one launch");
  }
  const AttentionSegment& visible = args.visible;
  if (args.batch == 0 || args.kv_heads == 0 || visible.qn == 0 || visible.kn == 0) {
    if (args.key_gradient != KeyGradient::kAdd) clear_key_gradients(args, stream);
    return;
  }
  const int tile = attention_backward_sm90_query_tile(kernel_head_dim(args.head_dim));
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
  params.lowest = args.lowest;
  params.dquery = encode_panel_map({args.dquery, args.batch, args.query_tokens, args.query_tokens,
                                    args.query_heads, args.head_dim, 64, DType::kFloat32});
  const auto skipped_bytes = static_cast<std::size_t>(skipped) * key_gradient_bytes(args);
  params.dkey = static_cast<char*>(args.dkey) + skipped_bytes;
  params.dvalue = static_cast<char*>(args.dvalue) + skipped_bytes;
  params.turns = static_cast<int*>(args.scratch);
  params.head_dim = args.head_dim;
  params.query_heads = args.query_heads;
  params.kv_heads = args.kv_heads;
  params.heads_per_kv_head = args.query_heads / args.kv_heads;
  // One owner of dkey and dvalue sums in order, and reads keys and values once; but few long
  // blocks leave processors idle, unless they end together.
  const std::int64_t keys = visible.kn - args.skipped_keys;
  const std::int64_t key_tiles =
      (keys + kAttentionBackwardSm90KeyTile - 1) / kAttentionBackwardSm90KeyTile;
  const bool is_ordered = args.scratch != nullptr;
  const std::int64_t blocks = key_tiles * args.batch * args.kv_heads;
  const bool are_equal = visible.shift >= visible.kn - 1 && args.lowest == nullptr;
  const bool has_one_owner =
      is_ordered || args.key_gradient == KeyGradient::kRoundAndWrite || blocks >= kManyBlocks ||
      (are_equal && occupancy(blocks) >= occupancy(blocks * params.heads_per_kv_head));
  params.heads_per_block = has_one_owner ? params.heads_per_kv_head : 1;
  params.is_only_owner = params.heads_per_block == params.heads_per_kv_head;
  params.key_gradient = params.is_only_owner ? args.key_gradient : KeyGradient::kAdd;
  if (args.key_gradient != KeyGradient::kAdd &&
      (params.key_gradient == KeyGradient::kAdd || visible.kn != args.key_tokens)) {
    clear_key_gradients(args, stream);
  }
  const std::int64_t row_bytes = args.head_dim * (2 + 2 + 4);
  params.skipped_tile =
      static_cast<int>((args.skipped_key - visible.k0) / kAttentionBackwardSm90KeyTile);
  params.skipped_tiles = args.skipped_keys / kAttentionBackwardSm90KeyTile;
  params.order = tile_order(keys, kAttentionBackwardSm90KeyTile,
                            args.batch * args.query_heads / params.heads_per_block, 1,
                            params.heads_per_block * args.query_tokens * row_bytes, kSectionBytes);
  params.visible = visible_keys(visible);
  params.query_tokens = args.query_tokens;
  params.key_tokens = args.key_tokens;
  params.softmax_scale = args.softmax_scale;
  params.scale_log2 = static_cast<float>(args.softmax_scale * kLog2E);
  if (is_ordered) {
    RT_CUDA_CHECK(
        cudaMemsetAsync(args.scratch, 0, attention_backward_sm90_scratch_bytes(args), stream));
  }
  const bool has_documents = args.lowest != nullptr;
  const auto run = kernel_head_dim(args.head_dim) == 128
                       ? (has_documents ? run_attention_backward_sm90<128, true>
                                        : run_attention_backward_sm90<128, false>)
                       : (has_documents ? run_attention_backward_sm90<64, true>
                                        : run_attention_backward_sm90<64, false>);
  run(params, stream);
}

}  // namespace ringtrain::kernels
