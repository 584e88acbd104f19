# Writes a source file that holds configs/models/*.json, so that the program finds its presets
# wherever it runs. Sets RINGTRAIN_PRESET_SOURCE to its path.
file(GLOB preset_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/configs/models/*.json)
list(SORT preset_files)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${preset_files})

set(preset_rows "")
foreach(preset_file IN LISTS preset_files)
  get_filename_component(preset_name ${preset_file} NAME_WLE)
  file(READ ${preset_file} preset_json)
  string(APPEND preset_rows "    {\"${preset_name}\", R\"json(${preset_json})json\"},\n")
endforeach()

set(RINGTRAIN_PRESET_SOURCE ${CMAKE_BINARY_DIR}/generated/embedded_presets.cpp)
file(CONFIGURE OUTPUT ${RINGTRAIN_PRESET_SOURCE} @ONLY CONTENT [[
#include "ringtrain/config/presets.h"

namespace ringtrain {

std::span<const Preset> presets() {
  static constexpr Preset kPresets[] = {
@preset_rows@  };
  return kPresets;
}

}  // namespace ringtrain
]])
