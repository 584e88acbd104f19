#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace ringtrain {

/// What is told of a logged step: to a person in short, in metrics.jsonl in full.
struct StepReport {
  std::int64_t step = 0;         ///< as in metrics.jsonl: the first is 0
  std::int64_t total_steps = 0;  ///< of the run
  double loss = 0;
  double accuracy = 0;  ///< in [0, 1]
  double learning_rate = 0;
  double gradient_norm = 0;            ///< before clipping
  double param_norm = 0;               ///< metrics.jsonl only, as host_memory_bytes
  double tokens_per_s = 0;             ///< of the whole job
  double model_tflops = 0;             ///< model TFLOP/s of one device (train/flops.h)
  std::optional<double> mfu;           ///< in [0, 1]; absent where the device's peak is not known
  std::optional<double> exposed_comm;  ///< share of the step that waits for communication, mean
                                       ///< of the ranks, in [0, 1]; absent with a single rank
  std::size_t memory_bytes = 0;        ///< device memory of the fullest rank
  std::size_t host_memory_bytes = 0;   ///< likewise in host memory
  std::optional<double> eval_loss;
  std::optional<double> eval_accuracy;
};

/// "step 120/1000  loss 3.2146  accuracy 0.312  lr 1.50e-04  grad_norm 1.234  tokens/s 7,012
/// TFLOP/s 391.2  MFU 39.6%  exposed comm 2.1%  memory 26.5 GiB", on one line.
std::string format_step(const StepReport& report);
/// "42s", "3m07s", "5h02m", "4d06h".
std::string format_duration(double seconds);

/// True if what this process writes to `out` is seen on a terminal. mpirun gives the ranks beside
/// it a pseudo-terminal even where its own output goes to a file, so its output is looked at as
/// well.
bool is_on_terminal(std::FILE* out);

/// One rank's view of a run on a terminal or in a file. On a terminal a progress bar with the time
/// that is left follows the lines and is rewritten in place; elsewhere there are lines only.
class Console {
 public:
  /// `out` stays the caller's and must outlive the console.
  Console(std::FILE* out, bool is_terminal, std::int64_t total_steps);
  /// Removes the bar.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  /// Prints a line above the bar; it is flushed.
  void print_line(const std::string& line);
  /// Moves the bar: `steps_done` of total_steps are done, each of the rest will take about
  /// `seconds_per_step` (0 where not known yet). Does nothing where there is no terminal.
  void show_progress(std::int64_t steps_done, double seconds_per_step);

 private:
  void clear_bar();

  std::FILE* out_;
  bool is_terminal_;
  std::int64_t total_steps_;
  std::string bar_;
};

}  // namespace ringtrain
