#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ringtrain/config/train_config.h"
#include "ringtrain/data/tokenizer.h"

namespace ringtrain {

/// One example as tokens; the mask of a token is 1 where predicting it counts in the loss.
struct TokenizedText {
  std::vector<std::int32_t> tokens;
  std::vector<float> masks;
};

/// Turns the fields of an example into tokens, as the original does.
///
/// `fields` is a comma-separated list, or stands in the example under `fields_from_example`, which
/// wins if both are set. An entry is
///   name       the text of this field
///   a+b        the texts of a and b, joined by subfield_separator and encoded as one
///   [entry]    the same without loss
///   <|bos|>    the BOS token; <|eos|> the EOS token
/// prepend_text goes in front of the text of the first entry, and nowhere if that is a token.
/// add_bos_token puts BOS before everything with mask 0, add_eos_token EOS behind with mask 1.
class TextProcessor {
 public:
  /// `option_prefix` ("train_dataset", or empty) names the options in messages. Errors:
  /// InvalidArgument if neither fields nor fields_from_example is set, or a token that the
  /// tokenizer lacks is needed.
  TextProcessor(TextProcessorConfig config, std::shared_ptr<const Tokenizer> tokenizer,
                const std::string& option_prefix);

  /// Errors: IoError for an example without a wanted field, or where it is not a text.
  /// Callable from many threads at once.
  TokenizedText operator()(const nlohmann::json& example) const;

  const TextProcessorConfig& config() const { return config_; }

 private:
  struct Entry {
    enum class Kind { kText, kBos, kEos } kind;
    std::vector<std::string> subfields;
    float mask;
  };

  std::vector<Entry> parse(const std::string& fields) const;
  const std::string& text_of(const nlohmann::json& example, const std::string& field,
                             const char* option) const;
  void check_special_token(std::int32_t id, const char* name, const char* wanted_by) const;

  TextProcessorConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string option_prefix_;
  std::vector<Entry> entries_;  // of `fields`
};

}  // namespace ringtrain
