// Where the windows of a convolution lie: a line of columns is one output place, its entries the window's elements, channel by channel.
#pragma once
#include "core/lanes.h"
#include "core/tensor.h"

namespace limbeck {

struct Windows {
  Int channels, height, width, kernel_height, kernel_width, stride, padding;
  LIMBECK_FN Int out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  LIMBECK_FN Int out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
  LIMBECK_FN Int places() const { return out_height() * out_width(); }
  LIMBECK_FN Int entries() const { return channels * kernel_height * kernel_width; }
};

}  // namespace limbeck
