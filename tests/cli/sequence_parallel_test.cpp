// Runs that share sequences, from the outside: what is refused, what the metrics say of the
// balance.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

using Options = std::vector<std::string>;

struct Trained {
  std::vector<StepMetrics> metrics;
  std::string text;  // of metrics.jsonl
  std::string output;
};

Trained trained(const std::string& mesh, const Options& options) {
  const TemporaryDirectory directory;
  const ProgramResult result = train_on_mesh(mesh, small_run(directory / "run", options));
  EXPECT_EQ(result.exit_code, 0) << result.output << result.errors;
  const auto file = directory / "run/metrics.jsonl";
  return {read_metrics(file), read_text_file(file), result.output + result.errors};
}

TEST(SequenceParallel, AllTypesGiveTheSameLosses) {
  const Trained one = trained("1,1,1,1", {"--packing=documents"});
  for (const Options& options :
       {Options{"--sp_type=ring", "--llama.attention_type=ring_blockwise"},
        Options{"--sp_type=ulysses"}, Options{"--sp_type=hybrid", "--ulysses_size=2"}}) {
    SCOPED_TRACE(options[0]);
    Options all{"--packing=documents"};
    all.insert(all.end(), options.begin(), options.end());
    const Trained four = trained("1,1,1,4", all);
    ASSERT_EQ(four.metrics.size(), one.metrics.size());
    for (std::size_t i = 0; i < one.metrics.size(); ++i) {
      const double expected = one.metrics[i].at("loss");
      EXPECT_NEAR(four.metrics[i].at("loss"), expected, 1e-4 * expected) << "step " << i;
    }
  }
}

TEST(SequenceParallel, MetricsHaveTheImbalance) {
  const Trained contiguous = trained("1,1,1,4", {"--sp_layout=contiguous"});
  const Trained even = trained("1,1,1,4", {});
  const Trained exchanged = trained("1,1,1,4", {"--sp_type=ulysses", "--sp_layout=contiguous"});
  for (const StepMetrics& step : contiguous.metrics) {
    EXPECT_NEAR(step.at("attention_imbalance"), 2 - 1.0 / 4, 0.05);
  }
  for (const StepMetrics& step : even.metrics) {
    EXPECT_NEAR(step.at("attention_imbalance"), 1, 0.05);
  }
  for (const StepMetrics& step : exchanged.metrics) EXPECT_EQ(step.at("attention_imbalance"), 1);
  EXPECT_NE(even.text.find("\"sp_layout\": \"zigzag\""), std::string::npos);
  EXPECT_NE(even.output.find("sp_layout zigzag,"), std::string::npos) << even.output;
}

TEST(SequenceParallel, DocumentsChooseTheLayoutOfTheirBatch) {
  const Trained documents = trained("1,1,1,4", {"--packing=documents"});
  EXPECT_NE(documents.output.find("sp_layout zigzag or striped,"), std::string::npos);
  bool differs = false;
  for (const StepMetrics& step : documents.metrics) {
    EXPECT_GE(step.at("attention_imbalance"), 1);
    EXPECT_LT(step.at("attention_imbalance"), 4);
    differs =
        differs || step.at("attention_imbalance") != documents.metrics[0].at("attention_imbalance");
  }
  EXPECT_TRUE(differs);
}

TEST(SequenceParallel, AnOddLengthIsStripedByAuto) {
  const Trained odd = trained("1,1,1,4", {"--train_dataset.json_dataset.seq_length=60"});
  EXPECT_NE(odd.output.find("sp_layout striped,"), std::string::npos) << odd.output;
}

TEST(SequenceParallel, ContradictionsAreRefused) {
  const auto refusal = [](const Options& options) {
    const TemporaryDirectory directory;
    const ProgramResult result = train_on_mesh("1,1,1,2", small_run(directory / "run", options));
    EXPECT_EQ(result.exit_code, 2) << result.output;
    return result.errors;
  };
  EXPECT_NE(refusal({"--sp_type=hybrid"}).find("one of 1, 2; got 0"), std::string::npos);
  EXPECT_NE(refusal({"--sp_type=ring", "--ulysses_size=2"}).find("contradicts --sp_type=ring"),
            std::string::npos);
  EXPECT_NE(refusal({"--sp_type=ulysses", "--llama.num_attention_heads=1"})
                .find("2 ranks cannot exchange the 1 query heads"),
            std::string::npos);
  EXPECT_NE(refusal({"--sp_type=star"}).find("'ring', 'ulysses', 'hybrid'"), std::string::npos);
}

}  // namespace
}  // namespace ringtrain
