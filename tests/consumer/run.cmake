# Installs BUILD_DIR into a fresh folder, builds CONSUMER_DIR against it with find_package, runs the result on MODEL, and
# runs the installed program.
set(work "${BUILD_DIR}/consumer-test")
file(REMOVE_RECURSE "${work}")

function(run)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE result)
  if(result)
    message(FATAL_ERROR "${ARGN}\nfailed (${result}):\n${out}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install "${BUILD_DIR}" --prefix "${work}/prefix")
# The tree moves: nothing in it may remember where it was installed.
file(RENAME "${work}/prefix" "${work}/moved")
run(${CMAKE_COMMAND} -G "${GENERATOR}" -S "${CONSUMER_DIR}" -B "${work}/build"
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${work}/moved)
run(${CMAKE_COMMAND} --build "${work}/build")
run("${work}/build/consumer" "${MODEL}")
if(NOT out MATCHES "${VERSION}")
  message(FATAL_ERROR "consumer printed '${out}', expected '${VERSION}'")
endif()
if(EXISTS "${work}/moved/bin/mcompress")
  run("${work}/moved/bin/mcompress" --version)
  if(NOT out MATCHES "${VERSION}")
    message(FATAL_ERROR "the installed program printed '${out}', expected '${VERSION}'")
  endif()
endif()
file(REMOVE_RECURSE "${work}")
