#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ringtrain/data/json_lines.h"
#include "ringtrain/data/text_processor.h"

namespace ringtrain {

/// A line of the file after tokenisation.
struct Example {
  JsonLine line;           ///< without its text
  TokenizedText text;      ///< empty for broken lines and the end of the file
  std::string problem;     ///< why the line is broken; empty if it is not
  std::uint64_t hash = 0;  ///< FNV-1a of the line's text
};

/// How many threads tokenise, and how far ahead of the reader of the examples.
struct TokenizerThreads {
  std::int64_t count = 1;        ///< with 1, the thread that calls next() does the work
  std::int64_t chunk_size = 32;  ///< lines that a thread takes at a time
  std::int64_t lines_ahead = 1024;
};

/// The examples of a file in the file's order, whatever the number of threads.
class ExampleStream {
 public:
  ExampleStream(JsonLineReader reader, std::shared_ptr<const TextProcessor> processor,
                TokenizerThreads threads);
  ~ExampleStream();
  ExampleStream(const ExampleStream&) = delete;
  ExampleStream& operator=(const ExampleStream&) = delete;

  /// Errors: IoError of the reader and of the processor, when the line's turn comes.
  Example next();

 private:
  class Pool;

  JsonLineReader reader_;
  std::shared_ptr<const TextProcessor> processor_;
  std::unique_ptr<Pool> pool_;  // nullptr with one thread
};

}  // namespace ringtrain
