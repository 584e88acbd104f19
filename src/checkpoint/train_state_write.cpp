#include <fmt/format.h>

#include "manifest.h"
#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/checkpoint/shard_copy.h"
#include "ringtrain/checkpoint/train_state.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;

/// A part of this rank's shards that goes into its file.
struct Piece {
  const ShardFamily* family;
  std::size_t unit;
  SegmentRun run;
  std::string key;
};

std::vector<Piece> pieces_of_rank(const ParameterTable& table, const Context& context,
                                  const std::vector<ShardFamily>& families) {
  std::vector<Piece> pieces;
  if (context.mesh.coordinates.dp != 0) return pieces;
  for (const ShardFamily& family : families) {
    for (std::size_t u = 0; u < table.units().size(); ++u) {
      for (const SegmentRun& run :
           segment_runs(table, table.units()[u], context.mesh.param->rank())) {
        if (run.segment->split == TpSplit::kReplicated && table.tp_rank() != 0) continue;
        pieces.push_back({&family, u, run, fmt::format("{}/{}", family.name, run.segment->name)});
      }
    }
  }
  return pieces;
}

Manifest write_pieces(const fs::path& directory, const std::string& name,
                      const ParameterTable& table, Context& context,
                      const std::vector<Piece>& pieces) {
  Manifest manifest;
  std::vector<SafetensorsWriter::Declaration> declarations;
  for (const Piece& piece : pieces) {
    const Segment& segment = *piece.run.segment;
    declarations.push_back(
        {piece.key, piece.family->shards[piece.unit].dtype(), {piece.run.count}});
    manifest.families[piece.family->name][segment.name] = {
        .shape = segment.shape,
        .split = segment.split,
        .slices = {{.file = name,
                    .key = piece.key,
                    .part = tp_slice(segment, table.tp_rank(), table.tp_size()),
                    .begin = piece.run.segment_begin,
                    .count = piece.run.count}}};
  }
  SafetensorsWriter writer(directory / name, std::move(declarations));
  ShardCopy copy(context.device, context.compute);
  for (const Piece& piece : pieces) {
    const std::vector<float> values =
        copy.download(*piece.family, piece.unit, piece.run.shard_begin, piece.run.count);
    writer.append(piece.key, DType::kFloat32, values.data(), piece.run.count);
  }
  writer.finish();
  manifest.files[name] = {.bytes = writer.size(), .crc32 = writer.crc32()};
  return manifest;
}

Manifest::File write_file(const fs::path& path, const std::string& text) {
  OutputFile file(path, text.size());
  file.append(text.data(), text.size());
  file.finish();
  return {.bytes = file.size(), .crc32 = file.crc32()};
}

}  // namespace

void write_train_state(World& world, const fs::path& directory, const ParameterTable& table,
                       Context& context, const std::vector<ShardFamily>& families,
                       const std::string& metadata) {
  Manifest own;
  agree(world, [&] {
    const std::vector<Piece> pieces = pieces_of_rank(table, context, families);
    if (pieces.empty()) return;
    const std::string name =
        fmt::format("tp-{}-shard-{}.safetensors", table.tp_rank(), context.mesh.param->rank());
    own = write_pieces(directory, name, table, context, pieces);
  });
  const std::vector<std::string> parts = world.all_gather(own.to_text());
  agree(world, [&] {
    if (world.rank() != 0) return;
    Manifest whole;
    for (const std::string& part : parts) whole.merge(Manifest::parse(part, "a rank's manifest"));
    whole.files[kMetadataName] = write_file(directory / kMetadataName, metadata);
    write_file(directory / kManifestName, whole.to_text());
  });
}

}  // namespace ringtrain
