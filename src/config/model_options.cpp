#include "option_section.h"

namespace ringtrain {
namespace {

std::vector<std::string> or_empty(std::vector<std::string> names) {
  names.insert(names.begin(), "");
  return names;
}

using ModelSection = OptionSection<&TrainConfig::llama>;

void add_shape_options(ModelSection& llama) {
  using M = ModelConfig;
  llama.add<&M::vocab_size>("vocab_size", "tokens; grows to the tokenizer's if that is larger");
  llama.add<&M::hidden_size>("hidden_size", "width of the residual stream");
  llama.add<&M::intermediate_size>("intermediate_size", "width of the feed-forward");
  llama.add<&M::num_hidden_layers>("num_hidden_layers", "layers");
  llama.add<&M::num_attention_heads>("num_attention_heads", "query heads");
  llama
      .add<&M::num_key_value_heads>("num_key_value_heads",
                                    "key/value heads; 0: as many as query heads")
      .none_is_zero = true;
  llama.add<&M::head_dim>("head_dim", "elements of a head; 0: hidden_size / heads").none_is_zero =
      true;
  llama.add<&M::max_sequence_length>("max_sequence_length", "longest sequence, in tokens");
  llama.add<&M::rms_norm_eps>("rms_norm_eps", "added to the mean square in RMSNorm");
  llama.add<&M::initializer_range>("initializer_range", "standard deviation of initial weights");
  llama.add<&M::tie_word_embeddings>("tie_word_embeddings", "the head is the embedding");
  llama.add<&M::rope_theta>("rope_theta", "base of the rotary frequencies");
  llama.add<&M::rope_scaling>("rope_scaling", "dict(rope_type='llama3',factor=8.0,...) as in HF");
  llama.add<&M::bos_token_id>("bos_token_id", "id of <s>; the tokenizer's where there is one");
  llama.add<&M::eos_token_id>("eos_token_id", "id of </s>; the tokenizer's where there is one");
}

void add_computation_options(ModelSection& llama) {
  using M = ModelConfig;
  llama
      .add<&M::attention_type>("attention_type",
                               "empty: blockwise if scan_attention, else standard")
      .choices = or_empty(attention_type_names());
  llama.add<&M::scan_attention>("scan_attention", "attention in blocks");
  llama.add<&M::scan_mlp>("scan_mlp", "feed-forward in blocks");
  llama.add<&M::scan_query_chunk_size>("scan_query_chunk_size", "query block, in tokens");
  llama.add<&M::scan_key_chunk_size>("scan_key_chunk_size", "key block, in tokens");
  llama.add<&M::scan_mlp_chunk_size>("scan_mlp_chunk_size", "feed-forward block, in tokens");
  auto remat = or_empty(remat_names());
  llama.add<&M::remat_block>(
      "remat_block",
      "what a layer keeps for its backward pass: everything_saveable | dots_saveable | "
      "save_attention | offload | nothing_saveable | offload_input, a mix of them from the first "
      "layer on (offload:12,save_attention:20), or auto: the mix that fits");
  llama.add<&M::remat_attention>("remat_attention", "the same, of attention; remat_block bounds it")
      .choices = remat;
  std::erase(remat, "save_attention");
  llama.add<&M::remat_mlp>("remat_mlp", "the same, of the feed-forward").choices = remat;
}

}  // namespace

void add_model_options(std::vector<Option>& table) {
  OptionSection<> model(table, "", "Model", kTraining | kVerifying);
  model.add<&TrainConfig::load_llama_config>(
      "load_llama_config",
      "preset (7b, llama3-8b, ...) or json::FILE; empty: 7b, or the model "
      "of load_checkpoint");
  model.add<&TrainConfig::update_llama_config>(
      "update_llama_config", "dict(key=value,...) over the preset; keys as llama.*");
  ModelSection llama(table, "llama.", "Model", kTraining | kVerifying);
  add_shape_options(llama);
  ModelSection computation(table, "llama.", "Model computation", kTraining | kVerifying);
  add_computation_options(computation);
  OptionSection<> loss(table, "", "Model computation", kTraining | kVerifying);
  loss.add<&TrainConfig::loss_chunk_size>("loss_chunk_size", "tokens whose logits exist at a time");
}

}  // namespace ringtrain
