#include "ringtrain/cli/tokenize.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "ringtrain/cli/argument_parser.h"
#include "ringtrain/core/error.h"
#include "ringtrain/data/token_count.h"
#include "ringtrain/data/tokenizer.h"
#include "ringtrain/train/console.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

struct Request {
  TokenizerConfig tokenizer;
  TextProcessorConfig text_processor;
  std::optional<std::string> text;
  std::optional<std::string> ids;
  std::optional<std::string> input;
  std::int64_t threads = 1;
};

std::int64_t parse_integer(const std::string& option, const std::string& text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) {
    throw InvalidArgument(fmt::format("--{} takes integers, got \"{}\"", option, text));
  }
  return value;
}

// "306, 4658,1" or "306 4658 1".
std::vector<std::int32_t> parse_ids(const std::string& text) {
  std::vector<std::int32_t> ids;
  const std::string separators = ", \t[]";
  for (std::size_t begin = 0; (begin = text.find_first_not_of(separators, begin)) != text.npos;) {
    const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
    const std::int64_t id = parse_integer("ids", text.substr(begin, end - begin));
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) {
      throw InvalidArgument(fmt::format("--ids: {} is no token id", id));
    }
    ids.push_back(static_cast<std::int32_t>(id));
    begin = end;
  }
  return ids;
}

void add_options(ArgumentParser& parser, Request& request) {
  const auto text = [](std::string& field) {
    return [&field](const std::string& value) { field = value; };
  };
  const auto optional = [](std::optional<std::string>& field) {
    return [&field](const std::string& value) { field = value; };
  };
  const auto flag = [](bool& field) { return [&field](bool value) { field = value; }; };

  const std::string what = "What to tokenize (one of)";
  parser.add_option("text", "show its ids and pieces, and decode them", {what, "TEXT", ""},
                    optional(request.text));
  parser.add_option("ids", "decode these, such as 306,4658", {what, "INT,...", ""},
                    optional(request.ids));
  parser.add_option("input",
                    "count the tokens of a file: JSON lines, or .txt with documents "
                    "separated by blank lines",
                    {what, "FILE", ""}, optional(request.input));
  const std::string tokenizer = "Tokenizer";
  parser.add_option("tokenizer.vocab_file", "SentencePiece model", {tokenizer, "FILE", ""},
                    text(request.tokenizer.vocab_file));
  parser.add_flag("tokenizer.add_bos_token", "BOS before every text", {tokenizer, "BOOL", "False"},
                  flag(request.tokenizer.add_bos_token));
  parser.add_flag("tokenizer.add_eos_token", "EOS behind every text", {tokenizer, "BOOL", "False"},
                  flag(request.tokenizer.add_eos_token));
  const std::string count = "Counting a file, as train_dataset.* of ringtrain train";
  TextProcessorConfig& fields = request.text_processor;
  fields.fields = "text";
  parser.add_option("text_processor.fields", "fields of an example", {count, "TEXT", "text"},
                    text(fields.fields));
  parser.add_option("text_processor.fields_from_example", "the field that lists them",
                    {count, "TEXT", ""}, text(fields.fields_from_example));
  parser.add_option("text_processor.subfield_separator", "between fields joined by +",
                    {count, "TEXT", "' '"}, text(fields.subfield_separator));
  parser.add_flag("text_processor.add_bos_token", "BOS before an example", {count, "BOOL", "True"},
                  flag(fields.add_bos_token));
  parser.add_flag("text_processor.add_eos_token", "EOS behind it", {count, "BOOL", "True"},
                  flag(fields.add_eos_token));
  parser.add_option("text_processor.prepend_text", "before the first field", {count, "TEXT", ""},
                    text(fields.prepend_text));
  parser.add_option(
      "tokenizer_processes", "threads", {count, "INT", "1"}, [&request](const std::string& value) {
        request.threads = parse_integer("tokenizer_processes", value);
        if (request.threads >= 1) return;
        throw InvalidArgument(
            fmt::format("--tokenizer_processes must be at least 1, got {}", request.threads));
      });
}

void show_text(const Tokenizer& tokenizer, const std::string& text, std::FILE* out) {
  const std::vector<std::int32_t> ids = tokenizer.encode_with_special_tokens(text);
  fmt::print(out, "ids    ");
  for (const std::int32_t id : ids) fmt::print(out, " {}", id);
  fmt::print(out, "\npieces ");
  for (const std::int32_t id : ids) fmt::print(out, " {}", tokenizer.piece(id));
  fmt::print(out, "\ntext    {}\ntokens  {}\n", tokenizer.decode(ids), ids.size());
}

// 12345678 as "12,345,678".
std::string grouped(std::int64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

// How far a file is, on one line of a terminal that is written again and again.
class CountProgress {
 public:
  CountProgress(std::FILE* file, bool is_terminal) : file_(file), is_terminal_(is_terminal) {}

  double seconds() const {
    return std::max(1e-9, std::chrono::duration<double>(Clock::now() - started_).count());
  }
  std::string rate(const TokenCount& count) const {
    const double tokens_per_s = static_cast<double>(count.tokens) / seconds();
    return grouped(static_cast<std::int64_t>(tokens_per_s)) + " tokens/s";
  }
  void show(const TokenCount& count) {
    if (!is_terminal_ || Clock::now() - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = Clock::now();
    const double share =
        static_cast<double>(count.bytes_read) / static_cast<double>(count.file_bytes);
    const auto filled = static_cast<std::size_t>(share * kCells);
    fmt::print(file_, "\r\033[K[{}{}] {:.0f}%  {} tokens  {}  ETA {}", std::string(filled, '#'),
               std::string(kCells - filled, '.'), share * 100, grouped(count.tokens), rate(count),
               format_duration(seconds() * (1 - share) / std::max(share, 1e-9)));
    std::fflush(file_);
  }
  void warn(const std::string& text) {
    clear();
    fmt::print(file_, "ringtrain: warning: {}\n", text);
  }
  void clear() {
    if (is_terminal_) fmt::print(file_, "\r\033[K");
    std::fflush(file_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kCells = 30;

  std::FILE* file_;
  bool is_terminal_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point shown_;
};

void show_count(const Request& request, std::shared_ptr<const Tokenizer> tokenizer, std::FILE* out,
                CountProgress progress) {
  auto processor = std::make_shared<TextProcessor>(request.text_processor, std::move(tokenizer),
                                                   /*option_prefix=*/"");
  const TokenCount count =
      count_tokens(*request.input, std::move(processor), {.count = request.threads},
                   {.progress = [&](const TokenCount& so_far) { progress.show(so_far); },
                    .warn = [&](const std::string& text) { progress.warn(text); }});
  progress.clear();
  fmt::print(out, "{}\n", *request.input);
  fmt::print(out, "  examples      {}\n", grouped(count.examples));
  if (count.broken_lines > 0) {
    fmt::print(out, "  broken lines  {}\n", grouped(count.broken_lines));
  }
  fmt::print(out, "  tokens        {} ({} with loss)\n", grouped(count.tokens),
             grouped(count.loss_tokens));
  fmt::print(out, "  bytes         {} ({:.2f} a token)\n", grouped(count.file_bytes),
             static_cast<double>(count.file_bytes) /
                 static_cast<double>(std::max<std::int64_t>(1, count.tokens)));
  fmt::print(out, "  time          {:.2f} s, {}\n", progress.seconds(), progress.rate(count));
}

}  // namespace

int tokenize(const std::vector<std::string>& arguments, std::FILE* out, std::FILE* err,
             bool err_is_terminal) {
  Request request;
  ArgumentParser parser("ringtrain tokenize",
                        "Shows how a text becomes tokens and back, or counts those of a file.");
  add_options(parser, request);
  if (!parser.parse(arguments)) {
    fmt::print(out, "{}", parser.help());
    return 0;
  }
  const int wanted = request.text.has_value() + request.ids.has_value() + request.input.has_value();
  if (wanted != 1) {
    throw InvalidArgument(
        fmt::format("give one of --text=..., --ids=... and --input=FILE, got {}", wanted));
  }
  const auto tokenizer = std::make_shared<const Tokenizer>(request.tokenizer);
  if (request.text) show_text(*tokenizer, *request.text, out);
  if (request.ids) fmt::print(out, "{}\n", tokenizer->decode(parse_ids(*request.ids)));
  if (request.input) show_count(request, tokenizer, out, CountProgress(err, err_is_terminal));
  return 0;
}

int tokenize_command(const Invocation& invocation) {
  return tokenize(invocation.arguments, stdout, stderr, isatty(STDERR_FILENO) != 0);
}

}  // namespace ringtrain
