#include "ringtrain/comm/clock_offset.h"

#include <limits>
#include <string>

#include "ringtrain/comm/packed_double.h"

namespace ringtrain {
namespace {

constexpr int kRounds = 16;

void ask(World& world, int rank, const std::function<double()>& clock) {
  ClockOffset best{0, std::numeric_limits<double>::infinity()};
  for (int round = 0; round < kRounds; ++round) {
    const double sent = clock();
    world.send("", rank);
    const double theirs = unpacked(world.receive(rank));
    const double received = clock();
    const double error = (received - sent) / 2;
    if (error < best.error_s) best = {theirs - (sent + received) / 2, error};
  }
  world.send(packed(best.offset_s), rank);
  world.send(packed(best.error_s), rank);
}

ClockOffset answer(World& world, const std::function<double()>& clock) {
  for (int round = 0; round < kRounds; ++round) {
    world.receive(0);
    world.send(packed(clock()), 0);
  }
  const double offset = unpacked(world.receive(0));
  return {offset, unpacked(world.receive(0))};
}

}  // namespace

ClockOffset find_clock_offset(World& world, const std::vector<bool>& measured,
                              const std::function<double()>& clock) {
  ClockOffset own;
  for (int rank = 1; rank < world.size(); ++rank) {
    if (!measured[static_cast<std::size_t>(rank)]) continue;
    if (world.rank() == 0) ask(world, rank, clock);
    if (world.rank() == rank) own = answer(world, clock);
  }
  return own;
}

}  // namespace ringtrain
