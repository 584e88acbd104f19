#include "ringtrain/data/dataset_state.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using nlohmann::json;

constexpr std::int64_t kFormat = 1;

// One fact of the identity; `option` is the flag that changes it, without the dataset's prefix.
struct Fact {
  const char* key;
  const char* what;
  const char* option;
  json value;
};

std::vector<Fact> facts_of(const DatasetIdentity& identity) {
  const TextProcessorConfig& text = identity.text_processor;
  return {
      {"file_bytes", "size of the file", ".json_dataset.path", identity.file_bytes},
      {"file_fingerprint", "content of the file", ".json_dataset.path", identity.file_fingerprint},
      {"tokenizer", "tokenizer", "tokenizer.vocab_file", identity.tokenizer_fingerprint},
      {"fields", "fields", ".text_processor.fields", text.fields},
      {"fields_from_example", "fields_from_example", ".text_processor.fields_from_example",
       text.fields_from_example},
      {"subfield_separator", "subfield_separator", ".text_processor.subfield_separator",
       text.subfield_separator},
      {"add_bos_token", "add_bos_token", ".text_processor.add_bos_token", text.add_bos_token},
      {"add_eos_token", "add_eos_token", ".text_processor.add_eos_token", text.add_eos_token},
      {"prepend_text", "prepend_text", ".text_processor.prepend_text", text.prepend_text},
      {"batch_size", "batch_size", ".json_dataset.batch_size", identity.batch_size},
      {"seq_length", "seq_length", ".json_dataset.seq_length", identity.seq_length},
      {"always_start_with_bos", "always_start_with_bos", ".json_dataset.always_start_with_bos",
       identity.always_start_with_bos},
  };
}

std::string option_name(const Fact& fact, const std::string& prefix) {
  return (fact.option[0] == '.' ? "--" + prefix : std::string("--")) + fact.option;
}

// Text from flags may hold any bytes; JSON holds UTF-8 alone.
std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json parse_state(const std::string& text) {
  json state = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object() || !state.contains("dataset_state_format")) {
    throw InvalidArgument(
        "this is not a saved dataset state: expected a JSON object with "
        "dataset_state_format, as a run saves beside its checkpoints");
  }
  if (state["dataset_state_format"] != kFormat) {
    throw InvalidArgument(fmt::format("the dataset state has format {}, this program reads {}",
                                      to_text(state["dataset_state_format"]), kFormat));
  }
  return state;
}

std::int64_t read_count(const json& state, const char* key, std::int64_t below) {
  const auto found = state.find(key);
  if (found != state.end() && found->is_number_integer()) {
    const auto value = found->get<std::int64_t>();
    if (value >= 0 && value < below) return value;
  }
  throw InvalidArgument(
      fmt::format("the dataset state is damaged: {} is {}, expected an integer "
                  "from 0 to {}",
                  key, found == state.end() ? "missing" : to_text(*found), below - 1));
}

std::uint64_t read_hash(const json& state) {
  const std::string digits = state.value("example_hash", json()).is_string()
                                 ? state["example_hash"].get<std::string>()
                                 : std::string();
  std::uint64_t hash = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), hash, 16);
  if (digits.size() != 16 || result.ptr != digits.data() + digits.size()) {
    throw InvalidArgument(
        "the dataset state is damaged: example_hash is not 16 hexadecimal digits");
  }
  return hash;
}

}  // namespace

std::string write_dataset_state(const DatasetIdentity& identity, const DatasetProgress& progress) {
  json state = {
      {"dataset_state_format", kFormat},
      {"example_offset", progress.next_token.example_offset},
      {"example_index", progress.next_token.example_index},
      {"example_hash", fmt::format("{:016x}", progress.next_token.example_hash)},
      {"token_offset", progress.next_token.token_offset},
      {"total_tokens", progress.total_tokens},
  };
  for (const Fact& fact : facts_of(identity)) state[fact.key] = fact.value;
  return to_text(state);
}

DatasetProgress read_dataset_state(const std::string& text, const DatasetIdentity& identity,
                                   const std::string& option_prefix) {
  const json state = parse_state(text);
  for (const Fact& fact : facts_of(identity)) {
    const std::string saved = to_text(state.value(fact.key, json()));
    const std::string now = to_text(fact.value);
    if (saved == now) continue;
    throw InvalidArgument(fmt::format(
        "the data cannot be resumed: the {} changed from {} to {} ({}); give what the saved run "
        "had, or start the data anew without its state",
        fact.what, saved, now, option_name(fact, option_prefix)));
  }
  constexpr std::int64_t kMax = std::int64_t{1} << 62;
  DatasetProgress progress;
  progress.next_token.example_offset = read_count(state, "example_offset", identity.file_bytes);
  progress.next_token.example_index = read_count(state, "example_index", kMax);
  progress.next_token.example_hash = read_hash(state);
  progress.next_token.token_offset = read_count(state, "token_offset", kMax);
  progress.total_tokens = read_count(state, "total_tokens", kMax);
  return progress;
}

std::string load_dataset_state(const std::string& path) {
  if (std::filesystem::is_directory(path)) {
    throw IoError(fmt::format("{}: is a directory, not a file (--load_dataset_state)", path));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw IoError(
        fmt::format("{}: cannot be opened: {} (--load_dataset_state)", path, std::strerror(errno)));
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw IoError(fmt::format("{}: cannot be read (--load_dataset_state)", path));
  with_context(fmt::format("reading {} (--load_dataset_state)", path), [&] { parse_state(text); });
  return text;
}

}  // namespace ringtrain
