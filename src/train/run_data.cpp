#include "ringtrain/train/run_data.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/data/json_dataset.h"
#include "ringtrain/train/flops.h"

namespace ringtrain {
namespace {

/// Adds to the metrics of each batch what the FLOP count of a step depends on.
class MeasuredSource final : public BatchSource {
 public:
  MeasuredSource(std::unique_ptr<BatchSource> source, bool documents)
      : source_(std::move(source)), documents_(documents) {}

  GlobalBatch next() override {
    GlobalBatch batch = source_->next();
    const std::span<const std::int32_t> none;
    const double keys =
        mean_attended_keys(documents_ ? std::span(batch.document_starts) : none, batch.seq_length);
    nlohmann::ordered_json metrics = nlohmann::ordered_json::parse(batch.metrics);
    metrics["attended_keys"] = keys;
    batch.metrics = metrics.dump();
    return batch;
  }

 private:
  std::unique_ptr<BatchSource> source_;
  bool documents_;
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
  const auto open = [&]() -> std::unique_ptr<BatchSource> {
    DatasetOptions options;
    options.option_prefix = name;
    options.resume_state = resume_state;
    return std::make_unique<MeasuredSource>(
        open_dataset(dataset, std::move(tokenizer), std::move(options)), documents);
  };
  return std::make_unique<BatchFeeder>(
      world, open,
      FeederSettings{mesh, config.mesh_order,
                     sequence_layouts(config.sp_layout, documents, dataset.json_dataset.seq_length,
                                      mesh.sp, mesh.ulysses),
                     CutOptions{parse_loss_reduction(config.loss_reduction), documents},
                     config.llama.vocab_size});
}

}  // namespace ringtrain
