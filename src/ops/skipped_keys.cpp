#include "ringtrain/ops/skipped_keys.h"

namespace ringtrain {
namespace {

/// Only keys [begin, begin + tokens).
AttentionBackwardArgs only_keys(const AttentionBackwardArgs& args, std::int64_t begin,
                                std::int64_t tokens) {
  const auto part = [&](const Tensor& tensor) {  // [1, Tk, K, H]
    return tensor.view(begin * tensor.size(2) * tensor.size(3),
                       {1, tokens, tensor.size(2), tensor.size(3)});
  };
  AttentionBackwardArgs step = args;
  step.key = part(args.key);
  step.value = part(args.value);
  step.dkey = part(args.dkey);
  step.dvalue = part(args.dvalue);
  step.skipped = {};
  step.mask.key_positions = args.mask.key_positions.slice(begin, tokens);
  if (args.mask.segment) {
    step.mask.segment = among_keys(*args.mask.segment, begin, tokens).value_or(AttentionSegment{});
  }
  return step;
}

}  // namespace

std::array<AttentionBackwardArgs, 2> around_skipped_keys(const AttentionBackwardArgs& args) {
  const std::int64_t end = args.skipped.begin + args.skipped.tokens;
  return {only_keys(args, 0, args.skipped.begin), only_keys(args, end, args.key.size(1) - end)};
}

}  // namespace ringtrain
