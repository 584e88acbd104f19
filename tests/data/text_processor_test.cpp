#include "ringtrain/data/text_processor.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data_fixture.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;
using Masks = std::vector<float>;

const json kExample = {{"a", "All:"}, {"b", "Speak"}, {"number", 3}, {"list", "<|bos|>,[a],b"}};

// Default settings, changed as the test wants them, applied to kExample.
template <typename Change>
TokenizedText process(Change&& change) {
  TextProcessorConfig config;
  change(config);
  return TextProcessor(config, sample_tokenizer(), "train_dataset")(kExample);
}

Ids encode(const std::string& text) {
  return sample_tokenizer()->encode(text);
}

Ids operator+(Ids left, const Ids& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Masks masks(std::size_t count, float value) {
  return Masks(count, value);
}

Masks operator+(Masks left, const Masks& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

TEST(TextProcessor, AddsBosWithoutAndEosWithLoss) {
  const TokenizedText text = process([](auto& c) { c.fields = "a"; });
  const Ids a = encode("All:");
  EXPECT_EQ(text.tokens, Ids{1} + a + Ids{2});
  EXPECT_EQ(text.masks, masks(1, 0) + masks(a.size(), 1) + masks(1, 1));
}

TEST(TextProcessor, JoinsSubfieldsAndTakesLossFromBracketedOnes) {
  const TokenizedText text = process([](auto& c) {
    c.fields = "[a+b],b";
    c.subfield_separator = " | ";
    c.add_bos_token = false;
    c.add_eos_token = false;
    c.prepend_text = "Q: ";
  });
  const Ids first = encode("Q: All: | Speak");
  const Ids second = encode("Speak");
  EXPECT_EQ(text.tokens, first + second);
  EXPECT_EQ(text.masks, masks(first.size(), 0) + masks(second.size(), 1));
}

TEST(TextProcessor, TokensInFieldsFollowTheBrackets) {
  const TokenizedText text = process([](auto& c) {
    c.fields = "<|bos|>,[<|eos|>],<|eos|>,a";
    c.add_bos_token = false;
    c.add_eos_token = false;
  });
  EXPECT_EQ(text.tokens, (Ids{1, 2, 2} + encode("All:")));
  EXPECT_EQ(text.masks, (Masks{1, 0, 1} + masks(encode("All:").size(), 1)));
}

TEST(TextProcessor, TextIsPrependedToTheFirstEntryOnly) {
  EXPECT_EQ(process([](auto& c) {
              c.fields = "a,b";
              c.add_bos_token = false;
              c.prepend_text = "Q: ";
            }).tokens,
            encode("Q: All:") + encode("Speak") + Ids{2});
  EXPECT_EQ(process([](auto& c) {
              c.fields = "<|bos|>,a";
              c.add_bos_token = false;
              c.prepend_text = "Q: ";
            }).tokens,
            Ids{1} + encode("All:") + Ids{2});
}

TEST(TextProcessor, FieldsOfTheExampleWin) {
  const TokenizedText text = process([](auto& c) {
    c.fields_from_example = "list";
    c.fields = "b";
    c.add_bos_token = false;
  });
  EXPECT_EQ(text.tokens, Ids{1} + encode("All:") + encode("Speak") + Ids{2});
  EXPECT_EQ(text.masks[1], 0);
}

TEST(TextProcessor, TokenizersSpecialTokensSurroundEachText) {
  const auto tokenizer = std::make_shared<const Tokenizer>(
      TokenizerConfig{.vocab_file = kTokenizerFile, .add_bos_token = true});
  TextProcessorConfig config;
  config.fields = "a,[b]";
  const TextProcessor processor(config, tokenizer, "train_dataset");
  const TokenizedText text = processor(kExample);
  EXPECT_EQ(text.tokens, Ids{1} + Ids{1} + encode("All:") + Ids{1} + encode("Speak") + Ids{2});
  EXPECT_EQ(text.masks, masks(1, 0) + masks(1 + encode("All:").size(), 1) +
                            masks(1 + encode("Speak").size(), 0) + masks(1, 1));
}

TEST(TextProcessor, NamesTheMissingFieldAndThoseThatAreThere) {
  const std::string missing =
      message_of<IoError>([] { process([](auto& c) { c.fields = "a,txet"; }); });
  EXPECT_NE(missing.find("'txet'"), std::string::npos) << missing;
  EXPECT_NE(missing.find("a, b, list, number"), std::string::npos) << missing;
  EXPECT_NE(missing.find("--train_dataset.text_processor.fields"), std::string::npos) << missing;
  const std::string number =
      message_of<IoError>([] { process([](auto& c) { c.fields = "number"; }); });
  EXPECT_NE(number.find("expected a string"), std::string::npos) << number;
  EXPECT_THROW(process([](auto& c) { c.fields_from_example = "absent"; }), IoError);
  EXPECT_THROW(process([](auto&) {}), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain
