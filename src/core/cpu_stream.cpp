#include "ringtrain/core/cpu_stream.h"

#include <algorithm>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {

void Completion::complete() {
  // Emptied first: a `finish` that throws, or that completes its own stream, is not run again.
  const auto finish = std::exchange(finish_, nullptr);
  if (!finish) return;
  const auto begin = Clock::now();
  const auto end = [&] {
    finished_at_ = Clock::now();
    if (waited_s_ != nullptr) {
      *waited_s_ += std::chrono::duration<double>(finished_at_ - begin).count();
    }
    done_.store(true, std::memory_order_release);
  };
  try {
    finish();
  } catch (...) {
    end();
    throw;
  }
  end();
}

void CpuEvent::synchronise() {
  for (const auto& completion : marked) completion->complete();
}

bool CpuEvent::is_complete() const {
  return std::all_of(marked.begin(), marked.end(), [](const auto& each) { return each->done(); });
}

Completion::Clock::time_point CpuEvent::completed_at() const {
  auto time = recorded_at;
  for (const auto& completion : marked) time = std::max(time, completion->finished_at());
  return time;
}

double CpuEvent::seconds_since(const Event& earlier) const {
  const auto begin = dynamic_cast<const CpuEvent&>(earlier).completed_at();
  return std::chrono::duration<double>(completed_at() - begin).count();
}

void CpuStream::defer(std::function<void()> finish) {
  // Those that an event of another stream has completed would otherwise pile up.
  while (!pending_.empty() && pending_.front()->done()) pending_.pop_front();
  pending_.push_back(std::make_shared<Completion>(std::move(finish), waited_s_));
}

void CpuStream::complete() {
  while (!pending_.empty()) {
    const std::shared_ptr<Completion> next = std::move(pending_.front());
    pending_.pop_front();
    next->complete();
  }
}

bool CpuStream::idle() const {
  for (const auto& pending : pending_) {
    if (!pending->done()) return false;
  }
  return true;
}

void CpuStream::record(Event& event) {
  auto* cpu_event = dynamic_cast<CpuEvent*>(&event);
  if (cpu_event == nullptr) throw InvalidArgument("a CPU stream records CPU events only");
  cpu_event->marked.assign(pending_.begin(), pending_.end());
  cpu_event->recorded_at = Completion::Clock::now();
}

void CpuStream::wait(const Event& event) {
  const auto* cpu_event = dynamic_cast<const CpuEvent*>(&event);
  if (cpu_event == nullptr) throw InvalidArgument("a CPU stream waits for CPU events only");
  for (const auto& completion : cpu_event->marked) completion->complete();
}

CpuStream& CpuStream::of(Stream& stream) {
  auto* cpu_stream = dynamic_cast<CpuStream*>(&stream);
  if (cpu_stream == nullptr) throw InvalidArgument("tensors of the CPU need a stream of the CPU");
  return *cpu_stream;
}

}  // namespace ringtrain
