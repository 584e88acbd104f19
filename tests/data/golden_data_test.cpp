// Batches and metrics of the original's own trainer (tests/golden/data): every case is a .json with
// the settings and the metrics of each batch, and a .safetensors with the batches.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/data/json_dataset.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path golden_folder() {
  const char* root = std::getenv("RINGTRAIN_GOLDEN_DIR");
  return fs::path(root != nullptr ? root : RT_SOURCE_DIR "/tests/golden") / "data";
}

std::vector<fs::path> find_cases() {
  std::vector<fs::path> cases;
  std::error_code error;  // a missing folder has no cases
  for (const auto& entry : fs::directory_iterator(golden_folder(), error)) {
    if (entry.path().extension() == ".json") cases.push_back(entry.path());
  }
  std::sort(cases.begin(), cases.end());
  return cases;
}

// Takes `key` out of the settings, so that what is left over at the end is unknown to this test.
template <typename Value>
void take(json& settings, const char* key, Value& value) {
  if (!settings.contains(key)) return;
  value = settings[key].get<Value>();
  settings.erase(key);
}

DatasetConfig read_config(const json& recorded) {
  DatasetConfig config;
  json text = recorded.value("text_processor", json::object());
  take(text, "fields", config.text_processor.fields);
  take(text, "fields_from_example", config.text_processor.fields_from_example);
  take(text, "subfield_separator", config.text_processor.subfield_separator);
  take(text, "add_bos_token", config.text_processor.add_bos_token);
  take(text, "add_eos_token", config.text_processor.add_eos_token);
  take(text, "prepend_text", config.text_processor.prepend_text);
  EXPECT_TRUE(text.empty()) << "settings this test does not know: " << text;

  json dataset = recorded.value("json_dataset", json::object());
  JsonDatasetConfig& out = config.json_dataset;
  std::string path = "sample.jsonl";
  take(dataset, "path", path);
  out.path = (golden_folder() / path).string();
  take(dataset, "seq_length", out.seq_length);
  take(dataset, "batch_size", out.batch_size);
  take(dataset, "always_start_with_bos", out.always_start_with_bos);
  take(dataset, "start_seek_loc", out.start_seek_loc);
  take(dataset, "example_index_at_start", out.example_index_at_start);
  take(dataset, "tokens_count_at_start", out.tokens_count_at_start);
  take(dataset, "tokenizer_processes", out.tokenizer_processes);
  take(dataset, "tokenizer_parallel_chunk_size", out.tokenizer_parallel_chunk_size);
  take(dataset, "tokenizer_parallel_batch_size", out.tokenizer_parallel_batch_size);
  take(dataset, "throughput_average_window_size", out.throughput_average_window_size);
  EXPECT_TRUE(dataset.empty()) << "settings this test does not know: " << dataset;
  return config;
}

// "tokenizer" of a case is a file beside it, or an object of the tokenizer's settings.
TokenizerConfig read_tokenizer_config(const json& recorded) {
  TokenizerConfig config;
  json settings = recorded.value("tokenizer", json("tokenizer.model"));
  if (settings.is_string()) settings = json{{"vocab_file", settings}};
  take(settings, "vocab_file", config.vocab_file);
  take(settings, "add_bos_token", config.add_bos_token);
  take(settings, "add_eos_token", config.add_eos_token);
  EXPECT_TRUE(settings.empty()) << "settings this test does not know: " << settings;
  config.vocab_file = (golden_folder() / config.vocab_file).string();
  return config;
}

template <typename Value>
std::vector<std::int64_t> widen(const std::vector<Value>& values) {
  return {values.begin(), values.end()};
}

void check_case(const fs::path& file) {
  const json recorded = json::parse(std::ifstream(file));
  const SafetensorsReader expected(fs::path(file).replace_extension(".safetensors"));
  const auto tokenizer = std::make_shared<Tokenizer>(read_tokenizer_config(recorded));
  DatasetOptions options;
  options.warn = [](const std::string&) {};
  const auto source = open_dataset(read_config(recorded), tokenizer, std::move(options));

  ASSERT_FALSE(recorded.at("metrics").empty());
  for (std::size_t i = 0; i < recorded.at("metrics").size(); ++i) {
    SCOPED_TRACE("batch " + std::to_string(i));
    const GlobalBatch batch = source->next();
    const std::string name = "batch" + std::to_string(i) + ".";
    ASSERT_EQ(widen(batch.inputs), expected.ints(name + "input_tokens"));
    ASSERT_EQ(widen(batch.targets), expected.ints(name + "target_tokens"));
    ASSERT_EQ(batch.loss_masks, expected.floats(name + "loss_masks"));
    const json metrics = json::parse(batch.metrics);
    for (const auto& [key, value] : recorded["metrics"][i].items()) {
      ASSERT_EQ(metrics.value(key, json()), value) << key;
    }
    ASSERT_GT(metrics.at("dataset_accumulated_tps").get<double>(), 0);
    ASSERT_GT(metrics.at("dataset_average_tps").get<double>(), 0);
  }
}

TEST(GoldenData, EveryCaseIsTheOriginals) {
  const std::vector<fs::path> cases = find_cases();
  ASSERT_FALSE(cases.empty()) << "no cases in " << golden_folder();
  for (const fs::path& file : cases) {
    std::printf("GoldenData %s\n", file.stem().c_str());
    SCOPED_TRACE(file.stem().string());
    check_case(file);
  }
}

}  // namespace
}  // namespace ringtrain
