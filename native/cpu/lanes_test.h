// What lanes_test.cpp and the lane types under test agree on.
#pragma once

namespace limbeck::lanes_test {

// The lane functions by number: exp_ log_ expm1_ log1p_ sqrt_ exp_scaled_ RowExp abs_.
inline constexpr int kFunctions = 12;
// exp_scaled_ and RowExp are tried at this temperature: neither 1/T nor log2(e)/T is a float.
inline constexpr double kTemperature = 3;

void expect(bool holds, const char* set, const char* what);

struct LaneType {
  const char* set;
  void (*apply)(int function, const float* x, float* y, int count);  // count is a multiple of 64
  void (*edges)();
};

}  // namespace limbeck::lanes_test
