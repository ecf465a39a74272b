// Picks the kernels' instruction set once, from what the processor has and what LIMBECK_ISA asks for.
#include "cpu/dispatch.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/threads.h"

namespace limbeck::cpu {

extern const Kernels table_base, table_avx2, table_avx512, table_neon;

namespace {

struct InstructionSet {
  const char* name;
  const Kernels* kernels;
  bool here;
};

struct Choice {
  InstructionSet sets[3];
  int count = 0;
  const InstructionSet* used;
  char error[160] = "";

  Choice() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    [[maybe_unused]] const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    [[maybe_unused]] const bool wide = fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if !defined(LIMBECK_WITHOUT_avx512)
    sets[count++] = {"avx512", &table_avx512, wide};
#endif
#if !defined(LIMBECK_WITHOUT_avx2)
    sets[count++] = {"avx2", &table_avx2, fma};
#endif
#elif defined(__aarch64__)
    sets[count++] = {"neon", &table_neon, true};
#endif
#if defined(LIMBECK_BASE_FLOAT64)
    // Here only for what the others send it: numbers of 64 bits.
    sets[count++] = {"base", &table_base, false};
#else
    sets[count++] = {"base", &table_base, true};
#endif
    used = best();
    if (const char* asked = getenv("LIMBECK_ISA"); asked && *asked) {
      const InstructionSet* named = nullptr;
      for (int i = 0; i < count; ++i)
        if (strcmp(sets[i].name, asked) == 0) named = &sets[i];
      if (named && named->here) used = named;
      else snprintf(error, sizeof error, "LIMBECK_ISA must name an instruction set of this processor: it is %.40s, using %s", asked, used->name);
    }
  }

  const InstructionSet* best() const {
    const InstructionSet* found = sets;
    while (!found->here) ++found;
    return found;
  }
};

const Choice& choice() {
  static const Choice once;
  return once;
}

}  // namespace

const Kernels& kernels() { return *choice().used->kernels; }
const char* instruction_set() { return choice().used->name; }
const char* instruction_set_error() { return choice().error[0] ? choice().error : nullptr; }

std::vector<const char*> instruction_sets() {
  std::vector<const char*> names;
  for (int i = 0; i < choice().count; ++i)
    if (choice().sets[i].here) names.push_back(choice().sets[i].name);
  return names;
}

const char* matrix_product_library() {
#if defined(LIMBECK_CBLAS)
  return LIMBECK_CBLAS;
#else
  return "limbeck";
#endif
}

}  // namespace limbeck::cpu
