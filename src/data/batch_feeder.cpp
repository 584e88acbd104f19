#include "ringtrain/data/batch_feeder.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "batch_message.h"
#include "ringtrain/core/error.h"
#include "ringtrain/data/bounded_queue.h"

namespace ringtrain {
namespace {

using Kind = BatchMessage::Kind;

constexpr std::size_t kBatchesAhead = 1;
// Between looks at the network. Waiting inside MPI would keep a core busy on every rank.
constexpr std::chrono::milliseconds kNap(1);

// Runs `open` on rank 0; every rank learns how it ended.
std::unique_ptr<BatchSource> open_source(World& world, const BatchFeeder::Open& open) {
  std::unique_ptr<BatchSource> source;
  BatchMessage outcome;
  if (world.rank() == 0) {
    try {
      source = open();
    } catch (const std::exception&) {
      outcome = describe_current_error();
    }
  }
  outcome = decode(world.broadcast(encode(outcome)));
  if (outcome.kind == Kind::kError) throw_error(outcome);
  return source;
}

}  // namespace

class BatchFeeder::Impl {
 public:
  Impl(World& world, const Open& open, FeederSettings settings) : settings_(std::move(settings)) {
    if (settings_.shape.size() != world.size()) {
      throw InvalidArgument(fmt::format("mesh {} needs {} ranks, the world has {} (--mesh_dim)",
                                        settings_.shape.to_string(), settings_.shape.size(),
                                        world.size()));
    }
    source_ = open_source(world, open);
    plane_ = world.duplicate();
    numbers_.resize(static_cast<std::size_t>(world.size()), 0);
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    abandoned_ = std::uncaught_exceptions() > exceptions_before_;
    stopping_ = true;
    queue_.close();
    thread_.join();
  }

  LocalBatch next() {
    if (!failure_) {
      std::optional<BatchMessage> message = queue_.pop();
      if (!message) std::rethrow_exception(thread_error_);
      if (message->kind == Kind::kBatch) return std::move(message->batch);
      failure_ = std::move(message);
    }
    throw_error(*failure_);
  }

 private:
  // The background thread: nothing else touches plane_ while it runs. It ends after a stop, after
  // it delivered an error of the source, or when the network fails.
  void run() {
    try {
      if (plane_->rank() == 0) {
        distribute();
      } else {
        collect();
      }
    } catch (...) {
      thread_error_ = std::current_exception();
    }
    if (thread_error_) queue_.close();
  }

  void distribute() {
    while (wait_for_room()) {
      std::vector<BatchMessage> parts;
      try {
        const GlobalBatch batch = next_of_source();
        if (settings_.vocab_size > 0) check_token_ids(batch, settings_.vocab_size);
        parts = cut(batch);
      } catch (const std::exception&) {
        parts.assign(numbers_.size(), describe_current_error());
      }
      const bool failed = parts[0].kind == Kind::kError;
      BatchMessage own = std::move(parts[0]);
      if (!deliver(std::move(parts))) break;
      queue_.push(std::move(own));
      if (failed) return;  // for the peers, an error is the last message
    }
    deliver_end();
  }

  // Rank 0 looks at the network while it waits, because its messages move only when it calls MPI.
  bool wait_for_room() {
    while (!stopping_ && !queue_.has_room()) nap();
    return !stopping_;
  }

  GlobalBatch next_of_source() {
    auto batch = std::async(std::launch::async, [this] { return source_->next(); });
    while (batch.wait_for(kNap) != std::future_status::ready) plane_->poll();
    return batch.get();
  }

  void nap() {
    plane_->poll();  // nobody posts to rank 0
    std::this_thread::sleep_for(kNap);
  }

  std::vector<BatchMessage> cut(const GlobalBatch& batch) const {
    std::vector<BatchMessage> parts(numbers_.size());
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      const MeshCoordinates at =
          mesh_coordinates(static_cast<int>(rank), settings_.shape, settings_.mesh_order);
      parts[rank].kind = Kind::kBatch;
      parts[rank].batch = cut_batch(batch, settings_.layouts.at(batch.layout),
                                    at.dp * settings_.shape.fsdp + at.fsdp,
                                    settings_.shape.num_batch_shards(), at.sp, settings_.cut);
    }
    return parts;
  }

  // Posts parts[r] to every rank r > 0. A rank whose last message is still under way is asked
  // again. False if this rank was stopped before all were posted.
  bool deliver(std::vector<BatchMessage> parts) {
    std::vector<std::pair<int, std::string>> waiting;
    for (std::size_t rank = 1; rank < parts.size(); ++rank) {
      parts[rank].number = numbers_[rank];
      waiting.emplace_back(static_cast<int>(rank), encode(parts[rank]));
    }
    while (!waiting.empty()) {
      std::erase_if(waiting, [&](const auto& message) {
        const bool posted = plane_->post(message.second, message.first);
        if (posted) ++numbers_[static_cast<std::size_t>(message.first)];
        return posted;
      });
      if (waiting.empty()) break;
      if (stopping_) return false;
      nap();
    }
    return true;
  }

  // The last message, which lets the peers go; they take what comes before it.
  void deliver_end() {
    for (std::size_t rank = 1; rank < numbers_.size() && !abandoned_; ++rank) {
      BatchMessage end;
      end.number = numbers_[rank];
      const std::string bytes = encode(end);
      while (!abandoned_ && !plane_->post(bytes, static_cast<int>(rank))) nap();
    }
  }

  void collect() {
    for (;;) {
      std::optional<BatchMessage> message = take_next();
      if (!message || message->kind == Kind::kEnd) return;
      const bool last = message->kind == Kind::kError;
      queue_.push(std::move(*message));  // waits for room; a stopped rank drops it
      if (last) return;
    }
  }

  // Messages in the order in which they were sent: a short one may overtake a long one. Also a
  // stopped rank goes on until the last message: none may be left to a later owner of the plane.
  std::optional<BatchMessage> take_next() {
    std::int64_t& number = numbers_[0];
    while (!abandoned_) {
      if (auto found = early_.extract(number); !found.empty()) {
        ++number;
        return std::move(found.mapped());
      }
      if (const auto posted = plane_->poll()) {
        BatchMessage message = decode(posted->bytes);
        const std::int64_t key = message.number;
        early_.emplace(key, std::move(message));
      } else {
        std::this_thread::sleep_for(kNap);
      }
    }
    return std::nullopt;
  }

  FeederSettings settings_;
  std::unique_ptr<BatchSource> source_;  // on rank 0
  std::unique_ptr<World> plane_;
  BoundedQueue<BatchMessage> queue_{kBatchesAhead};
  std::optional<BatchMessage> failure_;  // of the source, once it was taken from the queue
  std::exception_ptr thread_error_;      // written before the queue is closed

  // Of the thread. Rank 0: messages posted to each rank. Others: numbers_[0] of them taken.
  std::vector<std::int64_t> numbers_;
  std::map<std::int64_t, BatchMessage> early_;

  int exceptions_before_ = std::uncaught_exceptions();
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> abandoned_ = false;
  std::thread thread_;
};

BatchFeeder::BatchFeeder(World& world, const Open& open, FeederSettings settings)
    : impl_(std::make_unique<Impl>(world, open, std::move(settings))) {}

BatchFeeder::~BatchFeeder() = default;

LocalBatch BatchFeeder::next() {
  return impl_->next();
}

}  // namespace ringtrain
