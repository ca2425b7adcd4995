# Installation: program, library, headers, a CMake package, and the two libraries of the bootstrap prefix where they are
# in use. Those go to a folder of our own, so that they never meet a system's copies.
include(CMakePackageConfigHelpers)

set(_private "${CMAKE_INSTALL_LIBDIR}/mcompress")
set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/mcompress")

install(TARGETS mcompress EXPORT mcompressTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS mcompress_archive EXPORT mcompressTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/mcompress DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT mcompressTargets NAMESPACE mcompress:: DESTINATION ${_package})

file(RELATIVE_PATH _to_private "/${CMAKE_INSTALL_BINDIR}" "/${_private}")
file(RELATIVE_PATH _to_lib "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
set_target_properties(mcompress_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${_to_private};$ORIGIN/${_to_lib}")
install(TARGETS mcompress_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# Completions and manual pages are printed by the program itself.
if(NOT CMAKE_CROSSCOMPILING)
  set(_shell "${PROJECT_BINARY_DIR}/shell")
  add_custom_command(OUTPUT "${_shell}/stamp"
    COMMAND ${CMAKE_COMMAND} -E rm -rf "${_shell}"
    COMMAND ${CMAKE_COMMAND} -E make_directory "${_shell}"
    COMMAND mcompress_cli completions bash -o "${_shell}/mcompress"
    COMMAND mcompress_cli completions zsh -o "${_shell}/_mcompress"
    COMMAND mcompress_cli completions fish -o "${_shell}/mcompress.fish"
    COMMAND mcompress_cli man -o "${_shell}/man1"
    COMMAND ${CMAKE_COMMAND} -E touch "${_shell}/stamp"
    DEPENDS mcompress_cli VERBATIM)
  add_custom_target(mcompress_shell ALL DEPENDS "${_shell}/stamp")
  install(FILES "${_shell}/mcompress" DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES "${_shell}/_mcompress" DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES "${_shell}/mcompress.fish" DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
  install(DIRECTORY "${_shell}/man1/" DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

if(OnnxRuntime_BUNDLED)
  get_target_property(_library OnnxRuntime::OnnxRuntime IMPORTED_LOCATION)
  get_filename_component(_name "${_library}" NAME)
  install(PROGRAMS "${_library}" DESTINATION ${_private})
  install(CODE "
    set(folder \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${_private}\")
    file(CREATE_LINK \"${_name}\" \"\${folder}/libonnxruntime.so.1\" SYMBOLIC)
    file(CREATE_LINK libonnxruntime.so.1 \"\${folder}/libonnxruntime.so\" SYMBOLIC)")
  install(DIRECTORY "${MCOMPRESS_DEPS_PREFIX}/share/doc/onnxruntime/" DESTINATION ${CMAKE_INSTALL_DOCDIR}/onnxruntime)
endif()
if(ONNX_BUNDLED)
  install(FILES "${MCOMPRESS_DEPS_PREFIX}/lib/libonnx.a" DESTINATION ${_private})
endif()

configure_package_config_file(cmake/mcompressConfig.cmake.in "${PROJECT_BINARY_DIR}/mcompressConfig.cmake"
  INSTALL_DESTINATION ${_package} PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/mcompressConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/mcompressConfig.cmake" "${PROJECT_BINARY_DIR}/mcompressConfigVersion.cmake"
  cmake/FindOnnxRuntime.cmake
  DESTINATION ${_package})
foreach(_document LICENSE README.md CHANGELOG.md docs/manual.md docs/passes.md docs/calibration-table.md docs/data.md docs/format.md docs/json.md docs/packing.md docs/benchmarks.md docs/mixed-precision.md docs/targets.md docs/third-party.md)
  install(FILES ${_document} DESTINATION ${CMAKE_INSTALL_DOCDIR})
endforeach()
install(DIRECTORY docs/examples DESTINATION ${CMAKE_INSTALL_DOCDIR})

# ---- packages: `cpack -G DEB` and `cpack -G TGZ` in the build folder -----------------------------------------------------
set(CPACK_GENERATOR "TGZ")
find_program(MCOMPRESS_SHLIBDEPS dpkg-shlibdeps)   # of dpkg-dev: without it a .deb could not name what it depends on
if(MCOMPRESS_SHLIBDEPS)
  list(APPEND CPACK_GENERATOR "DEB")
endif()
set(CPACK_PACKAGE_NAME mcompress)
set(CPACK_PACKAGE_VENDOR "The mcompress authors")
set(CPACK_PACKAGE_CONTACT "The mcompress authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
if(OnnxRuntime_BUNDLED)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${MCOMPRESS_DEPS_PREFIX}/lib")
endif()
include(CPack)
