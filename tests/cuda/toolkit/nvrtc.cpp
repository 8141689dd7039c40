// The run-time compiler, in the place of NVIDIA's, for machines without a GPU: what it makes of a
// kernel is a library of g++ that runs on the shim, and in the place of PTX, the assembly text of
// that. The folder above this library's has `shim` and `toolkit` beside `lib`.
#include <dlfcn.h>
#include <nvrtc.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

struct _nvrtcProgram {
  std::string source, log, assembly;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<char> image;
};

namespace {

fs::path root() {
  Dl_info info;
  dladdr((const void*)&nvrtcCompileProgram, &info);
  return fs::canonical(info.dli_fname).parent_path().parent_path();
}

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// What kernels know of the architecture: 800 for `--gpu-architecture=sm_80`. CUDA's headers, which
// would then print PTX, do not.
std::string defined(int n, const char* const* options) {
  const std::string key = "--gpu-architecture=sm_";
  for (int i = 0; i < n; ++i) {
    const std::string option = options[i];
    if (option.rfind(key, 0) == 0)
      return "#undef __CUDA_ARCH__\n#define __CUDA_ARCH__ " +
             std::to_string(10 * atoi(option.c_str() + key.size())) + "\n";
  }
  return "";
}

// What the shim has to know of a kernel whose blocks are clusters: how many, and that a block finds
// the `__shared__` arrays of another at the same place behind its thread's storage.
std::string clustered(const std::string& source) {
  const std::string key = "__cluster_dims__(";
  const size_t at = source.find(key);
  if (at == std::string::npos) return "";
  const int blocks = atoi(source.c_str() + at + key.size());
  return " -ftls-model=initial-exec -DSHIM_CLUSTER=" + std::to_string(blocks);
}

}  // namespace

nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char*, int headers,
                               const char* const* texts, const char* const* names) {
  *program = new _nvrtcProgram{source, "", "", {}, {}};
  for (int i = 0; i < headers; ++i) (*program)->headers.emplace_back(names[i], texts[i]);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int n, const char* const* options) {
  const fs::path shim = root() / "shim";
  std::string name = (fs::temp_directory_path() / "treen-kernel-XXXXXX").string();
  const fs::path folder = mkdtemp(name.data());
  for (const auto& [name, text] : program->headers) {
    if (!fs::exists(shim / name)) std::ofstream(folder / name) << text;
  }
  std::ofstream(folder / "kernel.cpp") << defined(n, options) << "#line 1\n"
                                       << program->source << "\n#include \"entry.h\"\n";
  std::ostringstream command;
  command << "g++ -std=c++17 -O1 -fno-strict-aliasing -w -S -fPIC -include shim.h"
          << clustered(program->source) << " -I" << shim
          << " -I" << root() / "toolkit" << " -I" << folder << " -isystem " << root() / "include"
          << " " << folder / "kernel.cpp" << " -o " << folder / "kernel.s" << " 2> "
          << folder / "log" << " && g++ -shared " << folder / "kernel.s" << " -L" << root() / "lib"
          << " -lshim -o " << folder / "kernel.so" << " 2> " << folder / "log";
  const bool compiled = system(command.str().c_str()) == 0;
  program->log = read(folder / "log");
  const std::string image = compiled ? read(folder / "kernel.so") : "";
  program->image.assign(image.begin(), image.end());
  program->assembly = compiled ? read(folder / "kernel.s") : "";
  fs::remove_all(folder);
  return compiled ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* size) {
  *size = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) {
  strcpy(log, program->log.c_str());
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* size) {
  *size = sizeof(size_t) + program->image.size();
  return NVRTC_SUCCESS;
}

// A cubin tells its own length; so does this.
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* cubin) {
  const size_t size = program->image.size();
  memcpy(cubin, &size, sizeof size);
  memcpy(cubin + sizeof size, program->image.data(), size);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t* size) {
  *size = program->assembly.size() + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* ptx) {
  strcpy(ptx, program->assembly.c_str());
  return NVRTC_SUCCESS;
}

// None of NVIDIA's, so that nobody takes an image for one of theirs.
nvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = *minor = 0;
  return NVRTC_SUCCESS;
}

const char* nvrtcGetErrorString(nvrtcResult result) { return result ? "failed" : "succeeded"; }
