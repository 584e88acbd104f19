#include "ringtrain/parallel/mesh.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "ringtrain/config/train_config.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

enum Axis : std::size_t { kDp, kFsdp, kTp, kSp };
constexpr std::size_t kNumAxes = 4;
constexpr std::array<std::string_view, kNumAxes> kAxisNames{"dp", "fsdp", "tp", "sp"};

std::size_t axis_of(std::string_view name, std::string_view option) {
  for (std::size_t axis = 0; axis < kNumAxes; ++axis) {
    if (kAxisNames[axis] == name) return axis;
  }
  throw InvalidArgument(
      fmt::format("{}: '{}' is not an axis; the axes are dp, fsdp, tp and sp", option, name));
}

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    parts.push_back(part);
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

int parse_size(std::string_view size, std::string_view option) {
  int value = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), value);
  if (error != std::errc() || end != size.data() + size.size() || value == 0 || value < -1) {
    throw InvalidArgument(
        fmt::format("{}: '{}' is not the size of an axis; expected a positive number, or -1 for "
                    "the ranks that remain",
                    option, size));
  }
  return value;
}

/// Sizes by Axis, -1 where the text says so.
std::array<int, kNumAxes> parse_sizes(std::string_view text) {
  const std::string option = fmt::format("mesh_dim {}", text);
  if (text.starts_with('!')) text.remove_prefix(1);  // the original: "use this order of ranks"
  const auto parts = split_commas(text);
  if (parts.size() != kNumAxes) {
    throw InvalidArgument(
        fmt::format("{} has {} sizes; expected four: dp,fsdp,tp,sp (one may be "
                    "-1)",
                    option, parts.size()));
  }
  const bool is_named = text.find(':') != std::string_view::npos;
  std::array<int, kNumAxes> sizes{};  // 0: not yet given
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t colon = parts[i].find(':');
    if ((colon != std::string_view::npos) != is_named) {
      throw InvalidArgument(fmt::format("{}: name every axis or none of them", option));
    }
    const std::size_t axis = is_named ? axis_of(parts[i].substr(0, colon), option) : i;
    if (sizes[axis] != 0) {
      throw InvalidArgument(fmt::format("{}: axis {} is given twice", option, kAxisNames[axis]));
    }
    sizes[axis] = parse_size(is_named ? parts[i].substr(colon + 1) : parts[i], option);
  }
  return sizes;
}

/// The four axes of `order`, the innermost first.
std::array<std::size_t, kNumAxes> parse_order(std::string_view order) {
  const std::string option = fmt::format("mesh_order {}", order);
  const auto parts = split_commas(order);
  std::array<std::size_t, kNumAxes> axes{};
  std::array<bool, kNumAxes> seen{};
  for (std::size_t i = 0; i < parts.size() && i < kNumAxes; ++i) {
    axes[i] = axis_of(parts[i], option);
    seen[axes[i]] = true;
  }
  if (parts.size() != kNumAxes || seen != std::array{true, true, true, true}) {
    throw InvalidArgument(fmt::format(
        "{} must name dp, fsdp, tp and sp once each, the axis of adjacent ranks first", option));
  }
  return axes;
}

std::array<int, kNumAxes> sizes_of(const MeshShape& shape) {
  return {shape.dp, shape.fsdp, shape.tp, shape.sp};
}

}  // namespace

std::string MeshShape::to_string() const {
  std::string text = fmt::format("dp={},fsdp={},tp={},sp={}", dp, fsdp, tp, sp);
  if (ulysses > 1) text += fmt::format(",ulysses={}", ulysses);
  return text;
}

MeshShape parse_mesh(std::string_view text, int world_size) {
  auto sizes = parse_sizes(text);
  std::int64_t product = 1;
  int* rest = nullptr;
  for (int& size : sizes) {
    if (size == -1) {
      if (rest != nullptr) {
        throw InvalidArgument(fmt::format("mesh_dim {}: only one size may be -1", text));
      }
      rest = &size;
    } else {
      product *= size;
      if (product > std::numeric_limits<int>::max()) {
        throw InvalidArgument(
            fmt::format("mesh_dim {}: the product of the sizes is too large, the "
                        "world has {} ranks",
                        text, world_size));
      }
    }
  }
  const auto ranks = [](std::int64_t n) { return fmt::format("{} rank{}", n, n == 1 ? "" : "s"); };
  if (rest != nullptr) {
    if (world_size % product != 0) {
      throw InvalidArgument(fmt::format("mesh_dim {} needs a multiple of {}, the world has {}",
                                        text, ranks(product), world_size));
    }
    *rest = static_cast<int>(world_size / product);
  } else if (product != world_size) {
    throw InvalidArgument(
        fmt::format("mesh_dim {} needs {}, the world has {}", text, ranks(product), world_size));
  }
  return {.dp = sizes[kDp], .fsdp = sizes[kFsdp], .tp = sizes[kTp], .sp = sizes[kSp]};
}

int parse_ulysses(std::string_view sp_type, std::int64_t ulysses_size, int sp) {
  if (sp_type != "ring" && sp_type != "ulysses" && sp_type != "hybrid") {
    throw InvalidArgument(
        fmt::format("--sp_type={} is unknown; expected ring, ulysses or hybrid", sp_type));
  }
  if (sp_type == "hybrid") {
    if (ulysses_size > 0 && sp % ulysses_size == 0) return static_cast<int>(ulysses_size);
    std::vector<int> divisors;
    for (int size = 1; size <= sp; ++size) {
      if (sp % size == 0) divisors.push_back(size);
    }
    throw InvalidArgument(
        fmt::format("--sp_type=hybrid needs --ulysses_size, a divisor of sp {}: one of {}; got {}",
                    sp, fmt::join(divisors, ", "), ulysses_size));
  }
  const int implied = sp_type == "ring" ? 1 : sp;
  if (ulysses_size == 0 || ulysses_size == implied) return implied;
  throw InvalidArgument(
      fmt::format("--ulysses_size={} contradicts --sp_type={}, which means {} on an sp axis of {}; "
                  "give --sp_type=hybrid",
                  ulysses_size, sp_type, implied, sp));
}

MeshShape mesh_shape_of(const TrainConfig& config, int world_size) {
  MeshShape shape = parse_mesh(config.mesh_dim, world_size);
  shape.ulysses = parse_ulysses(config.sp_type, config.ulysses_size, shape.sp);
  return shape;
}

MeshCoordinates mesh_coordinates(int rank, const MeshShape& shape, std::string_view order) {
  if (rank < 0 || rank >= shape.size()) {
    throw InvalidArgument(fmt::format("rank {} is not on the mesh {}", rank, shape.to_string()));
  }
  const auto sizes = sizes_of(shape);
  std::array<int, kNumAxes> place{};
  for (const std::size_t axis : parse_order(order)) {
    place[axis] = rank % sizes[axis];
    rank /= sizes[axis];
  }
  return {place[kDp], place[kFsdp], place[kTp], place[kSp]};
}

Mesh make_meta_mesh(const MeshShape& shape, const MeshCoordinates& at) {
  Mesh mesh;
  mesh.shape = shape;
  mesh.coordinates = at;
  mesh.ring = make_meta_communicator("sp", at.sp / shape.ulysses, shape.ring_size());
  mesh.ulysses = make_meta_communicator("ulysses", at.sp % shape.ulysses, shape.ulysses);
  mesh.tp = make_meta_communicator("tp", at.tp, shape.tp);
  mesh.param =
      make_meta_communicator("param", at.fsdp * shape.sp + at.sp, shape.num_param_shards());
  mesh.dp = make_meta_communicator("dp", at.dp, shape.dp);
  return mesh;
}

Mesh observed(Mesh mesh, StepObserver& observer) {
  for (auto* group : {&mesh.ring, &mesh.ulysses, &mesh.tp, &mesh.param, &mesh.dp}) {
    *group = make_observed_communicator(std::move(*group), observer);
  }
  return mesh;
}

Mesh make_mesh(Communicator& world, Device& device, const MeshShape& shape, std::string_view order,
               const MessageRoutes& routes) {
  if (shape.size() != world.size()) {
    throw InvalidArgument(fmt::format("mesh {} needs {} ranks, the world has {}", shape.to_string(),
                                      shape.size(), world.size()));
  }
  Mesh mesh;
  mesh.shape = shape;
  mesh.coordinates = mesh_coordinates(world.rank(), shape, order);
  const MeshCoordinates& at = mesh.coordinates;

  // Ranks that agree in `color` form a group. A group of one needs no transport, and every rank
  // knows from `shape` alone which those are, so all take part in the same splits.
  const auto group = [&](const char* name, int color, int place, int size,
                         const MessageRoute& route = {}) -> std::unique_ptr<Communicator> {
    if (device.type() == DeviceType::kMeta) return make_meta_communicator(name, place, size);
    if (size == 1) return make_one_rank_communicator(device)->split(name, 0, 0, route);
    return world.split(name, color, place, route);
  };
  const int ring_rank = at.sp / shape.ulysses;
  const int ulysses_rank = at.sp % shape.ulysses;
  const int sp_group = (at.dp * shape.fsdp + at.fsdp) * shape.tp + at.tp;
  mesh.ring = group("sp", sp_group * shape.ulysses + ulysses_rank, ring_rank, shape.ring_size(),
                    routes.ring);
  mesh.ulysses = group("ulysses", sp_group * shape.ring_size() + ring_rank, ulysses_rank,
                       shape.ulysses, routes.ulysses);
  mesh.tp = group("tp", (at.dp * shape.fsdp + at.fsdp) * shape.sp + at.sp, at.tp, shape.tp);
  mesh.param = group("param", at.dp * shape.tp + at.tp, at.fsdp * shape.sp + at.sp,
                     shape.num_param_shards());
  mesh.dp = group("dp", (at.fsdp * shape.tp + at.tp) * shape.sp + at.sp, at.dp, shape.dp);
  return mesh;
}

}  // namespace ringtrain
