#include "option_section.h"

namespace ringtrain {
namespace {

void add_tokenizer_options(std::vector<Option>& table) {
  OptionSection<&TrainConfig::tokenizer> tokenizer(table, "tokenizer.", "Tokenizer", kTraining);
  tokenizer.add<&TokenizerConfig::vocab_file>("vocab_file", "SentencePiece model");
  tokenizer.add<&TokenizerConfig::add_bos_token>("add_bos_token",
                                                 "the tokenizer itself puts <s> before a text");
  tokenizer.add<&TokenizerConfig::add_eos_token>("add_eos_token",
                                                 "the tokenizer itself puts </s> after a text");
}

template <auto kDataset>
void add_text_options(std::vector<Option>& table, const std::string& prefix,
                      const std::string& group) {
  using T = TextProcessorConfig;
  OptionSection<kDataset, &DatasetConfig::text_processor> text(table, prefix + "text_processor.",
                                                               group, kTraining);
  text.template add<&T::fields>("fields",
                                "keys of a line to read: 'a,b', 'a+b' joined, '[a]' without loss");
  text.template add<&T::fields_from_example>("fields_from_example",
                                             "key of a line that holds its own `fields`");
  text.template add<&T::subfield_separator>("subfield_separator", "between a and b of 'a+b'");
  text.template add<&T::add_bos_token>("add_bos_token", "<s> before each example, without loss");
  text.template add<&T::add_eos_token>("add_eos_token", "</s> after each example, with loss");
  text.template add<&T::prepend_text>("prepend_text", "text before an example's first field");
}

template <auto kDataset>
void add_json_options(std::vector<Option>& table, const std::string& prefix,
                      const std::string& group) {
  using J = JsonDatasetConfig;
  OptionSection<kDataset, &DatasetConfig::json_dataset> json(table, prefix + "json_dataset.", group,
                                                             kTraining);
  json.template add<&J::path>("path", "file with one JSON object a line");
  json.template add<&J::seq_length>("seq_length", "tokens of a sequence");
  json.template add<&J::batch_size>("batch_size", "sequences of a batch, over the whole mesh");
  json.template add<&J::always_start_with_bos>("always_start_with_bos",
                                               "the first token of each sequence becomes <s>");
  json.template add<&J::start_seek_loc>("start_seek_loc", "where to begin in the file, bytes");
  json.template add<&J::example_index_at_start>("example_index_at_start",
                                                "number of the first example, for the metrics");
  json.template add<&J::tokens_count_at_start>("tokens_count_at_start",
                                               "tokens before the first, for the metrics");
  json.template add<&J::tokenizer_processes>("tokenizer_processes", "worker threads");
  json.template add<&J::tokenizer_parallel_chunk_size>("tokenizer_parallel_chunk_size",
                                                       "lines that a worker takes at a time");
  json.template add<&J::tokenizer_parallel_batch_size>("tokenizer_parallel_batch_size",
                                                       "lines read at a time for the workers");
  json.template add<&J::throughput_average_window_size>("throughput_average_window_size",
                                                        "batches in dataset_average_tps");
}

/// The original's loader of hub data sets: only its flags exist here.
template <auto kDataset>
void add_hub_options(std::vector<Option>& table, const std::string& prefix,
                     const std::string& group) {
  using H = HuggingfaceDatasetConfig;
  OptionSection<kDataset, &DatasetConfig::huggingface_dataset> hub(
      table, prefix + "huggingface_dataset.", group, kTraining);
  const std::string help = "of type=huggingface, which is refused";
  hub.template add<&H::path>("path", help).has_meaning = false;
  hub.template add<&H::name>("name", help).has_meaning = false;
  hub.template add<&H::split>("split", help).has_meaning = false;
  hub.template add<&H::streaming>("streaming", help).has_meaning = false;
  hub.template add<&H::seq_length>("seq_length", help).has_meaning = false;
  hub.template add<&H::batch_size>("batch_size", help).has_meaning = false;
  hub.template add<&H::always_start_with_bos>("always_start_with_bos", help).has_meaning = false;
}

template <auto kDataset>
void add_dataset_options(std::vector<Option>& table, const std::string& prefix,
                         const std::string& group) {
  OptionSection<kDataset> dataset(table, prefix, group, kTraining);
  dataset.template add<&DatasetConfig::type>("type", "json; empty: json if a path is given")
      .choices = {"", "json", "huggingface"};
  add_text_options<kDataset>(table, prefix, group);
  add_json_options<kDataset>(table, prefix, group);
  add_hub_options<kDataset>(table, prefix, group);
}

}  // namespace

void add_data_options(std::vector<Option>& table) {
  add_tokenizer_options(table);
  add_dataset_options<&TrainConfig::train_dataset>(table, "train_dataset.", "Training data");
  add_dataset_options<&TrainConfig::eval_dataset>(table, "eval_dataset.", "Evaluation data");
}

}  // namespace ringtrain
