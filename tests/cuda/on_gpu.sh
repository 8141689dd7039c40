#!/bin/bash
# Compiles the tests of kernels for the GPU of this machine and runs each: as it is, then under
# compute-sanitizer's memcheck and racecheck. Needs CUDA's toolkit.
#
#   tests/cuda/on_gpu.sh [NAME..]
set -u
cd "$(dirname "$0")/../.." || exit
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
names=("$@")
[ ${#names[@]} -gt 0 ] || names=($(grep -L "CPU alone" tests/cuda/*.cu | xargs basename -s .cu))

# Two programs of each: for racecheck, every lane says what it has read.
compile() {
  for lanes in 1 32; do
    nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -D ARRIVING_LANES=$lanes \
      -I kernels/cuda -I tests/cuda "tests/cuda/$2.cu" -cudart static -o "$1/$2.$lanes" ||
      echo "$2: does not compile"
  done
}
export -f compile
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -c 'compile "$0" {}' "$folder"

failures=0
report() {
  [ "$1" -eq 0 ] && return
  echo "$2: failed ($1)"
  echo "$3" | tail -20
  failures=$((failures + 1))
}
for name in "${names[@]}"; do
  said=$("$folder/$name.1" 2>&1)
  report $? "$name" "$said"
  said=$(compute-sanitizer --tool memcheck --error-exitcode 9 "$folder/$name.1" 2>&1)
  report $? "$name, memcheck" "$said"
  said=$(compute-sanitizer --tool racecheck --error-exitcode 9 "$folder/$name.32" 2>&1)
  report $? "$name, racecheck" "$said"
done
echo "${#names[@]} programs, $failures failures"
exit $((failures > 0))
