# Sources of the CPU back end: two files per instruction set, each fenced by its own target pragma, so no file needs its own flags.
set(LIMBECK_CPU_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/dispatch.cpp
  ${CMAKE_CURRENT_LIST_DIR}/faults.cpp
  ${CMAKE_CURRENT_LIST_DIR}/threads.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_base.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_base_losses.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_avx2.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_avx2_losses.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_avx512.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_avx512_losses.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_neon.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa_neon_losses.cpp)
# Target limbeck_lanes_test: these files, include directory native/, C++20; fails with its exit status.
set(LIMBECK_LANES_TEST_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/lanes_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/lanes_test_base.cpp
  ${CMAKE_CURRENT_LIST_DIR}/lanes_test_avx2.cpp
  ${CMAKE_CURRENT_LIST_DIR}/lanes_test_avx512.cpp
  ${CMAKE_CURRENT_LIST_DIR}/lanes_test_neon.cpp)
