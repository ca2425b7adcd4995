# mcompress_find_dependencies(): finds every third party, or stops with one error that lists what is missing and names
# the command which fills the gap. A macro: imported targets and the variables of the modules stay visible.
#
# Order: what CMAKE_PREFIX_PATH or the system offers in a usable version, then the prefix of cmake/bootstrap.sh.

set(MCOMPRESS_ONNX_MIN 1.17)

execute_process(COMMAND bash "${PROJECT_SOURCE_DIR}/cmake/bootstrap.sh" --print-prefix
  OUTPUT_VARIABLE MCOMPRESS_DEPS_PREFIX OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT EXISTS "${MCOMPRESS_DEPS_PREFIX}/stamps/complete")
  set(MCOMPRESS_DEPS_PREFIX "")
endif()

# Libraries known to pkg-config only, as an imported target each.
macro(mcompress_find_pkgconfig name module)
  pkg_check_modules(${name} QUIET IMPORTED_TARGET ${module})
  if(NOT ${name}_FOUND)
    list(APPEND _missing "${module}")
  endif()
endmacro()

macro(mcompress_find_dependencies)
  set(_missing "")
  find_package(Threads REQUIRED)
  find_package(PkgConfig QUIET)
  if(NOT PkgConfig_FOUND)
    list(APPEND _missing "pkg-config")
  endif()

  foreach(_package Protobuf Eigen3 nlohmann_json yaml-cpp TBB spdlog CLI11)
    find_package(${_package} QUIET)
    if(NOT ${_package}_FOUND)
      list(APPEND _missing "${_package}")
    endif()
  endforeach()
  if(PkgConfig_FOUND)
    mcompress_find_pkgconfig(HWY libhwy)
    mcompress_find_pkgconfig(XXHASH libxxhash)
    mcompress_find_pkgconfig(LIBZIP libzip)
    mcompress_find_pkgconfig(ZSTD libzstd)
  endif()

  find_path(STB_INCLUDE_DIR stb_image.h PATH_SUFFIXES stb)
  if(NOT STB_INCLUDE_DIR)
    list(APPEND _missing "stb (stb_image.h)")
  endif()

  # ONNX itself. Its operator schemas register themselves from static initializers, which a linker drops from a static
  # library unless all of it is taken.
  set(ONNX_BUNDLED FALSE)
  find_package(ONNX ${MCOMPRESS_ONNX_MIN} CONFIG QUIET)
  if(NOT ONNX_FOUND AND MCOMPRESS_DEPS_PREFIX)
    find_package(ONNX ${MCOMPRESS_ONNX_MIN} CONFIG QUIET PATHS "${MCOMPRESS_DEPS_PREFIX}" NO_DEFAULT_PATH)
    set(ONNX_BUNDLED ${ONNX_FOUND})
    unset(ONNX_DIR CACHE)   # searched anew each time: the prefix moves with the pins
  endif()
  if(ONNX_FOUND)
    add_library(mcompress_onnx_whole INTERFACE IMPORTED GLOBAL)
    target_link_libraries(mcompress_onnx_whole INTERFACE "$<LINK_LIBRARY:WHOLE_ARCHIVE,ONNX::onnx>")
  else()
    list(APPEND _missing "ONNX >= ${MCOMPRESS_ONNX_MIN}")
  endif()

  find_package(OnnxRuntime QUIET)
  if(NOT OnnxRuntime_FOUND)
    list(APPEND _missing "ONNX Runtime >= 1.21")
  endif()

  if(MCOMPRESS_TESTS)
    find_package(GTest QUIET)
    if(NOT GTest_FOUND)
      list(APPEND _missing "GTest")
    endif()
  endif()
  if(MCOMPRESS_BENCH)
    find_package(benchmark QUIET)
    if(NOT benchmark_FOUND)
      list(APPEND _missing "benchmark")
    endif()
  endif()

  if(_missing)
    list(JOIN _missing ", " _missing)
    message(FATAL_ERROR
      "Missing: ${_missing}.\n"
      "Run\n"
      "    cmake/bootstrap.sh --system\n"
      "which installs the system's packages (Debian, Ubuntu) and fills a cached prefix with the rest; or name your own "
      "installations with CMAKE_PREFIX_PATH and ONNXRUNTIME_ROOT. Then configure again.")
  endif()
endmacro()
