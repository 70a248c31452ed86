# What `cmake --install` puts where: the program, its manual page, shell completions and the licence.

install(TARGETS hypura RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${PROJECT_SOURCE_DIR}/docs/hypura.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Each shell looks for completions under a name of its own.
set(completions ${PROJECT_SOURCE_DIR}/completions)
install(FILES ${completions}/hypura.bash RENAME hypura DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${completions}/hypura.zsh RENAME _hypura DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${completions}/hypura.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
