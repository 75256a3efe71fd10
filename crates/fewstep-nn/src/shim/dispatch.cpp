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
#endif

namespace {

// A set, and whether the processor has it.
struct Choice {
  const Kernels* kernels;
  bool available;
};

struct Choices {
#if defined(FEWSTEP_X86)
  static constexpr int COUNT = 4;
#else
  static constexpr int COUNT = 1;
#endif
  Choice best_first[COUNT];

  Choices() noexcept {
#if defined(FEWSTEP_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    best_first[0] = {&kernels_avx512bf16, bf16};
    best_first[1] = {&kernels_avx512, avx512};
    best_first[2] = {&kernels_avx2, avx2};
#endif
    best_first[COUNT - 1] = {&kernels_baseline, true};
  }
};

// The best set that the processor has and, like ATEN_CPU_CAPABILITY in libtorch, that FEWSTEP_CPU_KERNELS does not exclude
// by naming a lesser one.
const Kernels& choose() noexcept {
  const Choices choices;
  const char* limit = std::getenv("FEWSTEP_CPU_KERNELS");
  const auto is_limit = [&](const Choice& choice) { return limit && std::strcmp(limit, choice.kernels->name) == 0; };
  bool known = false;
  for (const Choice& choice : choices.best_first)
    known = known || is_limit(choice);
  bool allowed = !known;
  for (const Choice& choice : choices.best_first) {
    allowed = allowed || is_limit(choice);
    if (allowed && choice.available)
      return *choice.kernels;
  }
  return kernels_baseline;
}

} // namespace

const Kernels& kernels() noexcept {
  static const Kernels& chosen = choose();
  return chosen;
}

const char* available(int index) noexcept {
  const Choices choices;
  for (const Choice& choice : choices.best_first)
    if (choice.available && index-- == 0)
      return choice.kernels->name;
  return nullptr;
}

} // namespace fewstep
