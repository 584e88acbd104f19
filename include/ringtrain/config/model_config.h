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
  kOffload,          ///< as kSaveAttention, kept in host memory
  kNothingSaveable,  ///< the layer's input alone
  kOffloadInput      ///< as kNothingSaveable, kept in host memory
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
  std::string remat_block;  ///< a policy, a mix of them by layer, or auto
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
  /// Whether keys and values travel around the ring of sp ranks, rather than being gathered.
  bool rotates_keys() const;
};

/// Valid values of attention_type and of remat_*; the empty string is valid too. Policies that
/// place what is kept in host memory are those of whole layers: of remat_block.
const std::vector<std::string>& attention_type_names();
const std::vector<std::string>& remat_names();
const std::vector<std::string>& remat_block_names();
inline constexpr const char* kRematAuto = "auto";

/// Of remat_attention and remat_mlp. Errors: InvalidArgument naming the valid policies and `flag`.
RematPolicy parse_remat(const std::string& name, const std::string& flag);

/// The policy of each of `layers` layers by remat_block: one name for all of them, or a mix, from
/// the first layer on: "offload:12,save_attention:20". "auto" is no policy: it is replaced by the
/// mix that fits before a model is made.
/// Errors: InvalidArgument naming the valid policies, or counts that do not make `layers`.
std::vector<RematPolicy> parse_remat_block(const std::string& text, std::int64_t layers);

}  // namespace ringtrain
