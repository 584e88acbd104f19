#include "ringtrain/train/flops.h"

#include <cstddef>

#include "ringtrain/model/llama_parameters.h"

namespace ringtrain {

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
  const auto weights = static_cast<double>(count_parameters(config).without_embedding);
  const auto attention_width = static_cast<double>(config.num_attention_heads * config.head_size());
  return 6.0 * weights +
         12.0 * attended_keys * attention_width * static_cast<double>(config.num_hidden_layers);
}

}  // namespace ringtrain
