#include "ringtrain/train/run_data.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/data/json_dataset.h"
#include "ringtrain/parallel/attention_balance.h"
#include "ringtrain/train/flops.h"

namespace ringtrain {
namespace {

/// Chooses the layout of each batch, and adds to its metrics what the time and the FLOP count of a
/// step depend on.
class MeasuredSource final : public BatchSource {
 public:
  MeasuredSource(std::unique_ptr<BatchSource> source, bool documents,
                 std::vector<SequenceLayout> layouts, int num_shards)
      : source_(std::move(source)),
        documents_(documents),
        layouts_(std::move(layouts)),
        num_shards_(num_shards) {
    if (!documents_) imbalance_ = attention_balance(layouts_.front(), {}, num_shards_).imbalance();
  }

  GlobalBatch next() override {
    GlobalBatch batch = source_->next();
    std::span<const std::int32_t> starts;  // none: one document a row, alike in every batch
    if (documents_) {
      starts = batch.document_starts;
      batch.layout = fastest_layout(layouts_, starts, num_shards_);
      imbalance_ = attention_balance(layouts_[batch.layout], starts, num_shards_).imbalance();
    }
    nlohmann::ordered_json metrics = nlohmann::ordered_json::parse(batch.metrics);
    metrics["attended_keys"] = mean_attended_keys(starts, batch.seq_length);
    metrics["attention_imbalance"] = imbalance_;
    metrics["sp_layout"] = name_of(layouts_[batch.layout].kind());
    batch.metrics = metrics.dump();
    return batch;
  }

 private:
  std::unique_ptr<BatchSource> source_;
  bool documents_;
  std::vector<SequenceLayout> layouts_;
  int num_shards_;  // of a batch
  double imbalance_ = 1;
};

}  // namespace

FittedTokenizer fit_tokenizer(World& world, const TokenizerConfig& config, bool fixed,
                              ModelConfig& model) {
  FittedTokenizer fitted;
  const std::string facts = ask_first_rank(world, [&] {
    fitted.tokenizer = std::make_shared<const Tokenizer>(config);
    if (fixed) check_vocabulary(*fitted.tokenizer, model.vocab_size);
    return nlohmann::json{{"vocab_size", fitted.tokenizer->vocab_size()},
                          {"bos", fitted.tokenizer->bos_id()},
                          {"eos", fitted.tokenizer->eos_id()}}
        .dump();
  });
  const auto known = nlohmann::json::parse(facts);
  const auto vocab_size = known["vocab_size"].get<std::int64_t>();
  model.bos_token_id = known["bos"].get<std::int64_t>();
  model.eos_token_id = known["eos"].get<std::int64_t>();
  if (vocab_size > model.vocab_size) {
    fitted.notice =
        fmt::format("vocab_size {} becomes {}, the tokenizer's", model.vocab_size, vocab_size);
    model.vocab_size = vocab_size;
  }
  return fitted;
}

std::unique_ptr<BatchFeeder> start_feeder(World& world, const std::string& name,
                                          const DatasetConfig& dataset, const TrainConfig& config,
                                          std::shared_ptr<const Tokenizer> tokenizer,
                                          const MeshShape& mesh, const std::string& resume_state) {
  const bool documents = config.packing == "documents";
  const std::vector<SequenceLayout> layouts = sequence_layouts(
      config.sp_layout, documents, dataset.json_dataset.seq_length, mesh.sp, mesh.ulysses);
  const auto open = [&]() -> std::unique_ptr<BatchSource> {
    DatasetOptions options;
    options.option_prefix = name;
    options.resume_state = resume_state;
    return std::make_unique<MeasuredSource>(
        open_dataset(dataset, std::move(tokenizer), std::move(options)), documents, layouts,
        mesh.num_batch_shards());
  };
  return std::make_unique<BatchFeeder>(
      world, open,
      FeederSettings{mesh, config.mesh_order, layouts,
                     CutOptions{parse_loss_reduction(config.loss_reduction), documents},
                     config.llama.vocab_size});
}

}  // namespace ringtrain
