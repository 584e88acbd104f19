#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "ringtrain/core/error.h"
#include "ringtrain/data/batch.h"

namespace ringtrain {

/// Batch `number` of a made-up source: every value names its place, every third target is masked,
/// row 1 as a whole, and a document begins at every seventh token of the batch.
inline GlobalBatch numbered_batch(std::int64_t number, std::int64_t batch_size,
                                  std::int64_t seq_length) {
  GlobalBatch batch;
  batch.batch_size = batch_size;
  batch.seq_length = seq_length;
  for (std::int64_t row = 0; row < batch_size; ++row) {
    std::int32_t start = 0;
    for (std::int64_t column = 0; column < seq_length; ++column) {
      const std::int64_t at = row * seq_length + column;
      if (at % 7 == 0) start = static_cast<std::int32_t>(column);
      batch.inputs.push_back(static_cast<std::int32_t>(number * 100000 + at));
      batch.targets.push_back(static_cast<std::int32_t>(number * 100000 + at + 1));
      batch.loss_masks.push_back(at % 3 == 0 || row == 1 ? 0.0f : 1.0f);
      batch.document_starts.push_back(start);
    }
  }
  batch.state_after = "state " + std::to_string(number);
  batch.metrics = "{\"number\": " + std::to_string(number) + "}";
  return batch;
}

/// Batches 0, 1, 2, ...; the one numbered `fails_at` is an IoError.
class NumberedSource final : public BatchSource {
 public:
  NumberedSource(std::int64_t batch_size, std::int64_t seq_length, std::int64_t fails_at = -1)
      : batch_size_(batch_size), seq_length_(seq_length), fails_at_(fails_at) {}

  GlobalBatch next() override {
    if (number_ == fails_at_) throw IoError("the disk is on fire");
    return numbered_batch(number_++, batch_size_, seq_length_);
  }

 private:
  std::int64_t batch_size_;
  std::int64_t seq_length_;
  std::int64_t fails_at_;
  std::int64_t number_ = 0;
};

}  // namespace ringtrain
