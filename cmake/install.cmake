# What `cmake --install` puts where: the program, and its manual page and shell completions where the tree has them.

install(TARGETS hypura RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# install_if_there(FILE DESTINATION [NAME])
function(install_if_there file destination)
  set(path ${PROJECT_SOURCE_DIR}/${file})
  if(EXISTS ${path})
    get_filename_component(name ${path} NAME)
    if(ARGC GREATER 2)
      set(name ${ARGV2})
    endif()
    install(FILES ${path} DESTINATION ${destination} RENAME ${name})
  endif()
endfunction()

# Each shell looks for completions under a name of its own.
install_if_there(docs/hypura.1 ${CMAKE_INSTALL_MANDIR}/man1)
install_if_there(completions/hypura.bash ${CMAKE_INSTALL_DATADIR}/bash-completion/completions hypura)
install_if_there(completions/hypura.zsh ${CMAKE_INSTALL_DATADIR}/zsh/site-functions _hypura)
install_if_there(completions/hypura.fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install_if_there(LICENSE ${CMAKE_INSTALL_DOCDIR})
