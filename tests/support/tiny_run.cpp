#include "support/tiny_run.h"

#include "ringtrain/data/cut_batch.h"
#include "ringtrain/train/engine.h"
#include "support/host_tensor.h"

namespace ringtrain {
namespace {

constexpr std::int64_t kRows = 4;
constexpr std::int64_t kTokens = 48;
constexpr std::int64_t kVocabulary = 97;  // tp pads it

}  // namespace

TrainConfig tiny_config(const TinyRun& run) {
  TrainConfig config;
  config.dtype = run.dtype;
  config.sp_type = run.sp_type;
  config.ulysses_size = run.ulysses_size;
  config.sp_layout = run.layout;
  config.packing = run.documents ? "documents" : "none";
  config.loss_reduction = run.loss_reduction;
  config.loss_chunk_size = 11;
  config.train_dataset.json_dataset.batch_size = kRows;
  config.train_dataset.json_dataset.seq_length = kTokens;
  ModelConfig& model = config.llama;
  model.vocab_size = kVocabulary;
  model.hidden_size = 48;
  model.intermediate_size = 88;
  model.num_hidden_layers = run.layers;
  model.num_attention_heads = 4;
  model.num_key_value_heads = run.kv_heads;
  model.initializer_range = 0.1;
  model.tie_word_embeddings = run.tied;
  model.attention_type = run.attention_type;
  model.scan_query_chunk_size = 7;  // chunks that divide nothing
  model.scan_key_chunk_size = 5;
  model.scan_mlp = true;
  model.scan_mlp_chunk_size = 13;
  model.remat_block = run.remat_block;
  model.remat_attention = run.remat_attention;
  model.remat_mlp = run.remat_mlp;
  config.offload_optimizer = run.offload_optimizer;
  config.grad_dtype = run.grad_dtype;
  config.optimizer.type = run.optimizer;
  config.optimizer.accumulate_gradient_steps = run.accumulate;
  config.optimizer.adamw_optimizer.lr = 3e-3;
  config.optimizer.adamw_optimizer.lr_warmup_steps = 2;
  config.optimizer.adamw_optimizer.lr_decay_steps = 100;
  config.optimizer.palm_optimizer.lr = 1e-3;
  config.optimizer.palm_optimizer.lr_warmup_steps = 4;
  return config;
}

GlobalBatch tiny_batch(const TinyRun& run, int step) {
  GlobalBatch batch;
  batch.batch_size = kRows;
  batch.seq_length = kTokens;
  const std::int64_t n = kRows * kTokens;
  const auto seed = static_cast<std::uint64_t>(step % 3);  // so that there is something to learn
  batch.inputs = random_integers(n, 0, kVocabulary, seed);
  batch.targets = random_integers(n, 0, kVocabulary, 100 + seed);
  const std::vector<std::int32_t> coin = random_integers(n, 0, 3, 200 + seed);
  const std::vector<std::int32_t> die = random_integers(n, 0, 9, 300 + seed);
  std::int32_t begin = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = i / kTokens;
    const auto position = static_cast<std::int32_t>(i % kTokens);
    // Row 1 has no valid token, row 2 none in its second half: whole ranks without loss.
    const bool hidden =
        run.masked && (row == 1 || (row == 2 && position >= kTokens / 2) || coin[i] == 0);
    batch.loss_masks.push_back(hidden ? 0.0f : 1.0f);
    if (position == 0) begin = 0;
    if (die[i] == 0) begin = position;
    batch.document_starts.push_back(begin);
  }
  return batch;
}

Curve run_tiny(Context& context, const TinyRun& run, int steps) {
  const TrainConfig config = tiny_config(run);
  Engine engine(context, config, {.train = true, .evaluate = false});
  engine.parameters().initialise(run.seed, config.llama.initializer_range);
  const Mesh& mesh = context.mesh;
  Curve curve;
  double denominator = 0;
  for (int step = 0; step < steps; ++step) {
    GlobalBatch whole = tiny_batch(run, step);
    const auto& layouts = engine.trainer().layouts();
    whole.layout = static_cast<std::size_t>(step) % layouts.size();
    const LocalBatch batch = cut_batch(
        whole, layouts[whole.layout], mesh.batch_shard(), mesh.shape.num_batch_shards(),
        mesh.coordinates.sp, {parse_loss_reduction(config.loss_reduction), run.documents});
    engine.zero_totals();
    engine.train(batch);
    denominator += batch.denominator;
    curve.losses.push_back(engine.read_totals().loss / batch.denominator);
    if ((step + 1) % run.accumulate == 0) {
      engine.update(denominator);
      denominator = 0;
      curve.norms.push_back(engine.read_gradient_norm());
      curve.param_norms.push_back(engine.read_param_norm());
    }
  }
  return curve;
}

}  // namespace ringtrain
