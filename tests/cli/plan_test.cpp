// `ringtrain plan` from outside: what it plans is what a run allocates, to the byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

using Options = std::vector<std::string>;
using Json = nlohmann::json;

Options with(Options options, const Options& more) {
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

ProgramResult plan(Options options) {
  options.insert(options.begin(), "plan");
  return run_program(options);
}

struct PlanCase {
  std::string name;
  std::string mesh;
  std::string ranks;
  Options options;
};

class PlanTest : public ::testing::TestWithParam<PlanCase> {};

TEST_P(PlanTest, IsWhatARunAllocates) {
  const PlanCase& c = GetParam();
  const TemporaryDirectory directory;
  const Options options = with(small_run(directory / "run", c.options), {"--total_steps=1"});
  const ProgramResult run = train_on_mesh(c.mesh, options);
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  const auto metrics = read_metrics(directory / "run" / "metrics.jsonl");
  ASSERT_EQ(metrics.size(), 1u);

  // Neither data nor tokenizer are there; the vocabulary is the one that the tokenizer would ask
  // for.
  const ProgramResult result = plan(
      with(options, {"--mesh_dim=" + c.mesh, "--device=cpu", "--world_size=" + c.ranks, "--json",
                     "--train_dataset.json_dataset.path=", "--tokenizer.vocab_file="}));
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const Json answer = Json::parse(result.output);
  EXPECT_EQ(answer["device"]["arena"].get<double>(), metrics[0].at("memory_bytes"));
  EXPECT_EQ(answer["host"]["arena"].get<double>(), metrics[0].at("host_memory_bytes"));
  for (const char* side : {"device", "host"}) {
    std::int64_t sum = 0;
    for (const auto& [kind, bytes] : answer[side].items()) {
      if (kind != "arena") sum += bytes.get<std::int64_t>();
    }
    EXPECT_EQ(answer[side]["arena"].get<std::int64_t>(), sum) << side;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Configurations, PlanTest,
    ::testing::Values(
        PlanCase{"one_rank", "1,1,1,1", "1", {}},
        PlanCase{"bf16", "1,1,1,1", "1", {"--dtype=bf16", "--llama.remat_block=save_attention"}},
        PlanCase{"offload",
                 "1,1,1,1",
                 "1",
                 {"--llama.remat_block=offload", "--offload_optimizer", "--dtype=bf16"}},
        PlanCase{"bf16_gradients", "1,1,1,1", "1", {"--grad_dtype=bf16", "--loss_chunk_size=16"}},
        PlanCase{"mix",
                 "2,1,1,1",
                 "2",
                 {"--llama.remat_block=offload_input:1,dots_saveable:1", "--llama.scan_mlp=True",
                  "--llama.scan_mlp_chunk_size=24"}},
        PlanCase{"fsdp", "1,2,1,1", "2", {"--offload_optimizer", "--packing=documents"}},
        PlanCase{"tp", "1,1,2,1", "2", {"--llama.vocab_size=801"}},
        PlanCase{"ring", "1,1,1,2", "2", {"--llama.attention_type=ring_blockwise"}},
        PlanCase{"contiguous_gathered",
                 "1,1,1,2",
                 "2",
                 {"--sp_layout=contiguous", "--llama.remat_block=nothing_saveable"}},
        PlanCase{"palm_tied_accumulating",
                 "1,1,1,1",
                 "1",
                 {"--optimizer.type=palm", "--llama.tie_word_embeddings",
                  "--optimizer.accumulate_gradient_steps=2"}},
        PlanCase{"auto", "1,1,1,1", "1", {"--llama.remat_block=auto"}},
        PlanCase{"tp_sp", "1,1,2,2", "4", {"--llama.remat_block=offload"}}),
    [](const auto& c) { return c.param.name; });

/// 7b at 256K tokens on one GPU.
Options long_run(const Options& more = {}) {
  return with({"--load_llama_config=7b", "--llama.max_sequence_length=262144",
               "--train_dataset.json_dataset.seq_length=262144",
               "--train_dataset.json_dataset.batch_size=1", "--llama.scan_mlp=True",
               "--llama.remat_block=nothing_saveable", "--json"},
              more);
}

TEST(Plan, ShowsWhatFreesMost) {
  const ProgramResult result = plan(long_run());
  EXPECT_EQ(result.exit_code, 1) << "it should not fit";
  const Json answer = Json::parse(result.output);
  EXPECT_FALSE(answer["fits"].get<bool>());
  const Json& savings = answer["savings"];
  ASSERT_GE(savings.size(), 4u);
  const auto find = [&](const std::string& change) {
    return *std::find_if(savings.begin(), savings.end(),
                         [&](const Json& saving) { return saving["change"] == change; });
  };
  for (std::size_t i = 1; i < savings.size(); ++i) {
    EXPECT_GE(savings[i - 1]["device"].get<std::int64_t>(),
              savings[i]["device"].get<std::int64_t>());
  }
  // Masters and two moments of 6.7 billion parameters, 4 bytes each.
  const Json optimizer = find("--offload_optimizer=True");
  EXPECT_GT(optimizer["device"].get<double>(), 12 * 6.7e9);
  EXPECT_LT(optimizer["host"].get<double>(), -12 * 6.7e9);
  // Heads and feed-forward halve; batch_size 1 leaves fsdp nothing to cut.
  EXPECT_GT(find("--mesh_dim=1,1,2,1 on 2 ranks")["device"].get<double>(), 0);
  for (const Json& saving : savings) {
    EXPECT_EQ(saving["change"].get<std::string>().find("--mesh_dim=1,2,"), std::string::npos);
  }
}

TEST(Plan, LeavesOutMeshesThatCannotCutTheEvaluation) {
  const ProgramResult result = plan(
      {"--load_llama_config=debug", "--eval_steps=1", "--json",
       "--train_dataset.json_dataset.batch_size=2", "--train_dataset.json_dataset.seq_length=256",
       "--eval_dataset.json_dataset.batch_size=1", "--eval_dataset.json_dataset.seq_length=256"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  for (const Json& saving : Json::parse(result.output)["savings"]) {
    EXPECT_EQ(saving["change"].get<std::string>().find("--mesh_dim=1,2,"), std::string::npos);
  }
}

TEST(Plan, CountsOneMemoryOnTheCpu) {
  const Json answer = Json::parse(plan(long_run({"--device=cpu"})).output);
  EXPECT_FALSE(answer["fits"].get<bool>());
  for (const Json& saving : answer["savings"]) {
    EXPECT_EQ(saving["change"].get<std::string>().find("offload"), std::string::npos) << saving;
    EXPECT_EQ(saving["host"].get<std::int64_t>(), 0);
  }
  const Json chosen =
      Json::parse(plan(long_run({"--device=cpu", "--llama.remat_block=auto"})).output);
  EXPECT_EQ(chosen["remat_block"], "nothing_saveable");
}

TEST(Plan, LeavesTheReserves) {
  const Options options = long_run({"--host_memory=2TiB"});
  const Json answer = Json::parse(plan(options).output);
  const auto bytes = [&](const char* name) { return answer[name].get<std::int64_t>(); };
  const auto arena = [&](const char* side) { return answer[side]["arena"].get<std::int64_t>(); };
  EXPECT_EQ(bytes("device_reserve"), std::int64_t{1} << 30);
  EXPECT_EQ(bytes("host_reserve"), std::int64_t{1} << 30);
  EXPECT_EQ(bytes("device_used"),
            arena("device") + bytes("cuda_context") + bytes("nccl") + bytes("device_reserve"));
  EXPECT_EQ(bytes("host_used"), arena("host") + bytes("process") + bytes("host_reserve"));
  const auto fits = [&](const std::string& name, std::int64_t size) {
    return plan(with(options,
                     {"--device_memory=1TiB", "--" + name + "_memory=" + std::to_string(size)}))
               .exit_code == 0;
  };
  for (const std::string name : {"device", "host"}) {
    const std::int64_t used = bytes((name + "_used").c_str());
    EXPECT_TRUE(fits(name, used)) << name;
    EXPECT_FALSE(fits(name, used - 1)) << name;
  }
}

TEST(Plan, FindsTheLongestContext) {
  const Options options = long_run({"--world_size=8", "--mesh_dim=1,1,1,8", "--max_context"});
  const Json answer = Json::parse(plan(options).output);
  const auto longest = answer["max_context"].get<std::int64_t>();
  EXPECT_GT(longest, 0);
  EXPECT_EQ(longest % 1024, 0);
  const auto fits = [&](std::int64_t length) {
    const std::string text = std::to_string(length);
    return plan(with(options, {"--train_dataset.json_dataset.seq_length=" + text,
                               "--llama.max_sequence_length=" + text}))
               .exit_code == 0;
  };
  EXPECT_TRUE(fits(longest));
  EXPECT_FALSE(fits(longest + 1024));
}

TEST(Plan, TheRecipeForOneGpuFits) {
  const ProgramResult result =
      plan({"--config=" RT_SOURCE_DIR "/configs/recipes/7b-256k-one-gpu.json", "--json",
            "--device_memory=79.6GiB", "--host_memory=128GiB"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_TRUE(Json::parse(result.output)["fits"].get<bool>());
}

TEST(Plan, ChoosesWhatFits) {
  const Options options = long_run(
      {"--world_size=8", "--mesh_dim=1,1,1,8", "--llama.remat_block=auto", "--host_memory=2TiB"});
  const auto chosen = [&](const std::string& device_memory) {
    const ProgramResult result = plan(with(options, {"--device_memory=" + device_memory}));
    EXPECT_EQ(result.exit_code, 0) << device_memory;
    return Json::parse(result.output)["remat_block"].get<std::string>();
  };
  EXPECT_EQ(chosen("400GiB"), "everything_saveable");
  EXPECT_NE(chosen("60GiB").find("save_attention"), std::string::npos);
  EXPECT_NE(chosen("38GiB").find("offload:"), std::string::npos);
}

TEST(Plan, RefusesWhatMakesNoSense) {
  for (const Options& options :
       {Options{"--device_memory=80GX"}, Options{"--host_memory=-1"}, Options{"--world_size=0"},
        Options{"--mesh_dim=1,1,1,3"}, Options{"--llama.remat_block=offload:31"},
        Options{"--llama.remat_block=offload:31,everything:1"}}) {
    const ProgramResult result = plan(long_run(options));
    EXPECT_EQ(result.exit_code, 2) << options[0] << result.errors;
    EXPECT_TRUE(result.errors.starts_with("ringtrain: ")) << result.errors;
    EXPECT_EQ(result.output, "");
  }
}

}  // namespace
}  // namespace ringtrain
