#include "ringtrain/core/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "support/error_text.h"

namespace ringtrain {
namespace {

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override {
    std::fclose(file_);
    unsetenv("RINGTRAIN_LOG_LEVEL");
  }
  std::string written(int rank, int num_ranks, bool every_rank) {
    std::rewind(file_);
    if (ftruncate(fileno(file_), 0) != 0) return "cannot empty the file";
    const Log log(rank, num_ranks, every_rank, file_, file_);
    log.info("one\ntwo\n");
    log.warning("three");
    std::rewind(file_);
    std::array<char, 256> text{};
    return {text.data(), std::fread(text.data(), 1, text.size(), file_)};
  }
  std::FILE* file_ = std::tmpfile();
};

TEST_F(LogTest, RankZeroSpeaksUnlessAllDo) {
  EXPECT_EQ(written(0, 4, false), "one\ntwo\nwarning: three\n");
  EXPECT_EQ(written(3, 4, false), "");
  EXPECT_EQ(written(3, 4, true), "[rank 3] one\n[rank 3] two\n[rank 3] warning: three\n");
  EXPECT_EQ(written(0, 1, true), "one\ntwo\nwarning: three\n");
}

TEST_F(LogTest, TheLevelComesFromTheEnvironment) {
  setenv("RINGTRAIN_LOG_LEVEL", "warning", 1);
  EXPECT_EQ(written(0, 1, false), "warning: three\n");
  setenv("RINGTRAIN_LOG_LEVEL", "quiet", 1);
  EXPECT_EQ(written(0, 1, false), "");
  setenv("RINGTRAIN_LOG_LEVEL", "loud", 1);
  EXPECT_EQ(error_text([&] { written(0, 1, false); }),
            "the environment variable RINGTRAIN_LOG_LEVEL is 'loud', not info, warning or quiet");
}

}  // namespace
}  // namespace ringtrain
