// The driver, in the place of NVIDIA's, for machines without a GPU: device memory is memory, and
// kernels run on the shim. What is enqueued runs no sooner than somebody waits for it, so that who
// forgets to wait reads nothing; fresh memory is poisoned; sizes are checked as a device would.
#include <cuda.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>

#include "hopper.cuh"

namespace {

constexpr unsigned MOST_THREADS = 1024, USUAL_SHARED = 48 << 10;

using Work = std::vector<std::function<void()>>;

struct Kernel {
  std::function<void()>* (*bind)(void**);
  unsigned cluster;
  unsigned shared = USUAL_SHARED;
};

Work queue;
Work* recording = nullptr;
std::map<CUdeviceptr, size_t> allocated;
int context;

void enqueue(std::function<void()> work) { (recording ? *recording : queue).push_back(work); }

// Whether all of `bytes` at `address` were allocated at once.
bool is_there(CUdeviceptr address, size_t bytes) {
  auto after = allocated.upper_bound(address);
  if (after == allocated.begin()) return false;
  const auto& [first, size] = *--after;
  return address + bytes <= first + size;
}

CUresult done() { return CUDA_SUCCESS; }

// What every text of g++ begins with.
constexpr const char* TEXT = "\t.file";

// Makes a library of the assembly text at `path`, in its place. The shim's is beside this one.
bool assemble(const std::string& path) {
  Dl_info info;
  dladdr((const void*)&cuInit, &info);
  const std::string library = info.dli_fname, folder = library.substr(0, library.rfind('/'));
  const std::string text = path + ".s";
  const std::string command =
      "g++ -shared " + text + " -L" + folder + " -lshim -o " + path;
  const bool is_made =
      rename(path.c_str(), text.c_str()) == 0 && system(command.c_str()) == 0;
  unlink(text.c_str());
  return is_made;
}

// Ampere's, unless `TREEN_STAND_INS` says another: the shim has what a GPU of any architecture does.
int capability() {
  const char* played = getenv("TREEN_STAND_INS");
  return played ? atoi(played) : 80;
}

// Bytes of shared memory that a block may have.
unsigned most_shared() { return (capability() < 90 ? 163 : 227) << 10; }

}  // namespace

// For libraries that enqueue by themselves.
void stand_in_enqueue(std::function<void()> work) { enqueue(work); }

extern "C" {

CUresult cuInit(unsigned) { return done(); }

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = 0;
  return ordinal == 0 ? done() : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char* name, int size, CUdevice) {
  snprintf(name, size, "a CPU in the place of a GPU");
  return done();
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
  switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability() / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability() % 10; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = most_shared(); break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 4; break;
    default: *value = 0;
  }
  return done();
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* it, CUdevice) {
  *it = (CUcontext)&context;
  return done();
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return done(); }
CUresult cuCtxSetCurrent(CUcontext) { return done(); }
CUresult cuCtxGetCurrent(CUcontext* it) {
  *it = (CUcontext)&context;
  return done();
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* all) {
  *free = *all = size_t(1) << 32;
  return done();
}

// What follows each allocation, which nothing may write.
const size_t BEHIND = 1 << 17;
const unsigned char UNTOUCHED = 0xa5;

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  void* memory = bytes ? aligned_alloc(256, (bytes + BEHIND + 255) / 256 * 256) : nullptr;
  if (!memory) return bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
  memset(memory, 0xff, bytes);
  memset((char*)memory + bytes, UNTOUCHED, BEHIND);
  *address = (CUdeviceptr)memory;
  allocated[*address] = bytes;
  return done();
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  const auto it = allocated.find(address);
  if (it == allocated.end()) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < BEHIND; ++i) {
    if (((unsigned char*)address)[it->second + i] == UNTOUCHED) continue;
    fprintf(stderr, "byte %zu of an allocation of %zu was written\n", it->second + i, it->second);
    abort();
  }
  allocated.erase(it);
  free((void*)address);
  return done();
}

CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = malloc(bytes);
  memset(*memory, 0xff, bytes);
  return done();
}
CUresult cuMemFreeHost(void* memory) {
  free(memory);
  return done();
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
  if (!is_there(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  enqueue([=] { memset((void*)to, value, bytes); });
  return done();
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream) {
  if (!is_there(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  enqueue([=] { memcpy((void*)to, from, bytes); });
  return done();
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  if (!is_there(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memcpy((void*)to, from, bytes);
  return done();
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream) {
  if (!is_there(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  enqueue([=] { memcpy(to, (void*)from, bytes); });
  return done();
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream) {
  if (!is_there(from, bytes) || !is_there(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  enqueue([=] { memmove((void*)to, (void*)from, bytes); });
  return done();
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  *stream = (CUstream)&queue;
  return done();
}
CUresult cuStreamDestroy_v2(CUstream) { return done(); }

CUresult cuStreamSynchronize(CUstream) {
  if (recording) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  Work work;
  work.swap(queue);
  for (auto& it : work) it();
  return done();
}
CUresult cuCtxSynchronize() { return cuStreamSynchronize(nullptr); }

CUresult cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode) {
  if (recording) return CUDA_ERROR_ILLEGAL_STATE;
  recording = new Work;
  return done();
}
CUresult cuStreamEndCapture(CUstream, CUgraph* graph) {
  if (!recording) return CUDA_ERROR_ILLEGAL_STATE;
  *graph = (CUgraph)recording;
  recording = nullptr;
  return done();
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  *exec = (CUgraphExec) new Work(*(Work*)graph);
  return done();
}
CUresult cuGraphDestroy(CUgraph graph) {
  delete (Work*)graph;
  return done();
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream) {
  const Work work = *(Work*)exec;
  queue.insert(queue.end(), work.begin(), work.end());
  return done();
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  delete (Work*)exec;
  return done();
}

// An image is its length and a library of g++, or the assembly text of one.
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  const auto* code = (const char*)image;
  const bool is_text = !strncmp(code, TEXT, strlen(TEXT));
  size_t bytes = is_text ? strlen(code) : 0;
  if (!is_text) {
    memcpy(&bytes, code, sizeof bytes);
    code += sizeof bytes;
  }
  char path[] = "/tmp/treen-image-XXXXXX";
  const int file = mkstemp(path);
  const bool written = file >= 0 && write(file, code, bytes) == ssize_t(bytes);
  if (file >= 0) close(file);
  const bool is_library = written && (!is_text || assemble(path));
  *module = is_library ? (CUmodule)dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!*module) fprintf(stderr, "%s\n", dlerror());
  unlink(path);
  return *module ? done() : CUDA_ERROR_INVALID_IMAGE;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  const auto bind = (std::function<void()>* (*)(void**))dlsym((void*)module, "shim_bind");
  const auto cluster = (unsigned (*)())dlsym((void*)module, "shim_cluster");
  if (!bind || !cluster || std::string(name) != "run") return CUDA_ERROR_NOT_FOUND;
  *function = (CUfunction) new Kernel{bind, cluster()};
  return done();
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
  if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value < 0 || unsigned(value) > most_shared()) return CUDA_ERROR_INVALID_VALUE;
    ((Kernel*)function)->shared = value;
  }
  return done();
}

// Of what the copy engine asks for, what is checked is what a kernel's author gets wrong.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* data, const cuuint64_t* extent, const cuuint64_t* stride,
                                const cuuint32_t* box, const cuuint32_t*, CUtensorMapInterleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill) {
  const u32 element = type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : 2;
  const bool fits = rank == 2 && (u64)data % 16 == 0 && stride[0] % 16 == 0 && box[0] <= 256 &&
                    box[1] <= 256 && extent[0] && extent[1] && box[0] * element == 128 &&
                    swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
  const u64 last = (extent[1] - 1) * stride[0] + extent[0] * element;
  if (!fits || !is_there((CUdeviceptr)data, last)) return CUDA_ERROR_INVALID_VALUE;
  *(TensorMap*)map = {(const unsigned char*)data, element, {(u32)extent[0], (u32)extent[1], 1},
                      {stride[0], 0},             {box[0], box[1], 1}, 1};
  return done();
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments,
                          void**) {
  const CUlaunchConfig& c = *config;
  const dim3 grid(c.gridDimX, c.gridDimY, c.gridDimZ), size(c.blockDimX, c.blockDimY, c.blockDimZ);
  const auto* kernel = (const Kernel*)function;
  const unsigned threads = size.x * size.y * size.z, shared = c.sharedMemBytes;
  const bool some = grid.x && grid.y && grid.z && threads && grid.y < 65536 && grid.z < 65536;
  if (!some || threads > MOST_THREADS || shared > kernel->shared || grid.x % kernel->cluster)
    return CUDA_ERROR_INVALID_VALUE;
  const std::unique_ptr<std::function<void()>> bound(kernel->bind(arguments));
  const std::function<void()> run = *bound;
  const unsigned cluster = kernel->cluster;
  enqueue([=] { shim::launch(grid, size, shared, run, cluster); });
  return done();
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "refused by the stand-in driver";
  return done();
}
CUresult cuGetErrorName(CUresult, const char** text) {
  *text = "error";
  return done();
}

}  // extern "C"
