#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "ringtrain/data/batch.h"
#include "ringtrain/data/text_processor.h"

namespace ringtrain {

/// A token's place in a file of examples.
struct DataPosition {
  std::int64_t example_offset = 0;  ///< first byte of the line
  std::int64_t example_index = 0;
  std::uint64_t example_hash = 0;  ///< FNV-1a of the line
  std::int64_t token_offset = 0;   ///< tokens of the example before this one
  bool operator==(const DataPosition&) const = default;
};

/// Concatenates the tokens of examples and cuts them into batches: with n = batch_size x
/// seq_length, inputs are tokens [0, n), targets and masks [1, n + 1), and n tokens are dropped. A
/// batch is ready when more than n + 1 tokens are there (the original's rule).
class BatchCutter {
 public:
  /// `row_start`, where set, overwrites the first input of each row (always_start_with_bos);
  /// targets and masks stay.
  BatchCutter(std::int64_t batch_size, std::int64_t seq_length,
              std::optional<std::int32_t> row_start);

  /// Appends an example from `start.token_offset` on, which `text` must have.
  void append(const DataPosition& start, const TokenizedText& text);
  bool ready() const;
  /// Tokens, masks and document starts of the next batch. Only if ready().
  GlobalBatch cut();
  /// Place of the first token that is not yet an input. Only after an example with tokens.
  DataPosition position() const;
  std::int64_t tokens_per_batch() const { return batch_size_ * seq_length_; }

 private:
  // An example with tokens in the buffer; `begin` counts from the first token ever appended.
  struct Span {
    DataPosition start;
    std::int64_t begin;
  };

  std::int64_t buffered() const;

  std::int64_t batch_size_;
  std::int64_t seq_length_;
  std::optional<std::int32_t> row_start_;
  std::vector<std::int32_t> tokens_;
  std::vector<float> masks_;
  std::int64_t base_ = 0;  // count of the token at tokens_[0]
  std::int64_t head_ = 0;  // count of the first token that is not yet an input
  std::deque<Span> spans_;
};

}  // namespace ringtrain
