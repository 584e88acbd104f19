#include "ringtrain/cli/job_arguments.h"

#include <fmt/format.h>

#include "ringtrain/checkpoint/checkpoint_folder.h"
#include "ringtrain/cli/argument_parser.h"
#include "ringtrain/config/validate.h"
#include "ringtrain/core/error.h"
#include "ringtrain/parallel/mesh.h"

namespace ringtrain {
namespace {

std::string_view description_of(Command command) {
  switch (command) {
    case Command::kTrain:
      return "Trains a LLaMA model on sequences split over many devices.";
    case Command::kEval:
      return "Evaluates a checkpoint on eval_dataset, for eval_steps batches.";
    case Command::kVerify:
      return "Compares logits, loss and gradients of a checkpoint with a reference file.";
    case Command::kPlan:
      return "Plans the memory of `ringtrain train` with the same options, for any number of "
             "ranks; "
             "needs no GPU, no data and no tokenizer. Exit code 1: it does not fit.";
    case Command::kBench:
      return "Times training steps, their layers or their attention, on random input, for the run "
             "of "
             "these options; needs no data and no tokenizer.";
    case Command::kSelftest:
      return "Checks and measures the groups of the mesh, for the training run of these options.";
  }
  throw InvalidArgument("no such command");
}

/// The arguments as they are read; the parser's callbacks fill it.
struct Reading {
  CommandLine command_line;
  bool print_config = false;
};

/// "json | huggingface"; that a text may also be empty goes without saying.
std::string shown_choices(const Option& option) {
  std::vector<std::string> choices = option.choices;
  std::erase(choices, "");
  return fmt::format("{}", fmt::join(choices, " | "));
}

void add_table(ArgumentParser& parser, Command command, Reading& reading) {
  const TrainConfig defaults = default_config(command);
  for (const Option& option : options()) {
    if (!option.taken_by(command)) continue;
    const ArgumentParser::Shown shown{option.group, std::string(kind_name(option)),
                                      shown_value(option, defaults)};
    const std::string name = option.name;
    const auto assign = [&reading, name](const std::string& text) {
      reading.command_line.assignments.push_back({name, text});
    };
    std::string help = option.help;
    if (!option.choices.empty()) help += fmt::format(" ({})", shown_choices(option));
    if (kind_name(option) == "BOOL") {
      parser.add_flag(name, help, shown, [assign](bool value) { assign(value ? "1" : "0"); });
    } else {
      parser.add_option(name, help, shown, assign);
    }
  }
}

using NamedDataset = std::pair<std::string, const DatasetConfig*>;

/// The data sets that the command reads, or whose shapes it looks at.
std::vector<NamedDataset> datasets_of(Command command, const TrainConfig& config) {
  std::vector<NamedDataset> datasets;
  const bool trains = command == Command::kTrain || command == Command::kPlan;
  if (trains || command == Command::kSelftest || command == Command::kBench) {
    datasets.emplace_back("train_dataset", &config.train_dataset);
  }
  if (command == Command::kEval || (trains && config.eval_steps > 0)) {
    datasets.emplace_back("eval_dataset", &config.eval_dataset);
  }
  return datasets;
}

}  // namespace

std::string_view name_of(Command command) {
  switch (command) {
    case Command::kTrain:
      return "train";
    case Command::kEval:
      return "eval";
    case Command::kVerify:
      return "verify";
    case Command::kPlan:
      return "plan";
    case Command::kSelftest:
      return "selftest";
    case Command::kBench:
      return "bench";
  }
  throw InvalidArgument("no such command");
}

JobArguments parse_job_arguments(Command command, const std::vector<std::string>& arguments) {
  Reading reading;
  ArgumentParser parser(fmt::format("ringtrain {}", name_of(command)),
                        std::string(description_of(command)));
  const std::string group = "Configuration";
  parser.add_option(
      "config",
      "JSON file with any of these options, nested or dotted; of several the last wins, and the "
      "command line over all",
      {group, "FILE", ""},
      [&](const std::string& file) { reading.command_line.config_files.push_back(file); },
      /*repeatable=*/true);
  parser.add_flag("print_config", "show every value and where it came from, and stop",
                  {group, "BOOL", ""}, [&](bool value) { reading.print_config = value; });
  add_table(parser, command, reading);
  JobArguments job;
  if (!parser.parse(arguments)) {
    job.answer = parser.help();
    return job;
  }
  job.resolved = resolve_config(command, reading.command_line, newest_save);
  const auto& [config, report] = job.resolved;
  if (reading.print_config) {
    job.answer = describe_config(command, config, report);
    return job;
  }
  validate_config(command, config);
  if (command == Command::kSelftest) return job;
  for (const auto& [name, dataset] : datasets_of(command, config)) {
    if (command == Command::kPlan || command == Command::kBench) {
      validate_dataset_shape(name, *dataset, config.llama);
    } else {
      validate_dataset(name, *dataset, config.llama);
    }
  }
  return job;
}

void validate_on_mesh(Command command, const TrainConfig& config, int world_size) {
  const MeshShape shape = mesh_shape_of(config, world_size);
  const MeshSizes mesh{shape.dp, shape.fsdp, shape.tp, shape.sp, shape.ulysses};
  validate_model_on_mesh(config.llama, mesh);
  for (const auto& [name, dataset] : datasets_of(command, config)) {
    const JsonDatasetConfig& json = dataset->json_dataset;
    validate_batch_on_mesh(json.batch_size, json.seq_length, config.sp_layout, mesh,
                           name + ".json_dataset.batch_size", name + ".json_dataset.seq_length");
  }
}

}  // namespace ringtrain
