#pragma once

#include "ringtrain/comm/world.h"

namespace ringtrain {

/// The world of an MPI test program, made once by tests/mpi_test_main.cpp.
/// Errors: InvalidArgument in a program with another main.
World& test_world();
/// For mpi_test_main.cpp alone; `world` outlives the tests.
void set_test_world(World& world);

}  // namespace ringtrain
