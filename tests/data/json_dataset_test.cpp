#include "ringtrain/data/json_dataset.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data_fixture.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using nlohmann::json;

std::string line_of(const std::string& text) {
  return json{{"text", text}}.dump() + "\n";
}

class JsonDatasetTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  std::string file() const { return directory_ / "data.jsonl"; }
  DatasetConfig config(std::int64_t batch_size, std::int64_t seq_length) const {
    return dataset_config(file(), batch_size, seq_length, GetParam());
  }
  // Reads until an error; its message.
  std::string error_of(const DatasetConfig& settings) {
    return message_of<IoError>([&] {
      const auto source = open_dataset(settings, sample_tokenizer(), collecting_options(warnings_));
      for (int i = 0; i < 1000; ++i) source->next();
    });
  }

  TemporaryDirectory directory_;
  std::vector<std::string> warnings_;
};

// BOS stands at the start of every document and nowhere else, which gives the starts a second way.
TEST_P(JsonDatasetTest, DocumentStartsFollowTheExamples) {
  auto settings = dataset_config(kSampleFile, 2, 50, GetParam());
  const auto source = open_dataset(settings, sample_tokenizer(), quiet_options());
  std::size_t starts = 0;
  for (int i = 0; i < 100; ++i) {
    const GlobalBatch batch = source->next();
    ASSERT_EQ(batch.document_starts.size(), 100u);
    std::int32_t expected = 0;
    for (std::size_t at = 0; at < 100; ++at) {
      if (at % 50 == 0) expected = 0;
      if (batch.inputs[at] == 1) expected = static_cast<std::int32_t>(at % 50), ++starts;
      ASSERT_EQ(batch.document_starts[at], expected) << "batch " << i << " token " << at;
    }
  }
  EXPECT_GT(starts, 60u);
}

TEST_P(JsonDatasetTest, RowsMayAlwaysStartWithBos) {
  auto settings = dataset_config(kSampleFile, 3, 20, GetParam());
  const auto plain = open_dataset(settings, sample_tokenizer(), quiet_options())->next();
  settings.json_dataset.always_start_with_bos = true;
  const auto batch = open_dataset(settings, sample_tokenizer(), quiet_options())->next();
  for (std::size_t row = 0; row < 3; ++row) EXPECT_EQ(batch.inputs[row * 20], 1);
  EXPECT_EQ(batch.targets, plain.targets);
  EXPECT_EQ(batch.loss_masks, plain.loss_masks);
  EXPECT_EQ(batch.document_starts, plain.document_starts);
}

TEST_P(JsonDatasetTest, StartsWhereItIsTold) {
  write_file(file(), line_of("First Citizen speaks before the others do") + line_of("All: Speak"));
  auto settings = config(1, 4);
  settings.json_dataset.start_seek_loc =
      static_cast<std::int64_t>(line_of("First Citizen speaks before the others do").size());
  settings.json_dataset.example_index_at_start = 41;
  settings.json_dataset.tokens_count_at_start = 1000;
  const auto batch = open_dataset(settings, sample_tokenizer(), quiet_options())->next();
  const auto expected = sample_tokenizer()->encode("All: Speak");
  EXPECT_EQ(batch.inputs[0], 1);
  EXPECT_EQ(batch.inputs[1], expected[0]);
  const json metrics = json::parse(batch.metrics);
  EXPECT_EQ(metrics["dataset_total_tokens"], 1004);
  settings.json_dataset.start_seek_loc = 1 << 20;
  EXPECT_THROW(open_dataset(settings, sample_tokenizer(), quiet_options()), InvalidArgument);
}

TEST_P(JsonDatasetTest, LastLineNeedsNoNewlineAndCarriageReturnsAreSpace) {
  write_file(file(), "{\"text\": \"Speak, speak\"}\r\n\r\n{\"text\": \"Resolved\"}");
  const auto source = open_dataset(config(1, 3), sample_tokenizer(), collecting_options(warnings_));
  std::vector<std::int32_t> expected;
  for (const std::string text : {"Speak, speak", "Resolved"}) {
    expected.push_back(1);
    const auto ids = sample_tokenizer()->encode(text);
    expected.insert(expected.end(), ids.begin(), ids.end());
    expected.push_back(2);
  }
  for (std::size_t at = 0; at < 90; at += 3) {
    const GlobalBatch batch = source->next();
    for (std::size_t i = 0; i < 3; ++i) {
      ASSERT_EQ(batch.inputs[i], expected[(at + i) % expected.size()]) << at + i;
    }
  }
  EXPECT_TRUE(warnings_.empty());
}

TEST_P(JsonDatasetTest, ReportsBrokenLinesOnceAndFew) {
  std::string text = line_of("First Citizen");
  for (int i = 0; i < 9; ++i) text += "{\"text\": \"broken\n\n";
  text += "[1, 2]\n" + line_of("All");
  write_file(file(), text);
  {
    const auto source =
        open_dataset(config(1, 4), sample_tokenizer(), collecting_options(warnings_));
    for (int i = 0; i < 30; ++i) source->next();
  }
  ASSERT_EQ(warnings_.size(), 7u);
  EXPECT_NE(warnings_[0].find("line 2 of " + file()), std::string::npos) << warnings_[0];
  EXPECT_NE(warnings_[1].find("line 4 of"), std::string::npos) << warnings_[1];
  EXPECT_NE(warnings_[5].find("further"), std::string::npos) << warnings_[5];
  EXPECT_NE(warnings_[6].find("10 lines"), std::string::npos) << warnings_[6];
}

TEST_P(JsonDatasetTest, NamesTheFileItCannotRead) {
  EXPECT_NE(error_of(config(1, 4)).find(file()), std::string::npos);
  write_file(file(), "");
  EXPECT_NE(error_of(config(1, 4)).find("is empty"), std::string::npos);
  auto settings = config(1, 4);
  settings.json_dataset.path = directory_.path().string();
  EXPECT_NE(error_of(settings).find("not a regular file"), std::string::npos);
}

TEST_P(JsonDatasetTest, RefusesFilesThatNeverFillABatch) {
  for (const std::string text : {"\n\n\n", "{broken\n", "[]\n"}) {
    write_file(file(), text);
    EXPECT_NE(error_of(config(1, 4)).find("gives 0 tokens"), std::string::npos) << text;
  }
  // BOS, two pieces or more, EOS: as many tokens as it says.
  const auto tokens = static_cast<std::int64_t>(sample_tokenizer()->encode("Speak").size()) + 2;
  write_file(file(), line_of("Speak"));
  EXPECT_EQ(error_of(config(1, tokens - 1)), "");
  const std::string error = error_of(config(1, tokens));
  EXPECT_NE(error.find(std::to_string(tokens) + " tokens"), std::string::npos) << error;
  EXPECT_NE(error.find("batch_size 1"), std::string::npos) << error;
}

TEST_P(JsonDatasetTest, NamesTheLineWithoutTheField) {
  write_file(file(), line_of("First Citizen: Before we proceed") + "{\"txet\": \"x\"}\n");
  auto settings = config(1, 4);
  {
    const auto source = open_dataset(settings, sample_tokenizer(), quiet_options());
    EXPECT_NO_THROW(source->next());  // the line before it was good
    std::string first;
    for (int i = 0; i < 20 && first.empty(); ++i) {
      first = message_of<IoError>([&] { source->next(); });
    }
    EXPECT_NE(first.find("line 2 "), std::string::npos) << first;
    EXPECT_EQ(message_of<IoError>([&] { source->next(); }), first) << "the same again";
  }
}

TEST_P(JsonDatasetTest, RefusesSettingsOutOfRange) {
  write_file(file(), line_of("Speak"));
  for (const auto field :
       {&JsonDatasetConfig::seq_length, &JsonDatasetConfig::batch_size,
        &JsonDatasetConfig::tokenizer_processes, &JsonDatasetConfig::tokenizer_parallel_chunk_size,
        &JsonDatasetConfig::tokenizer_parallel_batch_size,
        &JsonDatasetConfig::throughput_average_window_size}) {
    auto settings = config(1, 4);
    settings.json_dataset.*field = 0;
    EXPECT_THROW(open_dataset(settings, sample_tokenizer(), quiet_options()), InvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, JsonDatasetTest, ::testing::Values(1, 3),
                         [](const auto& tested) { return std::to_string(tested.param); });

TEST(OpenDataset, RefusesHuggingfaceWithTheWayOut) {
  DatasetConfig config;
  config.text_processor.fields = "text";
  const auto message = [&] {
    return message_of<InvalidArgument>(
        [&] { open_dataset(config, sample_tokenizer(), quiet_options()); });
  };
  EXPECT_NE(message().find("scripts/prepare_data.py"), std::string::npos);
  config.type = "huggingface";
  config.json_dataset.path = kSampleFile;
  EXPECT_NE(message().find("scripts/prepare_data.py"), std::string::npos);
  config.type = "csv";
  EXPECT_NE(message().find("'csv'"), std::string::npos);
  config.type = "";
  EXPECT_NO_THROW(open_dataset(config, sample_tokenizer(), quiet_options()));
}

}  // namespace
}  // namespace ringtrain
