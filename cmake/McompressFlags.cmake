# mcompress_flags: what every target of ours is compiled with. Carried by an interface target, not by global flags, so
# that a project which includes this one keeps its own.
add_library(mcompress_flags INTERFACE)
target_compile_options(mcompress_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion
  $<$<BOOL:${MCOMPRESS_WERROR}>:-Werror>
  -ffp-contract=off)   # the same digits whatever -march: no silent fused multiply-add

# gcc 12 and 13 see overlapping copies and uninitialised members inside the standard library's own string and variant
# code as soon as they inline it (bugs 105329, 105562): warnings about nothing that an optimised build would stop at.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  target_compile_options(mcompress_flags INTERFACE -Wno-restrict -Wno-maybe-uninitialized)
endif()

if(MCOMPRESS_SANITIZE)
  target_compile_options(mcompress_flags INTERFACE
    -fsanitize=${MCOMPRESS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(mcompress_flags INTERFACE -fsanitize=${MCOMPRESS_SANITIZE})
endif()
if(MCOMPRESS_COVERAGE)
  target_compile_options(mcompress_flags INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(mcompress_flags INTERFACE --coverage)
endif()
if(MCOMPRESS_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "MCOMPRESS_FUZZ needs clang: use the preset 'fuzz', or -DCMAKE_CXX_COMPILER=clang++-14")
  endif()
  target_compile_options(mcompress_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(MCOMPRESS_CCACHE ccache)
if(MCOMPRESS_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Paths relative to the checkout, so that every clone with its build folder inside shares the cache.
  set(launcher "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${MCOMPRESS_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()
