#include "ringtrain/train/metrics.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

class MetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() /
                 ("ringtrain_metrics_" + std::to_string(::getpid()) + "_" +
                  ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(directory_);
    file_ = directory_ / "run" / "metrics.jsonl";
  }
  void TearDown() override { fs::remove_all(directory_); }

  void write_steps(std::int64_t begin, std::int64_t end, double loss) {
    MetricsWriter writer(file_, begin);
    for (std::int64_t step = begin; step < end; ++step) {
      MetricsRecord record(step);
      record.add("loss", loss);
      writer.write(record);
    }
  }

  /// (step, loss) of every line; fails the test on a line that does not parse.
  static std::vector<std::pair<int, double>> read(const fs::path& file) {
    std::vector<std::pair<int, double>> records;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      const auto record = nlohmann::json::parse(line, nullptr, false);
      EXPECT_TRUE(record.is_object()) << line;
      if (record.is_object()) records.emplace_back(record["step"], record["loss"]);
    }
    return records;
  }

  fs::path directory_;
  fs::path file_;
};

using Records = std::vector<std::pair<int, double>>;

TEST(MetricsRecordTest, NumbersRoundTrip) {
  const std::vector<double> values = {1.0 / 3,
                                      0.1f,
                                      1.5e-4,
                                      -0.0,
                                      1e300,
                                      std::numeric_limits<double>::denorm_min(),
                                      9007199254740993.0,
                                      3.0};
  for (const double value : values) {
    MetricsRecord record(7);
    record.add("value", value);
    record.add("count", std::numeric_limits<std::int64_t>::max());
    const auto parsed = nlohmann::json::parse(record.to_json());
    EXPECT_EQ(parsed["value"].get<double>(), value);
    EXPECT_EQ(parsed["count"].get<std::int64_t>(), std::numeric_limits<std::int64_t>::max());
    EXPECT_EQ(parsed["step"].get<int>(), 7);
  }
}

TEST(MetricsRecordTest, NonFiniteBecomesNullAndKeysAreEscaped) {
  MetricsRecord record(0);
  record.add("nan", std::numeric_limits<double>::quiet_NaN());
  record.add("inf", -std::numeric_limits<double>::infinity());
  record.add("a \"b\"", 1.0);
  const auto parsed = nlohmann::json::parse(record.to_json());
  EXPECT_TRUE(parsed["nan"].is_null());
  EXPECT_TRUE(parsed["inf"].is_null());
  EXPECT_EQ(parsed["a \"b\""].get<double>(), 1.0);
}

TEST(MetricsRecordTest, AppendsObjectsInOrder) {
  MetricsRecord record(3);
  record.add_object(R"({"dataset_file_loc": 12, "dataset_average_tps": 0.5})");
  record.add_object("");
  record.add_object("{}");
  EXPECT_EQ(record.to_json(), R"({"step": 3, "dataset_file_loc": 12, "dataset_average_tps": 0.5})");
  EXPECT_THROW(record.add_object("[1]"), InvalidArgument);
  EXPECT_THROW(record.add_object("{"), InvalidArgument);
}

TEST_F(MetricsTest, CreatesDirectoryAndFlushesEveryLine) {
  MetricsWriter writer(file_, 0);
  MetricsRecord record(0);
  record.add("loss", 5.5);
  writer.write(record);
  EXPECT_EQ(read(file_), (Records{{0, 5.5}}));  // while the writer is still open
}

TEST_F(MetricsTest, ResumeReplacesStepsFromTheResumedOneOn) {
  write_steps(0, 5, 1.0);
  write_steps(3, 6, 2.0);
  EXPECT_EQ(read(file_), (Records{{0, 1.0}, {1, 1.0}, {2, 1.0}, {3, 2.0}, {4, 2.0}, {5, 2.0}}));
}

TEST_F(MetricsTest, ResumeDropsALineTornByACrash) {
  write_steps(0, 2, 1.0);
  std::ofstream(file_, std::ios::app) << R"({"step": 2, "lo)";
  write_steps(3, 4, 2.0);
  EXPECT_EQ(read(file_), (Records{{0, 1.0}, {1, 1.0}, {3, 2.0}}));
}

TEST_F(MetricsTest, FreshRunPutsEarlierFilesAside) {
  write_steps(0, 1, 1.0);
  write_steps(0, 1, 2.0);
  write_steps(0, 1, 3.0);
  EXPECT_EQ(read(file_), (Records{{0, 3.0}}));
  EXPECT_EQ(read(file_.parent_path() / "metrics.1.jsonl"), (Records{{0, 1.0}}));
  EXPECT_EQ(read(file_.parent_path() / "metrics.2.jsonl"), (Records{{0, 2.0}}));
}

TEST_F(MetricsTest, UnusableDirectoryIsAnIoErrorWithThePath) {
  fs::create_directories(directory_);
  std::ofstream(directory_ / "run") << "a file, not a directory";
  try {
    MetricsWriter writer(file_, 0);
    FAIL() << "no error";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find((directory_ / "run").string()), std::string::npos);
  }
}

// A file size limit makes write(2) fail in the middle of a file, as a full disk does.
TEST_F(MetricsTest, FailedWriteIsAnIoError) {
  MetricsWriter writer(file_, 0);
  MetricsRecord record(0);
  record.add("loss", 1.0);
  writer.write(record);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limited{10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  EXPECT_THROW(writer.write(record), IoError);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
}

}  // namespace
}  // namespace ringtrain
