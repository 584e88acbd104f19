#pragma once

#include <cstdint>

#include "kernels/attention_forward_sm90_layout.cuh"
#include "kernels/attention_forward_sm90_rows.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/warpgroup.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/tile/online_softmax.cuh"

/// A consumer warpgroup of attention_forward_sm90: folds the key tiles of every item into 64 rows.
namespace ringtrain::kernels {

/// Warpgroups issue the products of their steps by turns: the exponentials of one run behind the
/// products of the others. Barriers of the block, `kFirstBarrier` + warpgroup.
template <int kWarpgroups, int kFirstBarrier>
class ProductTurns {
 public:
  /// All warpgroups; the first one has the first turn.
  __device__ explicit ProductTurns(int warpgroup)
      : own_(kFirstBarrier + warpgroup),
        next_(kFirstBarrier + (warpgroup + 1 == kWarpgroups ? 0 : warpgroup + 1)) {
    if (next_ == kFirstBarrier) pass();
  }
  __device__ void wait() const { ptx::named_barrier_sync(own_, 2 * 128); }
  __device__ void pass() const { ptx::named_barrier_arrive(next_, 2 * 128); }

 private:
  int own_, next_;
};

template <int kHeadDim, bool kDocuments>
class AttentionForwardSm90Consumer {
  using Layout = AttentionForwardSm90Layout<kHeadDim>;
  using WorkItem = typename Layout::WorkItem;
  using QueryTile = typename Layout::QueryTile;
  using KeyTile = typename Layout::KeyTile;
  using OutTile = typename Layout::OutTile;
  static constexpr int kConsumers = Layout::kConsumers;
  static constexpr int kKeyTile = Layout::kKeyTile;
  static constexpr int kItems = Layout::kItems;
  static constexpr int kStages = Layout::kStages;
  static constexpr int kQueryStages = Layout::kQueryStages;
  static constexpr bool kQueryInRegisters = Layout::kTiles.query_in_registers;
  static constexpr int kOutBarrier = 1;  // and the next ones, one a warpgroup

 public:
  __device__ AttentionForwardSm90Consumer(const AttentionForwardSm90Params& params,
                                          std::uint32_t shared, const volatile WorkItem* items)
      : params_(params),
        shared_(shared),
        items_(items),
        pipes_(shared + Layout::kBarriersAt),
        warpgroup_(uniform(threadIdx.x / 128) - 1),
        thread_(threadIdx.x % 128),
        row_(warpgroup_ * Layout::kWarpgroupRows + thread_ / 32 * 16 + thread_ % 32 / 4),
        column_(thread_ % 4 * 2),
        turns_(warpgroup_) {}

  /// Folds items until there is none left. The first tile of an item is folded while the last
  /// products of the item before run, unless its rows have a state that is to be loaded.
  __device__ void run() {
    bool is_begun = false;
    while (true) {
      if (!is_begun) {
        pipes_.item.consumer_wait(item_at_);
        const volatile WorkItem& item = items_[item_at_.stage];
        if (item.has_work == 0) break;
        open(item);
        begin_rows(params_, softmax_, out_, rows_of(item.batch, item.head, item.first_row),
                   column_);
        if (tile_ >= begin_) begin_alone(item);
      }
      const RingPosition<kItems> finished_at = item_at_;
      item_at_.advance();
      is_begun = false;
      SoftmaxRows finished = softmax_;
      if (tile_ >= begin_) {
        // Documents end anywhere: one body, and the mask where it is wanted.
        for (--tile_; tile_ >= (kDocuments ? begin_ : plain_end_); --tile_) step<true>();
        if constexpr (!kDocuments) {
          for (; tile_ >= 0; --tile_) step<false>();
        }
        if constexpr (!kQueryInRegisters) release_queries();
        finished = softmax_;
        pipes_.item.consumer_wait(item_at_);
        const volatile WorkItem& next = items_[item_at_.stage];
        is_begun = params_.first && uniform(next.has_work) != 0 &&
                   uniform(next.tiles.begin) < uniform(next.tiles.end);
        if (is_begun) {
          open(next);
          begin_behind_products(next);
        } else {
          pipes_.value.consumer_wait(value_at_);
          issue_output<false>();
          ptx::wgmma_wait_group<0>();
          release_value();
        }
      }
      finish(finished_at, finished);
      if (is_begun) {
#pragma unroll
        for (float& value : out_) value = 0.0f;
      }
    }
    if (thread_ == 0) ptx::bulk_wait_group<0>();
  }

 private:
  using Position = RingPosition<kStages>;

  __device__ static int uniform(int value) {
    return __shfl_sync(0xffffffffu, value, 0);
  }
  __device__ static Position after(Position at) {
    at.advance();
    return at;
  }
  __device__ OperandDescriptor key_operand(const Position& at) const {
    return KeyTile::descriptor(shared_ + Layout::kKeyAt + at.stage * KeyTile::kBytes);
  }
  __device__ AttentionRows rows_of(int batch, int head, int first_row) const {
    return AttentionRows(params_, batch, head, first_row + row_);
  }

  __device__ void open(const volatile WorkItem& item) {
    begin_ = kDocuments ? uniform(item.tiles.begin) : 0;
    plain_begin_ = kDocuments ? uniform(item.tiles.plain_begin) : 0;
    plain_end_ = uniform(item.tiles.plain_end);
    tile_ = uniform(item.tiles.end) - 1;
  }

  /// Folds the first key tile of an item into the state that `out_` and `softmax_` hold.
  __device__ void begin_alone(const volatile WorkItem& item) {
    load_queries(item);
    pipes_.key.consumer_wait(value_at_);
    issue_scores(value_at_);
    ptx::wgmma_wait_group<0>();
    if (thread_ == 0) pipes_.key.consumer_release(value_at_);
    if constexpr (kQueryInRegisters) release_queries();
    mask();
    raise_and_weigh_first<true>();
    if (!params_.first) scale_rows(out_, correction_);
    weigh_second<true>();
    wait_for_next_key(value_at_);
  }

  /// The first key tile of an item from the empty state, and the last products of the item before:
  /// `out_` is still that item's.
  __device__ void begin_behind_products(const volatile WorkItem& item) {
    load_queries(item);
    const Position key_at = after(value_at_);
    pipes_.key.consumer_wait(key_at);
    issue_products(key_at);
    if constexpr (kQueryInRegisters) release_queries();
    mask();
    softmax_ = SoftmaxRows();
    raise_and_weigh_first<true>();
    wait_for_products(key_at);
    weigh_second<true>();
  }

  /// Folds key tile `tile_`, whose keys have arrived, while the products of the one before run.
  template <bool kMasked>
  __device__ void step() {
    const Position key_at = after(value_at_);
    issue_products(key_at);
    if constexpr (kMasked) mask();
    raise_and_weigh_first<kMasked>();
    wait_for_products(key_at);
    scale_rows(out_, correction_);
    weigh_second<kMasked>();
  }

  // The exponentials take longest, and all other arithmetic fits between them: the maximum of the
  // second row between those of the first, scaling and packing between those of the second.
  template <bool kMasked>
  __device__ void raise_and_weigh_first() {
    correction_[0] = softmax_.template raise<0, kMasked>(scores_, params_.scale_log2);
    softmax_.template weigh<0, kMasked>(scores_, params_.scale_log2);
    correction_[1] = softmax_.template raise<1, kMasked>(scores_, params_.scale_log2);
  }
  template <bool kMasked>
  __device__ void weigh_second() {
    softmax_.template weigh<1, kMasked>(scores_, params_.scale_log2);
    pack_operand(weights_, scores_);
  }

  /// The scores of a tile and the products of the one before, until the scores are there.
  __device__ void issue_products(const Position& key_at) {
    turns_.wait();
    issue_scores(key_at);
    pipes_.value.consumer_wait(value_at_);
    issue_output<true>();
    ptx::wgmma_wait_group<1>();
    if (thread_ == 0) pipes_.key.consumer_release(key_at);
  }

  __device__ void wait_for_products(const Position& key_at) {
    wait_for_next_key(key_at);
    ptx::wgmma_wait_group<0>();
    release_value();
  }

  __device__ void wait_for_next_key(const Position& key_at) const {
    if (tile_ > begin_) pipes_.key.consumer_wait(after(key_at));
  }

  __device__ void release_value() {
    if (thread_ == 0) pipes_.value.consumer_release(value_at_);
    value_at_.advance();
  }

  __device__ void load_queries(const volatile WorkItem& item) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query_row = item.first_row + row_ + 8 * i;
      limit_[i] = params_.visible.limit(query_row);
      if constexpr (kDocuments) {
        lowest_[i] =
            query_row < params_.query_tokens
                ? params_.lowest[std::int64_t{item.batch} * params_.query_tokens + query_row]
                : 0;
      }
    }
    pipes_.query.consumer_wait(query_at_);
    queries_ = shared_ + Layout::kQueryAt + query_at_.stage * QueryTile::kBytes +
               warpgroup_ * Layout::kWarpgroupRows * kPanelRowBytes;
    if constexpr (kQueryInRegisters) {
      const int row = thread_ / 32 * 16 + thread_ % 16;
#pragma unroll
      for (int k = 0; k < kHeadDim / 16; ++k) {
        const std::uint32_t at = queries_ + QueryTile::offset(row, 16 * k + thread_ % 32 / 16 * 8);
        ptx::ldmatrix_x4(query_registers_[k],
                         reinterpret_cast<const void*>(__cvta_shared_to_generic(at)));
      }
    }
  }

  /// Once products have used the queries, in registers or in shared memory. Not right after
  /// ldmatrix: nothing shows then that it has read what the copy engine overwrites next.
  __device__ void release_queries() {
    if constexpr (kQueryInRegisters) ptx::fence_proxy_async_shared();
    __syncwarp();
    if (thread_ % 32 == 0) pipes_.query.consumer_release(query_at_);
    query_at_.advance();
  }

  __device__ void mask() {
    if (tile_ >= plain_begin_ && tile_ < plain_end_) return;
    if constexpr (kDocuments) {
      mask_scores(scores_, lowest_, limit_, tile_ * kKeyTile + column_);
    } else {
      mask_scores(scores_, limit_, tile_ * kKeyTile + column_);
    }
  }

  /// S = Q K^T, one group.
  __device__ void issue_scores(const Position& key_at) {
    const OperandDescriptor key = key_operand(key_at);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      const std::uint64_t columns = key.at(KeyTile::column_step(k));
      if constexpr (kQueryInRegisters) {
        const auto& a = query_registers_[k];
        ptx::wgmma_m64k16<ptx::Major::kContraction>(scores_, a[0], a[1], a[2], a[3], columns,
                                                    k != 0);
      } else {
        ptx::wgmma_m64k16<ptx::Major::kContraction, ptx::Major::kContraction>(
            scores_, QueryTile::descriptor(queries_).at(QueryTile::column_step(k)), columns,
            k != 0);
      }
    }
    ptx::wgmma_commit_group();
  }

  /// O += P V, one group.
  template <bool kInTurn>
  __device__ void issue_output() {
    const OperandDescriptor value =
        KeyTile::descriptor(shared_ + Layout::kValueAt + value_at_.stage * KeyTile::kBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; ++k) {
      ptx::wgmma_m64k16<ptx::Major::kOuter>(out_, weights_[4 * k], weights_[4 * k + 1],
                                            weights_[4 * k + 2], weights_[4 * k + 3],
                                            value.at(KeyTile::row_step(k)), 1);
      // Early enough for the next warpgroup's to be there when the last of these end.
      if (kInTurn && k + 1 == Layout::kTiles.products_before_turn) turns_.pass();
    }
    ptx::wgmma_commit_group();
  }

  /// Writes the rows of a finished item, whose slot is then free.
  __device__ void finish(const RingPosition<kItems>& item_at, const SoftmaxRows& softmax) {
    const volatile WorkItem& item = items_[item_at.stage];
    const int first_row = uniform(item.first_row);
    const int head = uniform(item.head);
    const int batch = uniform(item.batch);
    __syncwarp();
    if (thread_ % 32 == 0) pipes_.item.consumer_release(item_at);
    const AttentionRows rows = rows_of(batch, head, first_row);
    finish_rows(params_, softmax, out_, rows, thread_ % 32);
    if (params_.last) {
      store_out(first_row + warpgroup_ * Layout::kWarpgroupRows, head, batch);
    } else {
      store_partial(params_, out_, rows, column_);
    }
  }

  /// Through shared memory of its own, so that the next item's loads need not wait.
  __device__ void store_out(int first_row, int head, int batch) const {
    const std::uint32_t tile = shared_ + Layout::kOutAt + warpgroup_ * OutTile::kBytes;
    const int barrier = kOutBarrier + warpgroup_;
    if (thread_ == 0) ptx::bulk_wait_group_read<0>();  // the last item's store
    ptx::named_barrier_sync(barrier, 128);
    std::uint32_t packed[kHeadDim / 4];
    pack_operand(packed, out_);
    const int lane = thread_ % 32;
    const int row = thread_ / 32 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      const std::uint32_t to = tile + OutTile::offset(row, 16 * k + lane / 16 * 8);
      ptx::stmatrix_x4(to, packed[4 * k], packed[4 * k + 1], packed[4 * k + 2], packed[4 * k + 3]);
    }
    ptx::fence_proxy_async_shared();
    ptx::named_barrier_sync(barrier, 128);
    if (thread_ != 0) return;
    for (int panel = 0; panel < OutTile::kPanels; ++panel) {
      ptx::tma_store_4d(&params_.out, tile + panel * OutTile::kPanelBytes, panel * kPanelColumns,
                        first_row, head, batch);
    }
    ptx::bulk_commit_group();
  }

  const AttentionForwardSm90Params& params_;
  const std::uint32_t shared_;
  const volatile WorkItem* const items_;
  const typename Layout::Pipelines pipes_;
  const int warpgroup_;
  const int thread_;
  const int row_;     // in the query tile, of this thread's first row; the second is 8 more
  const int column_;  // this thread's first one in a key or head tile
  const ProductTurns<kConsumers, kOutBarrier + kConsumers> turns_;
  RingPosition<kItems> item_at_;
  RingPosition<kQueryStages> query_at_;
  Position value_at_;  // in a step the keys are one tile ahead

  // Of the item whose key tiles are folded.
  int begin_, plain_begin_, plain_end_, tile_;
  int lowest_[2], limit_[2];  // visible keys of this thread's rows
  std::uint32_t queries_;     // address of the warpgroup's first row
  std::uint32_t query_registers_[kQueryInRegisters ? kHeadDim / 16 : 1][4];
  SoftmaxRows softmax_;
  float correction_[2];
  float scores_[kKeyTile / 2];
  std::uint32_t weights_[kKeyTile / 4];
  float out_[kHeadDim / 2];
};

}  // namespace ringtrain::kernels
