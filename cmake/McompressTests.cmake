# What the tests are declared with.

# Tests run little code of their own, and more than a third of the time to compile them went to -O3. (Under sanitizers they
# keep their -O1: object-size checks nothing without optimisation.)
set(MCOMPRESS_TEST_OPTIONS $<$<CONFIG:Release>:-O1>)

# mcompress_test(<name> SOURCES <file>... [LABELS fast|slow...] [LINK <target>...] [TIMEOUT <seconds>])
#
# One GoogleTest binary and one ctest entry. Related files share a binary: linking the ONNX library is what takes long.
# What is not `fast` is not run under a sanitizer, and built there on demand alone.
function(mcompress_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;LABELS;LINK")
  if(NOT arg_SOURCES)
    return()
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS fast)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_compile_options(${name} PRIVATE ${MCOMPRESS_TEST_OPTIONS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE mcompress_test_main ${arg_LINK})
  if(MCOMPRESS_SANITIZE AND NOT "fast" IN_LIST arg_LABELS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  mcompress_test_properties(${name} "${arg_LABELS}" ${arg_TIMEOUT})
endfunction()

function(mcompress_test_properties name labels timeout)
  if(MCOMPRESS_SANITIZE OR MCOMPRESS_COVERAGE)
    math(EXPR timeout "${timeout} * 4")
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT ${timeout}
    ENVIRONMENT "${MCOMPRESS_TEST_ENVIRONMENT}")
endfunction()

# mcompress_cli_tests(<folder> [SLOW <name>...]): every <folder>/<name>.sh but run.sh is one test, see run.sh.
function(mcompress_cli_tests folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SLOW")
  file(GLOB scripts CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}/${folder}" "${folder}/*.sh")
  list(REMOVE_ITEM scripts run.sh)
  foreach(script IN LISTS scripts)
    get_filename_component(name "${script}" NAME_WE)
    add_test(NAME cli.${name} COMMAND bash "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/run.sh"
      $<TARGET_FILE:mcompress_cli> "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/${script}")
    if(name IN_LIST arg_SLOW)
      mcompress_test_properties(cli.${name} slow 600)
    else()
      mcompress_test_properties(cli.${name} fast 300)
    endif()
  endforeach()
endfunction()
