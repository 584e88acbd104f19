#include "ringtrain/data/tokenizer.h"

#include <gtest/gtest.h>

#include "data_fixture.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

TEST(Tokenizer, DecodesWhatItEncodes) {
  const Tokenizer& tokenizer = *sample_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 800);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  for (const std::string text : {"Before we proceed any further, hear me speak.", "  two  spaces",
                                 "naïve — “x” 🙂", ""}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(Tokenizer, TakesControlTokensInTextAsCharacters) {
  const Tokenizer& tokenizer = *sample_tokenizer();
  for (const std::int32_t id : tokenizer.encode("a</s><s>b")) EXPECT_GT(id, 2);
  EXPECT_EQ(tokenizer.piece(2), "</s>");
}

TEST(Tokenizer, AddsSpecialTokensOnlyWhereAsked) {
  const Tokenizer with(
      {.vocab_file = kTokenizerFile, .add_bos_token = true, .add_eos_token = true});
  const auto plain = with.encode("All:");
  std::vector<std::int32_t> expected{1};
  expected.insert(expected.end(), plain.begin(), plain.end());
  expected.push_back(2);
  EXPECT_EQ(with.encode_with_special_tokens("All:"), expected);
  EXPECT_EQ(sample_tokenizer()->encode_with_special_tokens("All:"), plain);
  EXPECT_NE(with.fingerprint(), sample_tokenizer()->fingerprint());
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  for (const std::int32_t id : {-1, 800}) {
    EXPECT_THROW(sample_tokenizer()->decode(std::vector<std::int32_t>{5, id}), InvalidArgument);
    EXPECT_THROW(sample_tokenizer()->piece(id), InvalidArgument);
  }
}

TEST(Tokenizer, NamesTheFileThatCannotBeUsed) {
  TemporaryDirectory directory;
  const std::string file = directory / "tokenizer.model";
  const auto message = [&] {
    return message_of<IoError>([&] { Tokenizer({.vocab_file = file}); });
  };
  EXPECT_NE(message().find(file), std::string::npos) << "missing";
  write_file(file, "");
  EXPECT_NE(message().find("is empty"), std::string::npos);
  write_file(file, read_text(kSampleFile));
  EXPECT_NE(message().find(file), std::string::npos) << "not a model";
  EXPECT_FALSE(
      message_of<IoError>([&] { Tokenizer({.vocab_file = directory.path().string()}); }).empty());
  EXPECT_THROW(Tokenizer({}), InvalidArgument);
}

// Cut anywhere, also between two pieces, where the file is still a legal protobuf message.
TEST(Tokenizer, RefusesEveryTruncation) {
  TemporaryDirectory directory;
  const std::string file = directory / "tokenizer.model";
  const std::string whole = read_text(kTokenizerFile);
  for (std::size_t length = 1; length < whole.size(); length += length < 400 ? 1 : 37) {
    write_file(file, whole.substr(0, length));
    EXPECT_NE(message_of<IoError>([&] { Tokenizer({.vocab_file = file}); }).find(file),
              std::string::npos)
        << length;
  }
}

TEST(Tokenizer, MustFitTheModelsVocabulary) {
  EXPECT_NO_THROW(check_vocabulary(*sample_tokenizer(), 800));
  const std::string message =
      message_of<InvalidArgument>([] { check_vocabulary(*sample_tokenizer(), 799); });
  EXPECT_NE(message.find("799"), std::string::npos);
  EXPECT_NE(message.find("800"), std::string::npos);
}

}  // namespace
}  // namespace ringtrain
