# Finds ONNX Runtime >= 1.21 and defines OnnxRuntime::OnnxRuntime.
#
# In this order: ONNXRUNTIME_ROOT (CMake variable or environment), the package's own CMake config (Debian, Homebrew,
# vcpkg, conda), plain headers and library on the prefix path, and the prefix of cmake/bootstrap.sh
# (MCOMPRESS_DEPS_PREFIX). OnnxRuntime_BUNDLED tells whether the library should be installed along with mcompress, that
# is, whether it came from that prefix.
set(_ort_min 1.21)
set(OnnxRuntime_BUNDLED FALSE)

function(_ort_from_paths)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "ROOTS")
  unset(_ort_include CACHE)
  unset(_ort_library CACHE)
  set(only "")
  if(arg_ROOTS)
    set(only NO_DEFAULT_PATH)
  endif()
  find_path(_ort_include onnxruntime_cxx_api.h PATHS ${arg_ROOTS} ${only} NO_CACHE
    PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session onnxruntime onnxruntime/core/session)
  find_library(_ort_library NAMES onnxruntime PATHS ${arg_ROOTS} ${only} NO_CACHE
    PATH_SUFFIXES lib lib64)
  if(NOT _ort_include OR NOT _ort_library)
    return()
  endif()
  file(STRINGS "${_ort_include}/onnxruntime_c_api.h" version REGEX "#define ORT_API_VERSION")
  string(REGEX MATCH "[0-9]+" version "${version}")
  if("1.${version}" VERSION_LESS _ort_min)
    return()
  endif()
  file(REAL_PATH "${_ort_library}" location)
  add_library(OnnxRuntime::OnnxRuntime SHARED IMPORTED GLOBAL)
  set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES
    IMPORTED_LOCATION "${location}"
    IMPORTED_SONAME libonnxruntime.so.1
    INTERFACE_INCLUDE_DIRECTORIES "${_ort_include}")
endfunction()

if(NOT TARGET OnnxRuntime::OnnxRuntime)
  set(_ort_root "${ONNXRUNTIME_ROOT}")
  if(NOT _ort_root)
    set(_ort_root "$ENV{ONNXRUNTIME_ROOT}")
  endif()
  if(_ort_root)
    _ort_from_paths(ROOTS "${_ort_root}")
  else()
    find_package(onnxruntime ${_ort_min} CONFIG QUIET)
    if(TARGET onnxruntime::onnxruntime)
      add_library(OnnxRuntime::OnnxRuntime INTERFACE IMPORTED GLOBAL)
      target_link_libraries(OnnxRuntime::OnnxRuntime INTERFACE onnxruntime::onnxruntime)
    else()
      _ort_from_paths()
    endif()
    if(NOT TARGET OnnxRuntime::OnnxRuntime AND MCOMPRESS_DEPS_PREFIX)
      _ort_from_paths(ROOTS "${MCOMPRESS_DEPS_PREFIX}")
      if(TARGET OnnxRuntime::OnnxRuntime)
        set(OnnxRuntime_BUNDLED TRUE)
      endif()
    endif()
  endif()
endif()

if(TARGET OnnxRuntime::OnnxRuntime)
  set(OnnxRuntime_FOUND TRUE)
else()
  set(OnnxRuntime_FOUND FALSE)
endif()
