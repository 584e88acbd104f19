#include "subcommands.h"

#include <array>

namespace ringtrain {

std::span<const Subcommand> subcommands() {
  static constexpr std::array kTable{
      Subcommand{"train", "trains a model", train_command},
      Subcommand{"eval", "prints the loss of a checkpoint on evaluation data", eval_command},
      Subcommand{"verify",
                 "compares a checkpoint's logits, gradients and training with a reference",
                 verify_command},
      Subcommand{"plan", "shows the memory of a training run, without a GPU", plan_command},
      Subcommand{"selftest", "checks and measures the groups of the mesh", selftest_command},
      Subcommand{"tokenize", "shows ids of a text and back; counts the tokens of a file",
                 tokenize_command},
      Subcommand{"bench", "times parts of a step, alone on one device", bench_command},
  };
  return kTable;
}

}  // namespace ringtrain
