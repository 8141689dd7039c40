// What tests of attention share: random inputs, and the result in f64.
#pragma once
#include "check.h"

template <int KH_, int G_, int P_, int PV_, bool CAUSAL_, int WINDOW_>
struct AttentionCase {
  static constexpr int KH = KH_, G = G_, P = P_, PV = PV_, WINDOW = WINDOW_;
  static constexpr bool CAUSAL = CAUSAL_;
};

template <class Case>
bool sees(int at, int t) {
  if (Case::CAUSAL && t > at) return false;
  return Case::WINDOW == 0 || std::abs(at - t) < Case::WINDOW;
}

// What head `head` (of KH * G) of row s gives.
template <class Case, class Q, class T>
std::vector<double> attend(const Array<Q>& q, const Array<T>& k, const Array<T>& v, int s, int head,
                           int past, int keys, double scale) {
  constexpr int KH = Case::KH, P = Case::P, PV = Case::PV;
  const int kv = head / Case::G;
  std::vector<double> weights(keys), y(PV);
  double top = -1e300, sum = 0;
  for (int t = 0; t < keys; ++t) {
    if (!sees<Case>(past + s, t)) continue;
    for (int i = 0; i < P; ++i)
      weights[t] += q[((size_t)s * KH * Case::G + head) * P + i] * k[((size_t)t * KH + kv) * P + i];
    top = std::fmax(top, weights[t] * scale);
  }
  for (int t = 0; t < keys; ++t) {
    weights[t] = sees<Case>(past + s, t) ? std::exp(weights[t] * scale - top) : 0;
    sum += weights[t];
  }
  for (int t = 0; t < keys; ++t) {
    for (int i = 0; i < PV; ++i) y[i] += weights[t] / sum * v[((size_t)t * KH + kv) * PV + i];
  }
  return y;
}

// Has `run(q, k, v, y, scale)` compute a case with random inputs, and checks its result.
template <class Case, class Q, class T, class Y, class Run>
void attention_case(int rows, int past, int keys, Run run) {
  constexpr int HEADS = Case::KH * Case::G, PV = Case::PV;
  const double scale = 1.3 / std::sqrt(Case::P);
  Array<Q> q(rows * HEADS * Case::P, 1);
  Array<T> k(keys * Case::KH * Case::P, 1), v(keys * Case::KH * PV, 1);
  Array<Y> y(rows * HEADS * PV);
  run((const Q*)q.device, (const T*)k.device, (const T*)v.device, y.device, float(scale));
  y.fetch();
  std::vector<double> want;
  char name[99];
  snprintf(name, sizeof name, "%d rows, %d keys, %d x %d heads of %d and %d", rows, keys, Case::KH,
           Case::G, Case::P, PV);
  check(name,
        error(y, rows * HEADS, PV, PV,
              [&](int r, int c) {
                if (c == 0) want = attend<Case>(q, k, v, r / HEADS, r % HEADS, past, keys, scale);
                return want[c];
              }),
        1e-2);
}
