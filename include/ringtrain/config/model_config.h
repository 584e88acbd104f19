#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringtrain {

/// Which attention computes the same sums: see docs/architecture.md.
enum class AttentionType { kStandard, kRingStandard, kBlockwise, kRingBlockwise };

/// What is kept between forward and backward; names are JAX's, beside save_attention.
enum class RematPolicy {
  kEverythingSaveable,  ///< also the empty string
  kDotsSaveable,
  kSaveAttention,
  kNothingSaveable
};

/// RoPE frequency scaling as in Hugging Face's rope_scaling / rope_parameters.
struct RopeScaling {
  std::string type = "default";  ///< default, linear, llama3
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::int64_t original_max_position_embeddings = 8192;
  bool operator==(const RopeScaling&) const = default;
};

/// The shape of a LLaMA model and how it is computed. Defaults: the 7b preset.
struct ModelConfig {
  std::int64_t vocab_size = 32000;
  std::int64_t hidden_size = 4096;
  std::int64_t intermediate_size = 11008;
  std::int64_t num_hidden_layers = 32;
  std::int64_t num_attention_heads = 32;
  std::int64_t num_key_value_heads = 0;  ///< 0: as many as attention heads
  std::int64_t head_dim = 0;             ///< 0: hidden_size / num_attention_heads
  std::int64_t max_sequence_length = 2048;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  std::int64_t bos_token_id = 1;
  std::int64_t eos_token_id = 2;

  std::string attention_type;  ///< empty: blockwise if scan_attention, else standard
  bool scan_attention = false;
  bool scan_mlp = false;
  std::int64_t scan_query_chunk_size = 1024;
  std::int64_t scan_key_chunk_size = 1024;
  std::int64_t scan_mlp_chunk_size = 1024;
  std::string remat_block;
  std::string remat_attention;
  std::string remat_mlp;

  std::int64_t kv_heads() const {
    return num_key_value_heads > 0 ? num_key_value_heads : num_attention_heads;
  }
  std::int64_t head_size() const {
    return head_dim > 0 ? head_dim : hidden_size / num_attention_heads;
  }
  /// Errors: InvalidArgument naming the valid values.
  AttentionType resolved_attention_type() const;
};

/// Valid values of attention_type and of remat_*; the empty string is valid too.
const std::vector<std::string>& attention_type_names();
const std::vector<std::string>& remat_names();

/// Errors: InvalidArgument naming the valid policies and `flag`.
RematPolicy parse_remat(const std::string& name, const std::string& flag);

}  // namespace ringtrain
