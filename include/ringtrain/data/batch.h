#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ringtrain {

/// A global batch as a source cuts it, row-major [batch_size, seq_length]; inputs and targets are
/// already shifted against each other.
struct GlobalBatch {
  std::int64_t batch_size = 0;
  std::int64_t seq_length = 0;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> targets;
  std::vector<float> loss_masks;
  /// Lowest position of the row that a token may attend to: where its document begins in this row.
  std::vector<std::int32_t> document_starts;
  /// Which of the run's layouts it is cut by (sequence_layouts).
  std::size_t layout = 0;
  /// Resuming from it yields exactly the batch after this one. Opaque JSON, checked on resume.
  std::string state_after;
  /// dataset_* metrics of this batch as a JSON object.
  std::string metrics;
};

/// This rank's part of a batch: rows of its batch shard, tokens of its place in the layout, equal
/// on all ranks of a tp group. [rows, tokens] row-major.
struct LocalBatch {
  std::int64_t rows = 0;
  std::int64_t tokens = 0;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> targets;
  std::vector<float> weights;  ///< of each token's loss: mask, or mask / valid tokens of its row
  /// [rows, tokens of the ulysses group], as attention on this rank needs them; empty unless
  /// packing=documents.
  std::vector<std::int32_t> document_starts;
  std::size_t layout = 0;  ///< as in GlobalBatch
  double denominator = 0;  ///< what the global sum of weighted losses is divided by
  std::string state_after;
  std::string metrics;
};

/// Where batches come from.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// The next batch; wraps at the end of the data. Errors: IoError.
  virtual GlobalBatch next() = 0;
};

}  // namespace ringtrain
