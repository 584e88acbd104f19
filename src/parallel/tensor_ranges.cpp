#include "ringtrain/parallel/tensor_ranges.h"

#include <algorithm>

namespace ringtrain {

std::vector<TensorRange> tensor_ranges(const Shape& whole, TpSplit split, TpSlice slice,
                                       std::int64_t begin, std::int64_t count) {
  if (count == 0) return {};
  if (split != TpSplit::kColumns || slice.count == whole[-1]) {
    const std::int64_t row = split == TpSplit::kRows && whole[0] > 0
                                 ? whole.num_elements() / whole[0]
                                 : 0;  // other slices begin with the tensor
    return {{.whole_begin = slice.first * row + begin, .piece_begin = 0, .count = count}};
  }
  std::vector<TensorRange> ranges;
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t row = (begin + done) / slice.count;
    const std::int64_t column = (begin + done) % slice.count;
    const std::int64_t n = std::min(slice.count - column, count - done);
    ranges.push_back(
        {.whole_begin = row * whole[-1] + slice.first + column, .piece_begin = done, .count = n});
    done += n;
  }
  return ranges;
}

std::vector<TensorRange> tensor_ranges(const SegmentRun& run, int tp_rank, int tp_size) {
  return tensor_ranges(run.segment->shape, run.segment->split,
                       tp_slice(*run.segment, tp_rank, tp_size), run.segment_begin, run.count);
}

std::vector<RangeCopy> overlap(const std::vector<TensorRange>& from,
                               const std::vector<TensorRange>& to) {
  std::vector<RangeCopy> copies;
  for (auto f = from.begin(), t = to.begin(); f != from.end() && t != to.end();) {
    const std::int64_t begin = std::max(f->whole_begin, t->whole_begin);
    const std::int64_t end = std::min(f->whole_begin + f->count, t->whole_begin + t->count);
    if (begin < end) {
      const RangeCopy copy{.from = f->piece_begin + begin - f->whole_begin,
                           .to = t->piece_begin + begin - t->whole_begin,
                           .count = end - begin};
      const bool continues = !copies.empty() &&
                             copies.back().from + copies.back().count == copy.from &&
                             copies.back().to + copies.back().count == copy.to;
      if (continues) {
        copies.back().count += copy.count;
      } else {
        copies.push_back(copy);
      }
    }
    if (f->whole_begin + f->count < t->whole_begin + t->count) {
      ++f;
    } else {
      ++t;
    }
  }
  return copies;
}

}  // namespace ringtrain
