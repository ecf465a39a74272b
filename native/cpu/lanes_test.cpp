// Every lane function of every lane type against double precision over the range of floats, and the loads and stores at their edges.
#include "cpu/lanes_test.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

using limbeck::lanes_test::kFunctions;
using limbeck::lanes_test::kTemperature;
using limbeck::lanes_test::LaneType;

namespace limbeck::cpu {
namespace base { extern const LaneType lane_type; }
namespace avx2 { extern const LaneType lane_type; }
namespace avx512 { extern const LaneType lane_type; }
namespace neon { extern const LaneType lane_type; }
}  // namespace limbeck::cpu

namespace {

const char* const kNames[kFunctions] = {"exp_", "log_", "expm1_", "log1p_", "sqrt_", "exp_scaled_", "RowExp", "abs_", "decay_ e", "decay_ rest", "log_share_", "RowExp near"};
// A lone float's log_share_ is the polynomial of the CUDA kernels.
double most_ulp(int function) { return function == 10 ? 2.5 : 2; }
int failures = 0;

double exact(int function, double x) {
  switch (function) {
    case 0: return std::exp(x);
    case 1: return std::log(x);
    case 2: return std::expm1(x);
    case 3: return std::log1p(x);
    case 4: return std::sqrt(x);
    case 7: return std::fabs(x);
    case 8: return std::exp(-x);
    case 9: return -std::expm1(-x);
    case 10: return std::log1p(-x);
    default: return std::exp(x / kTemperature);
  }
}

float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The distance to the exact value in units of the float's last place there; infinite where one side is NaN or infinite alone.
double ulps(float got, double wanted) {
  if (std::isnan(wanted)) return std::isnan(got) ? 0 : INFINITY;
  const float rounded = static_cast<float>(wanted);
  if (std::isinf(rounded) || std::isinf(got)) return rounded == got || std::nextafterf(rounded, 0) == got || std::nextafterf(got, 0) == rounded ? 0 : INFINITY;
  int exponent;
  std::frexp(wanted, &exponent);
  const double unit = std::ldexp(1.0, exponent - 24 < -149 ? -149 : exponent - 24);
  return std::fabs(static_cast<double>(got) - wanted) / unit;
}

void sweep(const LaneType& type) {
  const char* set = type.set;
  std::vector<float> x, y;
  for (uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += 1009) x.push_back(from_bits(static_cast<uint32_t>(bits)));
  for (float edge : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1.0f, -1.0f, 1e-45f, -1e-45f, 1.17549435e-38f, 1.1754942e-38f, 3.4028235e38f, -3.4028235e38f, 88.72283f, 88.72284f,
                     -87.33655f, -103.97f, -103.98f, -104.0f, 0.34657359f, -0.34657359f, 0.70710678f, 1.4142135f, -0.99999994f, 5.9604645e-8f})
    x.push_back(edge);
  // Dense where the functions bend.
  for (int i = -200000; i <= 200000; ++i) x.push_back(static_cast<float>(i) * 5.3e-4f);
  while (x.size() % 64) x.push_back(0);
  y.resize(x.size());
  for (int function = 0; function < kFunctions; ++function) {
    type.apply(function, x.data(), y.data(), static_cast<int>(x.size()));
    double worst = 0;
    float at = 0, got = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      // Exponents of a row are never positive, and these take what their callers have.
      if ((function == 6 || function == 11) && x[i] > 0) continue;
      if ((function == 8 || function == 9) && !(x[i] >= 0 && x[i] <= 87)) continue;
      if (function == 10 && !(x[i] >= 0 && x[i] < 0.9999f && 1 - static_cast<double>(x[i]) == static_cast<double>(1 - x[i]))) continue;
      if (function == 11 && !(x[i] > -83 * kTemperature)) continue;
      const double error = ulps(y[i], exact(function, static_cast<double>(x[i])));
      if (!(error <= worst)) worst = error, at = x[i], got = y[i];
    }
    std::printf("%-8s %-12s %6.3f ulp at %.9g\n", set, kNames[function], worst, static_cast<double>(at));
    if (!(worst <= most_ulp(function))) {
      ++failures;
      std::printf("%s: %s must stay within %g ulp: %.9g instead of %.17g\n", set, kNames[function], most_ulp(function), static_cast<double>(got), exact(function, static_cast<double>(at)));
    }
  }
}

}  // namespace

void limbeck::lanes_test::expect(bool holds, const char* set, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("%s: %s does not hold\n", set, what);
}

int main() {
  using namespace limbeck::cpu;
  const auto test = [](const LaneType& type) {
    sweep(type);
    type.edges();
  };
  test(base::lane_type);
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (fma) test(avx2::lane_type);
  if (fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    test(avx512::lane_type);
#elif defined(__aarch64__)
  test(neon::lane_type);
#endif
  std::printf("%d failures\n", failures);
  return failures != 0;
}
