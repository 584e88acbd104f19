#include "support/small_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "support/golden.h"

namespace ringtrain {
namespace {

int ranks_of(const std::string& mesh) {
  int ranks = 1;
  std::istringstream sizes(mesh);
  for (std::string size; std::getline(sizes, size, ',');) ranks *= std::stoi(size);
  return ranks;
}

std::vector<std::string> on_cpu_mesh(const std::string& mesh, std::vector<std::string> arguments) {
  arguments.push_back("--mesh_dim=" + mesh);
  arguments.push_back("--device=cpu");
  return arguments;
}

}  // namespace

std::vector<StepMetrics> read_metrics(const std::filesystem::path& file) {
  std::vector<StepMetrics> records;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    StepMetrics& record = records.emplace_back();
    const auto json = nlohmann::json::parse(line);
    for (const auto& [key, value] : json.items()) {
      if (value.is_string()) continue;
      record[key] = value.is_null() ? std::nan("") : value.get<double>();
    }
  }
  return records;
}

::testing::AssertionResult wait_for_steps(const std::filesystem::path& output_directory,
                                          std::size_t steps) {
  constexpr int kTries = 6000;
  std::size_t logged = 0;
  for (int i = 0; i < kTries; ++i) {
    std::ifstream file(output_directory / "metrics.jsonl");
    logged = static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
    if (file.is_open() && logged >= steps) return ::testing::AssertionSuccess();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return ::testing::AssertionFailure() << "only " << logged << " of " << steps << " steps";
}

std::string read_text_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_text_file(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw std::runtime_error("cannot write " + file.string());
}

std::filesystem::path sample_data() {
  return std::filesystem::path(RT_SOURCE_DIR) / "tests/golden/data/sample.jsonl";
}

std::filesystem::path sample_tokenizer() {
  return std::filesystem::path(RT_SOURCE_DIR) / "tests/golden/data/tokenizer.model";
}

std::vector<std::string> small_run(const std::filesystem::path& output_directory,
                                   const std::vector<std::string>& more) {
  std::vector<std::string> arguments{
      "--load_llama_config=debug",
      "--update_llama_config=dict(hidden_size=32,intermediate_size=64,vocab_size=800)",
      "--dtype=fp32",
      "--total_steps=10",
      "--log_freq=1",
      "--tokenizer.vocab_file=" + sample_tokenizer().string(),
      "--train_dataset.json_dataset.path=" + sample_data().string(),
      "--train_dataset.text_processor.fields=text",
      "--train_dataset.json_dataset.seq_length=64",
      "--train_dataset.json_dataset.batch_size=4",
      "--optimizer.adamw_optimizer.lr=0.003",
      "--optimizer.adamw_optimizer.end_lr=0.0003",
      "--optimizer.adamw_optimizer.lr_warmup_steps=2",
      "--optimizer.adamw_optimizer.lr_decay_steps=40",
      "--checkpointer.save_optimizer_state=True",
      "--logger.output_dir=" + output_directory.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

ProgramResult run_on_cpu_mesh(const std::string& mesh, std::vector<std::string> arguments) {
  return run_program_on_ranks(ranks_of(mesh), on_cpu_mesh(mesh, std::move(arguments)));
}

ProgramResult train_on_mesh(const std::string& mesh, std::vector<std::string> arguments) {
  return run_process(train_command(mesh, std::move(arguments)));
}

std::vector<std::string> train_command(const std::string& mesh,
                                       std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "train");
  return command_on_ranks(ranks_of(mesh), on_cpu_mesh(mesh, std::move(arguments)));
}

}  // namespace ringtrain
