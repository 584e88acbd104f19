#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ringtrain/data/example_stream.h"
#include "ringtrain/data/text_processor.h"

namespace ringtrain {

/// What a file of text comes to.
struct TokenCount {
  std::int64_t examples = 0;
  std::int64_t broken_lines = 0;
  std::int64_t tokens = 0;
  std::int64_t loss_tokens = 0;  ///< those with mask 1
  std::int64_t bytes_read = 0;
  std::int64_t file_bytes = 0;
};

struct CountCallbacks {
  std::function<void(const TokenCount&)> progress;  ///< after every example; may be empty
  std::function<void(const std::string&)> warn;     ///< the first broken lines; may be empty
};

/// Counts the tokens of a file as training would read it once. A name that ends in .txt is text,
/// whose documents are separated by blank lines and stand for the field "text"; any other file has
/// one JSON object a line. Errors: IoError naming the file, and the line with a missing field.
TokenCount count_tokens(const std::string& path, std::shared_ptr<const TextProcessor> processor,
                        TokenizerThreads threads, const CountCallbacks& callbacks);

}  // namespace ringtrain
