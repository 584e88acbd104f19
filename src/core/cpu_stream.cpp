#include "ringtrain/core/cpu_stream.h"

#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {

void Completion::complete() {
  // Emptied first: a `finish` that throws, or that completes its own stream, is not run again.
  if (const auto finish = std::exchange(finish_, nullptr)) finish();
}

void CpuEvent::synchronise() {
  for (const auto& completion : marked) completion->complete();
}

void CpuStream::defer(std::function<void()> finish) {
  // Those that an event of another stream has completed would otherwise pile up.
  while (!pending_.empty() && pending_.front()->done()) pending_.pop_front();
  pending_.push_back(std::make_shared<Completion>(std::move(finish)));
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
