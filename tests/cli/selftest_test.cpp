// `ringtrain selftest` and the short form before a run, from outside the program.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(SelftestCommand, TakesTheCommandLineOfATraining) {
  const TemporaryDirectory output;
  auto arguments = small_run(output.path(), {"--llama.attention_type=ring_blockwise"});
  arguments.insert(arguments.begin(), "selftest");
  const ProgramResult result = run_on_cpu_mesh("1,1,2,2", arguments);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  for (const char* part :
       {"  rank 3  dp 0 fsdp 0 tp 1 sp 1  ", "  tp          2 ranks  all_reduce      right ",
        "  param       2 ranks  reduce_scatter  right ",
        "  sp          2 ranks  exchange        right ", "  ring: hop ", "PASS\n"}) {
    EXPECT_TRUE(contains(result.output, part)) << part << " in\n" << result.output;
  }
}

TEST(SelftestCommand, NeedsNoData) {
  const ProgramResult result =
      run_program({"selftest", "--device=cpu", "--mesh_dim=1,1,1,1", "--load_llama_config=debug"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_TRUE(contains(result.output, "one rank: no group to test")) << result.output;
}

TEST(ShortSelftest, ComesBeforeRunsOfSeveralRanks) {
  const TemporaryDirectory output;
  const auto run = [&](const std::string& mesh, std::vector<std::string> more) {
    more.push_back("--total_steps=1");
    const ProgramResult result = train_on_mesh(mesh, small_run(output.path(), more));
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return result.output;
  };
  EXPECT_TRUE(
      contains(run("1,2,1,1", {}), "self-test\n  param       2 ranks  all_gather      right"));
  EXPECT_FALSE(contains(run("1,2,1,1", {"--selftest=off"}), "self-test"));
  EXPECT_FALSE(contains(run("1,1,1,1", {}), "self-test"));
}

}  // namespace
}  // namespace ringtrain
