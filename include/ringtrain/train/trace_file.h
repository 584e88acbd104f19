#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "ringtrain/comm/world.h"
#include "ringtrain/core/stream_trace.h"

namespace ringtrain {

/// Collective: throws on all ranks if rank 0 could not write `file` later. Errors: IoError.
void check_trace_file(World& world, const std::filesystem::path& file);

/// Collective, after a step that `trace` timed with Detail::kAll: rank 0 writes what all ranks did
/// to `file`, for chrome://tracing and ui.perfetto.dev. A process is a rank (called `place`: its
/// host and device), a thread is a stream (compute, ring, params), an event a region: name, begin
/// and duration in microseconds, group and bytes of communication.
///
/// All times are of one clock. Ranks of the first rank's host share its clock; for others it is
/// measured by messages to and fro, the fastest of several, and is wrong by half of that at most.
/// The label of each process says by how much its times may be wrong. Errors: IoError.
void write_trace(World& world, const std::filesystem::path& file, StreamTrace& trace,
                 const std::string& place);
/// The same of one rank that is not in a job.
void write_trace(const std::filesystem::path& file, StreamTrace& trace, int rank,
                 const std::string& place);

}  // namespace ringtrain
