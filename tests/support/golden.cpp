#include "support/golden.h"

#include <algorithm>
#include <cstdlib>

namespace ringtrain {

std::filesystem::path golden_directory() {
  const char* chosen = std::getenv("RINGTRAIN_GOLDEN_DIR");
  return chosen != nullptr && *chosen != '\0'
             ? std::filesystem::path(chosen)
             : std::filesystem::path(RT_SOURCE_DIR) / "tests" / "golden";
}

std::vector<std::filesystem::path> golden_cases(const std::string& folder,
                                                const std::string& extension) {
  std::vector<std::filesystem::path> cases;
  std::error_code missing;
  for (const auto& entry :
       std::filesystem::directory_iterator(golden_directory() / folder, missing)) {
    if (entry.path().extension() == extension) {
      cases.push_back(entry.path().parent_path() / entry.path().stem());
    }
  }
  std::sort(cases.begin(), cases.end());
  return cases;
}

}  // namespace ringtrain
