#include "ringtrain/cli/commands.h"

int main(int argc, char** argv) {
  return ringtrain::run_program(argc, argv);
}
