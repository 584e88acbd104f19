#include "ringtrain/train/flops.h"

#include <cstddef>

namespace ringtrain {
namespace {

/// Weights of all layers and the final norm.
std::int64_t body_parameters(const ModelConfig& config) {
  const std::int64_t query_size = config.num_attention_heads * config.head_size();
  const std::int64_t key_value_size = config.kv_heads() * config.head_size();
  const std::int64_t attention = 2 * config.hidden_size * (query_size + key_value_size);
  const std::int64_t feed_forward = 3 * config.hidden_size * config.intermediate_size;
  const std::int64_t norms = 2 * config.hidden_size;
  return config.num_hidden_layers * (attention + feed_forward + norms) + config.hidden_size;
}

}  // namespace

std::int64_t num_parameters(const ModelConfig& config) {
  const std::int64_t table = config.vocab_size * config.hidden_size;
  return body_parameters(config) + (config.tie_word_embeddings ? table : 2 * table);
}

double mean_attended_keys(std::span<const std::int32_t> document_starts, std::int64_t seq_length) {
  if (document_starts.empty()) return static_cast<double>(seq_length) / 2;
  double total = 0;
  for (std::size_t i = 0; i < document_starts.size(); ++i) {
    const std::int64_t position = static_cast<std::int64_t>(i) % seq_length;
    // Half of a token's attention to itself counts, so that one document gives exactly S / 2.
    total += static_cast<double>(position - document_starts[i]) + 0.5;
  }
  return total / static_cast<double>(document_starts.size());
}

double model_flops_per_token(const ModelConfig& config, double attended_keys) {
  const std::int64_t head = config.vocab_size * config.hidden_size;
  const auto attention_width = static_cast<double>(config.num_attention_heads * config.head_size());
  return 6.0 * static_cast<double>(body_parameters(config) + head) +
         12.0 * attended_keys * attention_width * static_cast<double>(config.num_hidden_layers);
}

}  // namespace ringtrain
