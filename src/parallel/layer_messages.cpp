#include "ringtrain/parallel/layer_messages.h"

namespace ringtrain {

LayerMessages::LayerMessages(Context& context, Communicator& group)
    : context_(context), group_(group), enqueued_(context.device.make_event()) {}

void LayerMessages::post(const char* what, int index, std::span<const Transfer> transfers,
                         Event& done, std::span<Stream* const> users) {
  for (Stream* user : users) order(*user, context_.ring);
  {
    const Region region(context_.observer, context_.ring, {what, nullptr, index});
    group_.exchange(transfers, context_.ring);
  }
  context_.ring.record(done);
}

void LayerMessages::wait(const char* what, int index, const Event& done, Stream& stream) {
  const Region region(context_.observer, stream,
                      {.what = what, .index = index, .group = group_.name().c_str()});
  stream.wait(done);
}

void LayerMessages::order(Stream& before, Stream& after) {
  if (&before == &after) return;
  before.record(*enqueued_);
  after.wait(*enqueued_);
}

}  // namespace ringtrain
