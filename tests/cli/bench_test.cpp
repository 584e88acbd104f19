// ringtrain bench on the CPU: what it prints; times themselves are not judged.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "ringtrain/bench/attention_bench.h"
#include "ringtrain/bench/ffn_bench.h"
#include "ringtrain/bench/membound_bench.h"
#include "ringtrain/bench/step_bench.h"
#include "support/program.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

ProgramResult bench_part(const std::string& part, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"bench", part, "--device=cpu"});
  arguments.insert(arguments.end(), {"--warmups=1", "--runs=3"});
  return run_program(arguments);
}

ProgramResult bench(const std::vector<std::string>& arguments) {
  return bench_part("attention", arguments);
}

std::vector<nlohmann::json> rows_of(const std::string& output) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

TEST(Bench, TimesEveryDirectionOfAShape) {
  const ProgramResult result =
      bench({"--head_dim=16", "--heads=4", "--kv_heads=2", "--seq_length=64", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<nlohmann::json> rows = rows_of(result.output);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].at("direction"), "forward");
  EXPECT_EQ(rows[1].at("direction"), "backward");
  EXPECT_EQ(rows[2].at("direction"), "backward_step");
  for (const nlohmann::json& row : rows) {
    EXPECT_EQ(row.at("kv_heads"), 2);
    EXPECT_GT(row.at("median_ms").get<double>(), 0);
    EXPECT_GT(row.at("tflops").get<double>(), 0);
  }
}

TEST(Bench, TakesCasesFromAFile) {
  const TemporaryDirectory directory;
  const std::string file = directory / "cases";
  std::ofstream(file) << "16 2 1 32 1 1 forward\n\n8 1 1 16 2 0 backward\n";
  const ProgramResult result = bench({"--shapes=" + file, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<nlohmann::json> rows = rows_of(result.output);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("causal"), true);
  EXPECT_EQ(rows[1].at("causal"), false);
  EXPECT_EQ(rows[1].at("batch"), 2);
}

TEST(Bench, RefusesWhatItCannotTime) {
  const auto refuses = [](const std::vector<std::string>& arguments, const std::string& why) {
    const ProgramResult result = bench(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_NE(result.errors.find(why), std::string::npos) << result.errors;
    EXPECT_EQ(result.output, "");
  };
  refuses({"--heads=3", "--kv_heads=2"}, "kv_heads 2 does not divide heads 3");
  refuses({"--seq_length=0"}, "--seq_length takes an integer of at least 1");
  refuses({"--direction=sideways"}, "'sideways' is none of forward");
  refuses({"--seq_length=64", "--shapes=-"}, "--shapes says all of a case");
  refuses({}, "the standard table is for a GPU");
  EXPECT_EQ(run_program({"bench", "everything"}).exit_code, 2);
}

TEST(BenchFfn, TimesEveryDirectionOfAShape) {
  const ProgramResult result =
      bench_part("ffn", {"--tokens=24", "--hidden=16", "--ffn=40", "--chunk=10", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<nlohmann::json> rows = rows_of(result.output);
  const std::vector<std::string_view> directions = ffn_pass_names();
  ASSERT_EQ(rows.size(), directions.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].at("direction"), directions[i]);
    EXPECT_EQ(rows[i].at("chunk"), 10);
    EXPECT_GT(rows[i].at("median_ms").get<double>(), 0);
  }
}

TEST(BenchFfn, TakesCasesFromAFileAndRefusesOthers) {
  const TemporaryDirectory directory;
  const std::string file = directory / "cases";
  std::ofstream(file) << "8 16 24 0 forward_keeping\n";
  const ProgramResult result = bench_part("ffn", {"--shapes=" + file, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(rows_of(result.output).at(0).at("ffn"), 24);
  EXPECT_EQ(bench_part("ffn", {"--tokens=0"}).exit_code, 2);
  EXPECT_EQ(bench_part("ffn", {"--tokens=8", "--direction=sideways"}).exit_code, 2);
  EXPECT_EQ(bench_part("ffn", {}).exit_code, 2);
}

TEST(BenchFfn, CountsTheBackwardPassTwice) {
  FfnBenchCase what{.tokens = 3, .hidden = 5, .ffn = 7};
  EXPECT_EQ(what.flops(), 6.0 * 3 * 5 * 7);
  what.pass = FfnPass::kBackwardRepeating;
  EXPECT_EQ(what.flops(), 12.0 * 3 * 5 * 7);
}

const std::vector<std::string> kSmallSizes{"--tokens=32",      "--hidden=64",   "--heads=4",
                                           "--kv_heads=2",     "--head_dim=16", "--vocabulary=50",
                                           "--parameters=1000"};

TEST(BenchMembound, TimesEveryOperationBesideACopy) {
  std::vector<std::string> arguments = kSmallSizes;
  arguments.push_back("--json");
  const ProgramResult result = bench_part("membound", arguments);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<nlohmann::json> rows = rows_of(result.output);
  const std::vector<std::string_view> operations = membound_operations();
  ASSERT_EQ(rows.size(), operations.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].at("operation"), operations[i]);
    EXPECT_GT(rows[i].at("gb_per_s").get<double>(), 0);
    EXPECT_GT(rows[i].at("share_of_copy").get<double>(), 0);
  }
  EXPECT_EQ(rows[0].at("share_of_copy"), 1);
}

TEST(BenchMembound, CountsEveryByteOnce) {
  const auto bytes_of = [](const std::string& operation) {
    std::vector<std::string> arguments = kSmallSizes;
    arguments.insert(arguments.end(), {"--operation=" + operation, "--json"});
    const ProgramResult result = bench_part("membound", arguments);
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return rows_of(result.output).back().at("bytes").get<double>();
  };
  EXPECT_EQ(bytes_of("adamw"), 1000 * (3 * 8 + 4 + 2));  // masters, moments; gradient; bf16
  EXPECT_EQ(bytes_of("rms_norm"), 32 * 64 * 2 * 2 + 64 * 2 + 32 * 4);
  EXPECT_EQ(bytes_of("rope_split"), 32 * 8 * 16 * 2 * 2 + 32 * 4);
  EXPECT_EQ(bench_part("membound", {"--operation=sideways"}).exit_code, 2);
}

std::vector<std::string> small_step(const std::vector<std::string>& more) {
  std::vector<std::string> arguments{"--load_llama_config=debug",
                                     "--train_dataset.json_dataset.seq_length=64",
                                     "--train_dataset.json_dataset.batch_size=2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(BenchStep, RunsTrainingSteps) {
  const ProgramResult result = bench_part("step", small_step({"--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const nlohmann::json row = rows_of(result.output).at(0);
  const double step_ms = row.at("step_ms");
  EXPECT_GT(step_ms, 0);
  EXPECT_NEAR(row.at("tokens_per_s").get<double>(), 2 * 64 / step_ms * 1e3, 1e-3);
  EXPECT_GT(row.at("arena_bytes").get<std::size_t>(), 0u);
  EXPECT_EQ(row.at("arena_peak_bytes"), row.at("arena_bytes"));
  EXPECT_NEAR(row.at("loss").get<double>(), std::log(32000), 0.2);  // nothing to be learnt
  std::map<std::string, int> counts;
  for (const nlohmann::json& phase : row.at("phases"))
    counts[phase.at("phase")] = phase.at("count");
  EXPECT_EQ(counts["forward layer"], 2);
  EXPECT_EQ(counts["backward layer"], 2);
  EXPECT_EQ(counts["attention backward"], 2);
  EXPECT_EQ(counts["update"], 1);
}

TEST(BenchStep, ShowsWhatALayerRepeats) {
  const auto attention_of = [](const std::string& policy) {
    const ProgramResult result =
        bench_part("layer", small_step({"--json", "--llama.remat_block=" + policy}));
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    const nlohmann::json row = rows_of(result.output).at(0);
    int count = 0;
    for (const nlohmann::json& phase : row.at("phases")) {
      if (phase.at("phase") == "attention forward") count += phase.at("count").get<int>();
    }
    return count;
  };
  EXPECT_EQ(attention_of("save_attention"), 2);
  EXPECT_EQ(attention_of("nothing_saveable"), 4);
}

TEST(BenchStep, RefusesWhatItCannotTime) {
  EXPECT_EQ(bench_part("step", small_step({"--llama.num_attention_heads=3"})).exit_code, 2);
  EXPECT_EQ(run_program({"bench", "step", "--device=cpu", "--runs=0"}).exit_code, 2);
}

TEST(StepPhases, GathersNumberedRegionsByNesting) {
  const std::vector<StepPhase> phases = step_phases({{"forward layer 0", 0, 0.0, 0.003, "", 0},
                                                     {"attention", 0, 0.001, 0.002, "", 0},
                                                     {"gather layer 1", 2, 0.0, 0.009, "", 0},
                                                     {"forward layer 1", 0, 0.003, 0.008, "", 0},
                                                     {"attention", 0, 0.004, 0.006, "", 0},
                                                     {"attention", 0, 0.008, 0.009, "", 0}});
  ASSERT_EQ(phases.size(), 3u);
  EXPECT_EQ(phases[0].name, "forward layer");
  EXPECT_EQ(phases[0].count, 2);
  EXPECT_NEAR(phases[0].ms, 8, 1e-9);
  EXPECT_EQ(phases[1].depth, 1);
  EXPECT_EQ(phases[1].count, 2);
  EXPECT_NEAR(phases[1].ms, 3, 1e-9);
  EXPECT_EQ(phases[2].depth, 0);
  EXPECT_NEAR(phases[2].ms, 1, 1e-9);
}

TEST(Bench, CountsCausalAttentionHalf) {
  AttentionBenchCase what{.head_dim = 8, .heads = 2, .kv_heads = 1, .seq_length = 16, .batch = 3};
  EXPECT_EQ(what.flops(), 4.0 * 3 * 16 * 16 * 2 * 8 / 2);
  what.causal = false;
  what.pass = AttentionPass::kBackward;
  EXPECT_EQ(what.flops(), 10.0 * 3 * 16 * 16 * 2 * 8);
}

ProgramResult bench_ring(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(),
                   {"bench", "ring", "--device=cpu", "--heads=4", "--kv_heads=2", "--head_dim=16",
                    "--seq_length=32", "--link_gbps=1", "--warmups=1", "--runs=2"});
  return run_program(arguments);
}

TEST(BenchRing, TimesBothPassesAgainstALink) {
  const ProgramResult result = bench_ring({"--sp=4", "--rank=3", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<nlohmann::json> rows = rows_of(result.output);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].at("direction"), "forward");
  EXPECT_EQ(rows[1].at("direction"), "backward");
  EXPECT_EQ(rows[2].at("direction"), "both");
  for (const nlohmann::json& row : rows) {
    EXPECT_EQ(row.at("sp"), 4);
    EXPECT_EQ(row.at("rank"), 3);
    EXPECT_GT(row.at("ratio").get<double>(), 0);
    EXPECT_GE(row.at("exposed_share").get<double>(), 0);
  }
  EXPECT_GT(rows[1].at("hidden_from").get<int>(), 0);
  const ProgramResult table = bench_ring({"--sp=2"});
  EXPECT_EQ(table.exit_code, 0) << table.errors;
  EXPECT_NE(table.output.find("c >= F/B"), std::string::npos) << table.output;
}

TEST(BenchRing, ChecksTheRingAgainstUnsplitAttention) {
  const ProgramResult result =
      bench_ring({"--sp=3", "--check", "--ring_gradient_dtype=bf16", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<nlohmann::json> rows = rows_of(result.output);
  ASSERT_EQ(rows.size(), 3u);
  for (const nlohmann::json& row : rows) {
    EXPECT_LE(row.at("ring").get<double>(), row.at("tolerance").get<double>());
  }
  EXPECT_EQ(rows[2].at("quantity"), "dkey and dvalue");
}

TEST(BenchRing, WritesATraceThatCanBeDrawn) {
  const TemporaryDirectory directory;
  const std::string trace = directory / "trace.json";
  const std::string picture = directory / "trace.svg";
  ASSERT_EQ(bench_ring({"--sp=4", "--trace=" + trace}).exit_code, 0);
  const ProgramResult drawn =
      run_process({"python3", RT_SOURCE_DIR "/scripts/plot_trace.py", trace, "--out", picture});
  ASSERT_EQ(drawn.exit_code, 0) << drawn.errors;
  std::stringstream svg;
  svg << std::ifstream(picture).rdbuf();
  for (const char* legend : {"attention forward", "attention backward", "keys and values travel",
                             "gradients travel", "rank 0, ring"}) {
    EXPECT_NE(svg.str().find(legend), std::string::npos) << legend;
  }
}

TEST(BenchRing, RefusesWhatIsNoRing) {
  const auto refuses = [](const std::string& argument, const std::string& why) {
    const ProgramResult result = bench_ring({argument});
    EXPECT_EQ(result.exit_code, 2) << argument << result.output;
    EXPECT_NE(result.errors.find(why), std::string::npos) << result.errors;
  };
  refuses("--rank=8", "rank 8 is not on a ring of 8");
  refuses("--kv_heads=3", "kv_heads 3 does not divide heads 4");
  refuses("--link_gbps=0", "needs a rate above 0");
  refuses("--link_gbps=fast", "--link_gbps takes a number");
  refuses("--ring_transport=nvlink", "expected copy or sm");
  refuses("--ring_sms=0", "ring_sms");
  refuses("--sp_layout=diagonal", "--sp_layout=diagonal is unknown");
}

TEST(BenchSp, TimesAttentionOfAllRanksBesideOneKernel) {
  for (const char* sp_type : {"ring", "ulysses"}) {
    std::vector<std::string> arguments = small_step({"--json"});
    arguments.insert(
        arguments.begin(),
        {"bench", "sp", "--device=cpu", "--warmups=1", "--runs=2", "--mesh_dim=1,1,1,2",
         "--llama.attention_type=ring_blockwise", std::string("--sp_type=") + sp_type});
    const ProgramResult result = run_program_on_ranks(2, arguments);
    ASSERT_EQ(result.exit_code, 0) << result.errors;
    const std::vector<nlohmann::json> rows = rows_of(result.output);
    ASSERT_EQ(rows.size(), 3u);
    for (const nlohmann::json& row : rows) {
      EXPECT_EQ(row.at("sp_type"), sp_type);
      EXPECT_EQ(row.at("sp"), 2);
      EXPECT_EQ(row.at("key_value"), "rotated");
      EXPECT_NEAR(row.at("ratio").get<double>() * row.at("sp_ms").get<double>(),
                  row.at("whole_ms").get<double>(), 1e-9);
      EXPECT_GE(row.at("waiting_share").get<double>(), 0);
    }
    EXPECT_EQ(rows[2].at("direction"), "both");
    EXPECT_NEAR(rows[2].at("sp_ms").get<double>(),
                rows[0].at("sp_ms").get<double>() + rows[1].at("sp_ms").get<double>(), 1e-9);
  }
}

TEST(BenchSp, RefusesWhatItDoesNotTime) {
  const auto refuses = [](const std::string& argument, const std::string& why) {
    const ProgramResult result = bench_part("sp", small_step({argument}));
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_NE(result.errors.find(why), std::string::npos) << result.errors;
  };
  refuses("--mesh_dim=1,1,1,1", "needs an sp axis of several ranks");
}

TEST(BenchSp, DividesTheSequenceOfAMeshByItsSpAxis) {
  std::vector<std::string> arguments = small_step({"--json"});
  arguments.insert(arguments.begin(), {"bench", "sp", "--device=cpu", "--warmups=0", "--runs=1",
                                       "--mesh_dim=1,1,2,2"});
  const ProgramResult result = run_program_on_ranks(4, arguments);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const nlohmann::json row = rows_of(result.output).at(0);
  EXPECT_EQ(row.at("sp"), 2);
  EXPECT_EQ(row.at("key_value"), "gathered");
  arguments.push_back("--packing=documents");
  EXPECT_EQ(run_program_on_ranks(4, arguments).exit_code, 2);
}

}  // namespace
}  // namespace ringtrain
