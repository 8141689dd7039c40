// cuBLASLt, in the place of NVIDIA's, for machines without a GPU: a plain product, enqueued on the
// driver of this folder, of what the engine asks for and nothing else.
#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>
#include <functional>

// The driver's, see there.
void stand_in_enqueue(std::function<void()> work);

namespace {

enum Status { DONE = 0, INVALID = 7, UNSUPPORTED = 15 };
enum Type { F32 = 0, BF16 = 14 };
enum { SUMS_IN_F32 = 68, TURN_FIRST = 3, MOST_BYTES = 1, ALIGNMENT_OF_A = 5, ALIGNMENT_OF_D = 8 };

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
};
struct How {
  int first_is_turned;
};
struct Wishes {
  uint64_t bytes = 0;
  unsigned alignments = 0;
};
struct Algorithm {
  uint64_t data[8];
};
struct Found {
  Algorithm algorithm;
  size_t bytes;
  int status;
  float waves;
  int reserved[4];
};

// Behind what the library gave as an algorithm, so that nothing else is taken for one.
constexpr uint64_t PLAIN = 0x706c61696e;

bool fits(const How& how, const Layout& a, const Layout& b, const Layout& d) {
  return how.first_is_turned == 1 && a.type == BF16 && b.type == BF16 &&
         (d.type == F32 || d.type == BF16) && a.rows == b.rows && a.columns == d.rows &&
         b.columns == d.columns && a.stride >= int64_t(a.rows) && b.stride >= int64_t(b.rows) &&
         d.stride >= int64_t(d.rows);
}

float get(const Layout& of, const void* from, size_t at) {
  return of.type == F32 ? ((const float*)from)[at]
                        : __bfloat162float(((const __nv_bfloat16*)from)[at]);
}

void put(const Layout& of, void* to, size_t at, float value) {
  if (of.type == F32) ((float*)to)[at] = value;
  if (of.type == BF16) ((__nv_bfloat16*)to)[at] = __float2bfloat16(value);
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return 0; }

int cublasLtCreate(void** handle) {
  *handle = new int;
  return DONE;
}
int cublasLtDestroy(void* handle) {
  delete (int*)handle;
  return DONE;
}

int cublasLtMatrixLayoutCreate(Layout** it, int type, uint64_t rows, uint64_t columns,
                               int64_t stride) {
  *it = new Layout{type, rows, columns, stride};
  return DONE;
}
int cublasLtMatrixLayoutDestroy(Layout* it) {
  delete it;
  return DONE;
}

int cublasLtMatmulDescCreate(How** it, int sums, int scale) {
  if (sums != SUMS_IN_F32 || scale != F32) return UNSUPPORTED;
  *it = new How{};
  return DONE;
}
int cublasLtMatmulDescSetAttribute(How* it, int which, const void* value, size_t bytes) {
  if (which != TURN_FIRST || bytes != sizeof(int)) return UNSUPPORTED;
  memcpy(&it->first_is_turned, value, bytes);
  return DONE;
}
int cublasLtMatmulDescDestroy(How* it) {
  delete it;
  return DONE;
}

int cublasLtMatmulPreferenceCreate(Wishes** it) {
  *it = new Wishes;
  return DONE;
}
int cublasLtMatmulPreferenceSetAttribute(Wishes* it, int which, const void* value, size_t bytes) {
  if (which == MOST_BYTES && bytes == sizeof it->bytes) {
    memcpy(&it->bytes, value, bytes);
    return DONE;
  }
  if (which < ALIGNMENT_OF_A || ALIGNMENT_OF_D < which || bytes != 4) return UNSUPPORTED;
  it->alignments += 1;
  return DONE;
}
int cublasLtMatmulPreferenceDestroy(Wishes* it) {
  delete it;
  return DONE;
}

int cublasLtMatmulAlgoGetHeuristic(void*, How* how, Layout* a, Layout* b, Layout* c, Layout* d,
                                   Wishes* wishes, int wanted, Found* found, int* count) {
  if (wanted != 1 || c != d || !wishes->bytes || wishes->alignments != 4) return INVALID;
  *count = fits(*how, *a, *b, *d);
  if (*count) *found = Found{{{PLAIN}}, 0, DONE, 1, {}};
  return DONE;
}

int cublasLtMatmul(void*, How* how, const float* alpha, const void* a, Layout* of_a, const void* b,
                   Layout* of_b, const float* beta, const void* c, Layout* of_c, void* d,
                   Layout* of_d, const Algorithm* algorithm, void* workspace, size_t, void* stream) {
  const bool is_aligned = ((uintptr_t)a | (uintptr_t)b | (uintptr_t)d) % 16 == 0;
  if (!fits(*how, *of_a, *of_b, *of_d) || !is_aligned || c != d || of_c != of_d || !workspace ||
      !stream || algorithm->data[0] != PLAIN) {
    return INVALID;
  }
  const Layout x = *of_a, y = *of_b, z = *of_d;
  const float times = *alpha, kept = *beta;
  stand_in_enqueue([=] {
    for (size_t column = 0; column < z.columns; ++column) {
      for (size_t row = 0; row < z.rows; ++row) {
        float sum = 0;
        for (size_t k = 0; k < x.rows; ++k) {
          sum += get(x, a, row * x.stride + k) * get(y, b, column * y.stride + k);
        }
        const size_t at = column * z.stride + row;
        put(z, d, at, times * sum + (kept ? kept * get(z, d, at) : 0));
      }
    }
  });
  return DONE;
}

}  // extern "C"
