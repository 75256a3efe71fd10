// The kernels for one instruction set, named by FEWSTEP_KERNELS and, in words, FEWSTEP_KERNELS_NAME: build.rs compiles this file once for each.

#include "kernels.h"
#include "vector.h"

#if defined(__clang__)
#pragma clang fp contract(fast)
#endif

namespace {

using fewstep::Activation;
using fewstep::Dropout;
using fewstep::Kind;
using fewstep::Rows;

// Which of a sample's numbers from `position` on dropout keeps. The mixing is that of Wellons' lowbias32, keyed.
FEWSTEP_INLINE vf kept(const Dropout& dropout, uint32_t position) {
  vu h{};
  for (int lane = 0; lane < W; ++lane)
    h[lane] = lane;
  h = (h + position) ^ dropout.key[0];
  h = (h ^ (h >> 16)) * 0x7feb352d;
  h = h + dropout.key[1];
  h = (h ^ (h >> 15)) * 0x846ca68b;
  h = h ^ (h >> 16);
  return h >= splat(dropout.threshold) ? splat(dropout.scale) : vf{};
}

// Activation without and with its parts, decided at compile time.
template <bool SILU, bool DROPOUT> struct Function {
  const Dropout* dropout;

  FEWSTEP_INLINE vf value(vf z, uint32_t position) const {
    vf y = SILU ? z * sigmoid(z) : z;
    return DROPOUT ? y * kept(*dropout, position) : y;
  }

  FEWSTEP_INLINE vf gradient(vf z, vf dy, uint32_t position) const {
    vf g = DROPOUT ? dy * kept(*dropout, position) : dy;
    if (SILU) {
      vf s = sigmoid(z);
      g = g * (s * (1.0f + z * (1.0f - s)));
    }
    return g;
  }
};

// Channels [c, c + K * W) of all rows; `tail` numbers in the last vector.
template <int K> struct Columns {
  int64_t c;
  int tail;

  FEWSTEP_INLINE int lanes(int k) const { return k == K - 1 ? tail : W; }
  FEWSTEP_INLINE int64_t at(int k) const { return c + k * W; }

  FEWSTEP_INLINE void read(const float* p, vf* v) const {
    for (int k = 0; k < K; ++k)
      v[k] = load(p + at(k), W); // padded
  }
  FEWSTEP_INLINE void write(float* p, const vf* v) const {
    for (int k = 0; k < K; ++k)
      store(p + at(k), v[k], W);
  }
};

// Calls `body` with Columns for all channels: as many at once as registers hold, then one vector at a time.
template <typename Body> FEWSTEP_INLINE void each_column(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + 4 * W <= channels; c += 4 * W)
    body(Columns<4>{c, W});
  for (; c + 2 * W <= channels; c += 2 * W)
    body(Columns<2>{c, W});
  for (; c + W <= channels; c += W)
    body(Columns<1>{c, W});
  if (c < channels)
    body(Columns<1>{c, static_cast<int>(channels - c)});
}

template <typename T, int K>
FEWSTEP_INLINE void moments_of(Columns<K> col, Rows rows, const T* x, const T* origin, float* sum, float* square) {
  vf o[K], s[K] = {}, q[K] = {};
  for (int k = 0; k < K; ++k)
    o[k] = load(origin + col.at(k), col.lanes(k));
  for (int64_t row = 0; row < rows.count; ++row, x += rows.channels) {
    for (int k = 0; k < K; ++k) {
      vf d = load(x + col.at(k), col.lanes(k)) - o[k];
      s[k] += d;
      q[k] += d * d;
    }
  }
  col.write(sum, s);
  col.write(square, q);
}

template <typename T, typename F, int K>
FEWSTEP_INLINE void apply_to(Columns<K> col, Rows rows, const T* x, const Activation& f, F act, T* y) {
  vf a[K], b[K];
  col.read(f.scale, a);
  col.read(f.shift, b);
  uint32_t position = f.dropout ? f.dropout->first : 0;
  for (int64_t row = 0; row < rows.count; ++row, x += rows.channels, y += rows.channels) {
    for (int k = 0; k < K; ++k) {
      vf z = load(x + col.at(k), col.lanes(k)) * a[k] + b[k];
      store(y + col.at(k), act.value(z, position + static_cast<uint32_t>(col.at(k))), col.lanes(k));
    }
    position += static_cast<uint32_t>(rows.channels);
  }
}

template <typename T, typename F, int K>
FEWSTEP_INLINE void gradient_sums_of(Columns<K> col, Rows rows, const T* x, const T* dy, const Activation& f, F act,
                                     const float* unit_scale, const float* unit_shift, float* sum_g, float* sum_gu,
                                     float* sum_u, T* g_out) {
  vf a[K], b[K], r[K], m[K], g_sum[K] = {}, gu_sum[K] = {}, u_sum[K] = {};
  col.read(f.scale, a);
  col.read(f.shift, b);
  col.read(unit_scale, r);
  col.read(unit_shift, m);
  uint32_t position = f.dropout ? f.dropout->first : 0;
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int k = 0; k < K; ++k) {
      vf v = load(x + col.at(k), col.lanes(k));
      vf d = load(dy + col.at(k), col.lanes(k));
      vf g = act.gradient(v * a[k] + b[k], d, position + static_cast<uint32_t>(col.at(k)));
      vf u = v * r[k] + m[k];
      g_sum[k] += g;
      gu_sum[k] += g * u;
      u_sum[k] += u;
      store(g_out + col.at(k), g, col.lanes(k));
    }
    x += rows.channels, dy += rows.channels, g_out += rows.channels;
    position += static_cast<uint32_t>(rows.channels);
  }
  col.write(sum_g, g_sum);
  col.write(sum_gu, gu_sum);
  col.write(sum_u, u_sum);
}

template <typename T, int K>
FEWSTEP_INLINE void gradient_of(Columns<K> col, Rows rows, const T* x, const float* of_g, const float* of_x,
                                const float* constant, T* dx) {
  vf p[K], q[K], t[K];
  col.read(of_g, p);
  col.read(of_x, q);
  col.read(constant, t);
  for (int64_t row = 0; row < rows.count; ++row, x += rows.channels, dx += rows.channels) {
    for (int k = 0; k < K; ++k) {
      vf v = load(x + col.at(k), col.lanes(k));
      vf g = load(dx + col.at(k), col.lanes(k));
      store(dx + col.at(k), g * p[k] + (v * q[k] + t[k]), col.lanes(k));
    }
  }
}

template <typename T, int K>
FEWSTEP_INLINE void scaled_sum_of(Columns<K> col, Rows rows, const T* a, int64_t stride_a, const T* b,
                                  int64_t stride_b, float factor, T* y) {
  for (int64_t row = 0; row < rows.count; ++row, a += stride_a, b += b ? stride_b : 0, y += rows.channels) {
    for (int k = 0; k < K; ++k) {
      vf v = load(a + col.at(k), col.lanes(k));
      if (b)
        v += load(b + col.at(k), col.lanes(k));
      store(y + col.at(k), v * factor, col.lanes(k));
    }
  }
}

template <typename T> struct Type {
  static FEWSTEP_INLINE const T* in(const void* p) { return static_cast<const T*>(p); }
  static FEWSTEP_INLINE T* out(void* p) { return static_cast<T*>(p); }
};

// Calls `body` with the type of the numbers.
template <typename Body> FEWSTEP_INLINE void typed(Kind kind, const Body& body) {
  if (kind == Kind::F32)
    body(Type<float>{});
  else
    body(Type<uint16_t>{});
}

// The same with the function of `f`, so that the loops contain no decision.
template <typename Body> FEWSTEP_INLINE void typed(Kind kind, const Activation& f, const Body& body) {
  auto with = [&](auto act) { typed(kind, [&](auto type) { body(type, act); }); };
  if (f.silu && f.dropout)
    with(Function<true, true>{f.dropout});
  else if (f.silu)
    with(Function<true, false>{nullptr});
  else if (f.dropout)
    with(Function<false, true>{f.dropout});
  else
    with(Function<false, false>{nullptr});
}

void moments(Rows rows, const void* x, const void* origin, float* sum, float* square) {
  typed(rows.kind, [&](auto type) {
    each_column(rows.channels,
                [&](auto col) { moments_of(col, rows, type.in(x), type.in(origin), sum, square); });
  });
}

void apply(Rows rows, const void* x, const Activation& f, void* y) {
  typed(rows.kind, f, [&](auto type, auto act) {
    each_column(rows.channels, [&](auto col) { apply_to(col, rows, type.in(x), f, act, type.out(y)); });
  });
}

void gradient_sums(Rows rows, const void* x, const void* dy, const Activation& f, const float* unit_scale,
                   const float* unit_shift, float* sum_g, float* sum_gu, float* sum_u, void* g) {
  typed(rows.kind, f, [&](auto type, auto act) {
    each_column(rows.channels, [&](auto col) {
      gradient_sums_of(col, rows, type.in(x), type.in(dy), f, act, unit_scale, unit_shift, sum_g, sum_gu, sum_u,
                       type.out(g));
    });
  });
}

void gradient(Rows rows, const void* x, const float* of_g, const float* of_x, const float* constant, void* dx) {
  typed(rows.kind, [&](auto type) {
    each_column(rows.channels,
                [&](auto col) { gradient_of(col, rows, type.in(x), of_g, of_x, constant, type.out(dx)); });
  });
}

void scaled_sum(Rows rows, const void* a, int64_t stride_a, const void* b, int64_t stride_b, float factor, void* y) {
  typed(rows.kind, [&](auto type) {
    each_column(rows.channels, [&](auto col) {
      scaled_sum_of(col, rows, type.in(a), stride_a, type.in(b), stride_b, factor, type.out(y));
    });
  });
}

} // namespace

namespace fewstep {

extern const Kernels FEWSTEP_KERNELS;
const Kernels FEWSTEP_KERNELS = {FEWSTEP_KERNELS_NAME, moments, apply, gradient_sums, gradient, scaled_sum};

} // namespace fewstep
