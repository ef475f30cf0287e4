# Takes from TIDEMARK_SOURCES what node-gyp's objects stand for and sets
# TIDEMARK_ADDON_ARCHIVE, which holds these. What sees OpenSSL's headers stays: the
# addon is compiled with those of Node, whose OpenSSL it uses.
if(TIDEMARK_SANITIZE OR TIDEMARK_FUZZ OR CMAKE_JS_INC OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  message(FATAL_ERROR "TIDEMARK_ADDON_OBJECTS: other flags need objects of their own")
endif()

set(addon_build ${CMAKE_SOURCE_DIR}/build)
set(TIDEMARK_ADDON_ARCHIVE ${CMAKE_BINARY_DIR}/libtidemark_addon_objects.a)
set(own_sources)
set(addon_objects)
foreach(source ${TIDEMARK_SOURCES})
  file(STRINGS ${source} openssl_users REGEX "#include [<\"](openssl/|.*(tls_|cipher_))")
  if(openssl_users)
    list(APPEND own_sources ${source})
  else()
    string(REGEX REPLACE "\\.cc$" ".o" object ${source})
    list(APPEND addon_objects Release/obj.target/tidemark/${object})
  endif()
endforeach()
set(TIDEMARK_SOURCES ${own_sources})

# Tests link the archive by its path, so that only linking waits for it: their own
# sources can be compiled before the addon is.
file(GLOB_RECURSE addon_inputs CONFIGURE_DEPENDS native/*.cc native/*.h)
list(FILTER addon_inputs EXCLUDE REGEX "/native/(test|fuzz|fuse)/")
add_custom_command(
  OUTPUT ${TIDEMARK_ADDON_ARCHIVE}
  DEPENDS ${addon_inputs}
  COMMAND make -s -C ${addon_build} BUILDTYPE=Release
  COMMAND ${CMAKE_COMMAND} -E rm -f ${TIDEMARK_ADDON_ARCHIVE}
  COMMAND ${CMAKE_COMMAND} -E chdir ${addon_build} ${CMAKE_AR} qcs ${TIDEMARK_ADDON_ARCHIVE} ${addon_objects}
  COMMENT "Taking the addon's objects"
  VERBATIM)
add_custom_target(tidemark_addon_archive ALL DEPENDS ${TIDEMARK_ADDON_ARCHIVE})
