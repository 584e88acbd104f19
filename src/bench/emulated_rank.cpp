#include "emulated_rank.h"

#include <utility>

#include "ringtrain/train/memory_plan.h"

namespace ringtrain {
namespace {

MeshShape shape_of(const RingBenchCase& what) {
  MeshShape shape;
  shape.sp = what.num_ranks;
  return shape;
}

MeshCoordinates place_of(const RingBenchCase& what) {
  MeshCoordinates place;
  place.sp = what.rank;
  return place;
}

Mesh mesh_around(std::unique_ptr<Communicator> ring, Device& device, const RingBenchCase& what) {
  Mesh mesh = one_rank_mesh(device);
  mesh.shape = shape_of(what);
  mesh.coordinates = place_of(what);
  mesh.ring = std::move(ring);
  return mesh;
}

AttentionWork work_of(const RingBenchCase& what) {
  return {what.sequence_layout(), what.batch, what.heads, what.kv_heads, what.head_dim};
}

SequenceAttentionOptions options_of(const RingBenchCase& what) {
  return {.transport = KeyValueTransport::kRing, .gradient_dtype = what.gradient_dtype};
}

}  // namespace

EmulatedRank::EmulatedRank(Device& device, Backend& ops, DType compute, const RingBenchCase& what)
    : device_(device),
      ops_(ops),
      compute_(device.make_stream(StreamPriority::kNormal)),
      ring_(device.make_stream(StreamPriority::kHigh)),
      others_(device.make_stream(StreamPriority::kNormal)),
      beside_(device.make_stream(StreamPriority::kNormal)),
      trace_(device, {compute_.get(), ring_.get(), others_.get(), beside_.get()}) {
  auto link = std::make_unique<EmulatedLink>(device, what.rank, what.num_ranks);
  link_ = link.get();
  mesh_ = mesh_around(make_observed_communicator(std::move(link), trace_), device, what);
  const MemoryPlan plan =
      plan_memory({mesh_.shape, mesh_.coordinates, device.type(), compute}, [&](Context& context) {
        RankAttention attention(context, work_of(what), options_of(what));
        attention.forward();
        attention.backward();
      });
  memory_.emplace(device, plan.device.bytes);
  arena_.emplace(memory_->data(), memory_->bytes());
  bind_workspace(ops, *arena_);
  context_.emplace(Context{device, ops, *arena_, mesh_, *compute_, *ring_, *others_, *beside_,
                           compute, host_, *others_, *others_, &trace_});
  attention_.emplace(*context_, work_of(what), options_of(what));
}

}  // namespace ringtrain
