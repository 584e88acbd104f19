#include "ringtrain/train/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace ringtrain {
namespace {

constexpr int kBarCells = 30;
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

/// 1234567.8 as "1,234,568".
std::string with_thousands(double value) {
  std::string digits = fmt::format("{:.0f}", value);
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

}  // namespace

std::string format_step(const StepReport& report) {
  std::string line = fmt::format(
      "step {}/{}  loss {:.4f}  accuracy {:.3f}  lr {:.2e}  grad_norm {:.3f}  tokens/s {}  "
      "TFLOP/s {:.3g}",
      report.step, report.total_steps, report.loss, report.accuracy, report.learning_rate,
      report.gradient_norm, with_thousands(report.tokens_per_s), report.model_tflops);
  if (report.mfu) line += fmt::format("  MFU {:.1f}%", *report.mfu * 100);
  if (report.exposed_comm) {
    line += fmt::format("  exposed comm {:.1f}%", *report.exposed_comm * 100);
  }
  line += fmt::format("  memory {:.2f} GiB", static_cast<double>(report.memory_bytes) / kGiB);
  if (report.eval_loss) line += fmt::format("  eval_loss {:.4f}", *report.eval_loss);
  if (report.eval_accuracy) line += fmt::format("  eval_accuracy {:.3f}", *report.eval_accuracy);
  return line;
}

std::string format_duration(double seconds) {
  const auto total = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
  const std::int64_t days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;
  if (days > 0) return fmt::format("{}d{:02}h", days, hours);
  if (hours > 0) return fmt::format("{}h{:02}m", hours, minutes);
  if (minutes > 0) return fmt::format("{}m{:02}s", minutes, total % 60);
  return fmt::format("{}s", total);
}

bool is_on_terminal(std::FILE* out) {
  if (isatty(fileno(out)) == 0) return false;
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr) return true;
  const std::string launcher = fmt::format("/proc/{}/fd/{}", getppid(), fileno(out));
  const int descriptor = open(launcher.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  const bool is_terminal = descriptor >= 0 && isatty(descriptor) == 1;
  if (descriptor >= 0) close(descriptor);
  return is_terminal;
}

Console::Console(std::FILE* out, bool is_terminal, std::int64_t total_steps)
    : out_(out), is_terminal_(is_terminal), total_steps_(total_steps) {}

Console::~Console() {
  clear_bar();
}

void Console::clear_bar() {
  if (bar_.empty()) return;
  fmt::print(out_, "\r{:{}}\r", "", bar_.size());
  std::fflush(out_);
  bar_.clear();
}

void Console::print_line(const std::string& line) {
  const std::string bar = bar_;
  clear_bar();
  fmt::print(out_, "{}\n{}", line, bar);
  bar_ = bar;
  std::fflush(out_);
}

void Console::show_progress(std::int64_t steps_done, double seconds_per_step) {
  if (!is_terminal_ || total_steps_ <= 0) return;
  const double share = static_cast<double>(steps_done) / static_cast<double>(total_steps_);
  const auto filled = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * kBarCells);
  const std::string cells = std::string(filled, '#') + std::string(kBarCells - filled, '.');
  std::string bar =
      fmt::format("[{}] {:.0f}%  {}/{} steps", cells, share * 100, steps_done, total_steps_);
  if (seconds_per_step > 0) {
    const double left = seconds_per_step * static_cast<double>(total_steps_ - steps_done);
    bar += fmt::format("  ETA {}", format_duration(left));
  }
  clear_bar();
  fmt::print(out_, "{}", bar);
  std::fflush(out_);
  bar_ = std::move(bar);
}

}  // namespace ringtrain
