#include "ringtrain/data/tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include "ringtrain/core/error.h"
#include "ringtrain/data/fingerprint.h"

namespace ringtrain {
namespace {

std::string read_model(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    throw IoError(
        fmt::format("{}: is a directory; --tokenizer.vocab_file is a SentencePiece model", path));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw IoError(fmt::format("{}: cannot be opened: {} (--tokenizer.vocab_file)", path,
                              std::strerror(errno)));
  }
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw IoError(fmt::format("{}: cannot be read (--tokenizer.vocab_file)", path));
  if (bytes.empty()) throw IoError(fmt::format("{}: is empty (--tokenizer.vocab_file)", path));
  return bytes;
}

// Reads a protobuf base-128 integer at `at` and moves behind it.
std::optional<std::uint64_t> read_varint(std::string_view bytes, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64 && at < bytes.size(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes[at++]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

// A model is a protobuf message whose fields are all length-prefixed: the pieces, then the specs of
// trainer and normalizer. Protobuf itself accepts a file that was cut between two pieces and would
// encode with the specs' defaults.
bool is_complete(std::string_view bytes) {
  constexpr std::uint64_t kLengthPrefixed = 2;
  constexpr std::uint64_t kNormalizerSpec = 3;
  bool has_normalizer = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto key = read_varint(bytes, at);
    if (!key || (*key & 7) != kLengthPrefixed) return false;
    const auto length = read_varint(bytes, at);
    if (!length || *length > bytes.size() - at) return false;
    at += *length;
    has_normalizer |= (*key >> 3) == kNormalizerSpec;
  }
  return has_normalizer;
}

}  // namespace

struct Tokenizer::Impl {
  sentencepiece::SentencePieceProcessor processor;
  TokenizerConfig config;
  std::string fingerprint;

  void check_id(std::int32_t id) const {
    if (id >= 0 && id < processor.GetPieceSize()) return;
    throw InvalidArgument(
        fmt::format("token id {} is outside the vocabulary of {}: ids are 0 to {}", id,
                    config.vocab_file, processor.GetPieceSize() - 1));
  }
};

Tokenizer::Tokenizer(const TokenizerConfig& config) : impl_(std::make_unique<Impl>()) {
  impl_->config = config;
  const std::string& path = config.vocab_file;
  if (path.empty()) {
    throw InvalidArgument("no tokenizer: give --tokenizer.vocab_file=PATH, a SentencePiece model");
  }
  const std::string bytes = read_model(path);
  if (!is_complete(bytes)) {
    throw IoError(
        fmt::format("{}: is not a SentencePiece model, or was truncated: {} bytes "
                    "(--tokenizer.vocab_file)",
                    path, bytes.size()));
  }
  const auto status = impl_->processor.LoadFromSerializedProto(bytes);
  if (!status.ok()) {
    throw IoError(
        fmt::format("{}: is not a usable SentencePiece model: {} (--tokenizer.vocab_file)", path,
                    status.ToString()));
  }
  impl_->fingerprint = ringtrain::fingerprint(bytes);
  if (config.add_bos_token) impl_->fingerprint += "+bos";
  if (config.add_eos_token) impl_->fingerprint += "+eos";
  if (config.add_bos_token && bos_id() < 0) {
    throw InvalidArgument(
        fmt::format("tokenizer.add_bos_token=True, but {} has no BOS token", path));
  }
  if (config.add_eos_token && eos_id() < 0) {
    throw InvalidArgument(
        fmt::format("tokenizer.add_eos_token=True, but {} has no EOS token", path));
  }
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  const auto status = impl_->processor.Encode(text, &ids);
  if (!status.ok()) {
    throw IoError(fmt::format("a text of {} bytes cannot be encoded with {}: {}", text.size(),
                              path(), status.ToString()));
  }
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_with_special_tokens(std::string_view text) const {
  std::vector<std::int32_t> ids = encode(text);
  if (impl_->config.add_bos_token) ids.insert(ids.begin(), bos_id());
  if (impl_->config.add_eos_token) ids.push_back(eos_id());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  for (const std::int32_t id : ids) impl_->check_id(id);
  std::string text;
  const auto status = impl_->processor.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  if (!status.ok()) {
    throw InvalidArgument(
        fmt::format("{} ids cannot be decoded with {}: {}", ids.size(), path(), status.ToString()));
  }
  return text;
}

std::string Tokenizer::piece(std::int32_t id) const {
  impl_->check_id(id);
  return impl_->processor.IdToPiece(id);
}

std::int64_t Tokenizer::vocab_size() const {
  return impl_->processor.GetPieceSize();
}

std::int32_t Tokenizer::bos_id() const {
  return impl_->processor.bos_id();
}

std::int32_t Tokenizer::eos_id() const {
  return impl_->processor.eos_id();
}

const std::string& Tokenizer::fingerprint() const {
  return impl_->fingerprint;
}

const std::string& Tokenizer::path() const {
  return impl_->config.vocab_file;
}

void check_vocabulary(const Tokenizer& tokenizer, std::int64_t model_vocab_size) {
  if (tokenizer.vocab_size() <= model_vocab_size) return;
  throw InvalidArgument(fmt::format(
      "the model's vocabulary has {} entries (llama.vocab_size), the tokenizer {} has {}: its "
      "ids would not fit; use the tokenizer the model was made with, or a larger vocab_size",
      model_vocab_size, tokenizer.path(), tokenizer.vocab_size()));
}

}  // namespace ringtrain
