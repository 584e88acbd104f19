#pragma once

#include <cstdint>
#include <string>

#include "ringtrain/config/model_config.h"

/// The settings of a run as plain values, with the original's names and defaults. config/options.h
/// has the table that fills them from flags and files; DESIGN.md section 1 the meaning.
namespace ringtrain {

struct TokenizerConfig {
  std::string vocab_file;
  bool add_bos_token = false;
  bool add_eos_token = false;
};

struct TextProcessorConfig {
  std::string fields_from_example;
  std::string fields;
  std::string subfield_separator = " ";
  bool add_bos_token = true;
  bool add_eos_token = true;
  std::string prepend_text;
};

struct JsonDatasetConfig {
  std::string path;
  std::int64_t seq_length = 1024;
  std::int64_t batch_size = 8;  ///< sequences, over the whole mesh
  bool always_start_with_bos = false;
  std::int64_t start_seek_loc = 0;  ///< bytes
  std::int64_t example_index_at_start = 0;
  std::int64_t tokens_count_at_start = 0;
  std::int64_t tokenizer_processes = 1;  ///< worker threads
  std::int64_t tokenizer_parallel_chunk_size = 32;
  std::int64_t tokenizer_parallel_batch_size = 1024;
  std::int64_t throughput_average_window_size = 200;
};

/// Settings of the original's own loader of hub data sets; kept so that its command lines parse.
struct HuggingfaceDatasetConfig {
  std::string path = "c4";
  std::string name = "en";
  std::string split = "train";
  bool streaming = false;
  std::int64_t seq_length = 1024;
  std::int64_t batch_size = 8;
  bool always_start_with_bos = false;
};

struct DatasetConfig {
  std::string type;  ///< json or huggingface; empty: json if json_dataset.path is set
  TextProcessorConfig text_processor;
  JsonDatasetConfig json_dataset;
  HuggingfaceDatasetConfig huggingface_dataset;
};

struct AdamWConfig {
  double init_lr = 0.0;
  double end_lr = 0.001;
  double lr = 0.01;
  std::int64_t lr_warmup_steps = 2000;
  std::int64_t lr_decay_steps = 500000;  ///< from step 0, warm-up included
  double b1 = 0.9;
  double b2 = 0.95;
  double clip_gradient = 1.0;
  double weight_decay = 1e-4;
  bool bf16_momentum = false;
  bool multiply_by_parameter_scale = false;  ///< the Adafactor form
};

struct PalmConfig {
  double lr = 0.01;
  std::int64_t lr_warmup_steps = 10000;
  double b1 = 0.9;
  double b2 = 0.99;
  double clip_gradient = 1.0;
  double weight_decay = 1e-4;
  bool bf16_momentum = false;
};

struct OptimizerConfig {
  std::string type = "adamw";  ///< adamw or palm
  std::int64_t accumulate_gradient_steps = 1;
  AdamWConfig adamw_optimizer;
  PalmConfig palm_optimizer;
};

struct CheckpointerConfig {
  std::string float_dtype = "bf16";  ///< of exported parameters; the train state stays fp32
  bool save_optimizer_state = false;
};

struct LoggerConfig {
  std::string output_dir = "/tmp/";
  std::string experiment_id;
  bool online = false;
};

/// `ringtrain verify`: what a checkpoint is compared with.
struct VerifyConfig {
  std::string reference;          ///< safetensors file, as scripts/make_reference.py writes it
  double tolerance = 1e-4;        ///< relative L2 error per tensor
  double train_tolerance = 1e-3;  ///< relative error of the reference run's losses
};

/// `ringtrain plan`: the machine that a run is planned for.
struct PlanConfig {
  std::int64_t world_size = 1;
  std::int64_t ranks_per_host = 0;        ///< 0: all ranks, at most 8
  std::string device_memory = "79.6GiB";  ///< of one device, as an H100 80GB has
  std::string host_memory = "128GiB";     ///< of one host
  bool max_context = false;
};

/// `ringtrain bench step` and `bench layer`: how a step is timed.
struct BenchConfig {
  std::int64_t warmups = 3;
  std::int64_t runs = 10;
};

/// Settings of the original that mean nothing outside JAX and W&B, or that are refused unless they
/// are off; kept so that its command lines parse and every value can be shown.
struct OriginalConfig {
  bool scan_layers = true;
  std::int64_t param_scan_axis = 0;
  double resid_pdrop = 0.0;
  double embd_pdrop = 0.0;
  double attn_pdrop = 0.0;
  double fcm_min_ratio = 0.0;
  double fcm_max_ratio = 0.0;
  std::string llama_mesh_dim;  ///< must agree with mesh_dim

  std::string project_id;
  std::string project_entity;
  std::string experiment_note;
  std::string wandb_dir;
  std::string profile_dir;
  std::string prefix;
  bool append_uuid = true;

  bool initialize_jax_distributed = false;
  std::string coordinator_address;
  std::int64_t num_processes = 0;
  std::int64_t process_id = 0;
  std::string local_device_ids;
};

struct TrainConfig {
  std::int64_t seed = 42;
  std::string mesh_dim = "1,-1,1,1";
  std::string mesh_order = "tp,sp,fsdp,dp";
  std::string dtype = "bf16";
  std::int64_t total_steps = 10000;
  std::string load_llama_config;
  std::string update_llama_config;
  std::string load_checkpoint;
  std::string load_dataset_state;
  std::int64_t log_freq = 50;
  std::int64_t save_model_freq = 0;
  std::int64_t save_milestone_freq = 0;
  std::int64_t eval_steps = 0;
  bool log_all_worker = false;
  bool autoresume = false;

  std::string device = "auto";  ///< auto, cuda, cpu
  bool oversubscribe_gpu = false;
  bool deterministic = false;           ///< equal runs give equal bits on a GPU too
  std::string sp_type = "ring";         ///< ring, ulysses, hybrid
  std::int64_t ulysses_size = 0;        ///< of hybrid: ranks that exchange heads; 0: not given
  std::string sp_layout = "auto";       ///< auto, contiguous, striped, zigzag
  std::string ring_transport = "auto";  ///< auto, copy, nccl: what carries hops and exchanges
  std::int64_t ring_sms = 8;  ///< SMs for hops over NCCL, left free by attention, also for
                              ///< exchanges of heads; 0: any, none
  std::string ring_gradient_dtype = "fp32";  ///< fp32, bf16: of dK and dV between ranks
  std::string packing = "none";              ///< none, documents
  std::string loss_reduction = "token";      ///< token, sequence
  std::int64_t loss_chunk_size = 4096;       ///< tokens whose logits exist at a time
  bool offload_optimizer = false;            ///< masters and moments in host memory
  std::string grad_dtype = "fp32";           ///< fp32, bf16: of gradients between micro-batches
  double timeout_s = 600;                    ///< a rank without progress for longer ends the job
  std::string selftest = "short";            ///< before a run of several ranks: short, off
  bool print_comm = false;                   ///< bytes on the wire of a step
  std::string trace;                         ///< file for the trace of one step; empty: none
  std::int64_t trace_step = 3;               ///< steps of this run before the one that is traced

  ModelConfig llama;  ///< after preset, file, llama.* and update_llama_config
  TokenizerConfig tokenizer;
  DatasetConfig train_dataset;
  DatasetConfig eval_dataset;
  OptimizerConfig optimizer;
  CheckpointerConfig checkpointer;
  LoggerConfig logger;
  VerifyConfig verify;
  PlanConfig plan;
  BenchConfig bench;
  bool json = false;  ///< of plan and bench: one JSON object instead of tables
  OriginalConfig original;
};

}  // namespace ringtrain
