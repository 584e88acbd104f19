// The limits of made-up control groups.
#include "ringtrain/core/host_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

constexpr std::size_t kKibibyte = 1024;

/// A machine of 1000 KiB, 900 of them free.
class HostMemoryTest : public ::testing::Test {
 protected:
  HostMemoryTest() { write("proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:  900 kB\n"); }

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void write_kib(const std::string& path, std::size_t kib) const {
    write(path, std::to_string(kib * kKibibyte) + "\n");
  }
  void expect(std::size_t free_kib, std::size_t total_kib) const {
    const Device::MemoryInfo info = host_memory(root_.path());
    EXPECT_EQ(info.free_bytes, free_kib * kKibibyte);
    EXPECT_EQ(info.total_bytes, total_kib * kKibibyte);
  }

 private:
  TemporaryDirectory root_;
};

TEST_F(HostMemoryTest, IsTheMachinesWithoutLimits) {
  expect(900, 1000);
  write("proc/self/cgroup", "0::/job/step\n");
  expect(900, 1000);
  write("sys/fs/cgroup/job/step/memory.max", "max\n");
  expect(900, 1000);
}

TEST_F(HostMemoryTest, HeedsTheGroupsAroundItsOwn) {
  write("proc/self/cgroup", "0::/job/step/task\n");
  write("sys/fs/cgroup/job/step/task/memory.max", "max\n");
  write_kib("sys/fs/cgroup/job/step/memory.max", 600);
  write_kib("sys/fs/cgroup/job/step/memory.current", 100);
  expect(500, 600);
  // The larger group is fuller.
  write_kib("sys/fs/cgroup/job/memory.max", 700);
  write_kib("sys/fs/cgroup/job/memory.current", 650);
  expect(50, 600);
  write("sys/fs/cgroup/job/memory.stat",
        "anon 0\ninactive_file " + std::to_string(30 * kKibibyte) + "\n");
  expect(80, 600);
  write_kib("sys/fs/cgroup/other/memory.max", 1);
  expect(80, 600);
}

TEST_F(HostMemoryTest, HeedsTheMountOfAContainer) {
  write("proc/self/cgroup", "0::/as/seen/from/outside\n");
  write_kib("sys/fs/cgroup/memory.max", 400);
  write_kib("sys/fs/cgroup/memory.current", 500);
  expect(0, 400);
}

TEST_F(HostMemoryTest, HeedsVersion1) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/other\n4:hugetlb,memory:/job/step\n0::/\n");
  write_kib("sys/fs/cgroup/memory/job/memory.limit_in_bytes", 300);
  write_kib("sys/fs/cgroup/memory/job/memory.usage_in_bytes", 120);
  write("sys/fs/cgroup/memory/job/memory.stat",
        "total_inactive_file " + std::to_string(20 * kKibibyte) + "\n");
  write("sys/fs/cgroup/memory/job/step/memory.limit_in_bytes", "9223372036854771712\n");
  write_kib("sys/fs/cgroup/memory/other/memory.limit_in_bytes", 1);
  expect(200, 300);
}

}  // namespace
}  // namespace ringtrain
