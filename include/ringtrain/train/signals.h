#pragma once

#include <csignal>
#include <string>

namespace ringtrain {

/// Turns SIGUSR1 and SIGTERM into a request that the loop reads at step boundaries, as long as it
/// lives; the earlier handlers return afterwards. One object per process at a time.
///
/// mpirun forwards SIGUSR1 to every rank, so that is the signal to save and stop. It may reach the
/// ranks during different steps: they must agree (World::any) before one of them acts. A second
/// SIGTERM has its default action and ends the process at once.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The first of the two signals that this process received; 0 if none.
  int received() const;
  /// "SIGUSR1", "SIGTERM", or "a signal to another rank" for 0, as a message would say it.
  static std::string name_of(int signal);

 private:
  struct sigaction previous_usr1_;
  struct sigaction previous_term_;
};

}  // namespace ringtrain
