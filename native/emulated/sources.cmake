# The emulated addon: the kernels' .cu files and the CUDA host code, compiled by the host compiler against the stand-in headers.
file(GLOB LIMBECK_EMULATED_SOURCES CONFIGURE_DEPENDS
  native/cuda/*.cu native/cuda/*.cpp native/ops/*/cuda.cu native/emulated/*.cpp native/emulated/*.cu)
list(FILTER LIMBECK_EMULATED_SOURCES EXCLUDE REGEX "runtime_absent\\.cpp$")
