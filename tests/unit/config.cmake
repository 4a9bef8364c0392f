dirty_test(
  NAME config_test
  SOURCES config_values_test.cc config_file_test.cc config_command_line_test.cc config_settings_test.cc config_changes_test.cc
  LIBS dirty::config)
target_compile_definitions(config_test PRIVATE DIRTY_CONFIGURATION_DOC="${CMAKE_SOURCE_DIR}/docs/configuration.md")
