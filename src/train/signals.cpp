#include "ringtrain/train/signals.h"

#include <atomic>

namespace ringtrain {
namespace {

// The only state a signal handler may touch; handlers take no argument, hence the global.
std::atomic<int> first_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "needed inside a signal handler");

void remember(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
}

void install(int signal, int flags, struct sigaction* previous) {
  struct sigaction action = {};
  action.sa_handler = remember;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, previous);
}

}  // namespace

StopSignals::StopSignals() {
  first_signal = 0;
  install(SIGUSR1, SA_RESTART, &previous_usr1_);
  install(SIGTERM, SA_RESTART | SA_RESETHAND, &previous_term_);
}

StopSignals::~StopSignals() {
  sigaction(SIGUSR1, &previous_usr1_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
}

int StopSignals::received() const {
  return first_signal;
}

std::string StopSignals::name_of(int signal) {
  switch (signal) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    default:
      return "a signal to another rank";
  }
}

}  // namespace ringtrain
