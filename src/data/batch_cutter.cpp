#include "ringtrain/data/batch_cutter.h"

#include <algorithm>

namespace ringtrain {

BatchCutter::BatchCutter(std::int64_t batch_size, std::int64_t seq_length,
                         std::optional<std::int32_t> row_start)
    : batch_size_(batch_size), seq_length_(seq_length), row_start_(row_start) {}

std::int64_t BatchCutter::buffered() const {
  return base_ + static_cast<std::int64_t>(tokens_.size()) - head_;
}

void BatchCutter::append(const DataPosition& start, const TokenizedText& text) {
  if (static_cast<std::int64_t>(text.tokens.size()) <= start.token_offset) return;
  spans_.push_back({start, base_ + static_cast<std::int64_t>(tokens_.size())});
  tokens_.insert(tokens_.end(), text.tokens.begin() + start.token_offset, text.tokens.end());
  masks_.insert(masks_.end(), text.masks.begin() + start.token_offset, text.masks.end());
}

bool BatchCutter::ready() const {
  return buffered() > tokens_per_batch() + 1;
}

GlobalBatch BatchCutter::cut() {
  const std::int64_t n = tokens_per_batch();
  const std::int64_t first = head_ - base_;
  GlobalBatch batch;
  batch.batch_size = batch_size_;
  batch.seq_length = seq_length_;
  batch.inputs.assign(tokens_.begin() + first, tokens_.begin() + first + n);
  batch.targets.assign(tokens_.begin() + first + 1, tokens_.begin() + first + n + 1);
  batch.loss_masks.assign(masks_.begin() + first + 1, masks_.begin() + first + n + 1);
  if (row_start_) {
    for (std::int64_t row = 0; row < batch_size_; ++row) {
      batch.inputs[static_cast<std::size_t>(row * seq_length_)] = *row_start_;
    }
  }

  // 0 at the start of a row: its document may have begun in an earlier one.
  batch.document_starts.assign(static_cast<std::size_t>(n), 0);
  auto span = spans_.begin();
  while (span != spans_.end() && span->begin < head_) ++span;
  for (std::int64_t row = 0; row < batch_size_; ++row) {
    std::int32_t start = 0;
    for (std::int64_t column = 0; column < seq_length_; ++column) {
      const std::int64_t at = row * seq_length_ + column;
      if (span != spans_.end() && span->begin == head_ + at) {
        start = static_cast<std::int32_t>(column);
        ++span;
      }
      batch.document_starts[static_cast<std::size_t>(at)] = start;
    }
  }

  head_ += n;
  while (spans_.size() > 1 && spans_[1].begin <= head_) spans_.pop_front();
  // Moving the rest forward at every batch would be quadratic in the length of an example.
  const std::int64_t dropped = head_ - base_;
  if (dropped > static_cast<std::int64_t>(tokens_.size()) / 2) {
    tokens_.erase(tokens_.begin(), tokens_.begin() + dropped);
    masks_.erase(masks_.begin(), masks_.begin() + dropped);
    base_ = head_;
  }
  return batch;
}

DataPosition BatchCutter::position() const {
  DataPosition position = spans_.front().start;
  position.token_offset += head_ - spans_.front().begin;
  return position;
}

}  // namespace ringtrain
