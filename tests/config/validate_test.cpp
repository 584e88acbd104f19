#include "ringtrain/config/validate.h"

#include <gtest/gtest.h>

#include <functional>

#include "support/error_text.h"

namespace ringtrain {
namespace {

TrainConfig valid_config() {
  TrainConfig config = default_config(Command::kTrain);
  config.train_dataset.type = "json";
  config.train_dataset.json_dataset.path = "train.jsonl";
  config.train_dataset.text_processor.fields = "text";
  return config;
}

using Change = std::function<void(TrainConfig&)>;

std::string refusal(const Change& change, Command command = Command::kTrain) {
  TrainConfig config = valid_config();
  change(config);
  return error_text([&] { validate_config(command, config); });
}

TEST(Validate, DefaultsAreValid) {
  EXPECT_EQ(refusal([](TrainConfig&) {}), "no error");
  const TrainConfig config = valid_config();
  EXPECT_NO_THROW(validate_dataset("train_dataset", config.train_dataset, config.llama));
}

TEST(Validate, RefusesWhatTheOriginalHasAndThisHasNot) {
  EXPECT_EQ(refusal([](TrainConfig& c) { c.original.resid_pdrop = 0.1; }),
            "llama.resid_pdrop=0.1: dropout is not supported; leave it at 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.original.attn_pdrop = 0.1; }),
            "llama.attn_pdrop=0.1: dropout is not supported; leave it at 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.original.fcm_max_ratio = 0.2; }),
            "llama.fcm_max_ratio=0.2: forgetful causal masking is not supported; leave it at 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.dtype = "fp16"; }),
            "dtype fp16 is not supported: it needs loss scaling; use bf16 or fp32");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.dtype = "float32"; }),
            "dtype 'float32' is not one of 'bf16', 'fp32'");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.logger.online = true; }),
            "logger.online=True is not supported: nothing is sent anywhere; every logged value is "
            "in metrics.jsonl under logger.output_dir");
}

TEST(Validate, Ranges) {
  EXPECT_EQ(refusal([](TrainConfig& c) { c.total_steps = 0; }),
            "total_steps must be at least 1, got 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.log_freq = 0; }), "log_freq must be at least 1, got 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.ring_sms = -1; }),
            "ring_sms must be 0 or a power of two up to 64, got -1");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.ring_sms = 12; }),
            "ring_sms must be 0 or a power of two up to 64, got 12");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.ring_sms = 128; }),
            "ring_sms must be 0 or a power of two up to 64, got 128");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.optimizer.accumulate_gradient_steps = 0; }),
            "optimizer.accumulate_gradient_steps must be at least 1, got 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.llama.scan_mlp_chunk_size = 0; }),
            "llama.scan_mlp_chunk_size must be at least 1, got 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.optimizer.adamw_optimizer.b2 = 1; }),
            "optimizer.adamw_optimizer.b2 must be in [0, 1), got 1");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.optimizer.adamw_optimizer.clip_gradient = 0; }),
            "optimizer.adamw_optimizer.clip_gradient must be greater than 0, got 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.optimizer.adamw_optimizer.lr_decay_steps = 2000; }),
            "optimizer.adamw_optimizer.lr_decay_steps counts the warm-up and must be greater than "
            "lr_warmup_steps: got 2000 and 2000");
  EXPECT_EQ(refusal([](TrainConfig& c) {
              c.optimizer.type = "palm";
              c.optimizer.adamw_optimizer.lr = -1;  // not in use
            }),
            "no error");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.timeout_s = 0; }),
            "timeout_s must be greater than 0, got 0");
  EXPECT_EQ(refusal([](TrainConfig&) {}, Command::kVerify),
            "--reference=FILE is missing: scripts/make_reference.py writes one");
}

TEST(Validate, RematByLayer) {
  const auto refused = [](const std::string& policy) {
    return refusal([&](TrainConfig& c) { c.llama.remat_block = policy; });
  };
  for (const char* valid : {"", "auto", "offload", "offload_input", "save_attention:32",
                            "offload:12,save_attention:20", "offload:0,dots_saveable:32"}) {
    EXPECT_EQ(refused(valid), "no error") << valid;
  }
  EXPECT_EQ(
      refused("all"),
      "llama.remat_block 'all' is not one of 'everything_saveable', 'dots_saveable', "
      "'save_attention', 'offload', 'nothing_saveable', 'offload_input', 'auto', nor a mix by "
      "layer such as 'offload:12,save_attention:20'");
  EXPECT_EQ(refused("offload:12,save:20").substr(0, 42),
            "llama.remat_block 'save' is not one of 'ev");
  EXPECT_EQ(refused("offload:12,save_attention:19"),
            "llama.remat_block 'offload:12,save_attention:19' names 31 layers, the model has 32");
  for (const char* text : {"offload:", "offload:x", "offload:12,save_attention", "offload:-1",
                           "offload:33", "offload:99999999999999999999"}) {
    EXPECT_NE(refused(text).find("a mix is POLICY:LAYERS,POLICY:LAYERS,... of 32 layers"),
              std::string::npos)
        << text << ": " << refused(text);
  }
  EXPECT_EQ(refusal([](TrainConfig& c) { c.llama.remat_attention = "offload"; }).substr(0, 46),
            "llama.remat_attention 'offload' is not one of ");
}

TEST(Validate, Plan) {
  const auto refused = [](const Change& change) { return refusal(change, Command::kPlan); };
  EXPECT_EQ(refused([](TrainConfig&) {}), "no error");
  EXPECT_EQ(refused([](TrainConfig& c) { c.plan.world_size = 0; }),
            "world_size must be at least 1, got 0");
  EXPECT_EQ(refused([](TrainConfig& c) { c.plan.ranks_per_host = -1; }),
            "ranks_per_host must be at least 0, got -1");
  EXPECT_EQ(refused([](TrainConfig& c) { c.plan.host_memory = "much"; }).substr(0, 29),
            "host_memory takes a size such");
}

TEST(Validate, ModelShape) {
  EXPECT_EQ(refusal([](TrainConfig& c) { c.llama.hidden_size = 0; }),
            "llama.hidden_size must be at least 1, got 0");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.llama.num_attention_heads = 31; }),
            "llama.hidden_size 4096 is not divisible by llama.num_attention_heads 31; give "
            "llama.head_dim if heads have another size");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.llama.head_dim = 99; }),
            "the size of a head must be even, since rotary positions turn pairs; got 99 "
            "(llama.head_dim, or llama.hidden_size / llama.num_attention_heads)");
  EXPECT_EQ(refusal([](TrainConfig& c) { c.llama.num_key_value_heads = 5; }),
            "llama.num_attention_heads 32 is not divisible by llama.num_key_value_heads 5");
}

TEST(Validate, DataSets) {
  const auto dataset_refusal = [](const Change& change) {
    TrainConfig config = valid_config();
    change(config);
    return error_text(
        [&] { validate_dataset("train_dataset", config.train_dataset, config.llama); });
  };
  const std::string pointer =
      "data is read from a jsonl file: make one with `scripts/prepare_data.py --out data/owt` and "
      "give --train_dataset.type=json "
      "--train_dataset.json_dataset.path=data/owt/openwebtext_train.jsonl";
  EXPECT_EQ(dataset_refusal([](TrainConfig& c) { c.train_dataset.json_dataset.path = ""; }),
            "train_dataset.json_dataset.path is not set; " + pointer);
  EXPECT_EQ(dataset_refusal([](TrainConfig& c) { c.train_dataset.type = "huggingface"; }),
            "train_dataset.json_dataset.path is not used by type=huggingface, which is not "
            "supported; " +
                pointer);
  EXPECT_EQ(dataset_refusal([](TrainConfig& c) { c.train_dataset.json_dataset.seq_length = 4096; }),
            "train_dataset.json_dataset.seq_length 4096 is longer than the model's "
            "llama.max_sequence_length 2048; raise the latter to train on longer sequences");
  EXPECT_EQ(dataset_refusal([](TrainConfig& c) { c.train_dataset.text_processor.fields = ""; }),
            "give one of train_dataset.text_processor.fields (got '') and "
            "train_dataset.text_processor.fields_from_example (got ''), such as fields='text'");
  EXPECT_EQ(
      dataset_refusal([](TrainConfig& c) { c.train_dataset.json_dataset.tokenizer_processes = 0; }),
      "train_dataset.json_dataset.tokenizer_processes must be at least 1, got 0");
}

TEST(Validate, ModelOnTheMesh) {
  ModelConfig model;
  model.num_key_value_heads = 8;
  EXPECT_NO_THROW(validate_model_on_mesh(model, {1, 1, 8, 4}));
  EXPECT_EQ(error_text([&] {
              validate_model_on_mesh(model, {1, 1, 16, 1});
            }),
            "llama.num_key_value_heads 8 is not divisible by tp 16; tp can be one of 1, 2, 4, 8 "
            "(--mesh_dim)");
  EXPECT_EQ(error_text([&] {
              validate_model_on_mesh(model, {1, 1, 3, 1});
            }),
            "llama.num_attention_heads 32 is not divisible by tp 3; tp can be one of 1, 2, 4, 8 "
            "(--mesh_dim)");
  model.intermediate_size = 11010;
  EXPECT_EQ(error_text([&] {
              validate_model_on_mesh(model, {1, 1, 4, 1});
            }),
            "llama.intermediate_size 11010 is not divisible by tp 4; tp can be one of 1, 2 "
            "(--mesh_dim)");
}

TEST(Validate, HeadsInUlyssesGroups) {
  ModelConfig model;
  model.num_attention_heads = 32;
  model.num_key_value_heads = 4;
  const auto refusal = [&](const MeshSizes& mesh) {
    return error_text([&] { validate_model_on_mesh(model, mesh); });
  };
  for (const std::int64_t ulysses : {1, 2, 4, 8, 16}) {
    EXPECT_EQ(refusal({1, 1, 1, 48, ulysses}), "no error") << ulysses;
  }
  EXPECT_EQ(refusal({1, 1, 2, 12, 3}),
            "3 ranks cannot exchange the 16 query heads and 2 key/value heads of a tp rank: their "
            "number must divide the former, and divide the latter or be a multiple of them; with "
            "sp 12 it can be one of 1, 2, 4 (--sp_type=hybrid --ulysses_size)");
  model.num_key_value_heads = 16;  // 32 heads, 12 ranks: neither divides the other
  EXPECT_NE(refusal({1, 1, 1, 12, 12}), "no error");
}

TEST(Validate, BatchOnTheMesh) {
  const auto batch_refusal = [](std::int64_t batch, std::int64_t length, const std::string& layout,
                                const MeshSizes& mesh) {
    return error_text(
        [&] { validate_batch_on_mesh(batch, length, layout, mesh, "batch_size", "seq_length"); });
  };
  EXPECT_EQ(batch_refusal(8, 1024, "auto", {2, 4, 1, 8}), "no error");
  EXPECT_EQ(batch_refusal(8, 1001, "auto", {1, 1, 1, 1}), "no error");
  EXPECT_EQ(batch_refusal(6, 1024, "auto", {2, 2, 1, 1}),
            "batch_size 6 is not divisible by dp x fsdp = 2 x 2 = 4; it is the batch over the "
            "whole mesh");
  EXPECT_EQ(batch_refusal(1, 1004, "striped", {1, 1, 1, 4}), "no error");
  EXPECT_EQ(batch_refusal(1, 1004, "auto", {1, 1, 1, 4}), "no error");  // striped
  EXPECT_EQ(batch_refusal(1, 1002, "auto", {1, 1, 1, 4}),
            "seq_length 1002 is not a multiple of 4, which --sp_layout=auto needs with sp 4; the "
            "nearest are 1000 and 1004");
  EXPECT_EQ(batch_refusal(1, 1004, "zigzag", {1, 1, 1, 4}),
            "seq_length 1004 is not a multiple of 8, which --sp_layout=zigzag needs with sp 4; the "
            "nearest are 1000 and 1008");
  EXPECT_EQ(batch_refusal(1, 1004, "zigzag", {1, 1, 1, 4, 2}), "no error");  // a ring of 2
  EXPECT_EQ(batch_refusal(1, 1004, "zigzag", {1, 1, 1, 4, 4}), "no error");  // no ring
  EXPECT_EQ(batch_refusal(1, 3, "contiguous", {1, 1, 1, 4}),
            "seq_length 3 is not a multiple of 4, which --sp_layout=contiguous needs with sp 4; "
            "the nearest are 4");
}

TEST(Validate, CheckpointKinds) {
  using Kind = CheckpointSource::Kind;
  EXPECT_EQ(parse_load_checkpoint("").kind, Kind::kNone);
  EXPECT_EQ(parse_load_checkpoint("params::a/b").kind, Kind::kParams);
  EXPECT_EQ(parse_load_checkpoint("params::a/b").path, "a/b");
  EXPECT_EQ(parse_load_checkpoint("trainstate::a").kind, Kind::kTrainState);
  EXPECT_EQ(parse_load_checkpoint("trainstate_params::a").kind, Kind::kTrainStateParams);
  const auto refused = [](const std::string& text) {
    return error_text([&] { parse_load_checkpoint(text); });
  };
  EXPECT_EQ(refused("a/b"),
            "load_checkpoint 'a/b' is not one of params::HF_DIR, trainstate::DIR, "
            "trainstate_params::DIR");
  EXPECT_NE(refused("params::"), "no error");
  EXPECT_NE(refused("flax_params::x").find("flax_params (a MessagePack file"), std::string::npos);
  EXPECT_NE(refused("params::out/streaming_params_100").find("is a MessagePack stream"),
            std::string::npos);
}

}  // namespace
}  // namespace ringtrain
