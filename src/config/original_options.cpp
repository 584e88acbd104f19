#include "option_section.h"

namespace ringtrain {
namespace {

const std::string kGroup = "Accepted for the original's command lines";

void add_model_keys(std::vector<Option>& table) {
  using O = OriginalConfig;
  OptionSection<&TrainConfig::original> llama(table, "llama.", kGroup, kTraining | kVerifying);
  llama.add<&O::llama_mesh_dim>("mesh_dim", "must agree with mesh_dim");
  llama.add<&O::scan_layers>("scan_layers", "of the JAX compiler").has_meaning = false;
  llama.add<&O::param_scan_axis>("param_scan_axis", "of the JAX compiler").has_meaning = false;
  llama.add<&O::resid_pdrop>("resid_pdrop", "dropout: only 0 is supported");
  llama.add<&O::embd_pdrop>("embd_pdrop", "dropout: only 0 is supported");
  llama.add<&O::attn_pdrop>("attn_pdrop", "dropout: only 0 is supported");
  llama.add<&O::fcm_min_ratio>("fcm_min_ratio", "forgetful causal masking: only 0 is supported");
  llama.add<&O::fcm_max_ratio>("fcm_max_ratio", "forgetful causal masking: only 0 is supported");
}

void add_logger_keys(std::vector<Option>& table) {
  using O = OriginalConfig;
  OptionSection<&TrainConfig::original> logger(table, "logger.", kGroup, kTraining);
  logger.add<&O::project_id>("project_id", "of W&B").has_meaning = false;
  logger.add<&O::project_entity>("project_entity", "of W&B").has_meaning = false;
  logger.add<&O::experiment_note>("experiment_note", "of W&B").has_meaning = false;
  logger.add<&O::wandb_dir>("wandb_dir", "of W&B").has_meaning = false;
  logger.add<&O::profile_dir>("profile_dir", "of the JAX profiler").has_meaning = false;
  logger.add<&O::prefix>("prefix", "of W&B").has_meaning = false;
  logger.add<&O::append_uuid>("append_uuid", "of W&B").has_meaning = false;
}

void add_jax_keys(std::vector<Option>& table) {
  using O = OriginalConfig;
  OptionSection<&TrainConfig::original> jax(table, "jax_distributed.", kGroup, kTraining);
  const std::string help = "of JAX; ranks come from mpirun";
  jax.add<&O::initialize_jax_distributed>("initialize_jax_distributed", help).has_meaning = false;
  jax.add<&O::coordinator_address>("coordinator_address", help).has_meaning = false;
  jax.add<&O::num_processes>("num_processes", help).has_meaning = false;
  jax.add<&O::process_id>("process_id", help).has_meaning = false;
  jax.add<&O::local_device_ids>("local_device_ids", help).has_meaning = false;
}

}  // namespace

void add_original_options(std::vector<Option>& table) {
  add_model_keys(table);
  add_logger_keys(table);
  add_jax_keys(table);
}

}  // namespace ringtrain
