#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ringtrain/config/train_config.h"

namespace ringtrain {

/// A SentencePiece model (https://github.com/google/sentencepiece): text to token ids and back.
/// Immutable after loading; every method may be called from many threads at once.
class Tokenizer {
 public:
  /// Errors: InvalidArgument if no vocab_file is given; IoError naming the file if it is missing,
  /// empty, truncated or no SentencePiece model.
  explicit Tokenizer(const TokenizerConfig& config);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// The text as it is: nothing is added, and "<s>" or "</s>" inside it are ordinary characters.
  std::vector<std::int32_t> encode(std::string_view text) const;
  /// What the original's tokenizer returns for a field: `encode`, with BOS in front if
  /// tokenizer.add_bos_token and EOS behind if tokenizer.add_eos_token is set.
  std::vector<std::int32_t> encode_with_special_tokens(std::string_view text) const;
  /// Control tokens decode to nothing. Errors: InvalidArgument for an id outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const;
  /// The vocabulary's entry, with U+2581 for a space. Errors: as `decode`.
  std::string piece(std::int32_t id) const;

  std::int64_t vocab_size() const;
  /// -1 where the model has none.
  std::int32_t bos_id() const;
  std::int32_t eos_id() const;
  /// Fingerprint of the file and of the two add_*_token settings: equal ones encode equally.
  const std::string& fingerprint() const;
  const std::string& path() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// To be called before the first step. Errors: InvalidArgument if the model's vocabulary is
/// smaller than the tokenizer's.
void check_vocabulary(const Tokenizer& tokenizer, std::int64_t model_vocab_size);

}  // namespace ringtrain
