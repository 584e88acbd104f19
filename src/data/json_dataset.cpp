#include "ringtrain/data/json_dataset.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <deque>
#include <exception>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include "ringtrain/core/error.h"
#include "ringtrain/data/batch_cutter.h"
#include "ringtrain/data/bounded_queue.h"
#include "ringtrain/data/dataset_state.h"
#include "ringtrain/data/example_stream.h"

namespace ringtrain {
namespace {

constexpr std::size_t kBatchesAhead = 2;
constexpr std::int64_t kMaxReports = 5;  // of broken lines

void check_at_least(std::int64_t least, std::int64_t value, const std::string& prefix,
                    const char* name) {
  if (value >= least) return;
  throw InvalidArgument(
      fmt::format("--{}.json_dataset.{} must be at least {}, got {}", prefix, name, least, value));
}

void check_settings(const JsonDatasetConfig& config, const std::string& prefix) {
  check_at_least(1, config.batch_size, prefix, "batch_size");
  check_at_least(1, config.seq_length, prefix, "seq_length");
  check_at_least(0, config.start_seek_loc, prefix, "start_seek_loc");
  check_at_least(0, config.example_index_at_start, prefix, "example_index_at_start");
  check_at_least(0, config.tokens_count_at_start, prefix, "tokens_count_at_start");
  check_at_least(1, config.tokenizer_processes, prefix, "tokenizer_processes");
  check_at_least(1, config.tokenizer_parallel_chunk_size, prefix, "tokenizer_parallel_chunk_size");
  check_at_least(1, config.tokenizer_parallel_batch_size, prefix, "tokenizer_parallel_batch_size");
  check_at_least(1, config.throughput_average_window_size, prefix,
                 "throughput_average_window_size");
}

std::optional<std::int32_t> row_start(const JsonDatasetConfig& config, const Tokenizer& tokenizer,
                                      const std::string& prefix) {
  if (!config.always_start_with_bos) return std::nullopt;
  if (tokenizer.bos_id() >= 0) return tokenizer.bos_id();
  throw InvalidArgument(
      fmt::format("{} has no BOS token, which --{}.json_dataset.always_start_with_bos asks for",
                  tokenizer.path(), prefix));
}

// Tokens a second, as a consumer of batches sees it.
class TokenRate {
 public:
  TokenRate(std::int64_t tokens_per_batch, std::int64_t window)
      : tokens_per_batch_(static_cast<double>(tokens_per_batch)),
        window_(static_cast<std::size_t>(window)) {}

  void start() {
    if (batches_ == 0 && !started_) started_ = last_ = Clock::now();
  }
  void add_batch() {
    const auto now = Clock::now();
    durations_.push_back(seconds(now - last_));
    if (durations_.size() > window_) durations_.pop_front();
    last_ = now;
    ++batches_;
  }
  double accumulated() const {
    return tokens_per_batch_ * static_cast<double>(batches_) / seconds(last_ - *started_);
  }
  double average() const {
    return tokens_per_batch_ * static_cast<double>(durations_.size()) /
           std::accumulate(durations_.begin(), durations_.end(), 0.0);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds(Clock::duration duration) {  // never 0: it divides
    return std::max(1e-9, std::chrono::duration<double>(duration).count());
  }

  double tokens_per_batch_;
  std::size_t window_;
  std::int64_t batches_ = 0;
  std::optional<Clock::time_point> started_;
  Clock::time_point last_;
  std::deque<double> durations_;
};

}  // namespace

class JsonDataset::Impl {
 public:
  Impl(const DatasetConfig& config, std::shared_ptr<const Tokenizer> tokenizer,
       DatasetOptions options)
      : config_(config.json_dataset),
        options_(std::move(options)),
        tokenizer_(std::move(tokenizer)),
        processor_(std::make_shared<TextProcessor>(config.text_processor, tokenizer_,
                                                   options_.option_prefix)),
        cutter_(config_.batch_size, config_.seq_length,
                row_start(config_, *tokenizer_, options_.option_prefix)),
        rate_(cutter_.tokens_per_batch(), config_.throughput_average_window_size) {
    if (!options_.warn) {
      options_.warn = [](const std::string& text) {
        std::fprintf(stderr, "ringtrain: warning: %s\n", text.c_str());
      };
    }
    JsonLineReader reader(config_.path,
                          fmt::format("--{}.json_dataset.path", options_.option_prefix));
    identify(reader, config.text_processor);
    find_start(reader);
    stream_ = std::make_unique<ExampleStream>(
        std::move(reader), processor_,
        TokenizerThreads{config_.tokenizer_processes, config_.tokenizer_parallel_chunk_size,
                         config_.tokenizer_parallel_batch_size});
    thread_ = std::thread([this] { produce(); });
  }

  ~Impl() {
    queue_.close();
    thread_.join();
  }

  GlobalBatch next() {
    rate_.start();
    std::optional<Prepared> prepared = queue_.pop();
    if (!prepared) std::rethrow_exception(error_);
    rate_.add_batch();
    prepared->batch.metrics = fmt::format(
        "{{\"dataset_file_loc\": {}, \"dataset_example_index\": {}, \"dataset_total_tokens\": {}, "
        "\"dataset_accumulated_tps\": {}, \"dataset_average_tps\": {}}}",
        prepared->file_loc, prepared->example_index, prepared->total_tokens, rate_.accumulated(),
        rate_.average());
    return std::move(prepared->batch);
  }

 private:
  struct Prepared {
    GlobalBatch batch;
    std::int64_t file_loc;
    std::int64_t example_index;
    std::int64_t total_tokens;
  };

  void identify(const JsonLineReader& reader, const TextProcessorConfig& text_processor) {
    identity_ = {reader.file_bytes(),          reader.content_fingerprint(),
                 tokenizer_->fingerprint(),    text_processor,
                 config_.batch_size,           config_.seq_length,
                 config_.always_start_with_bos};
  }

  void find_start(JsonLineReader& reader) {
    if (options_.resume_state.empty()) {
      start_.example_offset = config_.start_seek_loc;
      start_.example_index = config_.example_index_at_start;
      total_tokens_ = config_.tokens_count_at_start;
      if (start_.example_offset > reader.file_bytes()) {
        throw InvalidArgument(fmt::format(
            "--{}.json_dataset.start_seek_loc={} is behind the end of {}: {} bytes",
            options_.option_prefix, start_.example_offset, reader.path(), reader.file_bytes()));
      }
    } else {
      const DatasetProgress progress =
          read_dataset_state(options_.resume_state, identity_, options_.option_prefix);
      start_ = progress.next_token;
      total_tokens_ = progress.total_tokens;
    }
    reader.seek(start_.example_offset, start_.example_index);
    pass_is_whole_ = start_.example_offset == 0;
  }

  // The body of the background thread: `error_` is set before the queue is closed.
  void produce() {
    try {
      for (bool first = true;; first = false) {
        const Example example = stream_->next();
        if (first) check_resumed(example);
        if (example.line.end_of_file) {
          end_pass();
        } else if (!example.problem.empty()) {
          report_broken(example);
        } else if (!add(example, first)) {
          return;
        }
      }
    } catch (...) {
      error_ = std::current_exception();
    }
    queue_.close();
  }

  // Appends an example and hands out the batches it completes. False once nobody wants them.
  bool add(const Example& example, bool first) {
    DataPosition start{example.line.begin, example.line.index, example.hash,
                       first ? start_.token_offset : 0};
    cutter_.append(start, example.text);
    pass_tokens_ += static_cast<std::int64_t>(example.text.tokens.size());
    while (cutter_.ready()) {
      Prepared prepared{cutter_.cut(), example.line.end, example.line.index, 0};
      total_tokens_ += cutter_.tokens_per_batch();
      prepared.total_tokens = total_tokens_;
      prepared.batch.state_after =
          write_dataset_state(identity_, {cutter_.position(), total_tokens_});
      if (!queue_.push(std::move(prepared))) return false;
    }
    return true;
  }

  // A file that changed somewhere in its middle keeps its size and both ends.
  void check_resumed(const Example& example) const {
    if (options_.resume_state.empty()) return;
    if (example.hash == start_.example_hash && example.line.begin == start_.example_offset &&
        static_cast<std::int64_t>(example.text.tokens.size()) > start_.token_offset) {
      return;
    }
    throw InvalidArgument(
        fmt::format("the data cannot be resumed: the example at byte {} of {} is not the one that "
                    "the saved run was reading (--{}.json_dataset.path)",
                    start_.example_offset, config_.path, options_.option_prefix));
  }

  void report_broken(const Example& example) {
    ++pass_broken_;
    if (!first_pass_ || pass_broken_ > kMaxReports) return;
    options_.warn(fmt::format("line {} of {} (byte {}) is not a JSON object and is skipped: {}",
                              example.line.index + 1, config_.path, example.line.begin,
                              example.problem));
    if (pass_broken_ == kMaxReports) {
      options_.warn(fmt::format("further broken lines of {} are counted, not shown", config_.path));
    }
  }

  void end_pass() {
    const std::int64_t needed = cutter_.tokens_per_batch() + 1;
    if (pass_is_whole_ && pass_tokens_ < needed) {
      throw IoError(
          fmt::format("{}: the whole file gives {} tokens ({} broken lines), one batch needs {}: "
                      "batch_size {} x "
                      "seq_length {} + 1 (--{}.json_dataset.*)",
                      config_.path, pass_tokens_, pass_broken_, needed, config_.batch_size,
                      config_.seq_length, options_.option_prefix));
    }
    if (first_pass_ && pass_broken_ > kMaxReports) {
      options_.warn(fmt::format("{} of {} were broken and skipped",
                                fmt::format("{} lines", pass_broken_), config_.path));
    }
    first_pass_ = false;
    pass_is_whole_ = true;
    pass_tokens_ = 0;
    pass_broken_ = 0;
  }

  JsonDatasetConfig config_;
  DatasetOptions options_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const TextProcessor> processor_;
  DatasetIdentity identity_;
  DataPosition start_;
  std::int64_t total_tokens_ = 0;
  BatchCutter cutter_;
  std::unique_ptr<ExampleStream> stream_;
  bool first_pass_ = true;
  bool pass_is_whole_ = true;  // it began at the first byte
  std::int64_t pass_tokens_ = 0;
  std::int64_t pass_broken_ = 0;

  TokenRate rate_;
  BoundedQueue<Prepared> queue_{kBatchesAhead};
  std::exception_ptr error_;  // written before the queue is closed by the thread
  std::thread thread_;
};

JsonDataset::JsonDataset(const DatasetConfig& config, std::shared_ptr<const Tokenizer> tokenizer,
                         DatasetOptions options) {
  check_settings(config.json_dataset, options.option_prefix);
  impl_ = std::make_unique<Impl>(config, std::move(tokenizer), std::move(options));
}

JsonDataset::~JsonDataset() = default;

GlobalBatch JsonDataset::next() {
  return impl_->next();
}

std::unique_ptr<BatchSource> open_dataset(const DatasetConfig& config,
                                          std::shared_ptr<const Tokenizer> tokenizer,
                                          DatasetOptions options) {
  const std::string& prefix = options.option_prefix;
  const bool has_path = !config.json_dataset.path.empty();
  const std::string type = !config.type.empty() ? config.type : has_path ? "json" : "huggingface";
  if (type == "huggingface") {
    throw InvalidArgument(
        fmt::format("{0}.type=huggingface{1} is not read directly. Make a file of JSON lines with\n"
                    "    scripts/prepare_data.py --out data/owt\n"
                    "  and give --{0}.json_dataset.path=data/owt/openwebtext_train.jsonl "
                    "--{0}.text_processor.fields=text",
                    prefix, config.type.empty() ? " (the default without json_dataset.path)" : ""));
  }
  if (type != "json") {
    throw InvalidArgument(
        fmt::format("--{}.type must be json or huggingface, got '{}'", prefix, type));
  }
  return std::make_unique<JsonDataset>(config, std::move(tokenizer), std::move(options));
}

}  // namespace ringtrain
