// When each kernel of a program on a GPU begins and ends, by CUPTI: a library that the driver loads
// into any program, which writes a line for each kernel: begin, end (ns), blocks along x and y,
// threads, registers, bytes of dynamic shared memory. bench/timeline.py sums it up.
//
//   gcc -shared -fPIC bench/timeline.c -o timeline.so -I CUDA/include -L CUDA/lib64 -l:libcupti.so.13
//   CUDA_INJECTION64_PATH=./timeline.so TIMELINE=lines.txt treen bench ...
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>

static FILE* lines;

static void must(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return;
  fprintf(stderr, "timeline: %s: error %d\n", what, (int)result);
  exit(1);
}

static void CUPTIAPI give(uint8_t** buffer, size_t* size, size_t* records) {
  *size = 8 << 20, *records = 0;
  *buffer = aligned_alloc(8, *size);
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t* buffer, size_t size,
                          size_t used) {
  CUpti_Activity* record = NULL;
  while (cuptiActivityGetNextRecord(buffer, used, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const CUpti_ActivityKernel10* it = (void*)record;
    fprintf(lines, "%llu %llu %d %d %d %d %d\n", (unsigned long long)it->start,
            (unsigned long long)it->end, it->gridX, it->gridY, it->blockX, it->registersPerThread,
            it->dynamicSharedMemory);
  }
  free(buffer);
}

static void end(void) {
  must(cuptiActivityFlushAll(1), "flush");
  fclose(lines);
}

int InitializeInjection(void) {
  const char* path = getenv("TIMELINE");
  lines = fopen(path ? path : "timeline.txt", "w");
  if (!lines) return perror("timeline"), 0;
  must(cuptiActivityRegisterCallbacks(give, take), "register");
  must(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), "enable");
  atexit(end);
  return 1;
}
