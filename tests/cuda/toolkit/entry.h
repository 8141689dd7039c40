// How the driver of this folder calls a kernel whose signature it does not know: put behind the
// kernel's text by nvrtc.cpp.
#pragma once
#include <tuple>
#include <type_traits>

#include "shim.h"

namespace shim {

// A kernel with copies of its arguments, as a driver makes them when a launch is enqueued.
template <class... A>
struct Call {
  void (*kernel)(A...);
  std::tuple<std::remove_cv_t<std::remove_reference_t<A>>...> arguments;
};

template <class T>
T copied(const void* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <class... A, size_t... I>
std::function<void()> bound(void (*kernel)(A...), void** from, std::index_sequence<I...>) {
  Call<A...> call{kernel, {copied<std::remove_cv_t<std::remove_reference_t<A>>>(from[I])...}};
  return [call] { std::apply(call.kernel, call.arguments); };
}

template <class... A>
std::function<void()> bind(void (*kernel)(A...), void** from) {
  return bound(kernel, from, std::index_sequence_for<A...>{});
}

}  // namespace shim

#ifndef SHIM_CLUSTER
#define SHIM_CLUSTER 1
#endif
extern "C" unsigned shim_cluster() { return SHIM_CLUSTER; }

extern "C" std::function<void()>* shim_bind(void** arguments) {
  return new std::function<void()>(shim::bind(run, arguments));
}
