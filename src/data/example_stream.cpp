#include "ringtrain/data/example_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "ringtrain/core/error.h"
#include "ringtrain/data/fingerprint.h"

namespace ringtrain {
namespace {

Example tokenize(JsonLine line, const std::string& path, const TextProcessor& processor) {
  Example example;
  example.line = std::move(line);
  if (example.line.end_of_file) return example;
  const std::string text = std::move(example.line.text);
  example.line.text.clear();
  example.hash = fnv1a(text);
  nlohmann::json parsed;
  try {
    parsed = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    example.problem = fmt::format("it breaks at its byte {} of {}", error.byte, text.size());
    return example;
  }
  if (!parsed.is_object()) {
    example.problem = fmt::format("it is of type {}", parsed.type_name());
    return example;
  }
  with_context(fmt::format("reading line {} (byte {}) of {}", example.line.index + 1,
                           example.line.begin, path),
               [&] { example.text = processor(parsed); });
  return example;
}

// A run of lines, worked on by one thread.
struct Chunk {
  std::vector<JsonLine> lines;
  std::vector<Example> examples;
  std::exception_ptr error;  // follows the examples
  bool done = false;
};

}  // namespace

class ExampleStream::Pool {
 public:
  Pool(JsonLineReader& reader, const TextProcessor& processor, TokenizerThreads threads)
      : reader_(reader), processor_(processor), settings_(threads) {
    try {
      for (std::int64_t i = 0; i < threads.count; ++i) {
        threads_.emplace_back([this] { work(); });
      }
    } catch (const std::system_error& error) {
      const std::size_t started = threads_.size();
      end_threads();
      throw InvalidArgument(
          fmt::format("json_dataset.tokenizer_processes={}: this process can start only {} threads "
                      "({})",
                      threads.count, started, error.code().message()));
    }
  }

  ~Pool() { end_threads(); }

  Example next() {
    while (taken_ == current_.examples.size()) {
      if (current_.error) std::rethrow_exception(current_.error);
      take_chunk();
    }
    return std::move(current_.examples[taken_++]);
  }

 private:
  // Long lines must not fill the memory: reading ahead also stops at this many bytes.
  static constexpr std::int64_t kMaxChunkBytes = std::int64_t{1} << 22;
  static constexpr std::int64_t kMaxBytesAhead = std::int64_t{1} << 26;

  void end_threads() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void take_chunk() {
    while (!reader_failed_ && (ordered_.empty() || (lines_ahead_ < settings_.lines_ahead &&
                                                    bytes_ahead_ < kMaxBytesAhead))) {
      read_chunk();
    }
    Queued front = std::move(ordered_.front());
    ordered_.pop_front();
    lines_ahead_ -= front.lines;
    bytes_ahead_ -= front.bytes;
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return front.chunk->done; });
    current_ = std::move(*front.chunk);
    taken_ = 0;
  }

  void read_chunk() {
    Queued queued;
    queued.chunk = std::make_shared<Chunk>();
    try {
      while (queued.lines < settings_.chunk_size && queued.bytes < kMaxChunkBytes) {
        queued.chunk->lines.push_back(reader_.next());
        ++queued.lines;
        queued.bytes += static_cast<std::int64_t>(queued.chunk->lines.back().text.size());
      }
    } catch (...) {
      queued.chunk->error = std::current_exception();
      reader_failed_ = true;
    }
    lines_ahead_ += queued.lines;
    bytes_ahead_ += queued.bytes;
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(queued.chunk);
    }
    wake_.notify_one();
    ordered_.push_back(std::move(queued));
  }

  void work() {
    for (;;) {
      std::shared_ptr<Chunk> chunk;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
        if (stopping_) return;
        chunk = std::move(waiting_.front());
        waiting_.pop_front();
      }
      try {
        for (JsonLine& line : chunk->lines) {
          chunk->examples.push_back(tokenize(std::move(line), reader_.path(), processor_));
        }
      } catch (...) {
        chunk->error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex_);
        chunk->done = true;
      }
      finished_.notify_all();
    }
  }

  struct Queued {
    std::shared_ptr<Chunk> chunk;
    std::int64_t lines = 0;
    std::int64_t bytes = 0;
  };

  JsonLineReader& reader_;
  const TextProcessor& processor_;
  TokenizerThreads settings_;
  // Of the thread that calls next(): chunks in the file's order, and the one being handed out.
  std::deque<Queued> ordered_;
  std::int64_t lines_ahead_ = 0;
  std::int64_t bytes_ahead_ = 0;
  bool reader_failed_ = false;
  Chunk current_;
  std::size_t taken_ = 0;
  // Shared with the workers.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  std::deque<std::shared_ptr<Chunk>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

ExampleStream::ExampleStream(JsonLineReader reader, std::shared_ptr<const TextProcessor> processor,
                             TokenizerThreads threads)
    : reader_(std::move(reader)), processor_(std::move(processor)) {
  if (threads.count > 1) pool_ = std::make_unique<Pool>(reader_, *processor_, threads);
}

ExampleStream::~ExampleStream() = default;

Example ExampleStream::next() {
  return pool_ ? pool_->next() : tokenize(reader_.next(), reader_.path(), *processor_);
}

}  // namespace ringtrain
