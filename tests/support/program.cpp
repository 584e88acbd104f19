#include "support/program.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
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

bool has_ended(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string stat;
  std::getline(file, stat);
  const std::size_t name_end = stat.rfind(") ");
  return name_end == std::string::npos || stat[name_end + 2] == 'Z';
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& command)
    : is_mpirun_(std::filesystem::path(command.front()).filename() == "mpirun"),
      start_(Clock::now()),
      child_(fork()) {
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
  constexpr double kPatience = 10;  // with an mpirun whose ranks are gone
  const double begin = seconds_since(start_);
  double last_life = seconds_since(start_);  // of a rank
  ProgramResult result;
  int status = 0;
  pid_t ended = 0;
  while ((ended = waitpid(child_, &status, WNOHANG)) == 0) {
    result.seconds = seconds_since(start_);
    const std::vector<pid_t> ranks = children();
    if (!std::all_of(ranks.begin(), ranks.end(), has_ended)) last_life = result.seconds;
    result.mpirun_failed = is_mpirun_ && !ranks.empty() && result.seconds - last_life > kPatience;
    if (result.mpirun_failed || result.seconds - begin > timeout_s) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  result.output = read_file(directory_ / "stdout");
  result.errors = read_file(directory_ / "stderr");
  if (ended == 0) {
    result.exit_code = kTimedOut;
    return result;
  }
  child_ = -1;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.mpirun_failed = is_mpirun_ && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
  return result;
}

ProgramResult run_job_with_stopped_rank(const std::function<ProgramResult()>& job) {
  constexpr int kTries = 4;
  ProgramResult result;
  for (int i = 0; i < kTries; ++i) {
    result = job();
    if (!result.mpirun_failed) break;
    std::cout << "mpirun failed after the job (exit code " << result.exit_code << ")\n"
              << result.errors;
  }
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
