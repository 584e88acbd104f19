#include "ringtrain/train/console.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace ringtrain {
namespace {

/// An in-memory FILE whose content can be read back.
class Capture {
 public:
  Capture() : file_(open_memstream(&text_, &size_)) {}
  ~Capture() {
    std::fclose(file_);
    std::free(text_);
  }
  std::FILE* file() const { return file_; }
  std::string text() const {
    std::fflush(file_);
    return std::string(text_, size_);
  }

 private:
  char* text_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* file_;
};

/// What a terminal shows after `text`, one string per line, trailing blanks removed.
std::string as_shown(const std::string& text) {
  std::string shown, line;
  std::size_t column = 0;
  const auto end_line = [&] {
    line.erase(line.find_last_not_of(' ') + 1);
    shown += line;
    line.clear();
    column = 0;
  };
  for (const char c : text) {
    if (c == '\n') {
      end_line();
      shown += '\n';
    } else if (c == '\r') {
      column = 0;
    } else {
      line.resize(std::max(line.size(), column + 1), ' ');
      line[column++] = c;
    }
  }
  end_line();
  return shown;
}

StepReport example_report() {
  StepReport report;
  report.step = 120;
  report.total_steps = 1000;
  report.loss = 3.21456;
  report.accuracy = 0.3119;
  report.learning_rate = 1.5e-4;
  report.gradient_norm = 1.2341;
  report.tokens_per_s = 1234567.8;
  report.model_tflops = 391.22;
  report.memory_bytes = std::size_t{3} << 29;
  return report;
}

TEST(ConsoleTest, FormatsAStep) {
  StepReport report = example_report();
  EXPECT_EQ(format_step(report),
            "step 120/1000  loss 3.2146  accuracy 0.312  lr 1.50e-04  grad_norm 1.234  "
            "tokens/s 1,234,568  TFLOP/s 391  memory 1.50 GiB");
  report.mfu = 0.3956;
  report.eval_loss = 3.5;
  report.eval_accuracy = 0.25;
  report.tokens_per_s = 999;
  EXPECT_EQ(format_step(report),
            "step 120/1000  loss 3.2146  accuracy 0.312  lr 1.50e-04  grad_norm 1.234  "
            "tokens/s 999  TFLOP/s 391  MFU 39.6%  memory 1.50 GiB  eval_loss 3.5000  "
            "eval_accuracy 0.250");
}

TEST(ConsoleTest, FormatsDurations) {
  EXPECT_EQ(format_duration(-1), "0s");
  EXPECT_EQ(format_duration(42.4), "42s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(187), "3m07s");
  EXPECT_EQ(format_duration(5 * 3600 + 120), "5h02m");
  EXPECT_EQ(format_duration(4 * 86400 + 6 * 3600), "4d06h");
}

TEST(ConsoleTest, TellsATerminalFromAFile) {
  ASSERT_EQ(std::getenv("OMPI_COMM_WORLD_SIZE"), nullptr) << "run without mpirun";
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  EXPECT_FALSE(is_on_terminal(file));
  std::fclose(file);

  const int controller = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(controller, 0);
  ASSERT_EQ(grantpt(controller), 0);
  ASSERT_EQ(unlockpt(controller), 0);
  const int terminal = open(ptsname(controller), O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  std::FILE* stream = fdopen(terminal, "w");
  EXPECT_TRUE(is_on_terminal(stream));
  std::fclose(stream);
  close(controller);
}

TEST(ConsoleTest, PrintsOnlyLinesWhereThereIsNoTerminal) {
  const Capture capture;
  Console console(capture.file(), /*is_terminal=*/false, 10);
  console.show_progress(1, 2.0);
  console.print_line("first");
  console.show_progress(2, 2.0);
  EXPECT_EQ(capture.text(), "first\n");
}

TEST(ConsoleTest, KeepsTheBarBelowTheLines) {
  const Capture capture;
  {
    Console console(capture.file(), /*is_terminal=*/true, 10);
    console.show_progress(1, 100.0);
    console.print_line("first");
    EXPECT_EQ(as_shown(capture.text()),
              "first\n[###...........................] 10%  1/10 steps  ETA 15m00s");
    console.show_progress(10, 0);
    EXPECT_EQ(as_shown(capture.text()),
              "first\n[##############################] 100%  10/10 steps");
  }
  EXPECT_EQ(as_shown(capture.text()), "first\n");
}

}  // namespace
}  // namespace ringtrain
