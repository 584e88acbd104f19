#include "option_section.h"

namespace ringtrain {
namespace {

void add_mesh_options(std::vector<Option>& table) {
  OptionSection<> mesh(table, "", "Mesh and device", kTraining | kVerifying);
  mesh.add<&TrainConfig::mesh_dim>(
      "mesh_dim", "sizes of dp,fsdp,tp,sp, or dp:1,fsdp:-1,tp:1,sp:8; one may be -1: the rest");
  mesh.add<&TrainConfig::mesh_order>(
      "mesh_order", "axes from the one whose neighbours are adjacent ranks outwards");
  mesh.add<&TrainConfig::dtype>(
      "dtype", "compute type, bf16 or fp32; parameters and optimizer state are fp32");
  mesh.add<&TrainConfig::device>("device", "auto takes the GPU where every rank has one")
      .choices = {"auto", "cuda", "cpu"};
  mesh.add<&TrainConfig::oversubscribe_gpu>("oversubscribe_gpu",
                                            "let ranks share a GPU; slow, for tests");
  mesh.add<&TrainConfig::deterministic>(
      "deterministic", "equal runs give equal bits on a GPU too; attention's gradient is slower");
  mesh.add<&TrainConfig::sp_type>(
          "sp_type", "sp ranks rotate keys and values, exchange heads for tokens, or both")
      .choices = {"ring", "ulysses", "hybrid"};
  mesh.add<&TrainConfig::ulysses_size>(
      "ulysses_size", "of hybrid: neighbouring sp ranks that exchange heads; 0: not given");
  mesh.add<&TrainConfig::sp_layout>(
          "sp_layout", "how a sequence is cut over sp; auto is zigzag or striped, as is faster")
      .choices = {"auto", "contiguous", "striped", "zigzag"};
  mesh.add<&TrainConfig::ring_transport>(
          "ring_transport",
          "hops of the ring and exchanges of heads: copy, by copy engines between the GPUs of a "
          "host; nccl, by kernels; auto, by copy engines where all ranks of the axis can")
      .choices = {"auto", "copy", "nccl"};
  mesh.add<&TrainConfig::ring_sms>("ring_sms",
                                   "SMs of a GPU that carry a hop by NCCL and that the forward "
                                   "pass of attention leaves free meanwhile, and while heads are "
                                   "exchanged; 0: as NCCL likes, and none left free");
  mesh.add<&TrainConfig::ring_gradient_dtype>(
          "ring_gradient_dtype",
          "gradients of keys and values travel around the ring in it; sums are in fp32")
      .choices = {"fp32", "bf16"};
  mesh.add<&TrainConfig::timeout_s>("timeout_s",
                                    "a rank without progress for longer ends the job, seconds");
}

void add_loop_options(std::vector<Option>& table) {
  OptionSection<> run(table, "", "Run", kTraining);
  run.add<&TrainConfig::seed>("seed", "of the initial weights");
  run.add<&TrainConfig::total_steps>("total_steps", "steps of one micro-batch each");
  run.add<&TrainConfig::log_freq>("log_freq",
                                  "log, and evaluate, when the step is a multiple of it");
  run.add<&TrainConfig::eval_steps>("eval_steps", "batches of one evaluation; 0: none");
  run.add<&TrainConfig::packing>(
         "packing", "documents keeps attention inside a document; none is the original's")
      .choices = {"none", "documents"};
  run.add<&TrainConfig::loss_reduction>(
         "loss_reduction", "token: mean over valid tokens; sequence: the original's mean of means")
      .choices = {"token", "sequence"};
}

void add_checkpoint_options(std::vector<Option>& table) {
  OptionSection<> load(table, "", "Checkpoints", kTraining | kVerifying);
  load.add<&TrainConfig::load_checkpoint>(
      "load_checkpoint", "params::HF_DIR, trainstate::DIR or trainstate_params::DIR");
  OptionSection<> run(table, "", "Checkpoints", kTraining);
  run.add<&TrainConfig::load_dataset_state>("load_dataset_state",
                                            "file with the position in the data to continue from");
  run.add<&TrainConfig::save_model_freq>("save_model_freq",
                                         "steps between saves, each replacing the last; 0: none");
  run.add<&TrainConfig::save_milestone_freq>("save_milestone_freq",
                                             "steps between saves that are kept; 0: none");
  run.add<&TrainConfig::autoresume>("autoresume",
                                    "continue from logger.output_dir if it holds a checkpoint");
  OptionSection<&TrainConfig::checkpointer> saved(table, "checkpointer.", "Checkpoints", kTraining);
  saved.add<&CheckpointerConfig::float_dtype>("float_dtype", "type of exported parameters")
      .choices = {"bf16", "fp32", "fp16"};
  saved.add<&CheckpointerConfig::save_optimizer_state>(
      "save_optimizer_state", "save the whole train state; without it only parameters");
}

void add_logger_options(std::vector<Option>& table) {
  OptionSection<&TrainConfig::logger> logger(table, "logger.", "Logging", kTraining);
  logger.add<&LoggerConfig::output_dir>("output_dir", "directory of metrics and checkpoints");
  logger.add<&LoggerConfig::experiment_id>("experiment_id",
                                           "folder in output_dir; empty: output_dir itself");
  logger.add<&LoggerConfig::online>("online", "refused: metrics go to metrics.jsonl");
  OptionSection<> training(table, "", "Logging", kTraining);
  training
      .add<&TrainConfig::selftest>("selftest",
                                   "check and measure collectives before a run of several ranks")
      .choices = {"short", "off"};
  training.add<&TrainConfig::print_comm>("print_comm",
                                         "print what a rank sends in a step, by group and kind");
  training.add<&TrainConfig::trace>(
      "trace", "write a Chrome trace of one step on all ranks to this file; empty: none");
  training.add<&TrainConfig::trace_step>("trace_step",
                                         "steps of the run before the one that is traced");
  OptionSection<> run(table, "", "Logging", kTraining | kVerifying);
  run.add<&TrainConfig::log_all_worker>("log_all_worker", "every rank writes log lines");
}

void add_verify_options(std::vector<Option>& table) {
  OptionSection<&TrainConfig::verify> verify(table, "", "Verify", kVerifying);
  verify.add<&VerifyConfig::reference>(
      "reference", "safetensors file with the answers, as scripts/make_reference.py writes it");
  verify.add<&VerifyConfig::tolerance>("tolerance", "largest relative L2 error of a tensor");
  verify.add<&VerifyConfig::train_tolerance>("train_tolerance",
                                             "largest relative error of a training loss");
}

void add_plan_options(std::vector<Option>& table) {
  OptionSection<&TrainConfig::plan> plan(table, "", "Plan", static_cast<unsigned>(Command::kPlan));
  plan.add<&PlanConfig::world_size>("world_size", "ranks of the run that is planned");
  plan.add<&PlanConfig::ranks_per_host>("ranks_per_host",
                                        "ranks that share a host; 0: all, at most 8");
  plan.add<&PlanConfig::device_memory>(
      "device_memory", "of one device, such as 80GiB or 80GB (--device=cpu: unused)");
  plan.add<&PlanConfig::host_memory>("host_memory", "of one host, within its limit");
  plan.add<&PlanConfig::max_context>("max_context", "find the longest seq_length that fits");
}

void add_bench_options(std::vector<Option>& table) {
  OptionSection<&TrainConfig::bench> bench(table, "", "Measurement",
                                           static_cast<unsigned>(Command::kBench));
  bench.add<&BenchConfig::warmups>("warmups", "steps or rounds before the timed ones");
  bench.add<&BenchConfig::runs>("runs", "timed steps or rounds; the median counts");
  OptionSection<> both(
      table, "", "Measurement",
      static_cast<unsigned>(Command::kPlan) | static_cast<unsigned>(Command::kBench));
  both.add<&TrainConfig::json>("json",
                               "print JSON, an object a line, instead of tables; sizes in bytes");
}

}  // namespace

void add_run_options(std::vector<Option>& table) {
  add_verify_options(table);
  add_plan_options(table);
  add_bench_options(table);
  add_loop_options(table);
  add_mesh_options(table);
  add_checkpoint_options(table);
  add_logger_options(table);
}

}  // namespace ringtrain
