#include "ringtrain/data/token_count.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr std::int64_t kMaxReports = 5;  // of broken lines

void add_text(TokenCount& count, const TokenizedText& text) {
  ++count.examples;
  count.tokens += static_cast<std::int64_t>(text.tokens.size());
  for (const float mask : text.masks) count.loss_tokens += mask > 0 ? 1 : 0;
}

void count_json_lines(TokenCount& count, JsonLineReader reader,
                      std::shared_ptr<const TextProcessor> processor, TokenizerThreads threads,
                      const CountCallbacks& callbacks) {
  const std::string path = reader.path();
  ExampleStream stream(std::move(reader), std::move(processor), threads);
  for (Example example = stream.next(); !example.line.end_of_file; example = stream.next()) {
    count.bytes_read = example.line.end;
    if (example.problem.empty()) {
      add_text(count, example.text);
    } else if (++count.broken_lines <= kMaxReports && callbacks.warn) {
      callbacks.warn(fmt::format("line {} of {} is not a JSON object and is skipped: {}",
                                 example.line.index + 1, path, example.problem));
    }
    if (callbacks.progress) callbacks.progress(count);
  }
}

// The reader passes blank lines over, but a line's index tells of them.
void count_text(TokenCount& count, JsonLineReader reader, const TextProcessor& processor,
                const CountCallbacks& callbacks) {
  std::string document;
  const auto finish_document = [&] {
    if (document.empty()) return;
    document.pop_back();  // the last newline
    with_context(fmt::format("reading the document of {} that ends before byte {}", reader.path(),
                             count.bytes_read),
                 [&] {
                   add_text(count, processor({{"text", document}}));
                 });
    document.clear();
    if (callbacks.progress) callbacks.progress(count);
  };
  std::int64_t next_index = 0;
  for (JsonLine line = reader.next(); !line.end_of_file; line = reader.next()) {
    if (line.index != next_index) finish_document();
    next_index = line.index + 1;
    count.bytes_read = line.end;
    if (line.text.ends_with('\r')) line.text.pop_back();
    document += line.text + "\n";
  }
  finish_document();
}

}  // namespace

TokenCount count_tokens(const std::string& path, std::shared_ptr<const TextProcessor> processor,
                        TokenizerThreads threads, const CountCallbacks& callbacks) {
  JsonLineReader reader(path, "--input");
  TokenCount count;
  count.file_bytes = reader.file_bytes();
  if (path.ends_with(".txt")) {
    count_text(count, std::move(reader), *processor, callbacks);
  } else {
    count_json_lines(count, std::move(reader), std::move(processor), threads, callbacks);
  }
  return count;
}

}  // namespace ringtrain
