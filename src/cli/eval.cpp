#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "ringtrain/comm/job.h"
#include "ringtrain/train/console.h"
#include "ringtrain/train/evaluator.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

int evaluate(World& world, const TrainConfig& config, const ConfigReport& report) {
  const bool shows_bar = world.rank() == 0 && is_on_terminal(stdout);
  Console console(stdout, shows_bar, config.eval_steps);
  Evaluator evaluator(world, config, report);
  return run_job(world, [&] {
    const EvaluationResult result =
        evaluator.run([&](std::int64_t done) { console.show_progress(done, 0); });
    if (world.rank() != 0) return 0;
    console.print_line(
        fmt::format("eval_loss {:.6f}  eval_accuracy {:.6f}  perplexity {:.4f}  tokens {}",
                    result.loss, result.accuracy, std::exp(result.loss), result.tokens));
    return 0;
  });
}

}  // namespace

int eval_command(const Invocation& invocation) {
  return run_command(Command::kEval, invocation, evaluate);
}

}  // namespace ringtrain
