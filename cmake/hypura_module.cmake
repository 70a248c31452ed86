# hypura_module(NAME SOURCES … [DEPS …]): one folder, one static library hypura_NAME.
# hypura_test(NAME SOURCES … [DEPS …]): one GoogleTest program; every TEST in it is a ctest test.

set(HYPURA_WARNINGS -Wall -Wextra -Wconversion -Wshadow -Wno-missing-field-initializers)

function(hypura_target_options target)
  target_compile_options(${target} PRIVATE ${HYPURA_WARNINGS})
  if(HYPURA_SANITIZE)
    # GCC's documentation: sanitizers may bring false positives of -Wmaybe-uninitialized.
    target_compile_options(${target} PRIVATE -fsanitize=${HYPURA_SANITIZE} -fno-sanitize-recover=all
      -fno-omit-frame-pointer -Wno-maybe-uninitialized)
    # Accesses beyond a container, and to an empty optional, abort.
    target_compile_definitions(${target} PRIVATE _GLIBCXX_ASSERTIONS)
    target_link_options(${target} PRIVATE -fsanitize=${HYPURA_SANITIZE})
  endif()
endfunction()

function(hypura_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(hypura_${name} STATIC ${arg_SOURCES})
  target_include_directories(hypura_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(hypura_${name} PUBLIC ${arg_DEPS})
  hypura_target_options(hypura_${name})
endfunction()

function(hypura_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gtest_main GTest::gmock)
  hypura_target_options(${name})
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
endfunction()
