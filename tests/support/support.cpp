#include "support/gpu.h"
