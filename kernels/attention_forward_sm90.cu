// The launcher of the Hopper attention forward: tensor maps, the order of tiles and the grid. The
// kernel is in attention_forward_sm90.cuh; bench/attention_forward_sm90 checks and times it.
#include <algorithm>
#include <atomic>
#include <string>

#include "kernels/attention_forward_sm90_params.cuh"
#include "ringtrain/backend/cuda_check.h"
#include "ringtrain/backend/tensor_map.h"
#include "ringtrain/core/error.h"
#include "ringtrain/kernels/attention_forward_sm90.h"
#include "ringtrain/kernels/attention_sm90.h"

namespace ringtrain::kernels {
namespace {

constexpr unsigned kCounters = 64;
__device__ ItemCounter item_counters[kCounters];

// Keys and values of the heads worked on at a time: stay in L2 (50 MB) beside queries and outputs.
constexpr std::int64_t kSectionBytes = std::int64_t{16} << 20;
constexpr double kLog2E = 1.4426950408889634;

ItemCounter* next_counter() {
  static std::atomic<unsigned> launches{0};
  void* counters = nullptr;
  RT_CUDA_CHECK(cudaGetSymbolAddress(&counters, item_counters));
  return static_cast<ItemCounter*>(counters) + launches++ % kCounters;
}

}  // namespace

void launch_attention_forward_sm90(const AttentionForwardSm90Args& args, cudaStream_t stream) {
  if (!attention_sm90_supports(args.head_dim)) {
    throw InvalidArgument(
        "attention_forward_sm90: head_dim must be a multiple of 8, at most 128, got " +
        std::to_string(args.head_dim));
  }
  if (args.batch == 0 || args.query_tokens == 0 || args.query_heads == 0) return;
  const bool is_wide = args.head_dim > 64;
  const AttentionForwardSm90Tiles tiles = attention_forward_sm90_tiles(is_wide ? 128 : 64);
  const auto map = [&](const void* base, std::int64_t tokens, int batch_tokens, int heads,
                       int rows) {
    return encode_panel_map({base, args.batch, tokens, batch_tokens, heads, args.head_dim, rows});
  };
  // Keys before and after the visible ones do not exist for the kernel.
  const std::int64_t skipped_bytes = args.visible.k0 * args.kv_heads * args.head_dim * 2;
  const auto key_map = [&](const void* base) {
    if (args.visible.kn == 0) return CUtensorMap{};  // nothing is loaded
    return map(static_cast<const char*>(base) + skipped_bytes, args.visible.kn, args.key_tokens,
               args.kv_heads, tiles.key_tile);
  };
  AttentionForwardSm90Params params{};
  params.query =
      map(args.query, args.query_tokens, args.query_tokens, args.query_heads, tiles.query_tile());
  params.key = key_map(args.key);
  params.value = key_map(args.value);
  if (args.last) {
    params.out = map(args.out, args.query_tokens, args.query_tokens, args.query_heads, 64);
  }
  params.partial = args.partial;
  params.lse = args.lse;
  params.lowest = args.lowest;
  params.counter = next_counter();
  params.first_head = args.first_head;
  params.num_heads = args.num_heads > 0 ? args.num_heads : args.query_heads;
  const std::int64_t group = args.query_heads / args.kv_heads;
  const std::int64_t kv_head_bytes = 2 * 2 * args.visible.kn * args.head_dim;
  params.order = tile_order(args.query_tokens, tiles.query_tile(), args.batch * params.num_heads,
                            group, kv_head_bytes / group, kSectionBytes);
  params.visible = visible_keys(args.visible);
  params.query_tokens = args.query_tokens;
  params.query_heads = args.query_heads;
  params.heads_per_kv_head = args.query_heads / args.kv_heads;
  params.head_dim = args.head_dim;
  params.scale_log2 = static_cast<float>(args.softmax_scale * kLog2E);
  params.first = args.first;
  params.last = args.last;

  const int processors = std::max(1, num_processors() - args.free_processors);
  int blocks = std::min(processors, params.order.num_items);
  if (args.max_blocks > 0) blocks = std::min(blocks, args.max_blocks);
  const bool has_documents = args.lowest != nullptr;
  const auto run = is_wide ? (has_documents ? run_attention_forward_sm90<128, true>
                                            : run_attention_forward_sm90<128, false>)
                           : (has_documents ? run_attention_forward_sm90<64, true>
                                            : run_attention_forward_sm90<64, false>);
  run(params, blocks, stream);
}

}  // namespace ringtrain::kernels
