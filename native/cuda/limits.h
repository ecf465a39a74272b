// What a launch needs to know about the device it goes to.
#pragma once
#include <cstddef>

#include "core/context.h"

namespace limbeck::cuda {

struct Limits {
  int multiprocessors = 1;
  int shared_bytes = 48 * 1024;  // the most dynamic shared memory a block may ask for, less room for static variables
  bool clusters = false;         // whether blocks can reach each other's shared memory
};

// Of a device that begin() has opened.
Limits limits(const Context& ctx);

}  // namespace limbeck::cuda
