#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ringtrain {

/// $RINGTRAIN_GOLDEN_DIR, or tests/golden of the source tree: answers of other programs.
std::filesystem::path golden_directory();

/// The files of golden_directory() / folder that end in `extension`, without it, sorted. A test
/// fails where there are none.
std::vector<std::filesystem::path> golden_cases(const std::string& folder,
                                                const std::string& extension);

}  // namespace ringtrain
