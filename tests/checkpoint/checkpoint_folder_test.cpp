#include "ringtrain/checkpoint/checkpoint_folder.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/checkpoint/train_state.h"
#include "ringtrain/core/error.h"
#include "support/sharded_values.h"
#include "support/temporary_directory.h"
#include "support/thread_world.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

/// Saves a train state of two ranks whose masters are scattered_values(step).
void save(const fs::path& folder, int step, bool milestone = false) {
  run_on_mesh(DeviceType::kCpu, {1, 2, 1, 1}, tiny_llama(), [&](MeshRank& at) {
    const auto masters = make_family(at.rank, at.table, "master", DType::kFloat32);
    fill(at.rank, at.table, masters, scattered_values(step));
    save_checkpoint(at.world, folder, step, milestone, [&](const fs::path& directory) {
      const fs::path state = directory / kTrainStateFolder;
      if (at.world.rank() == 0) fs::create_directory(state);
      at.world.barrier();
      write_train_state(at.world, state, at.table, *at.rank, {masters}, std::to_string(step));
    });
  });
}

void save_parameters_only(const fs::path& folder, int step) {
  run_ranks(2, [&](World& world) {
    save_checkpoint(world, folder, step, false, [](const fs::path&) {});
  });
}

struct Found {
  std::string metadata;  // "none" if there is no save, "error: ..." if none is intact
  std::vector<std::string> warnings;
};

Found find(const fs::path& path) {
  Found found;
  std::mutex mutex;
  run_ranks(2, [&](World& world) {
    std::string metadata = "none";
    try {
      const auto state = find_train_state(world, path, [&](const std::string& warning) {
        EXPECT_EQ(world.rank(), 0);
        found.warnings.push_back(warning);
      });
      if (state) metadata = read_train_state_metadata(*state);
    } catch (const IoError& error) {
      metadata = std::string("error: ") + error.what();
    }
    const std::lock_guard lock(mutex);
    EXPECT_TRUE(found.metadata.empty() || found.metadata == metadata) << metadata;
    found.metadata = metadata;
  });
  return found;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

TEST(CheckpointFolderTest, NamesHaveEightDigits) {
  EXPECT_EQ(checkpoint_name(100), "step-00000100");
  EXPECT_EQ(checkpoint_name(123456789), "step-123456789");
}

TEST(CheckpointFolderTest, RollingSavesReplaceEachOtherAndMilestonesStay) {
  const TemporaryDirectory folder;
  const fs::path root = folder / "run" / kCheckpointFolder;
  save(root, 10);
  EXPECT_EQ(names_in(root), (Names{"latest", "step-00000010"}));
  save(root, 20, /*milestone=*/true);
  EXPECT_EQ(names_in(root), (Names{"latest", "step-00000020"}));
  save(root, 30);
  save(root, 40);
  EXPECT_EQ(names_in(root), (Names{"latest", "step-00000020", "step-00000040"}));
  EXPECT_EQ(read_text(root / "latest"), "step-00000040\n");
  save(root, 40, /*milestone=*/true);  // the same step again, now for good
  save(root, 40);                      // a rolling save does not take that back
  save(root, 50);
  EXPECT_EQ(names_in(root), (Names{"latest", "step-00000020", "step-00000040", "step-00000050"}));
}

TEST(CheckpointFolderTest, FindsTheNewestFromFolderRunAndSave) {
  const TemporaryDirectory folder;
  const fs::path root = folder / kCheckpointFolder;
  EXPECT_EQ(find(folder.path()).metadata, "none");
  EXPECT_EQ(find(folder / "nowhere").metadata, "none");
  save(root, 10, true);
  save(root, 20);
  EXPECT_EQ(find(root).metadata, "20");
  EXPECT_EQ(find(folder.path()).metadata, "20");
  EXPECT_EQ(find(root / "step-00000010").metadata, "10");
}

TEST(CheckpointFolderTest, DamagedNewestFallsBackLoudly) {
  const TemporaryDirectory folder;
  save(folder.path(), 10, true);
  save(folder.path(), 20, true);
  save(folder.path(), 30);
  const auto damage = [&](const std::string& save_name) {
    const fs::path file = folder / save_name / kTrainStateFolder / "tp-0-shard-0.safetensors";
    fs::resize_file(file, fs::file_size(file) - 5);
  };
  damage("step-00000030");
  Found found = find(folder.path());
  EXPECT_EQ(found.metadata, "20");
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_NE(found.warnings[0].find("step-00000030"), std::string::npos) << found.warnings[0];
  EXPECT_NE(found.warnings[0].find("damaged"), std::string::npos) << found.warnings[0];

  fs::remove(folder / "step-00000020" / kTrainStateFolder / "manifest.json");
  found = find(folder.path());
  EXPECT_EQ(found.metadata, "10");
  EXPECT_EQ(found.warnings.size(), 2u);

  damage("step-00000010");
  found = find(folder.path());
  EXPECT_NE(found.metadata.find("error:"), std::string::npos) << found.metadata;
  for (const char* name : {"step-00000010", "step-00000020", "step-00000030"}) {
    EXPECT_NE(found.metadata.find(name), std::string::npos) << found.metadata;
  }
}

TEST(CheckpointFolderTest, SavesOfParametersAloneCannotBeResumed) {
  const TemporaryDirectory folder;
  save_parameters_only(folder.path(), 10);
  const std::string message = find(folder.path()).metadata;
  EXPECT_NE(message.find("save_optimizer_state"), std::string::npos) << message;
}

TEST(CheckpointFolderTest, LaterStepsOfAnEarlierRunAreNotTaken) {
  const TemporaryDirectory folder;
  save(folder.path(), 200);
  save(folder.path(), 50);  // a new run in the same folder
  EXPECT_EQ(find(folder.path()).metadata, "50");
  EXPECT_TRUE(fs::exists(folder / "step-00000200")) << "only earlier steps are removed";
}

TEST(CheckpointFolderTest, WorksWithoutLatest) {
  const TemporaryDirectory folder;
  save(folder.path(), 10, true);
  save(folder.path(), 20);
  fs::remove(folder / "latest");
  EXPECT_EQ(find(folder.path()).metadata, "20");
  replace_text(folder / "latest", "step-99999999\n");
  EXPECT_EQ(find(folder.path()).metadata, "20");
}

TEST(CheckpointFolderTest, LeftoversOfAKilledSaveAreIgnoredAndRemoved) {
  const TemporaryDirectory folder;
  save(folder.path(), 10);
  fs::create_directories(folder / "step-00000020.tmp" / kTrainStateFolder);
  EXPECT_EQ(find(folder.path()).metadata, "10");
  save(folder.path(), 30);
  EXPECT_EQ(names_in(folder.path()), (Names{"latest", "step-00000030"}));
}

TEST(CheckpointFolderTest, FailureOfOneRankFailsAllAndKeepsThePrevious) {
  const TemporaryDirectory folder;
  save(folder.path(), 10);
  run_ranks(3, [&](World& world) {
    try {
      save_checkpoint(world, folder.path(), 20, false, [&](const fs::path&) {
        if (world.rank() == 2) throw IoError("the disk of rank 2 broke");
      });
      ADD_FAILURE() << "rank " << world.rank() << " thinks that all is well";
    } catch (const IoError& error) {
      EXPECT_STREQ(error.what(), "rank 2: the disk of rank 2 broke");
    }
  });
  EXPECT_EQ(names_in(folder.path()), (Names{"latest", "step-00000010"}));
  EXPECT_EQ(find(folder.path()).metadata, "10");
}

/// Files of this process cannot grow beyond `bytes`, as on a full disk, while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST(CheckpointFolderTest, FullDiskKeepsThePrevious) {
  const TemporaryDirectory folder;
  save(folder.path(), 10);
  for (const rlim_t bytes : {0u, 100u, 3000u}) {  // nothing, a header's part, a file's part
    SCOPED_TRACE(bytes);
    {
      const FileSizeLimit limit(bytes);
      try {
        save(folder.path(), 20);
        FAIL() << "saved into " << bytes << " bytes";
      } catch (const IoError& error) {
        EXPECT_NE(std::string(error.what()).find("step-00000020.tmp"), std::string::npos)
            << error.what();
        EXPECT_NE(std::string(error.what()).find("bytes"), std::string::npos) << error.what();
      }
    }
    EXPECT_EQ(names_in(folder.path()), (Names{"latest", "step-00000010"}));
    EXPECT_EQ(find(folder.path()).metadata, "10");
  }
  save(folder.path(), 20);
  EXPECT_EQ(find(folder.path()).metadata, "20");
}

TEST(CheckpointFolderTest, UnwritableFolderIsNamed) {
  try {
    save("/proc/no/such/folder", 10);
    FAIL() << "saved in /proc";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/no/such/folder"), std::string::npos);
  }
}

TEST(CheckpointFolderTest, TheNewestSaveIsFoundWithoutReadingIt) {
  const TemporaryDirectory run;
  EXPECT_EQ(newest_save(run.path()), std::nullopt);
  EXPECT_EQ(newest_save(run / "nowhere"), std::nullopt);
  const fs::path folder = run / kCheckpointFolder;
  save(folder, 5);
  save_parameters_only(folder, 10);
  EXPECT_EQ(newest_save(run.path()), folder / checkpoint_name(10));
  EXPECT_EQ(newest_save(folder), folder / checkpoint_name(10));
  EXPECT_EQ(newest_save(folder / checkpoint_name(5)), folder / checkpoint_name(5));
}

}  // namespace
}  // namespace ringtrain
