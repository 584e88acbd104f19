#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/program.h"

namespace ringtrain {

/// The numbers that a log step has in metrics.jsonl; null is NaN.
using StepMetrics = std::map<std::string, double>;
/// The records of a metrics file, in order; none where it is not there.
std::vector<StepMetrics> read_metrics(const std::filesystem::path& file);

/// Waits until a run in `output_directory` has begun and logged so many steps, for a minute at
/// most.
::testing::AssertionResult wait_for_steps(const std::filesystem::path& output_directory,
                                          std::size_t steps);

std::string read_text_file(const std::filesystem::path& file);
void write_text_file(const std::filesystem::path& file, const std::string& text);

/// The small text and tokenizer of tests/golden/data: 62 lines, of which one is broken.
std::filesystem::path sample_data();
std::filesystem::path sample_tokenizer();

/// Arguments of `ringtrain train` for ten steps of 4 x 64 tokens of sample_data() with a model of
/// 2 layers of 32 and AdamW, in fp32, every step logged and the whole train state saved where
/// anything is. Later arguments change that.
std::vector<std::string> small_run(const std::filesystem::path& output_directory,
                                   const std::vector<std::string>& more = {});

/// `ringtrain train` on the CPU ranks that "dp,fsdp,tp,sp" needs.
ProgramResult train_on_mesh(const std::string& mesh, std::vector<std::string> arguments);
/// Likewise any subcommand, its name first.
ProgramResult run_on_cpu_mesh(const std::string& mesh, std::vector<std::string> arguments);
/// What train_on_mesh starts.
std::vector<std::string> train_command(const std::string& mesh, std::vector<std::string> arguments);

}  // namespace ringtrain
