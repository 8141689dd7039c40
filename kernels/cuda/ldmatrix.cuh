// Fragments of matrix products out of shared memory.
#pragma once
#include "ptx.cuh"

// Four matrices of 8 x 8 numbers of 16 bits: lane 8 i + r gives the address of row r of matrix i,
// and lane 4 g + t gets of each matrix the two numbers at row g, columns 2t and 2t + 1.
__device__ __forceinline__ void load_matrices(u32 (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same, but lane 4 g + t gets the numbers at rows 2t and 2t + 1, column g.
__device__ __forceinline__ void load_matrices_transposed(u32 (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(row))
               : "memory");
}
