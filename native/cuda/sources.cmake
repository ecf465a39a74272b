# Sources of the CUDA back end, for nvcc and, with the host's device in native/emulated, for the C++ compiler.
file(GLOB LIMBECK_CUDA_KERNEL_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../ops/*/cuda.cu)
set(LIMBECK_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/runtime.cu
  ${CMAKE_CURRENT_LIST_DIR}/cublas.cu
  ${CMAKE_CURRENT_LIST_DIR}/table.cu
  ${LIMBECK_CUDA_KERNEL_SOURCES})
# Files that take a compiler minutes: compiled in so many slices, side by side; LIMBECK_SLICE says which one a compilation is.
set(LIMBECK_CUDA_SLICED "ops/divergence/cuda\\.cu$")
set(LIMBECK_CUDA_SLICES 6)
