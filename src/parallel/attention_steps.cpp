#include "attention_steps.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ringtrain {
namespace {

float softmax_scale(const Tensor& query) {
  return 1.0f / std::sqrt(static_cast<float>(query.size(-1)));
}

}  // namespace

KeyPart whole(const Tensor& key_value) {
  return {0, key_value.size(1), 0, key_value.size(2)};
}

Tensor part_of(const Tensor& block, const KeyPart& part) {
  const std::int64_t row = block.size(2) * block.size(3);
  return block.view((part.sequence * block.size(1) + part.token) * row,
                    {part.sequences, part.tokens, block.size(2), block.size(3)});
}

AttentionSteps::AttentionSteps(Context& context, const std::vector<SequenceLayout>& layouts,
                               const SequenceAttentionOptions& options)
    : context_(context), options_(options) {
  const int num_ranks = context.mesh.ring->size();
  for (const SequenceLayout& layout : layouts) {
    Cut cut;
    cut.positions = context.arena.allocate({num_ranks, layout.group_length()}, DType::kInt32,
                                           MemoryKind::kBatch);
    for (int r = 0; r < num_ranks; ++r) {
      if (context.device.type() != DeviceType::kMeta) {
        const std::vector<std::int32_t> positions = layout.group_positions(r);
        const Tensor row = cut.positions[r];
        context.device.copy_to_device(row.raw(), positions.data(), row.bytes(), context.compute);
        context.compute.synchronise();  // `positions` dies here
      }
      cut.segments.push_back(layout.causal_segments(context.mesh.ring->rank(), r));
      cut.num_visible += cut.segments.back().empty() ? 0 : 1;
    }
    cuts_.push_back(std::move(cut));
  }
}

AttentionMask AttentionSteps::mask(Tensor lowest_visible, int key_rank, const KeyPart& part) const {
  const auto& segments = cut().segments[static_cast<std::size_t>(key_rank)];
  AttentionMask mask{.query_positions = positions(),
                     .key_positions = cut().positions[key_rank].slice(part.token, part.tokens),
                     .lowest_visible = {},
                     .causal = true,
                     .segment = {}};
  if (lowest_visible) mask.lowest_visible = lowest_visible.slice(part.sequence, part.sequences);
  if (segments.size() == 1) {
    mask.segment = among_keys(segments.front(), part.token, part.tokens);
  }
  return mask;
}

bool AttentionSteps::is_visible(int key_rank, const KeyPart& part) const {
  const auto& segments = cut().segments[static_cast<std::size_t>(key_rank)];
  return std::any_of(segments.begin(), segments.end(), [&](const AttentionSegment& segment) {
    return among_keys(segment, part.token, part.tokens).has_value();
  });
}

bool AttentionSteps::overlap(const Tensor& query, const Tensor& key_value,
                             const Tensor& lowest_visible) const {
  for (int r = 0; r < context_.mesh.ring->size(); ++r) {
    if (!is_visible(r)) continue;
    if (!context_.ops.attention_overlaps(query, mask(lowest_visible, r, whole(key_value)))) {
      return false;
    }
  }
  return true;
}

AttentionSteps::Fold AttentionSteps::begin(const Tensor& query) {
  if (cut().num_visible <= 1) return {};
  return {context_.arena.allocate(query.shape(), DType::kFloat32, MemoryKind::kRing)};
}

void AttentionSteps::forward(const SequenceAttention::Forward& args, Fold& fold, Tensor key_value,
                             int key_rank, int free_processors, const std::vector<Lane>& lanes) {
  if (!is_visible(key_rank)) return;
  AttentionForwardArgs step{args.query,
                            key_value[0],
                            key_value[1],
                            fold.partial,
                            args.lse,
                            args.out,
                            mask(args.lowest_visible, key_rank, whole(key_value)),
                            softmax_scale(args.query)};
  step.first = fold.done == 0;
  step.last = ++fold.done == cut().num_visible;
  step.query_chunk_size = options_.query_chunk_size;
  step.key_chunk_size = options_.key_chunk_size;
  step.free_processors = free_processors;
  for (const Lane& lane : lanes) {
    step.first_head = lane.first_head;
    step.num_heads = lane.num_heads;
    const Region region(context_.observer, *lane.stream, {"attention forward"});
    context_.ops.attention_forward(step, *lane.stream);
  }
}

void AttentionSteps::backward(const SequenceAttention::Backward& args, Tensor delta,
                              Tensor key_value, int key_rank, Tensor dkey_value,
                              const KeyParts& parts, bool overwrite, Stream& stream) {
  const Region region(context_.observer, stream, {"attention backward"});
  const auto attend = [&](const KeyPart& part, SkippedKeys skipped) {
    backward_part(args, delta, key_value, key_rank, dkey_value, part, skipped, overwrite, stream);
  };
  // Both ends of a sequence are one launch, without the keys between them.
  if (parts.size() == 2 && parts[0].sequence == parts[1].sequence &&
      is_visible(key_rank, parts[0]) && is_visible(key_rank, parts[1])) {
    const std::int64_t end = parts[0].token + parts[0].tokens;
    const KeyPart around{parts[0].sequence, parts[0].sequences, parts[0].token,
                         parts[1].token + parts[1].tokens - parts[0].token};
    return attend(around, {end - parts[0].token, parts[1].token - end});
  }
  for (const KeyPart& part : parts) attend(part, {});
}

void AttentionSteps::backward_part(const SequenceAttention::Backward& args, Tensor delta,
                                   Tensor key_value, int key_rank, Tensor dkey_value,
                                   const KeyPart& part, SkippedKeys skipped, bool overwrite,
                                   Stream& stream) {
  const Tensor dkey = part_of(dkey_value[0], part);
  const Tensor dvalue = part_of(dkey_value[1], part);
  if (!is_visible(key_rank, part)) {
    if (!overwrite) return;
    context_.ops.fill(dkey, 0, stream);
    context_.ops.fill(dvalue, 0, stream);
    return;
  }
  const auto rows = [&](const Tensor& tensor) {
    return tensor.slice(part.sequence, part.sequences);
  };
  AttentionBackwardArgs step{rows(args.query),
                             part_of(key_value[0], part),
                             part_of(key_value[1], part),
                             rows(args.dout),
                             rows(args.lse),
                             rows(delta),
                             rows(args.dquery),
                             dkey,
                             dvalue,
                             mask(args.lowest_visible, key_rank, part),
                             softmax_scale(args.query)};
  step.overwrite_key_value = overwrite;
  step.skipped = skipped;
  step.query_chunk_size = options_.query_chunk_size;
  step.key_chunk_size = options_.key_chunk_size;
  context_.ops.attention_backward(step, stream);
}

}  // namespace ringtrain
