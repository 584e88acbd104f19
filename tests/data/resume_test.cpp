// A dataset resumed from the state of any batch goes on with exactly the batch after it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data_fixture.h"
#include "ringtrain/core/error.h"
#include "ringtrain/data/dataset_state.h"

namespace ringtrain {
namespace {

using nlohmann::json;

void expect_same(const GlobalBatch& actual, const GlobalBatch& expected) {
  ASSERT_EQ(actual.inputs, expected.inputs);
  ASSERT_EQ(actual.targets, expected.targets);
  ASSERT_EQ(actual.loss_masks, expected.loss_masks);
  ASSERT_EQ(actual.document_starts, expected.document_starts);
  ASSERT_EQ(actual.state_after, expected.state_after);
  const json left = json::parse(actual.metrics);
  const json right = json::parse(expected.metrics);
  for (const char* key : {"dataset_file_loc", "dataset_example_index", "dataset_total_tokens"}) {
    ASSERT_EQ(left.at(key), right.at(key)) << key;
  }
}

std::vector<GlobalBatch> read_batches(const DatasetConfig& config, std::size_t count) {
  const auto source = open_dataset(config, sample_tokenizer(), quiet_options());
  std::vector<GlobalBatch> batches;
  while (batches.size() < count) batches.push_back(source->next());
  return batches;
}

struct ResumeCase {
  std::string name;
  std::int64_t batch_size;
  std::int64_t seq_length;
  std::int64_t workers;
  std::string fields;
};

class ResumeTest : public ::testing::TestWithParam<ResumeCase> {};

TEST_P(ResumeTest, EveryBatchIsAPlaceToGoOnFrom) {
  const ResumeCase& c = GetParam();
  DatasetConfig config = dataset_config(kSampleFile, c.batch_size, c.seq_length, c.workers);
  config.text_processor.fields = c.fields;
  constexpr std::int64_t kPasses = 3;
  std::vector<GlobalBatch> batches;
  {
    const auto source = open_dataset(config, sample_tokenizer(), quiet_options());
    std::int64_t wraps = 0;
    for (std::int64_t last = 0; wraps < kPasses || batches.size() < 6;) {
      batches.push_back(source->next());
      const std::int64_t at = json::parse(batches.back().state_after).at("example_offset");
      wraps += at < last ? 1 : 0;
      last = at;
    }
  }
  for (std::size_t i = 0; i + 2 < batches.size(); ++i) {
    SCOPED_TRACE("after batch " + std::to_string(i));
    const auto source =
        open_dataset(config, sample_tokenizer(), quiet_options(batches[i].state_after));
    expect_same(source->next(), batches[i + 1]);
    expect_same(source->next(), batches[i + 2]);
    if (HasFatalFailure()) return;
  }
}

TEST_P(ResumeTest, ThreadsChangeNothing) {
  const ResumeCase& c = GetParam();
  DatasetConfig config = dataset_config(kSampleFile, c.batch_size, c.seq_length, 1);
  config.text_processor.fields = c.fields;
  const auto expected = read_batches(config, 40);
  config.json_dataset.tokenizer_processes = c.workers;
  const auto actual = read_batches(config, 40);
  for (std::size_t i = 0; i < expected.size(); ++i) expect_same(actual[i], expected[i]);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ResumeTest,
    ::testing::Values(ResumeCase{"one_worker", 2, 41, 1, "text"},
                      ResumeCase{"two_workers", 2, 41, 2, "text"},
                      ResumeCase{"four_workers_masked", 3, 50, 4, "[question],answer"},
                      ResumeCase{"batch_nearly_the_file", 2, 290, 2, "question"},
                      ResumeCase{"many_batches_an_example", 1, 11, 2, "text"}),
    [](const auto& tested) { return tested.param.name; });

class ChangedResumeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) text_ += read_text(kSampleFile);
    write_file(file(), text_);
    state_ = read_batches(config_, 3).back().state_after;
  }
  std::string file() const { return directory_ / "data.jsonl"; }
  // What a resume with the present file and settings says.
  std::string refusal() {
    return message_of<InvalidArgument>(
        [&] { open_dataset(config_, tokenizer_, quiet_options(state_))->next(); });
  }
  void expect_refusal(const std::string& what) {
    EXPECT_NE(refusal().find(what), std::string::npos) << "'" << refusal() << "'";
  }

  TemporaryDirectory directory_;
  std::string text_;
  DatasetConfig config_ = dataset_config(file(), 2, 40);
  std::shared_ptr<const Tokenizer> tokenizer_ = sample_tokenizer();
  std::string state_;
};

TEST_F(ChangedResumeTest, GoesOnWithAMovedFileAndOtherThreads) {
  EXPECT_EQ(refusal(), "");
  config_.json_dataset.path = directory_ / "moved.jsonl";
  std::filesystem::rename(file(), directory_ / "moved.jsonl");
  config_.json_dataset.tokenizer_processes = 3;
  config_.json_dataset.start_seek_loc = 17;  // the state wins
  EXPECT_EQ(refusal(), "");
}

TEST_F(ChangedResumeTest, StopsAtAnotherFile) {
  write_file(file(), text_ + "{\"text\": \"more\"}\n");
  expect_refusal("size of the file changed");
  expect_refusal("--train_dataset.json_dataset.path");
  std::string changed = text_;
  changed[changed.find("Speak")] = 's';
  write_file(file(), changed);
  expect_refusal("content of the file changed");
}

// The fingerprint covers both ends; the line being read has one of its own.
TEST_F(ChangedResumeTest, StopsWhereTheLineBeingReadChanged) {
  std::string large;
  for (int i = 0; large.size() < 1300000; ++i) {
    large += "{\"text\": \"line " + std::to_string(i) + std::string(3000, 'x') + "\"}\n";
  }
  write_file(file(), large);
  config_ = dataset_config(file(), 1, 100000);
  std::int64_t offset = 0;
  const auto source = open_dataset(config_, tokenizer_, quiet_options());
  while (offset < (1 << 20) || offset > 1200000) {
    state_ = source->next().state_after;
    offset = json::parse(state_).at("example_offset");
  }
  large[static_cast<std::size_t>(offset) + 12] = 'L';
  write_file(file(), large);
  expect_refusal("is not the one that the saved run was reading");
}

TEST_F(ChangedResumeTest, StopsAtAnotherTokenizerOrSetting) {
  tokenizer_ = std::make_shared<const Tokenizer>(
      TokenizerConfig{.vocab_file = kTokenizerFile, .add_eos_token = true});
  expect_refusal("tokenizer changed");
  expect_refusal("--tokenizer.vocab_file");
  tokenizer_ = sample_tokenizer();

  const auto with = [&](auto change, const std::string& what) {
    const DatasetConfig before = config_;
    change(config_);
    expect_refusal(what + " changed from");
    expect_refusal(what);
    config_ = before;
  };
  with([](auto& c) { c.text_processor.fields = "answer"; }, "fields");
  with([](auto& c) { c.text_processor.fields_from_example = "f"; }, "fields_from_example");
  with([](auto& c) { c.text_processor.subfield_separator = "-"; }, "subfield_separator");
  with([](auto& c) { c.text_processor.add_bos_token = false; }, "add_bos_token");
  with([](auto& c) { c.text_processor.add_eos_token = false; }, "add_eos_token");
  with([](auto& c) { c.text_processor.prepend_text = "Q"; }, "prepend_text");
  with([](auto& c) { c.json_dataset.batch_size = 4; }, "batch_size");
  with([](auto& c) { c.json_dataset.seq_length = 80; }, "seq_length");
  with([](auto& c) { c.json_dataset.always_start_with_bos = true; }, "always_start_with_bos");
}

TEST_F(ChangedResumeTest, StopsAtADamagedState) {
  const json good = json::parse(state_);
  for (const char* key : {"example_offset", "example_index", "token_offset", "total_tokens"}) {
    for (const json& value : {json(-1), json("x"), json(1.5), json(std::uint64_t{1} << 63)}) {
      json bad = good;
      bad[key] = value;
      state_ = bad.dump();
      expect_refusal(key);
    }
  }
  json bad = good;
  bad["token_offset"] = 100000;
  state_ = bad.dump();
  expect_refusal("is not the one");
  bad = good;
  bad["example_hash"] = "12";
  state_ = bad.dump();
  expect_refusal("example_hash");
  state_ = "{\"step\": 3}";
  expect_refusal("not a saved dataset state");
  state_ = "not json";
  expect_refusal("not a saved dataset state");
}

TEST_F(ChangedResumeTest, LoadsAStateFromAFile) {
  const std::string path = directory_ / "dataset.json";
  write_file(path, state_);
  EXPECT_EQ(load_dataset_state(path), state_);
  EXPECT_THROW(load_dataset_state(directory_ / "absent"), IoError);
  EXPECT_THROW(load_dataset_state(directory_.path()), IoError);
  write_file(path, state_.substr(0, 20));
  EXPECT_NE(message_of<InvalidArgument>([&] { load_dataset_state(path); }).find(path),
            std::string::npos);
}

}  // namespace
}  // namespace ringtrain
