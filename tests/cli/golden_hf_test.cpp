// The model against transformers (tests/golden/hf): logits, loss, gradients and a training run, by
// `ringtrain verify` on one rank and on every kind of mesh, with chunks that divide nothing.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>

#include "ringtrain/config/model_file.h"
#include "support/golden.h"
#include "support/gpu.h"
#include "support/program.h"

namespace ringtrain {
namespace {

constexpr double kForwardTolerance = 2e-5;  // of logits and loss; gradients have verify's 1e-4

constexpr int kRanksPerGpu = 4;

struct MeshCase {
  int ranks;
  const char* mesh;
  int tp;
};
constexpr MeshCase kMeshes[] = {{1, "1,1,1,1", 1}, {2, "2,1,1,1", 1}, {2, "1,2,1,1", 1},
                                {2, "1,1,2,1", 2}, {2, "1,1,1,2", 1}, {4, "1,1,1,4", 1},
                                {8, "1,2,2,2", 2}, {8, "2,1,2,2", 2}};
constexpr const char* kLayouts[] = {"zigzag", "striped", "contiguous"};

/// The relative error in the row of `name` of verify's table; NaN if there is none.
double relative_error(const std::string& table, const std::string& name) {
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string quantity;
    std::string largest;
    std::string relative;
    if (words >> quantity >> largest >> relative && quantity == name) return std::stod(relative);
  }
  return std::nan("");
}

class GoldenHf : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (is_on_gpu()) RT_SKIP_WITHOUT_GPU();
  }
  static bool is_on_gpu() { return std::string(GetParam()) == "cuda"; }
};

TEST_P(GoldenHf, EqualsTransformers) {
  const auto cases = golden_cases("hf", "");
  ASSERT_FALSE(cases.empty()) << "no cases in " << golden_directory() / "hf";
  std::size_t runs = 0;
  for (const auto& directory : cases) {
    std::printf("[ case     ] %s\n", directory.filename().c_str());
    const ModelConfig model = read_model_config(directory / "config.json");
    for (const MeshCase& mesh : kMeshes) {
      if (model.kv_heads() % mesh.tp != 0) continue;
      // Ranks that share a GPU talk through sockets: few of them are enough.
      if (is_on_gpu() && mesh.ranks > kRanksPerGpu * cuda_device_count()) continue;
      const std::string layout = kLayouts[runs++ % std::size(kLayouts)];
      SCOPED_TRACE(directory.filename().string() + " on mesh " + mesh.mesh + ", " + layout);
      const ProgramResult result = run_program_on_ranks(
          mesh.ranks,
          {"verify", "--load_checkpoint=params::" + directory.string(),
           "--reference=" + (directory / "golden.safetensors").string(), "--train_tolerance=1e-4",
           std::string("--mesh_dim=") + mesh.mesh, "--sp_layout=" + layout,
           std::string("--device=") + GetParam(), "--oversubscribe_gpu=true",
           "--llama.attention_type=ring_blockwise", "--llama.scan_query_chunk_size=11",
           "--llama.scan_key_chunk_size=7", "--llama.scan_mlp=true",
           "--llama.scan_mlp_chunk_size=17", "--loss_chunk_size=13"});
      EXPECT_EQ(result.exit_code, 0) << result.output << result.errors;
      EXPECT_LE(relative_error(result.output, "logits"), kForwardTolerance);
      EXPECT_LE(relative_error(result.output, "loss"), kForwardTolerance);
    }
  }
}

std::string device_name(const ::testing::TestParamInfo<const char*>& device) {
  return device.param;
}
INSTANTIATE_TEST_SUITE_P(Devices, GoldenHf, ::testing::Values("cpu", "cuda"), device_name);

}  // namespace
}  // namespace ringtrain
