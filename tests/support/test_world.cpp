#include "support/test_world.h"

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {
World* the_world = nullptr;
}  // namespace

World& test_world() {
  if (the_world == nullptr) throw InvalidArgument("test_world() belongs in *_mpi_test.cpp files");
  return *the_world;
}

void set_test_world(World& world) {
  the_world = &world;
}

}  // namespace ringtrain
