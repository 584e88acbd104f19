#pragma once

#include <memory>
#include <span>

#include "ringtrain/parallel/context.h"

namespace ringtrain {

/// Messages of a group of ranks within a layer. They travel on the ring stream beside what
/// computes; in the order of their posts, which is the same on all ranks.
class LayerMessages {
 public:
  /// Both must outlive this.
  LayerMessages(Context& context, Communicator& group);

  Communicator& group() const { return group_; }
  /// Starts, as a region `what`, once `users` have finished with the buffers that it reads and
  /// fills, and records `done` behind it.
  void post(const char* what, int index, std::span<const Transfer> transfers, Event& done,
            std::span<Stream* const> users);
  /// Lets `stream` wait for `done`, as a region of the group.
  void wait(const char* what, int index, const Event& done, Stream& stream);
  /// What is enqueued on `after` from now on runs after all that is on `before` now.
  void order(Stream& before, Stream& after);

 private:
  Context& context_;
  Communicator& group_;
  std::unique_ptr<Event> enqueued_;  // a computing stream: everything so far
};

}  // namespace ringtrain
