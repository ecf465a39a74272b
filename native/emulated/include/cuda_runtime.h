// The emulated device's stand-in for NVIDIA's header of this name.
#pragma once
#include "cuda_runtime_api.h"
