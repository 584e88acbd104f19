#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ringtrain/config/options.h"

/// From what the user wrote to the values of a run.
namespace ringtrain {

/// One --name=value, in the order of the command line.
struct Assignment {
  std::string name;  ///< without the dashes
  std::string text;
};

struct CommandLine {
  std::vector<Assignment> assignments;
  std::vector<std::string> config_files;  ///< of --config, in order
};

/// Where the values came from, and what the user should know about them.
struct ConfigReport {
  /// Option name -> "preset 7b", "file x.json", "command line", ...; absent: the default. Whoever
  /// changes a value later (the tokenizer's vocabulary size) writes its source here.
  std::map<std::string, std::string> sources;
  std::vector<std::string> notices;  ///< lines for the start banner
};

struct ResolvedConfig {
  TrainConfig config;
  ConfigReport report;
};

/// The newest save of the run at a path: a directory with config.json; nullopt if there is none.
using FindSave = std::function<std::optional<std::filesystem::path>(const std::filesystem::path&)>;

/// Applies, in this order: defaults; the model preset; --config files, a later one over an earlier
/// one; flags, the last of equal ones; update_llama_config, at the rank of whoever gave it (a
/// file's yields to llama.* flags). Without load_llama_config, params::DIR brings the model of
/// DIR/config.json in the preset's place, trainstate::DIR and trainstate_params::DIR that of
/// `newest_save` there; a model that then disagrees with that of params::DIR is an error naming
/// both values. Settings in files that `command` does not take are skipped, so that one file serves
/// train, eval and verify.
///
/// Then fills in what follows from other values: the type of a data set, the attention type, and
/// mesh_dim where only the model section names it.
///
/// Errors: InvalidArgument naming flag or file and key, the value, and what is valid; IoError for
/// a file that cannot be read, and for a checkpoint that is not there.
ResolvedConfig resolve_config(Command command, const CommandLine& command_line,
                              const FindSave& newest_save = {});

/// Every value of `command` and where it came from, one a line, grouped: what --print_config shows.
std::string describe_config(Command command, const TrainConfig& config, const ConfigReport& report);

/// config.resolved.json: every value of `command`, nested, and a section "provenance" with the
/// sources and notices. `--config` reads it back to the same values.
std::string config_to_json(Command command, const TrainConfig& config, const ConfigReport& report);

}  // namespace ringtrain
