// A vector of f32 as wide as the instruction set that this is compiled for, in the vector extension of GCC and Clang.

#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Everything here has internal linkage: each instruction set has its own copy.
namespace {

#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));

#define FEWSTEP_INLINE inline __attribute__((always_inline))

template <typename To, typename From> FEWSTEP_INLINE To bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  __builtin_memcpy(&to, &v, sizeof(to));
  return to;
}

FEWSTEP_INLINE vf splat(float value) { return value - vf{}; }
FEWSTEP_INLINE vu splat(uint32_t value) { return value - vu{}; }

// load: the first `n` of W numbers, the rest zero. store: the first `n`. `n` is the constant W everywhere but at the end of
// a row. bf16 is kept as its bits.

#if defined(__AVX512F__) && defined(__AVX512BW__)

FEWSTEP_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }

FEWSTEP_INLINE vf load(const float* p, int n) { return bits<vf>(_mm512_maskz_loadu_ps(first(n), p)); }
FEWSTEP_INLINE vh load_bits(const uint16_t* p, int n) { return bits<vh>(_mm256_maskz_loadu_epi16(first(n), p)); }
FEWSTEP_INLINE void store(float* p, vf v, int n) { _mm512_mask_storeu_ps(p, first(n), bits<__m512>(v)); }
FEWSTEP_INLINE void store_bits(uint16_t* p, vh v, int n) {
  _mm256_mask_storeu_epi16(p, first(n), bits<__m256i>(v));
}

#else

FEWSTEP_INLINE vf load(const float* p, int n) {
  vf v{};
  __builtin_memcpy(&v, p, n == W ? sizeof(v) : n * sizeof(float));
  return v;
}
FEWSTEP_INLINE vh load_bits(const uint16_t* p, int n) {
  vh v{};
  __builtin_memcpy(&v, p, n == W ? sizeof(v) : n * sizeof(uint16_t));
  return v;
}
FEWSTEP_INLINE void store(float* p, vf v, int n) { __builtin_memcpy(p, &v, n == W ? sizeof(v) : n * sizeof(float)); }
FEWSTEP_INLINE void store_bits(uint16_t* p, vh v, int n) {
  __builtin_memcpy(p, &v, n == W ? sizeof(v) : n * sizeof(uint16_t));
}

#endif

FEWSTEP_INLINE vf load(const uint16_t* p, int n) {
  return bits<vf>(__builtin_convertvector(load_bits(p, n), vu) << 16);
}

// Rounds to the nearest bf16, ties to even.
FEWSTEP_INLINE vh to_bf16(vf v) {
#if defined(__AVX512BF16__)
  return bits<vh>(_mm512_cvtneps_pbh(bits<__m512>(v)));
#else
  vu u = bits<vu>(v);
  vu rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  vu quiet_nan = splat(uint32_t{0x7fc0});
  return __builtin_convertvector(v == v ? rounded : quiet_nan, vh);
#endif
}

FEWSTEP_INLINE void store(uint16_t* p, vf v, int n) { store_bits(p, to_bf16(v), n); }

// e^x to about one unit in the last place; x is clamped to [-87, 88]. Polynomial of the Cephes library (Moshier).
FEWSTEP_INLINE vf exp(vf x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
  vf shifted = x * 1.44269504088896341f + magic;
  vf n = shifted - magic;
  vf r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return bits<vf>(bits<vi>(p) + ((bits<vi>(shifted) - bits<vi>(splat(magic))) << 23));
}

FEWSTEP_INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + exp(-x)); }

} // namespace
