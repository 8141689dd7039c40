#!/bin/sh
# Builds llama.cpp's llama-bench from the source package of llama-cpp-python, into FOLDER: llama_cpp.sh FOLDER
# Wants pip, cmake, ninja, and a C++ compiler on the path.
set -eu

VERSION=0.3.36
mkdir -p "$1"
cd "$1"

# With build isolation pip would first compile a cmake of its own, only to read the package's name.
pip install scikit-build-core
pip download --no-deps --no-build-isolation --no-binary llama-cpp-python "llama-cpp-python==$VERSION"
tar xzf "llama_cpp_python-$VERSION.tar.gz"

cd "llama_cpp_python-$VERSION/vendor/llama.cpp"
cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DGGML_LLAMAFILE=ON \
    -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
ninja -C build llama-bench
echo "$PWD/build/bin/llama-bench"
