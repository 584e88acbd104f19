// What a rank sends in a step, counted on the meta device, against closed formulas.
#include "ringtrain/comm/wire_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <string>

#include "ringtrain/train/engine.h"
#include "ringtrain/train/memory_plan.h"

namespace ringtrain {
namespace {

constexpr std::int64_t kLayers = 5, kHidden = 128, kHeads = 4, kHeadDim = 32;
constexpr std::int64_t kFfn = 256, kVocabulary = 512, kTokens = 64;

struct WireCase {
  std::string name;
  MeshShape mesh;
  std::string attention_type = "ring_blockwise";
  std::string dtype = "fp32";
  std::int64_t batch = 8;
  std::int64_t kv_heads = 2;
};
std::ostream& operator<<(std::ostream& out, const WireCase& c) {
  return out << c.mesh.to_string() << " " << c.attention_type << " " << c.dtype << " batch "
             << c.batch << ", " << c.kv_heads << " key/value heads";
}

TrainConfig config_of(const WireCase& c) {
  TrainConfig config;
  config.dtype = c.dtype;
  config.train_dataset.json_dataset.batch_size = c.batch;
  config.train_dataset.json_dataset.seq_length = kTokens;
  ModelConfig& model = config.llama;
  model.vocab_size = kVocabulary;
  model.hidden_size = kHidden;
  model.intermediate_size = kFfn;
  model.num_hidden_layers = kLayers;
  model.num_attention_heads = kHeads;
  model.num_key_value_heads = c.kv_heads;
  model.attention_type = c.attention_type;
  model.remat_block = model.remat_attention = model.remat_mlp = "";
  return config;
}

using Bytes = std::map<WireBytes::Key, std::int64_t>;

Bytes count(const WireCase& c) {
  WireBytes sent;
  plan_memory(
      {c.mesh, {}, DeviceType::kCpu, dtype_from_name(c.dtype)},
      [&](Context& meta) {
        Engine(meta, config_of(c), {.train = true, .evaluate = false}).rehearse();
      },
      &sent);
  Bytes bytes;
  for (const auto& [key, counted] : sent.counts()) {
    bytes[key] = static_cast<std::int64_t>(counted.bytes);
  }
  return bytes;
}

Bytes formula(const WireCase& c) {
  const std::int64_t tp = c.mesh.tp, sp = c.mesh.sp, dp = c.mesh.dp, shards = c.mesh.fsdp * sp;
  const std::int64_t compute = c.dtype == "bf16" ? 2 : 4, fp32 = 4, fp64 = 8;
  const std::int64_t sequences = c.batch / (dp * c.mesh.fsdp);
  const std::int64_t rows = sequences * kTokens / sp;  // tokens of a rank

  // Units as flat buffers: each shard is padded to 128 elements.
  const auto padded = [&](std::int64_t elements) {
    return (elements + 128 * shards - 1) / (128 * shards) * (128 * shards);
  };
  const std::int64_t embedding = padded(kVocabulary * kHidden / tp);
  const std::int64_t head = padded(kVocabulary * kHidden / tp + kHidden);
  const std::int64_t attention = 2 * kHidden * (kHeads + c.kv_heads) * kHeadDim;
  const std::int64_t layer = padded((attention + 3 * kHidden * kFfn) / tp + 2 * kHidden);
  const std::int64_t num_tensors = 9 * kLayers + 3;
  // In a ring of ulysses groups: heads of a rank, and keys and values of a group for these heads.
  const std::int64_t ulysses = c.mesh.ulysses, ring = sp / ulysses;
  const std::int64_t heads = kHeads / tp / ulysses;
  const std::int64_t kv_heads = std::max<std::int64_t>(c.kv_heads / tp / ulysses, 1);
  const std::int64_t key_value = 2 * rows * ulysses * kv_heads * kHeadDim;

  Bytes bytes;
  if (shards > 1) {
    // Every unit for the forward pass; for the backward pass all layers but the last two, which
    // are still there.
    const std::int64_t gathered = embedding + head + (2 * kLayers - 2) * layer;
    const std::int64_t reduced = embedding + head + kLayers * layer;
    bytes[{"param", "all_gather"}] = (shards - 1) * gathered * compute / shards;
    bytes[{"param", "reduce_scatter"}] = (shards - 1) * reduced * fp32 / shards;
    bytes[{"param", "all_reduce"}] = 2 * (shards - 1) * num_tensors * fp64 / shards;
  }
  if (dp > 1) {
    bytes[{"dp", "all_reduce"}] =
        2 * (dp - 1) * (embedding + head + kLayers * layer) / shards * fp32 / dp;
  }
  if (tp > 1) {
    // The embedding, twice a layer and pass, and the gradient of the head's input; then maximum,
    // sum, target and prediction of each token's logits; then the norm of the gradient.
    const std::int64_t activations = (2 + 4 * kLayers) * rows * kHidden * compute;
    bytes[{"tp", "all_reduce"}] =
        2 * (tp - 1) * (activations + 4 * rows * fp32 + num_tensors * fp64) / tp;
  }
  if (ring > 1 && c.attention_type == "ring_blockwise") {
    // Half of the gradients are P - 1 hops under way, the others P; of several sequences whole
    // ones.
    const std::int64_t first =
        sequences > 1 ? key_value / sequences * (sequences / 2) : key_value / 2;
    bytes[{"sp", "exchange"}] =
        kLayers * (2 * (ring - 1) * key_value * compute + (ring * key_value - first) * fp32);
  } else if (ring > 1) {
    bytes[{"sp", "all_gather"}] = kLayers * 2 * (ring - 1) * key_value * compute;
    bytes[{"sp", "reduce_scatter"}] = kLayers * (ring - 1) * key_value * fp32;
  }
  if (ulysses > 1) {
    // Of each token to every other rank: query, key, value and output forward; the first three
    // and the output's gradient backward, its row sums, and the gradients of the first three.
    const std::int64_t moved = (4 * heads + 4 * kv_heads) * kHeadDim * compute;
    const std::int64_t gradients = ((heads + 2 * kv_heads) * kHeadDim + heads) * fp32;
    bytes[{"ulysses", "exchange"}] = kLayers * (ulysses - 1) * rows * (moved + gradients);
  }
  return bytes;
}

class WireBytesOfAStep : public ::testing::TestWithParam<WireCase> {};

TEST_P(WireBytesOfAStep, FollowTheFormula) {
  EXPECT_EQ(count(GetParam()), formula(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(
    Meshes, WireBytesOfAStep,
    ::testing::Values(
        WireCase{"one", {}}, WireCase{"fsdp", {1, 4, 1, 1}}, WireCase{"dp", {2, 1, 1, 1}},
        WireCase{"tp", {1, 1, 2, 1}}, WireCase{"ring", {1, 1, 1, 4}},
        WireCase{"ring_bf16", {1, 1, 1, 4}, "ring_blockwise", "bf16"},
        WireCase{"ring_of_one_sequence", {1, 1, 1, 4}, "ring_blockwise", "fp32", 1},
        WireCase{"ring_of_three", {1, 1, 1, 4}, "ring_blockwise", "fp32", 3},
        WireCase{"gathered", {1, 1, 1, 4}, "blockwise"}, WireCase{"ulysses", {1, 1, 1, 4, 4}},
        WireCase{"head_groups", {1, 1, 1, 2, 2}, "blockwise", "bf16", 8, 4},
        WireCase{"hybrid_head_groups", {1, 1, 1, 4, 2}, "ring_blockwise", "bf16", 8, 4},
        WireCase{"hybrid_bf16", {1, 1, 1, 8, 2}, "ring_blockwise", "bf16"},
        WireCase{"hybrid_gathered", {1, 2, 2, 4, 2}, "blockwise"},
        WireCase{"all", {2, 2, 2, 4}, "ring_blockwise", "bf16"},
        WireCase{"all_gathered", {2, 2, 2, 2}, "standard", "bf16"}),
    [](const auto& each) { return each.param.name; });

// Calls over tp in a step of one sequence of `tokens`, beside the embedding, the head's four and
// the norm of the gradient.
std::int64_t num_sums_of_layers(std::int64_t tokens, std::int64_t mlp_chunk_size) {
  TrainConfig config = config_of({.name = "tp", .mesh = {.tp = 2}, .batch = 1});
  config.train_dataset.json_dataset.seq_length = tokens;
  config.loss_chunk_size = tokens;
  config.llama.scan_mlp = mlp_chunk_size > 0;
  if (config.llama.scan_mlp) config.llama.scan_mlp_chunk_size = mlp_chunk_size;
  WireBytes sent;
  plan_memory(
      {{.tp = 2}, {}, DeviceType::kCpu, DType::kFloat32},
      [&](Context& meta) { Engine(meta, config, {.train = true, .evaluate = false}).rehearse(); },
      &sent);
  return static_cast<std::int64_t>(sent.counts().at({"tp", "all_reduce"}).calls) - 6;
}

TEST(SumsOverTp, AreCutLikeTheFeedForwardBlock) {
  const auto of_pieces = [](std::int64_t pieces) { return kLayers * (3 * pieces + 1); };
  EXPECT_EQ(num_sums_of_layers(2048, 300), of_pieces(7));
  EXPECT_EQ(num_sums_of_layers(2048, 2048), of_pieces(1));
  // Not chunked: four pieces, or as many as have 1024 tokens.
  EXPECT_EQ(num_sums_of_layers(16384, 0), of_pieces(4));
  EXPECT_EQ(num_sums_of_layers(16385, 0), of_pieces(4));
  EXPECT_EQ(num_sums_of_layers(2050, 0), of_pieces(2));
  EXPECT_EQ(num_sums_of_layers(2046, 0), of_pieces(1));
}

TEST(SentBytes, FollowRingAlgorithms) {
  EXPECT_EQ(sent_bytes("all_gather", 800, 8), 700u);
  EXPECT_EQ(sent_bytes("reduce_scatter", 800, 8), 700u);
  EXPECT_EQ(sent_bytes("all_to_all", 800, 8), 700u);
  EXPECT_EQ(sent_bytes("all_reduce", 800, 8), 1400u);
  EXPECT_EQ(sent_bytes("all_reduce", 3, 2), 3u);
  EXPECT_EQ(sent_bytes("all_gather", 3, 2), 2u);  // rounded up
  EXPECT_EQ(sent_bytes("all_reduce", 800, 1), 0u);
}

TEST(WireBytes, CountsWhatObservedGroupsSend) {
  const auto device = make_meta_device();
  const auto stream = device->make_stream(StreamPriority::kNormal);
  Arena arena = Arena::measuring();
  const Tensor tensor = arena.allocate({100}, DType::kFloat32, MemoryKind::kBatch);
  WireBytes sent;
  for (int rank = 0; rank < 4; ++rank) {
    const auto group = make_observed_communicator(make_meta_communicator("tp", rank, 4), sent);
    group->broadcast(tensor, 2, *stream);  // rank 1 is the last of the ring
    const Transfer next{tensor, (rank + 1) % 4, tensor, (rank + 3) % 4};
    const Transfer to_itself{tensor, rank, tensor, rank};
    group->exchange(std::array{next, to_itself}, *stream);
  }
  EXPECT_EQ(sent.counts().at({"tp", "broadcast"}).bytes, 3 * 400u);
  EXPECT_EQ(sent.counts().at({"tp", "exchange"}).bytes, 4 * 400u);
  EXPECT_EQ(sent.counts().at({"tp", "exchange"}).calls, 4);
  EXPECT_EQ(sent.total(), 7 * 400u);
  EXPECT_NE(sent.to_table().find("tp      broadcast            3 calls"), std::string::npos)
      << sent.to_table();
}

}  // namespace
}  // namespace ringtrain
