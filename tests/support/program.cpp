#include "support/program.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

namespace ringtrain {
namespace {

using Clock = std::chrono::steady_clock;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// In the child process: does not return.
void execute(const std::vector<std::string>& command, const std::string& out,
             const std::string& err) {
  if (std::freopen("/dev/null", "r", stdin) == nullptr ||
      std::freopen(out.c_str(), "w", stdout) == nullptr ||
      std::freopen(err.c_str(), "w", stderr) == nullptr) {
    _exit(127);
  }
  setenv("OMP_NUM_THREADS", "1", 1);
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);  // more ranks than cores
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& command)
    : start_(Clock::now()), child_(fork()) {
  if (child_ == 0) {
    execute(command, (directory_ / "stdout").string(), (directory_ / "stderr").string());
  }
}

RunningProgram::~RunningProgram() {
  if (child_ > 0) {
    for (const pid_t each : children()) kill(each, SIGKILL);
    signal(SIGKILL);
    waitpid(child_, nullptr, 0);
  }
}

std::vector<pid_t> RunningProgram::children() const {
  const std::string id = std::to_string(child_);
  std::ifstream file("/proc/" + id + "/task/" + id + "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

void RunningProgram::signal(int number) {
  kill(child_, number);
}

ProgramResult RunningProgram::wait(double timeout_s) {
  const double begin = seconds_since(start_);
  int status = 0;
  pid_t ended = 0;
  ProgramResult result;
  while ((ended = waitpid(child_, &status, WNOHANG)) == 0) {
    if (seconds_since(start_) - begin > timeout_s) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  result.seconds = seconds_since(start_);
  result.output = read_file(directory_ / "stdout");
  result.errors = read_file(directory_ / "stderr");
  if (ended == 0) {
    result.exit_code = kTimedOut;
    return result;
  }
  child_ = -1;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

ProgramResult run_process(const std::vector<std::string>& command) {
  return RunningProgram(command).wait();
}

std::vector<std::string> command_on_ranks(int ranks, const std::vector<std::string>& arguments) {
  std::vector<std::string> command;
  if (ranks > 1) {
    command = {"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
               "-n",     std::to_string(ranks)};
  }
  const char* program = std::getenv("RINGTRAIN_PROGRAM");
  command.push_back(program != nullptr ? program : RT_PROGRAM);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

ProgramResult run_program(const std::vector<std::string>& arguments) {
  return run_process(command_on_ranks(1, arguments));
}

ProgramResult run_program_on_ranks(int ranks, const std::vector<std::string>& arguments) {
  return run_process(command_on_ranks(ranks, arguments));
}

}  // namespace ringtrain
