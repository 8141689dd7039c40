// draw.cuh against the definition, done plainly: tokens are sorted, and looked at one by one. On a
// CPU alone: host and device share functions.
#include "argmax.cuh"
#include "check.h"
#include "draw.cuh"

template <int V>
__global__ void greedy(const float* x, int* y, Best* scratch, u32* counters) {
  argmax<V, 1>(x, y, scratch, counters, blockIdx.x, blockIdx.y);
}

template <int V>
__global__ void drawn(const float* x, int* y, const Rule* rules, const long* past) {
  draw<V>(x, y, rules, past, 1, blockIdx.x);
}

using Place = std::pair<u32, int>;

// The first place at which the sum of weights exceeds a share of all of it.
size_t reached(const std::vector<Place>& places, u64 share) {
  u64 all = 0, sum = 0;
  for (const Place& it : places) all += weight_of(it.first);
  size_t i = 0;
  while (i < places.size() && (sum += weight_of(places[i].first)) <= __umul64hi(all, share)) ++i;
  return i;
}

int plainly(const float* x, int size, const Rule& rule, u64 position) {
  int best = 0;
  for (int i = 0; i < size; ++i)
    if (x[best] < x[i] || (x[best] != x[best] && x[i] == x[i])) best = i;
  if (rule.scale == 0 || !std::isfinite(x[best])) return best;
  std::vector<Place> places;
  for (int i = 0; i < size; ++i) places.push_back({distance_of(x[i], x[best], rule.scale), i});
  std::sort(places.begin(), places.end());
  places.resize(std::min<size_t>(rule.top_k, size));
  if (rule.top_p != ~0ull) places.resize(reached(places, rule.top_p) + 1);
  while (places.back().first > rule.farthest) places.pop_back();
  return places[reached(places, random_bits(rule.seed, position, rule.sequence))].second;
}

// Rules of every kind: cold and hot, few and many tokens, none at all.
std::vector<Rule> rules() {
  std::vector<Rule> all{{0, 0, 0, 1, 0, 0, 0}};
  for (const float scale : {1.4426950f, 4.f, 0.1f})
    for (const u32 top_k : {~0u, 2u, 50u})
      for (const u64 top_p : {~0ull, 0ull, ~0ull / 10 * 9, ~0ull / 1000})
        for (const u32 farthest : {~0u, 4u << 26, 0u})
          all.push_back({7, all.size(), top_p, top_k, farthest, scale, 0});
  return all;
}

// `step`: logits are multiples of it, so that some are equal; 0 leaves them as they are.
template <int V>
void test(const char* what, double deviation, float step) {
  const std::vector<Rule> all = rules();
  const int rows = all.size();
  Array<float> x((size_t)rows * V, deviation);
  for (float& it : x.host) it = step ? std::round(it / step) * step : it;
  x.host[V / 2] = NAN, x.host[V + V / 3] = -INFINITY, x.host[2 * V + V / 3] = INFINITY;
  x.send();
  Array<int> y(rows);
  Array<u8> scratch(rows * sizeof(Best)), given(rows * sizeof(Rule));
  Array<u32> counters(rows);
  Array<long> past(rows);
  for (int i = 0; i < rows; ++i) counters.host[i] = 0, past.host[i] = 1000 + i;
  memcpy(given.host.data(), all.data(), given.host.size());
  counters.send(), past.send(), given.send();
  launch(greedy<V>, dim3(1, rows), dim3(256), 0, x.device, y.device, (Best*)scratch.device,
         counters.device);
  launch(drawn<V>, dim3(rows), dim3(DRAW_THREADS), 0, x.device, y.device,
         (const Rule*)given.device, past.device);
  y.fetch();
  check(what, error(y, rows, 1, 1, [&](int row, int) {
          return plainly(&x.host[(size_t)row * V], V, all[row], 1001 + row);
        }), 0);
}

int main() {
  test<1>("draw: one token", 1, 0);
  test<7>("draw: seven tokens, some equal", 1, 0.5);
  test<1000>("draw: a thousand, many equal", 2, 0.25);
  test<1003>("draw: all equal", 0, 0);
  test<20011>("draw: many", 3, 0);
  return failures != 0;
}
