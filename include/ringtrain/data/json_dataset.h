#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ringtrain/config/train_config.h"
#include "ringtrain/data/batch.h"
#include "ringtrain/data/tokenizer.h"

namespace ringtrain {

struct DatasetOptions {
  /// "train_dataset" or "eval_dataset": names the options in messages.
  std::string option_prefix = "train_dataset";
  /// GlobalBatch::state_after of the batch before the first one wanted; empty: from the settings'
  /// start_seek_loc. A state overrides example_index_at_start and tokens_count_at_start too.
  std::string resume_state;
  /// Receives lines about broken examples, from another thread; by default they go to stderr.
  std::function<void(const std::string&)> warn;
};

/// Batches from a file with one JSON object a line, read from front to back again and again, as
/// the original does. Tokenisation runs in the background, two batches ahead; batches, states and
/// metrics are the same for any number of threads.
///
/// A line that is not a JSON object is reported with its number (the first five of the first pass,
/// then their count), counts in dataset_example_index and is skipped; so is a blank line, silently.
/// Metrics of a batch: dataset_file_loc and dataset_example_index of the example that completed
/// it, dataset_total_tokens with it, dataset_accumulated_tps since the first batch and
/// dataset_average_tps over the last throughput_average_window_size batches, both as asked for.
class JsonDataset final : public BatchSource {
 public:
  /// Errors: InvalidArgument for settings out of range, without fields, and for a resume_state that
  /// does not fit (read_dataset_state); IoError if the file is missing or empty.
  JsonDataset(const DatasetConfig& config, std::shared_ptr<const Tokenizer> tokenizer,
              DatasetOptions options = {});
  ~JsonDataset() override;

  /// Errors: IoError if an example lacks a field or the file cannot be read, and if the whole file
  /// holds fewer than batch_size x seq_length + 1 tokens. After an error: the same again.
  GlobalBatch next() override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The source that a dataset's settings ask for: json, also if type is empty and a path is given.
/// Errors: InvalidArgument for another type; huggingface, the default without a path, names the
/// script that makes a file of its data.
std::unique_ptr<BatchSource> open_dataset(const DatasetConfig& config,
                                          std::shared_ptr<const Tokenizer> tokenizer,
                                          DatasetOptions options = {});

}  // namespace ringtrain
