#pragma once

#include <cstdint>
#include <string>

#include "ringtrain/config/train_config.h"
#include "ringtrain/data/batch_cutter.h"

namespace ringtrain {

/// What decides which tokens a position means. A saved position is worth nothing with another one.
struct DatasetIdentity {
  std::int64_t file_bytes = 0;
  std::string file_fingerprint;       ///< of its content; the file may be moved
  std::string tokenizer_fingerprint;  ///< Tokenizer::fingerprint
  TextProcessorConfig text_processor;
  std::int64_t batch_size = 0;
  std::int64_t seq_length = 0;
  bool always_start_with_bos = false;
};

/// How far a dataset has been read: small enough to travel with every batch.
struct DatasetProgress {
  DataPosition next_token;        ///< the first input of the next batch
  std::int64_t total_tokens = 0;  ///< dataset_total_tokens
};

/// GlobalBatch::state_after.
std::string write_dataset_state(const DatasetIdentity& identity, const DatasetProgress& progress);

/// Reads what write_dataset_state wrote. Errors: InvalidArgument if `text` is no such state, or was
/// saved with something else than `identity`, naming what differs with both values and the option
/// behind it; `option_prefix` is "train_dataset" or "eval_dataset".
DatasetProgress read_dataset_state(const std::string& text, const DatasetIdentity& identity,
                                   const std::string& option_prefix);

/// The text of a saved state, as --load_dataset_state=PATH names it: a file that holds the state
/// alone. Errors: IoError if it cannot be read; InvalidArgument if it is no state.
std::string load_dataset_state(const std::string& path);

}  // namespace ringtrain
