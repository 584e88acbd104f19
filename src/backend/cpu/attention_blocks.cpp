#include "attention_blocks.h"

namespace ringtrain::cpu {

KeyRange visible_keys(const AttentionMask& mask, std::int64_t b, std::int64_t query) {
  const std::int32_t* keys = mask.key_positions.data<std::int32_t>();
  const std::int64_t num_keys = mask.key_positions.size(0);
  const std::int32_t* begin = keys;
  const std::int32_t* end = keys + num_keys;
  if (mask.lowest_visible) {
    const std::int32_t lowest =
        mask.lowest_visible.data<std::int32_t>()[b * mask.lowest_visible.size(1) + query];
    begin = std::lower_bound(begin, end, lowest);
  }
  if (mask.causal) {
    end = std::upper_bound(begin, end, mask.query_positions.data<std::int32_t>()[query]);
  }
  return {begin - keys, end - keys};
}

VisibleRows::VisibleRows(const AttentionMask& mask, std::int64_t b, std::int64_t begin,
                         std::int64_t count)
    : rows(static_cast<std::size_t>(count)), all{mask.key_positions.size(0), 0} {
  for (std::int64_t i = 0; i < count; ++i) {
    const KeyRange range = visible_keys(mask, b, begin + i);
    rows[static_cast<std::size_t>(i)] = range;
    if (range.begin == range.end) continue;
    all.begin = std::min(all.begin, range.begin);
    all.end = std::max(all.end, range.end);
  }
  if (all.end < all.begin) all = {0, 0};
}

}  // namespace ringtrain::cpu
