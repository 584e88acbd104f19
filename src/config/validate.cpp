#include "ringtrain/config/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>

#include "ringtrain/config/byte_size.h"
#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

template <typename Number>
void check_at_least(std::string_view option, Number value, Number least) {
  if (value >= least) return;
  throw InvalidArgument(fmt::format("{} must be at least {}, got {}", option, least, value));
}

void check_positive(std::string_view option, double value) {
  if (value > 0) return;
  throw InvalidArgument(fmt::format("{} must be greater than 0, got {}", option, value));
}

void check_fraction(std::string_view option, double value) {
  if (value >= 0 && value < 1) return;
  throw InvalidArgument(fmt::format("{} must be in [0, 1), got {}", option, value));
}

void check_not_dropped(std::string_view option, double value, std::string_view what) {
  if (value == 0) return;
  throw InvalidArgument(
      fmt::format("{}={}: {} is not supported; leave it at 0", option, value, what));
}

void refuse_unsupported(const TrainConfig& config) {
  const OriginalConfig& original = config.original;
  check_not_dropped("llama.resid_pdrop", original.resid_pdrop, "dropout");
  check_not_dropped("llama.embd_pdrop", original.embd_pdrop, "dropout");
  check_not_dropped("llama.attn_pdrop", original.attn_pdrop, "dropout");
  check_not_dropped("llama.fcm_min_ratio", original.fcm_min_ratio, "forgetful causal masking");
  check_not_dropped("llama.fcm_max_ratio", original.fcm_max_ratio, "forgetful causal masking");
  if (config.dtype == "fp16") {
    throw InvalidArgument("dtype fp16 is not supported: it needs loss scaling; use bf16 or fp32");
  }
  check_choice("dtype", config.dtype, std::vector<std::string>{"bf16", "fp32"});
  if (config.logger.online) {
    throw InvalidArgument(
        "logger.online=True is not supported: nothing is sent anywhere; every logged value is in "
        "metrics.jsonl under logger.output_dir");
  }
}

void validate_loop(const TrainConfig& config) {
  check_at_least<std::int64_t>("total_steps", config.total_steps, 1);
  check_at_least<std::int64_t>("log_freq", config.log_freq, 1);
  check_at_least<std::int64_t>("eval_steps", config.eval_steps, 0);
  check_at_least<std::int64_t>("save_model_freq", config.save_model_freq, 0);
  check_at_least<std::int64_t>("save_milestone_freq", config.save_milestone_freq, 0);
  check_at_least<std::int64_t>("trace_step", config.trace_step, 0);
  if (!config.trace.empty() && config.trace_step >= config.total_steps) {
    throw InvalidArgument(
        fmt::format("trace_step {} is never reached: total_steps is {}, and the first step is 0",
                    config.trace_step, config.total_steps));
  }
}

template <typename Rule>
void validate_rule(const std::string& prefix, const Rule& rule) {
  check_at_least(prefix + "lr", rule.lr, 0.0);
  check_fraction(prefix + "b1", rule.b1);
  check_fraction(prefix + "b2", rule.b2);
  check_positive(prefix + "clip_gradient", rule.clip_gradient);
  check_at_least(prefix + "weight_decay", rule.weight_decay, 0.0);
}

void validate_optimizer(const OptimizerConfig& optimizer) {
  check_at_least<std::int64_t>("optimizer.accumulate_gradient_steps",
                               optimizer.accumulate_gradient_steps, 1);
  if (optimizer.type == "palm") {
    validate_rule("optimizer.palm_optimizer.", optimizer.palm_optimizer);
    check_at_least<std::int64_t>("optimizer.palm_optimizer.lr_warmup_steps",
                                 optimizer.palm_optimizer.lr_warmup_steps, 1);
    return;
  }
  const AdamWConfig& adamw = optimizer.adamw_optimizer;
  validate_rule("optimizer.adamw_optimizer.", adamw);
  check_at_least("optimizer.adamw_optimizer.init_lr", adamw.init_lr, 0.0);
  check_at_least("optimizer.adamw_optimizer.end_lr", adamw.end_lr, 0.0);
  check_at_least<std::int64_t>("optimizer.adamw_optimizer.lr_warmup_steps", adamw.lr_warmup_steps,
                               0);
  if (adamw.lr_decay_steps <= adamw.lr_warmup_steps) {
    throw InvalidArgument(fmt::format(
        "optimizer.adamw_optimizer.lr_decay_steps counts the warm-up and must be greater than "
        "lr_warmup_steps: got {} and {}",
        adamw.lr_decay_steps, adamw.lr_warmup_steps));
  }
}

void validate_blocks(const TrainConfig& config) {
  const ModelConfig& llama = config.llama;
  check_at_least<std::int64_t>("llama.scan_query_chunk_size", llama.scan_query_chunk_size, 1);
  check_at_least<std::int64_t>("llama.scan_key_chunk_size", llama.scan_key_chunk_size, 1);
  check_at_least<std::int64_t>("llama.scan_mlp_chunk_size", llama.scan_mlp_chunk_size, 1);
  check_at_least<std::int64_t>("loss_chunk_size", config.loss_chunk_size, 1);
  // NCCL rounds the blocks of a hop up to a power of two; beyond 64 attention would starve.
  const bool is_power_of_two = (config.ring_sms & (config.ring_sms - 1)) == 0;
  if (config.ring_sms < 0 || config.ring_sms > 64 || !is_power_of_two) {
    throw InvalidArgument(
        fmt::format("ring_sms must be 0 or a power of two up to 64, got {}", config.ring_sms));
  }
  if (llama.remat_block != kRematAuto) {
    parse_remat_block(llama.remat_block, llama.num_hidden_layers);
  }
  parse_remat(llama.remat_attention, "llama.remat_attention");
  parse_remat(llama.remat_mlp, "llama.remat_mlp");
}

void validate_plan(const PlanConfig& plan) {
  constexpr std::int64_t kMostRanks = 1 << 20;
  check_at_least<std::int64_t>("world_size", plan.world_size, 1);
  if (plan.world_size > kMostRanks) {
    throw InvalidArgument(
        fmt::format("world_size must be at most {}, got {}", kMostRanks, plan.world_size));
  }
  check_at_least<std::int64_t>("ranks_per_host", plan.ranks_per_host, 0);
  parse_byte_size("device_memory", plan.device_memory);
  parse_byte_size("host_memory", plan.host_memory);
}

/// Sizes of tp that divide all three.
std::vector<std::int64_t> legal_tp_sizes(const ModelConfig& model) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t tp = 1; tp <= model.kv_heads(); ++tp) {
    if (model.num_attention_heads % tp == 0 && model.kv_heads() % tp == 0 &&
        model.intermediate_size % tp == 0) {
      sizes.push_back(tp);
    }
  }
  return sizes;
}

/// Divisors of sp by which the heads of a tp rank can be exchanged.
std::vector<std::int64_t> legal_ulysses_sizes(std::int64_t heads, std::int64_t kv_heads,
                                              std::int64_t sp) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = 1; size <= sp; ++size) {
    const bool fits = heads % size == 0 && (kv_heads % size == 0 || size % kv_heads == 0);
    if (sp % size == 0 && fits) sizes.push_back(size);
  }
  return sizes;
}

}  // namespace

void validate_model(const ModelConfig& model) {
  using Row = std::pair<std::string_view, std::int64_t>;
  for (const auto& [name, size] :
       std::array{Row{"vocab_size", model.vocab_size}, Row{"hidden_size", model.hidden_size},
                  Row{"intermediate_size", model.intermediate_size},
                  Row{"num_hidden_layers", model.num_hidden_layers},
                  Row{"num_attention_heads", model.num_attention_heads},
                  Row{"max_sequence_length", model.max_sequence_length}}) {
    check_at_least<std::int64_t>(fmt::format("llama.{}", name), size, 1);
  }
  check_at_least<std::int64_t>("llama.num_key_value_heads", model.num_key_value_heads, 0);
  check_at_least<std::int64_t>("llama.head_dim", model.head_dim, 0);
  if (model.head_dim == 0 && model.hidden_size % model.num_attention_heads != 0) {
    throw InvalidArgument(
        fmt::format("llama.hidden_size {} is not divisible by llama.num_attention_heads {}; "
                    "give llama.head_dim if heads have another size",
                    model.hidden_size, model.num_attention_heads));
  }
  if (model.head_size() % 2 != 0) {
    throw InvalidArgument(
        fmt::format("the size of a head must be even, since rotary positions turn pairs; got {} "
                    "(llama.head_dim, or llama.hidden_size / llama.num_attention_heads)",
                    model.head_size()));
  }
  if (model.num_attention_heads % model.kv_heads() != 0) {
    throw InvalidArgument(
        fmt::format("llama.num_attention_heads {} is not divisible by llama.num_key_value_heads {}",
                    model.num_attention_heads, model.kv_heads()));
  }
  check_positive("llama.rms_norm_eps", model.rms_norm_eps);
  check_positive("llama.rope_theta", model.rope_theta);
  check_positive("llama.rope_scaling.factor", model.rope_scaling.factor);
  check_at_least("llama.initializer_range", model.initializer_range, 0.0);
}

void validate_config(Command command, const TrainConfig& config) {
  refuse_unsupported(config);
  validate_model(config.llama);
  validate_blocks(config);
  check_positive("timeout_s", config.timeout_s);
  parse_load_checkpoint(config.load_checkpoint);
  if (command == Command::kVerify) {
    if (config.verify.reference.empty()) {
      throw InvalidArgument("--reference=FILE is missing: scripts/make_reference.py writes one");
    }
    check_at_least("tolerance", config.verify.tolerance, 0.0);
    check_at_least("train_tolerance", config.verify.train_tolerance, 0.0);
    return;
  }
  validate_loop(config);
  validate_optimizer(config.optimizer);
  if (command == Command::kPlan) validate_plan(config.plan);
  if (command == Command::kBench) {
    check_at_least<std::int64_t>("warmups", config.bench.warmups, 0);
    check_at_least<std::int64_t>("runs", config.bench.runs, 1);
  }
}

void validate_dataset_shape(const std::string& name, const DatasetConfig& dataset,
                            const ModelConfig& model) {
  const std::string prefix = name + ".json_dataset.";
  const JsonDatasetConfig& json = dataset.json_dataset;
  check_at_least<std::int64_t>(prefix + "seq_length", json.seq_length, 1);
  check_at_least<std::int64_t>(prefix + "batch_size", json.batch_size, 1);
  if (json.seq_length > model.max_sequence_length) {
    throw InvalidArgument(fmt::format(
        "{}seq_length {} is longer than the model's llama.max_sequence_length {}; raise the "
        "latter to train on longer sequences",
        prefix, json.seq_length, model.max_sequence_length));
  }
}

void validate_dataset(const std::string& name, const DatasetConfig& dataset,
                      const ModelConfig& model) {
  if (dataset.type == "huggingface" || dataset.json_dataset.path.empty()) {
    throw InvalidArgument(fmt::format(
        "{0}.json_dataset.path is {1}; data is read from a jsonl file: make one with "
        "`scripts/prepare_data.py --out data/owt` and give --{0}.type=json "
        "--{0}.json_dataset.path=data/owt/openwebtext_train.jsonl",
        name,
        dataset.type == "huggingface" ? "not used by type=huggingface, which is not supported"
                                      : "not set"));
  }
  validate_dataset_shape(name, dataset, model);
  const std::string prefix = name + ".json_dataset.";
  const JsonDatasetConfig& json = dataset.json_dataset;
  check_at_least<std::int64_t>(prefix + "start_seek_loc", json.start_seek_loc, 0);
  check_at_least<std::int64_t>(prefix + "example_index_at_start", json.example_index_at_start, 0);
  check_at_least<std::int64_t>(prefix + "tokens_count_at_start", json.tokens_count_at_start, 0);
  check_at_least<std::int64_t>(prefix + "tokenizer_processes", json.tokenizer_processes, 1);
  check_at_least<std::int64_t>(prefix + "tokenizer_parallel_chunk_size",
                               json.tokenizer_parallel_chunk_size, 1);
  check_at_least<std::int64_t>(prefix + "tokenizer_parallel_batch_size",
                               json.tokenizer_parallel_batch_size, 1);
  check_at_least<std::int64_t>(prefix + "throughput_average_window_size",
                               json.throughput_average_window_size, 1);
  const TextProcessorConfig& text = dataset.text_processor;
  if (text.fields.empty() == text.fields_from_example.empty()) {
    throw InvalidArgument(
        fmt::format("give one of {0}.text_processor.fields (got '{1}') and "
                    "{0}.text_processor.fields_from_example (got '{2}'), such as fields='text'",
                    name, text.fields, text.fields_from_example));
  }
}

void validate_model_on_mesh(const ModelConfig& model, const MeshSizes& mesh) {
  using Row = std::pair<std::string_view, std::int64_t>;
  for (const auto& [name, size] : std::array{Row{"num_attention_heads", model.num_attention_heads},
                                             Row{"num_key_value_heads", model.kv_heads()},
                                             Row{"intermediate_size", model.intermediate_size}}) {
    if (size % mesh.tp == 0) continue;
    throw InvalidArgument(
        fmt::format("llama.{} {} is not divisible by tp {}; tp can be one of {} (--mesh_dim)", name,
                    size, mesh.tp, fmt::join(legal_tp_sizes(model), ", ")));
  }
  const std::int64_t heads = model.num_attention_heads / mesh.tp;
  const std::int64_t kv_heads = model.kv_heads() / mesh.tp;
  const std::vector<std::int64_t> legal = legal_ulysses_sizes(heads, kv_heads, mesh.sp);
  if (std::find(legal.begin(), legal.end(), mesh.ulysses) != legal.end()) return;
  throw InvalidArgument(fmt::format(
      "{} ranks cannot exchange the {} query heads and {} key/value heads of a tp rank: their "
      "number must divide the former, and divide the latter or be a multiple of them; with sp {} "
      "it can be one of {} (--sp_type=hybrid --ulysses_size)",
      mesh.ulysses, heads, kv_heads, mesh.sp, fmt::join(legal, ", ")));
}

void validate_batch_on_mesh(std::int64_t batch_size, std::int64_t seq_length,
                            const std::string& sp_layout, const MeshSizes& mesh,
                            const std::string& batches, const std::string& sequences) {
  const std::int64_t shards = mesh.dp * mesh.fsdp;
  if (batch_size % shards != 0) {
    throw InvalidArgument(fmt::format(
        "{} {} is not divisible by dp x fsdp = {} x {} = {}; it is the batch over the whole mesh",
        batches, batch_size, mesh.dp, mesh.fsdp, shards));
  }
  const std::int64_t ring = mesh.sp / mesh.ulysses;
  const bool in_chunks = sp_layout == "zigzag" && ring > 1;
  const std::int64_t unit = ring * std::lcm(in_chunks ? 2 : 1, mesh.ulysses);
  if (seq_length % unit == 0) return;
  const std::int64_t below = seq_length / unit * unit;
  throw InvalidArgument(fmt::format(
      "{} {} is not a multiple of {}, which --sp_layout={} needs with sp {}; the nearest are {}{}",
      sequences, seq_length, unit, sp_layout, mesh.sp,
      below > 0 ? fmt::format("{} and ", below) : "", below + unit));
}

CheckpointSource parse_load_checkpoint(const std::string& text) {
  using Kind = CheckpointSource::Kind;
  if (text.empty()) return {};
  const std::size_t separator = text.find("::");
  const std::string kind = text.substr(0, separator);
  const std::string path = separator == text.npos ? "" : text.substr(separator + 2);
  if (kind == "flax_params") {
    throw InvalidArgument(fmt::format(
        "load_checkpoint '{}': flax_params (a MessagePack file of the original) cannot be read; "
        "convert it to a Hugging Face directory and use params::DIR",
        text));
  }
  const bool known = kind == "params" || kind == "trainstate" || kind == "trainstate_params";
  if (!known || path.empty()) {
    throw InvalidArgument(
        fmt::format("load_checkpoint '{}' is not one of params::HF_DIR, "
                    "trainstate::DIR, trainstate_params::DIR",
                    text));
  }
  const std::string file = std::filesystem::path(path).filename().string();
  if (file.starts_with("streaming_params") || file.starts_with("streaming_train_state")) {
    throw InvalidArgument(fmt::format(
        "load_checkpoint '{}' is a MessagePack stream of the original, which cannot be read; "
        "convert it to a Hugging Face directory and use params::DIR",
        text));
  }
  if (kind == "params") return {Kind::kParams, path};
  return {kind == "trainstate" ? Kind::kTrainState : Kind::kTrainStateParams, path};
}

}  // namespace ringtrain
