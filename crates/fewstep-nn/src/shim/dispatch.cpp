// Chooses among the instruction sets that kernels.cpp was compiled for.

#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace fewstep {

extern const Kernels kernels_baseline;

#if defined(FEWSTEP_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512bf16;

namespace {

// A set, its name, and whether the processor has it.
struct Choice {
  const char* name;
  const Kernels& kernels;
  bool available;
};

// The best set that the processor has and, like ATEN_CPU_CAPABILITY in libtorch, that FEWSTEP_CPU_KERNELS does not exclude
// by naming a lesser one.
const Kernels& choose() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const Choice best_first[] = {{"avx512bf16", kernels_avx512bf16, bf16},
                               {"avx512", kernels_avx512, avx512},
                               {"avx2", kernels_avx2, avx2},
                               {"baseline", kernels_baseline, true}};
  const char* limit = std::getenv("FEWSTEP_CPU_KERNELS");
  bool known = false;
  for (const Choice& choice : best_first)
    known = known || (limit && std::strcmp(limit, choice.name) == 0);
  bool allowed = !known;
  for (const Choice& choice : best_first) {
    allowed = allowed || std::strcmp(limit, choice.name) == 0;
    if (allowed && choice.available)
      return choice.kernels;
  }
  return kernels_baseline;
}

} // namespace
#else
namespace {
const Kernels& choose() { return kernels_baseline; }
} // namespace
#endif

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

} // namespace fewstep
