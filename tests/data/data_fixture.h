#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "ringtrain/data/json_dataset.h"
#include "support/temporary_directory.h"

namespace ringtrain {

inline const std::string kTokenizerFile = RT_SOURCE_DIR "/tests/golden/data/tokenizer.model";
inline const std::string kSampleFile = RT_SOURCE_DIR "/tests/golden/data/sample.jsonl";

inline std::shared_ptr<const Tokenizer> sample_tokenizer() {
  static const auto tokenizer =
      std::make_shared<const Tokenizer>(TokenizerConfig{.vocab_file = kTokenizerFile});
  return tokenizer;
}

inline DatasetConfig dataset_config(const std::string& path, std::int64_t batch_size,
                                    std::int64_t seq_length, std::int64_t workers = 1) {
  DatasetConfig config;
  config.text_processor.fields = "text";
  config.json_dataset.path = path;
  config.json_dataset.batch_size = batch_size;
  config.json_dataset.seq_length = seq_length;
  config.json_dataset.tokenizer_processes = workers;
  config.json_dataset.tokenizer_parallel_chunk_size = 3;
  config.json_dataset.tokenizer_parallel_batch_size = 16;
  return config;
}

/// Options that keep warnings in `lines` instead of printing them.
inline DatasetOptions collecting_options(std::vector<std::string>& lines) {
  DatasetOptions options;
  options.warn = [&lines](const std::string& line) { lines.push_back(line); };
  return options;
}

inline DatasetOptions quiet_options(std::string resume_state = {}) {
  DatasetOptions options;
  options.resume_state = std::move(resume_state);
  options.warn = [](const std::string&) {};
  return options;
}

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The message of the Type that `body` throws; empty if it throws nothing.
template <typename Type, typename Body>
std::string message_of(Body&& body) {
  try {
    body();
  } catch (const Type& error) {
    return error.what();
  }
  return {};
}

}  // namespace ringtrain
